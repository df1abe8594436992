//! The supervisor's decisions, one rule a test.

use super::*;
use crate::engine::unassigned_look::{CONFIRM, LOOK_AFTER_REBALANCE, LOOK_EVERY};
use crate::model::destination::Refusals;
use crate::model::message::WriteId;
use crate::model::position::{Generation, Topic};

const FAST: Duration = Duration::from_millis(10);
/// After this time a fault or a fence still counts; a second later it does not.
const JUST_REMEMBERED: Duration = Duration::from_secs(59);

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
    let partition = |number| Topic::Source.partition(number);
    KafkaEvent::Unassigned(number.map(partition).into_iter().collect())
}

fn moved(took: Duration) -> KafkaEvent {
    let write = WriteId(1);
    KafkaEvent::Moved {
        write,
        took,
        appended: None,
    }
}

fn refused() -> KafkaEvent {
    KafkaEvent::MoveRefused {
        write: WriteId(1),
        took: FAST,
        why: String::new(),
        destinations: Refusals::default(),
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
    scene.after(JUST_REMEMBERED);
    assert_eq!(scene.event(KafkaEvent::ConsumerFenced), [Decision::Readopt]);

    let mut scene = Scene::new();
    scene.event(KafkaEvent::BrokerFault);
    scene.after(Duration::from_secs(60));
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
    // The first fence is the oldest of the six.
    scene.now = UnixMillis(1_000_000).plus(JUST_REMEMBERED);
    let in_use = Decision::End(End::NameInUse(FencedClient::Producer));
    assert_eq!(scene.event(KafkaEvent::ProducerFenced), [in_use]);
    scene.after(Duration::from_secs(60));
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
    let confirm = scene.supervisor.look.confirm_after;
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
    let confirm = scene.supervisor.look.confirm_after;
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
