//! The consumer thread: polls the consumer, joins and leaves the group, and hands
//! over records. It fetches and gives back partitions as requested, and hands
//! over only as many records as were requested. Decides nothing. Waits for other
//! threads only when it leaves. librdkafka and new requests wake it.

use super::context::{Consumer, GroupContext};
use super::shared::GroupShared;
use crate::kafka::call_monitor::{CLOSE, CallTimer};
use crate::kafka::client::queue::{PartitionQueue, Polled, RawMessage};
use crate::kafka::client::{convert, ffi};
use crate::kafka::inbox::ToConsumer;
use crate::kafka::session_state::SessionState;
use crate::model::message::{ConsumerRequest, Credit, KafkaEvent};
use crate::model::position::{Generation, NextOffset, Offset, Partition};
use crate::model::record::Record;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Each queue is checked this often. librdkafka signals each one that is no longer empty
/// (`rd_kafka_q_enq1`, `rd_kafka_q_concat0`), and a poll goes on until it is empty. If
/// a signal were lost, the partition would stand still.
const CHECK_QUEUES_EVERY: Duration = Duration::from_secs(1);
/// The longest sleep.
const IDLE: Duration = Duration::from_millis(100);
/// The most records of one partition that one turn hands over.
const TURN_MAX: usize = 64;
/// The most events of the consumer's own queue that one turn serves.
const EVENTS_MAX: usize = 64;
/// The time for giving back all partitions and leaving the group.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// Runs until the session ends or the consumer has left the group.
pub fn run(shared: &GroupShared, timer: &CallTimer) {
    let waker = &shared.inbox.waker;
    waker.register();
    let mut thread = ConsumerThread {
        shared,
        state: &shared.state,
        timer,
        consumer: None,
        topics: Vec::new(),
        rejoin: Rejoin::No,
        fetches: BTreeMap::new(),
        queues_checked: Duration::ZERO,
    };
    while shared.state.is_alive() {
        timer.start("poll", Duration::ZERO);
        if thread.serve_requests() == Next::Leave {
            thread.leave();
            return;
        }
        thread.serve_events();
        thread.finish_rejoin();
        if thread.serve_partitions() == Next::Sleep {
            waker.sleep(IDLE);
        }
    }
    timer.start("close", CLOSE);
    thread.give_all_back();
    shared.set_consumer(None);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    /// There is nothing to do until the thread is woken.
    Sleep,
    /// Leave the group and end.
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rejoin {
    No,
    /// The consumer leaves the group, and joins it again afterwards.
    Leaving,
}

struct Fetch {
    generation: Generation,
    queue: PartitionQueue<GroupContext>,
    /// Requested and not handed over yet.
    credit: Credit,
    /// The last record handed over. A rebalance drops fetched records and
    /// fetches them again, so a record can come twice.
    last: Option<Offset>,
}

struct ConsumerThread<'a> {
    shared: &'a GroupShared,
    state: &'a SessionState,
    timer: &'a CallTimer,
    consumer: Option<Arc<Consumer>>,
    /// The subscribed topics.
    topics: Vec<String>,
    rejoin: Rejoin,
    fetches: BTreeMap<Partition, Fetch>,
    /// When all queues were last checked.
    queues_checked: Duration,
}

impl ConsumerThread<'_> {
    fn serve_requests(&mut self) -> Next {
        let mut starts = Vec::new();
        for message in self.shared.inbox.take() {
            let request = match message {
                ToConsumer::Subscribe { topics, partitions } => {
                    self.topics = topics;
                    self.subscribe(partitions);
                    continue;
                }
                ToConsumer::Request(request) => request,
            };
            match request {
                ConsumerRequest::StartFetch {
                    generation,
                    partition,
                    from,
                } => {
                    if self.split_queue(generation, partition) {
                        starts.push((partition, from));
                    }
                }
                ConsumerRequest::Fetch {
                    generation,
                    partition,
                    credit,
                } => {
                    if let Some(fetch) = self.fetches.get_mut(&partition)
                        && fetch.generation == generation
                    {
                        fetch.credit.add(credit);
                    }
                }
                ConsumerRequest::FinishRevoke { partitions, .. } => {
                    // These starts came first: one may be of a partition that is
                    // revoked now.
                    self.assign(&std::mem::take(&mut starts));
                    self.finish_revoke(&partitions);
                }
                ConsumerRequest::Rejoin => {
                    if let Some(consumer) = &self.consumer {
                        consumer.unsubscribe();
                        self.rejoin = Rejoin::Leaving;
                    }
                }
                // No further record is read: the collected starts are dropped.
                ConsumerRequest::Leave => return Next::Leave,
            }
        }
        self.assign(&starts);
        Next::Continue
    }

    fn subscribe(&mut self, partitions: usize) {
        let topics = &self.topics;
        let config = self.state.settings.consumer_config(topics, partitions);
        let context = GroupContext::new(
            Arc::clone(&self.shared.state),
            Arc::clone(&self.shared.metadata),
            self.shared.senders.reader.clone(),
            Arc::clone(&self.shared.coordinator),
        );
        let made = BaseConsumer::from_config_and_context(&config, context).and_then(|mut made| {
            let waker = Arc::clone(&self.shared.inbox.waker);
            made.set_nonempty_callback(move || waker.wake());
            made.subscribe(&names(topics))?;
            Ok(Arc::new(made))
        });
        match made {
            Ok(consumer) => {
                self.shared.set_consumer(Some(Arc::clone(&consumer)));
                self.consumer = Some(consumer);
                self.state.report(KafkaEvent::Subscribed);
            }
            Err(error) => {
                let why = format!("cannot make a consumer of {} topics: {error}", topics.len());
                self.state.consumer_fault(why);
            }
        }
    }

    /// Joins the group again once the consumer has left it.
    fn finish_rejoin(&mut self) {
        let Some(consumer) = &self.consumer else {
            return;
        };
        if self.rejoin == Rejoin::No || ffi::is_member(consumer) {
            return;
        }
        self.rejoin = Rejoin::No;
        if let Err(error) = consumer.subscribe(&names(&self.topics)) {
            let why = format!("cannot join the group again: {error}");
            self.state.consumer_fault(why);
        }
    }

    /// Separates a partition's queue, before the partition is assigned. Returns
    /// whether that worked.
    fn split_queue(&mut self, generation: Generation, partition: Partition) -> bool {
        let Some(consumer) = &self.consumer else {
            return false;
        };
        let topic = self.state.settings.topics.name(partition.topic);
        let waker = &self.shared.inbox.waker;
        let Some(queue) = PartitionQueue::split(consumer, &topic, partition.number, waker) else {
            let why = format!("no queue for partition {} of {topic}", partition.number);
            self.state.consumer_fault(why);
            return false;
        };
        let fetch = Fetch {
            generation,
            queue,
            credit: Credit::default(),
            last: None,
        };
        self.fetches.insert(partition, fetch);
        true
    }

    fn assign(&mut self, starts: &[(Partition, NextOffset)]) {
        let Some(consumer) = &self.consumer else {
            return;
        };
        if starts.is_empty() {
            return;
        }
        if let Err(error) = consumer.context().assign(consumer, starts) {
            let why = format!("cannot read {} partitions: {error}", starts.len());
            self.state.consumer_fault(why);
        }
    }

    fn finish_revoke(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.fetches.remove(partition);
        }
        let Some(consumer) = &self.consumer else {
            return;
        };
        if let Err(error) = consumer.context().unassign(consumer, partitions) {
            let why = format!("cannot give {} partitions back: {error}", partitions.len());
            self.state.consumer_fault(why);
        }
    }

    /// Gives all partitions back, which answers an open revocation. librdkafka's
    /// close waits for that answer, and the runner sends none any more.
    fn give_all_back(&mut self) {
        self.fetches.clear();
        let Some(consumer) = &self.consumer else {
            return;
        };
        if let Err(error) = consumer.context().unassign_all(consumer) {
            tracing::warn!(%error, "cannot give back all partitions");
        }
    }

    /// Serves rebalances, errors and log lines.
    fn serve_events(&self) {
        let Some(consumer) = &self.consumer else {
            return;
        };
        for _ in 0..EVENTS_MAX {
            match consumer.poll(Duration::ZERO) {
                // A callback was served.
                None => {}
                Some(Ok(_)) => {
                    // Never skip it: later records would let the ledger pass it (L1).
                    let why = "a record came outside its partition's queue".to_owned();
                    self.state.consumer_fault(why);
                }
                Some(Err(error)) => self.consumer_error(consumer, &error),
            }
            if ffi::consumer_queue_length(consumer) == 0 {
                break;
            }
        }
    }

    fn consumer_error(&self, consumer: &Consumer, error: &KafkaError) {
        if let Some((code, text)) = consumer.client().fatal_error() {
            if code == RDKafkaErrorCode::FencedInstanceId {
                self.state.consumer_fenced();
            } else {
                self.state.consumer_fault(format!("{code:?}: {text}"));
            }
            return;
        }
        // The context has logged any other error; librdkafka retries by itself.
        tracing::debug!(%error, "kafka consumer error");
    }

    /// Hands over fetched records, within the credit of each partition.
    fn serve_partitions(&mut self) -> Next {
        if self.state.is_faulted() {
            return Next::Sleep;
        }
        let now = self.state.now();
        let check_all = now.saturating_sub(self.queues_checked) >= CHECK_QUEUES_EVERY;
        if check_all {
            self.queues_checked = now;
        }
        let mut next = Next::Sleep;
        let mut batch = Batch::default();
        for (partition, fetch) in &mut self.fetches {
            if fetch.credit.is_used_up() || !(fetch.queue.take_nonempty() || check_all) {
                continue;
            }
            let (last, credit) = (&mut fetch.last, &mut fetch.credit);
            let polled = fetch.queue.poll(TURN_MAX, |message| {
                batch.add(*partition, fetch.generation, message, last, credit);
                match credit.is_used_up() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if polled == Polled::MayHoldMore {
                fetch.queue.mark_nonempty();
                if !fetch.credit.is_used_up() {
                    next = Next::Continue;
                }
            }
        }
        self.report(batch);
        next
    }

    fn report(&self, batch: Batch) {
        if !batch.records.is_empty() {
            self.timer.answered();
            self.state.report(KafkaEvent::Records(batch.records));
        }
        for (partition, (generation, next)) in batch.ends {
            self.state.report(KafkaEvent::ReachedEnd {
                generation,
                partition,
                next,
            });
        }
        for (partition, generation, code) in batch.errors {
            if convert::is_out_of_range(code) {
                self.state.report(KafkaEvent::OutOfRange {
                    generation,
                    partition,
                });
                continue;
            }
            let topic = self.state.settings.topics.name(partition.topic);
            let throttle = &self.state.sessions.throttle;
            let Some(held_back) = throttle.pass(&format!("fetch {code:?} {topic}")) else {
                continue;
            };
            let number = partition.number;
            if code == RDKafkaErrorCode::TopicAuthorizationFailed {
                // librdkafka tells it once, and tries again each second.
                tracing::error!(topic, number, "no right to read a topic: allow READ");
            } else {
                tracing::warn!(topic, number, ?code, held_back, "kafka fetch error");
            }
        }
    }

    /// Leaves the group. To close the consumer alone would keep the partitions
    /// of a static member until its session times out.
    fn leave(mut self) {
        self.timer.start("leave the group", LEAVE_MAX);
        self.state.leave();
        self.shared.senders.end();
        self.give_all_back();
        self.shared.set_consumer(None);
        if let Some(consumer) = self.consumer.take() {
            let until = self.state.now() + LEAVE_MAX;
            consumer.unsubscribe();
            // To close the consumer now would cancel the request to leave.
            // Committer and reader may still use the consumer for a last call.
            let busy = || ffi::is_member(&consumer) || Arc::strong_count(&consumer) > 1;
            while busy() && self.state.now() < until {
                drop(consumer.poll(Duration::from_millis(5)));
            }
            if self.state.now() >= until {
                // The brokers do not answer: the session timeout ends the
                // membership. To drop the consumer would wait for its close.
                std::mem::forget(consumer);
            } else {
                self.timer.start("close", CLOSE);
            }
        }
        self.state.report(KafkaEvent::Left);
    }
}

fn names(topics: &[String]) -> Vec<&str> {
    topics.iter().map(String::as_str).collect()
}

/// The messages that one turn has taken out of the queues.
#[derive(Default)]
struct Batch {
    records: Vec<(Generation, Record)>,
    ends: BTreeMap<Partition, (Generation, NextOffset)>,
    errors: Vec<(Partition, Generation, RDKafkaErrorCode)>,
}

impl Batch {
    fn add(
        &mut self,
        partition: Partition,
        generation: Generation,
        message: &RawMessage,
        last: &mut Option<Offset>,
        credit: &mut Credit,
    ) {
        match message.error() {
            None => {
                let offset = Offset(message.offset());
                if *last >= Some(offset) {
                    return;
                }
                *last = Some(offset);
                // An end before this record is out of date; another one follows.
                self.ends.remove(&partition);
                let record = convert::record(partition, message);
                credit.take(record.size());
                self.records.push((generation, record));
            }
            Some(RDKafkaErrorCode::PartitionEOF) => {
                let end = NextOffset(message.offset());
                self.ends.insert(partition, (generation, end));
            }
            Some(code) => self.errors.push((partition, generation, code)),
        }
    }
}
