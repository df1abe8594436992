//! Waits that are too long: a record that waits in a lane because its tenant hangs or
//! fails leaves it after [`WAIT_MAX`]. Otherwise the oldest record of a tenant that
//! hangs would hold back the committed offset, and a restart would read everything
//! behind it again.
//! Never IO, never a clock. Runs on the runner's thread.
//!
//! Arithmetic: the committed offset is behind by the wait in the lane, 30 s. Then
//! come an attempt, or the wait of a divert for others, 5 s each. A look each second
//! at the heads of lanes costs less than one event.

use super::lanes::{LaneId, Lanes, WaitingRecord};
use super::slots::SlotClass;
use crate::model::position::Position;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// The longest time for which a record waits in a lane that its tenant holds back.
/// Up to a [`LOOK_MS`] is added to it: 30 s.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(29);
/// All lanes are looked at together, at multiples of this.
const LOOK_MS: i64 = 1_000;

impl Lanes {
    /// Watches the lane, if no look at it is planned yet.
    pub(super) fn watch(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        if let (false, Some(oldest)) = (lane.watched, lane.waiting.front()) {
            lane.watched = true;
            self.watches.insert((look_at(oldest.since), id));
        }
    }

    /// Returns when to look for records that wait too long.
    pub fn next_watch(&self) -> Option<UnixMillis> {
        self.watches.first().map(|(at, _)| *at)
    }

    /// Removes a record that has waited too long for its tenant, and returns it.
    pub fn pop_overdue(&mut self, now: UnixMillis) -> Option<(LaneId, Position)> {
        while let Some((at, id)) = self.watches.first().copied() {
            if at > now {
                return None;
            }
            if let Some(record) = self.take_overdue(id, now) {
                return Some((id, record.position));
            }
            self.watches.pop_first();
            let lane = &mut self.lanes[id.0];
            lane.watched = false;
            // A record that is overdue and waits for this process is looked at again.
            if let Some(oldest) = lane.waiting.front() {
                lane.watched = true;
                let next = look_at(oldest.since).max(now.plus(Duration::from_millis(1)));
                self.watches.insert((round_up(next), id));
            }
        }
        None
    }

    fn take_overdue(&mut self, id: LaneId, now: UnixMillis) -> Option<WaitingRecord> {
        let is_overdue = |record: &WaitingRecord| now.since(record.since) >= WAIT_MAX;
        let oldest = self.lanes[id.0].waiting.front().copied();
        let record = oldest.filter(is_overdue)?;
        if !self.is_held_back_by_tenants(id) {
            return None;
        }
        let lane = &mut self.lanes[id.0];
        lane.waiting.pop_front();
        lane.waiting_bytes -= record.bytes;
        self.waiting -= 1;
        self.waiting_bytes -= record.bytes;
        self.update_turn(id);
        Some(record)
    }

    /// Returns whether answers of tenants are awaited that may not come, its own or
    /// those of all that hang. Not whether Kafka or the limit of the process is awaited.
    fn is_held_back_by_tenants(&self, id: LaneId) -> bool {
        let lane = &self.lanes[id.0];
        if lane.delivers() {
            return false;
        }
        let class = lane.slot_class();
        let share_full = self.turns.is_share_full(class, &self.slots);
        lane.waits_for_answers()
            || (share_full && (!self.slots.are_full() || class == SlotClass::Hanging))
    }
}

/// Returns when a record that waits since then is overdue.
fn look_at(since: UnixMillis) -> UnixMillis {
    round_up(since.plus(WAIT_MAX))
}

fn round_up(at: UnixMillis) -> UnixMillis {
    UnixMillis((at.0 + LOOK_MS - 1).div_euclid(LOOK_MS) * LOOK_MS)
}
