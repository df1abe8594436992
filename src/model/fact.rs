//! Facts: what the engine tells operators. `telemetry` turns each into metrics
//! and log lines; nothing here decides anything.

use super::attempt::{Ended, ErrorClass};
use super::call::RecordId;
use super::position::{NextOffset, Partition, Position, Topic};
use super::tenant::TenantId;
use super::time::{Delay, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// What ended a residence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Disposition {
    /// Answered 2xx.
    Delivered,
    /// Failed or in doubt, attempts left: moved to a delay topic.
    Delayed,
    /// The lane was full: moved to a delay topic, no attempt spent.
    Diverted,
    /// Moved to the dead letters.
    DeadLettered,
    /// The tenant has no callback.
    Skipped,
}

impl Disposition {
    /// Every disposition.
    pub const ALL: [Self; 5] = [
        Self::Delivered,
        Self::Delayed,
        Self::Diverted,
        Self::DeadLettered,
        Self::Skipped,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Delayed => "delayed",
            Self::Diverted => "diverted",
            Self::DeadLettered => "dead_lettered",
            Self::Skipped => "skipped",
        }
    }
}

/// Why a record became a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DeadLetterReason {
    /// The last attempt failed.
    AttemptsExhausted,
    /// All attempts made, none of them known to have been started.
    AttemptsUnconfirmed,
    /// Found already due in a delay topic whose offsets were lost.
    TooOld,
    /// Not an object in JSON, or the history of a delayed record is nonsense.
    Undecodable,
    /// No `id`.
    NoRecordId,
    /// No `tenantId`.
    NoTenantId,
    /// An `id` or `tenantId` of the wrong kind or form.
    BadId,
    /// Larger than allowed; only its beginning is kept.
    TooLarge,
}

impl DeadLetterReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::AttemptsExhausted,
        Self::AttemptsUnconfirmed,
        Self::TooOld,
        Self::Undecodable,
        Self::NoRecordId,
        Self::NoTenantId,
        Self::BadId,
        Self::TooLarge,
    ];

    /// The name in headers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::AttemptsUnconfirmed => "attempts_unconfirmed",
            Self::TooOld => "too_old",
            Self::Undecodable => "undecodable",
            Self::NoRecordId => "no_record_id",
            Self::NoTenantId => "no_tenant_id",
            Self::BadId => "bad_id",
            Self::TooLarge => "too_large",
        }
    }
}

/// Why the whole Kafka side is dropped and taken up again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReadoptReason {
    /// A commit failed or took too long: the older request may still land.
    CommitUnsure,
    /// A transaction's outcome is not known, or its producer is fatal.
    MoveUnsure,
    /// The offset to read is no longer in the log.
    OffsetOutOfRange,
    /// A topic was deleted and made again.
    TopicRecreated,
    /// A record came that lies below what was finished.
    RecordBelowBase,
    /// The consumer failed for good, and not because of a namesake.
    ConsumerFault,
}

impl ReadoptReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::CommitUnsure,
        Self::MoveUnsure,
        Self::OffsetOutOfRange,
        Self::TopicRecreated,
        Self::RecordBelowBase,
        Self::ConsumerFault,
    ];

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommitUnsure => "commit_unsure",
            Self::MoveUnsure => "move_unsure",
            Self::OffsetOutOfRange => "offset_out_of_range",
            Self::TopicRecreated => "topic_recreated",
            Self::RecordBelowBase => "record_below_base",
            Self::ConsumerFault => "consumer_fault",
        }
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// An attempt ended.
    AttemptEnded {
        /// Whose.
        tenant: TenantId,
        /// Of which record.
        record: RecordId,
        /// From which residence.
        position: Position,
        /// 1 to 10: which attempt it was.
        attempt: u8,
        /// How.
        ended: Ended,
        /// From publication to the start, if this was the first attempt.
        first_attempt_latency: Option<Duration>,
        /// From publication to the end, if it delivered the record.
        delivery_latency: Option<Duration>,
    },
    /// An attempt from a delay topic starts, this long after it was due.
    DelayedAttemptStarted {
        /// The delay.
        delay: Delay,
        /// Start minus due time.
        lateness: Duration,
    },
    /// A residence ended.
    Disposed {
        /// How.
        disposition: Disposition,
        /// Which.
        position: Position,
    },
    /// A record became a dead letter.
    DeadLettered {
        /// Why.
        reason: DeadLetterReason,
        /// From where.
        position: Position,
        /// Its id, where it has one.
        record: Option<RecordId>,
    },
    /// A reserved offset is charged without knowing how the attempt ended.
    InDoubt {
        /// Which.
        position: Position,
    },
    /// A commit was acknowledged.
    Committed {
        /// From request to answer.
        took: Duration,
        /// Used share of the largest metadata among its partitions, 0 to 1.
        metadata_permille: u16,
    },
    /// A transaction was acknowledged.
    MovesWritten {
        /// How many records moved.
        records: usize,
        /// From request to answer.
        took: Duration,
    },
    /// A write was refused as a whole and is decided again.
    WriteRefused,
    /// A committed map could not be used: replayed from the committed base.
    MetadataRejected {
        /// Where.
        partition: Partition,
        /// Why, in a few words.
        why: &'static str,
    },
    /// Records were gone from the log before they were finished.
    RecordsLost {
        /// Where.
        partition: Partition,
        /// How many offsets.
        offsets: u64,
    },
    /// A partition stopped and needs an operator.
    PartitionStopped {
        /// Where.
        partition: Partition,
        /// Why, in a few words.
        why: &'static str,
    },
    /// Partitions came.
    Assigned {
        /// How many.
        partitions: usize,
    },
    /// Partitions go.
    Revoked {
        /// How many.
        partitions: usize,
    },
    /// A partition's map was read and work goes on.
    Adopted {
        /// Where.
        partition: Partition,
        /// Unfinished in the map.
        unfinished: usize,
        /// Of those, reserved: in doubt.
        in_doubt: usize,
    },
    /// The Kafka side is taken up again.
    Readopting {
        /// Why.
        reason: ReadoptReason,
    },
    /// Our clock minus the broker's, from a record just appended.
    ClockSkew {
        /// Milliseconds; negative where ours is behind.
        ms: i64,
    },
    /// The service drains.
    Draining,
}

/// One topic in an [`Overview`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TopicOverview {
    /// Records not yet disposed of in our partitions.
    pub lag: u64,
    /// Age of the oldest unfinished record: from publication, in a delay topic
    /// from when it was due.
    pub oldest_unfinished_age: Duration,
    /// In a delay topic: when the next of its waiting records is due.
    pub next_due: Option<UnixMillis>,
}

/// A tenant whose last attempt failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailingTenant {
    /// Who.
    pub tenant: TenantId,
    /// When the first of its failed attempts since the last success ended.
    pub since: UnixMillis,
    /// When the last one ended.
    pub last_at: UnixMillis,
    /// How many they are.
    pub failures: u64,
    /// Why the last one failed.
    pub class: ErrorClass,
    /// What it was answered, if anything.
    pub status: Option<u16>,
    /// What happened in it, as in [`Outcome::Failed`].
    ///
    /// [`Outcome::Failed`]: super::attempt::Outcome::Failed
    pub detail: String,
}

impl FailingTenant {
    /// A tenant that failed just now, without an answer, and not the last time.
    #[must_use]
    pub fn first(tenant: TenantId, now: UnixMillis, class: ErrorClass, detail: &str) -> Self {
        Self {
            tenant,
            since: now,
            last_at: now,
            failures: 1,
            class,
            status: None,
            detail: detail.to_owned(),
        }
    }
}

/// How far along a partition is, as operators see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionState {
    /// Its committed state is being read.
    Adopting,
    /// At work.
    Running,
    /// Being given back.
    Leaving,
    /// Cannot go on before an operator acts; why, in a few words.
    Stopped(&'static str),
}

/// One partition in an [`Overview`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionOverview {
    /// Which.
    pub partition: Partition,
    /// How far along.
    pub state: PartitionState,
    /// The smallest unfinished offset: what is or will be committed.
    pub base: NextOffset,
    /// The first offset that was not looked at.
    pub next: NextOffset,
    /// The end of the log as last heard.
    pub log_end: NextOffset,
    /// Records not yet disposed of.
    pub lag: u64,
    /// As in [`TopicOverview`].
    pub oldest_unfinished_age: Duration,
}

/// Tenants with a first attempt lately, by how the last of these ended. First
/// attempts only: a record that fails has ten attempts, one that is delivered
/// has one, so that all of them together always look worse than tenants are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attempted {
    /// It was delivered.
    pub delivered: usize,
    /// It failed.
    pub failed: usize,
}

/// The engine's present state, for gauges and pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overview {
    /// Attempts in flight.
    pub in_flight: usize,
    /// Their limit.
    pub in_flight_max: usize,
    /// Records in hand or listed as unfinished.
    pub unfinished: usize,
    /// Partitions that this replica owns.
    pub assigned: usize,
    /// Of those, whose map is not read yet.
    pub adopting: usize,
    /// Of those, stopped until an operator acts.
    pub stopped: Vec<(Partition, &'static str)>,
    /// Of those at work, for which Kafka owes something for too long although
    /// the brokers answer; what, and for how long.
    pub stalled: Vec<(Partition, &'static str, Duration)>,
    /// Each of them.
    pub partitions: Vec<PartitionOverview>,
    /// When a record was last disposed of, or nothing was left to do.
    pub last_progress: UnixMillis,
    /// Every topic of ours.
    pub topics: BTreeMap<Topic, TopicOverview>,
    /// Tenants whose lane is at its limit, those with the most waiting first,
    /// at most 50.
    pub limited: Vec<TenantId>,
    /// All tenants whose lane is at its limit.
    pub tenants_limited: usize,
    /// Tenants with a first attempt lately.
    pub attempted: Attempted,
    /// Tenants whose last attempt failed, longest first, at most 50.
    pub failing: Vec<FailingTenant>,
    /// All tenants whose last attempt failed.
    pub tenants_failing: usize,
}
