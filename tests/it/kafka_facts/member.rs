//! A group member like ringback's own: static and cooperative, with its own
//! rebalance handling. It reads nothing and commits what the test says. Functions
//! read what is committed, and make transactional producers.

use crate::support::broker::{self, Broker};
use crate::support::wait;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// One look at the queue of a member.
const POLL: Duration = Duration::from_millis(5);

/// A member of a group; it polls until it is dropped, which, as for every
/// static member, does not leave the group.
pub struct Member {
    /// Gone only while it is dropped.
    consumer: Option<Arc<BaseConsumer<Group>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the callbacks have reported.
#[derive(Default)]
struct Group {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    partitions: BTreeSet<(String, i32)>,
    rebalances: usize,
    metadata: Vec<Arc<ConsumerGroupMetadata>>,
}

impl ClientContext for Group {}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let mut seen = self.seen();
        seen.rebalances += 1;
        let named = list.elements().into_iter();
        let named = named.map(|e| (e.topic().to_owned(), e.partition()));
        let nothing = TopicPartitionList::new();
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            seen.partitions.extend(named);
            let metadata = consumer.group_metadata().expect("a member");
            seen.metadata.push(Arc::new(metadata));
            consumer.incremental_assign(&nothing).expect("a member");
        } else {
            for partition in named {
                seen.partitions.remove(&partition);
            }
            consumer.incremental_unassign(&nothing).expect("a member");
        }
    }
}

impl Group {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder panics")
    }
}

impl Member {
    /// Joins a group under this name.
    pub fn join(
        brokers: &str,
        group: &str,
        name: &str,
        topics: &[&str],
        more: &[(&str, &str)],
    ) -> Self {
        let mut config = broker::client(brokers);
        config
            .set("group.id", group)
            .set("group.instance.id", name)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("heartbeat.interval.ms", "200")
            .set("session.timeout.ms", "6000")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "200");
        for (key, value) in more {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer<Group> = config
            .create_with_context(Group::default())
            .expect("valid settings");
        consumer.subscribe(topics).expect("valid names");
        let (consumer, over) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
        let (polls, until) = (Arc::clone(&consumer), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                // Nothing is read: only rebalances and errors come.
                drop(polls.poll(POLL));
            }
        });
        Self {
            consumer: Some(consumer),
            over,
            thread: Some(thread),
        }
    }

    /// The same, and waits until this number of partitions is assigned to it.
    #[track_caller]
    pub fn joined(brokers: &str, group: &str, name: &str, topics: &[&str], count: usize) -> Self {
        let member = Self::join(brokers, group, name, topics, &[]);
        member.until_assigned(count);
        member
    }

    /// Waits until this number of partitions is assigned to it.
    #[track_caller]
    pub fn until_assigned(&self, count: usize) {
        wait::until(&format!("{count} partitions"), || {
            self.assigned().len() == count
        });
    }

    /// The partitions that are assigned to it.
    pub fn assigned(&self) -> BTreeSet<(String, i32)> {
        self.seen().partitions.clone()
    }

    /// How many rebalance callbacks there were.
    pub fn rebalances(&self) -> usize {
        self.seen().rebalances
    }

    /// The group metadata as captured in the last assignment's callback.
    pub fn captured(&self) -> Arc<ConsumerGroupMetadata> {
        Arc::clone(self.seen().metadata.last().expect("an assignment"))
    }

    /// The group metadata of now.
    pub fn metadata(&self) -> ConsumerGroupMetadata {
        self.consumer().group_metadata().expect("a member")
    }

    /// Commits, waiting for the answer.
    pub fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        let (consumer, offsets) = (Arc::clone(self.consumer()), offsets.clone());
        // A hang fails one test, and not the whole run.
        wait::answer(move || consumer.commit(&offsets, CommitMode::Sync))
            .expect("a commit is answered")
    }

    /// The code of the error that ended it for good.
    pub fn fatal(&self) -> Option<RDKafkaErrorCode> {
        self.consumer().client().fatal_error().map(|(code, _)| code)
    }

    /// Asks to leave the group and waits until it has no partition any more.
    pub fn leave(&self) {
        self.consumer().unsubscribe();
        self.until_assigned(0);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.consumer().context().seen()
    }

    fn consumer(&self) -> &Arc<BaseConsumer<Group>> {
        self.consumer.as_ref().expect("it is not being dropped")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let (thread, consumer) = (self.thread.take(), self.consumer.take());
        // The last reference closes the consumer.
        let close = move || {
            thread.map(JoinHandle::join);
            drop(consumer);
        };
        // Closing is no part of the facts, and has no limit of its own.
        if wait::answer(close).is_none() {
            eprintln!("librdkafka has not closed a consumer; it is left alone");
        }
    }
}

/// Offsets of one topic to commit: partition, offset, metadata.
pub fn offsets(topic: &str, all: &[(i32, i64, &str)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset, metadata) in all {
        let mut element = list.add_partition(topic, *partition);
        element
            .set_offset(Offset::Offset(*offset))
            .expect("a valid offset");
        element.set_metadata(*metadata);
    }
    list
}

/// Returns what is committed for a partition, if anything. It is an error where the
/// answer does not come in time.
pub fn committed(
    broker: &Broker,
    group: &str,
    (topic, partition): (&str, i32),
    limit: Duration,
) -> KafkaResult<Option<(i64, String)>> {
    let client: BaseConsumer = broker.client().set("group.id", group).create()?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let list = client.committed_offsets(asked, limit)?;
    let element = list.elements().remove(0);
    element.error()?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
        _ => None,
    })
}

/// The same, of a group in which nothing is pending.
#[track_caller]
pub fn now_committed(broker: &Broker, group: &str, at: (&str, i32)) -> Option<(i64, String)> {
    committed(broker, group, at, wait::PATIENCE).expect("the broker answers")
}

/// A transactional producer's settings.
pub fn transactional(brokers: &str, id: &str) -> ClientConfig {
    let mut config = broker::client(brokers);
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "10000")
        .set("retry.backoff.ms", "5")
        .set("retry.backoff.max.ms", "20");
    config
}

/// A producer whose transactions are initialised.
pub fn producer(config: &ClientConfig) -> BaseProducer {
    let producer: BaseProducer = config.create().expect("valid settings");
    producer
        .init_transactions(wait::PATIENCE)
        .expect("the broker answers");
    producer
}

/// Begins a transaction with one record in it.
pub fn begin(producer: &BaseProducer, topic: &str, value: &str) {
    producer.begin_transaction().expect("none is open");
    let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).payload(value);
    producer
        .send(record)
        .map_err(|(e, _)| e)
        .expect("space in the queue");
    producer.flush(wait::PATIENCE).expect("the broker takes it");
}

/// The code of what a call was answered.
#[track_caller]
pub fn code<T>(answer: KafkaResult<T>) -> RDKafkaErrorCode {
    let error: KafkaError = answer.err().expect("it is refused");
    error.rdkafka_error_code().expect("an error of Kafka's")
}
