//! `ringback dead-letter`: lists, counts, shows and exports dead letters. Reads
//! only; [`super::copying`] sends them again. Values, which hold personal data, are
//! printed only with `--body`. Runs on the main thread.

mod export;
mod show;
mod summary;

use super::reading::output::{Columns, Output, or_missing};
use super::reading::record_json::RecordJson;
use super::reading::{self, filters, pass};
use super::{Exit, copying, fault, refuse};
use crate::cli::DeadLetter;
use crate::cli::output::OutputFormat;
use crate::cli::reading::SelectArgs;
use crate::clock::Clock;
use crate::config::mistake::both;
use crate::kafka::scan::{Query, ScanError, ScannedRecord, Start};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::Topic;
use crate::search::conclusion::last_error;
use crate::search::{Filter, FoundRecord, Selection};
use std::ops::ControlFlow;

/// Runs one of the commands.
#[must_use]
pub fn run(command: &DeadLetter) -> Exit {
    match command {
        DeadLetter::List(args) => with(args, args.output.output, list),
        DeadLetter::Summary(args) => with(args, args.output.output, summary::run),
        DeadLetter::Show(args) => show::run(args),
        DeadLetter::Export(args) => export::run(args),
        DeadLetter::Redrive(args) => copying::redrive(args),
    }
}

/// Reads the flags of a command that selects dead letters, and runs it.
fn with(
    args: &SelectArgs,
    format: OutputFormat,
    command: impl FnOnce(&KafkaSettings, Filter, Output) -> Result<Exit, ScanError>,
) -> Exit {
    let filter = filters::read(&args.filter, Clock::start().now());
    match both(reading::settings(&args.settings), filter) {
        Ok((settings, filter)) => {
            command(&settings, filter, Output::new(format)).unwrap_or_else(|error| fault(&error))
        }
        Err(mistakes) => refuse(&mistakes),
    }
}

/// Reads the dead letters, and calls `each` with those that are selected. Returns
/// whether there was one.
///
/// # Errors
/// The topic does not exist or cannot be read.
fn each_selected(
    settings: &KafkaSettings,
    filter: Filter,
    mut each: impl FnMut(FoundRecord, &ScannedRecord<'_>) -> ControlFlow<()>,
) -> Result<Exit, ScanError> {
    let start = filter.since.map_or(Start::Beginning, Start::Time);
    let topic = settings.topics.name(Topic::DeadLetter);
    let ranges = Query::connect(settings)?.ranges(&[topic], start)?;
    let selection = Selection::new(filter);
    let mut exit = Exit::NothingMatched;
    pass::pass(settings, ranges, |shown, record| {
        match pass::select(Topic::DeadLetter, &selection, record) {
            None => ControlFlow::Continue(()),
            Some(found) => {
                exit = Exit::Done;
                shown.suspend(|| each(found, record))
            }
        }
    })?;
    Ok(exit)
}

const LETTERS: Columns = Columns(&[
    ("POSITION", 30),
    ("DEAD SINCE", 24),
    ("REASON", 18),
    ("ATTEMPTS", 8),
    ("LAST ERROR", 14),
    ("TENANT", 26),
    ("ID", 0),
]);

fn list(settings: &KafkaSettings, filter: Filter, mut output: Output) -> Result<Exit, ScanError> {
    let is_table = output.format() == OutputFormat::Table;
    let mut is_first = true;
    each_selected(settings, filter, |found, _| {
        if is_table {
            if std::mem::take(&mut is_first) {
                output.line(LETTERS.heads());
            }
            output.line(LETTERS.row(cells(&found)));
        } else {
            output.json(&RecordJson::of(&found));
        }
        output.flow()
    })
}

fn cells(found: &FoundRecord) -> [String; 7] {
    [
        found.place.to_string(),
        found.timestamp.rfc3339(),
        or_missing(found.marks.reason.map(|reason| reason.name())),
        or_missing(found.marks.attempts_made),
        or_missing(last_error(found)),
        or_missing(found.tenant()),
        or_missing(found.id()),
    ]
}
