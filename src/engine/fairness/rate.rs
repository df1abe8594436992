//! The number of recent events, in windows of a fixed length. Never IO, never a
//! clock. Runs on the runner's thread.

use crate::model::time::UnixMillis;
use std::time::Duration;

/// The length of a window.
pub const WINDOW: Duration = Duration::from_millis(100);

/// The counts of this window and of the one before.
#[derive(Debug, Default)]
pub struct Rate {
    window_start: UnixMillis,
    count: usize,
    before: usize,
}

impl Rate {
    /// Adds events at `now`.
    pub fn add(&mut self, count: usize, now: UnixMillis) {
        let age = now.since(self.window_start);
        if age >= WINDOW {
            self.before = if age < 2 * WINDOW { self.count } else { 0 };
            self.count = 0;
            self.window_start = now;
        }
        self.count += count;
    }

    /// Returns the events of the fuller one of the last two windows.
    pub fn recent(&self, now: UnixMillis) -> usize {
        match now.since(self.window_start) < 2 * WINDOW {
            true => self.before.max(self.count),
            false => 0,
        }
    }
}
