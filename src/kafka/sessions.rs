//! State that all Kafka sessions of the process share. Holds no client and no
//! thread. Used by all threads of all sessions.

use super::call_monitor::CallMonitor;
use super::client::log::LogThrottle;
use crate::model::message::OpenTransaction;
use crate::model::position::Generation;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long after a broker fault a fence may come from this process itself: an
/// older request can arrive after the member joined again under its name.
const BROKER_FAULT: Duration = Duration::from_secs(60);
/// The most fences within [`BROKER_FAULT`] that may come from this process
/// itself. Two processes of one name fence each other every second or two.
const OWN_FENCES_MAX: usize = 3;

/// State that all Kafka sessions of the process share.
pub struct Sessions {
    pub(super) calls: Arc<CallMonitor>,
    pub(super) throttle: LogThrottle,
    /// The topics' settings are valid: a later session need not ask again.
    pub(super) topics_accepted: AtomicBool,
    now: fn() -> Duration,
    last_session: AtomicU64,
    last_generation: AtomicU64,
    /// When the brokers last did not answer in time, in ms; never: 0.
    broker_fault_ms: AtomicU64,
    /// When other members took this instance name. At most one for each session,
    /// and one session starts each second, so 60.
    fenced_at: Mutex<VecDeque<Duration>>,
    open_transaction: Mutex<OpenTransaction>,
}

impl Sessions {
    /// Returns the state before the first session. `now` is a monotonic clock.
    #[must_use]
    pub fn new(now: fn() -> Duration) -> Self {
        Self {
            calls: Arc::new(CallMonitor::new(now)),
            throttle: LogThrottle::new(now),
            topics_accepted: AtomicBool::new(false),
            now,
            last_session: AtomicU64::new(0),
            last_generation: AtomicU64::new(0),
            broker_fault_ms: AtomicU64::new(0),
            fenced_at: Mutex::default(),
            // An earlier process may have died in the middle of a transaction.
            open_transaction: Mutex::new(OpenTransaction::Offsets),
        }
    }

    /// Returns the number of dropped sessions with threads that still run.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.calls.unfinished_sessions()
    }

    /// Returns a session number that no other session has.
    pub(super) fn next_session(&self) -> u64 {
        self.last_session.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns a generation that no other session has.
    pub(super) fn next_generation(&self) -> Generation {
        Generation(self.last_generation.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Returns the monotonic time.
    pub(super) fn now(&self) -> Duration {
        (self.now)()
    }

    /// Notes that the brokers did not answer in time, or removed the member.
    pub(super) fn note_broker_fault(&self) {
        let ms = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        self.broker_fault_ms.store(ms.max(1), Ordering::Release);
    }

    /// Returns whether the brokers had a fault within [`BROKER_FAULT`].
    pub(super) fn had_broker_fault(&self) -> bool {
        let ms = self.broker_fault_ms.load(Ordering::Acquire);
        ms > 0 && self.now().saturating_sub(Duration::from_millis(ms)) < BROKER_FAULT
    }

    /// Notes that a member took this instance name. Returns whether it must be
    /// another process.
    pub(super) fn name_in_use(&self) -> bool {
        let now = self.now();
        let mut fenced = lock(&self.fenced_at);
        fenced.push_back(now);
        fenced.retain(|at| now.saturating_sub(*at) < BROKER_FAULT);
        fenced.len() > OWN_FENCES_MAX || !self.had_broker_fault()
    }

    /// Returns what transactions may have left open.
    pub(super) fn open_transaction(&self) -> MutexGuard<'_, OpenTransaction> {
        lock(&self.open_transaction)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded values are consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOW_MS: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_broker_fault_is_remembered_for_a_minute() {
        let sessions = Sessions::new(|| Duration::from_millis(NOW_MS.load(Ordering::Relaxed)));
        assert!(!sessions.had_broker_fault());
        sessions.note_broker_fault();
        assert!(sessions.had_broker_fault());
        NOW_MS.store(59_000, Ordering::Relaxed);
        assert!(sessions.had_broker_fault());
        NOW_MS.store(60_002, Ordering::Relaxed);
        assert!(!sessions.had_broker_fault());
    }

    #[test]
    fn a_fence_comes_from_another_process_unless_a_broker_fault_explains_it_three_times() {
        let without_fault = Sessions::new(|| Duration::ZERO);
        assert!(without_fault.name_in_use());
        let with_fault = Sessions::new(|| Duration::ZERO);
        with_fault.note_broker_fault();
        assert_eq!(
            [(); 4].map(|()| with_fault.name_in_use()),
            [false, false, false, true]
        );
    }
}
