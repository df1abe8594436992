//! Measures how long each call of a Kafka thread takes, so that the watchdog
//! finds a call that never returns. It never ends anything. The threads of all
//! sessions report to it, and the watchdog reads it.
//!
//! A call is any step of a thread, also a wait or its own work. Each thread must start
//! its next call within the limit of this one and [`SLACK`], 15 s.
//!
//! Time is charged to a call only while the brokers answer other calls, so an
//! outage of any length charges nothing. A call that waits for the group
//! coordinator is charged only while the coordinator answers. One check charges
//! at most [`CHECK_EVERY`]: a process that was stopped finds no hung call when
//! it continues.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The interval between two checks.
pub const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Each call may exceed its own limit by this, even one with limit zero.
pub const SLACK: Duration = Duration::from_secs(15);
/// The limit for closing a client. librdkafka waits for network operations,
/// which end with the socket timeout, and for name lookups.
pub const CLOSE: Duration = Duration::from_secs(30);
/// The limit for a client that should answer every second. Its "call" is the time
/// since its last answer. Beyond this and [`SLACK`], the client is unusable.
pub const CLIENT_MAX: Duration = Duration::from_secs(30);
/// How long one answer proves that the brokers answer. Answers come every second:
/// about log bounds (where each log starts and ends), and to the probe.
const ANSWER_VALID: Duration = Duration::from_secs(3);
/// A call that takes longer is slow: the probe then asks the brokers.
const SLOW_CALL: Duration = Duration::from_secs(4);

/// The current call of each Kafka thread and client.
pub struct CallMonitor {
    now: fn() -> Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: BTreeMap<u64, Call>,
    last_id: u64,
    brokers_answered: Option<Duration>,
    coordinator_answered: Option<Duration>,
    checked: Duration,
}

struct Call {
    caller: Caller,
    name: &'static str,
    started: Duration,
    limit: Duration,
    charged: Duration,
    waits_for: Answerer,
}

#[derive(Clone, Copy)]
enum Caller {
    /// A thread, which can hang.
    Thread(&'static str),
    /// A client that should answer. It can be overdue, but is no hung call.
    Client,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answerer {
    AnyBroker,
    Coordinator,
}

/// A call that does not return although the brokers answer other calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HungCall {
    pub thread: &'static str,
    pub call: &'static str,
    /// Time since the call started.
    pub elapsed: Duration,
    /// The most charged time that the call may take.
    pub limit: Duration,
}

impl fmt::Display for HungCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (thread, call) = (self.thread, self.call);
        let (elapsed, limit) = (self.elapsed.as_secs(), self.limit.as_secs());
        write!(
            f,
            "thread {thread} has not returned from '{call}' for {elapsed} s; its limit is \
             {limit} s, and the brokers answer other calls"
        )
    }
}

impl CallMonitor {
    /// Returns a monitor without calls. `now` is a monotonic clock.
    pub fn new(now: fn() -> Duration) -> Self {
        Self {
            now,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements, so a poisoned lock is
        // usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the timer of a thread. Call it before the thread is spawned: then a
    /// thread that never starts is found too.
    pub fn thread(self: &Arc<Self>, thread: &'static str) -> CallTimer {
        self.timer(Caller::Thread(thread))
    }

    /// Returns the timer of a client that should answer. Its calls never count
    /// as hung: the thread that uses the client asks [`CallTimer::is_overdue`].
    pub fn client(self: &Arc<Self>) -> CallTimer {
        self.timer(Caller::Client)
    }

    fn timer(self: &Arc<Self>, caller: Caller) -> CallTimer {
        let started = (self.now)();
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        let call = Call {
            caller,
            name: "start",
            started,
            limit: SLACK,
            charged: Duration::ZERO,
            waits_for: Answerer::AnyBroker,
        };
        state.calls.insert(id, call);
        CallTimer {
            monitor: Arc::clone(self),
            id,
        }
    }

    /// Notes that a broker has just answered a call.
    pub fn answered(&self) {
        let now = (self.now)();
        self.lock().brokers_answered = Some(now);
    }

    /// Notes that the group coordinator has just answered a call.
    pub fn coordinator_answered(&self) {
        let now = (self.now)();
        self.lock().coordinator_answered = Some(now);
    }

    /// Returns whether a call is slow, so that the probe should ask the brokers.
    pub fn has_slow_call(&self) -> bool {
        let now = (self.now)();
        let state = self.lock();
        let mut calls = state.calls.values();
        calls.any(|call| now.saturating_sub(call.started) >= SLOW_CALL)
    }

    /// Charges the time since the last check and returns a call that is over its
    /// limit. Must run every [`CHECK_EVERY`].
    pub fn check(&self) -> Option<HungCall> {
        let now = (self.now)();
        let mut state = self.lock();
        let passed = now.saturating_sub(state.checked).min(CHECK_EVERY);
        state.checked = now;
        let is_recent = |answered: Option<Duration>| {
            answered.is_some_and(|answered| now.saturating_sub(answered) <= ANSWER_VALID)
        };
        if !is_recent(state.brokers_answered) {
            return None;
        }
        let coordinator_answers = is_recent(state.coordinator_answered);
        let mut hung = None;
        for call in state.calls.values_mut() {
            if call.waits_for == Answerer::Coordinator && !coordinator_answers {
                continue;
            }
            call.charged += passed;
            if let Caller::Thread(thread) = call.caller
                && call.charged > call.limit
            {
                hung.get_or_insert(HungCall {
                    thread,
                    call: call.name,
                    elapsed: now.saturating_sub(call.started),
                    limit: call.limit,
                });
            }
        }
        hung
    }
}

/// Times the calls of one thread or client, until it is dropped.
pub struct CallTimer {
    monitor: Arc<CallMonitor>,
    id: u64,
}

impl CallTimer {
    /// Starts timing a call that returns within `own_limit` by itself. Ends the
    /// timing of the call before.
    pub fn start(&self, call: &'static str, own_limit: Duration) {
        self.restart(call, own_limit, Answerer::AnyBroker);
    }

    /// Starts timing a call that returns within `own_limit` by itself once the
    /// group coordinator answers.
    pub fn start_with_coordinator(&self, call: &'static str, own_limit: Duration) {
        self.restart(call, own_limit, Answerer::Coordinator);
    }

    fn restart(&self, name: &'static str, own_limit: Duration, waits_for: Answerer) {
        let now = (self.monitor.now)();
        let mut state = self.monitor.lock();
        if let Some(call) = state.calls.get_mut(&self.id) {
            call.name = name;
            call.started = now;
            call.limit = own_limit + SLACK;
            call.charged = Duration::ZERO;
            call.waits_for = waits_for;
        }
    }

    /// Returns whether the current call is over its limit.
    pub fn is_overdue(&self) -> bool {
        let state = self.monitor.lock();
        let call = state.calls.get(&self.id);
        call.is_some_and(|call| call.charged > call.limit)
    }

    /// Notes that a broker has answered this thread.
    pub fn answered(&self) {
        self.monitor.answered();
    }
}

impl Drop for CallTimer {
    fn drop(&mut self) {
        self.monitor.lock().calls.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    const CALL: Duration = Duration::from_secs(5);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn monitor() -> Arc<CallMonitor> {
        NOW.set(Duration::from_secs(1_000));
        Arc::new(CallMonitor::new(|| NOW.get()))
    }

    /// Lets the brokers answer for this long. Returns the first hung call and
    /// the time until it was found.
    fn check_for(monitor: &CallMonitor, span: Duration) -> Option<(HungCall, Duration)> {
        let start = NOW.get();
        while NOW.get() - start < span {
            NOW.set(NOW.get() + CHECK_EVERY);
            monitor.answered();
            if let Some(hung) = monitor.check() {
                return Some((hung, NOW.get() - start));
            }
        }
        None
    }

    /// Checks for this long while no broker answers.
    fn check_in_outage(monitor: &CallMonitor, span: Duration) -> Option<HungCall> {
        let start = NOW.get();
        while NOW.get() - start < span {
            NOW.set(NOW.get() + CHECK_EVERY);
            if let Some(hung) = monitor.check() {
                return Some(hung);
            }
        }
        None
    }

    #[test]
    fn a_call_that_does_not_return_is_found_once_the_brokers_answer_others() {
        let monitor = monitor();
        let moving = monitor.thread("kafka-move");
        let polling = monitor.thread("kafka-consumer");
        moving.start("commit_transaction", CALL);
        polling.start("poll", HOUR);
        let (hung, after) = check_for(&monitor, HOUR).expect("hung");
        assert_eq!(
            (hung.thread, hung.call),
            ("kafka-move", "commit_transaction")
        );
        assert!(after > CALL + SLACK && after < CALL + SLACK + 2 * CHECK_EVERY);
        assert_eq!(hung.elapsed, after);
    }

    #[test]
    fn no_call_hangs_during_an_outage_and_a_hung_call_is_found_after_it() {
        let monitor = monitor();
        let timer = monitor.thread("kafka-move");
        timer.start("commit_transaction", CALL);
        assert!(check_for(&monitor, Duration::from_secs(10)).is_none());
        assert!(check_in_outage(&monitor, 100 * HOUR).is_none());
        let (_, after) = check_for(&monitor, HOUR).expect("hung");
        assert!(after < CALL + SLACK, "time before the outage counts too");
    }

    #[test]
    fn a_call_that_waits_for_the_coordinator_is_charged_only_while_the_coordinator_answers() {
        let monitor = monitor();
        let timer = monitor.thread("kafka-move");
        timer.start_with_coordinator("send_offsets_to_transaction", CALL);
        assert!(check_for(&monitor, HOUR).is_none());
        let start = NOW.get();
        let hung = loop {
            monitor.coordinator_answered();
            if let Some((hung, _)) = check_for(&monitor, CHECK_EVERY) {
                break hung;
            }
        };
        assert_eq!(hung.call, "send_offsets_to_transaction");
        assert!(NOW.get() - start > CALL + SLACK);
        // The next call of the same thread waits for any broker.
        timer.start("commit_transaction", CALL);
        assert!(check_for(&monitor, HOUR).is_some());
    }

    #[test]
    fn calls_that_return_are_never_hung() {
        let monitor = monitor();
        let timer = monitor.thread("kafka-move");
        for _ in 0..100 {
            timer.start("commit_transaction", CALL);
            assert!(check_for(&monitor, CALL + SLACK).is_none());
        }
        drop(timer);
        assert!(check_for(&monitor, HOUR).is_none());
    }

    #[test]
    fn a_process_that_was_stopped_is_not_charged_for_it() {
        let monitor = monitor();
        let timer = monitor.thread("kafka-consumer");
        timer.start("poll", Duration::ZERO);
        assert!(check_for(&monitor, Duration::from_secs(5)).is_none());
        NOW.set(NOW.get() + HOUR);
        assert!(check_for(&monitor, Duration::from_secs(9)).is_none());
    }

    #[test]
    fn a_client_that_does_not_answer_is_overdue_and_never_hung() {
        let monitor = monitor();
        let client = monitor.client();
        client.start("answer", CALL);
        assert!(check_for(&monitor, CALL + SLACK).is_none());
        assert!(!client.is_overdue());
        assert!(check_for(&monitor, HOUR).is_none());
        assert!(client.is_overdue());
        client.start("answer", CALL);
        assert!(!client.is_overdue());
    }

    #[test]
    fn the_probe_asks_the_brokers_only_while_a_call_is_slow() {
        let monitor = monitor();
        let timer = monitor.thread("kafka-read");
        assert!(!monitor.has_slow_call());
        NOW.set(NOW.get() + SLOW_CALL);
        assert!(monitor.has_slow_call());
        timer.start("log bounds", Duration::ZERO);
        assert!(!monitor.has_slow_call());
    }
}
