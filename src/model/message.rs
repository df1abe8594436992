//! What goes to Kafka and what is found there: snapshots of partitions, moves,
//! and the committed state that a new owner reads.

use super::call::CallEnded;
use super::position::{Generation, NextOffset, Partition, Position, Topic, TopicId};
use super::record::{MovedRecord, Record};
use super::tenant::Tenant;
use super::time::UnixMillis;
use bytes::Bytes;
use std::sync::Arc;

/// What a Kafka session tells the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KafkaEvent {
    /// The group gave us partitions; with none, only the generation is new.
    Assigned {
        /// This rebalance callback.
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
    },
    /// The committed state of an assigned partition.
    CommittedState {
        /// The callback that assigned it.
        generation: Generation,
        /// Which.
        partition: Partition,
        /// What was read.
        found: CommittedState,
    },
    /// The group takes partitions; they are given back on
    /// [`KafkaRequest::FinishRevoke`].
    Revoked {
        /// This rebalance callback.
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
        /// Others own them already.
        lost: bool,
    },
    /// Records; those of one partition in the order of their offsets.
    Records(Vec<(Generation, Record)>),
    /// Nothing unread lies before `next`; after all records before it.
    ReachedEnd {
        /// As in [`KafkaRequest::StartFetch`].
        generation: Generation,
        /// Which.
        partition: Partition,
        /// The last stable offset.
        next: NextOffset,
    },
    /// The offset to read is not in the log; nothing more comes.
    OutOfRange {
        /// As in [`KafkaRequest::StartFetch`].
        generation: Generation,
        /// Which.
        partition: Partition,
    },
    /// The logs of assigned partitions, about once a second.
    LogBounds(Vec<LogBounds>),
    /// A commit was acknowledged.
    Committed {
        /// Which.
        write: WriteId,
    },
    /// A commit was refused for a rebalance.
    CommitRefused {
        /// Which.
        write: WriteId,
    },
    /// A commit failed; it may have been written, now or later.
    CommitUnsure {
        /// Which.
        write: WriteId,
        /// What was answered.
        why: String,
    },
    /// A transaction was committed.
    Moved {
        /// Which.
        write: WriteId,
    },
    /// A transaction was aborted: nothing of it was written.
    MoveRefused {
        /// Which.
        write: WriteId,
        /// What was answered.
        why: String,
    },
    /// A transaction was aborted because something in it is too large.
    MoveTooLarge {
        /// Which.
        write: WriteId,
    },
    /// A transaction's outcome is not known, or its producer is of no more use.
    MoveUnsure {
        /// Which.
        write: WriteId,
        /// What was answered.
        why: String,
    },
    /// A topic was deleted and made again.
    TopicRecreated {
        /// Which.
        topic: Topic,
    },
    /// The consumer cannot go on; a new life is needed.
    ConsumerFault {
        /// Why.
        why: String,
    },
    /// Another process joined the group under our name. Within a minute of
    /// trouble with the brokers a request of our own from before can look the
    /// same: the first three are a [`KafkaEvent::ConsumerFault`].
    Namesake,
    /// Another producer took our id, or our transaction was ended for us: the
    /// two look alike.
    ProducerFenced,
    /// Brokers cannot be reached, or topics do not exist; goes on by itself.
    Waiting {
        /// For what.
        why: String,
        /// Whether to say so in the log: at most once in 30 s.
        say: bool,
    },
    /// Subscribed.
    Ready,
    /// Settings with which the service must not run.
    WrongSettings {
        /// Each, with what to do.
        why: String,
    },
    /// The group was left and the consumer closed, after [`KafkaRequest::Leave`].
    Left,
}

/// What the engine asks of the Kafka session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KafkaRequest {
    /// Begin to read a partition.
    StartFetch {
        /// The callback that assigned it; its records bear this generation.
        generation: Generation,
        /// Which.
        partition: Partition,
        /// Where.
        from: NextOffset,
    },
    /// Hand over up to this many records more.
    Fetch {
        /// As in [`KafkaRequest::StartFetch`].
        generation: Generation,
        /// Which.
        partition: Partition,
        /// How many.
        records: usize,
    },
    /// Commit offsets.
    Commit(CommitRequest),
    /// Run a transaction.
    Move(MoveRequest),
    /// Give revoked partitions back.
    FinishRevoke {
        /// As in [`KafkaEvent::Revoked`].
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
    },
    /// Leave the group in order.
    Leave,
}

/// Numbers the writes of this process; an answer to an older one is ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// The longest metadata of a commit that Kafka takes.
///
/// Units: UTF-16 code units; our text is ASCII. Source: Kafka's
/// `offset.metadata.max.bytes`, 4096 by default, checked on Java strings.
pub const METADATA_UNITS_MAX: usize = 4096;

/// One partition's offset and map as they will be once the write succeeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The partition.
    pub partition: Partition,
    /// The base: the offset to commit.
    pub base: NextOffset,
    /// The map, as the commit's metadata.
    pub metadata: String,
}

/// A plain offset commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitRequest {
    /// Its number.
    pub write: WriteId,
    /// One for each partition.
    pub snapshots: Vec<Snapshot>,
}

/// One transaction: records to their next residences, and the snapshots that
/// complete the old ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveRequest {
    /// Its number.
    pub write: WriteId,
    /// The rebalance callback whose group metadata must go with it.
    pub generation: Generation,
    /// What moves.
    pub records: Vec<MovedRecord>,
    /// One for each partition that records move from.
    pub snapshots: Vec<Snapshot>,
}

/// An attempt to be started now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptRequest {
    /// The record's residence; names the attempt in its answer.
    pub position: Position,
    /// To whom.
    pub tenant: Arc<Tenant>,
    /// The record's id and framing.
    pub call: CallEnded,
    /// The record's value; [`CallEnded::body`] makes the body of it.
    pub value: Bytes,
    /// 1 to 10: which attempt this is.
    pub attempt: u8,
    /// After this moment it must not start: the reservation's lease is over.
    pub start_by: UnixMillis,
    /// The record's trace context.
    pub traceparent: Option<String>,
    /// Whether it is to be kept from the others, for its tenant is not known to
    /// answer: it may do anything.
    pub apart: bool,
}

/// What a new owner finds of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedState {
    /// The committed offset and its metadata; none where nothing is committed.
    pub committed: Option<(NextOffset, String)>,
    /// The first offset in the log.
    pub log_start: NextOffset,
    /// The last stable offset: the end of what can be read.
    pub log_end: NextOffset,
    /// The topic's identity, where the broker tells it.
    pub topic_id: Option<TopicId>,
}

/// Where a partition's log begins and ends now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// The partition.
    pub partition: Partition,
    /// The first offset in the log.
    pub start: NextOffset,
    /// The last stable offset.
    pub end: NextOffset,
}
