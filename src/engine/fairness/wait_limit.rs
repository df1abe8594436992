//! The limit of a record's wait for its tenant. A lane that its tenant holds back
//! gives up the records that waited longer, and the engine diverts them. Never IO,
//! never a clock. Runs on the runner's thread.
//!
//! Without it, a tenant that hangs keeps the records of its lane for as long as it
//! hangs. It starts one attempt per pause, so 200 records wait for 50 minutes. The
//! committed offset of their partitions would stay as far behind, and every restart
//! would read all later records again.
//!
//! An overdue record goes to the longest delay within the wait that it would have had
//! in its lane. So records come back as fast as their tenant takes them, and the lane
//! never stands idle while they are away.
//!
//! Arithmetic: a record leaves its lane [`WAIT_MAX`] and at most [`CHECK_EVERY`]
//! after it came. With an attempt of 5 s and its move, one tenant holds a committed
//! offset back by less than 60 s.

use super::lanes::{LaneId, Lanes, WAIT_MAX};
use crate::model::position::Position;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// All lanes are compared this often, and not in each turn of the engine.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A look at all lanes for overdue records.
#[derive(Default)]
pub struct OverdueLook {
    lane: usize,
    /// The records that this look took from that lane.
    taken: u32,
}

impl Lanes {
    /// Returns whether the waits are to be compared with their limit now. The next
    /// time is [`CHECK_EVERY`] later.
    pub fn checks_waits(&mut self, now: UnixMillis) -> bool {
        let due = self.next_wait_check().is_some_and(|at| at <= now);
        if due {
            self.waits_checked_at = now;
        }
        due
    }

    /// Takes a record out of its lane that waited for its tenant longer than the
    /// limit. Returns it with the further wait that it would have had. A record that is
    /// not `eligible` stays, and so do all records behind it.
    pub fn pop_overdue(
        &mut self,
        look: &mut OverdueLook,
        mut eligible: impl FnMut(Position) -> bool,
        now: UnixMillis,
    ) -> Option<(Position, Duration)> {
        while let Some(lane) = self.lanes.get(look.lane) {
            let id = LaneId(look.lane);
            if let Some(first) = lane.waiting.front()
                && now.since(first.since) >= WAIT_MAX
                && self.waits_for_tenant(id)
                && eligible(first.position)
            {
                look.taken += 1;
                let ends = lane.ends_in_wait.recent(now).max(1);
                let ends = u32::try_from(ends).unwrap_or(u32::MAX);
                let wait = (WAIT_MAX / ends).saturating_mul(look.taken);
                return self.pop_waiting(id).map(|position| (position, wait));
            }
            look.lane += 1;
            look.taken = 0;
        }
        None
    }

    /// Returns when to call [`Lanes::checks_waits`] next, if records wait.
    #[must_use]
    pub fn next_wait_check(&self) -> Option<UnixMillis> {
        (self.waiting > 0).then(|| self.waits_checked_at.plus(CHECK_EVERY))
    }

    fn pop_waiting(&mut self, id: LaneId) -> Option<Position> {
        let lane = &mut self.lanes[id.0];
        let first = lane.waiting.pop_front()?;
        lane.waiting_bytes -= first.bytes;
        self.waiting -= 1;
        self.waiting_bytes -= first.bytes;
        self.update_turn(id);
        Some(first.position)
    }
}
