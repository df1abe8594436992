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
/// The first look for unassigned partitions after a rebalance. One join causes
/// several rebalances, and this is later than the next one.
const LOOK_AFTER_REBALANCE: Duration = Duration::from_secs(3);
/// The interval between two looks while no partition is unassigned.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The least time until the look that confirms an unassigned partition. Each member
/// waits for up to twice as long. The first one that joins again causes a rebalance,
/// which starts the looks of the others over. So not all members join again.
const CONFIRM: Duration = Duration::from_millis(1_500);

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
    confirm_after: Duration,
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
    look: Look,
    /// Unassigned partitions of the last look.
    unassigned: BTreeSet<Partition>,
    decisions: VecDeque<Decision>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionPhase {
    StartAt(UnixMillis),
    Running,
    /// The runner is to drop the session.
    Dropping,
}

/// A look for unassigned partitions.
#[derive(Clone, Copy)]
enum Look {
    At(UnixMillis),
    /// The answer is pending.
    Pending,
    /// The answer is pending, but a rebalance has come since the request. The
    /// next look follows at this time.
    Outdated(UnixMillis),
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
    #[must_use]
    pub fn new(instance: &str) -> Self {
        let start = UnixMillis(0);
        let spread = crc32fast::hash(instance.as_bytes()) % 16;
        Self {
            confirm_after: CONFIRM + CONFIRM * spread / 16,
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
            look: Look::At(start),
            unassigned: BTreeSet::new(),
            decisions: VecDeque::new(),
        }
    }

    /// Returns whether events of this session concern the engine.
    #[must_use]
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
                self.look_after_rebalance(now);
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
    #[must_use]
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
        match (self.state, self.look) {
            (SessionPhase::StartAt(at), _) if now >= at => self.start(now),
            (SessionPhase::Running, Look::At(at)) if now >= at => {
                self.look = Look::Pending;
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
    #[must_use]
    pub fn next_wake(&self) -> Option<UnixMillis> {
        if self.leave_by.is_some() {
            return self.leave_by;
        }
        match (self.state, self.look) {
            (SessionPhase::StartAt(at), _) | (SessionPhase::Running, Look::At(at)) => Some(at),
            (SessionPhase::Running, Look::Pending | Look::Outdated(_))
            | (SessionPhase::Dropping, _) => None,
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
        self.unassigned.clear();
        self.look = Look::At(now.plus(LOOK_AFTER_REBALANCE));
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

    fn look_after_rebalance(&mut self, now: UnixMillis) {
        let at = now.plus(LOOK_AFTER_REBALANCE);
        self.unassigned.clear();
        self.look = match self.look {
            Look::At(_) => Look::At(at),
            Look::Pending | Look::Outdated(_) => Look::Outdated(at),
        };
    }

    fn on_unassigned(&mut self, now: UnixMillis, found: &BTreeSet<Partition>) {
        match self.look {
            Look::Outdated(at) => self.look = Look::At(at),
            // No partition is unassigned for the second time.
            Look::Pending if found.is_disjoint(&self.unassigned) => {
                let pause = match found.is_empty() {
                    true => LOOK_EVERY,
                    false => self.confirm_after,
                };
                self.look = Look::At(now.plus(pause));
                self.unassigned.clone_from(found);
            }
            Look::Pending => {
                self.look = Look::At(now.plus(LOOK_AFTER_REBALANCE));
                self.unassigned.clear();
                let rejoin = Decision::Request(KafkaRequest::Consumer(ConsumerRequest::Rejoin));
                self.decisions.push_back(rejoin);
            }
            Look::At(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::WriteId;
    use crate::model::position::{Generation, Topic};

    const FAST: Duration = Duration::from_millis(10);

    struct Scene {
        supervisor: Supervisor,
        now: UnixMillis,
    }

    impl Scene {
        /// A process whose first session runs.
        fn new() -> Self {
            let now = UnixMillis(1_000_000);
            let supervisor = Supervisor::new("a");
            let mut scene = Self { supervisor, now };
            scene.start();
            scene
        }

        /// Wakes the supervisor, which starts a session.
        fn start(&mut self) -> SessionStart {
            self.supervisor.wake(self.now);
            match self.decisions().as_slice() {
                [Decision::Start(start)] => start.clone(),
                other => panic!("no session starts: {other:?}"),
            }
        }

        fn drop_session(&mut self) {
            self.supervisor.drop_session();
            self.supervisor.session_dropped(self.now);
        }

        fn drop_and_start(&mut self) -> SessionStart {
            let session = self.supervisor.last_session;
            self.drop_session();
            self.from(session, KafkaEvent::SessionEnded);
            self.after(START_EVERY);
            self.start()
        }

        fn after(&mut self, time: Duration) {
            self.now = self.now.plus(time);
        }

        fn from(&mut self, session: SessionId, event: KafkaEvent) {
            self.supervisor.handle(self.now, session, &event);
        }

        fn event(&mut self, event: KafkaEvent) -> Vec<Decision> {
            self.from(self.supervisor.last_session, event);
            self.decisions()
        }

        fn decisions(&mut self) -> Vec<Decision> {
            std::iter::from_fn(|| self.supervisor.next_decision()).collect()
        }

        fn open(&mut self, open: OpenTransaction) {
            assert_eq!(self.event(KafkaEvent::OpenTransaction(open)), []);
        }

        /// Looks for unassigned partitions and answers with this one.
        fn look(&mut self, after: Duration, number: Option<i32>) -> Vec<Decision> {
            self.after(after);
            self.supervisor.wake(self.now);
            let find = Decision::Request(KafkaRequest::FindUnassigned);
            assert_eq!(self.decisions(), [find], "a look after {after:?}");
            self.event(unassigned(number))
        }
    }

    fn unassigned(number: Option<i32>) -> KafkaEvent {
        let partition = |number| Partition {
            topic: Topic::Source,
            number,
        };
        KafkaEvent::Unassigned(number.map(partition).into_iter().collect())
    }

    fn moved(took: Duration) -> KafkaEvent {
        let write = WriteId(1);
        KafkaEvent::Moved { write, took }
    }

    fn refused() -> KafkaEvent {
        KafkaEvent::MoveRefused {
            write: WriteId(1),
            took: FAST,
            why: String::new(),
        }
    }

    fn records() -> OpenTransaction {
        OpenTransaction::Records([Topic::DeadLetter].into())
    }

    fn cleared(actions: &[Decision]) -> Option<OpenTransaction> {
        match actions {
            [] => None,
            [Decision::Request(KafkaRequest::RenewProducer(start))] => Some(start.clear.clone()),
            other => panic!("not a new producer: {other:?}"),
        }
    }

    #[test]
    fn a_fence_without_a_broker_fault_shows_another_process() {
        let mut scene = Scene::new();
        scene.event(KafkaEvent::BrokerFault);
        scene.after(MEMORY);
        let in_use = Decision::End(End::NameInUse(FencedClient::Consumer));
        assert_eq!(scene.event(KafkaEvent::ConsumerFenced), [in_use]);
    }

    #[test]
    fn a_broker_fault_explains_three_fences_in_a_minute_and_not_the_fourth() {
        let mut scene = Scene::new();
        scene.event(KafkaEvent::BrokerFault);
        for fence in 1..=4 {
            let actions = scene.event(KafkaEvent::ConsumerFenced);
            let own = matches!(actions[..], [Decision::Readopt]);
            assert_eq!(own, fence <= 3, "fence {fence}: {actions:?}");
            if own {
                scene.drop_and_start();
            }
        }
    }

    #[test]
    fn fences_count_also_while_their_session_is_dropped() {
        let mut scene = Scene::new();
        scene.supervisor.drop_session();
        let in_use = |client| Decision::End(End::NameInUse(client));
        let unexplained = scene.event(KafkaEvent::ConsumerFenced);
        assert_eq!(unexplained, [in_use(FencedClient::Consumer)]);

        let mut scene = Scene::new();
        scene.event(KafkaEvent::BrokerFault);
        for fence in 1..=6 {
            let consumer = [in_use(FencedClient::Consumer)];
            let producer = [in_use(FencedClient::Producer)];
            scene.supervisor.drop_session();
            let decisions = scene.event(KafkaEvent::ConsumerFenced);
            assert_eq!(decisions, consumer[..usize::from(fence > 3)]);
            let decisions = scene.event(KafkaEvent::ProducerFenced);
            assert_eq!(decisions, producer[..usize::from(fence > 5)]);
        }
        scene.drop_session();
        scene.after(START_EVERY);
        scene.supervisor.wake(scene.now);
        assert_eq!(scene.decisions(), [], "the process ends");
    }

    #[test]
    fn a_broker_fault_of_a_dropped_session_explains_a_fence() {
        let mut scene = Scene::new();
        let dropped = scene.supervisor.last_session;
        scene.drop_and_start();
        let lost = KafkaEvent::Revoked {
            generation: Generation(1),
            partitions: Vec::new(),
            how: Revocation::Lost,
        };
        scene.from(dropped, lost);
        let actions = scene.event(KafkaEvent::ConsumerFenced);
        assert!(matches!(actions[..], [Decision::Readopt]));
    }

    #[test]
    fn the_sixth_producer_fence_in_a_minute_shows_another_process() {
        let mut scene = Scene::new();
        for _ in 0..5 {
            assert_eq!(scene.event(KafkaEvent::ProducerFenced), []);
            scene.drop_and_start();
        }
        let in_use = Decision::End(End::NameInUse(FencedClient::Producer));
        assert_eq!(scene.event(KafkaEvent::ProducerFenced), [in_use]);
        scene.after(MEMORY);
        assert_eq!(scene.event(KafkaEvent::ProducerFenced), []);
    }

    #[test]
    fn sessions_start_at_most_once_a_second_and_at_once_after_a_long_one() {
        let mut scene = Scene::new();
        scene.drop_session();
        let next = scene.now.plus(START_EVERY);
        assert_eq!(scene.supervisor.next_wake(), Some(next));
        scene.supervisor.wake(scene.now);
        assert_eq!(scene.decisions(), []);
        scene.after(START_EVERY);
        scene.start();
        scene.after(MEMORY);
        scene.drop_session();
        scene.start();
    }

    #[test]
    fn no_session_starts_while_three_dropped_ones_still_run() {
        let mut scene = Scene::new();
        for _ in 0..2 {
            scene.drop_session();
            scene.after(START_EVERY);
            scene.start();
        }
        scene.drop_session();
        scene.after(START_EVERY);
        scene.supervisor.wake(scene.now);
        let actions = scene.decisions();
        assert!(matches!(actions[..], [Decision::Wait { .. }]));
        scene.from(SessionId(2), KafkaEvent::SessionEnded);
        scene.after(START_EVERY);
        assert_eq!(scene.start().session, SessionId(4));
    }

    #[test]
    fn a_session_that_ended_before_it_was_dropped_is_not_waited_for() {
        let mut scene = Scene::new();
        for _ in 0..5 {
            scene.event(KafkaEvent::SessionEnded);
            scene.drop_session();
            scene.after(START_EVERY);
            scene.start();
        }
    }

    #[test]
    fn topics_are_checked_until_a_session_accepts_them() {
        let mut scene = Scene::new();
        assert_eq!(scene.drop_and_start().topics, TopicCheck::Required);
        scene.event(KafkaEvent::TopicsAccepted);
        assert_eq!(scene.drop_and_start().topics, TopicCheck::Done);
    }

    #[test]
    fn a_process_starts_with_offsets_to_clear_and_clears_them_once() {
        let now = UnixMillis(1_000_000);
        let supervisor = Supervisor::new("a");
        let mut scene = Scene { supervisor, now };
        assert_eq!(scene.start().producer.clear, OpenTransaction::Offsets);
        // The session ends before it has cleared them.
        let start = scene.drop_and_start();
        assert_eq!(start.producer.clear, OpenTransaction::Offsets);
        scene.open(OpenTransaction::Nothing);
        let start = scene.drop_and_start();
        assert_eq!(start.producer.clear, OpenTransaction::Nothing);
    }

    #[test]
    fn the_next_session_clears_what_a_dropped_one_opened_also_if_the_event_comes_late() {
        let mut scene = Scene::new();
        scene.open(OpenTransaction::Offsets);
        let dropped = scene.supervisor.last_session;
        scene.drop_session();
        scene.from(dropped, KafkaEvent::OpenTransaction(records()));
        scene.after(START_EVERY);
        assert_eq!(scene.start().producer.clear, records());
        // The new session counts from here on.
        let late = KafkaEvent::OpenTransaction(OpenTransaction::Nothing);
        scene.from(dropped, late);
        assert_eq!(scene.drop_and_start().producer.clear, records());
    }

    #[test]
    fn a_dropped_sessions_move_counts_until_the_next_start_and_gets_no_producer() {
        let mut scene = Scene::new();
        scene.open(records());
        let dropped = scene.supervisor.last_session;
        scene.supervisor.drop_session();
        let slow = moved(SLOW_TRANSACTION + FAST);
        assert_eq!(scene.event(slow), []);
        scene.drop_session();
        scene.after(START_EVERY);
        assert_eq!(scene.start().producer.clear, OpenTransaction::Nothing);
        scene.open(records());
        scene.from(dropped, moved(FAST));
        assert_eq!(scene.drop_and_start().producer.clear, records());
    }

    #[test]
    fn a_committed_move_leaves_nothing_open_and_a_slow_one_gets_a_new_producer() {
        let mut scene = Scene::new();
        scene.open(records());
        assert_eq!(cleared(&scene.event(moved(SLOW_TRANSACTION))), None);
        let slow = moved(SLOW_TRANSACTION + FAST);
        let nothing = Some(OpenTransaction::Nothing);
        assert_eq!(cleared(&scene.event(slow)), nothing);
    }

    #[test]
    fn an_aborted_move_gets_a_new_producer_where_the_abort_may_not_have_ended_it() {
        let mut scene = Scene::new();
        scene.open(records());
        assert_eq!(cleared(&scene.event(refused())), None);
        scene.open(OpenTransaction::Offsets);
        let offsets = Some(OpenTransaction::Offsets);
        assert_eq!(cleared(&scene.event(refused())), offsets);
        scene.event(KafkaEvent::BrokerFault);
        scene.open(records());
        assert_eq!(cleared(&scene.event(refused())), Some(records()));
    }

    #[test]
    fn a_move_that_never_ran_changes_nothing() {
        let mut scene = Scene::new();
        scene.open(records());
        let not_run = KafkaEvent::MoveNotStarted {
            write: WriteId(1),
            why: String::new(),
        };
        assert_eq!(scene.event(not_run), []);
        assert_eq!(scene.drop_and_start().producer.clear, records());
    }

    #[test]
    fn the_member_joins_again_when_two_looks_see_the_same_unassigned_partition() {
        let mut scene = Scene::new();
        let confirm = scene.supervisor.confirm_after;
        assert!(confirm >= CONFIRM && confirm < 2 * CONFIRM);
        assert_eq!(scene.look(LOOK_AFTER_REBALANCE, Some(1)), []);
        // Another partition each time: they are on their way to a member.
        assert_eq!(scene.look(confirm, Some(2)), []);
        assert_eq!(scene.look(confirm, None), []);
        assert_eq!(scene.look(LOOK_EVERY, Some(2)), []);
        let rejoin = Decision::Request(KafkaRequest::Consumer(ConsumerRequest::Rejoin));
        assert_eq!(scene.look(confirm, Some(2)), [rejoin]);
        assert_eq!(scene.look(LOOK_AFTER_REBALANCE, Some(2)), []);
    }

    #[test]
    fn a_look_from_before_a_rebalance_does_not_count() {
        let mut scene = Scene::new();
        let confirm = scene.supervisor.confirm_after;
        assert_eq!(scene.look(LOOK_AFTER_REBALANCE, Some(1)), []);
        scene.after(confirm);
        scene.supervisor.wake(scene.now);
        scene.decisions();
        scene.event(KafkaEvent::Assigned {
            generation: Generation(1),
            partitions: Vec::new(),
        });
        assert_eq!(scene.event(unassigned(Some(1))), []);
        assert_eq!(scene.look(LOOK_AFTER_REBALANCE, Some(1)), []);
    }
}
