//! Slots for attempts that are being reserved or have just begun. Tenants that
//! answer at once are served best with few attempts at a time: more only wait
//! for each other in this process, and cost memory and cache. An attempt that
//! lasts is no longer fresh, so slow tenants do not hold these slots; all
//! attempts together are bounded by the process's own limit.
//!
//! An attempt ages only while the process has nothing to do: where it works all
//! the time, answers lie there that it has not come to read, which tells
//! nothing of the tenant. By the clock, attempts of a busy process all age, it
//! begins more, and each of those makes it busier.
//!
//! But after 100 ms they do: a process that a flood of one receiver keeps busy
//! must go on for the others, whose hanging neighbours would hold every slot.
//! 128 attempts of a process that does 15,000/s last 9 ms.
//!
//! Arithmetic: 128 slots that age in 4 ms are 32,000 starts/s of a process that
//! rests, 16,000 of one that works half of its time. Measured with a backlog and
//! one core, beside reqwest alone with 64 in flight: 2.3 times its CPU, 105 in
//! flight and 61 MiB; with attempts that age in 10 ms by the clock 4 times, 450
//! and 110 MiB.

use crate::model::position::Position;
use crate::model::time::UnixMillis;
use std::collections::VecDeque;
use std::time::Duration;

const START_SLOTS_MAX: usize = 128;
/// In time in which the process has nothing to do.
const HELD_IDLE_MAX: Duration = Duration::from_millis(4);
/// And by the clock, whatever it does.
const HELD_MAX: Duration = Duration::from_millis(100);

/// The fresh slots.
#[derive(Default)]
pub struct StartSlots {
    taken: usize,
    /// How many may be taken now.
    max: usize,
    /// Attempts in the order of their starts, also some that have ended.
    started: VecDeque<(Position, Started)>,
    /// For how long the process has worked in all.
    worked: Duration,
}

/// When an attempt started.
#[derive(Clone, Copy)]
struct Started {
    at: UnixMillis,
    /// By a clock that stands still while the process works, in milliseconds.
    idle_ms: i64,
}

impl StartSlots {
    /// Whether one more may be reserved.
    pub fn has_free(&self) -> bool {
        self.taken < self.max
    }

    /// For now at most so many are taken, and never more than there are.
    pub fn set_max(&mut self, max: usize) {
        self.max = max.min(START_SLOTS_MAX);
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// A record is being reserved.
    pub fn take(&mut self) {
        self.taken += 1;
        assert!(
            self.taken <= START_SLOTS_MAX,
            "L5: more start slots taken than there are"
        );
    }

    /// Since its start the process has worked for so long in all; the rest of
    /// the time it had nothing to do.
    pub fn set_worked(&mut self, worked: Duration) {
        self.worked = worked;
    }

    fn idle_ms(&self, now: UnixMillis) -> i64 {
        now.0 - self.worked.as_millis() as i64
    }

    /// Its attempt has started.
    pub fn started(&mut self, position: Position, now: UnixMillis) {
        let idle_ms = self.idle_ms(now);
        self.started
            .push_back((position, Started { at: now, idle_ms }));
    }

    /// It does not start, has ended while fresh, or has aged.
    pub fn release(&mut self) {
        assert!(self.taken > 0, "L5: a start slot was released twice");
        self.taken -= 1;
    }

    /// An attempt that is no longer fresh, if it has not ended.
    pub fn pop_expired(&mut self, now: UnixMillis) -> Option<Position> {
        let (position, started) = *self.started.front()?;
        if !self.left(started, now).is_zero() {
            return None;
        }
        self.started.pop_front();
        Some(position)
    }

    /// When the next attempt ages at the soonest, if all slots are taken.
    pub fn next_expiry(&self, now: UnixMillis) -> Option<UnixMillis> {
        let (_, started) = self.started.front().filter(|_| !self.has_free())?;
        Some(now.plus(self.left(*started, now)))
    }

    /// For how long one that started then is still fresh, if the process has
    /// nothing to do.
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
    use crate::model::position::{Offset, Partition, Topic};

    const START: UnixMillis = UnixMillis(1_000);
    const POSITION: Position = Position {
        partition: Partition {
            topic: Topic::Source,
            number: 0,
        },
        offset: Offset(0),
    };

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
