//! Tests of the engine across its files. The simulator in `tests/sim` does the rest.

use super::*;
use crate::model::headers::History;
use crate::model::message::{
    CommitRequest, CommittedState, ConsumerRequest, MoveRequest, SessionStart,
};
use crate::model::position::{NextOffset, Offset, Topic, TopicNames};
use crate::model::record::Record;
use std::time::Duration;

mod draining;
mod leases;
mod many_partitions;
mod moving;
mod others;

const PARTITION: Partition = Topic::Source.partition(0);

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
            in_flight_max: 100,
            commit_interval: Duration::ZERO,
            record_bytes_max: 1_000,
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

    fn assign(&mut self, session: SessionId) {
        self.assign_partitions(session, &[PARTITION]);
    }

    /// A member is assigned partitions and reads their committed state: none.
    fn assign_partitions(&mut self, session: SessionId, partitions: &[Partition]) {
        let generation = Generation(session.0);
        let assigned = KafkaEvent::Assigned {
            generation,
            partitions: partitions.to_vec(),
        };
        self.kafka(session, assigned);
        for partition in partitions {
            let state = KafkaEvent::CommittedState {
                generation,
                partition: *partition,
                found: CommittedState {
                    committed: None,
                    log_start: NextOffset(0),
                    log_end: NextOffset(0),
                    high_watermark: NextOffset(0),
                    topic_id: None,
                },
            };
            self.kafka(session, state);
        }
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

/// Waits in a delay topic until it is due, and is then moved: it is too large.
fn delayed_record(appended_at: UnixMillis) -> (Partition, Record) {
    let topic = Topic::Delay("10s".parse().expect("valid delay"));
    let partition = topic.partition(0);
    let mut history = History::new("call-ended/0/0".to_owned(), appended_at);
    history.diverts = 1;
    let record = Record {
        position: partition.at(Offset(0)),
        timestamp: appended_at,
        key: None,
        value: Some("{}".into()),
        headers: history.write(&[]),
    };
    (partition, record)
}

#[test]
fn an_offset_that_another_program_has_set_is_reported() {
    for (text, is_reported) in [("", true), ("of another program", false)] {
        let mut harness = Harness::new();
        let session = SessionId(1);
        harness.turn(Duration::ZERO);
        let generation = Generation(session.0);
        let partitions = vec![PARTITION];
        let assigned = KafkaEvent::Assigned {
            generation,
            partitions,
        };
        harness.kafka(session, assigned);
        let offset = NextOffset(4);
        let state = KafkaEvent::CommittedState {
            generation,
            partition: PARTITION,
            found: CommittedState {
                committed: Some((offset, text.to_owned())),
                log_start: NextOffset(0),
                log_end: NextOffset(9),
                high_watermark: NextOffset(9),
                topic_id: None,
            },
        };
        harness.kafka(session, state);
        let actions = harness.turn(Duration::ZERO);
        let partition = PARTITION;
        let told = Action::Report(Fact::OffsetSet { partition, offset });
        assert_eq!(actions.contains(&told), is_reported, "{actions:?}");
    }
}

#[test]
fn a_step_of_the_wall_clock_moves_due_times_and_no_other_wait() {
    for (ahead_ms, due_after) in [(-60_000, 70_000), (0, 10_000), (9_000, 1_000)] {
        let mut harness = Harness::new();
        let session = SessionId(1);
        harness.turn(Duration::ZERO);
        let (partition, record) = delayed_record(harness.now);
        harness.assign_partitions(session, &[partition]);
        for action in harness.turn(Duration::ZERO) {
            if let Action::Kafka(KafkaRequest::Commit(CommitRequest { write, .. })) = action {
                let took = Duration::ZERO;
                harness.kafka(session, KafkaEvent::Committed { write, took });
            }
        }
        let generation = Generation(session.0);
        harness.kafka(session, KafkaEvent::Records(vec![(generation, record)]));
        harness.turn(Duration::ZERO);
        harness.handle(Event::ClockStepped { ahead_ms });
        harness.turn(Duration::ZERO);
        let due_at = harness.now.plus(Duration::from_millis(due_after));
        assert!(moves(&harness.turn(Duration::from_millis(due_after - 1))).is_empty());
        assert_eq!(harness.engine.next_wake(), Some(due_at));
        harness.turn(Duration::from_millis(1));
        let actions = harness.turn(Duration::from_secs(1));
        let moved = moves(&actions);
        assert_eq!(moved.len(), 1, "{ahead_ms} ms");
        let wall = UnixMillis(due_at.0 + ahead_ms);
        let last_at = moved[0].records[0].headers.iter();
        let last_at = last_at.filter(|header| header.name == "ringback-last-at");
        let expected = Some(wall.to_string().into());
        assert_eq!(last_at.map(|h| &h.value).collect::<Vec<_>>(), [&expected]);
    }
}

/// Returns the requested transactions.
fn moves(actions: &[Action]) -> Vec<MoveRequest> {
    let moves = actions.iter().filter_map(|action| match action {
        Action::Kafka(KafkaRequest::Move(request)) => Some(request.clone()),
        _ => None,
    });
    moves.collect()
}
