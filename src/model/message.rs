//! The messages between the engine and the Kafka shell, each defined once.
//! [`KafkaEvent`] tells the engine what happened in a Kafka session.
//! [`KafkaRequest`] tells the session what to do. Plain data, no behaviour and
//! no decisions. The runner passes both on unchanged.

use super::broker::{SilentBroker, WaitCause};
use super::call::CallEnded;
use super::destination::Refusals;
use super::position::{Generation, NextOffset, Partition, Position, Topic, TopicId};
use super::record::{MovedRecord, Record};
use super::tenant::Tenant;
use super::time::UnixMillis;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Number of a Kafka session of this process: one consumer with one
/// transactional producer. Every event carries it, so that events of a dropped
/// session are ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SessionId(pub u64);

/// Number of a write of this process. Answers to older writes are ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// Event of a Kafka session. `took` is the duration of the call that was
/// answered, measured by the thread that made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KafkaEvent {
    /// A rebalance callback assigned partitions. Without partitions, only the
    /// generation is new.
    Assigned {
        generation: Generation,
        partitions: Vec<Partition>,
    },
    /// The committed state of an assigned partition was read.
    CommittedState {
        /// The rebalance callback that assigned the partition.
        generation: Generation,
        partition: Partition,
        found: CommittedState,
    },
    /// A rebalance callback revoked partitions. They are handed back on
    /// [`ConsumerRequest::FinishRevoke`].
    Revoked {
        generation: Generation,
        partitions: Vec<Partition>,
        how: Revocation,
    },
    /// Records were read. Records of one partition come in the order of their
    /// offsets, with the generation that assigned the partition.
    Records(Vec<(Generation, Record)>),
    /// Reading reached the log's end: no unread record lies before `next`.
    ReachedEnd {
        /// As in [`ConsumerRequest::StartFetch`].
        generation: Generation,
        partition: Partition,
        /// The last stable offset.
        next: NextOffset,
    },
    /// The offset to read next is not in the log. No more records come.
    OutOfRange {
        /// As in [`ConsumerRequest::StartFetch`].
        generation: Generation,
        partition: Partition,
    },
    /// The log bounds of assigned partitions, about once a second.
    LogBounds(Vec<LogBounds>),
    /// The leaders that do not answer, about once a second while there are some. An
    /// empty list ends that.
    SilentBrokers(Vec<SilentBroker>),

    /// A commit was acknowledged.
    Committed { write: WriteId, took: Duration },
    /// A commit was refused because of a rebalance: nothing of it was written.
    CommitRefused { write: WriteId, took: Duration },
    /// A commit failed without a certain outcome: it may still be written.
    CommitUnsure {
        write: WriteId,
        took: Duration,
        why: String,
    },
    /// A transaction was committed.
    Moved {
        write: WriteId,
        took: Duration,
        /// `None` if no topic has the broker's times, or the answer took too long.
        appended: Option<Appended>,
    },
    /// A transaction was aborted: nothing of it was written.
    MoveRefused {
        write: WriteId,
        took: Duration,
        why: String,
        destinations: Refusals,
    },
    /// A transaction did not start: the producer is not ready, or the session no
    /// longer has the group metadata of the move's generation.
    MoveNotStarted { write: WriteId, why: String },
    /// A transaction was aborted because a record in it is too large.
    MoveTooLarge { write: WriteId, took: Duration },
    /// A transaction has no certain outcome, or its producer has failed for
    /// good. The session accepts no further moves.
    MoveUnsure {
        write: WriteId,
        took: Duration,
        why: String,
    },

    /// What the session's transaction may leave open from now on. Comes before the
    /// call that opens it. Comes with `Nothing` when an open transaction was cleared
    /// or its offsets were refused. After a commit or another abort, the move's event
    /// tells its end. All these count also when the session is dropped before they
    /// are handled.
    OpenTransaction(OpenTransaction),

    /// A topic was deleted and created again.
    TopicRecreated { topic: Topic },
    /// The consumer has failed for good: a new session is needed.
    ConsumerFault { why: String },
    /// The group coordinator fenced the consumer: its instance name was used by
    /// a later join. Reported at most once in a session.
    ConsumerFenced,
    /// The producer was fenced: another producer initialised its transactional
    /// id, or the coordinator ended its transaction. The two look alike.
    ProducerFenced,
    /// Brokers did not answer in time, or took this process for dead.
    BrokerFault,
    /// The session waits for something, such as brokers that cannot be reached
    /// or topics that do not exist. It continues by itself.
    Waiting { why: String, cause: WaitCause },
    /// The topics' settings were read and accepted.
    TopicsAccepted,
    /// The consumer exists and has subscribed.
    Subscribed,
    /// Answer to [`KafkaRequest::FindUnassigned`]: partitions of a stable group
    /// that no member is assigned. Empty where the group is not stable or did
    /// not answer.
    Unassigned(BTreeSet<Partition>),
    /// The members of other programs that a stable group has assigned partitions.
    ForeignMembers(Vec<ForeignMember>),
    /// Settings with which the service must not run, each with its remedy.
    WrongSettings { why: String },
    /// The group was left and the consumer closed, after [`ConsumerRequest::Leave`].
    Left,
    /// All threads and clients of a dropped session have ended. This event is
    /// reported although the session was dropped.
    SessionEnded,
}

/// When a broker appended a record of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// By the broker's clock.
    pub at: UnixMillis,
    /// The time since the middle between sending the record and the broker's answer.
    pub ago: Duration,
}

/// How a rebalance takes partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// The group waits for this member: a last snapshot may be written.
    Requested,
    /// Other members are assigned them already: nothing may be written.
    Lost,
}

/// Request of the engine to the Kafka session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KafkaRequest {
    Consumer(ConsumerRequest),
    /// Commit offsets. One commit is outstanding at a time.
    Commit(CommitRequest),
    /// Run a transaction. One transaction is outstanding at a time.
    Move(MoveRequest),
    /// Replace the producer before the next move.
    RenewProducer(ProducerStart),
    /// Ask the group which partitions have no member. Answered by
    /// [`KafkaEvent::Unassigned`].
    FindUnassigned,
}

/// How much of a partition may be handed over: records and bytes, until one of them is
/// used up. The record that uses up the bytes is handed over whole.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Credit {
    pub records: usize,
    /// By [`Record::size`].
    pub bytes: usize,
}

impl Credit {
    /// Returns whether no further record may be handed over.
    #[must_use]
    pub fn is_used_up(self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    /// Adds more.
    pub fn add(&mut self, more: Self) {
        self.records += more.records;
        self.bytes += more.bytes;
    }

    /// Takes one record of this size.
    pub fn take(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Request to the consumer of the session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerRequest {
    /// Start to read a partition.
    StartFetch {
        /// The rebalance callback that assigned it; its records carry this generation.
        generation: Generation,
        partition: Partition,
        from: NextOffset,
    },
    /// Hand over more records, added to earlier requests.
    Fetch {
        /// As in [`ConsumerRequest::StartFetch`].
        generation: Generation,
        partition: Partition,
        credit: Credit,
    },
    /// Hand back revoked partitions: no write for them is outstanding.
    FinishRevoke {
        /// As in [`KafkaEvent::Revoked`].
        generation: Generation,
        partitions: Vec<Partition>,
    },
    /// Leave the group and join it again.
    Rejoin,
    /// Leave the group in order and close the consumer.
    Leave,
}

/// How a Kafka session is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionStart {
    pub session: SessionId,
    pub topics: TopicCheck,
    pub producer: ProducerStart,
}

/// Whether a session reads the topics' settings before it subscribes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicCheck {
    Required,
    /// An earlier session of this process found them good.
    Done,
}

/// How a producer is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerStart {
    /// What earlier transactions may have left open. The producer aborts it
    /// before its first move.
    pub clear: OpenTransaction,
    pub brokers: BrokerHealth,
}

/// Whether brokers failed to answer recently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerHealth {
    Good,
    /// A producer that is abandoned may still send its request later and fence
    /// its successor. So each producer is waited for as long as it takes.
    RecentFault,
}

/// What a transaction may have left open, as far as this process knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenTransaction {
    Nothing,
    /// The group's offsets: they were sent, and whether Kafka accepted them is
    /// unknown. No record was sent.
    Offsets,
    /// The group's offsets, and records in these topics.
    Records(BTreeSet<Topic>),
}

/// The longest metadata of a commit that Kafka accepts.
///
/// Units: UTF-16 code units; the map's text is ASCII. Source: Kafka's
/// `offset.metadata.max.bytes`, 4096 by default, checked on Java strings.
pub const METADATA_UNITS_MAX: usize = 4096;

/// Offset and map of one partition as they are once the write succeeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    pub partition: Partition,
    /// The offset to commit.
    pub base: NextOffset,
    /// The map, as the commit's metadata.
    pub metadata: String,
}

/// A plain offset commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitRequest {
    pub write: WriteId,
    /// One for each partition.
    pub snapshots: Vec<Snapshot>,
}

/// One transaction: records to their next residences, and the snapshots that
/// complete the old ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveRequest {
    pub write: WriteId,
    /// The rebalance callback whose group metadata the transaction carries.
    pub generation: Generation,
    pub purpose: MovePurpose,
    pub records: Vec<MovedRecord>,
    /// One for each partition that records move from.
    pub snapshots: Vec<Snapshot>,
}

/// Why a transaction is requested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MovePurpose {
    /// To move records.
    Move,
    /// To find out with one record whether its destination still refuses records.
    Probe,
}

/// An attempt to start now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptRequest {
    /// The record's residence; names the attempt in its answer.
    pub position: Position,
    pub tenant: Arc<Tenant>,
    pub call: CallEnded,
    /// The record's value; [`CallEnded::body`] makes the body of it.
    pub value: Bytes,
    /// 1 to 10: which attempt this is.
    pub attempt: u8,
    /// The attempt must not start later: the reservation's lease ends then.
    pub start_by: UnixMillis,
    pub traceparent: Option<String>,
    pub isolation: Isolation,
}

/// Where an attempt runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// On the main thread, with other tenants that answer.
    Shared,
    /// On the isolated threads: its tenant has not answered yet, or no longer answers.
    /// It may do anything.
    Isolated,
}

/// The committed state of a partition and its log, as a new owner reads them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedState {
    /// The committed offset and its metadata, if there is a commit.
    pub committed: Option<(NextOffset, String)>,
    /// The first offset in the log.
    pub log_start: NextOffset,
    /// The last stable offset: the end of the readable log.
    pub log_end: NextOffset,
    /// The end of the log beyond the records of open transactions. Not before
    /// `log_end`.
    pub high_watermark: NextOffset,
    /// The topic's identity, if the broker tells it.
    pub topic_id: Option<TopicId>,
}

/// Where a partition's log starts and ends now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    pub partition: Partition,
    /// The first offset in the log.
    pub start: NextOffset,
    /// The last stable offset.
    pub end: NextOffset,
    /// The end beyond the records of open transactions, as far as reading has seen it.
    /// Not before `end`.
    pub high_watermark: NextOffset,
}

/// A member of the consumer group that is no process of ringback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignMember {
    /// Kafka's id of the member.
    pub member: String,
    pub client: String,
    pub host: String,
    /// The partitions that it has instead of ringback.
    pub partitions: Vec<Partition>,
}
