//! State that all Kafka sessions of the process share. Holds no client and no
//! thread. Used by all threads of all sessions.

use super::call_monitor::CallMonitor;
use super::client::log::LogThrottle;
use crate::model::position::{Generation, Partition, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// State that all Kafka sessions of the process share.
pub struct Sessions {
    pub(super) calls: Arc<CallMonitor>,
    pub(super) throttle: LogThrottle,
    /// Partitions of unreachable leaders in which an earlier transaction may be open. The
    /// next commit there would bring back what was aborted, so they are not used.
    unclosed: Mutex<BTreeSet<Partition>>,
    /// `min.insync.replicas` of the topics, as it was read last.
    least_in_sync: Mutex<BTreeMap<Topic, usize>>,
    now: fn() -> Duration,
    last_generation: AtomicU64,
}

impl Sessions {
    /// Returns the state before the first session. `now` is a monotonic clock.
    #[must_use]
    pub fn new(now: fn() -> Duration) -> Self {
        Self {
            calls: Arc::new(CallMonitor::new(now)),
            throttle: LogThrottle::new(now),
            unclosed: Mutex::default(),
            least_in_sync: Mutex::default(),
            now,
            last_generation: AtomicU64::new(0),
        }
    }

    /// Returns a generation that no other session has.
    pub(super) fn next_generation(&self) -> Generation {
        Generation(self.last_generation.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Returns the partitions in which an earlier transaction may be open. The
    /// transaction thread writes them.
    pub(super) fn unclosed(&self) -> MutexGuard<'_, BTreeSet<Partition>> {
        // The set is consistent between any two statements.
        self.unclosed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `min.insync.replicas` of the topics, as far as it was read.
    pub(super) fn least_in_sync(&self) -> MutexGuard<'_, BTreeMap<Topic, usize>> {
        // As for the unclosed partitions.
        let least = self.least_in_sync.lock();
        least.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the monotonic time.
    pub(super) fn now(&self) -> Duration {
        (self.now)()
    }
}
