//! Diverts: the estimated wait of one more record in a lane, and how long a diverted
//! record stays away. Never IO, never a clock. Runs on the runner's thread.
//!
//! The estimate is the number of records before the record, times the time for each:
//!
//! | the tenant | time for each record |
//! |---|---|
//! | is untried | none: nothing was measured |
//! | hangs even with one attempt at a time | its last attempt, and the pause after it |
//! | answered 429 | the measured rate of its ends; at most the pause and an attempt |
//! | otherwise | an attempt's mean duration, divided by the tenant's limit |
//!
//! A diverted record goes to the shortest delay that is at least the estimate. Further
//! diverts of the record say different things:
//!
//! | the tenant | the ladder of delays |
//! |---|---|
//! | answers | climbs: it gets more than it takes, so the record goes one delay further each time |
//! | is untried, or hangs | stays: no attempt shows yet whether it takes the record |
//! | hangs, and its diverts exceed their share | climbs |
//!
//! So once a tenant answers, its records are back soon, however long it hung.
//!
//! Arithmetic: a dead tenant is tried every 15 s, so its records go to 1 m. At one
//! record a second, after an hour 3,600 of them are on their way: 60 diverts/s. All
//! lanes together divert 2,000 records in 10 s before records
//! climb: 200/s, two transactions of a 5 s interval.

use super::lanes::{Lane, LaneId, Lanes};
use super::limit::TenantStatus;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// How a record is diverted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Divert {
    pub ladder: Ladder,
    /// The estimated wait in its lane.
    pub wait: Duration,
}

/// Whether a record waits one delay longer with each divert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ladder {
    Climbs,
    Stays,
}

impl Lane {
    /// Notes that an attempt ended after this time. Call it before the tenant's status
    /// changes: a mean of the time in which it hung says nothing of its answers.
    pub(super) fn note_end(&mut self, after: Duration, now: UnixMillis) {
        let answered = self.limit.status() == TenantStatus::Answering;
        self.ends.add(1, now);
        self.attempt_time.note(after, answered, now);
    }
}

impl Lanes {
    /// Returns the estimated wait of one more record at the lane's end.
    pub(super) fn estimated_wait(&self, id: LaneId, now: UnixMillis) -> Duration {
        let lane = &self.lanes[id.0];
        let ahead = lane.waiting.len() as u32 + 1;
        self.time_per_record(lane, now) * ahead
    }

    fn time_per_record(&self, lane: &Lane, now: UnixMillis) -> Duration {
        let time = &lane.attempt_time;
        if lane.limit.is_dead() {
            time.last() + self.pause
        } else if lane.limit.is_paced() {
            let slowest = lane.limit.pace() + time.mean();
            time.between_ends(now).map_or(slowest, |t| t.min(slowest))
        } else {
            lane.limit.share_of(time.mean())
        }
    }

    /// Counts the divert of a record of this lane, and returns how it is diverted.
    pub fn divert(&mut self, id: LaneId, now: UnixMillis) -> Divert {
        let wait = self.estimated_wait(id, now);
        let diverts = &mut self.lanes[id.0].diverts;
        let within_share = self.divert_load.count(diverts, now);
        let ladder = match self.lanes[id.0].limit.status() {
            TenantStatus::Answering => Ladder::Climbs,
            TenantStatus::Untried => Ladder::Stays,
            TenantStatus::Hanging if within_share => Ladder::Stays,
            TenantStatus::Hanging => Ladder::Climbs,
        };
        Divert { ladder, wait }
    }
}
