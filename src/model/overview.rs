//! The state of the engine for operators. Gauges and pages show it. Never decides
//! anything. Pure values.

use super::attempt::ErrorClass;
use super::broker::{Broker, WaitCause};
use super::destination::RefusalReason;
use super::message::ForeignMember;
use super::named_enum::named_enum;
use super::position::{NextOffset, Partition, Topic};
use super::tenant::TenantId;
use super::time::UnixMillis;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One topic in an [`Overview`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TopicOverview {
    /// Records without a disposition in the assigned partitions.
    pub lag: u64,
    /// Age of the oldest unfinished record, from its publication; in a delay topic,
    /// from its due time.
    pub oldest_unfinished_age: Duration,
    /// Age of the oldest record that waits although its tenant could have one more
    /// attempt, from the same time.
    pub oldest_waiting_age: Duration,
    /// The earliest due time of the records that wait in a delay topic.
    pub next_due: Option<UnixMillis>,
}

/// A tenant whose last attempt failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailingTenant {
    pub tenant: TenantId,
    /// The end of the first failed attempt since the last success.
    pub since: UnixMillis,
    /// The end of the last failed attempt.
    pub last_at: UnixMillis,
    /// Failed attempts since the last success.
    pub failures: u64,
    /// Failed first attempts since the last success, as long as the last of them is
    /// recent. Retries do not count: one record that a tenant never accepts has nine.
    pub first_failures: u64,
    pub class: ErrorClass,
    /// The status of the last failed attempt, if the receiver answered.
    pub status: Option<u16>,
    /// The detail of the last failed attempt, as in [`Outcome::Failed`].
    ///
    /// [`Outcome::Failed`]: super::attempt::Outcome::Failed
    pub detail: String,
}

impl FailingTenant {
    /// Returns a tenant whose first failure ended now, without an answer.
    #[must_use]
    pub fn first(tenant: TenantId, now: UnixMillis, class: ErrorClass, detail: &str) -> Self {
        Self {
            tenant,
            since: now,
            last_at: now,
            failures: 1,
            first_failures: 0,
            class,
            status: None,
            detail: detail.to_owned(),
        }
    }
}

/// A tenant whose last entry in the tenants topic is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedTenant {
    /// The key of the entry.
    pub tenant: String,
    /// Every mistake in the entry, without secrets.
    pub mistake: String,
}

/// The status of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionStatus {
    /// Its committed state is being read.
    Adopting,
    Running,
    /// It waits for an overdue answer of Kafka, although the brokers answer others:
    /// which answer, and for how long.
    Stalled(&'static str, Duration),
    /// Its last writes end before the group takes it.
    Leaving,
    /// Stopped until an operator acts, with the reason.
    Stopped(&'static str),
}

/// One partition in an [`Overview`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionOverview {
    pub partition: Partition,
    pub state: PartitionStatus,
    /// The smallest unfinished offset: the next offset to commit.
    pub base: NextOffset,
    /// The next offset to read.
    pub next: NextOffset,
    pub log_end: NextOffset,
    pub lag: u64,
    pub oldest_unfinished_age: Duration,
}

/// The number of tenants with a recent first attempt, by the outcome of the latest
/// one. Later attempts do not count. A failing record has ten attempts and a
/// delivered one has one, so all attempts would show the tenants worse than they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FirstAttempts {
    pub delivered: usize,
    pub failed: usize,
}

named_enum! {
    /// The state of the service between its start and its end.
    #[derive(Default)]
    pub enum ServiceState {
        #[default]
        Starting = "starting",
        /// In the group, with or without partitions.
        Running = "running",
        Readopting = "readopting",
        Draining = "draining",
    }
}

impl ServiceState {
    /// Returns why a service in this state is not ready.
    #[must_use]
    pub const fn fault(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("starting: not in the consumer group yet"),
            Self::Running => None,
            Self::Readopting => Some("restarting the Kafka session: not in the consumer group yet"),
            Self::Draining => Some("draining"),
        }
    }
}

/// A destination of moves that refuses records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefusedDestination {
    pub topic: Topic,
    pub reason: RefusalReason,
    pub since: UnixMillis,
    /// The number of records that wait for it.
    pub waiting: usize,
}

/// A broker that does not answer this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreachableBroker {
    pub broker: Broker,
    /// The number of assigned partitions that it leads: they wait.
    pub partitions: usize,
    pub since: UnixMillis,
}

/// A partition in which an open transaction of another producer holds back all records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockedPartition {
    pub partition: Partition,
    /// The first offset that cannot be read.
    pub offset: NextOffset,
    pub since: UnixMillis,
}

/// What the pages about health say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdicts {
    pub live: bool,
    pub healthy: bool,
    pub ready: bool,
}

/// The present state of the engine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overview {
    /// When the engine was in this state.
    pub at: UnixMillis,
    pub state: ServiceState,
    /// The thread that panicked, if one did: a restart heals that.
    pub panicked: Option<&'static str>,
    /// Why the service makes no progress, if it does not.
    pub health: Option<String>,
    /// Why the service does not deliver now, if it does not.
    pub readiness: Option<String>,
    /// The kind of that reason, if the service waits for Kafka.
    pub waits_for_kafka: Option<WaitCause>,
    pub in_flight: usize,
    pub in_flight_max: usize,
    /// Unfinished records in memory and in the offset maps.
    pub unfinished: usize,
    pub assigned: usize,
    pub adopting: usize,
    /// Assigned partitions that are stopped until an operator acts, with the reason.
    pub stopped: Vec<(Partition, &'static str)>,
    pub partitions: Vec<PartitionOverview>,
    /// The last disposition, or the last moment without an unfinished record.
    pub last_progress: UnixMillis,
    pub topics: BTreeMap<Topic, TopicOverview>,
    /// Tenants whose lane is at its limit, at most 50. Those with the most waiting
    /// records come first.
    pub limited: Vec<TenantId>,
    pub tenants_limited: usize,
    pub attempted: FirstAttempts,
    /// Tenants whose last attempt failed, at most 50. Those with failed first attempts
    /// come first, and of these the tenants that fail longest.
    pub failing: Vec<FailingTenant>,
    /// Tenants with a recent failure of which a first attempt was delivered just now,
    /// at most 50. They are not down, whatever their retries show.
    pub delivering: Vec<TenantId>,
    pub tenants_failing: usize,
    /// Tenants whose last entry in the tenants topic is refused, at most 50.
    pub refused: Arc<[RefusedTenant]>,
    pub tenants_refused: usize,
    /// Destinations that refuse records now.
    pub refusing: Vec<RefusedDestination>,
    /// Brokers that have not answered for half a minute.
    pub unreachable: Vec<UnreachableBroker>,
    /// Partitions that open transactions have held back for half a minute.
    pub blocked: Vec<BlockedPartition>,
    /// Members of other programs that have partitions.
    pub foreign: Vec<ForeignMember>,
}
