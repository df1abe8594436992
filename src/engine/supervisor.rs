//! The supervisor of the Kafka sessions. Decides when a session starts, what its
//! producer must clear, and when the member leaves and joins again. Decides whether
//! another process uses this instance name, and how the process ends. Pure. Of the
//! partitions it only remembers which had no member. Runs on the runner's thread: the
//! engine passes it each Kafka event first.
//!
//! | event | decision |
//! |---|---|
//! | a session was dropped | start the next one, 1 s after the last start at the earliest, while fewer than 3 dropped sessions still run |
//! | the consumer was fenced | the name is in use, unless a broker fault of the last 60 s explains it, at most 3 times in 60 s |
//! | the producer was fenced | the name is in use from the 6th time in 60 s on |
//! | a move was committed or aborted | a new producer, if the move took more than 2 s or may have left a transaction open |
//! | the same partition has no member in two looks | leave the group and join again |
//! | the drain is complete | leave the group, and end when it was left or when the time is over |

use super::event::{End, FencedClient};
use super::unassigned_look::UnassignedLook;
use crate::model::message::{
    BrokerHealth, ConsumerRequest, KafkaEvent, KafkaRequest, OpenTransaction, ProducerStart,
    Revocation, SessionId, SessionStart, TopicCheck,
};
use crate::model::position::Partition;
use crate::model::time::UnixMillis;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// The minimum interval between the starts of two sessions.
const START_EVERY: Duration = Duration::from_secs(1);
/// The most dropped sessions whose threads still run. Each may hold two clients
/// with some 15 threads. The watchdog ends threads that hang.
const UNFINISHED_MAX: usize = 3;
/// How long broker faults and fences are remembered. After a broker fault, a fence
/// may come from this process itself: an older request can arrive after the
/// member joined again under its name.
const MEMORY: Duration = Duration::from_secs(60);
/// The most consumer fences within [`MEMORY`] that a broker fault explains. Two
/// processes of one name fence each other every second or two.
const OWN_CONSUMER_FENCES_MAX: usize = 3;
/// The most producer fences within [`MEMORY`] of a name that one process uses.
const PRODUCER_FENCES_MAX: usize = 5;
/// After a slower transaction, the next one gets a new producer. Otherwise an
/// offset commit that is delayed in the network could join the next transaction.
const SLOW_TRANSACTION: Duration = Duration::from_secs(2);
/// Leaving the group takes some 0.1 s. It gets the rest of the drain's time, and
/// at least this.
const LEAVE_MIN: Duration = Duration::from_millis(300);

/// A decision of the supervisor, which the engine carries out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Start(SessionStart),
    /// Pass a request to the current session.
    Request(KafkaRequest),
    /// The consumer was fenced by an older request of this process: re-adopt.
    Readopt,
    /// No session can start yet.
    Wait {
        why: String,
    },
    End(End),
}

/// Decides about the Kafka sessions of this process.
pub struct Supervisor {
    last_session: SessionId,
    state: SessionPhase,
    /// When leaving the group must be over, once it is being left. Without end once
    /// the process ends.
    leave_by: Option<UnixMillis>,
    /// The last session's threads have ended.
    last_session_ended: bool,
    last_start: UnixMillis,
    /// Dropped sessions whose threads still run.
    unfinished: BTreeSet<SessionId>,
    topics: TopicCheck,
    /// What earlier transactions may have left open.
    maybe_open: OpenTransaction,
    broker_fault_at: Option<UnixMillis>,
    consumer_fences: Fences,
    producer_fences: Fences,
    look: UnassignedLook,
    decisions: VecDeque<Decision>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionPhase {
    StartAt(UnixMillis),
    Running,
    /// The runner is to drop the session.
    Dropping,
}

/// Fences within [`MEMORY`]: at most 60, because one session starts each second.
#[derive(Default)]
struct Fences(VecDeque<UnixMillis>);

impl Fences {
    /// Adds a fence and returns the number of fences.
    fn add(&mut self, now: UnixMillis) -> usize {
        self.0.push_back(now);
        self.0.retain(|at| now.since(*at) < MEMORY);
        self.0.len()
    }
}

impl Supervisor {
    /// Returns the supervisor of a process that starts now. An earlier process of
    /// this name may have died in the middle of a transaction.
    pub fn new(instance: &str) -> Self {
        let start = UnixMillis(0);
        Self {
            last_session: SessionId(0),
            state: SessionPhase::StartAt(start),
            leave_by: None,
            last_session_ended: true,
            last_start: start,
            unfinished: BTreeSet::new(),
            topics: TopicCheck::Required,
            maybe_open: OpenTransaction::Offsets,
            broker_fault_at: None,
            consumer_fences: Fences::default(),
            producer_fences: Fences::default(),
            look: UnassignedLook::new(instance),
            decisions: VecDeque::new(),
        }
    }

    /// Returns whether events of this session concern the engine.
    pub fn is_current(&self, session: SessionId) -> bool {
        self.state == SessionPhase::Running && session == self.last_session
    }

    /// Handles an event of any session. All events of a dropped session must come
    /// before the [`Supervisor::wake`] that starts the next one: they tell what its
    /// producer must clear.
    pub fn handle(&mut self, now: UnixMillis, session: SessionId, event: &KafkaEvent) {
        // A fault that a dropped session saw can still explain a fence.
        if let KafkaEvent::BrokerFault
        | KafkaEvent::Revoked {
            how: Revocation::Lost,
            ..
        } = event
        {
            self.note_broker_fault(now);
        }
        match event {
            KafkaEvent::SessionEnded => {
                self.unfinished.remove(&session);
                self.last_session_ended |= session == self.last_session;
            }
            _ if session == self.last_session => self.handle_last(now, event),
            _ => {}
        }
    }

    /// Handles an event of the last session, also after it was dropped. Fences count
    /// then too, and a transaction's end: the next session must not abort a
    /// committed move.
    fn handle_last(&mut self, now: UnixMillis, event: &KafkaEvent) {
        match event {
            KafkaEvent::OpenTransaction(open) => self.maybe_open = open.clone(),
            KafkaEvent::Moved { took, .. } => {
                self.maybe_open = OpenTransaction::Nothing;
                self.renew_producer_after(now, *took);
            }
            KafkaEvent::MoveRefused { took, .. } | KafkaEvent::MoveTooLarge { took, .. } => {
                self.on_aborted(now);
                self.renew_producer_after(now, *took);
            }
            KafkaEvent::ConsumerFenced => self.on_consumer_fenced(now),
            KafkaEvent::ProducerFenced => self.on_producer_fenced(now),
            _ if self.is_running() => self.handle_current(now, event),
            _ => {}
        }
    }

    fn handle_current(&mut self, now: UnixMillis, event: &KafkaEvent) {
        match event {
            KafkaEvent::Assigned { .. } | KafkaEvent::Revoked { .. } => {
                self.look.rebalanced(now);
            }
            KafkaEvent::TopicsAccepted => self.topics = TopicCheck::Done,
            KafkaEvent::Unassigned(found) => self.on_unassigned(now, found),
            KafkaEvent::WrongSettings { why } => self.end(End::WrongSettings(why.clone())),
            KafkaEvent::Left if self.leave_by.is_some() => {
                self.decisions.push_back(Decision::End(End::Drained));
            }
            _ => {}
        }
    }

    /// Notes that brokers did not answer in time, or that the process was stopped
    /// and they may have taken it for dead.
    pub fn note_broker_fault(&mut self, now: UnixMillis) {
        self.broker_fault_at = Some(now);
    }

    /// Whether a session runs.
    pub fn is_running(&self) -> bool {
        self.state == SessionPhase::Running
    }

    /// Ends the current session: from now on its events concern the engine no more.
    pub fn drop_session(&mut self) {
        self.state = SessionPhase::Dropping;
    }

    /// Notes that the runner has dropped the session, and that all events that the
    /// session had reported before were handled.
    pub fn session_dropped(&mut self, now: UnixMillis) {
        if self.state != SessionPhase::Dropping {
            return;
        }
        if !self.last_session_ended {
            self.unfinished.insert(self.last_session);
        }
        let start_at = self.last_start.plus(START_EVERY).max(now);
        self.state = SessionPhase::StartAt(start_at);
    }

    /// Leaves the group at the end of a drain whose limit is `drain_by`.
    pub fn leave(&mut self, now: UnixMillis, drain_by: UnixMillis) {
        if self.is_running() {
            self.leave_by = Some(now.plus(LEAVE_MIN).max(drain_by));
            let leave = Decision::Request(KafkaRequest::Consumer(ConsumerRequest::Leave));
            self.decisions.push_back(leave);
        } else {
            // Without a session, the last state is not written and the group not left.
            self.decisions.push_back(Decision::End(End::Cut));
        }
    }

    /// Starts a session or a look that is due, or ends a leave that takes too long.
    pub fn wake(&mut self, now: UnixMillis) {
        if let Some(leave_by) = self.leave_by {
            if now >= leave_by {
                self.end(End::Cut);
            }
            return;
        }
        match (self.state, self.look.next()) {
            (SessionPhase::StartAt(at), _) if now >= at => self.start(now),
            (SessionPhase::Running, Some(at)) if now >= at => {
                self.look.requested();
                let find = Decision::Request(KafkaRequest::FindUnassigned);
                self.decisions.push_back(find);
            }
            _ => {}
        }
    }

    /// Returns the next decision, if there is one.
    pub fn next_decision(&mut self) -> Option<Decision> {
        self.decisions.pop_front()
    }

    /// Returns when [`Supervisor::wake`] must run if no event comes before.
    pub fn next_wake(&self) -> Option<UnixMillis> {
        if self.leave_by.is_some() {
            return self.leave_by;
        }
        match (self.state, self.look.next()) {
            (SessionPhase::StartAt(at), _) => Some(at),
            (SessionPhase::Running, next) => next,
            (SessionPhase::Dropping, _) => None,
        }
    }

    fn start(&mut self, now: UnixMillis) {
        let unfinished = self.unfinished.len();
        if unfinished >= UNFINISHED_MAX {
            self.state = SessionPhase::StartAt(now.plus(START_EVERY));
            let why = format!("{unfinished} earlier Kafka sessions have not ended yet");
            self.decisions.push_back(Decision::Wait { why });
            return;
        }
        self.last_session = SessionId(self.last_session.0 + 1);
        self.state = SessionPhase::Running;
        self.last_session_ended = false;
        self.last_start = now;
        self.look.session_started(now);
        let start = SessionStart {
            session: self.last_session,
            topics: self.topics,
            producer: self.producer_start(now),
        };
        self.decisions.push_back(Decision::Start(start));
    }

    fn producer_start(&self, now: UnixMillis) -> ProducerStart {
        ProducerStart {
            clear: self.maybe_open.clone(),
            brokers: match self.had_broker_fault(now) {
                true => BrokerHealth::RecentFault,
                false => BrokerHealth::Good,
            },
        }
    }

    fn had_broker_fault(&self, now: UnixMillis) -> bool {
        self.broker_fault_at
            .is_some_and(|at| now.since(at) < MEMORY)
    }

    /// A member whose session timed out still sends heartbeats under its name, but
    /// without its member id. So a fence soon after a broker fault may come from
    /// this process itself, but not again and again.
    fn on_consumer_fenced(&mut self, now: UnixMillis) {
        let fences = self.consumer_fences.add(now);
        if !self.had_broker_fault(now) || fences > OWN_CONSUMER_FENCES_MAX {
            self.end(End::NameInUse(FencedClient::Consumer));
        } else if self.is_running() {
            self.decisions.push_back(Decision::Readopt);
        }
    }

    fn on_producer_fenced(&mut self, now: UnixMillis) {
        if self.producer_fences.add(now) > PRODUCER_FENCES_MAX {
            self.end(End::NameInUse(FencedClient::Producer));
        }
    }

    /// Ends the process. No session starts any more: it would fence the other
    /// process that uses the name.
    fn end(&mut self, end: End) {
        self.leave_by = Some(UnixMillis(i64::MAX));
        self.decisions.push_back(Decision::End(end));
    }

    /// An abort leaves nothing open, with two exceptions. After a broker fault its
    /// markers may be missing. Offsets without an answer may still arrive.
    fn on_aborted(&mut self, now: UnixMillis) {
        if !self.had_broker_fault(now) && self.maybe_open != OpenTransaction::Offsets {
            self.maybe_open = OpenTransaction::Nothing;
        }
    }

    fn renew_producer_after(&mut self, now: UnixMillis, took: Duration) {
        let stays = self.is_running() && self.leave_by.is_none();
        if stays && (took > SLOW_TRANSACTION || self.maybe_open != OpenTransaction::Nothing) {
            let renew = KafkaRequest::RenewProducer(self.producer_start(now));
            self.decisions.push_back(Decision::Request(renew));
        }
    }

    fn on_unassigned(&mut self, now: UnixMillis, found: &BTreeSet<Partition>) {
        if self.look.answered(now, found) {
            let rejoin = KafkaRequest::Consumer(ConsumerRequest::Rejoin);
            self.decisions.push_back(Decision::Request(rejoin));
        }
    }
}

#[cfg(test)]
mod tests;
