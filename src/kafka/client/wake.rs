//! Wakes the consumer thread from any other thread. Never blocks the caller:
//! librdkafka calls it while it holds the lock of a queue.

use std::sync::OnceLock;
use std::thread::{self, Thread};
use std::time::Duration;

/// Wakes one registered thread.
#[derive(Default)]
pub struct Waker {
    sleeper: OnceLock<Thread>,
}

impl Waker {
    /// Registers the calling thread as the sleeper. Must run once, before the
    /// thread first looks for work: earlier requests then need no wake-up.
    pub fn register(&self) {
        self.sleeper.get_or_init(thread::current);
    }

    /// Ends the current or the next [`Waker::sleep`].
    pub fn wake(&self) {
        if let Some(thread) = self.sleeper.get() {
            thread.unpark();
        }
    }

    /// Sleeps until woken, for `limit` at most.
    pub fn sleep(&self, limit: Duration) {
        thread::park_timeout(limit);
    }
}
