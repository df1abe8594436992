//! The reader thread: reads the committed state of newly assigned partitions, log
//! bounds and topic ids. Decides nothing. The fetch of a committed offset waits for
//! another replica's open transaction. Commits must not wait for that, so the
//! reader is a thread of its own.

use super::context::Consumer;
use super::shared::GroupShared;
use super::unassigned;
use crate::kafka::call_monitor::{CLIENT_MAX, CLOSE, CallTimer};
use crate::kafka::client::{convert, ffi};
use crate::kafka::inbox::ToReader;
use crate::kafka::session_state::SessionState;
use crate::model::message::{CommittedState, KafkaEvent, LogBounds};
use crate::model::position::{Generation, NextOffset, Partition, Topic, TopicId};
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// The limit of one request for all partitions.
const REQUEST_MAX: Duration = Duration::from_secs(1);
/// The first limit of a request for all committed offsets. It grows while no
/// partition is answered. While an earlier owner's transaction is open, its partitions
/// are not answered, and all other partitions of the request wait for them.
const COMMITTED_FIRST: Duration = Duration::from_millis(100);
const COMMITTED_MAX: Duration = Duration::from_secs(3);
/// The limit for one partition alone, after the common request failed.
const COMMITTED_ALONE: Duration = Duration::from_millis(30);
/// The pause before an unanswered partition is requested again.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// The interval between two reports of log bounds.
const BOUNDS_EVERY: Duration = Duration::from_secs(1);
/// The interval between two reads of the topic ids.
const IDS_EVERY: Duration = Duration::from_secs(2);
/// The limit of all requests that find unassigned partitions; one request for
/// each topic.
const LOOK_MAX: Duration = Duration::from_secs(15);

type Committed = Option<(NextOffset, String)>;

/// Reads until the session ends or leaves the group.
pub fn run(shared: &GroupShared, requests: &Receiver<ToReader>, timer: &CallTimer) {
    let state = &*shared.state;
    let mut thread = ReaderThread {
        state,
        timer,
        client_timer: state.sessions.calls.client(),
        assigned: BTreeSet::new(),
        pending: BTreeMap::new(),
        ids: BTreeMap::new(),
        committed_limit: COMMITTED_FIRST,
        next_bounds: Duration::ZERO,
        next_ids: Duration::ZERO,
        find_unassigned: false,
    };
    loop {
        let pause = thread.pause();
        timer.start("wait for partitions", pause);
        match requests.recv_timeout(pause) {
            Ok(ToReader::End) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(request) => thread.handle(request),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A partition that was revoked meanwhile must not be read.
        for request in requests.try_iter() {
            if matches!(request, ToReader::End) {
                return;
            }
            thread.handle(request);
        }
        if !state.is_active() {
            return;
        }
        let Some(consumer) = shared.consumer() else {
            // A client that does not exist yet is not overdue.
            thread.client_timer.start("log bounds", CLIENT_MAX);
            continue;
        };
        thread.turn(&consumer, requests);
        // If the session has ended, this drop may close the consumer, which takes long.
        timer.start("close", CLOSE);
        drop(consumer);
    }
}

struct ReaderThread<'a> {
    state: &'a SessionState,
    timer: &'a CallTimer,
    /// Times for how long the consumer's client gave no log bounds.
    client_timer: CallTimer,
    assigned: BTreeSet<Partition>,
    /// Partitions whose committed state is not read yet.
    pending: BTreeMap<Partition, (Generation, Ask)>,
    ids: BTreeMap<Topic, TopicId>,
    /// The current limit of a request for all committed offsets.
    committed_limit: Duration,
    next_bounds: Duration,
    next_ids: Duration,
    find_unassigned: bool,
}

/// How the committed offset of a partition is requested next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Together,
    Alone,
}

impl ReaderThread<'_> {
    fn pause(&self) -> Duration {
        if !self.pending.is_empty() {
            return RETRY_AFTER;
        }
        let next = self.next_bounds.min(self.next_ids);
        next.saturating_sub(self.state.now()).max(RETRY_AFTER)
    }

    fn handle(&mut self, request: ToReader) {
        match request {
            ToReader::Assigned {
                generation,
                partitions,
            } => {
                for partition in partitions {
                    self.assigned.insert(partition);
                    let ask = (generation, Ask::Together);
                    self.pending.insert(partition, ask);
                }
            }
            ToReader::Revoked(partitions) => {
                for partition in partitions {
                    self.assigned.remove(&partition);
                    self.pending.remove(&partition);
                }
            }
            ToReader::FindUnassigned => self.find_unassigned = true,
            ToReader::End => {}
        }
    }

    fn turn(&mut self, consumer: &Consumer, requests: &Receiver<ToReader>) {
        self.read_together(consumer);
        self.read_alone(consumer, requests);
        if !self.state.is_active() {
            return;
        }
        if self.pending.is_empty() {
            self.committed_limit = COMMITTED_FIRST;
        }
        let now = self.state.now();
        if now >= self.next_bounds {
            self.next_bounds = now + BOUNDS_EVERY;
            self.report_bounds(consumer);
            // The client's own thread answers this call. Without that thread the
            // membership ends soon, although reads still work. The watchdog finds a call
            // that does not return.
            self.timer.start("member id", Duration::ZERO);
            if !ffi::is_member(consumer) {
                tracing::debug!("not in the group at the moment");
            }
        }
        if now >= self.next_ids {
            self.next_ids = now + IDS_EVERY;
            self.check_ids(consumer, &self.assigned.iter().copied().collect::<Vec<_>>());
        }
        if std::mem::take(&mut self.find_unassigned) {
            self.timer.start("find unassigned partitions", LOOK_MAX);
            // The embedded cluster does not tell members' assignments.
            let found = match self.state.settings.is_embedded() {
                true => BTreeSet::new(),
                false => unassigned::find(self.state, consumer),
            };
            self.state.report(KafkaEvent::Unassigned(found));
        }
    }

    /// Reads one partition after the other, until a request comes: new partitions
    /// are first read together.
    fn read_alone(&mut self, consumer: &Consumer, requests: &Receiver<ToReader>) {
        let alone = self.pending_with(Ask::Alone);
        let unanswered = self.pending.len();
        for partition in &alone {
            self.read(consumer, &[*partition], COMMITTED_ALONE);
            if let Ok(request) = requests.try_recv() {
                // At the end of the session, `run` sees that it is not active.
                self.handle(request);
                return;
            }
        }
        if !alone.is_empty() && self.pending.len() == unanswered {
            // Either all pending partitions wait for a transaction, or the
            // brokers need more time than the limit.
            self.committed_limit = (self.committed_limit * 4).min(COMMITTED_MAX);
            for (_, ask) in self.pending.values_mut() {
                *ask = Ask::Together;
            }
        }
    }

    fn pending_with(&self, how: Ask) -> Vec<Partition> {
        let pending = self.pending.iter().filter(|(_, (_, ask))| *ask == how);
        pending.map(|(partition, _)| *partition).collect()
    }

    fn read_together(&mut self, consumer: &Consumer) {
        let all = self.pending_with(Ask::Together);
        if all.is_empty() {
            return;
        }
        self.read(consumer, &all, self.committed_limit);
        for partition in all {
            if let Some((_, ask)) = self.pending.get_mut(&partition) {
                *ask = Ask::Alone;
            }
        }
    }

    /// Reads and reports the committed state of these partitions. Partitions
    /// without a complete answer stay pending.
    fn read(&mut self, consumer: &Consumer, partitions: &[Partition], timeout: Duration) {
        let committed = self.committed(consumer, partitions, timeout);
        if committed.is_empty() {
            return;
        }
        let answered: Vec<Partition> = committed.keys().copied().collect();
        let bounds = self.bounds(consumer, &answered);
        // A topic that was away may have been made again.
        self.check_ids(consumer, &answered);
        for bound in bounds {
            let partition = bound.partition;
            let Some(committed) = committed.get(&partition) else {
                continue;
            };
            let Some((generation, _)) = self.pending.remove(&partition) else {
                continue;
            };
            self.state.report(KafkaEvent::CommittedState {
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
        let names = &self.state.settings.topics;
        let asked = convert::list(names, partitions);
        self.timer.start("committed offsets", timeout);
        let list = match consumer.committed_offsets(asked, timeout) {
            Ok(list) => list,
            Err(error) => {
                if let Some(held_back) = self.state.sessions.throttle.pass("committed") {
                    let partitions = partitions.len();
                    tracing::info!(%error, partitions, held_back, "committed offsets not read yet");
                }
                return BTreeMap::new();
            }
        };
        let elements = ffi::elements(&list).into_iter();
        let answered = elements.filter(|element| element.error.is_none());
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

    /// Reads the start or the end of logs. `offsets_for_times` passes both on as
    /// the special timestamps of ListOffsets, with one request for each leader.
    /// The end is the last stable offset, because the consumer reads committed
    /// records only.
    fn offsets(
        &self,
        consumer: &Consumer,
        partitions: &[Partition],
        which: Offset,
    ) -> BTreeMap<Partition, NextOffset> {
        let names = &self.state.settings.topics;
        let mut asked = convert::list(names, partitions);
        self.timer.start("log bounds", REQUEST_MAX);
        let answer = asked
            .set_all_offsets(which)
            .and_then(|()| consumer.offsets_for_times(asked, REQUEST_MAX));
        let list = match answer {
            Ok(list) => list,
            Err(error) => {
                if let Some(held_back) = self.state.sessions.throttle.pass("log bounds") {
                    tracing::info!(%error, held_back, "log bounds not read");
                }
                return BTreeMap::new();
            }
        };
        let elements = ffi::elements(&list).into_iter();
        let answered = elements.filter(|element| element.error.is_none() && element.offset >= 0);
        answered
            .filter_map(|element| {
                let partition = convert::partition(names, &element)?;
                Some((partition, NextOffset(element.offset)))
            })
            .collect()
    }

    fn report_bounds(&self, consumer: &Consumer) {
        let partitions: Vec<Partition> = self.assigned.iter().copied().collect();
        let bounds = self.bounds(consumer, &partitions);
        if !partitions.is_empty() && bounds.is_empty() {
            if self.client_timer.is_overdue() {
                let why = "the consumer's client does not answer, although the brokers do";
                self.state.consumer_fault(why.to_owned());
            }
            return;
        }
        self.client_timer.start("log bounds", CLIENT_MAX);
        if !bounds.is_empty() {
            self.timer.answered();
            self.state.report(KafkaEvent::LogBounds(bounds));
        }
    }

    /// Reads the current ids of these partitions' topics, as far as the brokers
    /// tell them. Reports each topic with a new id.
    fn check_ids(&mut self, consumer: &Consumer, partitions: &[Partition]) {
        let topics: BTreeSet<Topic> = partitions.iter().map(|p| p.topic).collect();
        if self.state.settings.is_embedded() || topics.is_empty() {
            return;
        }
        let names = &self.state.settings.topics;
        let asked: Vec<String> = topics.iter().map(|topic| names.name(*topic)).collect();
        self.timer.start("topic ids", REQUEST_MAX);
        for (name, id) in ffi::topic_ids(consumer, &asked, REQUEST_MAX) {
            let (Some(topic), id) = (names.topic(&name), TopicId(id)) else {
                continue;
            };
            let before = self.ids.insert(topic, id.clone());
            if before.is_some_and(|before| before != id) {
                self.state.report(KafkaEvent::TopicRecreated { topic });
            }
        }
    }
}
