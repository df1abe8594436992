//! Records that waited too long in a lane that their tenant holds back: they are
//! diverted. Never decides how long is too long; `fairness` does. Runs on the
//! runner's thread.

use super::fairness::LaneId;
use super::inbox::ReadRecord;
use super::partition::PartitionState;
use super::{Core, Engine, verdict};
use crate::model::position::{Offset, Position};

impl Engine {
    /// Diverts the records that are overdue now.
    pub(super) fn divert_overdue(&mut self) {
        if self.core.drain.is_some() {
            return;
        }
        while let Some((lane, position)) = self.core.lanes.pop_overdue(self.core.now) {
            let Position { partition, offset } = position;
            if let (Some(state), core) = self.assigned(partition) {
                core.divert_waiting(state, lane, offset);
            }
        }
    }
}

impl Core {
    fn divert_waiting(&mut self, state: &mut PartitionState, lane: LaneId, offset: Offset) {
        let pending = *state.take_pending(offset);
        // The tenant lost its callback while the record waited.
        if self.tenants.callback(&pending.call.tenant).is_none() {
            self.skip(state, state.id.at(offset));
            return;
        }
        let divert = self.lanes.divert(lane, self.now);
        let mut read = ReadRecord {
            record: pending.record,
            history: pending.history,
            call: Ok(pending.call),
            due: pending.due,
        };
        let verdict = verdict::divert(&self.schedule, &mut read.history, divert, self.wall());
        self.move_untried(state, read, verdict);
    }
}
