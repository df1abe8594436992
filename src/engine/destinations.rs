//! Destinations that refuse records. Their records are held back, so that all other
//! moves go on. A probe, a transaction of one record, finds out whether the
//! destination accepts records again. Pure. Runs on the runner's thread.
//!
//! | state | records for it | probe |
//! |---|---|---|
//! | accepts | move as usual | none |
//! | suspected: it may have refused an aborted transaction | are held | at once |
//! | refuses | are held | after a backoff of 1 s that doubles up to 30 s |
//! | its settings lose records | are held | none: it would lose the probe's record |
//!
//! Bounds (L5, L10): a held record stays unfinished, so the ledger bounds the held
//! records of a partition to [`UNFINISHED_MAX`]. Until then, all other records of the
//! partition go on. Beyond it the partition reads no further: its map cannot name
//! more offsets. A probe holds one partition for one transaction. It reserves
//! nothing, so that a refusal delays no attempt. The shell starts no transaction where
//! the brokers' metadata already say that the topic can take no record.
//!
//! [`UNFINISHED_MAX`]: super::ledger::UNFINISHED_MAX

use super::ledger::Entry;
use super::partition::PartitionState;
use super::{Core, Engine};
use crate::model::destination::{RefusalReason, Refusals};
use crate::model::fact::Fact;
use crate::model::overview::RefusedDestination;
use crate::model::position::{Offset, Partition, Topic};
use crate::model::record::MovedRecord;
use crate::model::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The time before the first probe.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A destination that accepted records for this long begins with the shortest
/// backoff again.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// A destination that no record needs is no longer shown after this time.
const SHOWN_FOR: Duration = Duration::from_secs(300);

/// The destinations that refuse records, or did so once.
#[derive(Default)]
pub struct Destinations {
    by_topic: BTreeMap<Topic, Destination>,
}

struct Destination {
    state: State,
    /// The next backoff.
    backoff: Duration,
    /// When the next probe is due, while records are held.
    probe_at: UnixMillis,
    /// The last refusal or suspicion.
    refused_at: UnixMillis,
    /// The partition of the last probe. The next probe takes another one, so that no
    /// partition is in every probe.
    probed: Option<Partition>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Accepts {
        since: UnixMillis,
    },
    Suspected,
    Refuses {
        reason: RefusalReason,
        since: UnixMillis,
    },
}

impl Destination {
    fn accepts(&self) -> bool {
        matches!(self.state, State::Accepts { .. })
    }

    /// Whether its settings lose records, as they were read last.
    fn loses(&self) -> bool {
        let State::Refuses { reason, .. } = self.state else {
            return false;
        };
        reason == RefusalReason::Settings
    }

    /// Begins with the shortest backoff again, if records were accepted for long.
    fn reset_backoff(&mut self, now: UnixMillis) {
        if let State::Accepts { since } = self.state
            && now.since(since) >= GOOD_FOR
        {
            self.backoff = BACKOFF_MIN;
        }
    }
}

impl Destinations {
    /// Whether records may be moved to this topic with others.
    pub fn accepts(&self, topic: Topic) -> bool {
        let destination = self.by_topic.get(&topic);
        destination.is_none_or(Destination::accepts)
    }

    /// Returns the destination. A new one accepts records.
    fn entry(&mut self, topic: Topic, now: UnixMillis) -> &mut Destination {
        let new = || Destination {
            state: State::Accepts {
                since: UnixMillis(0),
            },
            backoff: BACKOFF_MIN,
            probe_at: now,
            refused_at: now,
            probed: None,
        };
        self.by_topic.entry(topic).or_insert_with(new)
    }

    /// Notes that a topic may have refused records.
    fn suspect(&mut self, topic: Topic, now: UnixMillis) {
        let destination = self.entry(topic, now);
        if destination.accepts() {
            destination.reset_backoff(now);
            destination.state = State::Suspected;
            destination.probe_at = now;
            destination.refused_at = now;
        }
    }

    /// Notes that a topic refused records. Returns whether this or the reason is new.
    fn refuse(&mut self, topic: Topic, reason: RefusalReason, now: UnixMillis) -> bool {
        let destination = self.entry(topic, now);
        if destination.loses() {
            return false;
        }
        destination.reset_backoff(now);
        let (since, before) = match destination.state {
            State::Refuses { since, reason } => (since, Some(reason)),
            State::Accepts { .. } | State::Suspected => (now, None),
        };
        destination.state = State::Refuses { reason, since };
        destination.refused_at = now;
        destination.probe_at = now.plus(destination.backoff);
        destination.backoff = (destination.backoff * 2).min(BACKOFF_MAX);
        before != Some(reason)
    }

    /// Notes that a topic accepted a record, or that its settings are right again.
    /// Returns whether it refused before.
    fn accept(&mut self, topic: Topic, now: UnixMillis) -> bool {
        let destination = self.entry(topic, now);
        let refused = matches!(destination.state, State::Refuses { .. });
        destination.state = State::Accepts { since: now };
        refused
    }

    /// Probes a topic at this time: its last probe told nothing about it.
    fn set_next_probe(&mut self, topic: Topic, at: UnixMillis) {
        if let Some(destination) = self.by_topic.get_mut(&topic) {
            destination.probe_at = at;
        }
    }

    /// Returns the topics whose settings lose records.
    fn losing(&self) -> impl Iterator<Item = Topic> {
        let losing = self.by_topic.iter().filter(|(_, d)| d.loses());
        losing.map(|(topic, _)| *topic)
    }

    /// Returns the topics to probe, each with the time of its next probe.
    fn probes(&self) -> impl Iterator<Item = (Topic, UnixMillis)> {
        let all = self.by_topic.iter();
        let probed = all.filter(|(_, destination)| !destination.accepts() && !destination.loses());
        probed.map(|(topic, destination)| (*topic, destination.probe_at))
    }
}

impl PartitionState {
    /// Takes the queued moves to this topic out of the queue, into `held`.
    fn hold(&mut self, topic: Topic) {
        for offset in std::mem::take(&mut self.moves) {
            match self.ledger.entry(offset) {
                Some(entry) if entry.moves_to() == Some(topic) => {
                    self.moves_bytes = self.moves_bytes.saturating_sub(entry.moving_bytes());
                    self.held.entry(topic).or_default().push_back(offset);
                }
                _ => self.moves.push_back(offset),
            }
        }
        self.moves_taken();
    }

    /// Queues the held moves to this topic.
    fn release(&mut self, topic: Topic, now: UnixMillis) {
        let queue = self.held.remove(&topic).unwrap_or_default();
        for offset in queue.into_iter().rev() {
            self.requeue_move(offset, now);
        }
    }

    /// Forgets queued and held moves of records that do not move any more.
    pub fn retain_moves(&mut self) {
        let ledger = &mut self.ledger;
        let mut moves = |offset: &Offset| matches!(ledger.entry(*offset), Some(Entry::Moving(_)));
        self.moves.retain(&mut moves);
        self.held.retain(|_, queue| {
            queue.retain(&mut moves);
            !queue.is_empty()
        });
        self.moves_taken();
    }
}

impl Engine {
    /// Takes the next probe that is due into a write and returns its record.
    pub(super) fn take_probe(&mut self) -> Option<MovedRecord> {
        let Self { partitions, core } = self;
        let now = core.now;
        let due = core.destinations.probes().filter(|(_, at)| *at <= now);
        for (topic, _) in due.collect::<Vec<_>>() {
            let destination = core.destinations.entry(topic, now);
            let holds =
                |state: &&mut PartitionState| state.may_write() && state.held.contains_key(&topic);
            let mut holding: Vec<_> = partitions.active_mut().filter(holds).collect();
            if holding.is_empty() {
                continue;
            }
            // The first partition after the one that was probed last, or the first of all.
            let is_next = |id: Partition| destination.probed.is_none_or(|last| id > last);
            let next = holding.iter().position(|state| is_next(state.id));
            let state = holding.swap_remove(next.unwrap_or(0));
            let queue = state.held.entry(topic).or_default();
            let offset = queue.pop_front();
            if queue.is_empty() {
                state.held.remove(&topic);
            }
            if let Some(offset) = offset {
                destination.probed = Some(state.id);
                return Some(state.start_move(offset).0);
            }
        }
        None
    }

    /// Returns when the next probe is due.
    pub(super) fn next_probe(&self) -> Option<UnixMillis> {
        let is_needed = |topic: Topic| {
            let mut states = self.partitions.active();
            states.any(|state| state.may_write() && state.held.contains_key(&topic))
        };
        let probes = self.core.destinations.probes();
        let needed = probes.filter(|(topic, _)| is_needed(*topic));
        needed.map(|(_, at)| at).min()
    }

    /// Acts on a transaction that destinations refused.
    pub(super) fn on_refusals(&mut self, refusals: &Refusals) {
        for (topic, reason) in &refusals.refused {
            self.on_refused(*topic, *reason);
        }
        for topic in &refusals.suspected {
            let core = &mut self.core;
            core.destinations.suspect(*topic, core.now);
            self.hold(*topic);
        }
    }

    pub(super) fn on_refused(&mut self, topic: Topic, reason: RefusalReason) {
        let core = &mut self.core;
        if core.destinations.refuse(topic, reason, core.now) {
            core.report(Fact::DestinationRefused { topic, reason });
        }
        self.hold(topic);
    }

    /// A probe told nothing about its topic: another one follows at this time.
    pub(super) fn probe_again(&mut self, topic: Topic, at: UnixMillis) {
        self.core.destinations.set_next_probe(topic, at);
        self.hold(topic);
    }

    /// Holds all queued moves to this topic.
    pub(super) fn hold(&mut self, topic: Topic) {
        for state in self.partitions.active_mut() {
            state.hold(topic);
        }
    }

    /// Acts on the settings of topics, as they were just read.
    pub(super) fn on_topic_settings(&mut self, losing: &BTreeSet<Topic>) {
        let before: BTreeSet<Topic> = self.core.destinations.losing().collect();
        for topic in losing.difference(&before) {
            self.on_refused(*topic, RefusalReason::Settings);
        }
        for topic in before.difference(losing) {
            self.on_accepted(*topic);
        }
    }

    /// A probe was written: its topic accepts records, unless its settings lose them.
    pub(super) fn on_probe_accepted(&mut self, topic: Topic) {
        if !self.core.destinations.losing().any(|t| t == topic) {
            self.on_accepted(topic);
        }
    }

    /// A topic accepts records.
    fn on_accepted(&mut self, topic: Topic) {
        let Self { partitions, core } = self;
        if core.destinations.accept(topic, core.now) {
            core.report(Fact::DestinationAccepted { topic });
        }
        for state in partitions.active_mut() {
            state.release(topic, core.now);
        }
    }

    /// Returns the destinations that refuse records now, with times of the wall clock.
    pub(super) fn refused_destinations(&self, wall: UnixMillis) -> Vec<RefusedDestination> {
        let now = self.core.now;
        let count_held = |topic: &Topic| {
            let states = self.partitions.active();
            let counts = states.filter_map(|state| state.held.get(topic).map(VecDeque::len));
            counts.sum::<usize>()
        };
        let shown = self.core.destinations.by_topic.iter();
        let shown = shown.filter_map(|(topic, destination)| {
            let State::Refuses { reason, since } = destination.state else {
                return None;
            };
            let waiting = count_held(topic);
            let is_needless = waiting == 0 && !destination.loses();
            let is_old = is_needless && now.since(destination.refused_at) >= SHOWN_FOR;
            (!is_old).then_some(RefusedDestination {
                topic: *topic,
                reason,
                since: wall.minus(now.since(since)),
                waiting,
            })
        });
        shown.collect()
    }
}

impl Core {
    /// Whether a record that is to be moved there must be held.
    pub(super) fn must_hold(&self, topic: Topic) -> bool {
        !self.destinations.accepts(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: RefusalReason = RefusalReason::NotAuthorized;

    fn probe_after(destinations: &Destinations, now: UnixMillis) -> Duration {
        let mut probes = destinations.probes();
        probes.next().expect("a topic to probe").1.since(now)
    }

    #[test]
    fn the_backoff_doubles_and_starts_again_after_a_good_minute_also_if_it_was_suspected_first() {
        for suspected in [false, true] {
            let mut destinations = Destinations::default();
            let mut now = UnixMillis(1_000_000);
            for seconds in [1, 2, 4, 8, 16, 30, 30] {
                destinations.refuse(Topic::DeadLetter, DENIED, now);
                assert_eq!(
                    probe_after(&destinations, now),
                    Duration::from_secs(seconds)
                );
            }
            for (good, seconds) in [(GOOD_FOR / 2, 30), (GOOD_FOR, 1)] {
                destinations.accept(Topic::DeadLetter, now);
                now = now.plus(good);
                if suspected {
                    destinations.suspect(Topic::DeadLetter, now);
                    assert_eq!(probe_after(&destinations, now), Duration::ZERO);
                }
                destinations.refuse(Topic::DeadLetter, DENIED, now);
                assert_eq!(
                    probe_after(&destinations, now),
                    Duration::from_secs(seconds)
                );
            }
        }
    }
}
