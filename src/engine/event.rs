//! The engine's language: what happened ([`Event`]), what to do ([`Action`]),
//! and the settings that its decisions rest on. Plain data, no behaviour.

use crate::model::attempt::AttemptResult;
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::message::{
    AttemptRequest, CommitRequest, CommittedState, LogBounds, MoveRequest, WriteId,
};
use crate::model::position::{Generation, NextOffset, Partition, Position, TopicNames};
use crate::model::record::Record;
use crate::model::tenant::Tenants;
use crate::model::time::Delay;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened, in the order in which it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The group gave us partitions. Each is quiet until it is adopted.
    Assigned {
        /// The rebalance callback that says so.
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
    },
    /// The committed state of a newly assigned partition was read.
    CommittedState {
        /// The generation that assigned it.
        generation: Generation,
        /// Which.
        partition: Partition,
        /// What was read.
        found: CommittedState,
    },
    /// The group takes partitions; they stay ours until [`Action::FinishRevoke`].
    Revoked {
        /// The rebalance callback that says so.
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
        /// Whether they may still be written for.
        how: Revocation,
    },
    /// A record was read, in the order of offsets within its partition.
    Record {
        /// The generation that assigned its partition.
        generation: Generation,
        /// The record.
        record: Record,
    },
    /// Reading has come to the log's end: nothing unread lies before `next`.
    ReachedEnd {
        /// The generation that assigned the partition.
        generation: Generation,
        /// Which.
        partition: Partition,
        /// The last stable offset.
        next: NextOffset,
    },
    /// The offset to read next is not in the log.
    OutOfRange {
        /// The generation that assigned the partition.
        generation: Generation,
        /// Which.
        partition: Partition,
    },
    /// Where logs begin and end now; for lag.
    LogBounds(Vec<LogBounds>),
    /// An attempt ended.
    AttemptFinished {
        /// The residence it was started from.
        position: Position,
        /// How.
        ended: AttemptResult,
    },
    /// An attempt was not started, because its lease had run out.
    AttemptExpired {
        /// The residence it was ordered from.
        position: Position,
    },
    /// A commit was acknowledged.
    Committed {
        /// Which.
        write: WriteId,
    },
    /// A commit was refused for a rebalance: nothing of it may be relied on,
    /// and nothing of it is granted.
    CommitRefused {
        /// Which.
        write: WriteId,
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
    },
    /// A transaction was aborted because a record in it is too large.
    MoveTooLarge {
        /// Which.
        write: WriteId,
    },
    /// A write of either kind failed in a way that does not tell its outcome.
    WriteUnsure {
        /// Which.
        write: WriteId,
    },
    /// The consumer, or the topics under it, cannot go on as they are.
    KafkaFault {
        /// Why.
        reason: ReadoptReason,
    },
    /// The tenants file was read anew.
    TenantsReplaced(Arc<Tenants>),
    /// Time has passed.
    Wake {
        /// For how much of it since the start the process's one thread was at
        /// work, in all.
        worked: Duration,
    },
    /// End in order, within [`EngineSettings::drain_timeout`].
    Drain,
}

/// How partitions are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// The group waits for us: a last snapshot may be written.
    Asked,
    /// Others own them already: nothing is written.
    Lost,
}

/// Something to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Begin to read an adopted partition here.
    StartFetch {
        /// The generation that assigned it.
        generation: Generation,
        /// Which.
        partition: Partition,
        /// Where.
        from: NextOffset,
    },
    /// Hand over up to this many further records of the partition; adds to
    /// what was asked for before.
    Fetch {
        /// The generation that assigned it.
        generation: Generation,
        /// Which.
        partition: Partition,
        /// How many more.
        records: usize,
    },
    /// Commit offsets. One is outstanding at a time.
    Commit(CommitRequest),
    /// Run a transaction. One is outstanding at a time.
    Move(MoveRequest),
    /// Start an attempt.
    StartAttempt(AttemptRequest),
    /// Give partitions back: no write for them is outstanding.
    FinishRevoke {
        /// The generation that took them.
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
    },
    /// Drop consumer, producer and what is under way with them; make new ones.
    Readopt {
        /// Why.
        reason: ReadoptReason,
    },
    /// Tell operators.
    Report(Fact),
    /// Drained: leave the group and end.
    Stop,
}

/// What the engine's decisions rest on; all checked by `config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineSettings {
    /// Names of topics, for `ringback-origin`.
    pub topics: TopicNames,
    /// Attempts in all, 1 to 10.
    pub attempts: u8,
    /// The waits between attempts, at least one; the last repeats.
    pub delays: Vec<Delay>,
    /// Attempts at once in this process.
    pub in_flight_max: usize,
    /// Least time between two commits.
    pub commit_interval: Duration,
    /// The largest record that is sent, value and key and headers together.
    pub record_bytes_max: usize,
    /// From `Drain` to `Stop` at the latest.
    pub drain_timeout: Duration,
}
