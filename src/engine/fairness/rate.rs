//! The number of recent events, in windows of a fixed length. Never IO, never a
//! clock. Runs on the runner's thread.

use crate::model::time::UnixMillis;
use std::time::Duration;

/// The length of a window where no other is asked for.
pub const WINDOW: Duration = Duration::from_millis(100);

/// The counts of this window and of the one before.
#[derive(Debug)]
pub struct Rate {
    window: Duration,
    window_start: UnixMillis,
    count: usize,
    before: usize,
}

impl Default for Rate {
    fn default() -> Self {
        Self::over(WINDOW)
    }
}

impl Rate {
    /// Returns an empty count in windows of this length.
    pub fn over(window: Duration) -> Self {
        Self {
            window,
            window_start: UnixMillis::default(),
            count: 0,
            before: 0,
        }
    }

    /// Adds events at `now`.
    pub fn add(&mut self, count: usize, now: UnixMillis) {
        let age = now.since(self.window_start);
        if age >= self.window {
            self.before = if age < 2 * self.window { self.count } else { 0 };
            self.count = 0;
            self.window_start = now;
        }
        self.count += count;
    }

    /// Returns the events of the fuller one of the last two windows.
    pub fn recent(&self, now: UnixMillis) -> usize {
        match now.since(self.window_start) < 2 * self.window {
            true => self.before.max(self.count),
            false => 0,
        }
    }
}
