//! Drains.

use super::super::*;
use super::Harness;
use super::moving::SESSION;
use crate::model::message::{ConsumerRequest, WriteId};
use std::time::Duration;

fn leaves(actions: &[Action]) -> bool {
    let leave = Action::Kafka(KafkaRequest::Consumer(ConsumerRequest::Leave));
    actions.contains(&leave)
}

/// Returns the commits that are requested.
fn writes(actions: &[Action]) -> Vec<WriteId> {
    let write = |action: &Action| match action {
        Action::Kafka(KafkaRequest::Commit(commit)) => Some(commit.write),
        _ => None,
    };
    actions.iter().filter_map(write).collect()
}

#[test]
fn a_drain_that_no_longer_waits_for_attempts_ends_with_its_last_write() {
    let mut harness = Harness::running();
    harness.engine.core.settings.drain_timeout = Duration::from_secs(10);
    harness.read(&[(0, 1), (1, 1)]);
    harness.handle(Event::Drain);
    // One attempt hangs, the other one ends just before the drain stops waiting.
    harness.settle(Duration::from_millis(8_499));
    harness.end_attempt(1, 200);
    let mut asked = writes(&harness.turn(Duration::from_millis(1)));
    asked.extend(writes(&harness.turn(Duration::from_millis(1))));
    assert_eq!(asked.len(), 1, "the last snapshot");
    assert!(
        !leaves(&harness.turn(Duration::from_millis(1))),
        "it is outstanding"
    );
    let (write, took) = (asked[0], Duration::from_millis(2));
    harness.kafka(SESSION, KafkaEvent::Committed { write, took });
    assert!(leaves(&harness.turn(Duration::ZERO)));
}
