//! The transactional producer with a timer for each of its calls, and the reasons
//! why a transaction stops. Decides nothing. Runs on the transaction thread;
//! delivery reports run inside the calls that poll.

use crate::kafka::call_monitor::{CLOSE, CallTimer};
use crate::kafka::client::ffi::{self, TransactionError};
use crate::kafka::client::{convert, log, reports};
use crate::kafka::session_state::SessionState;
use crate::kafka::settings::TRANSACTION_SOCKET;
use crate::model::destination::Refusals;
use crate::model::message::KafkaEvent;
use crate::model::time::UnixMillis;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The limit of one call of librdkafka. A call without an answer is repeated.
pub const CALL_MAX: Duration = Duration::from_secs(5);
/// The pause before a call is repeated.
pub const RETRY_AFTER: Duration = Duration::from_millis(20);
/// The wait for the delivery reports of a transaction. It is shorter than the lease
/// of the reservations in it, with time for the abort.
const REPORTS_MAX: Duration = Duration::from_millis(1_500);
/// The longest wait for delivery reports that tells the broker's clock. The error is
/// at most half of it.
const APPEND_MAX: Duration = Duration::from_millis(500);
/// The limit of one call that aborts. It is repeated until it answers.
const ABORT_MAX: Duration = Duration::from_secs(1);
/// The limit of one call that adds offsets, while the group coordinator answers.
/// The call's own limit bounds only its first request. Finding the coordinator
/// and sending the offsets may each meet a frozen broker, and so may the wait
/// for a connection to close.
const OFFSETS_CALL_MAX: Duration = CALL_MAX.saturating_add(TRANSACTION_SOCKET.saturating_mul(3));

/// Why a transaction does not reach its commit.
pub enum Stop {
    /// It must be aborted: a rebalance, or another cause that ends with the abort.
    Refused(String),
    /// It must be aborted: a record in it is too large.
    TooLarge,
    /// It must be aborted: records were not delivered, or no report came in time.
    NotDelivered(Reports),
    /// It must be aborted: destinations refused records.
    Destinations(Refusals, String),
    /// It waits for a leader that does not answer, although others do. Only a new
    /// producer ends it soon.
    Stuck,
    /// The producer cannot be used any more.
    Fatal(String, Option<RDKafkaErrorCode>),
    SessionEnded,
}

impl From<KafkaError> for Stop {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        match transaction_error(&error) {
            Some(answer) if answer.is_fatal() => Self::Fatal(error.to_string(), code),
            _ if code.is_some_and(convert::is_too_large) => Self::TooLarge,
            _ if code == Some(RDKafkaErrorCode::Fatal) => Self::Fatal(error.to_string(), code),
            _ => Self::Refused(error.to_string()),
        }
    }
}

fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}

/// Returns librdkafka's answer, if the error comes from a transactional call.
pub fn transaction_error(error: &KafkaError) -> Option<&RDKafkaError> {
    match error {
        KafkaError::Transaction(answer) => Some(answer),
        _ => None,
    }
}

/// The delivery reports of one transaction, by topic name.
pub type Reports = BTreeMap<String, TopicReports>;

/// The delivery reports of one topic.
#[derive(Default, Debug)]
pub struct TopicReports {
    pub answered: usize,
    /// The latest time at which the broker appended a record, by the broker's clock.
    appended_at: Option<UnixMillis>,
    /// The codes of records that were not delivered, each once.
    pub failed: Vec<RDKafkaErrorCode>,
}

/// When the records of a transaction were appended.
#[derive(Clone, Copy)]
pub struct AppendTime {
    /// By the broker's clock.
    pub at: UnixMillis,
    /// The middle between sending the records and the last report.
    pub middle: Duration,
}

/// Returns when a broker appended the record, where the topic has the broker's times.
fn appended_at(timestamp: Timestamp) -> Option<UnixMillis> {
    match timestamp {
        Timestamp::LogAppendTime(at) => Some(UnixMillis(at)),
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
    }
}

/// The producer's callbacks.
pub struct ProducerCallbacks {
    state: Arc<SessionState>,
    reports: Mutex<Reports>,
}

impl ProducerCallbacks {
    fn note(&self, topic: &str, answer: Result<Option<UnixMillis>, RDKafkaErrorCode>) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if !reports.contains_key(topic) {
            reports.insert(topic.to_owned(), TopicReports::default());
        }
        if let Some(of) = reports.get_mut(topic) {
            of.answered += 1;
            let new = answer.err().filter(|code| !of.failed.contains(code));
            of.failed.extend(new);
            of.appended_at = of.appended_at.max(answer.ok().flatten());
        }
    }

    /// Returns the reports since the last call.
    fn take_reports(&self) -> Reports {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *reports)
    }
}

impl ClientContext for ProducerCallbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.state.note_line(facility, text);
        // librdkafka says that a producer ignores `allow.auto.create.topics`, and
        // obeys it.
        if facility != "CONFWARN" || !text.contains("allow.auto.create.topics") {
            log::pass_on(&self.state.sessions.throttle, level, facility, text);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.state.client_error(&error, reason);
    }
}

impl ProducerContext for ProducerCallbacks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(record) => self.note(record.topic(), Ok(appended_at(record.timestamp()))),
            Err((error, record)) => self.note(record.topic(), Err(code(error))),
        }
    }
}

/// The transactional producer. Its timer covers each call, also the closing.
pub struct TimedProducer<'a> {
    pub state: &'a Arc<SessionState>,
    pub timer: &'a CallTimer,
    /// The brokers are not asked about topics before a transaction until then.
    pub look_after: Cell<Duration>,
    /// No transaction starts until then, because the one before has not ended. Zero where
    /// it has.
    pub busy_until: Cell<Duration>,
    producer: BaseProducer<ProducerCallbacks>,
}

impl Drop for TimedProducer<'_> {
    /// Starts the timer: the producer itself closes after this.
    fn drop(&mut self) {
        self.timer.start("close", CLOSE);
    }
}

impl<'a> TimedProducer<'a> {
    /// Makes a producer. It runs no transactions before [`TimedProducer::init`].
    /// Returns `None` after it reported wrong settings.
    pub fn make(state: &'a Arc<SessionState>, timer: &'a CallTimer) -> Option<Self> {
        timer.start("make a producer", Duration::ZERO);
        let callbacks = ProducerCallbacks {
            state: Arc::clone(state),
            reports: Mutex::default(),
        };
        let config = state.settings.producer_config();
        match BaseProducer::from_config_and_context(&config, callbacks) {
            Ok(producer) => Some(Self {
                state,
                timer,
                look_after: Cell::default(),
                busy_until: Cell::default(),
                producer,
            }),
            Err(error) => {
                let why = format!("cannot make a producer: {error}");
                state.report(KafkaEvent::WrongSettings { why });
                None
            }
        }
    }

    /// Returns the producer's client.
    pub fn client(&self) -> &Client<ProducerCallbacks> {
        self.producer.client()
    }

    /// Whether the transaction before has not ended, and it is not time to try again.
    pub fn is_busy(&self) -> bool {
        self.state.now() < self.busy_until.get()
    }

    /// Tells operators that all moves wait for the end of the transaction before.
    pub fn warn_not_ended(&self) {
        tracing::warn!("moves wait: Kafka has not ended the transaction before");
    }

    /// Initialises transactions, which ends an open transaction of this name.
    pub fn init(&self, limit: Duration) -> KafkaResult<()> {
        self.timer.start("init_transactions", limit);
        let initialised = self.producer.init_transactions(limit);
        match &initialised {
            Ok(()) => self.timer.answered(),
            Err(_) => self.serve(),
        }
        initialised
    }

    /// Begins a transaction. Errors: the producer cannot be used any more.
    pub fn begin(&self) -> Result<(), Stop> {
        self.timer.start("begin_transaction", Duration::ZERO);
        self.producer
            .begin_transaction()
            .map_err(|error| Stop::Fatal(error.to_string(), error.rdkafka_error_code()))
    }

    /// Adds group offsets to the transaction, with a member's metadata.
    pub fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        metadata: &ConsumerGroupMetadata,
    ) -> KafkaResult<()> {
        self.time_offsets();
        self.producer
            .send_offsets_to_transaction(offsets, metadata, CALL_MAX)
    }

    /// Adds group offsets to the transaction by group name only.
    ///
    /// Errors: the broker's answer, or `None` when the group's name holds a NUL.
    pub fn send_group_offsets(
        &self,
        offsets: &TopicPartitionList,
    ) -> Result<(), Option<TransactionError>> {
        self.time_offsets();
        let group = &self.state.settings.group;
        ffi::send_group_offsets(self.client(), group, offsets, CALL_MAX)
    }

    fn time_offsets(&self) {
        self.timer
            .start_with_coordinator("send_offsets_to_transaction", OFFSETS_CALL_MAX);
    }

    /// Hands a record to the producer. Waits while the queue is full. Errors:
    /// librdkafka's other errors.
    pub fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), Stop> {
        while let Err((error, back)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let callbacks = self.producer.context();
                callbacks.note(back.topic, Err(code(&error)));
                return Err(error.into());
            }
            self.check_alive()?;
            reports::take_or_wait(&self.producer);
            record = back;
        }
        Ok(())
    }

    /// Calls `send_all`, then takes all delivery reports. A commit would wait
    /// 100 ms for each report that is left. An abort would wait for all of them.
    /// Returns when the records were appended.
    pub fn produce(
        &self,
        send_all: impl FnOnce() -> Result<(), Stop>,
    ) -> Result<Option<AppendTime>, Stop> {
        self.timer.start("produce", REPORTS_MAX);
        let started = self.state.now();
        let sent = send_all();
        let complete = self.await_reports();
        let took = self.state.now().saturating_sub(started);
        let reports = self.producer.context().take_reports();
        let mut failed = reports.values().flat_map(|of| &of.failed);
        let severe = |code: &&RDKafkaErrorCode| {
            convert::is_too_large(**code) || **code == RDKafkaErrorCode::Fatal
        };
        if let Some(code) = failed.clone().find(severe) {
            return Err(Stop::from(KafkaError::MessageProduction(*code)));
        }
        let delivered = complete? && failed.next().is_none();
        if !delivered {
            return Err(Stop::NotDelivered(reports));
        }
        sent?;
        let at = reports.values().filter_map(|of| of.appended_at).max();
        let at = at.filter(|_| took <= APPEND_MAX);
        let middle = started + took / 2;
        Ok(at.map(|at| AppendTime { at, middle }))
    }

    /// Returns whether all delivery reports came in time.
    fn await_reports(&self) -> Result<bool, Stop> {
        let until = self.state.now() + REPORTS_MAX;
        while self.producer.in_flight_count() > 0 {
            self.check_alive()?;
            if self.state.now() >= until {
                return Ok(false);
            }
            reports::take_or_wait(&self.producer);
        }
        Ok(true)
    }

    /// Commits the transaction. All delivery reports must be taken.
    pub fn commit(&self) -> Result<(), TransactionError> {
        self.timer.start("commit_transaction", CALL_MAX);
        let committed = ffi::commit_transaction(self.client(), CALL_MAX);
        if committed.is_ok() {
            self.timer.answered();
        }
        committed
    }

    /// Aborts the transaction. librdkafka first waits for the records that are on their
    /// way, 10 s for those to a leader that does not answer. Errors: the producer cannot
    /// be used any more, or the session ends.
    pub fn abort(&self) -> Result<(), Stop> {
        for calls in 1.. {
            self.check_alive()?;
            self.timer.start("abort_transaction", ABORT_MAX);
            let aborted = self.producer.abort_transaction(ABORT_MAX);
            self.serve();
            let Err(error) = aborted else {
                // The abort itself fails the deliveries that it takes back.
                self.producer.context().take_reports();
                return Ok(());
            };
            if !transaction_error(&error).is_some_and(RDKafkaError::is_retriable) {
                return Err(Stop::Fatal(error.to_string(), error.rdkafka_error_code()));
            }
            if self.producer.in_flight_count() > 0 && self.state.leaders().some_are_silent() {
                return Err(Stop::Stuck);
            }
            thread::sleep(RETRY_AFTER);
            if calls > 1 {
                let why = format!("a transaction cannot be aborted: {error}");
                self.state.unreachable(why);
            }
        }
        Ok(())
    }

    /// Serves the log lines and errors in the producer's queue.
    pub fn serve(&self) {
        self.producer.poll(Duration::ZERO);
        for _ in 0..1_000 {
            if self.producer.in_flight_count() == 0 {
                return;
            }
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Errors: the session has ended.
    pub fn check_alive(&self) -> Result<(), Stop> {
        match self.state.is_alive() {
            true => Ok(()),
            false => Err(Stop::SessionEnded),
        }
    }

    /// Reports that the producer was fenced, if this code says so.
    pub fn report_fenced(&self, code: Option<RDKafkaErrorCode>) {
        if code.is_some_and(convert::is_producer_fenced) {
            self.state.report(KafkaEvent::ProducerFenced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_before_the_commit_ends_in_an_abort_unless_it_is_fatal_or_a_size() {
        let stop = |code| Stop::from(KafkaError::MessageProduction(code));
        assert!(matches!(
            stop(RDKafkaErrorCode::MessageSizeTooLarge),
            Stop::TooLarge
        ));
        assert!(matches!(
            stop(RDKafkaErrorCode::MessageTimedOut),
            Stop::Refused(_)
        ));
        assert!(matches!(
            stop(RDKafkaErrorCode::Fatal),
            Stop::Fatal(_, Some(RDKafkaErrorCode::Fatal))
        ));
    }
}
