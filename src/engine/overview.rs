//! The engine's state as operators see it.

use super::Engine;
use super::ledger::Entry;
use super::owned::{Owned, Phase};
use crate::model::overview::{Overview, PartitionOverview, PartitionStatus, TopicOverview};
use crate::model::position::{Partition, Topic};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// The most tenants that are named as failing, and as limited.
const NAMED_MAX: usize = 50;

impl Engine {
    /// The present state, for gauges and pages.
    #[must_use]
    pub fn overview(&self, now: UnixMillis) -> Overview {
        let mut overview = Overview {
            in_flight: self.attempts.len(),
            in_flight_max: self.settings.in_flight_max,
            assigned: self.partitions.len(),
            attempted: self.lanes.attempted(now),
            ..Overview::default()
        };
        overview
            .topics
            .insert(Topic::Source, TopicOverview::default());
        for delay in self.schedule.ladder() {
            overview
                .topics
                .insert(Topic::Delay(*delay), TopicOverview::default());
        }
        for (partition, owned) in &self.partitions {
            let shown = shown(*partition, owned, now);
            overview.unfinished += owned.ledger.len();
            match shown.state {
                PartitionStatus::Adopting => overview.adopting += 1,
                PartitionStatus::Stopped(why) => overview.stopped.push((*partition, why)),
                PartitionStatus::Running | PartitionStatus::Leaving => {}
            }
            if let Some((why, span)) = owned.stalled() {
                overview.stalled.push((*partition, why, span));
            }
            let topic = overview.topics.entry(partition.topic).or_default();
            topic.lag += shown.lag;
            topic.oldest_unfinished_age =
                topic.oldest_unfinished_age.max(shown.oldest_unfinished_age);
            topic.next_due = topic.next_due.into_iter().chain(next_due(owned)).min();
            overview.partitions.push(shown);
        }
        (overview.tenants_failing, overview.failing) = self.failing.worst(NAMED_MAX, now);
        overview.limited = self.lanes.limited();
        overview.tenants_limited = overview.limited.len();
        overview.limited.truncate(NAMED_MAX);
        let idle = overview
            .topics
            .values()
            .all(|t| t.oldest_unfinished_age == Duration::ZERO);
        overview.last_progress = if idle { now } else { self.last_progress };
        overview
    }
}

fn shown(partition: Partition, owned: &Owned, now: UnixMillis) -> PartitionOverview {
    PartitionOverview {
        partition,
        state: match owned.phase {
            Phase::Adopting => PartitionStatus::Adopting,
            Phase::Running => PartitionStatus::Running,
            Phase::Leaving | Phase::Lost => PartitionStatus::Leaving,
            Phase::Stopped(why) => PartitionStatus::Stopped(why),
        },
        base: owned.ledger.base(),
        next: owned.ledger.end(),
        log_end: owned.log_end,
        lag: lag(owned),
        oldest_unfinished_age: oldest_age(partition, owned, now),
    }
}

/// When the first record of a delay topic that was read and not looked at is
/// due: all behind it are due later.
fn next_due(owned: &Owned) -> Option<UnixMillis> {
    owned.inbox.front().and_then(|arrived| arrived.due)
}

/// Unfinished, and untouched up to the log's end.
fn lag(owned: &Owned) -> u64 {
    let untouched = (owned.log_end.0 - owned.ledger.end().0).max(0);
    owned.ledger.len() as u64 + untouched.unsigned_abs()
}

/// Age of the first record in hand: from publication, in a delay topic from
/// when it was due.
fn oldest_age(partition: Partition, owned: &Owned, now: UnixMillis) -> Duration {
    let from = |published: UnixMillis, due: Option<UnixMillis>| match partition.topic {
        Topic::Delay(_) => due.unwrap_or(published),
        Topic::Source | Topic::DeadLetter => published,
    };
    let in_hand = owned.ledger.entries().find_map(|(_, entry)| match entry {
        Entry::Waiting(held) | Entry::Reserving(held) | Entry::InFlight(held) => {
            Some(from(held.history.published_at, held.due))
        }
        Entry::Moving(moving) => Some(from(moving.history.published_at, None)),
        Entry::Listed(_) => None,
    });
    let unread = owned
        .inbox
        .front()
        .map(|a| from(a.history.published_at, a.due));
    in_hand
        .or(unread)
        .map_or(Duration::ZERO, |at| now.since(at))
}
