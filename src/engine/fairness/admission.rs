//! Admission to a lane: what happens to one more record of a tenant. It waits in
//! the lane, waits in its partition, or is diverted. Never IO, never a clock. Runs
//! on the runner's thread.
//!
//! A lane is held back while its tenant's limit or pause, or the share of its slot
//! class, allows no further start ([`Lanes::is_held_back`]). The first row that
//! applies decides:
//!
//! | the lane | condition | admission |
//! |---|---|---|
//! | not held back | all slots are taken and as many records wait | [`Admission::StopReading`] |
//! | not held back | the lane or the process holds its maximum of records or bytes | `StopReading` |
//! | not held back | otherwise | [`Admission::Admit`] |
//! | held back | its queue is below its share, the estimated wait within its bound, the partition's occupancy permits, and it is not an untried tenant with a record while the share of untried tenants is full | `Admit` |
//! | held back, untried, share full | untried tenants wait for less than 150 ms, or enough of them turn out to answer | [`Admission::WaitBriefly`] |
//! | held back, untried, share full | otherwise | [`Admission::Divert`] |
//! | held back, tried | the last attempt failed, or the share is full | `Divert` |
//! | held back | for less than 150 ms | `WaitBriefly` |
//! | held back | its queue is empty after 3 windows at its present rate | [`Admission::WaitUnlessBlocking`] |
//! | held back | otherwise | `Divert` |
//!
//! "Share full" means that attempts like the tenant's first one hold their whole
//! share of the slots ([`SlotClass`]). The occupancy permits records of
//! hanging and paced tenants at [`Occupancy::Low`] only, all others below
//! [`Occupancy::High`].
//!
//! The bound of the estimated wait is [`ADMITTED_WAIT_MAX`]. It does not count where
//! the longest delay is shorter than the estimate: a diverted record would be back
//! before its turn, again and again. Nor does it count for a tenant that delivers: most
//! of a burst would be diverted, and come back all at once. Such a tenant may refuse some
//! records at once ([`FAILS_FROM`]). `diverts` has the estimate, and where a diverted
//! record goes.
//!
//! Arithmetic: the share of a lane is a quarter of the free waiting capacity beyond
//! a reserve (Choudhury and Hahne's dynamic threshold). The reserve is a quarter of
//! the capacity, half of it for hanging and paced tenants. So however many lanes are
//! held back, a quarter stays for the others, and another quarter for untried
//! tenants. One held-back lane gets its 256 records. Of 5,000 dead lanes most get
//! nothing, and their records are diverted.

use super::lanes::{
    LANE_BYTES_MAX, LANE_RECORDS_MAX, Lane, LaneId, Lanes, Observed, WAITING_BYTES_MAX,
};
use super::limit::TenantStatus;
use super::rate;
use super::slots::SlotClass;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// A lane empties fast if its queue is empty after this many windows at its present
/// rate.
const FAST_WINDOWS: usize = 3;
/// Untried tenants wait while all waiting records would turn out answered within
/// this many windows at the present rate: one second. Otherwise they are
/// diverted.
const UNTRIED_WINDOWS: usize = 10;
/// Untried tenants that find no capacity this soon after others belong to one wave.
pub(super) const SAME_WAVE: Duration = Duration::from_secs(1);
/// The longest estimated wait of a record that is admitted to a held-back lane. It is
/// shorter than the longest wait there ([`super::overdue::WAIT_MAX`]), so that few
/// records wait in vain. A dead tenant is tried every 15 s: one record waits for it.
const ADMITTED_WAIT_MAX: Duration = Duration::from_secs(28);
/// The time before records of a newly held-back lane are diverted. In this time a
/// tenant that answers in 20 ms shows its rate.
pub(super) const GRACE: Duration = Duration::from_millis(150);

/// A tenant that answers no longer delivers once this number of attempts in a row
/// failed. They failed within a second each, or the tenant would hang. One refusal must
/// not take all records from a slow tenant. With one attempt of 3 s at a time, a burst of
/// 400 would take two days, not an hour.
pub(super) const FAILS_FROM: u32 = 8;

/// What happens to one more record of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The record waits in the lane.
    Admit,
    /// The record waits in its partition: the lane is held back only since a moment,
    /// or the untried tenants before it turn out to answer.
    WaitBriefly,
    /// The record waits in its partition, because the lane empties fast. It is diverted if
    /// it blocks records of other tenants there. It blocks none while all start slots are
    /// taken.
    WaitUnlessBlocking,
    /// The record is diverted, as [`Lanes::divert`] says.
    Divert,
    /// The process is at its own limit: reading stops.
    StopReading,
}

/// How much of its capacity for unfinished records a partition uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occupancy {
    Low,
    /// The rest is not for records that wait for a hanging tenant.
    Medium,
    /// The rest is for records that can start: no record may wait for its tenant.
    High,
}

impl Lanes {
    /// Decides about one more record of the lane, by the table in the file's
    /// header.
    pub fn admission(&mut self, id: LaneId, occupancy: Occupancy, now: UnixMillis) -> Admission {
        if !self.is_held_back(id, now) {
            return self.admission_while_free(id);
        }
        let lane = &self.lanes[id.0];
        let status = lane.limit.status();
        let first = SlotClass::of(status, 0);
        let share_full = self.turns.is_share_full(first, &self.slots);
        // One record of each untried tenant suffices to learn its status.
        let suffices = share_full && lane.is_untried() && lane.has_records();
        if self.fits(lane, occupancy) && self.is_soon(id, now) && !suffices {
            return Admission::Admit;
        }
        if lane.failures > 0 || share_full {
            let waits = status == TenantStatus::Untried && self.untried_answer_soon(now);
            return match waits {
                true => Admission::WaitBriefly,
                false => Admission::Divert,
            };
        }
        if lane.held_back.is_some_and(|o| now.since(o.since) < GRACE) {
            Admission::WaitBriefly
        } else if lane.empties_fast(now) {
            Admission::WaitUnlessBlocking
        } else {
            Admission::Divert
        }
    }

    /// Decides for a lane that is not held back.
    fn admission_while_free(&self, id: LaneId) -> Admission {
        let lane = &self.lanes[id.0];
        let process_full = (self.slots.are_full() && self.waiting >= self.slots.max())
            || self.waiting >= self.waiting_max()
            || self.waiting_bytes >= WAITING_BYTES_MAX;
        let lane_full =
            lane.waiting.len() >= LANE_RECORDS_MAX || lane.waiting_bytes >= LANE_BYTES_MAX;
        match process_full || lane_full {
            true => Admission::StopReading,
            false => Admission::Admit,
        }
    }

    /// Returns whether the estimated wait of one more record is within its bound, or
    /// the tenant delivers: then its records wait, however slow it is.
    fn is_soon(&self, id: LaneId, now: UnixMillis) -> bool {
        if self.lanes[id.0].delivers() {
            return true;
        }
        let wait = self.estimated_wait(id, now);
        wait <= ADMITTED_WAIT_MAX || wait > self.longest_delay
    }

    /// Returns whether the queue of a held-back lane is below its share, and the
    /// partition's occupancy permits one more record.
    fn fits(&self, lane: &Lane, occupancy: Occupancy) -> bool {
        let slow = lane.limit.status() == TenantStatus::Hanging || lane.limit.is_paced();
        let reserve = if slow { 2 } else { 4 };
        let share = |used: usize, all: usize| {
            let free = all.saturating_sub(used);
            free.saturating_sub(all / reserve) / 4
        };
        let records_max = LANE_RECORDS_MAX.min(share(self.waiting, self.waiting_max()));
        let bytes_max = LANE_BYTES_MAX.min(share(self.waiting_bytes, WAITING_BYTES_MAX));
        let permitted = match slow {
            true => occupancy == Occupancy::Low,
            false => occupancy != Occupancy::High,
        };
        permitted && lane.waiting.len() < records_max && lane.waiting_bytes < bytes_max
    }

    /// Returns whether an untried tenant without capacity should wait for the untried
    /// tenants before it. It should for a moment, and as long as enough of them answer.
    /// After a start all tenants are untried.
    fn untried_answer_soon(&mut self, now: UnixMillis) -> bool {
        let wave = self
            .untried_waiting
            .filter(|wave| now.since(wave.last) < SAME_WAVE);
        let wave = Observed::again(wave, now);
        self.untried_waiting = Some(wave);
        now.since(wave.since) < GRACE
            || self.untried_answered.recent(now) * UNTRIED_WINDOWS >= self.waiting.max(1)
    }

    /// Returns whether the tenant holds its lane back: by its own limit or pause, or
    /// because attempts of its class hold their whole share. A hanging tenant also holds
    /// it back if the waiting records fill its limit. A lane that was held back
    /// recently still is, as long as its queue would fill its limit. One answer of an
    /// overloaded tenant does not change that.
    fn is_held_back(&mut self, id: LaneId, now: UnixMillis) -> bool {
        let lane = &mut self.lanes[id.0];
        let class = lane.slot_class();
        let full = self.slots.are_full();
        let share_full = self.turns.is_share_full(class, &self.slots);
        let queue_starts = lane.limit.allows(lane.active + lane.waiting.len());
        if !lane.may_start_more()
            || (share_full && (!full || class == SlotClass::Hanging))
            || (class == SlotClass::Hanging && !queue_starts)
        {
            lane.held_back = Some(Observed::again(lane.held_back, now));
            return true;
        }
        if queue_starts {
            lane.held_back = None;
        }
        !full
            && lane
                .held_back
                .is_some_and(|o| now.since(o.last) < rate::WINDOW)
    }
}

impl Lane {
    /// Returns whether the tenant answers, and not all of its last attempts failed.
    pub(super) fn delivers(&self) -> bool {
        self.limit.status() == TenantStatus::Answering && self.failures < FAILS_FROM
    }

    fn is_untried(&self) -> bool {
        self.limit.status() == TenantStatus::Untried
    }

    fn has_records(&self) -> bool {
        self.active + self.waiting.len() > 0
    }

    fn empties_fast(&self, now: UnixMillis) -> bool {
        let waiting = self.waiting.len().max(FAST_WINDOWS);
        self.ends.recent(now) * FAST_WINDOWS >= waiting
    }
}
