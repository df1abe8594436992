//! The only reader of clocks: wall time as it was at the start, carried on by a
//! clock that also counts stopped and suspended time, and slewed towards the
//! wall at most 500 ppm. So a step of the wall clock makes nothing due and
//! freezes nothing. Never policy. Any thread may ask.

use crate::model::time::UnixMillis;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How far the slewed clock may run fast or slow.
const SLEW_PPM: i128 = 500;
/// How often the wall is looked at.
const SYNC_NS: i128 = 1_000_000_000;

#[cfg(target_os = "linux")]
const ELAPSED: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const ELAPSED: ClockId = ClockId::Monotonic;

/// The process's clock.
#[derive(Debug)]
pub struct Clock {
    timeline: Mutex<Timeline>,
}

impl Clock {
    /// A clock that shows the wall's time now.
    #[must_use]
    pub fn start() -> Self {
        let timeline = Timeline::new(read(ELAPSED), read(ClockId::Realtime));
        Self {
            timeline: Mutex::new(timeline),
        }
    }

    /// The present moment; never before one that it has returned.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = read(ELAPSED);
        if timeline.wants_wall(elapsed) {
            timeline.sync(elapsed, read(ClockId::Realtime));
        }
        let ms = timeline.now(elapsed).div_euclid(1_000_000);
        UnixMillis(i64::try_from(ms).expect("292 million years have not passed"))
    }
}

/// How long the system runs, stopped and suspended time included; for waits
/// that have nothing to do with the time of day.
#[must_use]
pub fn elapsed() -> Duration {
    let ns = u64::try_from(read(ELAPSED)).unwrap_or(0);
    Duration::from_nanos(ns)
}

/// A clock's reading in nanoseconds.
fn read(clock: ClockId) -> i128 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    i128::from(tv_sec) * 1_000_000_000 + i128::from(tv_nsec)
}

/// The pure part: fed with readings, in nanoseconds. Between two looks at the
/// wall it takes back at most the difference that the last look has shown.
#[derive(Debug)]
struct Timeline {
    /// Elapsed time at the last look.
    elapsed_at: i128,
    /// What this clock showed then.
    shown_at: i128,
    /// What the wall showed beyond that.
    error: i128,
    /// The latest elapsed time seen; the kernel's clock does not go back, but
    /// our promise must not rest on that.
    latest: i128,
}

impl Timeline {
    fn new(elapsed: i128, wall: i128) -> Self {
        Self {
            elapsed_at: elapsed,
            shown_at: wall,
            error: 0,
            latest: elapsed,
        }
    }

    fn wants_wall(&self, elapsed: i128) -> bool {
        elapsed - self.elapsed_at >= SYNC_NS
    }

    fn sync(&mut self, elapsed: i128, wall: i128) {
        let shown = self.now(elapsed);
        self.elapsed_at = self.latest;
        self.shown_at = shown;
        self.error = wall - shown;
    }

    fn now(&mut self, elapsed: i128) -> i128 {
        self.latest = self.latest.max(elapsed);
        let passed = self.latest - self.elapsed_at;
        let most = (passed * SLEW_PPM / 1_000_000).min(self.error.abs());
        self.shown_at + passed + most * self.error.signum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i128 = 1_000_000_000;
    const START: i128 = 1_700_000_000 * S;

    /// Runs a timeline with a look at the wall each second, the wall being
    /// `wall(elapsed)`; checks that it is monotone and never slews too fast.
    #[track_caller]
    fn run(seconds: i128, wall: impl Fn(i128) -> i128) -> i128 {
        let mut timeline = Timeline::new(0, wall(0));
        let mut shown = timeline.now(0);
        for tenth in 1..=seconds * 10 {
            let elapsed = tenth * S / 10;
            if timeline.wants_wall(elapsed) {
                timeline.sync(elapsed, wall(elapsed));
            }
            let now = timeline.now(elapsed);
            let step = now - shown;
            assert!((step - S / 10).abs() <= S / 10 * 500 / 1_000_000, "{step}");
            shown = now;
        }
        shown
    }

    #[test]
    fn without_steps_it_is_the_wall() {
        assert_eq!(run(100, |elapsed| START + elapsed), START + 100 * S);
    }

    #[test]
    fn a_step_of_the_wall_is_taken_up_at_500_ppm() {
        for hour in [3_600 * S, -3_600 * S] {
            let stepped = |elapsed| START + elapsed + if elapsed > 10 * S { hour } else { 0 };
            let shown = run(1_010, stepped);
            let taken_up = shown - (START + 1_010 * S);
            assert!((taken_up.abs() - S / 2).abs() < S / 100, "{taken_up}");
            assert_eq!(taken_up.signum(), hour.signum());
        }
    }

    #[test]
    fn a_small_difference_is_made_up_and_not_overshot() {
        let shown = run(100, |elapsed| {
            START + elapsed + if elapsed > S { S / 100 } else { 0 }
        });
        assert!((shown - (START + 100 * S + S / 100)).abs() < 1_000);
    }

    #[test]
    fn suspension_counts_and_a_backward_reading_does_not() {
        let mut timeline = Timeline::new(0, START);
        assert_eq!(timeline.now(3_600 * S), START + 3_600 * S);
        assert_eq!(timeline.now(3_000 * S), START + 3_600 * S);
        timeline.sync(3_000 * S, START + 3_600 * S);
        assert_eq!(timeline.now(3_601 * S), START + 3_601 * S);
    }

    #[test]
    fn the_real_clock_is_near_the_wall_and_monotone() {
        let clock = Clock::start();
        let mut last = clock.now();
        assert!((i128::from(last.0) - read(ClockId::Realtime) / 1_000_000).abs() < 1_000);
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
