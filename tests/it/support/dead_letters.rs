//! Reads a topic from its beginning, committed records only.

use super::broker::Broker;
use super::wait::PATIENCE;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use ringback::model::call::CallEnded;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A record as it was found.
#[derive(Clone, Debug)]
pub struct FoundRecord {
    /// When it was written, epoch ms; by the broker's clock in our topics.
    pub at_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// All headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl FoundRecord {
    /// The text of the one header with this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let (_, value) = found.next().unwrap_or_else(|| panic!("no header {name}"));
        assert!(found.next().is_none(), "header {name} is repeated");
        let value = value.as_deref().expect("our headers are never null");
        std::str::from_utf8(value).expect("our headers are text")
    }

    /// The same as a number.
    #[track_caller]
    pub fn number(&self, name: &str) -> i64 {
        self.header(name).parse().expect("a number")
    }

    /// The record's id, where its value can be read.
    pub fn id(&self) -> Option<String> {
        let call = CallEnded::read(self.value.as_deref()?).ok()?;
        Some(call.id.as_str().to_owned())
    }
}

/// Everything in a topic now, each partition in its order.
pub fn read(broker: &Broker, topic: &str) -> Vec<FoundRecord> {
    let partitions = broker.partitions(topic);
    assert!(partitions > 0, "no topic {topic}");
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "tests-read-only")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.message.max.bytes", "10000000")
        .create()
        .expect("valid settings");
    let mut all = TopicPartitionList::new();
    for number in 0..partitions {
        all.add_partition_offset(topic, number, Offset::Beginning)
            .expect("a valid offset");
    }
    consumer.assign(&all).expect("a valid list");
    let (mut found, mut ended) = (Vec::new(), HashSet::new());
    let started = Instant::now();
    while ended.len() < partitions as usize {
        assert!(started.elapsed() < PATIENCE, "reading {topic} does not end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(number))) => {
                ended.insert(number);
            }
            // A broker of several is away: its partitions move to another.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            ))) => {}
            Some(Err(error)) => panic!("reading {topic}: {error}"),
            Some(Ok(message)) => found.push(FoundRecord {
                at_ms: message.timestamp().to_millis().unwrap_or_default(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                        .collect()
                }),
            }),
        }
    }
    found
}
