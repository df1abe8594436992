//! What a record takes to its POST without any receiver: a consumer that reads
//! and commits and does nothing else, at the same time on the same machine.

use crate::support::broker::Broker;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The consumer, on a thread of its own.
pub struct PlainReader {
    /// The records of the topic, once that is known.
    count: Arc<AtomicUsize>,
    thread: JoinHandle<HashMap<String, u64>>,
}

impl PlainReader {
    /// Reads the topic from its beginning on.
    pub fn start(broker: &Broker, topic: &str) -> Self {
        let consumer: BaseConsumer = broker
            .client()
            .set("group.id", format!("{topic}-plain-reader"))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .create()
            .expect("valid settings");
        let mut all = TopicPartitionList::new();
        for number in 0..broker.partitions(topic) {
            all.add_partition_offset(topic, number, Offset::Beginning)
                .expect("a valid offset");
        }
        consumer.assign(&all).expect("a valid list");
        let count = Arc::new(AtomicUsize::new(usize::MAX));
        let told = Arc::clone(&count);
        let thread = std::thread::spawn(move || read(&consumer, &told));
        Self { count, thread }
    }

    /// When each of the topic's so many records, by its key, had been read and
    /// committed, epoch us.
    pub fn stop(self, count: usize) -> HashMap<String, u64> {
        self.count.store(count, Ordering::Relaxed);
        self.thread.join().expect("reading and committing go well")
    }
}

fn read(consumer: &BaseConsumer, count: &AtomicUsize) -> HashMap<String, u64> {
    let mut ready = HashMap::new();
    while ready.len() < count.load(Ordering::Relaxed) {
        let Some(first) = next(consumer, Duration::from_millis(100)) else {
            continue;
        };
        let mut keys = Vec::new();
        let mut done = TopicPartitionList::new();
        let batch = std::iter::once(first);
        for message in batch.chain(std::iter::from_fn(|| next(consumer, Duration::ZERO))) {
            let (topic, number) = (message.topic(), message.partition());
            let after = Offset::Offset(message.offset() + 1);
            match done.find_partition(topic, number) {
                Some(mut partition) => partition.set_offset(after),
                None => done.add_partition_offset(topic, number, after),
            }
            .expect("a valid offset");
            let key = message.key().expect("every record of the test has a key");
            keys.push(String::from_utf8_lossy(key).into_owned());
        }
        consumer
            .commit(&done, CommitMode::Sync)
            .expect("the broker takes it");
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_micros() as u64;
        ready.extend(keys.into_iter().map(|key| (key, now)));
    }
    ready
}

fn next(consumer: &BaseConsumer, patience: Duration) -> Option<BorrowedMessage<'_>> {
    let polled = consumer.poll(patience)?;
    Some(polled.expect("the broker is there"))
}
