//! Wakes the consumer thread from any other. Never blocks the one who wakes:
//! librdkafka calls it under the lock of a queue.

use std::sync::OnceLock;
use std::thread::{self, Thread};
use std::time::Duration;

/// One thread that sleeps, and whoever wakes it.
#[derive(Default)]
pub struct Waker {
    sleeper: OnceLock<Thread>,
}

impl Waker {
    /// Makes the calling thread the sleeper. Once, before it first looks for
    /// work: what came before needs no waking.
    pub fn register(&self) {
        self.sleeper.get_or_init(thread::current);
    }

    /// Ends the present or the next [`Waker::sleep`].
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
