//! Reservations whose lease ends before their attempt starts.

use super::super::*;
use super::Harness;
use super::moving::{SESSION, at};
use crate::model::message::CommitRequest;
use std::time::Duration;

const LATE: Duration = Duration::from_millis(2_001);

fn commits(actions: &[Action]) -> Vec<CommitRequest> {
    let requested = |action: &Action| match action {
        Action::Kafka(KafkaRequest::Commit(request)) => Some(request.clone()),
        _ => None,
    };
    actions.iter().filter_map(requested).collect()
}

fn starts(actions: &[Action]) -> usize {
    let starts = actions.iter();
    starts
        .filter(|action| matches!(action, Action::StartAttempt(_)))
        .count()
}

/// Returns whether an attempt was charged or a record moved.
fn is_charged(actions: &[Action]) -> bool {
    actions.iter().any(|action| {
        matches!(
            action,
            Action::Report(Fact::InDoubt { .. }) | Action::Kafka(KafkaRequest::Move(_))
        )
    })
}

#[test]
fn an_answer_after_the_lease_starts_nothing_and_charges_nothing() {
    let mut harness = Harness::running();
    harness.hand_over(&[(0, 1)]);
    let asked = commits(&harness.turn(Duration::ZERO));
    assert_eq!(asked.len(), 1, "the reservation");
    // The answer was quick, but this thread handles it late.
    harness.now = harness.now.plus(LATE);
    let (write, took) = (asked[0].write, Duration::from_millis(1));
    harness.kafka(SESSION, KafkaEvent::Committed { write, took });
    let actions = harness.settle(Duration::ZERO);
    assert!(!is_charged(&actions), "{actions:?}");
    assert_eq!(starts(&actions), 1, "it is reserved again");
    harness.end_attempt(0, 200);
    assert!(!is_charged(&harness.settle(Duration::from_millis(50))));
}

#[test]
fn an_attempt_that_did_not_start_in_its_lease_is_reserved_again() {
    let mut harness = Harness::running();
    harness.hand_over(&[(0, 1)]);
    assert_eq!(starts(&harness.settle(Duration::ZERO)), 1);
    harness.now = harness.now.plus(LATE);
    let position = at(0);
    harness.handle(Event::AttemptExpired { position });
    let actions = harness.settle(Duration::ZERO);
    assert!(!is_charged(&actions), "{actions:?}");
    assert_eq!(starts(&actions), 1);
    harness.end_attempt(0, 200);
    assert!(!is_charged(&harness.settle(Duration::from_millis(50))));
}

#[test]
fn an_attempt_that_did_not_start_before_a_drain_leaves_no_reservation() {
    let mut harness = Harness::running();
    harness.hand_over(&[(0, 1)]);
    assert_eq!(starts(&harness.settle(Duration::ZERO)), 1);
    harness.now = harness.now.plus(LATE);
    harness.handle(Event::Drain);
    let position = at(0);
    harness.handle(Event::AttemptExpired { position });
    let actions = harness.settle(Duration::from_millis(50));
    assert!(
        !is_charged(&actions) && starts(&actions) == 0,
        "{actions:?}"
    );
    let last = commits(&actions).pop().expect("a last snapshot");
    let snapshot = &last.snapshots[0];
    let map = map::decode(&snapshot.metadata, snapshot.base, None);
    let unfinished = map.expect("a map").unfinished;
    assert_eq!(unfinished.len(), 1);
    assert!(
        unfinished
            .iter()
            .all(|(_, mark)| *mark == map::Mark::Unreserved)
    );
}
