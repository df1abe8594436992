//! The only file that reads clocks. The time of the process starts at the wall
//! clock. It then follows a clock that also counts stopped and suspended time, and is
//! slewed towards the wall clock by at most 500 ppm. Waits of the process use it, so
//! a step of the wall clock neither ends nor lengthens them.
//!
//! A step of the wall clock (NTP late at the start, a resumed machine) is told by
//! [`Clock::wall_ahead_ms`]. Due times and ages use the sum. A single wrong reading
//! counts for nothing. Never holds policy. Any thread may call it.

use crate::model::time::UnixMillis;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The maximum rate of the correction.
const SLEW_PPM: i128 = 500;
/// The time between two readings of the wall clock.
const SYNC_NS: i128 = 1_000_000_000;
/// A larger difference is a step. A smaller one is slewed.
const STEP_MIN_NS: i128 = 1_000_000_000;
/// A step counts once so many readings in a row agree.
const STEP_LOOKS: u32 = 3;
/// Readings agree that differ by less.
const STEP_AGREES_NS: i128 = 100_000_000;

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
        millis(timeline.now(elapsed))
    }

    /// Returns the confirmed steps of the wall clock since the start, in milliseconds:
    /// what to add to [`Clock::now`] for the wall time.
    #[must_use]
    pub fn wall_ahead_ms(&self) -> i64 {
        let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        millis(timeline.stepped).0
    }
}

/// Returns the wall time as the system shows it now. It may step in both directions.
#[must_use]
pub fn wall() -> UnixMillis {
    millis(read(ClockId::Realtime))
}

fn millis(ns: i128) -> UnixMillis {
    let ms = ns.div_euclid(1_000_000);
    UnixMillis(i64::try_from(ms).expect("292 million years have not passed"))
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
    /// The wall clock minus that time and the steps.
    error: i128,
    /// The sum of the confirmed steps.
    stepped: i128,
    /// A step that is not confirmed yet, and the readings in a row that show it.
    suspected: Option<(i128, u32)>,
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
            stepped: 0,
            suspected: None,
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
        self.error = 0;
        let error = wall - shown - self.stepped;
        if error.abs() < STEP_MIN_NS {
            self.suspected = None;
            self.error = error;
            return;
        }
        let agrees = |step: i128| (error - step).abs() < STEP_AGREES_NS;
        let before = self.suspected.filter(|(step, _)| agrees(*step));
        let looks = before.map_or(1, |(_, looks)| looks + 1);
        self.suspected = Some((error, looks));
        if looks == STEP_LOOKS {
            self.stepped += error;
            self.suspected = None;
        }
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
    /// that it is monotone and never slews too fast. Returns the time that it shows and
    /// its steps.
    #[track_caller]
    fn run(seconds: i128, wall: impl Fn(i128) -> i128) -> (i128, i128) {
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
        (shown, timeline.stepped)
    }

    #[test]
    fn without_steps_it_shows_the_wall_time() {
        assert_eq!(run(100, |elapsed| START + elapsed), (START + 100 * S, 0));
    }

    #[test]
    fn a_step_of_the_wall_clock_counts_after_three_readings_and_moves_no_wait() {
        for hour in [3_600 * S, -3_600 * S] {
            let stepped = |elapsed| START + elapsed + if elapsed > 10 * S { hour } else { 0 };
            assert_eq!(run(12, stepped), (START + 12 * S, 0));
            assert_eq!(run(13, stepped), (START + 13 * S, hour));
            assert_eq!(run(1_000, stepped), (START + 1_000 * S, hour));
        }
    }

    #[test]
    fn readings_that_disagree_are_no_step() {
        let jumps = |elapsed: i128| START + elapsed + (elapsed / S % 7) * 60 * S;
        assert_eq!(run(100, jumps).1, 0);
        let once = |elapsed| START + elapsed + if elapsed == 10 * S { 60 * S } else { 0 };
        assert_eq!(run(100, once), (START + 100 * S, 0));
    }

    #[test]
    fn a_small_difference_is_slewed_and_not_overshot() {
        let (shown, stepped) = run(100, |elapsed| {
            START + elapsed + if elapsed > S { S / 100 } else { 0 }
        });
        assert!((shown - (START + 100 * S + S / 100)).abs() < 1_000);
        assert_eq!(stepped, 0);
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
