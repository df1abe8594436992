//! Publishes records as a call platform would: idempotent, `acks=all`.

use super::broker::{self, Broker, WARM_UP_TOPIC};
use super::wait;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A producer that counts what the broker has acknowledged.
pub struct Publisher {
    producer: ThreadedProducer<Acknowledged>,
    acknowledged: Arc<AtomicU64>,
    sent: AtomicU64,
}

struct Acknowledged(Arc<AtomicU64>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // One that is refused stays uncounted, and `flush` says so.
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Publisher {
    /// A producer that already has its id: an idempotent one gets it in the
    /// background, which would be measured as latency of the first records.
    pub fn new(broker: &Broker) -> Self {
        Self::of(broker.client())
    }

    /// The same, with batches compressed as the broker's limits count them.
    pub fn compressed(broker: &Broker) -> Self {
        let mut client = broker.client();
        client.set("compression.codec", "zstd");
        Self::of(client)
    }

    /// The same at another address: a proxy's.
    pub fn at(brokers: &str) -> Self {
        Self::of(broker::client(brokers))
    }

    fn of(mut client: ClientConfig) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let producer = client
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            // A frozen broker's partitions go on with another's after this.
            .set("socket.timeout.ms", "10000")
            .set("message.max.bytes", "10000000")
            .set("queue.buffering.max.kbytes", "524288")
            .set("queue.buffering.max.messages", "500000")
            .create_with_context(Acknowledged(acknowledged.clone()))
            .expect("valid settings");
        let publisher = Self {
            producer,
            acknowledged,
            sent: AtomicU64::new(0),
        };
        publisher.send(WARM_UP_TOPIC, None, Some(b"warm-up"), &[]);
        publisher.flush();
        publisher
    }

    /// Hands a record to the producer.
    pub fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) {
        self.send_to(topic, None, key, value, headers);
    }

    /// The same, to this partition.
    pub fn send_to(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        if !headers.is_empty() {
            let mut list = OwnedHeaders::new();
            for (key, value) in headers {
                list = list.insert(Header {
                    key,
                    value: Some(*value),
                });
            }
            record = record.headers(list);
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mut waiting = Some(record);
        wait::until("space in the producer's queue", || {
            let record = waiting.take().expect("put back while there is no space");
            match self.producer.send(record) {
                Ok(()) => true,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                    waiting = Some(record);
                    false
                }
                Err((error, _)) => panic!("publishing to {topic}: {error}"),
            }
        });
    }

    /// Waits until the broker has acknowledged all of them.
    pub fn flush(&self) {
        self.producer
            .flush(wait::PATIENCE)
            .expect("the broker takes every record");
        let sent = self.sent.load(Ordering::Relaxed);
        wait::until("every acknowledgement", || {
            self.acknowledged.load(Ordering::Relaxed) == sent
        });
    }
}
