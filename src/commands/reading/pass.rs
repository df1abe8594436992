//! One pass over ranges of topics, with progress.

use super::progress::ProgressShow;
use crate::kafka::scan::{PartitionRange, PartitionScan, Scan, ScanError, ScannedRecord, Step};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::Topic;
use crate::search::{FoundRecord, RecordPlace, Selection};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// The wait for the next record before the progress is shown again.
const WAIT: Duration = Duration::from_millis(100);
/// The progress is shown again after this many records.
const SHOW_EVERY: u64 = 10_000;

/// Reads ranges to their ends, or until `each` breaks. Says on standard error how
/// far it is, and which records could not be read.
///
/// # Errors
/// The scan cannot go on.
pub fn pass(
    settings: &KafkaSettings,
    ranges: Vec<PartitionRange>,
    mut each: impl FnMut(&ProgressShow, &ScannedRecord<'_>) -> ControlFlow<()>,
) -> Result<(), ScanError> {
    let mut shown = ProgressShow::start();
    let mut scan = Scan::start(settings, ranges)?;
    loop {
        let is_over = match scan.next(WAIT)? {
            Step::Record(record) => each(&shown, &record).is_break(),
            Step::Waiting => {
                shown.show(scan.progress(), "");
                false
            }
            Step::Done => true,
        };
        let progress = scan.progress();
        if is_over {
            shown.finish(progress, "");
            unread(scan.partitions());
            return Ok(());
        }
        if progress.records.is_multiple_of(SHOW_EVERY) {
            shown.show(progress, "");
        }
    }
}

/// Says on standard error which records could not be read.
pub fn unread(partitions: &[PartitionScan]) {
    let say =
        |text: String| crate::commands::say(&mut io::stderr(), &format!("ringback: {text}\n"));
    let deleted: u64 = partitions.iter().map(|scan| scan.deleted).sum();
    if deleted > 0 {
        say(format!(
            "retention deleted {deleted} offsets before they were read"
        ));
    }
    for scan in partitions.iter().filter(|scan| scan.is_cut) {
        let (partition, at) = (&scan.range.partition, scan.next);
        say(format!(
            "an open transaction hides '{partition}' from offset {at} on: try again later"
        ));
    }
}

/// Returns a scanned record of a topic if it is selected.
#[must_use]
pub fn select(
    topic: Topic,
    selection: &Selection,
    record: &ScannedRecord<'_>,
) -> Option<FoundRecord> {
    selection.select(
        || place(record),
        topic,
        record.timestamp(),
        record.value(),
        || record.headers(),
    )
}

/// Returns what can be read of a scanned record of a topic.
#[must_use]
pub fn found(topic: Topic, record: &ScannedRecord<'_>) -> FoundRecord {
    let (value, headers) = (record.value(), record.headers());
    FoundRecord::read(place(record), topic, record.timestamp(), value, &headers)
}

/// Returns where a scanned record lies.
#[must_use]
pub fn place(record: &ScannedRecord<'_>) -> RecordPlace {
    let partition = record.partition();
    RecordPlace {
        topic: Arc::clone(&partition.topic),
        partition: partition.number,
        offset: record.offset(),
    }
}
