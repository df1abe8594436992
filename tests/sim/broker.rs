//! The fake broker: logs, committed offsets and transactions. It holds only state
//! that survives a crash of a client.

use crate::coordinator::Name;
use crate::replica::Request;
use ringback::model::message::{LogBounds, Snapshot};
use ringback::model::position::{NextOffset, Offset, Partition, Position, Topic, TopicId};
use ringback::model::record::{MovedRecord, Record};
use ringback::model::time::UnixMillis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One offset of a log.
enum Entry {
    Record(Record),
    /// Written by an open transaction.
    Pending(Record),
    /// A marker, or a record of an aborted transaction.
    Gap,
}

/// One partition's log.
struct Log {
    /// The offset of the first entry.
    first: i64,
    /// Entries before it are deleted.
    start: i64,
    entries: Vec<Entry>,
    /// No entry before this index is pending.
    stable: usize,
}

impl Log {
    fn new(first: i64) -> Self {
        Self {
            first,
            start: first,
            entries: Vec::new(),
            stable: 0,
        }
    }

    fn next_offset(&self) -> i64 {
        self.first + self.entries.len() as i64
    }

    fn advance_readable(&mut self) {
        while self
            .entries
            .get(self.stable)
            .is_some_and(|e| !matches!(e, Entry::Pending(_)))
        {
            self.stable += 1;
        }
    }
}

/// The writer of a committed offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Service,
    /// The service, for an earlier topic of this name.
    FormerTopic,
    /// Another program, an operator, or a damage.
    Other,
}

/// A committed offset.
struct Committed {
    base: NextOffset,
    metadata: String,
    /// Its place in the order of all offset writes; the last one counts.
    order: u64,
    origin: Origin,
}

/// An open transaction.
struct Transaction {
    name: Name,
    epoch: u32,
    records: Vec<(MovedRecord, Position, UnixMillis)>,
    request: Arc<Request>,
    /// The place of its offsets in the order of all offset writes, once they are
    /// added.
    offsets: Option<u64>,
    /// How it ends without its producer: committed if the coordinator already got
    /// that request.
    fate: Ending,
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Commit,
    Abort,
}

/// The writes of an ended transaction.
pub struct Written {
    pub copies: Vec<(MovedRecord, Position, UnixMillis)>,
    pub request: Arc<Request>,
    /// The place of its offsets in the order of all offset writes.
    pub order: u64,
    /// Partitions with newly readable records.
    pub touched: Vec<Partition>,
}

/// Identifies a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TransactionId(u64);

/// Topics, committed offsets and transactions.
pub struct Broker {
    logs: BTreeMap<Partition, Log>,
    incarnations: BTreeMap<Topic, u32>,
    committed: BTreeMap<Partition, Committed>,
    offset_writes: u64,
    open: BTreeMap<TransactionId, Transaction>,
    transactions: u64,
    epochs: BTreeMap<Name, u32>,
    pub topic_ids: bool,
    /// The maximum size of a record's value in a delay topic, in bytes.
    pub delayed_bytes_max: usize,
}

impl Broker {
    /// Returns a broker with empty logs that start at these offsets.
    pub fn new(partitions: impl Iterator<Item = (Partition, i64)>) -> Self {
        Self {
            logs: partitions.map(|(p, first)| (p, Log::new(first))).collect(),
            incarnations: BTreeMap::new(),
            committed: BTreeMap::new(),
            offset_writes: 0,
            open: BTreeMap::new(),
            transactions: 0,
            epochs: BTreeMap::new(),
            topic_ids: true,
            delayed_bytes_max: usize::MAX,
        }
    }

    /// Returns all consumed partitions.
    pub fn consumed(&self) -> Vec<Partition> {
        let all = self.logs.keys().copied();
        all.filter(|p| p.topic != Topic::DeadLetter).collect()
    }

    /// Returns how often a topic of this name was recreated.
    pub fn incarnation(&self, topic: Topic) -> u32 {
        self.incarnations.get(&topic).copied().unwrap_or(0)
    }

    /// Returns the topic id, if this broker supports topic ids.
    pub fn topic_id(&self, topic: Topic) -> Option<TopicId> {
        let incarnation = self.incarnation(topic);
        let name = topic.delay().map_or("source".to_owned(), |d| d.to_string());
        self.topic_ids
            .then(|| TopicId(format!("{name}#{incarnation}")))
    }

    /// Appends a record of the call platform.
    pub fn publish(&mut self, key: &[u8], value: Option<bytes::Bytes>, at: UnixMillis) -> Record {
        let partition = self.partition_of(Topic::Source, Some(key));
        let log = self.log(partition);
        let record = Record {
            position: partition.at(Offset(log.next_offset())),
            timestamp: at,
            key: Some(key.to_vec().into()),
            value,
            headers: Vec::new(),
        };
        log.entries.push(Entry::Record(record.clone()));
        log.advance_readable();
        record
    }

    /// Returns whether a move holds a record that is too large for its topic.
    pub fn is_too_large(&self, records: &[MovedRecord]) -> bool {
        records.iter().any(|moved| {
            let bytes = moved.value.as_ref().map_or(0, bytes::Bytes::len);
            moved.to.delay().is_some() && bytes > self.delayed_bytes_max
        })
    }

    /// Starts a new epoch for the producers of this name; older epochs are
    /// fenced.
    pub fn next_epoch(&mut self, name: Name) -> u32 {
        let epoch = self.epochs.entry(name).or_default();
        *epoch += 1;
        *epoch
    }

    /// Returns whether this is the current epoch of the name, which is not
    /// fenced.
    pub fn is_epoch(&self, name: Name, epoch: u32) -> bool {
        self.epochs.get(&name) == Some(&epoch)
    }

    /// Begins a transaction and writes its records as pending.
    pub fn begin(
        &mut self,
        name: Name,
        epoch: u32,
        request: &Arc<Request>,
        at: UnixMillis,
    ) -> TransactionId {
        let mut written = Vec::new();
        for moved in &request.records {
            let partition = self.partition_of(moved.to, moved.key.as_deref());
            let log = self.log(partition);
            let position = partition.at(Offset(log.next_offset()));
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
            name,
            epoch,
            records: written,
            request: Arc::clone(request),
            offsets: None,
            fate: Ending::Abort,
        };
        self.open.insert(id, transaction);
        id
    }

    /// Returns whether the transaction is open and its producer is not fenced.
    pub fn is_open(&self, id: TransactionId) -> bool {
        let open = self.open.get(&id);
        open.is_some_and(|t| self.is_epoch(t.name, t.epoch))
    }

    /// Makes the transaction's offsets pending.
    pub fn add_offsets(&mut self, id: TransactionId) {
        self.offset_writes += 1;
        if let Some(transaction) = self.open.get_mut(&id) {
            transaction.offsets = Some(self.offset_writes);
        }
    }

    /// Returns the open transaction of this name, and how it would end.
    pub fn open_of(&self, name: Name) -> Option<(TransactionId, Ending)> {
        let mut all = self.open.iter().filter(|(_, t)| t.name == name);
        all.next().map(|(id, t)| (*id, t.fate))
    }

    /// Notes that the producer of this epoch is gone. Its open transaction will
    /// end as `fate` says, if that is still possible. Returns whether a
    /// transaction was open.
    pub fn leave_open(&mut self, name: Name, epoch: Option<u32>, fate: Ending) -> bool {
        let mut all = self.open.values_mut();
        let open = all.find(|t| t.name == name && Some(t.epoch) == epoch);
        let Some(transaction) = open else {
            return false;
        };
        if transaction.offsets.is_some() {
            transaction.fate = fate;
        }
        true
    }

    /// Notes that the coordinator got a request for this end; the answer is lost.
    pub fn decide(&mut self, id: TransactionId, fate: Ending) {
        if let Some(transaction) = self.open.get_mut(&id) {
            transaction.fate = fate;
        }
    }

    /// Returns how the coordinator ends a transaction that timed out, if it is
    /// open. Fences its producer.
    pub fn time_out(&mut self, id: TransactionId) -> Option<Ending> {
        let (name, epoch, fate) = self.open.get(&id).map(|t| (t.name, t.epoch, t.fate))?;
        if self.is_epoch(name, epoch) {
            self.next_epoch(name);
        }
        Some(fate)
    }

    /// Ends a transaction; returns `None` if it already ended.
    pub fn end(&mut self, id: TransactionId, ending: Ending) -> Option<Written> {
        let transaction = self.open.remove(&id)?;
        let mut touched: Vec<Partition> = Vec::new();
        for (_, position, _) in &transaction.records {
            let log = self.log(position.partition);
            let index = (position.offset.0 - log.first) as usize;
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
            log.advance_readable();
        }
        Some(Written {
            copies: transaction.records,
            request: transaction.request,
            order: transaction.offsets.unwrap_or(0),
            touched,
        })
    }

    /// Returns whether no transaction is open.
    pub fn has_no_open_transaction(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns whether an open transaction hides the committed offset of a
    /// partition.
    pub fn has_pending_offsets(&self, partition: Partition) -> bool {
        let mut all = self.open.values().filter(|t| t.offsets.is_some());
        all.any(|t| t.request.snapshots.iter().any(|s| s.partition == partition))
    }

    /// Returns the next place in the order of offset writes.
    pub fn next_offset_write(&mut self) -> u64 {
        self.offset_writes += 1;
        self.offset_writes
    }

    /// Writes a committed offset, unless a later write is already there. Returns
    /// whether it took effect.
    pub fn commit(&mut self, snapshot: &Snapshot, order: u64, origin: Origin) -> bool {
        let before = self.committed.get(&snapshot.partition);
        if before.is_some_and(|before| before.order > order) {
            return false;
        }
        let committed = Committed {
            base: snapshot.base,
            metadata: snapshot.metadata.clone(),
            order,
            origin,
        };
        self.committed.insert(snapshot.partition, committed);
        true
    }

    /// Writes a committed offset for another program.
    pub fn overwrite(&mut self, partition: Partition, base: NextOffset, metadata: String) {
        let snapshot = Snapshot {
            partition,
            base,
            metadata,
        };
        let order = self.next_offset_write();
        self.commit(&snapshot, order, Origin::Other);
    }

    /// Deletes the committed offset of a partition.
    pub fn forget(&mut self, partition: Partition) {
        self.committed.remove(&partition);
    }

    /// Returns the committed offset of a partition.
    pub fn committed(&self, partition: Partition) -> Option<(NextOffset, String)> {
        let committed = self.committed.get(&partition);
        committed.map(|c| (c.base, c.metadata.clone()))
    }

    /// Returns the writer of the committed offset, if there is one.
    pub fn origin(&self, partition: Partition) -> Option<Origin> {
        self.committed.get(&partition).map(|c| c.origin)
    }

    /// Returns the start of the log and the end of its readable part.
    pub fn bounds(&self, partition: Partition) -> LogBounds {
        let log = &self.logs[&partition];
        LogBounds {
            partition,
            start: NextOffset(log.start),
            end: NextOffset(log.first + log.stable as i64),
            high_watermark: NextOffset(log.first + log.stable as i64),
        }
    }

    /// Deletes the entries before this offset.
    pub fn delete_before(&mut self, partition: Partition, start: NextOffset) {
        let log = self.log(partition);
        log.start = log.start.max(start.0);
    }

    /// Recreates a topic with as many partitions, all empty. Kafka drops their
    /// committed offsets. Returns the partitions.
    pub fn make_again(&mut self, topic: Topic) -> Vec<Partition> {
        *self.incarnations.entry(topic).or_default() += 1;
        let partitions = self.partitions(topic);
        for partition in &partitions {
            self.logs.insert(*partition, Log::new(0));
            self.forget(*partition);
        }
        partitions
    }

    /// Adds a partition to a topic.
    pub fn grow(&mut self, topic: Topic) -> Partition {
        let number = i32::try_from(self.partitions(topic).len()).expect("few partitions");
        let partition = topic.partition(number);
        self.logs.insert(partition, Log::new(0));
        partition
    }

    /// Returns the partitions of a topic.
    pub fn partitions(&self, topic: Topic) -> Vec<Partition> {
        let all = self.logs.keys().copied();
        all.filter(|p| p.topic == topic).collect()
    }

    /// Returns the next readable record from here on.
    pub fn read(&self, partition: Partition, from: NextOffset) -> Option<&Record> {
        let log = &self.logs[&partition];
        let first = usize::try_from(from.0.max(log.start) - log.first).ok()?;
        let readable = log.entries.get(first..log.stable)?;
        readable.iter().find_map(|entry| match entry {
            Entry::Record(record) => Some(record),
            Entry::Pending(_) | Entry::Gap => None,
        })
    }

    /// Returns whether no transaction is open and the committed base is behind
    /// every record of the partition, deleted ones included.
    pub fn is_done(&self, partition: Partition) -> bool {
        let log = &self.logs[&partition];
        let committed = self.committed.get(&partition);
        let base = committed.map_or(NextOffset(log.start), |c| c.base);
        let all_read = base.0 >= log.start && self.read(partition, base).is_none();
        log.stable == log.entries.len() && all_read
    }

    fn log(&mut self, partition: Partition) -> &mut Log {
        self.logs.get_mut(&partition).expect("a consumed partition")
    }

    fn partition_of(&self, topic: Topic, key: Option<&[u8]>) -> Partition {
        let range = topic.partition(0)..=topic.partition(i32::MAX);
        let count = self.logs.range(range).count() as u64;
        assert!(count > 0, "no topic {topic:?}");
        let group = key.unwrap_or_default().iter().take_while(|b| **b != b'-');
        let hash = group.fold(7_u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        let number = i32::try_from(hash % count).expect("few partitions");
        topic.partition(number)
    }
}
