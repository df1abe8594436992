//! Snapshots: the offset and map of each partition, written in plain commits and
//! with moves. One commit and one transaction are outstanding at a time, and a
//! partition is in one of them (L2). Otherwise the older write could overwrite the
//! newer one's map. Runs on the runner's thread.
//!
//! Arithmetic: a commit costs the broker some 0.5 ms of CPU whatever it carries.
//! So all partitions share one. The interval between two commits
//! (`commit_interval`, 2 ms) limits them to 500/s.

use super::commit_pace::{CommitPace, MOVE_SLOW};
use super::handover::Drain;
use super::partition::{InWrite, PartitionState};
use super::reservation::Idle;
use super::write_set::WriteSet;
use super::{Core, Engine};
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::message::{CommitRequest, KafkaRequest, METADATA_UNITS_MAX, Snapshot, WriteId};
use crate::model::position::{Partition, Topic};
use crate::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

/// Completions are committed within this time.
const COMPLETION_WAIT: Duration = Duration::from_millis(50);
/// The rebalance that caused a refused commit must show within this time: the
/// session timeout, and some more.
const REBALANCE_WAIT: Duration = Duration::from_secs(12);
/// Partitions are quiesced before a slow transaction from this product on: its time,
/// multiplied by the deliveries and started attempts that it would leave uncommitted.
/// 10 times 300 ms are enough. Below it, the wait of healthy records would cost more
/// than the repeated POSTs that it avoids.
const QUIESCE_FROM: Duration = Duration::from_secs(3);

/// The outstanding writes and the rules of the next ones.
#[derive(Default)]
pub struct Writes {
    last: WriteId,
    pub commit: Option<OutstandingWrite>,
    pub moving: Option<OutstandingWrite>,
    last_commit_at: UnixMillis,
    /// When a commit was refused. Nothing is written until the next rebalance
    /// callback.
    refused_at: Option<UnixMillis>,
    pub move_not_before: UnixMillis,
    pub pace: CommitPace,
    /// The number of records to be moved alone, because one of them is too large.
    pub alone: usize,
    /// No waiting record can be reserved until something changes.
    nothing_to_reserve: bool,
}

/// A write that was sent and not answered.
pub struct OutstandingWrite {
    pub write: WriteId,
    sent_at: UnixMillis,
    /// The records of a transaction.
    pub records: usize,
    metadata_permille: u16,
    /// The destination that a transaction of one record probes.
    pub probe: Option<Topic>,
}

impl Writes {
    /// Forgets all outstanding writes.
    pub fn abandon(&mut self) {
        *self = Self {
            last: self.last,
            ..Self::default()
        };
    }

    /// Continues after a refused commit: a rebalance callback came.
    pub fn resume(&mut self) {
        self.refused_at = None;
        self.move_not_before = UnixMillis(0);
    }

    /// Returns the id of the next write.
    pub fn next_id(&mut self) -> WriteId {
        self.last = WriteId(self.last.0 + 1);
        self.last
    }
}

impl Engine {
    pub(super) fn plan_writes(&mut self) {
        let core = &self.core;
        if let Some(at) = core.writes.refused_at {
            // A refusal without a rebalance is as unclear as no answer.
            if core.now.since(at) >= REBALANCE_WAIT {
                self.readopt(ReadoptReason::CommitUnsure);
            }
            return;
        }
        self.plan_move();
        self.plan_commit();
    }

    fn plan_commit(&mut self) {
        let now = self.core.now;
        self.core.writes.nothing_to_reserve = false;
        if self.core.writes.commit.is_some() || now < self.core.commit_not_before() {
            return;
        }
        // `OVERDUE_WAITS` in `moving` says why overdue partitions are left out.
        let may_move = self.core.may_move();
        let is_free =
            |state: &&PartitionState| state.may_write() && !(may_move && state.is_overdue(now));
        let free = self.partitions.active().filter(is_free);
        let free: BTreeSet<Partition> = free.map(|state| state.id).collect();
        let quiesced = self.quiesced();
        let mut write = WriteSet::default();
        match quiesced.is_empty() {
            true => self.reserve(&mut write, &free, Idle::Included),
            false => self.reserve(&mut write, &(&free - &quiesced), Idle::Included),
        }
        self.core.writes.nothing_to_reserve = true;
        let free = self.partitions.active().filter(|s| free.contains(&s.id));
        // What a quiesced partition does not commit now waits for the transaction.
        let is_urgent = |state: &PartitionState| {
            let wait = match quiesced.contains(&state.id) {
                true => Duration::ZERO,
                false => COMPLETION_WAIT,
            };
            state.write_now || state.dirty_since.is_some_and(|at| now.since(at) >= wait)
        };
        if write.is_empty() && !self.is_full() && !free.clone().any(is_urgent) {
            return;
        }
        let dirty = free.filter(|state| state.write_now || state.dirty_since.is_some());
        let mut dirty: Vec<&PartitionState> = dirty.collect();
        dirty.sort_unstable_by_key(|state| (!state.write_now, state.dirty_since, state.id));
        for state in dirty {
            if write.takes(state.id) {
                write.add(state);
            }
        }
        if write.is_empty() {
            return;
        }
        let (sent, snapshots) = self.start_write(write.partitions(), 0, None);
        let (core, write) = (&mut self.core, sent.write);
        core.writes.last_commit_at = now;
        core.writes.commit = Some(sent);
        core.request(KafkaRequest::Commit(CommitRequest { write, snapshots }));
    }

    /// Returns the partitions that reserve nothing before the next transaction, so
    /// that few of their deliveries are uncommitted while it runs.
    fn quiesced(&self) -> BTreeSet<Partition> {
        let writes = &self.core.writes;
        let gap = writes.moving.is_none() && self.core.now < writes.move_not_before;
        let outstanding = (self.uncommitted() + self.core.start_slots.taken()) as u32;
        let took = writes.pace.move_took;
        if !gap || took < MOVE_SLOW || took * outstanding < QUIESCE_FROM {
            return BTreeSet::new();
        }
        let is_due = |state: &&PartitionState| {
            let due_at = state.move_due_at();
            due_at.is_some_and(|at| at <= writes.move_not_before)
        };
        let due = self.partitions.active().filter(is_due);
        due.map(|state| state.id).collect()
    }

    /// Returns the number of deliveries that are repeated if the process dies now.
    pub(super) fn uncommitted(&self) -> usize {
        let states = self.partitions.active();
        states.map(PartitionState::uncommitted).sum()
    }

    /// Whether so many deliveries are uncommitted that no attempt starts.
    pub(super) fn is_full(&self) -> bool {
        let core = &self.core;
        let max = core
            .writes
            .pace
            .uncommitted_max(core.settings.in_flight_max);
        self.uncommitted() >= max
    }

    /// Takes the snapshots of these partitions into a write that is sent now. Returns
    /// both.
    pub(super) fn start_write(
        &mut self,
        of: &BTreeSet<Partition>,
        records: usize,
        probe: Option<Topic>,
    ) -> (OutstandingWrite, Vec<Snapshot>) {
        let write = self.core.writes.next_id();
        let states = self.partitions.active_mut();
        let states = states.filter(|state| of.contains(&state.id));
        let snapshots: Vec<_> = states.map(|state| state.take_snapshot(write)).collect();
        let lengths = snapshots.iter().map(|snapshot| snapshot.metadata.len());
        let permille = lengths.max().unwrap_or(0) * 1_000 / METADATA_UNITS_MAX;
        let sent = OutstandingWrite {
            write,
            sent_at: self.core.now,
            records,
            metadata_permille: u16::try_from(permille).unwrap_or(1_000),
            probe,
        };
        (sent, snapshots)
    }

    pub(super) fn on_committed(&mut self, write: WriteId, took: Duration) {
        let core = &mut self.core;
        let Some(done) = core.writes.commit.take_if(|o| o.write == write) else {
            return;
        };
        core.writes.pace.committed(took, core.now);
        core.report(Fact::Committed {
            took,
            metadata_permille: done.metadata_permille,
        });
        self.acknowledge(&done);
    }

    /// A write was acknowledged: its moves are finished and its reservations hold.
    pub(super) fn acknowledge(&mut self, done: &OutstandingWrite) {
        let Self { partitions, core } = self;
        for state in partitions.active_mut().filter(|s| s.is_in(done.write)) {
            state.progress();
            // Its deliveries are committed: they are forgotten.
            let written = state.in_write.take().unwrap_or_default();
            for offset in written.moving {
                core.finish_move(state, offset);
            }
            for offset in written.reserving {
                core.on_reserved(state, offset, done.sent_at);
            }
        }
    }

    pub(super) fn on_commit_refused(&mut self, write: WriteId) {
        let core = &mut self.core;
        if core.writes.commit.take_if(|o| o.write == write).is_some() {
            core.writes.refused_at = Some(core.now);
            self.undo(write);
        }
    }

    pub(super) fn on_write_unsure(&mut self, write: WriteId) {
        let writes = &self.core.writes;
        let is = |outstanding: &Option<OutstandingWrite>| {
            outstanding.as_ref().is_some_and(|o| o.write == write)
        };
        // A new session under the same name fences requests that are still on the way.
        if is(&writes.commit) {
            self.readopt(ReadoptReason::CommitUnsure);
        } else if is(&writes.moving) {
            self.readopt(ReadoptReason::MoveUnsure);
        }
    }

    /// A write was refused: restores the state before it. Outcomes that came
    /// meanwhile are kept.
    pub(super) fn undo(&mut self, refused: WriteId) {
        let Self { partitions, core } = self;
        core.report(Fact::WriteRefused);
        for state in partitions.active_mut().filter(|s| s.is_in(refused)) {
            core.undo_in(state);
        }
    }

    /// Returns when the next write may be due, if no event comes before.
    pub(super) fn next_write(&self) -> Option<UnixMillis> {
        let core = &self.core;
        if core.drain.as_ref().is_some_and(Drain::is_over) {
            return None;
        }
        if let Some(at) = core.writes.refused_at {
            return Some(at.plus(REBALANCE_WAIT));
        }
        let soon = UnixMillis(core.now.0 + 1);
        let free = self.partitions.active().filter(|state| state.may_write());
        let mut next: Option<UnixMillis> = None;
        if core.writes.commit.is_none() {
            next = self.commit_due_at();
        }
        if core.writes.moving.is_none() && !self.is_overdue_in_commit() {
            let moves = free.filter_map(PartitionState::move_due_at);
            let moves = moves.chain(self.next_probe());
            let moves = moves.map(|at| at.max(core.writes.move_not_before));
            next = next.into_iter().chain(moves.min()).min();
        }
        next.map(|at| at.max(soon))
    }

    fn commit_due_at(&self) -> Option<UnixMillis> {
        let core = &self.core;
        let not_before = core.commit_not_before();
        let has_turns = core.lanes.has_turns();
        let mut next: Option<UnixMillis> = None;
        let mut consider = |at: UnixMillis| next = Some(next.map_or(at, |n| n.min(at)));
        if has_turns && !core.writes.nothing_to_reserve && core.drain.is_none() {
            consider(not_before);
        }
        if let Some(at) = core.lanes.next_pause_end() {
            consider(at);
        }
        let expiry = core.start_slots.next_expiry(core.now);
        if let Some(at) = expiry.filter(|_| has_turns) {
            consider(at.max(not_before));
        }
        let full = self.is_full();
        for state in self.partitions.active().filter(|state| state.may_write()) {
            if let Some(ramp_up) = state.ramp_up.as_ref().filter(|_| has_turns) {
                consider(ramp_up.next(core.now).max(not_before));
            }
            if state.write_now || (full && state.dirty_since.is_some()) {
                consider(not_before);
            } else if let Some(at) = state.dirty_since {
                consider(not_before.max(at.plus(COMPLETION_WAIT)));
            }
        }
        next
    }
}

impl Core {
    /// Returns the earliest time of the next commit.
    fn commit_not_before(&self) -> UnixMillis {
        let last = self.writes.last_commit_at;
        last.plus(self.settings.commit_interval)
    }

    fn undo_in(&mut self, state: &mut PartitionState) {
        let InWrite {
            mut delivered,
            moving,
            reserving,
            ..
        } = state.in_write.take().unwrap_or_default();
        delivered.append(&mut state.delivered);
        state.delivered = delivered;
        state.touch(self.now);
        for offset in moving.into_iter().rev() {
            state.requeue_move(offset, self.now);
        }
        for offset in reserving.into_iter().rev() {
            self.unreserve(state, offset);
        }
    }
}

impl PartitionState {
    /// Moves `delivered` into the write that is sent now, clears the dirty flags, and
    /// returns the state to commit.
    fn take_snapshot(&mut self, write: WriteId) -> Snapshot {
        let in_write = self.in_write.get_or_insert_default();
        in_write.write = write;
        in_write.delivered = std::mem::take(&mut self.delivered);
        self.dirty_since = None;
        self.write_now = false;
        let (base, metadata) =
            self.ledger
                .snapshot(self.topic_id.as_ref(), self.maps_since, &in_write.moving);
        Snapshot {
            partition: self.id,
            base,
            metadata,
        }
    }
}
