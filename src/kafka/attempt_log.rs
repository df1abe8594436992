//! The producer of the attempt log. It never waits for Kafka: entries that do not
//! fit into its queue, and entries that the brokers do not acknowledge, are dropped
//! and reported. [`AttemptLog::write`] runs on the runner's thread. librdkafka's
//! answers are served on the thread `kafka-attempts`.
//!
//! Memory (L5): the queue holds at most 20,000 entries and 8 MiB. librdkafka adds
//! some 300 bytes to each entry, so the log needs at most 14 MiB.

use super::client::log::LogThrottle;
use super::session::Job;
use super::settings::KafkaSettings;
use crate::model::attempt_log::LogDropReason;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the thread waits for an answer before it looks whether the log ended.
const SERVE: Duration = Duration::from_millis(500);

/// Counts a dropped entry.
type OnDrop = Box<dyn Fn(LogDropReason) + Send + Sync>;

/// The producer of the attempt log.
pub struct AttemptLog {
    producer: Arc<BaseProducer<Drops>>,
    topic: String,
    ended: Arc<AtomicBool>,
}

impl AttemptLog {
    /// Creates the producer. It connects in the background. `now` is a monotonic
    /// clock. The job serves it and must run on a thread of its own.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn open(
        settings: &KafkaSettings,
        now: fn() -> Duration,
        on_drop: impl Fn(LogDropReason) + Send + Sync + 'static,
    ) -> Result<(Self, Job), KafkaError> {
        let topic = settings.topics.attempts();
        let drops = Drops {
            topic: topic.clone(),
            lines: LogThrottle::new(now),
            on_drop: Box::new(on_drop),
        };
        let config = settings.attempt_log_config();
        let producer = Arc::new(BaseProducer::from_config_and_context(&config, drops)?);
        let ended = Arc::new(AtomicBool::new(false));
        let (served, end) = (Arc::clone(&producer), Arc::clone(&ended));
        let serve = move || {
            while !end.load(Ordering::Relaxed) {
                served.poll(SERVE);
            }
            // A log with other settings has taken its place, or the process ends.
            let _ = served.flush(SERVE);
        };
        let job = Job {
            name: "kafka-attempts",
            run: Box::new(serve),
        };
        let log = Self {
            producer,
            topic,
            ended,
        };
        Ok((log, job))
    }

    /// Hands an entry to the producer, or drops it. Never waits.
    pub fn write(&self, key: &str, value: &[u8]) {
        let record = BaseRecord::to(&self.topic).key(key).payload(value);
        if let Err((error, _)) = self.producer.send(record) {
            self.producer.context().dropped(&error);
        }
    }

    /// Waits until all entries are acknowledged, but not longer than `limit`. The
    /// rest is dropped.
    pub fn finish(self, limit: Duration) {
        // The process ends: a count of what is left could not be read any more.
        let _ = self.producer.flush(limit);
    }
}

impl Drop for AttemptLog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Counts and logs dropped entries.
struct Drops {
    topic: String,
    lines: LogThrottle,
    on_drop: OnDrop,
}

impl Drops {
    fn dropped(&self, error: &KafkaError) {
        let reason = reason(error);
        (self.on_drop)(reason);
        let reason = reason.name();
        if let Some(before) = self.lines.pass(reason) {
            let topic = &self.topic;
            tracing::warn!(
                reason, topic, %error, before,
                "an attempt is missing in the attempt log; deliveries go on"
            );
        }
    }
}

fn reason(error: &KafkaError) -> LogDropReason {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => LogDropReason::QueueFull,
        Some(
            RDKafkaErrorCode::MessageTimedOut
            | RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::PurgeInflight,
        ) => LogDropReason::Unacknowledged,
        _ => LogDropReason::Refused,
    }
}

impl ClientContext for Drops {
    // The session's clients tell the same outage at a higher level.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }
}

impl ProducerContext for Drops {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.dropped(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn entries_beyond_the_queue_are_dropped_at_once_and_counted() {
        let (dropped, drops) = mpsc::channel();
        let on_drop = move |reason| {
            let _ = dropped.send(reason);
        };
        // Nothing listens at this broker's address.
        let settings = KafkaSettings::of_a_test(&["10s"]);
        let (log, _job) = AttemptLog::open(&settings, || Duration::ZERO, on_drop).expect("valid");
        for _ in 0..20_000 {
            log.write("a", b"{}");
        }
        assert_eq!(drops.try_iter().count(), 0);
        log.write("a", b"{}");
        let over: Vec<LogDropReason> = drops.try_iter().collect();
        assert_eq!(over, [LogDropReason::QueueFull]);
    }

    #[test]
    fn each_error_has_a_reason() {
        let of = |code| reason(&KafkaError::MessageProduction(code));
        assert_eq!(of(RDKafkaErrorCode::QueueFull), LogDropReason::QueueFull);
        let late = of(RDKafkaErrorCode::MessageTimedOut);
        assert_eq!(late, LogDropReason::Unacknowledged);
        let denied = of(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert_eq!(denied, LogDropReason::Refused);
    }
}
