//! Plain offset commits: who may write, and what may land when.

use super::member::{Member, code, now_committed, offsets};
use crate::support::broker::Broker;
use crate::support::proxy::{Api, Fate, Proxy, Wanted, Way};
use crate::support::wait;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_commit_for_a_partition_that_has_another_owner_is_accepted_and_overwrites() {
    let (broker, topic) = (Broker::shared(), "facts-another-owner");
    broker.create_topic(topic, 2, &[]);
    let first = Member::joined(broker.address(), topic, "first", &[topic], 2);
    let second = Member::joined(broker.address(), topic, "second", &[topic], 1);
    first.until_assigned(1);
    let (_, moved) = second.assigned().pop_first().expect("one partition");
    second
        .commit(&offsets(topic, &[(moved, 9, "the owner's")]))
        .expect("it is the owner");
    first
        .commit(&offsets(topic, &[(moved, 5, "not the owner's")]))
        .expect("Kafka does not check who owns the partition");
    let found = now_committed(broker, topic, (topic, moved));
    assert_eq!(found, Some((5, "not the owner's".to_owned())));
}

/// While the group waits for a member to join, another member's commit queues
/// behind that member's own JoinGroup. Its generation is then over: the commit is
/// refused for all its partitions, also for those that the member keeps.
#[test]
fn a_commit_during_a_rebalance_is_refused_whole_and_sent_again_accepted_whole() {
    refused_during_a_rebalance("facts-while-joining", Api::JOIN_GROUP);
}

/// The same while the leader's assignment is missing. Where the client has heard
/// of the new generation already, its commit waits too, and is then accepted.
#[test]
fn a_commit_while_the_leaders_sync_is_held_back_waits_and_bears_one_generation_whole() {
    refused_during_a_rebalance("facts-while-syncing", Api::SYNC_GROUP);
}

fn refused_during_a_rebalance(topic: &str, waits_for: Api) {
    let broker = Broker::shared();
    broker.create_topic(topic, 6, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    // The first to join leads.
    let slow = Member::joined(&proxy.address(), topic, "slow", &[topic], 6);
    let quick = Member::joined(broker.address(), topic, "quick", &[topic], 3);
    slow.until_assigned(3);
    let before = quick.assigned();
    let all: Vec<(i32, i64, &str)> = before.iter().map(|(_, number)| (*number, 7, "")).collect();
    let all = offsets(topic, &all);

    let held = proxy.trap(Fate::Hold, Wanted::request(&[waits_for]));
    let third = Member::join(broker.address(), topic, "third", &[topic], &[]);
    held.until_caught();
    let released = AtomicBool::new(false);
    let answer = std::thread::scope(|threads| {
        let refused = threads.spawn(|| {
            wait::until_some("an answer after the wait", wait::PATIENCE, || {
                let answer = quick.commit(&all);
                let over = released.load(Ordering::SeqCst);
                (answer.is_err() || over).then_some(answer)
            })
        });
        wait::stays("no answer while it waits", Duration::from_secs(1), || {
            !refused.is_finished()
        });
        released.store(true, Ordering::SeqCst);
        held.release();
        refused.join().expect("commits are answered")
    });
    let heard = waits_for == Api::SYNC_GROUP && answer.is_ok();
    assert!(
        heard
            || matches!(
                code(answer),
                Code::IllegalGeneration | Code::RebalanceInProgress
            ),
        "refused, or of the new generation"
    );
    third.until_assigned(2);
    quick.until_assigned(2);
    assert!(quick.assigned().is_subset(&before));
    quick
        .commit(&all)
        .expect("the same list, with what is another's by now");
}

#[test]
fn an_older_commit_lands_after_a_newer_one_where_the_socket_gives_up_before_the_session() {
    let (broker, topic) = (Broker::shared(), "facts-older-after-newer");
    broker.create_topic(topic, 1, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    let impatient = [
        ("socket.timeout.ms", "1000"),
        ("session.timeout.ms", "45000"),
    ];
    let member = Member::join(&proxy.address(), topic, "a", &[topic], &impatient);
    member.until_assigned(1);
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::OFFSET_COMMIT]));
    let started = Instant::now();
    member
        .commit(&offsets(topic, &[(0, 5, "older")]))
        .expect("librdkafka sends it again by itself, and that says Ok");
    assert!(started.elapsed() > Duration::from_secs(1));
    assert_eq!(held.caught(), 1);
    member
        .commit(&offsets(topic, &[(0, 9, "newer")]))
        .expect("on a new connection");
    let newer = now_committed(broker, topic, (topic, 0));
    assert_eq!(newer, Some((9, "newer".to_owned())));

    let answered = proxy.seen(Way::Answer, Api::OFFSET_COMMIT);
    held.release();
    wait::until("an answer that no client waits for", || {
        proxy.seen(Way::Answer, Api::OFFSET_COMMIT) > answered
    });
    let found = now_committed(broker, topic, (topic, 0));
    assert_eq!(found, Some((5, "older".to_owned())));
}

#[test]
fn an_older_commit_is_refused_where_the_session_ends_before_the_socket_gives_up() {
    let (broker, topic) = (Broker::shared(), "facts-older-refused");
    broker.create_topic(topic, 1, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    let patient = [
        ("socket.timeout.ms", "7000"),
        ("session.timeout.ms", "6000"),
    ];
    let member = Member::join(&proxy.address(), topic, "a", &[topic], &patient);
    member.until_assigned(1);
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::OFFSET_COMMIT]));
    let older = member.commit(&offsets(topic, &[(0, 5, "older")]));
    assert_eq!(held.caught(), 1);
    assert_eq!(code(older), Code::UnknownMemberId);
    // A process of the same name, as after re-adoption.
    drop(member);
    let member = Member::joined(&proxy.address(), topic, "a", &[topic], 1);
    member
        .commit(&offsets(topic, &[(0, 9, "newer")]))
        .expect("a member again");
    let answered = proxy.seen(Way::Answer, Api::OFFSET_COMMIT);
    held.release();
    wait::until("an answer that no client waits for", || {
        proxy.seen(Way::Answer, Api::OFFSET_COMMIT) > answered
    });
    let found = now_committed(broker, topic, (topic, 0));
    assert_eq!(found, Some((9, "newer".to_owned())));
}

/// What re-adoption rests on: joining under the same name moves nothing, and
/// fences what the predecessor still has in the network.
#[test]
fn joining_under_the_same_name_costs_no_rebalance_and_fences_what_is_in_the_network() {
    let (broker, topic) = (Broker::shared(), "facts-same-name");
    broker.create_topic(topic, 4, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    let before = Member::joined(&proxy.address(), topic, "a", &[topic], 4);
    let other = Member::joined(broker.address(), topic, "b", &[topic], 2);
    before.until_assigned(2);
    let (assigned, rebalances) = (before.assigned(), other.rebalances());
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::OFFSET_COMMIT]));
    let (_, number) = assigned.first().expect("two partitions").clone();
    std::thread::scope(|threads| {
        let older = threads.spawn(|| before.commit(&offsets(topic, &[(number, 5, "older")])));
        held.until_caught();
        let started = Instant::now();
        let after = Member::joined(broker.address(), topic, "a", &[topic], 2);
        println!("joined under the same name in {:?}", started.elapsed());
        assert_eq!(after.assigned(), assigned);
        after
            .commit(&offsets(topic, &[(number, 9, "newer")]))
            .expect("it is the member");
        held.release();
        let refused = code(older.join().expect("it is answered"));
        assert_eq!(refused, Code::FencedInstanceId);
        let found = now_committed(broker, topic, (topic, number));
        assert_eq!(found, Some((9, "newer".to_owned())));
        wait::until("the older member's end", || {
            before.fatal() == Some(Code::FencedInstanceId)
        });
        assert_eq!(
            (other.rebalances(), other.assigned().len()),
            (rebalances, 2)
        );
    });
}
