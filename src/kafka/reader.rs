//! Reads what is committed for newly assigned partitions, where logs begin and
//! end, and the topics' ids. Decides nothing. Runs on a thread of its own: the
//! fetch of a committed offset waits for another's open transaction, and
//! commits must not wait for that.

use super::board::{CLIENT_MAX, CLOSE, Seat};
use super::context::Consumer;
use super::life::{ConsumerNote, Shared};
use super::unowned::UnownedWatch;
use super::{KafkaEvent, convert, ffi};
use crate::model::message::{CommittedState, LogBounds};
use crate::model::position::{Generation, NextOffset, Partition, Topic, TopicId};
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// For the reader thread.
pub enum ReaderNote {
    /// Read these; from now on report their logs' bounds.
    Assigned {
        /// The callback.
        generation: Generation,
        /// Which.
        partitions: Vec<Partition>,
    },
    /// These need nothing more.
    Revoked {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// The life ends.
    End,
}

/// For all partitions in one request.
const TOGETHER: Duration = Duration::from_secs(1);
/// For the committed offsets of all: where a predecessor's transaction is still
/// open, its partitions' are not answered, and all others wait for them.
const COMMITTED_TOGETHER: Duration = Duration::from_millis(100);
const COMMITTED_TOGETHER_MAX: Duration = Duration::from_secs(3);
/// For each partition alone, where the one request was not answered.
const ALONE: Duration = Duration::from_millis(30);
/// Between two reports of log bounds.
const BOUNDS_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the topics' ids.
const IDS_EVERY: Duration = Duration::from_secs(2);
/// For all questions of a look at what nobody owns: one for each topic.
const LOOK_MAX: Duration = Duration::from_secs(15);
/// Before a partition that was not answered is asked for again.
const AGAIN: Duration = Duration::from_millis(10);

type Committed = Option<(NextOffset, String)>;

/// Reads until the life ends.
pub fn run(shared: Arc<Shared>, notes: &Receiver<ReaderNote>, seat: &Seat) {
    let mut thread = ReaderThread {
        shared: &shared,
        seat,
        client: shared.across.board.client(shared.life, "consumer"),
        assigned: BTreeSet::new(),
        pending: BTreeMap::new(),
        ids: BTreeMap::new(),
        together: COMMITTED_TOGETHER,
        next_bounds: Duration::ZERO,
        next_ids: Duration::ZERO,
        unowned: UnownedWatch::new(shared.now()),
    };
    loop {
        let rest = thread.rest();
        seat.begin("wait for partitions", rest);
        match notes.recv_timeout(rest) {
            Ok(ReaderNote::End) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(note) => thread.note(note),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // All that is known already counts before anything is asked.
        for note in notes.try_iter() {
            if matches!(note, ReaderNote::End) {
                return;
            }
            thread.note(note);
        }
        if !shared.is_member() {
            return;
        }
        let Some(consumer) = shared.consumer() else {
            // There is none yet, which owes nothing.
            thread.client.begin("log bounds", CLIENT_MAX);
            continue;
        };
        thread.turn(&consumer, notes);
        // Where the life has ended, this may be the consumer's last use.
        seat.begin("close", CLOSE);
        drop(consumer);
    }
}

struct ReaderThread<'a> {
    shared: &'a Shared,
    seat: &'a Seat,
    /// The consumer's, which answers about log bounds every second.
    client: Seat,
    assigned: BTreeSet<Partition>,
    /// Not answered yet; whether asking together has failed for it.
    pending: BTreeMap<Partition, (Generation, Asking)>,
    ids: BTreeMap<Topic, TopicId>,
    /// What the request for all is given now.
    together: Duration,
    next_bounds: Duration,
    next_ids: Duration,
    unowned: UnownedWatch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Together,
    Alone,
}

impl ReaderThread<'_> {
    fn rest(&self) -> Duration {
        if !self.pending.is_empty() {
            return AGAIN;
        }
        let next = self.next_bounds.min(self.next_ids).min(self.unowned.next());
        next.saturating_sub(self.shared.now()).max(AGAIN)
    }

    fn note(&mut self, note: ReaderNote) {
        self.unowned.rebalanced(self.shared.now());
        match note {
            ReaderNote::Assigned {
                generation,
                partitions,
            } => {
                for partition in partitions {
                    self.assigned.insert(partition);
                    let asking = (generation, Asking::Together);
                    self.pending.insert(partition, asking);
                }
            }
            ReaderNote::Revoked { partitions } => {
                for partition in partitions {
                    self.assigned.remove(&partition);
                    self.pending.remove(&partition);
                }
            }
            ReaderNote::End => {}
        }
    }

    fn turn(&mut self, consumer: &Consumer, notes: &Receiver<ReaderNote>) {
        self.find_together(consumer);
        // One at a time, so that news come in between.
        let alone = self.asked_alone();
        let unanswered = self.pending.len();
        for partition in &alone {
            self.find(consumer, &[*partition], ALONE);
            if let Ok(note) = notes.try_recv() {
                if matches!(note, ReaderNote::End) {
                    return;
                }
                self.note(note);
                break;
            }
        }
        if !alone.is_empty() && self.pending.len() == unanswered {
            // Either all that is left waits for a transaction, or the brokers
            // need more time than they were given.
            self.together = (self.together * 4).min(COMMITTED_TOGETHER_MAX);
            for (_, asking) in self.pending.values_mut() {
                *asking = Asking::Together;
            }
        }
        let now = self.shared.now();
        if now >= self.next_bounds {
            self.next_bounds = now + BOUNDS_EVERY;
            self.report_bounds(consumer);
            // Answered by the client's own thread, without which it is no
            // member for long although reading and asking go on.
            self.seat.begin("member id", Duration::ZERO);
            if !ffi::is_member(consumer) {
                tracing::debug!("not in the group at the moment");
            }
        }
        if now >= self.next_ids {
            self.next_ids = now + IDS_EVERY;
            self.watch_ids(consumer);
        }
        let look = now >= self.unowned.next() && !self.shared.settings.embedded;
        if look {
            self.seat.begin("look for partitions of nobody", LOOK_MAX);
        }
        if look && self.unowned.look(self.shared, consumer) {
            self.shared.note(ConsumerNote::JoinAnew);
        }
    }

    fn asked_alone(&self) -> Vec<Partition> {
        let alone = self
            .pending
            .iter()
            .filter(|(_, (_, asking))| *asking == Asking::Alone);
        alone.map(|(partition, _)| *partition).collect()
    }

    fn find_together(&mut self, consumer: &Consumer) {
        let all: Vec<Partition> = self
            .pending
            .iter()
            .filter(|(_, (_, asking))| *asking == Asking::Together)
            .map(|(partition, _)| *partition)
            .collect();
        if all.is_empty() {
            return;
        }
        self.find(consumer, &all, self.together);
        for partition in all {
            if let Some((_, asking)) = self.pending.get_mut(&partition) {
                *asking = Asking::Alone;
            }
        }
    }

    /// Reports each of these of which everything was answered.
    fn find(&mut self, consumer: &Consumer, partitions: &[Partition], timeout: Duration) {
        let committed = self.committed(consumer, partitions, timeout);
        if committed.is_empty() {
            return;
        }
        let answered: Vec<Partition> = committed.keys().copied().collect();
        let bounds = self.bounds(consumer, &answered);
        self.learn_ids(consumer, &answered);
        for bound in bounds {
            let partition = bound.partition;
            let Some(committed) = committed.get(&partition) else {
                continue;
            };
            let Some((generation, _)) = self.pending.remove(&partition) else {
                continue;
            };
            self.shared.report(KafkaEvent::CommittedState {
                generation,
                partition,
                found: CommittedState {
                    committed: committed.clone(),
                    log_start: bound.start,
                    log_end: bound.end,
                    topic_id: self.ids.get(&partition.topic).cloned(),
                },
            });
        }
    }

    fn committed(
        &self,
        consumer: &Consumer,
        partitions: &[Partition],
        timeout: Duration,
    ) -> BTreeMap<Partition, Committed> {
        let names = &self.shared.settings.topics;
        let asked = convert::list(names, partitions);
        self.seat.begin("committed offsets", timeout);
        let list = match consumer.committed_offsets(asked, timeout) {
            Ok(list) => list,
            Err(error) => {
                if let Some(held_back) = self.shared.across.pass("committed") {
                    let partitions = partitions.len();
                    tracing::info!(%error, partitions, held_back, "committed offsets not read yet");
                }
                return BTreeMap::new();
            }
        };
        let answered = ffi::elements(&list)
            .into_iter()
            .filter(|e| e.error.is_none());
        answered
            .filter_map(|element| {
                let partition = convert::partition(names, &element)?;
                let offset = NextOffset(element.offset);
                let committed = (element.offset >= 0).then_some((offset, element.metadata));
                Some((partition, committed))
            })
            .collect()
    }

    fn bounds(&self, consumer: &Consumer, partitions: &[Partition]) -> Vec<LogBounds> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let starts = self.offsets(consumer, partitions, Offset::Beginning);
        let ends = self.offsets(consumer, partitions, Offset::End);
        let both = starts.into_iter().filter_map(|(partition, start)| {
            let end = *ends.get(&partition)?;
            Some(LogBounds {
                partition,
                start,
                end,
            })
        });
        both.collect()
    }

    /// `offsets_for_times` passes these two on as the special timestamps of
    /// ListOffsets, one request for each leader; the end is the last stable
    /// offset, because the consumer reads committed records only.
    fn offsets(
        &self,
        consumer: &Consumer,
        partitions: &[Partition],
        which: Offset,
    ) -> BTreeMap<Partition, NextOffset> {
        let names = &self.shared.settings.topics;
        let mut asked = convert::list(names, partitions);
        self.seat.begin("log bounds", TOGETHER);
        let answer = asked
            .set_all_offsets(which)
            .and_then(|()| consumer.offsets_for_times(asked, TOGETHER));
        let list = match answer {
            Ok(list) => list,
            Err(error) => {
                if let Some(held_back) = self.shared.across.pass("log bounds") {
                    tracing::info!(%error, held_back, "log bounds not read");
                }
                return BTreeMap::new();
            }
        };
        let good = ffi::elements(&list)
            .into_iter()
            .filter(|element| element.error.is_none() && element.offset >= 0);
        good.filter_map(|element| {
            let partition = convert::partition(names, &element)?;
            Some((partition, NextOffset(element.offset)))
        })
        .collect()
    }

    fn report_bounds(&self, consumer: &Consumer) {
        let partitions: Vec<Partition> = self.assigned.iter().copied().collect();
        let bounds = self.bounds(consumer, &partitions);
        if !partitions.is_empty() && bounds.is_empty() {
            if self.client.is_overdue() {
                let why = "it answers nothing although the brokers answer others".to_owned();
                self.shared.consumer_fault(why);
            }
            return;
        }
        self.client.begin("log bounds", CLIENT_MAX);
        if !bounds.is_empty() {
            self.seat.answered();
            self.shared.report(KafkaEvent::LogBounds(bounds));
        }
    }

    /// Reads the ids of these partitions' topics as they are now, as far as the
    /// brokers tell them: a topic that was away may be another one.
    fn learn_ids(&mut self, consumer: &Consumer, partitions: &[Partition]) {
        let topics: BTreeSet<Topic> = partitions.iter().map(|p| p.topic).collect();
        let ids = self.read_ids(consumer, &topics);
        self.compare_ids(ids);
    }

    fn watch_ids(&mut self, consumer: &Consumer) {
        let topics: BTreeSet<Topic> = self.assigned.iter().map(|p| p.topic).collect();
        let ids = self.read_ids(consumer, &topics);
        self.compare_ids(ids);
    }

    fn compare_ids(&mut self, ids: BTreeMap<Topic, TopicId>) {
        for (topic, id) in ids {
            let before = self.ids.insert(topic, id.clone());
            if before.is_some_and(|before| before != id) {
                self.shared.report(KafkaEvent::TopicRecreated { topic });
            }
        }
    }

    fn read_ids(&self, consumer: &Consumer, topics: &BTreeSet<Topic>) -> BTreeMap<Topic, TopicId> {
        if self.shared.settings.embedded || topics.is_empty() {
            return BTreeMap::new();
        }
        let names = &self.shared.settings.topics;
        let asked: Vec<String> = topics.iter().map(|topic| names.name(*topic)).collect();
        self.seat.begin("topic ids", TOGETHER);
        ffi::topic_ids(consumer, &asked, TOGETHER)
            .into_iter()
            .filter_map(|(name, id)| Some((names.topic(&name)?, TopicId(id))))
            .collect()
    }
}
