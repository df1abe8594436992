//! The state of the engine as operators see it: gauges and pages show it.

use super::attempt::ErrorClass;
use super::position::{NextOffset, Partition, Topic};
use super::tenant::TenantId;
use super::time::UnixMillis;
use std::collections::BTreeMap;
use std::time::Duration;

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
pub enum PartitionStatus {
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
    pub state: PartitionStatus,
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
pub struct FirstAttempts {
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
    pub attempted: FirstAttempts,
    /// Tenants whose last attempt failed, longest first, at most 50.
    pub failing: Vec<FailingTenant>,
    /// All tenants whose last attempt failed.
    pub tenants_failing: usize,
}
