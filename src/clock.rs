//! The only file that reads clocks. The time starts at the wall clock. It then
//! follows a clock that also counts stopped and suspended time, and is slewed
//! towards the wall clock by at most 500 ppm. So a step of the wall clock neither
//! makes records due nor delays them. Never holds policy. Any thread may call it.

use crate::model::time::UnixMillis;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The maximum rate of the correction.
const SLEW_PPM: i128 = 500;
/// The time between two readings of the wall clock.
const SYNC_NS: i128 = 1_000_000_000;

#[cfg(target_os = "linux")]
const ELAPSED: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const ELAPSED: ClockId = ClockId::Monotonic;

/// The clock of the process.
#[derive(Debug)]
pub struct Clock {
    timeline: Mutex<Timeline>,
}

impl Clock {
    /// Starts a clock at the present wall time.
    #[must_use]
    pub fn start() -> Self {
        let timeline = Timeline::new(read(ELAPSED), read(ClockId::Realtime));
        Self {
            timeline: Mutex::new(timeline),
        }
    }

    /// Returns the present moment, which is never before an earlier result.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = read(ELAPSED);
        if timeline.wall_is_due(elapsed) {
            timeline.sync(elapsed, read(ClockId::Realtime));
        }
        let ms = timeline.now(elapsed).div_euclid(1_000_000);
        UnixMillis(i64::try_from(ms).expect("292 million years have not passed"))
    }
}

/// Returns the time since the start of the system, including stopped and suspended
/// time. It serves waits that do not depend on the time of day.
#[must_use]
pub fn elapsed() -> Duration {
    let ns = u64::try_from(read(ELAPSED)).unwrap_or(0);
    Duration::from_nanos(ns)
}

/// Returns the reading of a clock in nanoseconds.
fn read(clock: ClockId) -> i128 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    i128::from(tv_sec) * 1_000_000_000 + i128::from(tv_nsec)
}

/// The pure part of the clock; its inputs are readings in nanoseconds. Between two
/// readings of the wall clock it corrects at most the difference of the last one.
#[derive(Debug)]
struct Timeline {
    /// Elapsed time at the last reading of the wall clock.
    elapsed_at: i128,
    /// The time that this clock showed then.
    shown_at: i128,
    /// The wall clock minus that time.
    error: i128,
    /// The largest elapsed time so far. This clock must not go back even if the clock
    /// of the kernel does.
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

    fn wall_is_due(&self, elapsed: i128) -> bool {
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

    /// Runs a timeline that reads the wall clock `wall(elapsed)` each second. Checks
    /// that it is monotone and never slews too fast.
    #[track_caller]
    fn run(seconds: i128, wall: impl Fn(i128) -> i128) -> i128 {
        let mut timeline = Timeline::new(0, wall(0));
        let mut shown = timeline.now(0);
        for tenth in 1..=seconds * 10 {
            let elapsed = tenth * S / 10;
            if timeline.wall_is_due(elapsed) {
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
    fn without_steps_it_shows_the_wall_time() {
        assert_eq!(run(100, |elapsed| START + elapsed), START + 100 * S);
    }

    #[test]
    fn a_step_of_the_wall_clock_is_corrected_at_500_ppm() {
        for hour in [3_600 * S, -3_600 * S] {
            let stepped = |elapsed| START + elapsed + if elapsed > 10 * S { hour } else { 0 };
            let shown = run(1_010, stepped);
            let corrected = shown - (START + 1_010 * S);
            assert!((corrected.abs() - S / 2).abs() < S / 100, "{corrected}");
            assert_eq!(corrected.signum(), hour.signum());
        }
    }

    #[test]
    fn a_small_difference_is_corrected_and_not_overshot() {
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
    fn the_real_clock_is_near_the_wall_time_and_monotone() {
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
