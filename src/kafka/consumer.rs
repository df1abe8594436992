//! Owns the consumer: joins the group, adds and gives back partitions as asked,
//! and hands over records within the credit it was given. Decides nothing and
//! never waits on anybody. Runs on a thread of its own, which wakes when
//! librdkafka or the runner says so.

use super::board::{CLOSE, Seat};
use super::context::{Consumer, GroupContext};
use super::ffi::{self, PartitionQueue, RawMessage};
use super::life::{ConsumerNote, Shared};
use super::{KafkaEvent, KafkaRequest, convert};
use crate::model::position::{Generation, NextOffset, Offset, Partition};
use crate::model::record::Record;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Looks into every queue this often while records are wanted: a queue's wake
/// can be lost (rust-rdkafka#840).
const TICK: Duration = Duration::from_millis(5);
/// The same while none are wanted.
const IDLE: Duration = Duration::from_millis(100);
/// Records of one partition handed over in one turn.
const TURN_MAX: usize = 64;
/// Events of the consumer's own queue served in one turn.
const EVENTS_MAX: usize = 64;
/// How long giving back all partitions and leaving may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// Runs until the life ends or the group was left.
pub fn run(shared: Arc<Shared>, seat: &Seat) {
    shared.waker.register();
    let mut thread = ConsumerThread {
        shared: Arc::clone(&shared),
        seat,
        consumer: None,
        topics: Vec::new(),
        joins_anew: false,
        fetches: BTreeMap::new(),
        looked_at: Duration::ZERO,
    };
    while shared.is_alive() {
        seat.begin("poll", Duration::ZERO);
        if thread.serve_notes() == Turn::Leave {
            thread.leave();
            return;
        }
        thread.serve_events();
        thread.join_anew();
        if thread.serve_partitions() == Turn::Rest {
            let wanted = thread.fetches.values().any(|fetch| fetch.credit > 0);
            shared.waker.sleep(if wanted { TICK } else { IDLE });
        }
    }
    seat.begin("close", CLOSE);
    thread.give_all_back();
    shared.set_consumer(None);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// More may be done at once.
    Go,
    /// Nothing to do until woken.
    Rest,
    /// The group is to be left.
    Leave,
}

struct Fetching {
    generation: Generation,
    queue: PartitionQueue,
    credit: usize,
    /// The last record handed over. A rebalance throws away what was fetched
    /// and fetches it again, so that a record can come twice.
    handed: Option<Offset>,
}

struct ConsumerThread<'a> {
    shared: Arc<Shared>,
    seat: &'a Seat,
    consumer: Option<Arc<Consumer>>,
    /// What was subscribed to.
    topics: Vec<String>,
    /// The group is being left, to be joined again.
    joins_anew: bool,
    fetches: BTreeMap<Partition, Fetching>,
    /// When every queue was last looked into.
    looked_at: Duration,
}

impl ConsumerThread<'_> {
    fn serve_notes(&mut self) -> Turn {
        let mut starts = Vec::new();
        for note in self.shared.take_notes() {
            match note {
                ConsumerNote::Subscribe(topics) => {
                    self.topics = topics;
                    self.subscribe();
                }
                ConsumerNote::JoinAnew => {
                    if let Some(consumer) = &self.consumer {
                        consumer.unsubscribe();
                        self.joins_anew = true;
                    }
                }
                ConsumerNote::Asked(KafkaRequest::StartFetch {
                    generation,
                    partition,
                    from,
                }) => {
                    if self.split(generation, partition) {
                        starts.push((partition, from));
                    }
                }
                ConsumerNote::Asked(KafkaRequest::Fetch {
                    generation,
                    partition,
                    records,
                }) => {
                    if let Some(fetch) = self.fetches.get_mut(&partition)
                        && fetch.generation == generation
                    {
                        fetch.credit += records;
                    }
                }
                ConsumerNote::Asked(KafkaRequest::FinishRevoke { partitions, .. }) => {
                    self.start(&std::mem::take(&mut starts));
                    self.finish_revoke(&partitions);
                }
                ConsumerNote::Asked(KafkaRequest::Leave) => return Turn::Leave,
                // Those go to other threads.
                ConsumerNote::Asked(
                    KafkaRequest::Commit(_)
                    | KafkaRequest::Move(_)
                    | KafkaRequest::RenewProducer(_)
                    | KafkaRequest::FindUnassigned
                    | KafkaRequest::Rejoin,
                ) => {}
            }
        }
        self.start(&starts);
        Turn::Go
    }

    fn subscribe(&mut self) {
        let topics = &self.topics;
        let config = self.shared.settings.consumer_config(topics);
        let context = GroupContext {
            shared: Arc::clone(&self.shared),
        };
        let made = BaseConsumer::from_config_and_context(&config, context).and_then(|mut made| {
            let waker = Arc::clone(&self.shared.waker);
            made.set_nonempty_callback(move || waker.wake());
            made.subscribe(&names(topics))?;
            Ok(Arc::new(made))
        });
        match made {
            Ok(consumer) => {
                self.shared.set_consumer(Some(Arc::clone(&consumer)));
                self.consumer = Some(consumer);
                self.shared.report(KafkaEvent::Subscribed);
            }
            Err(error) => {
                let why = format!("cannot make a consumer of {} topics: {error}", topics.len());
                self.shared.consumer_fault(why);
            }
        }
    }

    /// Joins again once the group was left and everything given back.
    fn join_anew(&mut self) {
        let Some(consumer) = &self.consumer else {
            return;
        };
        if !self.joins_anew || ffi::is_member(consumer) {
            return;
        }
        self.joins_anew = false;
        if let Err(error) = consumer.subscribe(&names(&self.topics)) {
            let why = format!("cannot join the group anew: {error}");
            self.shared.consumer_fault(why);
        }
    }

    /// Takes a partition's queue before it is assigned.
    fn split(&mut self, generation: Generation, partition: Partition) -> bool {
        let Some(consumer) = &self.consumer else {
            return false;
        };
        let topic = self.shared.settings.topics.name(partition.topic);
        let split = PartitionQueue::split(consumer, &topic, partition.number, &self.shared.waker);
        let Some(queue) = split else {
            let why = format!("no queue for partition {} of {topic}", partition.number);
            self.shared.consumer_fault(why);
            return false;
        };
        let fetch = Fetching {
            generation,
            queue,
            credit: 0,
            handed: None,
        };
        self.fetches.insert(partition, fetch);
        true
    }

    fn start(&mut self, starts: &[(Partition, NextOffset)]) {
        let Some(consumer) = &self.consumer else {
            return;
        };
        if starts.is_empty() {
            return;
        }
        let assigned = convert::starts(&self.shared.settings.topics, starts)
            .and_then(|list| consumer.incremental_assign(&list));
        match assigned {
            Ok(()) => self.shared.fetching(starts.iter().map(|(p, _)| *p)),
            Err(error) => {
                let why = format!("cannot read {} partitions: {error}", starts.len());
                self.shared.consumer_fault(why);
            }
        }
    }

    fn finish_revoke(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.fetches.remove(partition);
        }
        let Some(consumer) = &self.consumer else {
            return;
        };
        if let Err(error) = self.shared.unassign(consumer, partitions) {
            let why = format!("cannot give {} partitions back: {error}", partitions.len());
            self.shared.consumer_fault(why);
        }
    }

    /// Gives back whatever librdkafka was given. Also answers a revocation that
    /// nobody will finish any more: closing would wait for that without an end.
    fn give_all_back(&mut self) {
        self.fetches.clear();
        let Some(consumer) = &self.consumer else {
            return;
        };
        if let Err(error) = self.shared.unassign_all(consumer) {
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
                None => {}
                Some(Ok(_)) => {
                    // A record passed by here would count as finished.
                    let why = "a record came outside the queue of its partition".to_owned();
                    self.shared.consumer_fault(why);
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
                self.shared.fenced();
            } else {
                self.shared.consumer_fault(format!("{code:?}: {text}"));
            }
            return;
        }
        // Anything else was logged by the context and goes on by itself.
        tracing::debug!(%error, "kafka consumer error");
    }

    /// Hands over what has come, within the credit of each partition.
    fn serve_partitions(&mut self) -> Turn {
        if self.shared.is_faulted() {
            return Turn::Rest;
        }
        let now = self.shared.now();
        let all = now.saturating_sub(self.looked_at) >= TICK;
        if all {
            self.looked_at = now;
        }
        let mut turn = Turn::Rest;
        let mut harvest = Harvest::default();
        for (partition, fetch) in &mut self.fetches {
            if fetch.credit == 0 || !(fetch.queue.take_nonempty() || all) {
                continue;
            }
            let max = fetch.credit.min(TURN_MAX);
            let before = harvest.records.len();
            let handed = &mut fetch.handed;
            let taken = fetch.queue.poll(max, |message| {
                harvest.take(*partition, fetch.generation, message, handed);
            });
            fetch.credit -= harvest.records.len() - before;
            if taken == max {
                fetch.queue.leave_nonempty();
                if fetch.credit > 0 {
                    turn = Turn::Go;
                }
            }
        }
        self.deliver(harvest);
        turn
    }

    fn deliver(&self, harvest: Harvest) {
        if !harvest.records.is_empty() {
            self.seat.answered();
            self.shared.report(KafkaEvent::Records(harvest.records));
        }
        for (partition, (generation, next)) in harvest.ends {
            self.shared.report(KafkaEvent::ReachedEnd {
                generation,
                partition,
                next,
            });
        }
        for (partition, generation, code) in harvest.errors {
            if convert::is_out_of_range(code) {
                self.shared.report(KafkaEvent::OutOfRange {
                    generation,
                    partition,
                });
            } else if let Some(held_back) = self.shared.across.pass(&format!("fetch {code:?}")) {
                let (topic, number) = (partition.topic, partition.number);
                tracing::warn!(?topic, number, ?code, held_back, "kafka fetch error");
            }
        }
    }

    /// Leaves the group: close alone would keep the partitions of a static
    /// member until its session times out.
    fn leave(mut self) {
        self.seat.begin("leave the group", LEAVE_MAX);
        self.shared.leave();
        self.shared.end_others();
        self.give_all_back();
        self.shared.set_consumer(None);
        if let Some(consumer) = self.consumer.take() {
            let until = self.shared.now() + LEAVE_MAX;
            consumer.unsubscribe();
            // Closing any sooner would cancel the leaving. Committer and reader
            // may be in a last call with the consumer.
            let busy = || ffi::is_member(&consumer) || Arc::strong_count(&consumer) > 1;
            while busy() && self.shared.now() < until {
                drop(consumer.poll(Duration::from_millis(5)));
            }
            if self.shared.now() >= until {
                // The brokers do not answer: the session's end takes us out.
                std::mem::forget(consumer);
            } else {
                self.seat.begin("close", CLOSE);
            }
        }
        self.shared.report(KafkaEvent::Left);
    }
}

fn names(topics: &[String]) -> Vec<&str> {
    topics.iter().map(String::as_str).collect()
}

/// What one turn has taken out of the queues.
#[derive(Default)]
struct Harvest {
    records: Vec<(Generation, Record)>,
    ends: BTreeMap<Partition, (Generation, NextOffset)>,
    errors: Vec<(Partition, Generation, RDKafkaErrorCode)>,
}

impl Harvest {
    fn take(
        &mut self,
        partition: Partition,
        generation: Generation,
        message: &RawMessage,
        handed: &mut Option<Offset>,
    ) {
        match message.error() {
            None => {
                let offset = Offset(message.offset());
                if *handed >= Some(offset) {
                    return;
                }
                *handed = Some(offset);
                // The end before this record is old news; another one follows.
                self.ends.remove(&partition);
                let record = convert::record(partition, message);
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
