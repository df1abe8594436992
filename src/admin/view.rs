//! What `/statusz` and `/` show, in one shape: the one writes it as JSON, the
//! other as a page. It names tenants: the port stays inside. Moments are epoch
//! milliseconds, durations milliseconds.

use super::status::{About, Shown};
use crate::model::overview::{FailingTenant, Overview, PartitionOverview, PartitionStatus};
use crate::model::position::{Topic, TopicNames};
use crate::model::time::UnixMillis;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The whole state.
#[derive(Serialize)]
pub struct View<'a> {
    pub version: &'static str,
    pub instance: &'a str,
    pub group: &'a str,
    pub started_at: i64,
    pub uptime_ms: u64,
    pub phase: &'static str,
    pub healthy: bool,
    pub ready: bool,
    /// Why it is not ready, or not healthy.
    pub reason: Option<String>,
    pub last_turn: i64,
    pub last_progress: i64,
    pub in_flight: usize,
    pub in_flight_max: usize,
    pub unfinished: usize,
    pub partitions: PartitionsView,
    pub topics: BTreeMap<String, TopicView>,
    pub delays: Vec<DelayView>,
    pub tenants: TenantsView<'a>,
}

/// What the group gave to this replica.
#[derive(Serialize)]
pub struct PartitionsView {
    pub assigned: usize,
    pub adopting: usize,
    pub stopped: Vec<StoppedView>,
    /// Stopped ones first.
    pub each: Vec<PartitionView>,
}

/// A partition that needs an operator.
#[derive(Serialize)]
pub struct StoppedView {
    pub topic: String,
    pub partition: i32,
    pub why: &'static str,
}

/// One partition.
#[derive(Serialize)]
pub struct PartitionView {
    pub topic: String,
    pub partition: i32,
    pub state: &'static str,
    /// The smallest unfinished offset, which is what is committed.
    pub base: i64,
    /// The first offset that was not looked at.
    pub next: i64,
    pub log_end: i64,
    pub lag: u64,
    pub oldest_unfinished_age_ms: u64,
}

/// One topic, over the partitions of this replica.
#[derive(Serialize)]
pub struct TopicView {
    pub lag: u64,
    pub oldest_unfinished_age_ms: u64,
}

/// One delay topic, the shortest delay first.
#[derive(Serialize)]
pub struct DelayView {
    pub delay: String,
    pub topic: String,
    pub waiting: u64,
    /// When the next record that waits is due; none where nothing waits, or
    /// where it has not been read yet.
    pub next_due: Option<i64>,
}

/// Tenants that are not well.
#[derive(Serialize)]
pub struct TenantsView<'a> {
    pub limited: usize,
    pub failing: usize,
    /// Those that have failed longest.
    pub worst: Vec<FailingView<'a>>,
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
    pub(super) fn new(
        about: &'a About,
        shown: &'a Shown,
        health: Result<(), String>,
        readiness: Result<(), String>,
        now: UnixMillis,
    ) -> Self {
        let overview: &Overview = &shown.overview;
        let names = &about.names;
        Self {
            version: about.version,
            instance: &about.instance,
            group: &about.group,
            started_at: about.started_at.0,
            uptime_ms: millis(now.since(about.started_at)),
            phase: shown.stage.name(),
            healthy: health.is_ok(),
            ready: readiness.is_ok(),
            reason: readiness.err().or(health.err()),
            last_turn: shown.turned_at.0,
            last_progress: overview.last_progress.0,
            in_flight: overview.in_flight,
            in_flight_max: overview.in_flight_max,
            unfinished: overview.unfinished,
            partitions: partitions(overview, names),
            topics: topics(overview, names),
            delays: delays(overview, names),
            tenants: TenantsView {
                limited: overview.tenants_limited,
                failing: overview.tenants_failing,
                worst: overview.failing.iter().map(failing).collect(),
            },
        }
    }
}

fn partitions(overview: &Overview, names: &TopicNames) -> PartitionsView {
    let mut each: Vec<PartitionView> = overview
        .partitions
        .iter()
        .map(|shown| partition(shown, names))
        .collect();
    // Stable: within both halves the order of topics and numbers stays.
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

fn partition(shown: &PartitionOverview, names: &TopicNames) -> PartitionView {
    PartitionView {
        topic: names.name(shown.partition.topic),
        partition: shown.partition.number,
        state: match shown.state {
            PartitionStatus::Adopting => "adopting",
            PartitionStatus::Running => "running",
            PartitionStatus::Leaving => "leaving",
            PartitionStatus::Stopped(_) => "stopped",
        },
        base: shown.base.0,
        next: shown.next.0,
        log_end: shown.log_end.0,
        lag: shown.lag,
        oldest_unfinished_age_ms: millis(shown.oldest_unfinished_age),
    }
}

fn topics(overview: &Overview, names: &TopicNames) -> BTreeMap<String, TopicView> {
    let view = |(topic, state): (&Topic, &crate::model::overview::TopicOverview)| {
        let view = TopicView {
            lag: state.lag,
            oldest_unfinished_age_ms: millis(state.oldest_unfinished_age),
        };
        (names.name(*topic), view)
    };
    overview.topics.iter().map(view).collect()
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
