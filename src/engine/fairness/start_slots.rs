//! Start slots: for attempts that are being reserved or just started. Tenants
//! that answer at once are served best with few concurrent attempts. More
//! attempts only wait for each other in this process, and cost memory and cache.
//! An attempt that lasts releases its start slot, so slow tenants do not hold
//! them. The process's own limit bounds all attempts together. Never IO, never a
//! clock. Runs on the runner's thread.
//!
//! The time of a start slot runs only while the process is idle. A busy process
//! has unread answers, so a long attempt says nothing about its tenant. By the
//! clock alone, all attempts of a busy process would last, and it would start
//! more, which makes it busier still.
//!
//! After 100 ms by the clock an attempt releases its start slot in any case. A
//! process that one receiver's flood keeps busy must still serve the others.
//! Otherwise their hanging neighbours would hold every start slot. At 15,000
//! attempts/s, 128 attempts last 9 ms.
//!
//! Arithmetic: 128 slots of 4 ms are 32,000 starts/s of an idle process, 16,000
//! of one that works half of its time. Measured with a backlog and one core,
//! beside reqwest alone with 64 in flight: 2.3 times its CPU, 105 in flight and
//! 61 MiB. With 10 ms by the clock instead: 4 times its CPU, 450 in flight and
//! 110 MiB.

use crate::model::position::Position;
use crate::model::time::UnixMillis;
use std::collections::VecDeque;
use std::time::Duration;

/// The number of start slots where Kafka is near.
pub const START_SLOTS: usize = 128;
/// Counted while the process is idle.
const HELD_IDLE_MAX: Duration = Duration::from_millis(4);
/// By the clock.
const HELD_MAX: Duration = Duration::from_millis(100);
/// After all slots were taken, slots are scarce for this long. A process at its limit
/// takes all with each write.
const SCARCE: Duration = Duration::from_millis(50);

/// The start slots.
#[derive(Default)]
pub struct StartSlots {
    taken: usize,
    /// The number of slots that may be taken now.
    max: usize,
    /// Attempts in the order of their starts; some have ended.
    started: VecDeque<(Position, Started)>,
    /// The total time for which the process was busy.
    worked: Duration,
    /// When no slot was free.
    scarce_at: Option<UnixMillis>,
}

/// When an attempt started.
#[derive(Clone, Copy)]
struct Started {
    at: UnixMillis,
    /// The process's idle time so far, in milliseconds plus a constant.
    idle_ms: i64,
}

impl StartSlots {
    /// Returns whether one more slot may be taken.
    pub fn has_free(&self) -> bool {
        self.taken < self.max
    }

    /// Notes that no slot is free.
    pub fn note_scarce(&mut self, now: UnixMillis) {
        self.scarce_at = Some(now);
    }

    /// Returns whether no slot was free just now. A record that waits in its partition
    /// then blocks none: those behind it could not start either.
    pub fn are_scarce(&self, now: UnixMillis) -> bool {
        self.scarce_at.is_some_and(|at| now.since(at) < SCARCE)
    }

    /// Sets the number of slots that may be taken.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Returns the number of taken slots.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Takes a slot for a record that is being reserved.
    pub fn take(&mut self) {
        self.taken += 1;
    }

    /// Sets the total time for which the process was busy; the rest of the time
    /// it was idle.
    pub fn set_worked(&mut self, worked: Duration) {
        self.worked = worked;
    }

    fn idle_ms(&self, now: UnixMillis) -> i64 {
        now.0 - self.worked.as_millis() as i64
    }

    /// Records that an attempt started.
    pub fn started(&mut self, position: Position, now: UnixMillis) {
        let idle_ms = self.idle_ms(now);
        self.started
            .push_back((position, Started { at: now, idle_ms }));
    }

    /// Releases the slot of an attempt that does not start, ended, or lasted too
    /// long.
    pub fn release(&mut self) {
        assert!(self.taken > 0, "L5: a start slot was released twice");
        self.taken -= 1;
    }

    /// Returns an attempt that lasted too long; it may have ended.
    pub fn pop_expired(&mut self, now: UnixMillis) -> Option<Position> {
        let (position, started) = *self.started.front()?;
        if !self.left(started, now).is_zero() {
            return None;
        }
        self.started.pop_front();
        Some(position)
    }

    /// Returns when the next slot expires at the earliest, if all slots are
    /// taken.
    pub fn next_expiry(&self, now: UnixMillis) -> Option<UnixMillis> {
        let (_, started) = self.started.front().filter(|_| !self.has_free())?;
        Some(now.plus(self.left(*started, now)))
    }

    /// Returns how long an attempt may still hold its slot, if the process stays
    /// idle.
    fn left(&self, started: Started, now: UnixMillis) -> Duration {
        let idle_ms = (self.idle_ms(now) - started.idle_ms).max(0);
        let by_rest = HELD_IDLE_MAX.saturating_sub(Duration::from_millis(idle_ms as u64));
        let by_clock = HELD_MAX.saturating_sub(now.since(started.at));
        by_rest.min(by_clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{Offset, Topic};

    const START: UnixMillis = UnixMillis(1_000);
    const POSITION: Position = Topic::Source.partition(0).at(Offset(0));

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn attempts_free_their_slots_by_idle_time_and_at_last_by_the_clock() {
        let mut slots = StartSlots::default();
        slots.set_worked(ms(500));
        slots.started(POSITION, START);
        slots.set_worked(ms(503));
        assert_eq!(
            slots.next_expiry(START.plus(ms(6))),
            Some(START.plus(ms(7)))
        );
        assert_eq!(slots.pop_expired(START.plus(ms(6))), None, "3 of 6 ms idle");
        assert_eq!(slots.pop_expired(START.plus(ms(7))), Some(POSITION));

        slots.started(POSITION, START);
        slots.set_worked(ms(603));
        assert_eq!(
            slots.pop_expired(START.plus(ms(99))),
            None,
            "always at work"
        );
        assert_eq!(slots.pop_expired(START.plus(ms(100))), Some(POSITION));
    }
}
