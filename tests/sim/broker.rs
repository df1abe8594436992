//! The fake broker: logs, committed offsets, transactions. It keeps what a
//! crash leaves, and nothing else.

use crate::replica::Request;
use ringback::model::position::{NextOffset, Offset, Partition, Position, Topic, TopicId};
use ringback::model::record::{Header, MovedRecord, Record};
use ringback::model::time::UnixMillis;
use ringback::model::write::{LogBounds, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is kept of a dead letter that is too large.
const CUT_BYTES: usize = 64 << 10;

/// One offset of a log.
enum Entry {
    Record(Record),
    /// Written by a transaction that is not ended.
    Pending(Record),
    /// A marker, or what an aborted transaction wrote.
    Gap,
}

/// One partition's log.
struct Log {
    start: i64,
    entries: Vec<Entry>,
    /// All before this index is not pending.
    stable: usize,
}

impl Log {
    fn next_offset(&self) -> i64 {
        self.start + self.entries.len() as i64
    }

    fn settle(&mut self) {
        while self
            .entries
            .get(self.stable)
            .is_some_and(|e| !matches!(e, Entry::Pending(_)))
        {
            self.stable += 1;
        }
    }
}

/// A transaction that is not ended.
pub struct Transaction {
    records: Vec<(MovedRecord, Position, UnixMillis)>,
    request: Arc<Request>,
    /// How it ends if its producer is not there to end it: committed where the
    /// coordinator had been asked to.
    pub fate: Ending,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Commit,
    Abort,
}

/// What a committed transaction wrote.
pub struct Written {
    pub copies: Vec<(MovedRecord, Position, UnixMillis)>,
    pub request: Arc<Request>,
    /// Where the log became readable further.
    pub touched: Vec<Partition>,
}

/// Names a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TransactionId(u64);

/// Topics, committed offsets and transactions.
pub struct Broker {
    logs: BTreeMap<Partition, Log>,
    committed: BTreeMap<Partition, (NextOffset, String)>,
    open: BTreeMap<TransactionId, Transaction>,
    transactions: u64,
    pub topic_ids: bool,
    /// The largest record of a delay topic, in the terms of [`Record::size`].
    pub delayed_bytes_max: usize,
}

impl Broker {
    /// Empty logs that start at offsets of their own.
    pub fn new(partitions: impl Iterator<Item = (Partition, i64)>) -> Self {
        let log = |start| Log {
            start,
            entries: Vec::new(),
            stable: 0,
        };
        Self {
            logs: partitions.map(|(p, start)| (p, log(start))).collect(),
            committed: BTreeMap::new(),
            open: BTreeMap::new(),
            transactions: 0,
            topic_ids: true,
            delayed_bytes_max: usize::MAX,
        }
    }

    /// All partitions that are consumed.
    pub fn consumed(&self) -> Vec<Partition> {
        let all = self.logs.keys().copied();
        all.filter(|p| p.topic != Topic::DeadLetter).collect()
    }

    /// The topic's identity, where this broker tells it.
    pub fn topic_id(&self, topic: Topic) -> Option<TopicId> {
        self.topic_ids.then(|| TopicId(format!("{topic:?}")))
    }

    /// Appends a record of the platform's.
    pub fn publish(
        &mut self,
        key: &[u8],
        value: Option<bytes::Bytes>,
        headers: Vec<Header>,
        at: UnixMillis,
    ) -> Record {
        let partition = self.partition_of(Topic::Source, Some(key));
        let log = self.log(partition);
        let record = Record {
            position: Position {
                partition,
                offset: Offset(log.next_offset()),
            },
            timestamp: at,
            key: Some(key.to_vec().into()),
            value,
            headers,
        };
        log.entries.push(Entry::Record(record.clone()));
        log.settle();
        record
    }

    /// Whether a move holds a record that its topic does not take.
    pub fn is_too_large(&self, records: &[MovedRecord]) -> bool {
        records.iter().any(|moved| {
            let bytes = moved.value.as_ref().map_or(0, bytes::Bytes::len);
            moved.to.delay().is_some() && bytes > self.delayed_bytes_max
        })
    }

    /// Begins a transaction and writes its records and offsets, still pending.
    pub fn begin(&mut self, request: &Arc<Request>, at: UnixMillis) -> TransactionId {
        let mut written = Vec::new();
        for moved in &request.records {
            let partition = self.partition_of(moved.to, moved.key.as_deref());
            let log = self.log(partition);
            let position = Position {
                partition,
                offset: Offset(log.next_offset()),
            };
            log.entries.push(Entry::Pending(Record {
                position,
                timestamp: at,
                key: moved.key.clone(),
                value: moved.value.clone(),
                headers: moved.headers.clone(),
            }));
            written.push((moved.clone(), position, at));
        }
        self.transactions += 1;
        let id = TransactionId(self.transactions);
        let transaction = Transaction {
            records: written,
            request: Arc::clone(request),
            fate: Ending::Abort,
        };
        self.open.insert(id, transaction);
        id
    }

    /// The transaction, if it is open.
    pub fn transaction(&mut self, id: TransactionId) -> Option<&mut Transaction> {
        self.open.get_mut(&id)
    }

    /// Ends a transaction; `None` where that has happened before.
    pub fn end(&mut self, id: TransactionId, ending: Ending) -> Option<Written> {
        let Transaction {
            records, request, ..
        } = self.open.remove(&id)?;
        let mut touched: Vec<Partition> = Vec::new();
        for (_, position, _) in &records {
            let log = self.log(position.partition);
            let index = (position.offset.0 - log.start) as usize;
            let entry = std::mem::replace(&mut log.entries[index], Entry::Gap);
            if let (Entry::Pending(record), Ending::Commit) = (entry, ending) {
                log.entries[index] = Entry::Record(record);
            }
            if !touched.contains(&position.partition) {
                touched.push(position.partition);
            }
        }
        for partition in &touched {
            let log = self.log(*partition);
            log.entries.push(Entry::Gap);
            log.settle();
        }
        Some(Written {
            copies: records,
            request,
            touched,
        })
    }

    /// Whether the committed offset of a partition cannot be read now.
    pub fn has_pending_offsets(&self, partition: Partition) -> bool {
        let mut all = self.open.values().flat_map(|t| &t.request.snapshots);
        all.any(|snapshot| snapshot.partition == partition)
    }

    /// Writes a committed offset.
    pub fn commit(&mut self, snapshot: &Snapshot) {
        let value = (snapshot.base, snapshot.metadata.clone());
        self.committed.insert(snapshot.partition, value);
    }

    /// The committed offset of a partition.
    pub fn committed(&self, partition: Partition) -> Option<(NextOffset, String)> {
        self.committed.get(&partition).cloned()
    }

    /// Where the log begins, and where what can be read ends.
    pub fn bounds(&self, partition: Partition) -> LogBounds {
        let log = &self.logs[&partition];
        LogBounds {
            partition,
            start: NextOffset(log.start),
            end: NextOffset(log.start + log.stable as i64),
        }
    }

    /// The next record that can be read from here on, and where the next read begins.
    pub fn read(&self, partition: Partition, from: NextOffset) -> Option<&Record> {
        let log = &self.logs[&partition];
        let first = usize::try_from(from.0 - log.start).ok()?;
        let readable = log.entries.get(first..log.stable)?;
        readable.iter().find_map(|entry| match entry {
            Entry::Record(record) => Some(record),
            Entry::Pending(_) | Entry::Gap => None,
        })
    }

    /// The record at a position.
    pub fn record(&self, position: Position) -> Option<&Record> {
        let record = self.read(position.partition, NextOffset::at(position.offset))?;
        (record.position == position).then_some(record)
    }

    /// Whether a moved record has the key and the value that it had, or the
    /// beginning of a value that is too large to keep.
    pub fn is_copy(&self, moved: &MovedRecord) -> bool {
        let Some(record) = self.record(moved.from) else {
            return false;
        };
        let cut = match (&record.value, &moved.value) {
            (Some(whole), Some(cut)) => cut.len() >= CUT_BYTES && whole.starts_with(cut),
            _ => false,
        };
        let whole = record.value == moved.value;
        record.key == moved.key && (whole || (cut && moved.to == Topic::DeadLetter))
    }

    /// Whether every record of the partition lies below its committed base and
    /// no transaction is open.
    pub fn is_done(&self, partition: Partition) -> bool {
        let log = &self.logs[&partition];
        let base = self
            .committed
            .get(&partition)
            .map_or(NextOffset(log.start), |(base, _)| *base);
        log.stable == log.entries.len() && self.read(partition, base).is_none()
    }

    fn log(&mut self, partition: Partition) -> &mut Log {
        self.logs.get_mut(&partition).expect("a partition of ours")
    }

    fn partition_of(&self, topic: Topic, key: Option<&[u8]>) -> Partition {
        let count = self.logs.keys().filter(|p| p.topic == topic).count() as u64;
        assert!(count > 0, "no topic {topic:?}");
        let hash = key.unwrap_or_default().iter().fold(7_u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        let number = i32::try_from(hash % count).expect("few partitions");
        Partition { topic, number }
    }
}
