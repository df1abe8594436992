//! The engine's state as operators see it, for gauges and pages. Decides nothing.
//! Runs on the runner's thread.

use super::Engine;
use super::fairness::Lanes;
use super::ledger::Entry;
use super::partition::{PartitionPhase, PartitionState};
use super::readiness::health_fault;
use crate::model::overview::{Overview, PartitionOverview, PartitionStatus, TopicOverview};
use crate::model::position::{Partition, Topic};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// The maximum number of tenants that are named as failing, and as limited.
const NAMED_MAX: usize = 50;

impl Engine {
    /// Returns the number of attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.core.attempts.len()
    }

    /// Returns the present state.
    #[must_use]
    pub fn overview(&self, now: UnixMillis) -> Overview {
        let wall = self.core.wall_at(now);
        let delays = self.core.schedule.ladder().iter();
        let topics = delays.map(|delay| Topic::Delay(*delay));
        let topics = topics
            .chain([Topic::Source])
            .map(|topic| (topic, TopicOverview::default()));
        let mut overview = Overview {
            at: now,
            state: self.core.readiness.state,
            readiness: self.core.readiness.fault(now, self.partitions.len()),
            waits_for_kafka: self.core.readiness.cause(now, self.partitions.len()),
            in_flight: self.in_flight(),
            in_flight_max: self.core.settings.in_flight_max,
            assigned: self.partitions.len(),
            attempted: self.core.lanes.attempted(now),
            topics: topics.collect(),
            ..Overview::default()
        };
        for state in self.partitions.all() {
            let partition = state.id;
            let shown = shown(partition, state, wall);
            overview.unfinished += state.ledger.len();
            match shown.state {
                PartitionStatus::Adopting => overview.adopting += 1,
                PartitionStatus::Stopped(why) => overview.stopped.push((partition, why)),
                PartitionStatus::Running
                | PartitionStatus::Stalled(..)
                | PartitionStatus::Leaving => {}
            }
            let topic = overview.topics.entry(partition.topic).or_default();
            topic.lag += shown.lag;
            topic.oldest_unfinished_age =
                topic.oldest_unfinished_age.max(shown.oldest_unfinished_age);
            let waiting_age = oldest_waiting_age(partition, state, &self.core.lanes, wall);
            topic.oldest_waiting_age = topic.oldest_waiting_age.max(waiting_age);
            topic.next_due = topic.next_due.into_iter().chain(next_due(state)).min();
            overview.partitions.push(shown);
        }
        let topics = &self.core.settings.topics;
        overview.health = health_fault(topics, &overview.partitions);
        overview.refusing = self.refused_destinations(wall);
        overview.blocked = self.blocked_partitions(wall);
        overview.foreign.clone_from(&self.core.foreign);
        overview.unreachable = self.core.silent_brokers.unreachable(now, wall);
        (overview.tenants_failing, overview.failing) = self.core.failing.worst(NAMED_MAX, wall);
        overview.delivering = self.core.failing.delivering(NAMED_MAX, wall);
        overview.limited = self.core.lanes.limited();
        overview.tenants_limited = overview.limited.len();
        overview.limited.truncate(NAMED_MAX);
        let mut topics = overview.topics.values();
        let idle = topics.all(|topic| topic.oldest_unfinished_age == Duration::ZERO);
        overview.last_progress = if idle { wall } else { self.core.last_progress };
        overview
    }
}

fn shown(partition: Partition, state: &PartitionState, now: UnixMillis) -> PartitionOverview {
    PartitionOverview {
        partition,
        state: status(state),
        base: state.ledger.base(),
        next: state.ledger.end(),
        log_end: state.log_end,
        lag: lag(state),
        oldest_unfinished_age: oldest_age(partition, state, now),
    }
}

fn status(state: &PartitionState) -> PartitionStatus {
    match (state.phase, state.stalled()) {
        (PartitionPhase::Stopped(why), _) => PartitionStatus::Stopped(why),
        (_, Some((why, span))) => PartitionStatus::Stalled(why, span),
        (PartitionPhase::Adopting, None) => PartitionStatus::Adopting,
        (PartitionPhase::Running, None) => PartitionStatus::Running,
        (PartitionPhase::Leaving | PartitionPhase::Lost, None) => PartitionStatus::Leaving,
    }
}

/// Returns when the first record in the inbox is due, in a delay topic. All records
/// behind it are due later.
fn next_due(state: &PartitionState) -> Option<UnixMillis> {
    state.inbox.first().and_then(|read| read.due)
}

/// Returns the number of unfinished and unread records.
fn lag(state: &PartitionState) -> u64 {
    let unread = (state.log_end.0 - state.ledger.end().0).max(0);
    state.ledger.len() as u64 + unread.unsigned_abs()
}

/// Returns the age since this time; none since a timestamp that is no time.
fn age(at: UnixMillis, now: UnixMillis) -> Duration {
    match at.0 > 0 {
        true => now.since(at),
        false => Duration::ZERO,
    }
}

/// Returns the start of a record's age: its publication, in a delay topic its due
/// time.
fn age_from(partition: Partition, published: UnixMillis, due: Option<UnixMillis>) -> UnixMillis {
    match partition.topic {
        Topic::Delay(_) => due.unwrap_or(published),
        Topic::Source | Topic::DeadLetter => published,
    }
}

/// Returns the age of the first record that waits although its tenant could have
/// one more attempt. The record at the inbox's head holds back all behind it, so it
/// waits for its tenant only if all of them are this tenant's.
fn oldest_waiting_age(
    partition: Partition,
    state: &PartitionState,
    lanes: &Lanes,
    now: UnixMillis,
) -> Duration {
    let in_hand = state.ledger.entries().find_map(|(_, entry)| match entry {
        Entry::Waiting(pending) if !lanes.waits_for_tenant(pending.lane) => Some(pending),
        Entry::Reserving(pending) => Some(pending),
        _ => None,
    });
    let in_hand = in_hand.map(|pending| (pending.history.published_at, pending.due));
    let head = state.inbox.first().filter(|read| {
        let call = read.call.as_ref();
        let waits_for_tenant = |tenant| lanes.is_waited_for(tenant) && state.only_waits_for(tenant);
        !call.is_ok_and(|call| waits_for_tenant(&call.tenant))
    });
    let head = head.map(|read| (read.history.published_at, read.due));
    let started = in_hand
        .into_iter()
        .chain(head)
        .map(|(published, due)| age_from(partition, published, due))
        .min();
    started.map_or(Duration::ZERO, |at| age(at, now))
}

/// Returns the age of the first record in hand: since its publication, in a delay
/// topic since it was due.
fn oldest_age(partition: Partition, state: &PartitionState, now: UnixMillis) -> Duration {
    let from = |published, due| age_from(partition, published, due);
    let in_hand = state.ledger.entries().find_map(|(_, entry)| match entry {
        Entry::Waiting(pending) | Entry::Reserving(pending) | Entry::InFlight(pending) => {
            Some(from(pending.history.published_at, pending.due))
        }
        Entry::Moving(moving) => Some(from(moving.history.published_at, None)),
        Entry::Listed(_) => None,
    });
    let first_read = state
        .inbox
        .first()
        .map(|a| from(a.history.published_at, a.due));
    in_hand
        .or(first_read)
        .map_or(Duration::ZERO, |at| age(at, now))
}
