//! A group member that does as ringback does (static, cooperative, its own
//! rebalance handling, nothing read) and as the test says, and what is
//! committed as anybody can read it.

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
use std::thread::JoinHandle;
use std::time::Duration;

/// One look at the queue of a member.
const POLL: Duration = Duration::from_millis(5);

/// A member of a group; it polls until it is dropped, which, as for every
/// static member, does not leave the group.
pub struct Member {
    consumer: Arc<BaseConsumer<Group>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the callbacks have told.
#[derive(Default)]
struct Group {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    owned: BTreeSet<(String, i32)>,
    rebalances: usize,
    assigned: Vec<Arc<ConsumerGroupMetadata>>,
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
            seen.owned.extend(named);
            let metadata = consumer.group_metadata().expect("a member");
            seen.assigned.push(Arc::new(metadata));
            consumer.incremental_assign(&nothing).expect("a member");
        } else {
            for partition in named {
                seen.owned.remove(&partition);
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
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                // Nothing is read: only rebalances and errors come.
                drop(polls.poll(POLL));
            }
        });
        Self {
            consumer,
            over,
            thread: Some(thread),
        }
    }

    /// The same, and waits until it owns so many partitions.
    #[track_caller]
    pub fn joined(brokers: &str, group: &str, name: &str, topics: &[&str], owned: usize) -> Self {
        let member = Self::join(brokers, group, name, topics, &[]);
        member.until_owns(owned);
        member
    }

    /// Waits until it owns so many partitions.
    #[track_caller]
    pub fn until_owns(&self, count: usize) {
        wait::until(&format!("{count} partitions"), || {
            self.owned().len() == count
        });
    }

    /// What it owns.
    pub fn owned(&self) -> BTreeSet<(String, i32)> {
        self.seen().owned.clone()
    }

    /// How many rebalance callbacks there were.
    pub fn rebalances(&self) -> usize {
        self.seen().rebalances
    }

    /// The group metadata as captured in the last assignment's callback.
    pub fn captured(&self) -> Arc<ConsumerGroupMetadata> {
        Arc::clone(self.seen().assigned.last().expect("an assignment"))
    }

    /// The group metadata of now.
    pub fn metadata(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().expect("a member")
    }

    /// Commits, waiting for the answer.
    pub fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        self.consumer.commit(offsets, CommitMode::Sync)
    }

    /// The code of the error that ended it for good.
    pub fn fatal(&self) -> Option<RDKafkaErrorCode> {
        self.consumer.client().fatal_error().map(|(code, _)| code)
    }

    /// Asks to leave the group and waits until it has given back everything.
    pub fn leave(&self) {
        self.consumer.unsubscribe();
        self.until_owns(0);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.consumer.context().seen()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
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

/// What is committed for a partition, if anything; an error where that is not
/// answered in time.
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
    producer.send(record).map_err(|(e, _)| e).expect("room");
    producer.flush(wait::PATIENCE).expect("the broker takes it");
}

/// The code of what a call was answered.
#[track_caller]
pub fn code<T>(answer: KafkaResult<T>) -> RDKafkaErrorCode {
    let error: KafkaError = answer.err().expect("it is refused");
    error.rdkafka_error_code().expect("an error of Kafka's")
}
