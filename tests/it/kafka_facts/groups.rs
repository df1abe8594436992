//! Members: what a restart under the same name keeps, and how one leaves.

use super::member::Member;
use crate::support::broker::Broker;
use crate::support::proxy::{Api, Fate, Proxy, Wanted};
use crate::support::wait;
use std::time::{Duration, Instant};

#[test]
fn a_sole_static_member_that_restarts_with_one_more_topic_never_gets_it() {
    let broker = Broker::shared();
    let (group, topics) = ("facts-one-more", ["facts-one-more-1", "facts-one-more-2"]);
    for topic in topics {
        broker.create_topic(topic, 1, &[]);
    }
    drop(Member::joined(
        broker.address(),
        group,
        "a",
        &topics[..1],
        1,
    ));
    let again = Member::joined(broker.address(), group, "a", &topics, 1);
    wait::stays("only its old topic", Duration::from_secs(4), || {
        again.assigned().iter().all(|(topic, _)| topic == topics[0])
    });
    drop(again);
    // Under another name it does, once the old name's session is over.
    let renamed = Member::join(broker.address(), group, "a-2", &topics, &[]);
    renamed.until_assigned(2);
}

#[test]
fn leaving_hands_partitions_over_at_once_and_closing_alone_after_the_session() {
    let (broker, topic) = (Broker::shared(), "facts-leaving");
    broker.create_topic(topic, 2, &[]);
    let stays = Member::joined(broker.address(), topic, "stays", &[topic], 2);
    let leaves = Member::joined(broker.address(), topic, "leaves", &[topic], 1);
    stays.until_assigned(1);
    let started = Instant::now();
    leaves.leave();
    stays.until_assigned(2);
    println!("handed over in {:?}", started.elapsed());
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    drop(leaves);

    let closes = Member::joined(broker.address(), topic, "closes", &[topic], 1);
    stays.until_assigned(1);
    let started = Instant::now();
    drop(closes);
    stays.until_assigned(2);
    println!("closed alone: handed over in {:?}", started.elapsed());
    // The session is 6 s from the last heartbeat.
    assert!(
        started.elapsed() > Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

/// Cooperatively, partitions change hands in two steps: their owner gives them
/// up and joins again, and only then they are assigned. Under a static name a new
/// process gets the old one's assignment. The group does not notice that the second
/// step is missing.
#[test]
fn partitions_revoked_from_a_static_member_that_dies_before_it_joins_again_stay_unassigned() {
    let (broker, topic) = (Broker::shared(), "facts-revoked");
    broker.create_topic(topic, 4, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    let dies = Member::joined(&proxy.address(), topic, "a", &[topic], 4);
    let second_step = proxy.trap(Fate::Hold, Wanted::request(&[Api::JOIN_GROUP]).after(1));
    let other = Member::join(broker.address(), topic, "b", &[topic], &[]);
    second_step.until_caught();
    dies.until_assigned(2);
    let again = Member::joined(broker.address(), topic, "a", &[topic], 2);
    wait::stays("two of four", Duration::from_secs(8), || {
        again.assigned().len() == 2 && other.assigned().is_empty()
    });
    second_step.release();
}
