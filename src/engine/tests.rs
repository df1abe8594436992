//! Tests of the engine across its files. The simulator in `tests/sim` does the rest.

use super::*;
use crate::model::message::{CommittedState, ConsumerRequest, SessionStart};
use crate::model::position::{NextOffset, Topic, TopicNames};
use std::time::Duration;

const PARTITION: Partition = Partition {
    topic: Topic::Source,
    number: 0,
};

struct Harness {
    engine: Engine,
    now: UnixMillis,
}

impl Harness {
    fn new() -> Self {
        let engine = Engine::new(EngineSettings {
            topics: TopicNames::new("call-ended"),
            instance: "a".to_owned(),
            attempts: 10,
            delays: vec!["10s".parse().expect("valid delay")],
            in_flight_max: 1,
            commit_interval: Duration::ZERO,
            record_bytes_max: 1,
            drain_timeout: Duration::from_secs(1),
        });
        let now = UnixMillis(1_700_000_000_000);
        Self { engine, now }
    }

    fn handle(&mut self, event: Event) {
        self.engine.handle(self.now, event);
    }

    fn kafka(&mut self, session: SessionId, event: KafkaEvent) {
        self.handle(Event::Kafka { session, event });
    }

    fn fault(&mut self, session: SessionId) {
        let why = String::new();
        self.kafka(session, KafkaEvent::ConsumerFault { why });
    }

    /// A member is assigned a partition and reads its committed state: none.
    fn assign(&mut self, session: SessionId) {
        let generation = Generation(session.0);
        let assigned = KafkaEvent::Assigned {
            generation,
            partitions: vec![PARTITION],
        };
        self.kafka(session, assigned);
        let state = KafkaEvent::CommittedState {
            generation,
            partition: PARTITION,
            found: CommittedState {
                committed: None,
                log_start: NextOffset(0),
                log_end: NextOffset(0),
                topic_id: None,
            },
        };
        self.kafka(session, state);
    }

    /// Wakes the engine after this time and performs its actions as the runner does.
    /// Returns them.
    fn turn(&mut self, after: Duration) -> Vec<Action> {
        self.now = self.now.plus(after);
        self.handle(Event::Wake {
            worked: Duration::ZERO,
        });
        let mut actions = Vec::new();
        while let Some(action) = self.engine.next_action() {
            if action == Action::DropSession {
                self.handle(Event::SessionDropped);
            }
            actions.push(action);
        }
        actions
    }
}

fn started(actions: &[Action]) -> Vec<SessionId> {
    let session = |action: &Action| match action {
        Action::StartSession(SessionStart { session, .. }) => Some(*session),
        _ => None,
    };
    actions.iter().filter_map(session).collect()
}

fn commits(actions: &[Action]) -> usize {
    let is_commit = |action: &&Action| matches!(action, Action::Kafka(KafkaRequest::Commit(_)));
    actions.iter().filter(is_commit).count()
}

#[test]
fn an_assignment_of_a_dropped_session_in_the_same_turn_leaves_no_write_outstanding() {
    let mut harness = Harness::new();
    let first = SessionId(1);
    assert_eq!(started(&harness.turn(Duration::ZERO)), [first]);
    harness.fault(first);
    harness.assign(first);
    let actions = harness.turn(Duration::ZERO);
    assert!(actions.contains(&Action::DropSession));
    assert_eq!(commits(&actions), 0, "no session could send a commit");
    let second = SessionId(2);
    assert_eq!(started(&harness.turn(Duration::from_secs(1))), [second]);
    harness.assign(second);
    let actions = harness.turn(Duration::ZERO);
    assert_eq!(commits(&actions), 1, "the new session commits: {actions:?}");
}

#[test]
fn a_session_that_fails_before_its_first_assignment_is_replaced_too() {
    let mut harness = Harness::new();
    for session in [1, 2, 3].map(SessionId) {
        assert_eq!(started(&harness.turn(Duration::from_secs(1))), [session]);
        harness.fault(session);
        harness.fault(session);
        let actions = harness.turn(Duration::ZERO);
        let drops = actions.iter().filter(|a| **a == Action::DropSession);
        assert_eq!(drops.count(), 1);
        harness.kafka(session, KafkaEvent::SessionEnded);
    }
}

#[test]
fn a_drained_process_leaves_the_group_and_exits_when_it_has_left() {
    let mut harness = Harness::new();
    harness.turn(Duration::ZERO);
    harness.handle(Event::Drain);
    let actions = harness.turn(Duration::ZERO);
    let leave = KafkaRequest::Consumer(ConsumerRequest::Leave);
    assert!(actions.contains(&Action::Kafka(leave)));
    harness.kafka(SessionId(1), KafkaEvent::Left);
    let actions = harness.turn(Duration::ZERO);
    assert_eq!(actions, [Action::Exit(event::End::Drained)]);
}

#[test]
fn a_group_that_cannot_be_left_is_abandoned_at_the_end_of_the_drain() {
    let mut harness = Harness::new();
    harness.turn(Duration::ZERO);
    harness.handle(Event::Drain);
    harness.turn(Duration::ZERO);
    let limit = Duration::from_secs(1);
    assert_eq!(harness.engine.next_wake(), Some(harness.now.plus(limit)));
    assert_eq!(harness.turn(limit), [Action::Exit(event::End::Cut)]);
}
