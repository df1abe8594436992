//! Transactions and members of other programs.

use super::super::*;
use super::moving::SESSION;
use super::{Harness, PARTITION};
use crate::model::message::{CommittedState, ConsumerRequest, ForeignMember, LogBounds};
use crate::model::position::NextOffset;
use std::time::Duration;

fn bounds(end: i64, high_watermark: i64) -> KafkaEvent {
    KafkaEvent::LogBounds(vec![LogBounds {
        partition: PARTITION,
        start: NextOffset(0),
        end: NextOffset(end),
        high_watermark: NextOffset(high_watermark),
    }])
}

/// An operator set the offset to the end while a transaction was open.
#[test]
fn an_offset_behind_the_first_record_of_an_open_transaction_waits_and_is_no_fault() {
    for (high_watermark, stopped) in [(7, 0), (6, 1)] {
        let mut harness = Harness::new();
        harness.turn(Duration::ZERO);
        let generation = Generation(SESSION.0);
        let assigned = KafkaEvent::Assigned {
            generation,
            partitions: vec![PARTITION],
        };
        harness.kafka(SESSION, assigned);
        let found = CommittedState {
            committed: Some((NextOffset(7), String::new())),
            log_start: NextOffset(0),
            log_end: NextOffset(3),
            high_watermark: NextOffset(high_watermark),
            topic_id: None,
        };
        let state = KafkaEvent::CommittedState {
            generation,
            partition: PARTITION,
            found,
        };
        harness.kafka(SESSION, state);
        let actions = harness.turn(Duration::ZERO);
        let start = KafkaRequest::Consumer(ConsumerRequest::StartFetch {
            generation,
            partition: PARTITION,
            from: NextOffset(7),
        });
        let starts = actions.contains(&Action::Kafka(start));
        let overview = harness.engine.overview(harness.now);
        assert_eq!((overview.stopped.len(), starts), (stopped, stopped == 0));
        assert_eq!(overview.health.is_none(), stopped == 0, "{overview:?}");
    }
}

#[test]
fn a_transaction_that_stays_open_is_told_once_and_once_when_it_has_ended() {
    let mut harness = Harness::running();
    let told = |harness: &mut Harness, end: i64, high_watermark: i64| {
        harness.kafka(SESSION, bounds(end, high_watermark));
        let actions = harness.settle(Duration::from_secs(1));
        let is_about = |action: &&Action| {
            let blocked = Fact::PartitionUnblocked {
                partition: PARTITION,
            };
            **action == Action::Report(blocked)
                || matches!(action, Action::Report(Fact::PartitionBlocked { .. }))
        };
        actions.iter().filter(is_about).count()
    };
    // The end moves: transactions come and go.
    for end in 0..40 {
        let reached = KafkaEvent::ReachedEnd {
            generation: Generation(SESSION.0),
            partition: PARTITION,
            next: NextOffset(end),
        };
        harness.kafka(SESSION, reached);
        assert_eq!(told(&mut harness, end, end + 1), 0);
    }
    let mut times = 0;
    for _ in 0..40 {
        times += told(&mut harness, 39, 41);
    }
    assert_eq!(times, 1);
    let shown = harness.engine.overview(harness.now).blocked;
    assert_eq!((shown.len(), shown[0].offset), (1, NextOffset(39)));
    assert!(harness.now.since(shown[0].since) >= Duration::from_secs(40));
    assert_eq!(told(&mut harness, 41, 41), 1);
    assert_eq!(harness.engine.overview(harness.now).blocked, []);
}

#[test]
fn a_transaction_that_reading_has_not_reached_holds_nothing_back() {
    let mut harness = Harness::running();
    for _ in 0..40 {
        harness.kafka(SESSION, bounds(5, 7));
        harness.settle(Duration::from_secs(1));
    }
    assert_eq!(harness.engine.overview(harness.now).blocked, []);
}

#[test]
fn a_member_of_another_program_is_told_once_and_once_when_it_has_left() {
    let mut harness = Harness::running();
    let member = ForeignMember {
        member: "rdkafka-1".to_owned(),
        client: "rdkafka".to_owned(),
        host: "/10.0.0.7".to_owned(),
        partitions: vec![PARTITION],
    };
    let facts = |harness: &mut Harness, members: Vec<ForeignMember>| {
        harness.kafka(SESSION, KafkaEvent::ForeignMembers(members));
        let actions = harness.settle(Duration::from_secs(1));
        let facts = actions.into_iter().filter_map(|action| match action {
            Action::Report(fact) => Some(fact),
            _ => None,
        });
        facts.collect::<Vec<_>>()
    };
    let joined = Fact::ForeignMember(member.clone());
    assert_eq!(facts(&mut harness, vec![member.clone()]), [joined]);
    assert_eq!(facts(&mut harness, vec![member.clone()]), []);
    assert_eq!(harness.engine.overview(harness.now).foreign.len(), 1);
    let left = Fact::ForeignMemberLeft {
        member: member.member,
    };
    assert_eq!(facts(&mut harness, Vec::new()), [left]);
    assert_eq!(harness.engine.overview(harness.now).foreign, []);
}
