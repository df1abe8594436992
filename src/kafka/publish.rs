//! An idempotent producer without transactions, for the commands that publish. Never
//! decides what is published, or how fast. Runs on the caller's thread.

use super::client::reports;
use super::settings::KafkaSettings;
use crate::model::record::Header;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A failure to publish.
#[derive(Debug)]
pub enum PublishError {
    /// The producer cannot be created.
    Client(KafkaError),
    /// The producer refused a record.
    Record { topic: String, source: KafkaError },
    /// The brokers refused records, or did not acknowledge them in time.
    Unacknowledged {
        records: u64,
        topic: String,
        /// The last error that a broker gave.
        code: Option<RDKafkaErrorCode>,
    },
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(source) => write!(f, "cannot create a producer: {source}"),
            Self::Record { topic, source } => write!(f, "cannot publish to '{topic}': {source}"),
            Self::Unacknowledged {
                records,
                topic,
                code,
            } => {
                write!(f, "{records} records were not acknowledged")?;
                match code {
                    Some(
                        RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::ClusterAuthorizationFailed,
                    ) => write!(f, ": no right to write to '{topic}': allow WRITE"),
                    Some(code) => write!(f, ": {code}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for PublishError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(source) | Self::Record { source, .. } => Some(source),
            Self::Unacknowledged { .. } => None,
        }
    }
}

#[derive(Default)]
struct PublishContext {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    last: std::sync::Mutex<Option<RDKafkaErrorCode>>,
}

impl ClientContext for PublishContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }
}

impl ProducerContext for PublishContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut last) = self.last.lock() {
                    *last = error.rdkafka_error_code();
                }
            }
        }
    }
}

/// A producer to one topic.
pub struct Publisher {
    producer: BaseProducer<PublishContext>,
    topic: String,
    sent: u64,
}

impl Publisher {
    /// Creates the producer to the source topic. It connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(settings: &KafkaSettings) -> Result<Self, PublishError> {
        let topic = settings.topics.name(crate::model::position::Topic::Source);
        Self::to(settings, topic)
    }

    /// Creates the producer to another topic.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn to(settings: &KafkaSettings, topic: String) -> Result<Self, PublishError> {
        let mut config = settings.idempotent_config();
        // Without a transaction, records may wait until a short outage ends.
        config.set("message.timeout.ms", "30000");
        let context = PublishContext::default();
        let producer = BaseProducer::from_config_and_context(&config, context)
            .map_err(PublishError::Client)?;
        Ok(Self {
            producer,
            topic,
            sent: 0,
        })
    }

    /// Hands a record to the producer. Waits only while the producer's queue is
    /// full.
    ///
    /// # Errors
    /// The producer refuses the record, for example for its size.
    pub fn send(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), PublishError> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic);
        record = record.headers(super::client::convert::headers(headers));
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        while let Err((source, back)) = self.producer.send(record) {
            if source.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                let topic = self.topic.clone();
                return Err(PublishError::Record { topic, source });
            }
            reports::take_or_wait(&self.producer);
            record = back;
        }
        self.sent += 1;
        if self.sent.is_multiple_of(64) {
            self.serve(Duration::ZERO);
        }
        Ok(())
    }

    /// Handles acknowledgements for the duration of a pause between records.
    pub fn serve(&self, pause: Duration) {
        self.producer.poll(pause);
    }

    /// Returns the number of acknowledged records.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.producer.context().acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until all records are acknowledged, and returns their number.
    ///
    /// # Errors
    /// Some records were refused, or not acknowledged within `limit`.
    pub fn finish(self, limit: Duration) -> Result<u64, PublishError> {
        const STEP: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while self.producer.in_flight_count() > 0 && waited < limit {
            self.serve(STEP);
            waited += STEP;
        }
        let acknowledged = self.acknowledged();
        if acknowledged == self.sent {
            return Ok(acknowledged);
        }
        // After a fatal error, librdkafka reports only that it drops the records. One is
        // an answer without an id, because the user may not write.
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        let last = self.producer.context().last.lock();
        Err(PublishError::Unacknowledged {
            records: self.sent - acknowledged,
            topic: self.topic,
            code: fatal.or(last.ok().and_then(|last| *last)),
        })
    }
}
