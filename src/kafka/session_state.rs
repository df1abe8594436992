//! State that the threads and callbacks of one session share: its settings, its
//! flags and the way to report events. Holds no client, so that a client's
//! callbacks may hold it. Used by all threads of a session.

use super::leaders::Leaders;
use super::sessions::Sessions;
use super::settings::KafkaSettings;
use crate::model::message::KafkaEvent;
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
}

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
        }
    }

    /// Returns the leaders of the partitions. The reader thread writes them.
    pub fn leaders(&self) -> MutexGuard<'_, Leaders> {
        // The state is consistent between any two calls of its methods.
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.waiting(why);
    }

    /// Reports that the session waits for something.
    pub fn waiting(&self, why: String) {
        self.report(KafkaEvent::Waiting { why });
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
        match code {
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL,
            ) => self.unreachable(format!("brokers cannot be reached: {reason}")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_broker_fault_is_remembered_and_reported_also_after_the_end() {
        let (sender, events) = channel();
        let settings = Arc::new(KafkaSettings::of_a_test(&["10s"]));
        let sessions = Arc::new(Sessions::new(|| Duration::ZERO));
        let report = Arc::new(move |event| sender.send(event).expect("a receiver"));
        let state = SessionState::new(settings, sessions, report);
        assert!(!state.had_broker_fault());
        state.end();
        state.unreachable("no broker answers".to_owned());
        assert!(state.had_broker_fault());
        let events: Vec<KafkaEvent> = events.try_iter().collect();
        assert_eq!(events, [KafkaEvent::BrokerFault]);
    }
}
