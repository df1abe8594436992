//! Handover: gives revoked partitions back once their last snapshot is written,
//! and drains all partitions before the process ends. Keeps a partition beyond its
//! deadline only while a write for it is outstanding. Runs on the runner's thread.

use super::ledger::Entry;
use super::partition::{PartitionPhase, PartitionState};
use super::{Core, Engine, Partitions};
use crate::model::disposition::Disposition;
use crate::model::fact::Fact;
use crate::model::message::{ConsumerRequest, KafkaRequest, Revocation};
use crate::model::overview::ServiceState;
use crate::model::position::{Generation, Partition};
use crate::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

/// A requested handover waits this long for attempts in flight. The whole group
/// waits too.
const REVOKE_WAIT: Duration = Duration::from_secs(2);
/// The last snapshot must be written within this time after that.
const REVOKE_WRITE: Duration = Duration::from_secs(1);
/// A drain stops waiting for attempts this long before its limit.
const DRAIN_RESERVE: Duration = Duration::from_millis(1_500);
/// A drain stops writing this long before its limit, and leaves the group.
const STOP_RESERVE: Duration = Duration::from_millis(700);

/// Revoked partitions whose revocation is not finished yet.
pub struct Handover {
    generation: Generation,
    partitions: BTreeSet<Partition>,
    how: Revocation,
    /// When the present wait ends.
    pub deadline: UnixMillis,
    /// Until then attempts in flight may end.
    in_flight_until: UnixMillis,
}

/// A drain in progress.
pub struct Drain {
    attempts: DrainAttempts,
    /// Then nothing more is written.
    stop_by: UnixMillis,
    /// Then the process ends.
    end_by: UnixMillis,
    over: bool,
}

/// Whether a drain still waits for attempts in flight.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DrainAttempts {
    AwaitedUntil(UnixMillis),
    NoLongerAwaited,
}

impl Drain {
    /// Whether the drain has ended: nothing more is written or started.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Returns when the drain continues without an event.
    pub fn next_step(&self) -> Option<UnixMillis> {
        let step = match self.attempts {
            DrainAttempts::AwaitedUntil(at) => at.min(self.stop_by),
            DrainAttempts::NoLongerAwaited => self.stop_by,
        };
        (!self.over).then_some(step)
    }
}

impl Engine {
    pub(super) fn on_revoked(
        &mut self,
        generation: Generation,
        partitions: Vec<Partition>,
        how: Revocation,
    ) {
        let core = &mut self.core;
        core.generation = generation;
        core.writes.resume();
        core.report(Fact::Revoked {
            partitions: partitions.len(),
        });
        core.failing.forget(&partitions);
        let (phase, wait) = match how {
            Revocation::Requested => (PartitionPhase::Leaving, REVOKE_WAIT),
            Revocation::Lost => (PartitionPhase::Lost, Duration::ZERO),
        };
        let partitions: BTreeSet<Partition> = partitions.into_iter().collect();
        let revoked = self.partitions.all_mut();
        for state in revoked.filter(|state| partitions.contains(&state.id)) {
            core.start_leaving(state, phase);
        }
        let in_flight_until = core.now.plus(wait);
        core.handovers.push(Handover {
            generation,
            partitions,
            how,
            deadline: in_flight_until,
            in_flight_until,
        });
    }

    /// Gives partitions back that are ready.
    pub(super) fn finish_handovers(&mut self) {
        let mut handovers = std::mem::take(&mut self.core.handovers);
        handovers.retain_mut(|handover| {
            let Self { partitions, core } = self;
            let must_wait = |state| core.must_wait(state, handover);
            if states(partitions, &handover.partitions).any(must_wait) {
                let past = core.now >= handover.in_flight_until;
                let last = handover.in_flight_until.plus(REVOKE_WRITE);
                handover.deadline = if past { last } else { handover.in_flight_until };
                return true;
            }
            for partition in &handover.partitions {
                if let Some(state) = partitions.remove(*partition) {
                    core.drop_partition(state);
                }
            }
            core.request(KafkaRequest::Consumer(ConsumerRequest::FinishRevoke {
                generation: handover.generation,
                partitions: handover.partitions.iter().copied().collect(),
            }));
            false
        });
        self.core.handovers = handovers;
    }

    pub(super) fn on_drain(&mut self) {
        let core = &mut self.core;
        if core.drain.is_some() {
            return;
        }
        let timeout = core.settings.drain_timeout;
        let until = |reserve: Duration| {
            let used = timeout.saturating_sub(reserve).max(timeout / 2);
            core.now.plus(used)
        };
        core.drain = Some(Drain {
            attempts: DrainAttempts::AwaitedUntil(until(DRAIN_RESERVE)),
            stop_by: until(STOP_RESERVE),
            end_by: core.now.plus(timeout),
            over: false,
        });
        core.readiness.state = ServiceState::Draining;
        core.report(Fact::Draining);
        for state in self.partitions.all_mut() {
            core.start_leaving(state, PartitionPhase::Leaving);
        }
    }

    /// Stops once all partitions are written, or when the time is over.
    pub(super) fn finish_drain(&mut self) {
        let Self { partitions, core } = self;
        let Some(drain) = &mut core.drain else {
            return;
        };
        let over = core.now >= drain.stop_by;
        if let DrainAttempts::AwaitedUntil(at) = drain.attempts
            && core.now >= at
        {
            drain.attempts = DrainAttempts::NoLongerAwaited;
        }
        let wait_for_attempts = drain.attempts != DrainAttempts::NoLongerAwaited;
        let mut all_done = true;
        for state in partitions.active_mut() {
            let attempts_done = state.active == 0 || !wait_for_attempts;
            let done = match state.phase {
                PartitionPhase::Stopped(_) => true,
                // Nothing may be written for it; only its last write is awaited.
                PartitionPhase::Lost => state.in_write.is_none(),
                _ => state.is_clean() && attempts_done,
            };
            all_done &= done;
            let unwritten = attempts_done && state.dirty_since.is_some() && !state.write_now;
            if !done && unwritten {
                state.write_now = true;
                core.dirty = true;
            }
        }
        if all_done || over {
            drain.over = true;
            core.supervisor.leave(core.now, drain.end_by);
            self.carry_out_decisions();
        }
    }
}

/// Returns the states of the assigned partitions in `of`. They are active: revoked.
fn states<'a>(
    all: &'a mut Partitions,
    of: &'a BTreeSet<Partition>,
) -> impl Iterator<Item = &'a mut PartitionState> {
    all.active_mut().filter(|state| of.contains(&state.id))
}

impl Core {
    /// Stops all starts from a partition. Records that were not sent are forgotten.
    fn start_leaving(&mut self, state: &mut PartitionState, phase: PartitionPhase) {
        self.lanes.remove_partition(state.id);
        // A lost partition stays lost, also in a drain.
        if state.phase != PartitionPhase::Lost {
            state.phase = phase;
        }
        state.inbox.clear();
        state.head_wait = None;
        let in_write = state.in_write.as_ref().map_or(&[][..], |w| &w.moving);
        state.ledger.forget_unsent(in_write);
        state.retain_moves();
    }

    /// Whether the handover waits for this partition.
    fn must_wait(&mut self, state: &mut PartitionState, handover: &Handover) -> bool {
        // The consumer may give it back only when no write for it is outstanding.
        if state.in_write.is_some() {
            return true;
        }
        let write_by = handover.in_flight_until.plus(REVOKE_WRITE);
        if handover.how == Revocation::Lost || self.now >= write_by {
            return false;
        }
        if state.active > 0 && self.now < handover.in_flight_until {
            return true;
        }
        if state.is_clean() {
            return false;
        }
        if !state.write_now {
            state.write_now = true;
            self.dirty = true;
        }
        true
    }

    /// Drops a partition's state. Outcomes that are not committed are remembered.
    pub(super) fn drop_partition(&mut self, state: PartitionState) {
        let partition = state.id;
        self.lanes.remove_partition(partition);
        let unanswered = state.in_write.map(|w| w.delivered).unwrap_or_default();
        for delivered in unanswered.into_iter().chain(state.delivered) {
            let reported = Some(Disposition::Delivered);
            let (at, record) = (partition.at(delivered.offset), delivered.record);
            self.remember(at, record, delivered.result, reported);
        }
        for (offset, entry) in state.ledger.into_entries() {
            match entry {
                Entry::Reserving(pending) => {
                    self.lanes.release(pending.lane, pending.record.size());
                    self.start_slots.release();
                }
                Entry::Moving(moving) => {
                    if let (Some(record), Some(result)) = (moving.id, moving.result) {
                        self.remember(partition.at(offset), record, result, None);
                    }
                }
                Entry::Listed(_) | Entry::Waiting(_) | Entry::InFlight(_) => {}
            }
        }
    }
}
