//! A consumer that only reads and commits, at the same time on the same machine.
//! Its delay is the part of a record's delay that no receiver causes.

use crate::support::broker::Broker;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The consumer, on its own thread.
pub struct PlainReader {
    /// Number of records in the topic; the largest number until it is set.
    count: Arc<AtomicUsize>,
    thread: JoinHandle<HashMap<String, u64>>,
}

impl PlainReader {
    /// Starts to read the topic from its beginning.
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
        let shared = Arc::clone(&count);
        let thread = std::thread::spawn(move || read(&consumer, &shared));
        Self { count, thread }
    }

    /// Waits until `count` records are read. Returns by key when each record was
    /// read and committed, in epoch microseconds.
    pub fn stop(self, count: usize) -> HashMap<String, u64> {
        self.count.store(count, Ordering::Relaxed);
        self.thread.join().expect("reading and committing succeed")
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
            .expect("the broker accepts it");
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
