//! Assignment: adopts the committed state that the last owner left, and
//! re-adopts everything after an unclear outcome. Never writes. Runs on the
//! runner's thread.

use super::event::Action;
use super::fairness::RampUp;
use super::ledger::{Entry, Ledger};
use super::map::{self, MapsSince, Mark, Unusable};
use super::partition::{PartitionPhase, PartitionState};
use super::{Core, Engine};
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::message::{CommittedState, ConsumerRequest, KafkaRequest, LogBounds};
use crate::model::position::{Generation, NextOffset, Offset, Partition};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// Kafka drops the offsets of a group only after the group was empty for longer.
///
/// Source: Kafka's `offsets.retention.minutes`, 7 days by default; README asks
/// for a day at least.
const UNCOMMITTED: Duration = Duration::from_secs(60 * 60);

const BEYOND_END: &str = "the committed offset lies beyond the log's end";

impl Engine {
    pub(super) fn on_assigned(&mut self, generation: Generation, partitions: Vec<Partition>) {
        let core = &mut self.core;
        core.generation = generation;
        core.writes.resume();
        core.report(Fact::Assigned {
            partitions: partitions.len(),
        });
        for partition in partitions {
            let mut state = PartitionState::adopting(partition, generation);
            if core.drain.is_some() {
                state.phase = PartitionPhase::Leaving;
            }
            if let Some(before) = self.partitions.insert(state) {
                core.drop_partition(before);
            }
        }
    }

    pub(super) fn on_committed_state(
        &mut self,
        generation: Generation,
        partition: Partition,
        found: &CommittedState,
    ) {
        let maps_since = MapsSince {
            at: self.maps_since(partition, found),
            end: found.log_end,
        };
        let (Some(state), core) = self.assigned(partition) else {
            return;
        };
        if state.generation == generation && state.phase == PartitionPhase::Adopting {
            core.adopt(state, found, maps_since);
        }
    }

    /// Returns since when offset maps of this partition exist, if it has no valid
    /// map now. Before that, records may have been sent without one.
    ///
    /// The first commit of a partition precedes every attempt from it. So where no
    /// offset is committed, one of two things is true. Either no attempt was made,
    /// as in a new group: others may move records here long before this partition
    /// has an owner. Or the group was empty until Kafka dropped its offsets, and no
    /// attempt was made for [`UNCOMMITTED`]. A topic may also get more partitions.
    /// Then all partitions with maps have lower numbers. The oldest of their maps
    /// tells since when the group commits.
    fn maps_since(&self, partition: Partition, found: &CommittedState) -> UnixMillis {
        let now = self.core.wall();
        if found.committed.is_some() {
            return now;
        }
        let recent = now.minus(UNCOMMITTED);
        let mapped = self.partitions.all().filter(|other| {
            other.id.topic == partition.topic && other.had_map && other.id != partition
        });
        if !mapped
            .clone()
            .all(|other| other.id.number < partition.number)
        {
            return recent;
        }
        let since = mapped.map(|other| other.maps_since.at).min();
        since.map_or(recent, |since| since.min(recent))
    }

    pub(super) fn on_out_of_range(&mut self, generation: Generation, partition: Partition) {
        if self.running(partition, generation).is_some() {
            self.readopt(ReadoptReason::OffsetOutOfRange);
        }
    }

    pub(super) fn on_log_bounds(&mut self, bounds: &[LogBounds]) {
        for found in bounds {
            let LogBounds { partition, end, .. } = found;
            let Some(state) = self.partitions.note_mut(*partition) else {
                continue;
            };
            state.bounds_reported(self.core.now);
            self.core.note_open_transaction(state, found);
            state.log_end = state.log_end.max(*end);
            let beyond_end = state.phase == PartitionPhase::Stopped(BEYOND_END);
            if beyond_end && state.ledger.base() <= *end {
                self.readopt(ReadoptReason::OffsetOutOfRange);
                return;
            }
        }
    }

    /// Starts a new session with the new settings. A drain ends the session anyway.
    pub(super) fn on_kafka_settings_changed(&mut self) {
        if self.core.drain.is_none() {
            self.readopt(ReadoptReason::SettingsChanged);
        }
    }

    /// Handles every unclear outcome: drops all partitions and reads the committed
    /// state again in a new session. Attempts in flight continue.
    pub(super) fn readopt(&mut self, reason: ReadoptReason) {
        let core = &mut self.core;
        if !core.supervisor.is_running() {
            return;
        }
        core.supervisor.drop_session();
        core.readiness.session_dropped();
        for state in self.partitions.take_all() {
            core.drop_partition(state);
        }
        core.lanes.clear_waiting();
        core.handovers.clear();
        core.writes.abandon();
        core.report(Fact::Readopting { reason });
        core.act(Action::DropSession);
    }
}

impl Core {
    fn adopt(&mut self, state: &mut PartitionState, found: &CommittedState, maps_since: MapsSince) {
        let partition = state.id;
        state.progress();
        state.topic_id = found.topic_id.clone();
        state.log_end = found.log_end;
        let Adopted {
            base,
            map,
            rejected,
        } = read_committed(found);
        // An operator may have set it while a transaction was open in the log.
        if base > found.high_watermark {
            state.phase = PartitionPhase::Stopped(BEYOND_END);
            state.ledger = Ledger::at(base);
            self.report(Fact::PartitionStopped {
                partition,
                why: BEYOND_END,
            });
            return;
        }
        state.had_map = map.is_some();
        state.ledger = match map {
            Some(map) => {
                state.maps_since = map.maps_since;
                Ledger::adopted(map)
            }
            None => {
                state.maps_since = maps_since;
                state.write_now = true;
                Ledger::at(base)
            }
        };
        if let Some(why) = rejected {
            self.report(Fact::MetadataRejected { partition, why });
        }
        if let Some((offset, _)) = found.committed.as_ref().filter(|(_, map)| map.is_empty()) {
            let offset = *offset;
            self.report(Fact::OffsetSet { partition, offset });
        }
        self.start_reading(state, found.log_start);
    }

    /// Starts to read an adopted partition. After an unclean stop of its last owner
    /// attempts ramp up. Records that the log has deleted are counted as lost.
    fn start_reading(&mut self, state: &mut PartitionState, log_start: NextOffset) {
        let (now, partition) = (self.now, state.id);
        // A reservation of this process is no sign of a crash.
        let is_foreign = |offset: Offset| {
            let position = state.id.at(offset);
            !self.remembered.contains_key(&position) && !self.attempts.contains_key(&position)
        };
        let unclean = state.ledger.entries().any(|(offset, entry)| {
            matches!(entry, Entry::Listed(Mark::Reserved)) && is_foreign(offset)
        });
        state.ramp_up = unclean.then(|| RampUp::new(now));
        let (unfinished, in_doubt) = (state.ledger.len(), state.ledger.reserved());
        let lost = pass_deleted(&mut state.ledger, log_start);
        let from = state.ledger.base().max(log_start);
        state.expected = from;
        state.phase = PartitionPhase::Running;
        if lost > 0 {
            state.touch(now);
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
        self.request(KafkaRequest::Consumer(ConsumerRequest::StartFetch {
            generation: state.generation,
            partition,
            from,
        }));
    }
}

/// The committed state of a partition, parsed.
struct Adopted {
    /// Where to continue: the committed offset, or the log's start.
    base: NextOffset,
    map: Option<map::Map>,
    /// Why the committed metadata is not a map for this log.
    rejected: Option<&'static str>,
}

fn read_committed(found: &CommittedState) -> Adopted {
    let Some((base, text)) = &found.committed else {
        return Adopted {
            base: found.log_start,
            map: None,
            rejected: None,
        };
    };
    let (map, why) = match read_map(text, *base, found) {
        Ok(map) => (Some(map), None),
        Err(why) => (None, Some(why)),
    };
    // An offset of an earlier topic of this name is as foreign as its map: it
    // would skip records that were never read. A topic starts at 0: records
    // deleted since then are lost.
    let base = match why {
        Some(Unusable::OtherTopic) => NextOffset(0),
        _ => *base,
    };
    let rejected = why.map(Unusable::why).filter(|_| !text.is_empty());
    Adopted {
        base,
        map,
        rejected,
    }
}

/// Decodes the committed map, if it can be meant for this log.
fn read_map(text: &str, base: NextOffset, found: &CommittedState) -> Result<map::Map, Unusable> {
    let map = map::decode(text, base, found.topic_id.as_ref())?;
    if map.end > found.high_watermark {
        return Err(Unusable::Unreadable("reaches beyond the log's end"));
    }
    Ok(map)
}

/// Passes offsets that were deleted from the log; returns how many.
fn pass_deleted(ledger: &mut Ledger, log_start: NextOffset) -> u64 {
    let listed = ledger.forget_listed_before(Offset(log_start.0));
    let untouched = (log_start.0 - ledger.end().0).max(0);
    ledger.reached(log_start);
    listed + untouched.unsigned_abs()
}
