//! What is measured for diverts: the durations of a tenant's attempts, and the number
//! of diverts. `diverts` decides by it. Never IO, never a clock. Runs on the runner's
//! thread.

use super::rate::Rate;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// The window in which diverts are counted.
const LOAD_WINDOW_MS: i64 = 10_000;
/// The diverts of all lanes together in a window before records climb. The lanes that
/// divert have equal shares.
const DIVERTS_MAX: usize = 2_000;
/// The window of the rate of a tenant that answers 429.
const PACED_WINDOW: Duration = Duration::from_secs(5);
/// The weight of one attempt in the mean duration is one of this many.
const MEAN_OF: u32 = 8;

/// The durations of a tenant's attempts.
#[derive(Debug)]
pub struct AttemptTime {
    last: Duration,
    mean: Duration,
    ends: Rate,
}

impl Default for AttemptTime {
    fn default() -> Self {
        Self {
            last: Duration::ZERO,
            mean: Duration::ZERO,
            ends: Rate::over(PACED_WINDOW),
        }
    }
}

impl AttemptTime {
    /// Notes that an attempt ended after this time. Only durations of a tenant that
    /// answered the attempt before belong to the mean.
    pub fn note(&mut self, after: Duration, answered_before: bool, now: UnixMillis) {
        self.ends.add(1, now);
        self.last = after;
        self.mean = match answered_before {
            true => (self.mean * (MEAN_OF - 1) + after) / MEAN_OF,
            false => after,
        };
    }

    /// Returns the duration of the last attempt; zero before the first.
    pub fn last(&self) -> Duration {
        self.last
    }

    /// Returns the mean duration of recent attempts; zero before the first.
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// Returns the mean time between two ends, if there were some recently.
    pub fn between_ends(&self, now: UnixMillis) -> Option<Duration> {
        let ends = u32::try_from(self.ends.recent(now)).unwrap_or(u32::MAX);
        PACED_WINDOW.checked_div(ends)
    }
}

/// The diverts of one lane in a window.
#[derive(Debug, Default)]
pub struct LaneDiverts {
    window: i64,
    count: usize,
}

/// The number of lanes that divert, in this window and in the one before.
#[derive(Debug, Default)]
pub struct DivertLoad {
    window: i64,
    lanes: usize,
    before: usize,
}

impl DivertLoad {
    /// Counts a divert of this lane. Returns whether the lane is within its share.
    pub fn count(&mut self, lane: &mut LaneDiverts, now: UnixMillis) -> bool {
        let window = now.0.div_euclid(LOAD_WINDOW_MS);
        if self.window != window {
            let is_next = self.window + 1 == window;
            self.before = if is_next { self.lanes } else { 0 };
            (self.window, self.lanes) = (window, 0);
        }
        if lane.window != window {
            (lane.window, lane.count) = (window, 0);
        }
        if lane.count == 0 {
            self.lanes += 1;
        }
        lane.count += 1;
        lane.count <= DIVERTS_MAX / self.lanes.max(self.before)
    }
}
