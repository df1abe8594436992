//! The facts that the engine reports to operators. `telemetry` turns each fact into
//! metrics and log lines. Never decides anything. Pure values.

use super::attempt::AttemptResult;
use super::broker::{Broker, SilentBroker};
use super::call::RecordId;
use super::destination::RefusalReason;
use super::disposition::{DeadLetterReason, Disposition};
use super::message::ForeignMember;
use super::named_enum::named_enum;
use super::position::{NextOffset, Partition, Position, Topic};
use super::tenant::TenantId;
use super::time::{Delay, UnixMillis};
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
        /// A record arrived whose offset had been passed before.
        RecordBelowBase = "record_below_base",
        /// The consumer has a fatal error, and no other process uses this instance name.
        ConsumerFault = "consumer_fault",
        /// Changed passwords or certificates of Kafka are in force.
        SettingsChanged = "settings_changed",
    }
}

named_enum! {
    /// Why a record's timestamp does not say when it was published.
    pub enum OddTimestamp {
        /// The record has none: -1, as in the protocol of Kafka.
        Missing = "missing",
        /// 0 or before: publishers that do not set the time.
        Zero = "zero",
        /// Later than the attempt by more than clocks differ.
        Future = "future",
    }
}

/// The time from a record's publication to an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Latency {
    Measured(Duration),
    Unknown(OddTimestamp),
}

impl Latency {
    /// A timestamp that is this much later than the event is a difference of clocks.
    const AHEAD_MAX: Duration = Duration::from_secs(1);

    /// Returns the time from `published_at`, the record's timestamp, to `event`.
    #[must_use]
    pub fn between(published_at: UnixMillis, event: UnixMillis) -> Self {
        if published_at.0 == -1 {
            Self::Unknown(OddTimestamp::Missing)
        } else if published_at.0 <= 0 {
            Self::Unknown(OddTimestamp::Zero)
        } else if published_at > event.plus(Self::AHEAD_MAX) {
            Self::Unknown(OddTimestamp::Future)
        } else {
            Self::Measured(event.since(published_at))
        }
    }
}

/// An event that operators see in metrics and logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    AttemptEnded {
        tenant: TenantId,
        record: RecordId,
        position: Position,
        /// The record's position in the source topic.
        origin: String,
        /// The number of the attempt, 1 to 10.
        attempt: u8,
        ended: AttemptResult,
        /// From publication to the start; only of a first attempt.
        first_attempt_latency: Option<Latency>,
        /// From publication to the end; only of an attempt that delivered the record.
        delivery_latency: Option<Latency>,
    },
    /// An attempt from a delay topic starts.
    DelayedAttemptStarted {
        delay: Delay,
        /// Start minus due time.
        lateness: Duration,
    },
    /// A residence ended.
    Disposed {
        disposition: Disposition,
        position: Position,
    },
    DeadLettered {
        reason: DeadLetterReason,
        /// The position before the move.
        position: Position,
        /// `None` where the record has no readable id.
        record: Option<RecordId>,
    },
    /// A reserved offset is charged although the outcome of its attempt is unknown.
    InDoubt {
        position: Position,
    },
    /// A commit was acknowledged.
    Committed {
        /// From the request to the answer.
        took: Duration,
        /// Used share of the largest metadata among the partitions, in thousandths.
        metadata_permille: u16,
    },
    /// A transaction was acknowledged.
    MovesWritten {
        records: usize,
        /// From the request to the answer.
        took: Duration,
    },
    /// A write was refused as a whole and is decided again.
    WriteRefused,
    /// A destination of moves begins to refuse records, or changes its reason.
    DestinationRefused {
        topic: Topic,
        reason: RefusalReason,
    },
    /// A destination that refused records accepts them again.
    DestinationAccepted {
        topic: Topic,
    },
    /// A broker has not answered for half a minute.
    BrokerUnreachable(SilentBroker),
    /// A broker that was told as unreachable answers again.
    BrokerAnswers {
        broker: Broker,
    },
    /// An open transaction of another producer has held a partition back for half a
    /// minute.
    PartitionBlocked {
        partition: Partition,
        /// The first offset that cannot be read.
        offset: NextOffset,
    },
    /// The open transaction that held a partition back has ended.
    PartitionUnblocked {
        partition: Partition,
    },
    /// A member of another program in the group has partitions.
    ForeignMember(ForeignMember),
    /// A member that was told as foreign has no partitions any more.
    ForeignMemberLeft {
        member: String,
    },
    /// A committed map cannot be used: reading starts at the committed offset.
    MetadataRejected {
        partition: Partition,
        why: &'static str,
    },
    /// The committed offset has no map: another program has set it.
    OffsetSet {
        partition: Partition,
        offset: NextOffset,
    },
    /// Records were deleted from the log before they were finished.
    RecordsLost {
        partition: Partition,
        /// The number of offsets.
        offsets: u64,
    },
    /// A partition is stopped until an operator acts.
    PartitionStopped {
        partition: Partition,
        why: &'static str,
    },
    Assigned {
        /// The number of partitions.
        partitions: usize,
    },
    Revoked {
        /// The number of partitions.
        partitions: usize,
    },
    /// The map of a partition was read and its work starts.
    Adopted {
        partition: Partition,
        /// Unfinished offsets in the map.
        unfinished: usize,
        /// Unfinished offsets that are reserved, so in doubt.
        in_doubt: usize,
    },
    /// The Kafka session restarts.
    Readopting {
        reason: ReadoptReason,
    },
    /// Our clock minus the broker's clock, from a record that we have just moved.
    ClockSkew {
        /// Milliseconds; negative where our clock is behind.
        ms: i64,
    },
    Draining,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_that_is_no_time_of_publication_gives_no_latency() {
        let event = UnixMillis(5_000_000);
        let latency = |published_at| Latency::between(UnixMillis(published_at), event);
        let measured = |ms| Latency::Measured(Duration::from_millis(ms));
        assert_eq!(latency(4_999_990), measured(10));
        assert_eq!(latency(1), measured(4_999_999));
        assert_eq!(latency(5_001_000), measured(0), "clocks differ");
        for (published_at, expected) in [
            (-1, OddTimestamp::Missing),
            (0, OddTimestamp::Zero),
            (-2, OddTimestamp::Zero),
            (5_001_001, OddTimestamp::Future),
            (i64::MAX, OddTimestamp::Future),
        ] {
            assert_eq!(latency(published_at), Latency::Unknown(expected));
        }
    }
}
