//! Collects a batch: reads records in the order of the job's turns. It ends when the
//! batch is full, or when its time is over. Writes nothing. Runs on the thread of a
//! command.

use super::select::{Selected, Selector};
use super::state::JobState;
use crate::clock;
use crate::kafka::job::{JobCallError, JobReader, NextRecord};
use crate::model::position::Partition;
use crate::model::record::Record;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The most copies of a batch. A transaction of so many takes some 20 ms.
pub const COPIES_MAX: u64 = 500;
/// The most bytes of a batch's copies, far below what Kafka takes in 10 s, the limit
/// of a transaction.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// A batch ends after this time, so that the job's position is never older.
const TIME_MAX: Duration = Duration::from_secs(2);
/// How long a batch waits for a record before the job starts reading again.
const STALL_MAX: Duration = Duration::from_secs(30);

/// What was read from the topic, selected or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadSum {
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Records to copy, and the state after their copies are written.
pub struct JobBatch {
    pub state: JobState,
    pub records: Vec<Record>,
    /// Partitions whose progress changed.
    pub changed: BTreeSet<Partition>,
    /// Copies by tenant.
    pub tenants: BTreeMap<String, u64>,
    pub read: ReadSum,
    /// A partition whose next offset retention has deleted. The copies before it
    /// count.
    pub deleted: Option<Partition>,
}

/// Reading cannot continue.
#[derive(Debug)]
pub enum CollectError {
    Call(JobCallError),
    /// No record came for so long.
    Stalled(Partition),
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Stalled(partition) => {
                let seconds = STALL_MAX.as_secs();
                write!(
                    f,
                    "partition {} gave no record for {seconds} s",
                    partition.number
                )
            }
        }
    }
}

/// The parts of a job that collect its batches.
pub struct Collector<'a> {
    pub reader: &'a JobReader,
    pub selector: &'a Selector,
}

impl Collector<'_> {
    /// Returns the batch that follows this state, with at most `max` copies.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub fn collect(&self, state: &JobState, max: u64) -> Result<JobBatch, CollectError> {
        let started = clock::elapsed();
        let mut open = OpenBatch {
            batch: JobBatch {
                state: state.clone(),
                records: Vec::new(),
                changed: BTreeSet::new(),
                tenants: BTreeMap::new(),
                read: ReadSum::default(),
                deleted: None,
            },
            left: max.min(state.remaining()).min(COPIES_MAX),
            bytes: 0,
        };
        let mut last_record = started;
        while let Some((partition, mut turn)) = open.batch.state.turn() {
            while turn > 0 {
                let now = clock::elapsed();
                let is_over = now.saturating_sub(started) >= TIME_MAX;
                if open.is_full() || (is_over && !open.batch.changed.is_empty()) {
                    return Ok(open.batch);
                }
                let next = self.reader.next(partition).map_err(CollectError::Call)?;
                if matches!(next, NextRecord::Nothing) {
                    if now.saturating_sub(last_record) >= STALL_MAX {
                        return Err(CollectError::Stalled(partition));
                    }
                    continue;
                }
                last_record = now;
                match self.take(&mut open, partition, next) {
                    Taken::Selected => turn -= 1,
                    Taken::Passed => {}
                    Taken::Ended => break,
                    Taken::Deleted => return Ok(open.batch),
                }
            }
        }
        Ok(open.batch)
    }

    fn take(&self, open: &mut OpenBatch, partition: Partition, next: NextRecord) -> Taken {
        let batch = &mut open.batch;
        let progress = batch.state.partitions.get_mut(&partition);
        let progress = progress.expect("a turn is of a partition of the state");
        let record = match next {
            NextRecord::Record(record) => record,
            NextRecord::End(end) if end < progress.end => return Taken::Passed,
            NextRecord::End(_) => {
                progress.next = progress.end;
                batch.changed.insert(partition);
                return Taken::Ended;
            }
            NextRecord::OutOfRange => {
                batch.deleted = Some(partition);
                return Taken::Deleted;
            }
            NextRecord::Nothing => return Taken::Passed,
        };
        batch.changed.insert(partition);
        if !progress.end.is_past(record.position.offset) {
            progress.next = progress.end;
            return Taken::Ended;
        }
        batch.read.records += 1;
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let bytes = length(&record.key) + length(&record.value);
        batch.read.bytes += u64::try_from(bytes).unwrap_or(0);
        progress.next = record.position.offset.next();
        let is_last = progress.next >= progress.end;
        let selected = self.selector.select(&record);
        let taken = match selected {
            Selected::No => Taken::Passed,
            Selected::Refused(reason) => {
                progress.counts.selected += 1;
                let count = progress.counts.refused.entry(reason.name().to_owned());
                *count.or_default() += 1;
                Taken::Selected
            }
            Selected::Yes(tenant) => {
                progress.counts.selected += 1;
                progress.counts.sent += 1;
                open.left -= 1;
                open.bytes += record.size();
                *batch.tenants.entry(tenant.to_string()).or_default() += 1;
                batch.records.push(record);
                Taken::Selected
            }
        };
        match is_last {
            true => Taken::Ended,
            false => taken,
        }
    }
}

struct OpenBatch {
    batch: JobBatch,
    /// Copies that still fit.
    left: u64,
    bytes: usize,
}

impl OpenBatch {
    fn is_full(&self) -> bool {
        self.left == 0 || self.bytes >= BYTES_MAX
    }
}

enum Taken {
    Selected,
    Passed,
    /// The partition has no further record of the job.
    Ended,
    Deleted,
}
