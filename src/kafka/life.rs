//! What the threads of one life share, and how a life ends. Decides nothing.
//! Used by the consumer, committer, mover and reader threads and by whoever
//! holds the life.

use super::context::Consumer;
use super::reader::ReaderNote;
use super::settings::KafkaSettings;
use super::wake::Waker;
use super::{KafkaEvent, KafkaRequest, Sessions, convert};
use crate::model::message::{CommitRequest, MoveRequest, OpenTransaction};
use crate::model::position::{Generation, Partition};
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Group metadata kept: moves of older generations are refused by us, as they
/// would be by the broker.
const METADATA_MAX: usize = 8;

/// For the consumer thread.
pub enum ConsumerNote {
    /// Join the group with these topics.
    Subscribe(Vec<String>),
    /// Leave the group and join it again: partitions are assigned to nobody.
    JoinAnew,
    /// From the runner: fetches, the end of a revocation, leaving.
    Asked(KafkaRequest),
}

/// For the committer thread.
pub enum CommitterNote {
    /// Commit this.
    Commit(CommitRequest),
    /// The life ends.
    End,
}

/// For the mover thread.
pub enum MoverNote {
    /// Run this transaction.
    Move(MoveRequest),
    /// The life ends.
    End,
}

/// The ways to the threads of a life. None of them blocks: what stands in them
/// is bounded by what the engine lets be outstanding.
pub struct Senders {
    pub committer: Sender<CommitterNote>,
    pub mover: Sender<MoverNote>,
    pub reader: Sender<ReaderNote>,
}

/// What the threads of one life share.
pub struct Shared {
    /// How to reach Kafka.
    pub settings: Arc<KafkaSettings>,
    /// What outlives this life.
    pub across: Arc<Sessions>,
    /// This life's number.
    pub life: u64,
    /// Wakes the consumer thread.
    pub waker: Arc<Waker>,
    report: Box<dyn Fn(KafkaEvent) + Send + Sync>,
    senders: Senders,
    notes: Mutex<Vec<ConsumerNote>>,
    alive: AtomicBool,
    leaving: AtomicBool,
    faulted: AtomicBool,
    consumer: Mutex<Option<Arc<Consumer>>>,
    fetching: Mutex<BTreeSet<Partition>>,
    metadata: Mutex<VecDeque<(Generation, Arc<ConsumerGroupMetadata>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A life that has just begun.
    pub fn new(
        settings: Arc<KafkaSettings>,
        across: Arc<Sessions>,
        senders: Senders,
        report: Box<dyn Fn(KafkaEvent) + Send + Sync>,
    ) -> Self {
        Self {
            settings,
            life: across.next_life(),
            across,
            waker: Arc::new(Waker::default()),
            report,
            senders,
            notes: Mutex::default(),
            alive: AtomicBool::new(true),
            leaving: AtomicBool::new(false),
            faulted: AtomicBool::new(false),
            consumer: Mutex::default(),
            fetching: Mutex::default(),
            metadata: Mutex::default(),
        }
    }

    /// Reports, unless the life is over.
    pub fn report(&self, report: KafkaEvent) {
        if self.is_alive() {
            (self.report)(report);
        }
    }

    /// Reports that the brokers do not answer.
    pub fn unreachable(&self, why: String) {
        self.across.trouble();
        self.waiting(why);
    }

    /// Reports that something is waited for.
    pub fn waiting(&self, why: String) {
        if self.is_alive() {
            (self.report)(KafkaEvent::Waiting { why });
        }
    }

    /// Reports that the consumer cannot go on, once.
    pub fn consumer_fault(&self, why: String) {
        if !self.faulted.swap(true, Ordering::AcqRel) {
            self.report(KafkaEvent::ConsumerFault { why });
        }
    }

    /// Reports that our name in the group was taken, once. Soon after trouble
    /// with the brokers that may have been ourselves: a member whose session
    /// timed out goes on with heartbeats under its name but without its id. But
    /// not again and again.
    pub fn fenced(&self) {
        if self.faulted.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.across.is_namesake() {
            self.report(KafkaEvent::ConsumerFenced);
        } else {
            let why = "fenced under our own name after trouble".to_owned();
            self.report(KafkaEvent::ConsumerFault { why });
        }
    }

    /// Whether the consumer has failed for good.
    pub fn is_faulted(&self) -> bool {
        self.faulted.load(Ordering::Acquire)
    }

    /// Whether the life was not dropped yet.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Whether the group's decisions still concern the runner.
    pub fn is_member(&self) -> bool {
        self.is_alive() && !self.leaving.load(Ordering::Acquire)
    }

    /// From now on partitions are given back as they are taken.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Remembers what a transaction that is not committed may leave open. What a
    /// life finds after its end is not news: the next one may have begun a
    /// transaction.
    pub fn leave_open(&self, open: OpenTransaction) {
        if self.is_alive() {
            *self.across.left_open() = open;
        }
    }

    /// What may be open.
    pub fn left_open(&self) -> OpenTransaction {
        self.across.left_open().clone()
    }

    /// Monotonic time.
    pub fn now(&self) -> Duration {
        self.across.now()
    }

    /// Passes a request on to the thread that serves it. Never blocks.
    pub fn request(&self, request: KafkaRequest) {
        // A thread that has ended needs no more requests.
        match request {
            KafkaRequest::Commit(order) => {
                let sent = self.senders.committer.send(CommitterNote::Commit(order));
                self.ended_unless(sent.is_ok());
            }
            KafkaRequest::Move(order) => {
                let sent = self.senders.mover.send(MoverNote::Move(order));
                self.ended_unless(sent.is_ok());
            }
            other => self.note(ConsumerNote::Asked(other)),
        }
    }

    fn ended_unless(&self, taken: bool) {
        if !taken && self.is_member() {
            self.consumer_fault("a thread of the kafka shell has ended early".to_owned());
        }
    }

    /// Leaves a note for the consumer thread.
    pub fn note(&self, note: ConsumerNote) {
        lock(&self.notes).push(note);
        self.waker.wake();
    }

    /// All notes for the consumer thread.
    pub fn take_notes(&self) -> Vec<ConsumerNote> {
        std::mem::take(&mut *lock(&self.notes))
    }

    /// Ends the life: no further reports; the threads end as soon as their
    /// present call returns.
    pub fn abandon(&self) {
        self.alive.store(false, Ordering::Release);
        self.end_others();
        self.waker.wake();
    }

    /// Tells committer, mover and reader to end.
    pub fn end_others(&self) {
        let ended = [
            self.senders.committer.send(CommitterNote::End).is_err(),
            self.senders.mover.send(MoverNote::End).is_err(),
            self.senders.reader.send(ReaderNote::End).is_err(),
        ];
        // Those that have ended already need no telling.
        tracing::trace!(?ended, "kafka threads told to end");
    }

    /// The consumer, once there is one and until the end.
    pub fn consumer(&self) -> Option<Arc<Consumer>> {
        lock(&self.consumer).clone()
    }

    /// Sets or takes away the consumer.
    pub fn set_consumer(&self, consumer: Option<Arc<Consumer>>) {
        *lock(&self.consumer) = consumer;
    }

    /// Counts a rebalance callback and keeps the group metadata of this moment.
    pub fn next_generation(&self, metadata: Option<ConsumerGroupMetadata>) -> Generation {
        let generation = self.across.next_generation();
        if let Some(metadata) = metadata {
            let mut kept = lock(&self.metadata);
            kept.push_back((generation, Arc::new(metadata)));
            if kept.len() > METADATA_MAX {
                kept.pop_front();
            }
        }
        generation
    }

    /// The group metadata captured in that callback.
    pub fn group_metadata(&self, generation: Generation) -> Option<Arc<ConsumerGroupMetadata>> {
        let kept = lock(&self.metadata);
        let found = kept.iter().find(|(of, _)| *of == generation);
        found.map(|(_, metadata)| Arc::clone(metadata))
    }

    /// Has the committed state of new partitions read.
    pub fn read_state(&self, generation: Generation, partitions: Vec<Partition>) {
        let sent = self.senders.reader.send(ReaderNote::Assigned {
            generation,
            partitions,
        });
        self.ended_unless(sent.is_ok());
    }

    /// The reader need not look after these any more.
    pub fn forget_state(&self, partitions: Vec<Partition>) {
        let sent = self.senders.reader.send(ReaderNote::Revoked { partitions });
        self.ended_unless(sent.is_ok());
    }

    /// Remembers that librdkafka was given these partitions.
    pub fn fetching(&self, partitions: impl IntoIterator<Item = Partition>) {
        lock(&self.fetching).extend(partitions);
    }

    /// Gives all partitions back; completes a revocation.
    pub fn unassign_all(&self, consumer: &Consumer) -> KafkaResult<()> {
        let all: Vec<Partition> = lock(&self.fetching).iter().copied().collect();
        self.unassign(consumer, &all)
    }

    /// Gives these partitions back; completes a revocation. The list holds only what
    /// librdkafka was given, for it refuses others, and may be empty.
    pub fn unassign(&self, consumer: &Consumer, partitions: &[Partition]) -> KafkaResult<()> {
        let mut fetching = lock(&self.fetching);
        let given: Vec<&Partition> = partitions.iter().filter(|p| fetching.contains(p)).collect();
        consumer.incremental_unassign(&convert::list(&self.settings.topics, given))?;
        for partition in partitions {
            fetching.remove(partition);
        }
        Ok(())
    }
}
