//! The watchdog: ends the process when a Kafka call hangs although the brokers
//! answer other calls. librdkafka can hang in its transactional calls
//! (librdkafka#4420, #5456, #5511), and a hung thread cannot be ended. To end
//! the process is safe by design.
//!
//! Two threads watch all sessions. `kafka-watch` checks the call monitor and
//! makes no call that waits. `kafka-probe` asks the brokers with a client of its
//! own while a call is slow.

use super::call_monitor::CHECK_EVERY;
use super::client::ffi;
use super::client::log::QueryContext;
use super::current::CurrentSettings;
use super::sessions::Sessions;
use crate::model::position::Topic;
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// The interval between two requests of the probe.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The limit of each request of the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// A check that is later than this shows that the process was stopped.
const STOPPED: Duration = Duration::from_secs(5);
/// The time that the process gets to end by itself.
const END_MAX: Duration = Duration::from_secs(2);

/// What the watchdog has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchdogEvent {
    /// The process was stopped for a while, and runs again.
    Stopped,
    /// A call hangs: the process ends.
    HungCall,
}

/// Checks the call monitor until the service has ended or a call hangs. Logs the
/// hung call, reports it, and ends the process with `exit_code` after
/// [`END_MAX`].
pub fn watch(sessions: &Weak<Sessions>, report: impl Fn(WatchdogEvent), exit_code: u8) {
    let mut last_check = None;
    let hung = loop {
        thread::sleep(CHECK_EVERY);
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        let now = sessions.now();
        if last_check
            .replace(now)
            .is_some_and(|at| now.saturating_sub(at) > STOPPED)
        {
            report(WatchdogEvent::Stopped);
        }
        if let Some(hung) = sessions.calls.check() {
            break hung;
        }
    };
    tracing::error!("{hung}: the process ends; it is safe to start it again at once");
    report(WatchdogEvent::HungCall);
    thread::sleep(END_MAX);
    ffi::end_process(exit_code);
}

/// Asks the brokers while a call is slow, until the service has ended. The probe
/// may hang too: then only the answers to other calls count.
pub fn probe(settings: &CurrentSettings, sessions: &Weak<Sessions>) {
    let mut client: Option<BaseConsumer<QueryContext>> = None;
    loop {
        thread::sleep(PROBE_EVERY);
        let Some(calls) = sessions.upgrade().map(|s| Arc::clone(&s.calls)) else {
            return;
        };
        if !calls.has_slow_call() {
            client = None;
            continue;
        }
        let settings = settings.get();
        if client.is_none() {
            let config = settings.probe_config();
            client = BaseConsumer::from_config_and_context(&config, QueryContext).ok();
        }
        let Some(client) = &client else {
            continue;
        };
        if client.fetch_metadata(None, PROBE_LIMIT).is_ok() {
            calls.answered();
        }
        if coordinator_answers(client, &settings.topics.name(Topic::Source)) {
            calls.coordinator_answered();
        }
    }
}

/// Asks the group coordinator for the committed offset of the topic's first
/// partition.
fn coordinator_answers(client: &BaseConsumer<QueryContext>, topic: &str) -> bool {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let answer = client.committed_offsets(asked, PROBE_LIMIT);
    answer.is_ok_and(|list| list.elements().iter().all(|e| e.error().is_ok()))
}
