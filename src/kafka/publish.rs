//! A plain idempotent producer for the `publish` command and the demo. The
//! caller paces; never decides what is published. Runs on the caller's thread.

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

/// What kept a record from being published.
#[derive(Debug)]
pub enum Error {
    /// No producer can be made.
    Client(KafkaError),
    /// A record was refused.
    Record {
        /// For which topic.
        topic: String,
        /// Why.
        source: KafkaError,
    },
    /// Not all were acknowledged.
    Unacknowledged {
        /// Published and refused, or not answered in time.
        records: u64,
        /// What was last answered for one of them.
        code: Option<RDKafkaErrorCode>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(source) => write!(f, "cannot make a producer: {source}"),
            Self::Record { topic, source } => write!(f, "cannot publish to '{topic}': {source}"),
            Self::Unacknowledged { records, code } => {
                write!(f, "{records} records were not acknowledged")?;
                code.map_or(Ok(()), |code| write!(f, ": {code}"))
            }
        }
    }
}

impl std::error::Error for Error {
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

/// Publishes to the source topic.
pub struct Publisher {
    producer: BaseProducer<PublishContext>,
    topic: String,
    sent: u64,
}

impl Publisher {
    /// Connects in the background.
    ///
    /// Errors: the settings make no producer.
    pub fn new(settings: &KafkaSettings) -> Result<Self, Error> {
        let mut config = settings.idempotent_config();
        // Not in a transaction: records may wait out a short outage.
        config.set("message.timeout.ms", "30000");
        let context = PublishContext::default();
        let producer =
            BaseProducer::from_config_and_context(&config, context).map_err(Error::Client)?;
        let topic = settings.topics.name(crate::model::position::Topic::Source);
        Ok(Self {
            producer,
            topic,
            sent: 0,
        })
    }

    /// Hands a record over; waits only while the producer's memory is full.
    ///
    /// Errors: the record is refused, for its size for example.
    pub fn send(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), Error> {
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
                return Err(Error::Record { topic, source });
            }
            self.producer.poll(Duration::from_millis(1));
            record = back;
        }
        self.sent += 1;
        if self.sent.is_multiple_of(64) {
            self.serve(Duration::ZERO);
        }
        Ok(())
    }

    /// Takes acknowledgements for up to this long: a pause between records.
    pub fn serve(&self, pause: Duration) {
        self.producer.poll(pause);
    }

    /// How many are on the brokers.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.producer.context().acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until all are acknowledged; returns how many.
    ///
    /// Errors: some were refused, or not acknowledged within `limit`.
    pub fn finish(self, limit: Duration) -> Result<u64, Error> {
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
        let last = self.producer.context().last.lock();
        Err(Error::Unacknowledged {
            records: self.sent - acknowledged,
            code: last.ok().and_then(|last| *last),
        })
    }
}
