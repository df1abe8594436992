//! State that the threads and callbacks of one session share: its settings, its
//! flags and the way to report events. Holds no client, so that a client's
//! callbacks may hold it. Used by all threads of a session.

use super::client::log;
use super::leaders::Leaders;
use super::sessions::Sessions;
use super::settings::KafkaSettings;
use crate::model::broker::{DescribedPartition, WaitCause};
use crate::model::message::KafkaEvent;
use crate::model::position::Topic;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// State of one session.
pub struct SessionState {
    pub settings: Arc<KafkaSettings>,
    pub sessions: Arc<Sessions>,
    events: Arc<dyn Fn(KafkaEvent) + Send + Sync>,
    leaders: Mutex<Leaders>,
    alive: AtomicBool,
    leaving: AtomicBool,
    faulted: AtomicBool,
    had_broker_fault: AtomicBool,
    last_error: Mutex<Option<ConnectError>>,
}

/// Why a client could not use a broker, in its own words.
#[derive(Clone)]
struct ConnectError {
    cause: WaitCause,
    reason: String,
    at: Duration,
}

/// An older error explains nothing.
const ERROR_AGE_MAX: Duration = Duration::from_secs(90);

impl SessionState {
    /// Returns the state of a session that starts now.
    pub fn new(
        settings: Arc<KafkaSettings>,
        sessions: Arc<Sessions>,
        events: Arc<dyn Fn(KafkaEvent) + Send + Sync>,
    ) -> Self {
        Self {
            settings,
            sessions,
            events,
            leaders: Mutex::default(),
            alive: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
            faulted: AtomicBool::new(false),
            had_broker_fault: AtomicBool::new(false),
            last_error: Mutex::default(),
        }
    }

    /// Returns the leaders of the partitions.
    pub fn leaders(&self) -> MutexGuard<'_, Leaders> {
        // The state is consistent between any two calls of its methods.
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a broker told about a topic's partitions.
    pub fn set_partitions(&self, topic: Topic, partitions: Vec<DescribedPartition>) {
        let least = self.sessions.least_in_sync().get(&topic).copied();
        self.leaders().set(topic, partitions, least);
    }

    /// Notes one of librdkafka's log lines: it may tell of a lost connection.
    pub fn note_line(&self, facility: &str, text: &str) {
        if let Some(broker) = log::lost_broker(facility, text) {
            self.leaders().doubt(broker, self.now());
        }
    }

    /// Reports an event, unless the session has ended.
    pub fn report(&self, event: KafkaEvent) {
        if self.is_alive() {
            (self.events)(event);
        }
    }

    /// Reports a broker fault, also after the session has ended: it can still
    /// explain a fence.
    pub fn broker_fault(&self) {
        self.had_broker_fault.store(true, Ordering::Release);
        (self.events)(KafkaEvent::BrokerFault);
    }

    /// Returns whether a client of this session has met a broker fault.
    pub fn had_broker_fault(&self) -> bool {
        self.had_broker_fault.load(Ordering::Acquire)
    }

    /// Reports that the brokers do not answer.
    pub fn unreachable(&self, why: String) {
        self.broker_fault();
        let Some(ConnectError { cause, reason, .. }) = self.recent_error() else {
            let cause = WaitCause::Connect;
            self.report(KafkaEvent::Waiting { why, cause });
            return;
        };
        let why = match why.contains(&reason) {
            true => why,
            false => format!("{why}; a client says: {reason}"),
        };
        self.report(KafkaEvent::Waiting { why, cause });
    }

    /// Reports that the session waits for something although brokers answer.
    pub fn waiting(&self, why: String) {
        let cause = WaitCause::Other;
        self.report(KafkaEvent::Waiting { why, cause });
    }

    fn recent_error(&self) -> Option<ConnectError> {
        let last = self.last_error.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner).clone();
        last.filter(|error| self.now().saturating_sub(error.at) <= ERROR_AGE_MAX)
    }

    /// Remembers why a client could not use a broker. Each failed handshake also breaks a
    /// connection, so a broken connection alone is no new cause.
    fn remember(&self, cause: WaitCause, reason: &str) {
        let last = self.recent_error();
        if cause == WaitCause::Connect && last.is_some_and(|last| last.cause != cause) {
            return;
        }
        let error = ConnectError {
            cause,
            reason: reason.to_owned(),
            at: self.now(),
        };
        let last = self.last_error.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Reports that the consumer cannot continue. Only the first fault counts.
    pub fn consumer_fault(&self, why: String) {
        if !self.faulted.swap(true, Ordering::AcqRel) {
            self.report(KafkaEvent::ConsumerFault { why });
        }
    }

    /// Reports that a thread of this session has ended too early, if a request
    /// for it could not be sent.
    pub fn check_sent<E>(&self, sent: Result<(), E>) {
        if sent.is_err() && self.is_active() {
            self.consumer_fault("a thread of the Kafka session has ended too early".to_owned());
        }
    }

    /// Reports that a later member took this instance name. Only the first fault
    /// counts.
    pub fn consumer_fenced(&self) {
        if !self.faulted.swap(true, Ordering::AcqRel) {
            self.report(KafkaEvent::ConsumerFenced);
        }
    }

    /// Handles an error that a client of this session reports by itself.
    pub fn client_error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if let Some(cause) = code.and_then(cause_of) {
            self.remember(cause, reason);
        }
        match code {
            // Its text counts connections, and calls them brokers.
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let last = self.recent_error().map(|error| error.reason);
                let last = last.as_deref().unwrap_or("they do not answer");
                self.unreachable(format!("no broker can be reached: {last}"));
            }
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                self.unreachable(format!("brokers cannot be reached: {reason}"));
            }
            // The other brokers may still answer.
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {
                self.broker_fault();
            }
            _ => {}
        }
        if let Some(held_back) = self.sessions.throttle.pass(&format!("error {code:?}")) {
            tracing::warn!(?code, reason, held_back, "kafka client error");
        }
    }

    /// Returns whether the consumer cannot continue.
    pub fn is_faulted(&self) -> bool {
        self.faulted.load(Ordering::Acquire)
    }

    /// Returns whether the session has not ended.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Returns whether the runner still answers rebalances of this session.
    pub fn is_active(&self) -> bool {
        self.is_alive() && !self.leaving.load(Ordering::Acquire)
    }

    /// Notes that the consumer leaves the group. From now on the session itself
    /// gives back revoked partitions.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Ends the session: it reports no further events but broker faults. Its threads end when their
    /// current calls return.
    pub fn end(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Returns the monotonic time.
    pub fn now(&self) -> Duration {
        self.sessions.now()
    }
}

/// Returns why a client could not use a broker, if this error says so.
fn cause_of(code: RDKafkaErrorCode) -> Option<WaitCause> {
    match code {
        RDKafkaErrorCode::SSL => Some(WaitCause::Tls),
        RDKafkaErrorCode::Authentication => Some(WaitCause::Authentication),
        RDKafkaErrorCode::Resolve => Some(WaitCause::Name),
        RDKafkaErrorCode::BrokerTransportFailure => Some(WaitCause::Connect),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn state() -> (SessionState, Receiver<KafkaEvent>) {
        let (sender, events) = channel();
        let settings = Arc::new(KafkaSettings::of_a_test(&["10s"]));
        let sessions = Arc::new(Sessions::new(|| Duration::ZERO));
        let report = Arc::new(move |event| sender.send(event).expect("a receiver"));
        (SessionState::new(settings, sessions, report), events)
    }

    #[test]
    fn a_wait_for_brokers_names_the_last_error_and_not_the_connections_it_broke() {
        let (state, events) = state();
        let error = |code, reason| state.client_error(&KafkaError::Global(code), reason);
        error(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        error(
            RDKafkaErrorCode::BrokerTransportFailure,
            "connection refused",
        );
        error(RDKafkaErrorCode::AllBrokersDown, "2/2 brokers are down");
        error(RDKafkaErrorCode::SSL, "expired");
        error(RDKafkaErrorCode::BrokerTransportFailure, "disconnected");
        error(RDKafkaErrorCode::AllBrokersDown, "2/2 brokers are down");
        state.unreachable("no topics".to_owned());
        let waits = events.try_iter().filter_map(|event| match event {
            KafkaEvent::Waiting { why, cause } => Some((why, cause)),
            _ => None,
        });
        let waits: Vec<_> = waits.collect();
        let waits: Vec<_> = waits
            .iter()
            .map(|(why, cause)| (&why[..], *cause))
            .collect();
        let expected = [
            (
                "no broker can be reached: they do not answer",
                WaitCause::Connect,
            ),
            (
                "no broker can be reached: connection refused",
                WaitCause::Connect,
            ),
            ("brokers cannot be reached: expired", WaitCause::Tls),
            ("no broker can be reached: expired", WaitCause::Tls),
            ("no topics; a client says: expired", WaitCause::Tls),
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn a_broker_fault_is_remembered_and_reported_also_after_the_end() {
        let (state, events) = state();
        assert!(!state.had_broker_fault());
        state.end();
        state.unreachable("no broker answers".to_owned());
        assert!(state.had_broker_fault());
        let events: Vec<KafkaEvent> = events.try_iter().collect();
        assert_eq!(events, [KafkaEvent::BrokerFault]);
    }
}
