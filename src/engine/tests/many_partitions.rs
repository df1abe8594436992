//! Many partitions: what a write holds, and that idle ones cost nothing.

use super::super::*;
use super::Harness;
use super::moving::SESSION;
use crate::model::message::Snapshot;
use crate::model::position::Topic;
use std::collections::BTreeSet;
use std::time::Duration;

const COUNT: i32 = 2_000;

/// Assigns the partitions, none of which has a committed offset.
fn assigned() -> Harness {
    let mut harness = Harness::new();
    harness.turn(Duration::ZERO);
    let partitions: Vec<Partition> = (0..COUNT).map(|n| Topic::Source.partition(n)).collect();
    harness.assign_partitions(SESSION, &partitions);
    harness
}

fn commits(actions: &[Action]) -> impl Iterator<Item = &[Snapshot]> {
    actions.iter().filter_map(|action| match action {
        Action::Kafka(KafkaRequest::Commit(commit)) => Some(&commit.snapshots[..]),
        _ => None,
    })
}

#[test]
fn a_commit_of_many_partitions_is_split_and_holds_each_of_them_once() {
    let mut harness = assigned();
    let actions = harness.settle(Duration::ZERO);
    let mut committed = BTreeSet::new();
    for snapshots in commits(&actions) {
        // The coordinator also writes the names, of at most 249 bytes each.
        let sizes = snapshots.iter().map(|s| s.metadata.len() + 2 * 249);
        assert!(sizes.sum::<usize>() <= 512 << 10);
        assert!(snapshots.iter().all(|s| committed.insert(s.partition)));
    }
    assert_eq!(committed.len(), COUNT as usize);
    assert_eq!(commits(&actions).count(), 3);
}

#[test]
fn idle_partitions_are_not_looked_at() {
    let mut harness = assigned();
    harness.settle(Duration::ZERO);
    assert_eq!(harness.engine.partitions.active().count(), 0);
    assert_eq!(harness.engine.partitions.len(), COUNT as usize);
}
