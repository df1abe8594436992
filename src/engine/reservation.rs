//! Reservations: chooses the records that start next, and acts on the answer to
//! the write that reserves them. A chosen record takes slots of its lane and a start
//! slot. Its attempt starts when the write is acknowledged. Never starts an attempt after
//! the reservation's lease. Runs on the runner's thread.

use super::ledger::{Entry, PendingRecord};
use super::map::Mark;
use super::partition::{PartitionState, may_be_moved};
use super::write_set::WriteSet;
use super::{Core, Engine};
use crate::model::position::{Offset, Partition, Position};
use crate::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

/// A reservation is valid for this long from the moment its write was sent. After a
/// long stop of this process, another replica may own the partition and may have moved
/// the record.
pub const LEASE: Duration = Duration::from_secs(2);

/// Whether records of idle partitions are chosen, too. No write holds those.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    Included,
    Excluded,
}

impl Engine {
    /// Chooses records from these partitions and marks them as reserved in this write.
    /// Adds their partitions to it.
    pub(super) fn reserve(&mut self, write: &mut WriteSet, free: &BTreeSet<Partition>, idle: Idle) {
        if self.core.drain.is_some() {
            return;
        }
        // Each uncommitted delivery is repeated if the process dies.
        if self.is_full() {
            self.core.start_slots.note_scarce(self.core.now);
            return;
        }
        let uncommitted = self.uncommitted();
        let Self { partitions, core } = self;
        let now = core.now;
        let in_flight_max = core.settings.in_flight_max;
        let starts_max = core.writes.pace.starts_max(uncommitted, in_flight_max);
        core.start_slots.set_max(starts_max);
        let moving_bytes = core.moving_bytes;
        let open = partitions.active().filter(|state| state.may_reserve(now));
        let open = open.map(|state| state.id).filter(|id| free.contains(id));
        let mut open: BTreeSet<Partition> = open.collect();
        while core.start_slots.has_free() {
            let is_open = |(at, bytes): (Position, usize)| {
                let is_idle = || idle == Idle::Included && partitions.is_idle(at.partition);
                may_be_moved(moving_bytes, bytes)
                    && write.takes(at.partition)
                    && (open.contains(&at.partition) || is_idle())
            };
            let Some((lane, position)) = core.lanes.choose(is_open) else {
                return;
            };
            let Position { partition, offset } = position;
            let state = partitions.get_mut(partition).expect("it is open");
            open.insert(partition);
            let pending = state.take_pending(offset);
            // The tenant lost its callback while the record waited.
            if core.tenants.callback(&pending.call.tenant).is_none() {
                core.lanes.release(lane, pending.record.size());
                core.skip(state, position);
                continue;
            }
            state.ledger.replace(offset, Entry::Reserving(pending));
            state.active += 1;
            let in_write = state.in_write.get_or_insert_default();
            in_write.reserving.push(offset);
            core.start_slots.take();
            write.add(state);
            if !state.may_reserve(now) {
                open.remove(&partition);
            }
        }
        core.start_slots.note_scarce(now);
    }
}

impl PartitionState {
    /// Takes the record of a waiting or reserving entry. Leaves the offset listed as
    /// unreserved.
    pub(super) fn take_pending(&mut self, offset: Offset) -> Box<PendingRecord> {
        let placeholder = Entry::Listed(Mark::Unreserved);
        match self.ledger.replace(offset, placeholder) {
            Entry::Waiting(pending) | Entry::Reserving(pending) => pending,
            _ => unreachable!("L3: a record waits until it is reserved or its write is answered"),
        }
    }
}

impl Core {
    /// The write of a reservation was acknowledged: starts the attempt, or decides
    /// what happens instead.
    pub(super) fn on_reserved(
        &mut self,
        state: &mut PartitionState,
        offset: Offset,
        sent_at: UnixMillis,
    ) {
        let pending = state.take_pending(offset);
        let start_by = sent_at.plus(LEASE);
        self.start_slots.release();
        let tenant = self.tenants.callback(&pending.call.tenant).cloned();
        if !state.is_running() || self.drain.is_some() || self.now > start_by {
            // The last snapshot of a partition that leaves removes the reservation.
            self.lanes.release(pending.lane, pending.record.size());
            self.not_started(state, pending);
            state.touch(self.now);
        } else if let Some(tenant) = tenant {
            self.start_attempt(state, pending, tenant, start_by);
        } else {
            state.active -= 1;
            self.lanes.release(pending.lane, pending.record.size());
            self.skip(state, state.id.at(offset));
        }
    }

    /// The write of a reservation was refused: the record waits in its lane again.
    pub(super) fn unreserve(&mut self, state: &mut PartitionState, offset: Offset) {
        let pending = state.take_pending(offset);
        self.start_slots.release();
        self.lanes.release(pending.lane, pending.record.size());
        self.not_started(state, pending);
    }

    /// A chosen record was certainly not sent. It waits at the head of its lane, so it
    /// is reserved again. Where nothing starts any more, the next owner finds it
    /// without a reservation.
    pub(super) fn not_started(&mut self, state: &mut PartitionState, pending: Box<PendingRecord>) {
        state.active -= 1;
        let position = pending.record.position;
        let entry = if state.is_running() && self.drain.is_none() {
            let bytes = pending.record.size();
            self.lanes.put_back(pending.lane, position, bytes, self.now);
            Entry::Waiting(pending)
        } else {
            Entry::Listed(Mark::Unreserved)
        };
        state.ledger.replace(position.offset, entry);
    }
}
