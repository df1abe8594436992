//! What librdkafka calls back: rebalances, delivery reports, errors and its log
//! lines. Decides nothing: a rebalance becomes a report. Rebalances run on the
//! consumer thread inside its poll, delivery reports on the mover thread; log
//! lines on whichever thread polls.

use super::convert;
use super::life::Shared;
use super::{KafkaEvent, Sessions};
use crate::model::message::Revocation;
use crate::model::position::Partition;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::sync::{Arc, Mutex, PoisonError};

/// The consumer of a life.
pub type Consumer = BaseConsumer<GroupContext>;

/// The producer of a life.
pub type Producer = BaseProducer<MoveContext>;

/// Passes librdkafka's log lines on, one of each kind in a while. Never the
/// text of a record: librdkafka does not log those.
pub fn log(across: &Sessions, level: RDKafkaLogLevel, facility: &str, text: &str) {
    // Consumer properties are given to the producer too: no news.
    if facility == "CONFWARN" {
        return;
    }
    let kind = format!("{level:?} {facility}");
    let Some(held_back) = across.pass(&kind) else {
        return;
    };
    let severe = matches!(
        level,
        RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
    );
    if severe {
        tracing::warn!(facility, text, held_back, "librdkafka");
    } else {
        tracing::info!(facility, text, held_back, "librdkafka");
    }
}

/// Of a client that only asks: its log lines, at a level that only a debug log
/// shows, for what matters is in the answer.
pub struct AskingContext;

impl ClientContext for AskingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }
}

impl ConsumerContext for AskingContext {}

fn client_error(shared: &Shared, error: &KafkaError, reason: &str) {
    let code = error.rdkafka_error_code();
    match code {
        Some(
            RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL,
        ) => shared.unreachable(format!("brokers cannot be reached: {reason}")),
        // One broker of several: no reason to wait yet.
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {
            shared.across.trouble();
        }
        _ => {}
    }
    if let Some(held_back) = shared.across.pass(&format!("error {code:?}")) {
        tracing::warn!(?code, reason, held_back, "kafka client error");
    }
}

/// The consumer's callbacks.
pub struct GroupContext {
    /// The life that the consumer belongs to.
    pub shared: Arc<Shared>,
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(&self.shared.across, level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&self.shared, &error, reason);
    }
}

impl ConsumerContext for GroupContext {
    /// Partitions are not begun to be read here: each is added at its exact
    /// offset once its map is read. An empty list completes the protocol.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = convert::partitions(&self.shared.settings.topics, list);
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                self.shared
                    .consumer_fault(format!("cannot complete an assignment: {error}"));
            }
            self.assigned(consumer, partitions);
        } else {
            self.revoked(consumer, partitions);
        }
    }
}

impl GroupContext {
    fn assigned(&self, consumer: &Consumer, partitions: Vec<Partition>) {
        if !self.shared.is_member() {
            return;
        }
        let generation = self.shared.next_generation(consumer.group_metadata());
        self.shared.report(KafkaEvent::Assigned {
            generation,
            partitions: partitions.clone(),
        });
        self.shared.read_state(generation, partitions);
    }

    fn revoked(&self, consumer: &Consumer, partitions: Vec<Partition>) {
        if !self.shared.is_member() {
            // Leaving, or nobody is left who could answer.
            if let Err(error) = self.shared.unassign(consumer, &partitions) {
                self.shared
                    .consumer_fault(format!("cannot give partitions back: {error}"));
            }
            return;
        }
        let lost = consumer.assignment_lost();
        if lost {
            self.shared.across.trouble();
        }
        let generation = self.shared.next_generation(consumer.group_metadata());
        self.shared.forget_state(partitions.clone());
        self.shared.report(KafkaEvent::Revoked {
            generation,
            partitions,
            how: match lost {
                true => Revocation::Lost,
                false => Revocation::Requested,
            },
        });
    }
}

/// The producer's callbacks.
pub struct MoveContext {
    /// The life that the producer belongs to.
    pub shared: Arc<Shared>,
    failed: Mutex<Option<RDKafkaErrorCode>>,
}

impl MoveContext {
    /// Callbacks for a new producer.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            failed: Mutex::new(None),
        }
    }

    /// The first delivery that failed since this was last asked.
    pub fn take_failed(&self) -> Option<RDKafkaErrorCode> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take()
    }
}

impl ClientContext for MoveContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(&self.shared.across, level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&self.shared, &error, reason);
    }
}

impl ProducerContext for MoveContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(code);
        }
    }
}
