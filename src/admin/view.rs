//! The content of the pages: `/statusz` writes it as JSON, `/` as HTML. It names
//! tenants, so the port must not be public. Moments are epoch milliseconds,
//! durations are milliseconds. Decides nothing. Runs on the thread of the
//! operators' pages.

use super::status::{Status, places};
use crate::model::message::ForeignMember;
use crate::model::overview::{
    BlockedPartition, FailingTenant, Overview, PartitionOverview, PartitionStatus,
    RefusedDestination, RefusedTenant, TopicOverview, UnreachableBroker,
};
use crate::model::position::{Topic, TopicNames};
use crate::model::time::UnixMillis;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The whole content.
#[derive(Serialize)]
pub struct View<'a> {
    pub version: &'static str,
    pub instance: &'a str,
    pub group: &'a str,
    pub started_at: i64,
    pub uptime_ms: u64,
    pub phase: &'static str,
    pub live: bool,
    pub healthy: bool,
    pub ready: bool,
    /// Why the service is not ready or not healthy.
    pub reason: Option<String>,
    pub last_turn: i64,
    pub last_progress: i64,
    pub in_flight: usize,
    pub in_flight_max: usize,
    pub unfinished: usize,
    pub partitions: PartitionsView,
    pub topics: BTreeMap<String, TopicView>,
    /// Brokers that do not answer.
    pub unreachable: Vec<UnreachableView>,
    /// Topics that refuse moved records.
    pub refusing: Vec<RefusingView>,
    /// Partitions that transactions of other producers hold back.
    pub blocked: Vec<BlockedView>,
    /// Members of other programs in the consumer group.
    pub foreign: Vec<ForeignView>,
    /// The shortest delay comes first.
    pub delays: Vec<DelayView>,
    pub tenants: TenantsView<'a>,
}

/// The partitions that are assigned to this replica.
#[derive(Serialize)]
pub struct PartitionsView {
    pub assigned: usize,
    pub adopting: usize,
    pub stopped: Vec<StoppedView>,
    /// Stopped partitions come first.
    pub each: Vec<PartitionView>,
}

/// A partition that is stopped until an operator acts.
#[derive(Serialize)]
pub struct StoppedView {
    pub topic: String,
    pub partition: i32,
    pub why: &'static str,
}

/// A partition that is assigned to this replica.
#[derive(Serialize)]
pub struct PartitionView {
    pub topic: String,
    pub partition: i32,
    pub state: &'static str,
    pub base: i64,
    pub next: i64,
    pub log_end: i64,
    pub lag: u64,
    pub oldest_unfinished_age_ms: u64,
}

/// One topic, summed over the partitions of this replica.
#[derive(Serialize)]
pub struct TopicView {
    pub lag: u64,
    pub oldest_unfinished_age_ms: u64,
}

/// A topic that refuses moved records.
#[derive(Serialize)]
pub struct RefusingView {
    pub topic: String,
    pub reason: &'static str,
    pub advice: &'static str,
    pub since: i64,
    /// The records that wait for it.
    pub waiting: usize,
}

/// A broker that does not answer this replica.
#[derive(Serialize)]
pub struct UnreachableView {
    pub broker: i32,
    pub address: String,
    pub since: i64,
    /// The assigned partitions that it leads.
    pub partitions: usize,
}

/// A partition that an open transaction of another producer holds back.
#[derive(Serialize)]
pub struct BlockedView {
    pub topic: String,
    pub partition: i32,
    /// The first offset that cannot be read.
    pub offset: i64,
    pub since: i64,
}

/// A member of another program in the consumer group.
#[derive(Serialize)]
pub struct ForeignView {
    pub member: String,
    pub client: String,
    pub host: String,
    /// The number of its partitions.
    pub partitions: usize,
    /// The first of them.
    pub places: String,
}

/// One delay topic.
#[derive(Serialize)]
pub struct DelayView {
    pub delay: String,
    pub topic: String,
    pub waiting: u64,
    /// When the next waiting record is due. `None` where no record waits or none
    /// has been read yet.
    pub next_due: Option<i64>,
}

/// Tenants that fail or are at their limit.
#[derive(Serialize)]
pub struct TenantsView<'a> {
    pub limited: usize,
    pub failing: usize,
    /// The tenants that fail longest.
    pub worst: Vec<FailingView<'a>>,
    /// Tenants whose last entry in the tenants topic is refused.
    pub refused: usize,
    pub refused_entries: Vec<RefusedView<'a>>,
}

/// A tenant whose last entry in the tenants topic is refused.
#[derive(Serialize)]
pub struct RefusedView<'a> {
    pub tenant: &'a str,
    pub mistake: &'a str,
}

/// A tenant whose last attempt failed.
#[derive(Serialize)]
pub struct FailingView<'a> {
    pub tenant: &'a str,
    pub class: &'static str,
    pub error: &'a str,
    pub advice: &'static str,
    pub failures: u64,
    pub since: i64,
    pub last_at: i64,
}

impl<'a> View<'a> {
    pub(super) fn new(status: &'a Status, overview: &'a Overview, now: UnixMillis) -> Self {
        let verdicts = status.verdicts(now);
        let about = &status.about;
        let names = &about.names;
        Self {
            version: about.version,
            instance: &about.instance,
            group: &about.group,
            started_at: about.started_at.0,
            uptime_ms: millis(now.since(about.started_at)),
            phase: overview.state.name(),
            live: verdicts.live,
            healthy: verdicts.healthy,
            ready: verdicts.ready,
            reason: status.readiness(now).err().or(status.health(now).err()),
            last_turn: overview.at.0,
            last_progress: overview.last_progress.0,
            in_flight: overview.in_flight,
            in_flight_max: overview.in_flight_max,
            unfinished: overview.unfinished,
            partitions: partitions(overview, names),
            topics: topics(overview, names),
            unreachable: overview.unreachable.iter().map(unreachable).collect(),
            refusing: refusing(overview, names),
            blocked: overview.blocked.iter().map(|b| blocked(b, names)).collect(),
            foreign: overview.foreign.iter().map(|f| foreign(f, names)).collect(),
            delays: delays(overview, names),
            tenants: TenantsView {
                limited: overview.tenants_limited,
                failing: overview.tenants_failing,
                worst: overview.failing.iter().map(failing).collect(),
                refused: overview.tenants_refused,
                refused_entries: overview.refused.iter().map(refused).collect(),
            },
        }
    }
}

fn partitions(overview: &Overview, names: &TopicNames) -> PartitionsView {
    let mut each: Vec<PartitionView> = overview
        .partitions
        .iter()
        .map(|overview| partition(overview, names))
        .collect();
    // The sort is stable: both groups stay ordered by topic and number.
    each.sort_by_key(|partition| partition.state != "stopped");
    PartitionsView {
        assigned: overview.assigned,
        adopting: overview.adopting,
        stopped: overview
            .stopped
            .iter()
            .map(|(partition, why)| StoppedView {
                topic: names.name(partition.topic),
                partition: partition.number,
                why,
            })
            .collect(),
        each,
    }
}

fn partition(of: &PartitionOverview, names: &TopicNames) -> PartitionView {
    PartitionView {
        topic: names.name(of.partition.topic),
        partition: of.partition.number,
        state: match of.state {
            PartitionStatus::Adopting => "adopting",
            PartitionStatus::Running => "running",
            PartitionStatus::Stalled(..) => "stalled",
            PartitionStatus::Leaving => "leaving",
            PartitionStatus::Stopped(_) => "stopped",
        },
        base: of.base.0,
        next: of.next.0,
        log_end: of.log_end.0,
        lag: of.lag,
        oldest_unfinished_age_ms: millis(of.oldest_unfinished_age),
    }
}

fn topics(overview: &Overview, names: &TopicNames) -> BTreeMap<String, TopicView> {
    let view = |(topic, state): (&Topic, &TopicOverview)| {
        let view = TopicView {
            lag: state.lag,
            oldest_unfinished_age_ms: millis(state.oldest_unfinished_age),
        };
        (names.name(*topic), view)
    };
    overview.topics.iter().map(view).collect()
}

fn refusing(overview: &Overview, names: &TopicNames) -> Vec<RefusingView> {
    let view = |refused: &RefusedDestination| RefusingView {
        topic: names.name(refused.topic),
        reason: refused.reason.name(),
        advice: refused.reason.advice(),
        since: refused.since.0,
        waiting: refused.waiting,
    };
    overview.refusing.iter().map(view).collect()
}

fn unreachable(silent: &UnreachableBroker) -> UnreachableView {
    UnreachableView {
        broker: silent.broker.id.0,
        address: silent.broker.address.clone(),
        since: silent.since.0,
        partitions: silent.partitions,
    }
}

fn blocked(blocked: &BlockedPartition, names: &TopicNames) -> BlockedView {
    BlockedView {
        topic: names.name(blocked.partition.topic),
        partition: blocked.partition.number,
        offset: blocked.offset.0,
        since: blocked.since.0,
    }
}

fn foreign(foreign: &ForeignMember, names: &TopicNames) -> ForeignView {
    ForeignView {
        member: foreign.member.clone(),
        client: foreign.client.clone(),
        host: foreign.host.clone(),
        partitions: foreign.partitions.len(),
        places: places(names, &foreign.partitions),
    }
}

fn delays(overview: &Overview, names: &TopicNames) -> Vec<DelayView> {
    let mut delays: Vec<_> = overview
        .topics
        .iter()
        .filter_map(|(topic, state)| Some((topic.delay()?, *topic, state)))
        .collect();
    delays.sort_unstable_by_key(|(delay, ..)| *delay);
    delays
        .into_iter()
        .map(|(delay, topic, state)| DelayView {
            delay: delay.to_string(),
            topic: names.name(topic),
            waiting: state.lag,
            next_due: state.next_due.map(|due| due.0),
        })
        .collect()
}

fn failing(failing: &FailingTenant) -> FailingView<'_> {
    FailingView {
        tenant: failing.tenant.as_str(),
        class: failing.class.name(),
        error: &failing.detail,
        advice: failing.class.advice_on(failing.status),
        failures: failing.failures,
        since: failing.since.0,
        last_at: failing.last_at.0,
    }
}

fn refused(refused: &RefusedTenant) -> RefusedView<'_> {
    RefusedView {
        tenant: &refused.tenant,
        mistake: &refused.mistake,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
