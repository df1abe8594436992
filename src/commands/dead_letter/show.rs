//! `ringback dead-letter show`: one dead letter with its history, and with `--body`
//! its own headers and its value.

use crate::cli::output::OutputFormat;
use crate::cli::reading::ShowArgs;
use crate::commands::reading::output::Output;
use crate::commands::reading::record_json::RecordJson;
use crate::commands::reading::{self, pass};
use crate::commands::{Exit, fault, refuse};
use crate::config::mistake::{Mistake, Mistakes, both};
use crate::kafka::scan::{PartitionRange, Query, ScanError, ScannedRecord, TopicPartition};
use crate::kafka::settings::KafkaSettings;
use crate::model::headers::own_headers;
use crate::model::position::{NextOffset, Topic};
use crate::search::RecordPlace;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::ops::ControlFlow;

/// Shows the dead letter.
pub fn run(args: &ShowArgs) -> Exit {
    let settings = reading::settings(&args.settings);
    let read = both(settings, place(args));
    let (settings, place) = match read {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    let topic = settings.topics.name(Topic::DeadLetter);
    if *place.topic != *topic {
        let text = format!("'{place}' is not a dead letter: their topic is '{topic}'");
        return refuse(&[Mistake::new("POSITION", text)]);
    }
    let shown = show(
        &settings,
        &place,
        Output::new(args.output.output),
        args.body,
    );
    shown.unwrap_or_else(|error| fault(&error))
}

fn place(args: &ShowArgs) -> Result<RecordPlace, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let place = mistakes.take("POSITION", args.position.parse());
    mistakes.unless_any(|| place)
}

fn show(
    settings: &KafkaSettings,
    place: &RecordPlace,
    mut output: Output,
    body: bool,
) -> Result<Exit, ScanError> {
    let partition = TopicPartition::new(&place.topic, place.partition);
    let query = Query::connect(settings)?;
    // A missing topic has a better error than a missing partition.
    let exists = query.partitions(&place.topic)?.contains(&partition);
    let wanted = NextOffset::at(place.offset);
    let range = PartitionRange {
        start: wanted,
        end: place.offset.next(),
        partition: partition.clone(),
    };
    let bounds = match exists {
        true => (
            query.log_starts(std::slice::from_ref(&partition))?,
            query.log_ends(std::slice::from_ref(&partition))?,
        ),
        false => Default::default(),
    };
    let is_inside = bounds
        .0
        .get(&partition)
        .is_some_and(|start| *start <= wanted)
        && bounds.1.get(&partition).is_some_and(|end| *end > wanted);
    if !is_inside {
        return Ok(Exit::NothingMatched);
    }
    let mut exit = Exit::NothingMatched;
    pass::pass(settings, vec![range], |shown, record| {
        exit = Exit::Done;
        shown.suspend(|| print(&mut output, record, body));
        ControlFlow::Break(())
    })?;
    Ok(exit)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownJson {
    #[serde(flatten)]
    record: RecordJson,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    personal: Option<Personal>,
}

/// What may be personal data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Personal {
    key: Option<String>,
    /// The record's own headers.
    headers: Vec<(String, Option<String>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Where the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Personal {
    fn of(record: &ScannedRecord<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = record.headers();
        let own = own_headers(&headers).map(|header| {
            let value = header.value.as_ref().map(|value| text(value));
            (header.name.clone(), value)
        });
        let value = record.value();
        let body = value.and_then(|value| std::str::from_utf8(value).ok());
        let encoded = value.filter(|_| body.is_none());
        Self {
            key: record.key().map(text),
            headers: own.collect(),
            body: body.map(str::to_owned),
            body_base64: encoded.map(|value| STANDARD.encode(value)),
        }
    }
}

fn print(output: &mut Output, record: &ScannedRecord<'_>, body: bool) {
    let found = RecordJson::of(&pass::found(Topic::DeadLetter, record));
    let personal = body.then(|| Personal::of(record));
    if output.format() == OutputFormat::Json {
        output.json(&ShownJson {
            record: found,
            personal,
        });
        return;
    }
    for (name, value) in found.lines() {
        output.safe_line(&format!("{name:<17} {value}"));
    }
    let Some(personal) = personal else {
        return;
    };
    let key = personal.key.unwrap_or_default();
    output.safe_line(&format!("{:<17} {key}", "key"));
    for (name, value) in personal.headers {
        output.safe_line(&format!("header {name}: {}", value.unwrap_or_default()));
    }
    output.line("");
    match (personal.body, personal.body_base64) {
        // In JSON, a raw tab means the same as a space.
        (Some(body), _) => body
            .lines()
            .for_each(|line| output.safe_line(&line.replace('\t', " "))),
        (None, Some(encoded)) => output.line(format!("base64: {encoded}")),
        (None, None) => output.line("no value"),
    }
}
