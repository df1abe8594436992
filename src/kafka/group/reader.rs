//! The reader thread: reads the committed state of newly assigned partitions, log
//! bounds, and the ids and leaders of topics. Decides nothing. The fetch of a committed
//! offset waits for another replica's open transaction. Commits must not wait for that,
//! so the reader is a thread of its own.
//!
//! Log bounds are asked by leader. Where a leader is silent, only its partitions wait.

use super::context::Consumer;
use super::log_bounds::{Committed, LogQuestions};
use super::shared::GroupShared;
use super::unassigned;
use crate::kafka::call_monitor::{CLIENT_MAX, CLOSE, CallTimer};
use crate::kafka::client::ffi;
use crate::kafka::client::{brokers, convert};
use crate::kafka::inbox::ToReader;
use crate::kafka::session_state::SessionState;
use crate::model::broker::BrokerId;
use crate::model::message::{CommittedState, KafkaEvent};
use crate::model::position::{Generation, NextOffset, Partition, Topic, TopicId};
use rdkafka::consumer::Consumer as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// The limit of a description of the topics.
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
/// The pause before a partition is requested again whose leader gave no log bounds.
const BOUNDS_RETRY_AFTER: Duration = Duration::from_millis(200);
/// The interval between two descriptions of the topics.
const TOPICS_EVERY: Duration = Duration::from_secs(2);
/// The limit of all requests that find unassigned partitions; one request for
/// each topic.
const LOOK_MAX: Duration = Duration::from_secs(15);

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
        described_by: None,
        had_silent: None,
        committed_limit: COMMITTED_FIRST,
        next_bounds: Duration::ZERO,
        next_topics: Duration::ZERO,
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
    pending: BTreeMap<Partition, Pending>,
    ids: BTreeMap<Topic, TopicId>,
    /// The broker that describes the topics. `None` leaves it to the client.
    described_by: Option<BrokerId>,
    /// Whether there were silent leaders at the last report, if there was one.
    had_silent: Option<bool>,
    /// The current limit of a request for all committed offsets.
    committed_limit: Duration,
    next_bounds: Duration,
    next_topics: Duration,
    find_unassigned: bool,
}

/// A partition whose committed state is not read yet.
struct Pending {
    generation: Generation,
    how: How,
    /// Its leader gave no log bounds: it is not requested before.
    not_before: Duration,
}

/// How the committed offset of a partition is requested next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Together,
    Alone,
}

impl ReaderThread<'_> {
    fn pause(&self) -> Duration {
        let now = self.state.now();
        let pending = self.readable().map(|(_, pending)| pending.not_before);
        let next = pending
            .chain([self.next_bounds, self.next_topics])
            .min()
            .unwrap_or(now);
        next.saturating_sub(now).max(RETRY_AFTER)
    }

    /// Returns the questions about logs.
    fn log(&self) -> LogQuestions<'_> {
        LogQuestions {
            state: self.state,
            timer: self.timer,
        }
    }

    /// Returns the pending partitions whose leaders are not silent.
    fn readable(&self) -> impl Iterator<Item = (Partition, &Pending)> {
        let leaders = self.state.leaders();
        let readable = self.pending.iter();
        let readable = readable.filter(|(partition, _)| leaders.may_answer(**partition));
        let all: Vec<(Partition, &Pending)> = readable.map(|(p, pending)| (*p, pending)).collect();
        all.into_iter()
    }

    fn handle(&mut self, request: ToReader) {
        match request {
            ToReader::Assigned {
                generation,
                partitions,
            } => {
                for partition in partitions {
                    self.assigned.insert(partition);
                    let pending = Pending {
                        generation,
                        how: How::Together,
                        not_before: Duration::ZERO,
                    };
                    self.pending.insert(partition, pending);
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
        if self.readable().next().is_none() {
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
        if now >= self.next_topics {
            self.next_topics = now + TOPICS_EVERY;
            self.describe_topics(consumer);
        }
        if std::mem::take(&mut self.find_unassigned) {
            self.timer.start("find unassigned partitions", LOOK_MAX);
            // The embedded cluster does not tell members' assignments.
            let found = match self.state.settings.is_embedded() {
                true => None,
                false => unassigned::look(self.state, consumer),
            };
            let look = found.unwrap_or_default();
            self.state.report(KafkaEvent::Unassigned(look.unassigned));
            if let Some(foreign) = look.foreign {
                self.state.report(KafkaEvent::ForeignMembers(foreign));
            }
        }
    }

    /// Reads one partition after the other, until a request comes: new partitions
    /// are first read together.
    fn read_alone(&mut self, consumer: &Consumer, requests: &Receiver<ToReader>) {
        let alone = self.pending_with(How::Alone);
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
            for pending in self.pending.values_mut() {
                pending.how = How::Together;
            }
        }
    }

    fn pending_with(&self, how: How) -> Vec<Partition> {
        let now = self.state.now();
        let due = |pending: &Pending| pending.how == how && pending.not_before <= now;
        let pending = self.readable().filter(|(_, pending)| due(pending));
        pending.map(|(partition, _)| partition).collect()
    }

    fn read_together(&mut self, consumer: &Consumer) {
        let all = self.pending_with(How::Together);
        if all.is_empty() {
            return;
        }
        self.read(consumer, &all, self.committed_limit);
        for partition in all {
            if let Some(pending) = self.pending.get_mut(&partition) {
                pending.how = How::Alone;
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
        // A topic that was away may have been made again.
        self.describe_topics(consumer);
        let asks = self.state.leaders().by_leader(committed.keys().copied());
        let bounds = self.log().bounds(consumer, &asks).unwrap_or_default();
        let retry_at = self.state.now() + BOUNDS_RETRY_AFTER;
        for partition in committed.keys() {
            if let Some(pending) = self.pending.get_mut(partition) {
                pending.not_before = retry_at;
            }
        }
        let high_watermarks = self.log().high_watermarks(consumer, &committed, &bounds);
        for bound in bounds {
            let partition = bound.partition;
            let high_watermark = high_watermarks.get(&partition).copied();
            let (Some(committed), Some(high_watermark)) =
                (committed.get(&partition), high_watermark)
            else {
                continue;
            };
            let Some(Pending { generation, .. }) = self.pending.remove(&partition) else {
                continue;
            };
            self.state.report(KafkaEvent::CommittedState {
                generation,
                partition,
                found: CommittedState {
                    committed: committed.clone(),
                    log_start: bound.start,
                    log_end: bound.end,
                    high_watermark,
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

    /// Reads and reports the log bounds: first of the leaders that answered before, then
    /// of silent ones, if they are due.
    fn report_bounds(&mut self, consumer: &Consumer) {
        let round = self.state.leaders().round(&self.assigned, self.state.now());
        for asks in [&round.first, &round.last] {
            if asks.is_empty() {
                continue;
            }
            if let Some(mut bounds) = self.log().bounds(consumer, asks) {
                bounds.retain(|bound| self.assigned.contains(&bound.partition));
                self.log().add_fetched_ends(consumer, &mut bounds);
                self.client_answered();
                if !self.assigned.is_empty() {
                    self.state.report(KafkaEvent::LogBounds(bounds));
                }
            }
        }
        if !round.first.is_empty() {
            self.report_silent();
        }
        if self.assigned.is_empty() {
            self.client_timer.start("log bounds", CLIENT_MAX);
        } else if self.client_timer.is_overdue() {
            let why = "the consumer's client does not answer, although the brokers do";
            self.state.consumer_fault(why.to_owned());
        }
    }

    /// Notes that a broker has answered the consumer's client.
    fn client_answered(&self) {
        self.client_timer.start("log bounds", CLIENT_MAX);
        self.timer.answered();
    }

    /// Reports the silent leaders: each second while there are some, and once when there
    /// are none any more.
    fn report_silent(&mut self) {
        let silent = self.state.leaders().silent(&self.assigned);
        let is_silent = !silent.is_empty();
        if self.had_silent.replace(is_silent) != Some(false) || is_silent {
            self.state.report(KafkaEvent::SilentBrokers(silent));
        }
    }

    /// Reads the current ids and leaders of the topics, as far as a broker tells them.
    /// Reports each assigned topic with a new id.
    fn describe_topics(&mut self, consumer: &Consumer) {
        let assigned: BTreeSet<Topic> = self.assigned.iter().map(|p| p.topic).collect();
        if self.state.settings.is_embedded() {
            return;
        }
        let names = &self.state.settings.topics;
        let mut topics = assigned.clone();
        topics.extend(self.state.settings.needed_topics());
        let asked: Vec<String> = topics.iter().map(|topic| names.name(*topic)).collect();
        self.timer.start("describe topics", REQUEST_MAX);
        let described = brokers::describe(consumer, &asked, self.described_by, REQUEST_MAX);
        let Some(described) = described else {
            self.described_by = self.state.leaders().next_answering(self.described_by);
            return;
        };
        self.client_answered();
        for found in described {
            let (Some(topic), id) = (names.topic(&found.name), TopicId(found.id)) else {
                continue;
            };
            self.state.set_partitions(topic, found.partitions);
            if !assigned.contains(&topic) {
                continue;
            }
            let before = self.ids.insert(topic, id.clone());
            if before.is_some_and(|before| before != id) {
                self.state.report(KafkaEvent::TopicRecreated { topic });
            }
        }
    }
}
