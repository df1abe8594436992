//! The transactional producer of a job. Each write is one transaction: offsets of
//! the job's group first, then the copies. Decides nothing. Runs on the thread of a
//! command.
//!
//! The rules are those of moves. After the first call of `commit_transaction`, only
//! that call is repeated until it answers. A new producer first aborts a transaction
//! that holds the group's offsets alone. This ends offsets that an earlier transaction
//! may have left open.

use super::{JobCallError, REQUEST_MAX};
use crate::kafka::client::ffi::{self, TransactionError};
use crate::kafka::client::{convert, log::QueryContext, reports};
use crate::kafka::settings::KafkaSettings;
use crate::model::message::Snapshot;
use crate::model::position::{NextOffset, Topic, TopicNames};
use crate::model::record::MovedRecord;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The pause before a call is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// The most repeats of `init_transactions`, and of adding offsets.
const REPEATS_MAX: u32 = 100;

/// Why a write was not committed.
#[derive(Debug)]
pub enum WriteError {
    /// Another producer took the name, or Kafka ended a slow transaction.
    Fenced,
    /// Aborted: a record is too large for this topic.
    TooLarge(String),
    /// Aborted, so nothing was written.
    Aborted(JobCallError),
    /// The transaction may or may not be committed. The committed offsets tell.
    Unsure(String),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("fenced by another process"),
            Self::TooLarge(topic) => write!(f, "a record is too large for the topic '{topic}'"),
            Self::Aborted(error) => error.fmt(f),
            Self::Unsure(why) => write!(f, "it is not certain what was written: {why}"),
        }
    }
}

/// The producer's callbacks.
#[derive(Default)]
struct WriterContext {
    /// The first failed delivery of the transaction.
    failed: Mutex<Option<RDKafkaErrorCode>>,
}

impl WriterContext {
    fn take_failed(&self) -> Option<RDKafkaErrorCode> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take()
    }
}

impl ClientContext for WriterContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        QueryContext.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        QueryContext.error(error, reason);
    }
}

impl ProducerContext for WriterContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(code);
        }
    }
}

/// The writer of a job. The job's group is its `transactional.id` too.
pub struct JobWriter {
    producer: BaseProducer<WriterContext>,
    group: String,
    names: TopicNames,
}

impl JobWriter {
    /// Takes the name: fences the earlier writer, and ends its open transaction. `read`
    /// is the topic whose offsets the job commits.
    ///
    /// # Errors
    /// Kafka does not answer or refuses. Another writer may fence this one, too.
    pub fn start(settings: &KafkaSettings, group: &str, read: Topic) -> Result<Self, WriteError> {
        let tried = || format!("take the transactional.id '{group}'");
        let failed = |error| WriteError::Aborted(JobCallError::new(tried(), error));
        let mut config = settings.producer_config();
        config.set("transactional.id", group);
        let producer = BaseProducer::from_config_and_context(&config, WriterContext::default());
        let writer = Self {
            producer: producer.map_err(failed)?,
            group: group.to_owned(),
            names: settings.topics.clone(),
        };
        let mut repeats = REPEATS_MAX;
        while let Err(error) = writer.producer.init_transactions(REQUEST_MAX) {
            writer.producer.poll(Duration::ZERO);
            repeats -= 1;
            let retriable = matches!(&error, KafkaError::Transaction(e) if e.is_retriable());
            if !retriable || repeats == 0 {
                return Err(writer.before_commit(error.rdkafka_error_code(), failed(error)));
            }
            thread::sleep(RETRY_AFTER);
        }
        writer.clear(read)?;
        Ok(writer)
    }

    /// Ends offsets that an earlier transaction may have left open.
    fn clear(&self, topic: Topic) -> Result<(), WriteError> {
        let partition = topic.partition(0);
        let nothing = Snapshot {
            partition,
            base: NextOffset(0),
            metadata: String::new(),
        };
        self.begin()?;
        let sent = self.send_offsets(&[nothing]);
        self.abort()?;
        sent
    }

    /// Writes these copies and offsets in one transaction, and waits until it is
    /// committed.
    ///
    /// # Errors
    /// The reason, which says whether anything may have been written.
    pub fn write(&self, copies: &[MovedRecord], offsets: &[Snapshot]) -> Result<(), WriteError> {
        self.begin()?;
        let filled = self
            .send_offsets(offsets)
            .and_then(|()| self.send_copies(copies));
        match filled {
            Ok(()) => self.commit(),
            Err(WriteError::Fenced) => Err(WriteError::Fenced),
            Err(error) => {
                self.abort()?;
                Err(error)
            }
        }
    }

    fn begin(&self) -> Result<(), WriteError> {
        self.producer.begin_transaction().map_err(|error| {
            let code = error.rdkafka_error_code();
            self.before_commit(code, WriteError::Unsure(error.to_string()))
        })
    }

    fn send_offsets(&self, offsets: &[Snapshot]) -> Result<(), WriteError> {
        let tried = || format!("write the offsets of the group '{}'", self.group);
        let list = convert::snapshots(&self.names, offsets)
            .map_err(|error| WriteError::Aborted(JobCallError::new(tried(), error)))?;
        let mut repeats = REPEATS_MAX;
        loop {
            let sent =
                ffi::send_group_offsets(self.producer.client(), &self.group, &list, REQUEST_MAX);
            let answer = match sent {
                Ok(()) => return Ok(()),
                Err(None) => {
                    let code = RDKafkaErrorCode::InvalidArgument;
                    return Err(WriteError::Aborted(JobCallError::of_code(tried(), code)));
                }
                Err(Some(answer)) => answer,
            };
            repeats -= 1;
            if !may_repeat(&answer) || repeats == 0 {
                let error = WriteError::Aborted(JobCallError::of_code(tried(), answer.code));
                return Err(self.before_commit(Some(answer.code), error));
            }
            thread::sleep(RETRY_AFTER);
        }
    }

    fn send_copies(&self, copies: &[MovedRecord]) -> Result<(), WriteError> {
        for copy in copies {
            let topic = self.names.name(copy.to);
            let mut record = BaseRecord::<[u8], [u8]>::to(&topic);
            record = record.headers(convert::headers(&copy.headers));
            if let Some(key) = &copy.key {
                record = record.key(&key[..]);
            }
            if let Some(value) = &copy.value {
                record = record.payload(&value[..]);
            }
            while let Err((error, back)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(self.refused_copy(&topic, error));
                }
                reports::take_or_wait(&self.producer);
                record = back;
            }
        }
        // A commit would wait 100 ms for each report that is left.
        while self.producer.in_flight_count() > 0 {
            reports::take_or_wait(&self.producer);
        }
        match (self.producer.context().take_failed(), copies.first()) {
            (Some(code), Some(copy)) => {
                let topic = self.names.name(copy.to);
                Err(self.refused_copy(&topic, KafkaError::MessageProduction(code)))
            }
            _ => Ok(()),
        }
    }

    fn refused_copy(&self, topic: &str, error: KafkaError) -> WriteError {
        let code = error.rdkafka_error_code();
        if code.is_some_and(convert::is_too_large) {
            return WriteError::TooLarge(topic.to_owned());
        }
        let tried = format!("write to the topic '{topic}'");
        self.before_commit(code, WriteError::Aborted(JobCallError::new(tried, error)))
    }

    /// Commits, and repeats only the commit until it answers.
    fn commit(&self) -> Result<(), WriteError> {
        loop {
            let Err(answer) = ffi::commit_transaction(self.producer.client(), REQUEST_MAX) else {
                return Ok(());
            };
            if !may_repeat(&answer) {
                let unsure = WriteError::Unsure(answer.text);
                return Err(self.before_commit(Some(answer.code), unsure));
            }
            self.producer.poll(Duration::ZERO);
            thread::sleep(RETRY_AFTER);
        }
    }

    fn abort(&self) -> Result<(), WriteError> {
        loop {
            let aborted = self.producer.abort_transaction(REQUEST_MAX);
            self.producer.poll(Duration::ZERO);
            let Err(error) = aborted else {
                // The abort itself fails the deliveries that it takes back.
                self.producer.context().take_failed();
                return Ok(());
            };
            let retriable = matches!(&error, KafkaError::Transaction(e) if e.is_retriable());
            if !retriable {
                let unsure = WriteError::Unsure(error.to_string());
                return Err(self.before_commit(error.rdkafka_error_code(), unsure));
            }
            thread::sleep(RETRY_AFTER);
        }
    }

    /// Returns `Fenced` if the code or the client says so, else `error`.
    fn before_commit(&self, code: Option<RDKafkaErrorCode>, error: WriteError) -> WriteError {
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        match fatal.or(code).is_some_and(convert::is_producer_fenced) {
            true => WriteError::Fenced,
            false => error,
        }
    }
}

fn may_repeat(answer: &TransactionError) -> bool {
    answer.retriable && !answer.abortable && !answer.fatal
}
