//! Partitions come and go: assignment and adoption of what the last owner
//! left, revocation, re-adoption after an unclear outcome, drain.

use super::event::Action;
use super::fairness::RampUp;
use super::ledger::{Entry, Ledger};
use super::offsets::{self, Began, Unusable};
use super::owned::{Delivered, Owned, Phase};
use super::{Engine, Known};
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::message::{CommittedState, KafkaRequest, LogBounds, Revocation};
use crate::model::position::{Generation, NextOffset, Offset, Partition, Position};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// What is in flight may end within this time of a revocation; the group waits.
const REVOKE_WAIT: Duration = Duration::from_secs(2);
/// The last snapshot must be written within this time more.
const REVOKE_WRITE: Duration = Duration::from_secs(1);
/// A drain keeps this much of its time for the last writes and for leaving.
const DRAIN_RESERVE: Duration = Duration::from_millis(1_500);
const STOP_RESERVE: Duration = Duration::from_millis(700);

/// For so long at least a group stood empty whose offsets Kafka has dropped.
///
/// Source: Kafka's `offsets.retention.minutes`, 7 days by default; README asks
/// for a day at least.
const UNCOMMITTED: Duration = Duration::from_secs(60 * 60);

const BEYOND_END: &str = "the committed offset lies beyond the log's end";

/// Partitions on their way out.
pub struct Revoking {
    generation: Generation,
    partitions: Vec<Partition>,
    how: Revocation,
    /// The next moment at which waiting for something ends.
    pub deadline: UnixMillis,
    in_flight_until: UnixMillis,
}

/// An orderly end under way.
pub struct Drain {
    in_flight_until: UnixMillis,
    stop_by: UnixMillis,
    stopped: bool,
}

impl Drain {
    /// When to look again.
    pub fn next_step(&self) -> UnixMillis {
        self.in_flight_until.min(self.stop_by)
    }
}

impl Engine {
    pub(super) fn on_assigned(&mut self, generation: Generation, partitions: Vec<Partition>) {
        self.generation = generation;
        self.readopting = false;
        self.writes.resume();
        self.report(Fact::Assigned {
            partitions: partitions.len(),
        });
        for partition in partitions {
            let mut owned = Owned::adopting(generation);
            if self.drain.is_some() {
                owned.phase = Phase::Leaving;
            }
            self.drop_owned(partition);
            self.partitions.insert(partition, owned);
        }
    }

    pub(super) fn on_found(
        &mut self,
        generation: Generation,
        partition: Partition,
        found: CommittedState,
    ) {
        let began = Began {
            at: self.began_at(partition, &found),
            end: found.log_end,
        };
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return;
        };
        if owned.generation != generation || owned.phase != Phase::Adopting {
            return;
        }
        owned.progress();
        owned.topic_id = found.topic_id.clone();
        owned.log_end = found.log_end;
        let Committed {
            base,
            map,
            rejected,
        } = read_committed(&found);
        if base > found.log_end {
            owned.phase = Phase::Stopped(BEYOND_END);
            owned.ledger = Ledger::at(base);
            self.report(Fact::PartitionStopped {
                partition,
                why: BEYOND_END,
            });
            return;
        }
        owned.had_map = map.is_some();
        owned.ledger = match map {
            Some(map) => {
                owned.began = map.began;
                Ledger::adopted(map)
            }
            None => {
                owned.began = began;
                owned.write_now = true;
                Ledger::at(base)
            }
        };
        if let Some(why) = rejected {
            self.report(Fact::MetadataRejected { partition, why });
        }
        self.begin_to_read(partition, found.log_start);
    }

    /// An adopted partition goes to work: few attempts after a crash, what the log
    /// has lost, and where reading begins.
    fn begin_to_read(&mut self, partition: Partition, log_start: NextOffset) {
        let now = self.now;
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("adopted just now");
        // What this process reserved itself tells of no crash.
        let strange = |offset: Offset| {
            let position = Position { partition, offset };
            !self.known.contains_key(&position) && !self.attempts.contains_key(&position)
        };
        let unclean = owned.ledger.entries().any(|(offset, entry)| {
            matches!(entry, Entry::Listed(offsets::Mark::Reserved)) && strange(offset)
        });
        owned.ramp_up = unclean.then(|| RampUp::new(now));
        let (unfinished, in_doubt) = (owned.ledger.len(), owned.ledger.reserved());
        let lost = pass_lost(owned, log_start);
        let from = owned.ledger.base().max(log_start);
        let generation = owned.generation;
        owned.expected = from;
        owned.phase = Phase::Running;
        if lost > 0 {
            owned.touch(now);
            self.report(Fact::RecordsLost {
                partition,
                offsets: lost,
            });
        }
        self.report(Fact::Adopted {
            partition,
            unfinished,
            in_doubt,
        });
        self.request(KafkaRequest::StartFetch {
            generation,
            partition,
            from,
        });
    }

    /// Since when a partition without a valid map cannot have been sent from
    /// without one. The first commit of a partition goes before all that is
    /// sent from it, so where nothing is committed there was either nothing
    /// sent, as in a new group, in which others may move records here long
    /// before somebody owns this partition; or the group stood empty until
    /// Kafka dropped its offsets, and sent nothing for [`UNCOMMITTED`]. A topic
    /// may also be given more partitions: those of it that are ours and have
    /// maps, all of a lower number, tell since when the group commits.
    fn began_at(&self, partition: Partition, found: &CommittedState) -> UnixMillis {
        if found.committed.is_some() {
            return self.now;
        }
        let recent = self.now.minus(UNCOMMITTED);
        let mapped = self.partitions.iter().filter(|(other, owned)| {
            other.topic == partition.topic && owned.had_map && **other != partition
        });
        let lower = |other: &Partition| other.number < partition.number;
        if !mapped.clone().all(|(other, _)| lower(other)) {
            return recent;
        }
        let began = mapped.map(|(_, owned)| owned.began.at).min();
        began.map_or(recent, |began| began.min(recent))
    }

    pub(super) fn on_revoked(
        &mut self,
        generation: Generation,
        partitions: Vec<Partition>,
        how: Revocation,
    ) {
        self.generation = generation;
        self.writes.resume();
        self.report(Fact::Revoked {
            partitions: partitions.len(),
        });
        self.failing.forget(&partitions);
        for partition in &partitions {
            let phase = match how {
                Revocation::Requested => Phase::Leaving,
                Revocation::Lost => Phase::Lost,
            };
            self.begin_leaving(*partition, phase);
        }
        let wait = match how {
            Revocation::Requested => REVOKE_WAIT,
            Revocation::Lost => Duration::ZERO,
        };
        let in_flight_until = self.now.plus(wait);
        self.revoking.push(Revoking {
            generation,
            partitions,
            how,
            deadline: in_flight_until,
            in_flight_until,
        });
    }

    /// Nothing new starts from this partition; what was not sent is let go.
    fn begin_leaving(&mut self, partition: Partition, phase: Phase) {
        self.lanes.remove_partition(partition);
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return;
        };
        if owned.phase != Phase::Lost {
            owned.phase = phase;
        }
        owned.inbox.clear();
        owned.credit = 0;
        owned.head_due = None;
        let in_write = owned.in_write.as_ref().map_or(&[][..], |w| &w.moving);
        owned.ledger.let_go(in_write);
        let ledger = &mut owned.ledger;
        owned
            .moves
            .retain(|offset| matches!(ledger.entry(*offset), Some(Entry::Moving(_))));
    }

    /// Gives back what is ready to be given back.
    pub(super) fn finish_revocations(&mut self) {
        let mut revoking = std::mem::take(&mut self.revoking);
        revoking.retain_mut(|leaving| {
            let waits = leaving
                .partitions
                .iter()
                .any(|p| self.must_wait(*p, leaving));
            if waits {
                let past = self.now >= leaving.in_flight_until;
                let last = leaving.in_flight_until.plus(REVOKE_WRITE);
                leaving.deadline = if past { last } else { leaving.in_flight_until };
                return true;
            }
            for partition in &leaving.partitions {
                self.drop_owned(*partition);
            }
            let (generation, partitions) =
                (leaving.generation, std::mem::take(&mut leaving.partitions));
            self.request(KafkaRequest::FinishRevoke {
                generation,
                partitions,
            });
            false
        });
        self.revoking = revoking;
    }

    fn must_wait(&mut self, partition: Partition, leaving: &Revoking) -> bool {
        let now = self.now;
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return false;
        };
        if owned.in_write.is_some() {
            return true;
        }
        if leaving.how == Revocation::Lost || now >= leaving.in_flight_until.plus(REVOKE_WRITE) {
            return false;
        }
        if owned.active > 0 && now < leaving.in_flight_until {
            return true;
        }
        if owned.is_clean() {
            return false;
        }
        if !owned.write_now {
            owned.write_now = true;
            self.unsettled = true;
        }
        true
    }

    /// Drops a partition's state; outcomes that it alone knew are remembered.
    fn drop_owned(&mut self, partition: Partition) {
        let Some(owned) = self.partitions.remove(&partition) else {
            return;
        };
        self.lanes.remove_partition(partition);
        let position = |offset: Offset| Position { partition, offset };
        let written = owned.in_write.map(|w| w.delivered).unwrap_or_default();
        for delivered in written.into_iter().chain(owned.delivered) {
            let Delivered {
                offset,
                record,
                ended,
            } = delivered;
            let known = Known {
                record,
                ended,
                disposed: true,
                at: self.now,
            };
            self.remember(position(offset), known);
        }
        for (offset, entry) in owned.ledger.into_entries() {
            match entry {
                Entry::Reserving(held) => {
                    self.lanes.release(held.lane, held.record.size());
                    self.start_slots.release();
                }
                Entry::Moving(moving) => {
                    if let (Some(record), Some(ended)) = (moving.id, moving.ended) {
                        let known = Known {
                            record,
                            ended,
                            disposed: false,
                            at: self.now,
                        };
                        self.remember(position(offset), known);
                    }
                }
                Entry::Listed(_) | Entry::Waiting(_) | Entry::InFlight(_) => {}
            }
        }
    }

    /// What was made anew may fail too, before it was assigned anything: only
    /// what is said before a re-adoption is performed is of the former life.
    pub(super) fn on_kafka_fault(&mut self, reason: ReadoptReason) {
        let is_readopt = |action: &Action| matches!(action, Action::Readopt { .. });
        if !self.actions.iter().any(is_readopt) {
            self.readopting = false;
        }
        self.readopt(reason);
    }

    /// The one way out of every unclear outcome: drop it all and read again
    /// what Kafka knows. Attempts in flight go on.
    pub(super) fn readopt(&mut self, reason: ReadoptReason) {
        if self.readopting {
            return;
        }
        self.readopting = true;
        let partitions: Vec<Partition> = self.partitions.keys().copied().collect();
        for partition in partitions {
            self.drop_owned(partition);
        }
        self.lanes.clear_waiting();
        self.revoking.clear();
        self.writes.abandon();
        self.report(Fact::Readopting { reason });
        self.act(Action::Readopt { reason });
    }

    pub(super) fn on_out_of_range(&mut self, generation: Generation, partition: Partition) {
        let ours = self.partitions.get(&partition);
        if ours.is_some_and(|o| o.generation == generation && o.phase == Phase::Running) {
            self.readopt(ReadoptReason::OffsetOutOfRange);
        }
    }

    pub(super) fn on_log_bounds(&mut self, bounds: &[LogBounds]) {
        let now = self.now;
        for LogBounds { partition, end, .. } in bounds {
            let Some(owned) = self.partitions.get_mut(partition) else {
                continue;
            };
            owned.heard(now);
            owned.log_end = owned.log_end.max(*end);
            if owned.phase == Phase::Stopped(BEYOND_END) && owned.ledger.base() <= *end {
                self.readopt(ReadoptReason::OffsetOutOfRange);
                return;
            }
        }
    }

    pub(super) fn on_drain(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let timeout = self.settings.drain_timeout;
        let keep = |reserve: Duration| timeout.saturating_sub(reserve).max(timeout / 2);
        self.drain = Some(Drain {
            in_flight_until: self.now.plus(keep(DRAIN_RESERVE)),
            stop_by: self.now.plus(keep(STOP_RESERVE)),
            stopped: false,
        });
        self.report(Fact::Draining);
        let partitions: Vec<Partition> = self.partitions.keys().copied().collect();
        for partition in partitions {
            self.begin_leaving(partition, Phase::Leaving);
        }
    }

    /// Stops once everything is written, or when the time is over.
    pub(super) fn finish_drain(&mut self) {
        let now = self.now;
        let Some(drain) = &mut self.drain else {
            return;
        };
        if drain.stopped {
            drain.stop_by = UnixMillis(i64::MAX);
            drain.in_flight_until = UnixMillis(i64::MAX);
            return;
        }
        let wait_for_attempts = now < drain.in_flight_until;
        let over = now >= drain.stop_by || self.readopting;
        if !wait_for_attempts {
            drain.in_flight_until = drain.stop_by;
        }
        let mut settled = true;
        for owned in self.partitions.values_mut() {
            let done = match owned.phase {
                Phase::Stopped(_) => true,
                Phase::Lost => owned.in_write.is_none(),
                _ => owned.is_clean() && (owned.active == 0 || !wait_for_attempts),
            };
            if !done {
                settled = false;
                if owned.active == 0 && owned.dirty_since.is_some() && !owned.write_now {
                    owned.write_now = true;
                    self.unsettled = true;
                }
            }
        }
        if settled || over {
            drain.stopped = true;
            self.act(Action::Stop);
        }
    }
}

/// What was found committed.
struct Committed {
    /// Where to go on, or the log's start.
    base: NextOffset,
    map: Option<offsets::Map>,
    /// Why a text that is there is not a map for this log.
    rejected: Option<&'static str>,
}

fn read_committed(found: &CommittedState) -> Committed {
    let Some((base, text)) = &found.committed else {
        return Committed {
            base: found.log_start,
            map: None,
            rejected: None,
        };
    };
    let (map, why) = match read_map(text, *base, found) {
        Ok(map) => (Some(map), None),
        Err(why) => (None, Some(why)),
    };
    // An offset of a former topic is as foreign to this one as its map: it
    // would pass over records that nobody has seen. A topic begins at 0: what
    // was deleted since then is lost.
    let base = match why {
        Some(Unusable::OtherTopic) => NextOffset(0),
        _ => *base,
    };
    let rejected = why.map(Unusable::why).filter(|_| !text.is_empty());
    Committed {
        base,
        map,
        rejected,
    }
}

/// What the committed map says, unless it cannot be meant for this log.
fn read_map(
    text: &str,
    base: NextOffset,
    found: &CommittedState,
) -> Result<offsets::Map, Unusable> {
    let map = offsets::decode(text, base, found.topic_id.as_ref())?;
    if map.end > found.log_end {
        return Err(Unusable::Unreadable("reaches beyond the log's end"));
    }
    Ok(map)
}

/// Gives up what is no longer in the log; returns how many offsets.
fn pass_lost(owned: &mut Owned, log_start: NextOffset) -> u64 {
    let listed = owned.ledger.forget_listed_before(Offset(log_start.0));
    let untouched = (log_start.0 - owned.ledger.end().0).max(0);
    owned.ledger.reached(log_start);
    listed + untouched.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{EngineSettings, Event};
    use crate::model::message::{KafkaEvent, SessionId};
    use crate::model::position::TopicNames;

    #[test]
    fn a_consumer_that_fails_before_its_first_assignment_is_made_anew_too() {
        let mut engine = Engine::new(EngineSettings {
            topics: TopicNames::new("call-ended"),
            attempts: 10,
            delays: vec!["10s".parse().expect("valid delay")],
            in_flight_max: 1,
            commit_interval: Duration::ZERO,
            record_bytes_max: 1,
            drain_timeout: Duration::from_secs(1),
        });
        let fault = || Event::Kafka {
            session: SessionId(1),
            event: KafkaEvent::ConsumerFault { why: String::new() },
        };
        for _ in 0..2 {
            engine.handle(UnixMillis(1), fault());
            // Of the same life, before the runner has done what the first asks for.
            engine.handle(UnixMillis(1), fault());
            let actions = std::iter::from_fn(|| engine.next_action());
            let readopts = actions.filter(|action| matches!(action, Action::Readopt { .. }));
            assert_eq!(readopts.count(), 1);
        }
    }
}
