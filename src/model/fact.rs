//! Facts: what the engine tells operators. `telemetry` turns each into metrics
//! and log lines; nothing here decides anything.

use super::attempt::AttemptResult;
use super::call::RecordId;
use super::disposition::{DeadLetterReason, Disposition};
use super::named_enum::named_enum;
use super::position::{Partition, Position};
use super::tenant::TenantId;
use super::time::Delay;
use std::time::Duration;

named_enum! {
    /// The reason for a re-adoption. The names are in metrics and logs.
    pub enum ReadoptReason {
        /// A commit failed or took too long: the older request may still be applied.
        CommitUnsure = "commit_unsure",
        /// The outcome of a transaction is unknown, or its producer has a fatal error.
        MoveUnsure = "move_unsure",
        /// The offset to read is no longer in the log.
        OffsetOutOfRange = "offset_out_of_range",
        /// A topic was deleted and created again.
        TopicRecreated = "topic_recreated",
        /// A record arrived below the finished offsets.
        RecordBelowBase = "record_below_base",
        /// The consumer has a fatal error, and no other process uses this instance name.
        ConsumerFault = "consumer_fault",
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
        ended: AttemptResult,
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
