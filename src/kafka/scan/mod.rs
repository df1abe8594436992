//! Reads topics from a start to a fixed end, for the commands that read. A plain
//! consumer assigns all partitions to itself: it joins no group, commits nothing,
//! and reads committed records only. Never decides what a record means. Blocking:
//! runs on the thread of a command.
//!
//! Ends are fixed before the scan, after all records of open transactions. So a
//! record that was moved before the scan is found in its new place. The scan waits
//! for such a transaction to end, at most [`OPEN_TRANSACTION_MAX`].
//!
//! Memory (L5): all partitions share one queue. librdkafka fetches while it holds
//! less than 64 MiB; each leader may have one more response of 8 MiB in flight.

mod error;
mod query;

pub use error::ScanError;
pub use query::{GroupOffset, Query, Start};

use super::admin::TIMEOUT;
use super::client::convert;
use super::client::log::QueryContext;
use super::client::queue::{RawMessage, SharedQueue};
use super::settings::KafkaSettings;
use crate::model::position::{NextOffset, Offset};
use crate::model::record::Header;
use crate::model::time::UnixMillis;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset as WireOffset, TopicPartitionList};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a scan waits for a transaction that hides records. ringback's own
/// transactions end within 10 s.
pub const OPEN_TRANSACTION_MAX: Duration = Duration::from_secs(15);
/// How long a scan waits for any record before it fails.
pub const STALL_MAX: Duration = Duration::from_secs(30);
/// The client's own events are served after this many records.
const SERVE_EVERY: u64 = 4_096;

/// A partition by the name of its topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub number: i32,
}

impl TopicPartition {
    /// Returns the partition of a topic.
    #[must_use]
    pub fn new(topic: &str, number: i32) -> Self {
        let topic = topic.into();
        Self { topic, number }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// The part of a partition that a scan reads: from `start` up to before `end`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRange {
    pub partition: TopicPartition,
    pub start: NextOffset,
    pub end: NextOffset,
}

/// How far one partition is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionScan {
    pub range: PartitionRange,
    /// Every record before it was read, or is counted in `deleted`.
    pub next: NextOffset,
    /// Offsets that retention deleted before they were read.
    pub deleted: u64,
    /// Whether reading ended early: an open transaction still hides the rest.
    pub is_cut: bool,
    /// Whether an open transaction hides the rest.
    is_held: bool,
    is_done: bool,
}

/// How far a scan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScanProgress {
    /// Records that were read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Offsets that were passed, and all offsets of the ranges.
    pub offsets: u64,
    pub offsets_total: u64,
}

/// What a scan found next.
pub enum Step<'a> {
    Record(ScannedRecord<'a>),
    /// Nothing came within the wait. The scan goes on.
    Waiting,
    /// Every range is read.
    Done,
}

/// A record that was read. Its bytes stay in librdkafka's buffer.
pub struct ScannedRecord<'a> {
    message: RawMessage,
    scan: &'a PartitionScan,
    /// The index of its range.
    pub index: usize,
}

impl ScannedRecord<'_> {
    /// Returns the partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.scan.range.partition
    }

    /// Returns the offset.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.message.offset())
    }

    /// Returns the timestamp of the broker or of the producer.
    #[must_use]
    pub fn timestamp(&self) -> UnixMillis {
        UnixMillis(self.message.timestamp_ms())
    }

    /// Returns the key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    /// Returns the value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.message.value()
    }

    /// Returns a copy of the headers.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        convert::headers_of(&self.message)
    }
}

/// A consumer of the partitions that are not read yet. Its records are in one queue.
///
/// Starting again at another offset takes a new consumer: librdkafka takes a
/// partition that it stops out of the queue.
struct Client {
    consumer: Arc<BaseConsumer<QueryContext>>,
    queue: SharedQueue<QueryContext>,
    taken_in: Vec<TopicPartition>,
}

impl Client {
    fn start(settings: &KafkaSettings, partitions: &[PartitionScan]) -> Result<Self, ScanError> {
        let config = settings.scan_config();
        let consumer = BaseConsumer::from_config_and_context(&config, QueryContext);
        let consumer = Arc::new(consumer.map_err(ScanError::Client)?);
        let mut client = Self {
            queue: SharedQueue::new(Arc::clone(&consumer)),
            consumer,
            taken_in: Vec::new(),
        };
        let mut list = TopicPartitionList::new();
        for scan in partitions.iter().filter(|scan| !scan.is_done) {
            let partition = &scan.range.partition;
            client.queue.take_in(&partition.topic, partition.number);
            client.taken_in.push(partition.clone());
            let offset = WireOffset::Offset(scan.next.0);
            list.add_partition_offset(&partition.topic, partition.number, offset)
                .map_err(assign_failed)?;
        }
        client.consumer.assign(&list).map_err(assign_failed)?;
        Ok(client)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The queue must hold no record when the consumer ends.
        for partition in &self.taken_in {
            self.queue.release(&partition.topic, partition.number);
        }
        while self.queue.next(Duration::ZERO).is_some() {}
    }
}

/// A scan of some partitions.
pub struct Scan {
    settings: KafkaSettings,
    client: Client,
    partitions: Vec<PartitionScan>,
    /// By the address of the topic and the number of the partition.
    indexes: HashMap<(usize, i32), usize>,
    open: usize,
    progress: ScanProgress,
    /// How long no message came, counted in waits.
    waited: Duration,
    last_error: Option<String>,
}

impl Scan {
    /// Starts to read these ranges.
    ///
    /// # Errors
    /// librdkafka refuses the configuration or an assignment.
    pub fn start(settings: &KafkaSettings, ranges: Vec<PartitionRange>) -> Result<Self, ScanError> {
        let mut progress = ScanProgress::default();
        let partitions: Vec<PartitionScan> = ranges
            .into_iter()
            .map(|range| {
                progress.offsets_total += distance(range.start, range.end);
                PartitionScan {
                    next: range.start,
                    deleted: 0,
                    is_cut: false,
                    is_held: false,
                    is_done: range.start >= range.end,
                    range,
                }
            })
            .collect();
        Ok(Self {
            settings: settings.clone(),
            client: Client::start(settings, &partitions)?,
            open: partitions.iter().filter(|scan| !scan.is_done).count(),
            partitions,
            indexes: HashMap::new(),
            progress,
            waited: Duration::ZERO,
            last_error: None,
        })
    }

    /// Returns how far each partition is read, in the order of the ranges.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionScan] {
        &self.partitions
    }

    /// Returns how far the scan is.
    #[must_use]
    pub fn progress(&self) -> ScanProgress {
        self.progress
    }

    /// Returns the next record, or what there is instead after `wait`, which must
    /// not be zero.
    ///
    /// # Errors
    /// A partition cannot be read any more, or no record came for [`STALL_MAX`].
    pub fn next(&mut self, wait: Duration) -> Result<Step<'_>, ScanError> {
        while self.open > 0 {
            if self.progress.records.is_multiple_of(SERVE_EVERY) {
                self.serve();
            }
            let Some(message) = self.client.queue.next(wait) else {
                self.serve();
                self.check_stall(wait)?;
                return Ok(if self.open == 0 {
                    Step::Done
                } else {
                    Step::Waiting
                });
            };
            self.waited = Duration::ZERO;
            let Some(index) = self.index(&message) else {
                continue;
            };
            if let Some(code) = message.error() {
                let at = message.offset();
                // The consumer may end, which waits for its messages.
                drop(message);
                self.handle_error(index, code, at)?;
                continue;
            }
            let next = Offset(message.offset()).next();
            let scan = &self.partitions[index];
            if scan.is_done || next <= scan.next {
                continue;
            }
            if next > scan.range.end {
                self.advance(index, scan.range.end)?;
                continue;
            }
            let length = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| bytes.len() as u64);
            self.progress.records += 1;
            self.progress.bytes += length(message.key()) + length(message.value());
            self.advance(index, next)?;
            return Ok(Step::Record(ScannedRecord {
                message,
                scan: &self.partitions[index],
                index,
            }));
        }
        Ok(Step::Done)
    }

    /// Returns the index of the message's range.
    fn index(&mut self, message: &RawMessage) -> Option<usize> {
        let address = (message.topic_address(), message.partition());
        if let Some(index) = self.indexes.get(&address) {
            return Some(*index);
        }
        let partition = TopicPartition::new(&message.topic(), message.partition());
        let mut all = self.partitions.iter();
        let index = all.position(|scan| scan.range.partition == partition)?;
        self.indexes.insert(address, index);
        Some(index)
    }

    /// Notes that everything before `next` is read, and ends the partition at its end.
    fn advance(&mut self, index: usize, next: NextOffset) -> Result<(), ScanError> {
        let scan = &mut self.partitions[index];
        self.progress.offsets += distance(scan.next, next);
        scan.next = next;
        scan.is_held = false;
        if next >= scan.range.end {
            self.end(index)?;
        }
        Ok(())
    }

    /// Ends a partition: what librdkafka has fetched beyond its end is dropped.
    fn end(&mut self, index: usize) -> Result<(), ScanError> {
        let scan = &mut self.partitions[index];
        scan.is_done = true;
        self.open -= 1;
        let mut list = TopicPartitionList::new();
        let partition = &scan.range.partition;
        list.add_partition(&partition.topic, partition.number);
        self.client.consumer.pause(&list).map_err(assign_failed)
    }

    fn handle_error(&mut self, index: usize, code: Code, at: i64) -> Result<(), ScanError> {
        let scan = &mut self.partitions[index];
        if scan.is_done {
            return Ok(());
        }
        match code {
            Code::PartitionEOF => {
                if at >= scan.range.end.0 {
                    let end = scan.range.end;
                    return self.advance(index, end);
                }
                scan.is_held = true;
                Ok(())
            }
            code if convert::is_out_of_range(code) => self.skip_deleted(),
            code if error::is_missing(code) || code == Code::TopicAuthorizationFailed => {
                Err(ScanError::Topic {
                    name: scan.range.partition.topic.to_string(),
                    code,
                })
            }
            // librdkafka goes on by itself. A scan that gets no record stalls.
            code => {
                self.last_error = Some(code.to_string());
                Ok(())
            }
        }
    }

    /// Goes on where the logs start now, and counts what is gone.
    fn skip_deleted(&mut self) -> Result<(), ScanError> {
        for index in 0..self.partitions.len() {
            let scan = &mut self.partitions[index];
            if scan.is_done {
                continue;
            }
            let TopicPartition { topic, number } = &scan.range.partition;
            let bounds = self
                .client
                .consumer
                .fetch_watermarks(topic, *number, TIMEOUT);
            let (low, high) = bounds.map_err(|source| ScanError::Request {
                tried: "read where a log starts within 10 s",
                source,
            })?;
            if high < scan.next.0 {
                return Err(ScanError::Recreated {
                    partition: scan.range.partition.clone(),
                    at: scan.next,
                });
            }
            let start = NextOffset(low).clamp(scan.next, scan.range.end);
            scan.deleted += distance(scan.next, start);
            self.advance(index, start)?;
        }
        self.indexes.clear();
        self.client = Client::start(&self.settings, &self.partitions)?;
        Ok(())
    }

    /// Serves the client's own events. It notes errors: they say why a scan stalls.
    fn serve(&mut self) {
        while let Some(event) = self.client.consumer.poll(Duration::ZERO) {
            if let Err(error) = event {
                self.last_error = Some(error.to_string());
            }
        }
    }

    /// Gives up what an open transaction hides for too long.
    ///
    /// Errors: nothing came for too long.
    fn check_stall(&mut self, waited: Duration) -> Result<(), ScanError> {
        self.waited += waited;
        if self.waited < OPEN_TRANSACTION_MAX {
            return Ok(());
        }
        for index in 0..self.partitions.len() {
            let scan = &mut self.partitions[index];
            if !scan.is_done && scan.is_held {
                scan.is_cut = true;
                self.end(index)?;
            }
        }
        let unread = self.partitions.iter().find(|scan| !scan.is_done);
        match unread {
            Some(scan) if self.waited >= STALL_MAX => Err(ScanError::Stalled {
                partition: scan.range.partition.clone(),
                at: scan.next,
                end: scan.range.end,
                why: self.last_error.take(),
            }),
            _ => Ok(()),
        }
    }
}

/// Returns the number of offsets from one place to a later one.
fn distance(from: NextOffset, to: NextOffset) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0)
}

fn assign_failed(source: KafkaError) -> ScanError {
    ScanError::Request {
        tried: "choose the partitions to read",
        source,
    }
}
