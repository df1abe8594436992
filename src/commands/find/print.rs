//! Prints what `find` has found, for people or as one JSON object per id.

use crate::cli::output::OutputFormat;
use crate::commands::reading::output::{Columns, Output, or_missing};
use crate::commands::reading::record_json::RecordJson;
use crate::exit::Exit;
use crate::model::position::{Topic, TopicNames};
use crate::model::time::UnixMillis;
use crate::search::attempts::LoggedAttempt;
use crate::search::conclusion::{Conclusion, Fate, FoundPlace, last_error};
use serde::Serialize;

/// What was found for one id.
pub struct Answer {
    pub id: String,
    pub places: Vec<FoundPlace>,
    pub attempts: Vec<LoggedAttempt>,
    pub conclusions: Vec<Conclusion>,
}

#[derive(Serialize)]
struct AnswerJson<'a> {
    id: &'a str,
    conclusions: Vec<ConclusionJson<'a>>,
    places: Vec<PlaceJson>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    attempts: &'a [LoggedAttempt],
}

#[derive(Serialize)]
struct ConclusionJson<'a> {
    fate: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlaceJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maps_since: Option<String>,
    #[serde(flatten)]
    record: RecordJson,
}

const PLACES: Columns = Columns(&[
    ("  POSITION", 32),
    ("WRITTEN", 24),
    ("STATE", 11),
    ("ATTEMPTS", 8),
    ("LAST ERROR", 14),
    ("DETAIL", 0),
]);

/// Prints answers, and remembers whether any record was found.
pub struct Printed {
    output: Output,
    since: UnixMillis,
    source: String,
    found: bool,
}

impl Printed {
    /// Returns a printer to standard output.
    pub fn new(format: OutputFormat, since: UnixMillis, names: &TopicNames) -> Self {
        Self {
            output: Output::new(format),
            since,
            source: names.name(Topic::Source),
            found: false,
        }
    }

    /// Prints what was found for an id.
    pub fn answer(&mut self, answer: &Answer) {
        self.found |= !answer.places.is_empty();
        let not_found = [self.not_found()];
        let conclusions = match answer.places.is_empty() {
            true => &not_found[..],
            false => &answer.conclusions,
        };
        match self.output.format() {
            OutputFormat::Table => self.table(answer, conclusions),
            OutputFormat::Json => self.json(answer, conclusions),
        }
    }

    /// Returns the exit code of the command.
    pub fn finish(mut self) -> Exit {
        self.output.flush();
        match self.found {
            true => Exit::Done,
            false => Exit::NothingMatched,
        }
    }

    fn not_found(&self) -> Conclusion {
        Conclusion {
            fate: Fate::NotFound,
            text: format!(
                "not found: '{}' and its delay and dead-letter topics have no such record since {}",
                self.source,
                self.since.rfc3339()
            ),
        }
    }

    fn table(&mut self, answer: &Answer, conclusions: &[Conclusion]) {
        let mut tenants = answer.places.iter().filter_map(|p| p.record.tenant());
        let tenant = or_missing(tenants.next_back());
        self.output.line(format!("{}  tenant {tenant}", answer.id));
        if !answer.places.is_empty() {
            self.output.line(PLACES.heads());
        }
        for place in &answer.places {
            self.output.line(PLACES.row(cells(place)));
        }
        for attempt in &answer.attempts {
            self.output.safe_line(&attempt_line(attempt));
        }
        for conclusion in conclusions {
            self.output.safe_line(&format!("  => {}", conclusion.text));
        }
        self.output.line("");
    }

    fn json(&mut self, answer: &Answer, conclusions: &[Conclusion]) {
        let conclusions = conclusions.iter().map(|conclusion| ConclusionJson {
            fate: conclusion.fate.name(),
            text: &conclusion.text,
        });
        let places = answer.places.iter().map(|place| PlaceJson {
            state: place.state.map(|state| state.name()),
            maps_since: place.maps_since.map(UnixMillis::rfc3339),
            record: RecordJson::of(&place.record),
        });
        self.output.json(&AnswerJson {
            id: &answer.id,
            conclusions: conclusions.collect(),
            places: places.collect(),
            attempts: &answer.attempts,
        });
    }
}

fn cells(place: &FoundPlace) -> [String; 6] {
    let record = &place.record;
    let attempts = match record.topic {
        Topic::Source => "0".to_owned(),
        Topic::Delay(_) | Topic::DeadLetter => or_missing(record.marks.attempts_made),
    };
    [
        format!("  {}", record.place),
        record.timestamp.rfc3339(),
        or_missing(place.state.map(|state| state.name())),
        attempts,
        or_missing(last_error(record)),
        detail(place),
    ]
}

fn detail(place: &FoundPlace) -> String {
    let marks = &place.record.marks;
    let mut parts = Vec::new();
    if let Some(due) = place.record.due() {
        parts.push(format!("due {}", due.rfc3339()));
    }
    if let Some(reason) = marks.reason {
        parts.push(reason.name().to_owned());
    }
    if place.record.topic == Topic::DeadLetter {
        let at = |at: Option<UnixMillis>| or_missing(at.map(UnixMillis::rfc3339));
        parts.push(format!(
            "first attempt {}, last {}",
            at(marks.first_at),
            at(marks.last_at)
        ));
    }
    if let Some(job) = &marks.job {
        let from = or_missing(marks.replayed_from.as_ref());
        parts.push(format!("job {job}, from {from}"));
    }
    parts.join(", ")
}

fn attempt_line(attempt: &LoggedAttempt) -> String {
    format!(
        "  attempt {} at {}: {} {}, {} ms, by {}",
        or_missing(attempt.attempt),
        or_missing(attempt.started_at.as_ref()),
        or_missing(attempt.outcome.as_ref()),
        or_missing(attempt.status),
        or_missing(attempt.duration_ms),
        or_missing(attempt.instance.as_ref())
    )
}
