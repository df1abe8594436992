//! The engine's state as operators see it, for gauges and pages. Decides nothing.
//! Runs on the runner's task.

use super::Engine;
use super::ledger::Entry;
use super::partition::{PartitionPhase, PartitionState};
use crate::model::overview::{Overview, PartitionOverview, PartitionStatus, TopicOverview};
use crate::model::position::{Partition, Topic};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// The maximum number of tenants that are named as failing, and as limited.
const NAMED_MAX: usize = 50;

impl Engine {
    /// Returns the present state.
    #[must_use]
    pub fn overview(&self, now: UnixMillis) -> Overview {
        let mut overview = Overview {
            in_flight: self.core.attempts.len(),
            in_flight_max: self.core.settings.in_flight_max,
            assigned: self.partitions.len(),
            attempted: self.core.lanes.attempted(now),
            ..Overview::default()
        };
        overview
            .topics
            .insert(Topic::Source, TopicOverview::default());
        for delay in self.core.schedule.ladder() {
            overview
                .topics
                .insert(Topic::Delay(*delay), TopicOverview::default());
        }
        for (partition, state) in &self.partitions {
            let shown = shown(*partition, state, now);
            overview.unfinished += state.ledger.len();
            match shown.state {
                PartitionStatus::Adopting => overview.adopting += 1,
                PartitionStatus::Stopped(why) => overview.stopped.push((*partition, why)),
                PartitionStatus::Running | PartitionStatus::Leaving => {}
            }
            if let Some((why, span)) = state.stalled() {
                overview.stalled.push((*partition, why, span));
            }
            let topic = overview.topics.entry(partition.topic).or_default();
            topic.lag += shown.lag;
            topic.oldest_unfinished_age =
                topic.oldest_unfinished_age.max(shown.oldest_unfinished_age);
            topic.next_due = topic.next_due.into_iter().chain(next_due(state)).min();
            overview.partitions.push(shown);
        }
        (overview.tenants_failing, overview.failing) = self.core.failing.worst(NAMED_MAX, now);
        overview.limited = self.core.lanes.limited();
        overview.tenants_limited = overview.limited.len();
        overview.limited.truncate(NAMED_MAX);
        let idle = overview
            .topics
            .values()
            .all(|t| t.oldest_unfinished_age == Duration::ZERO);
        overview.last_progress = if idle { now } else { self.core.last_progress };
        overview
    }
}

fn shown(partition: Partition, state: &PartitionState, now: UnixMillis) -> PartitionOverview {
    PartitionOverview {
        partition,
        state: match state.phase {
            PartitionPhase::Adopting => PartitionStatus::Adopting,
            PartitionPhase::Running => PartitionStatus::Running,
            PartitionPhase::Leaving | PartitionPhase::Lost => PartitionStatus::Leaving,
            PartitionPhase::Stopped(why) => PartitionStatus::Stopped(why),
        },
        base: state.ledger.base(),
        next: state.ledger.end(),
        log_end: state.log_end,
        lag: lag(state),
        oldest_unfinished_age: oldest_age(partition, state, now),
    }
}

/// Returns when the first record in the inbox is due, in a delay topic. All records
/// behind it are due later.
fn next_due(state: &PartitionState) -> Option<UnixMillis> {
    state.inbox.front().and_then(|read| read.due)
}

/// Returns the number of unfinished and unread records.
fn lag(state: &PartitionState) -> u64 {
    let unread = (state.log_end.0 - state.ledger.end().0).max(0);
    state.ledger.len() as u64 + unread.unsigned_abs()
}

/// Returns the age of the first record in hand: since its publication, in a delay
/// topic since it was due.
fn oldest_age(partition: Partition, state: &PartitionState, now: UnixMillis) -> Duration {
    let from = |published: UnixMillis, due: Option<UnixMillis>| match partition.topic {
        Topic::Delay(_) => due.unwrap_or(published),
        Topic::Source | Topic::DeadLetter => published,
    };
    let in_hand = state.ledger.entries().find_map(|(_, entry)| match entry {
        Entry::Waiting(pending) | Entry::Reserving(pending) | Entry::InFlight(pending) => {
            Some(from(pending.history.published_at, pending.due))
        }
        Entry::Moving(moving) => Some(from(moving.history.published_at, None)),
        Entry::Listed(_) => None,
    });
    let first_read = state
        .inbox
        .front()
        .map(|a| from(a.history.published_at, a.due));
    in_hand
        .or(first_read)
        .map_or(Duration::ZERO, |at| now.since(at))
}
