//! One crash at a time: killed, stopped for long, or with another program's
//! commits. `kills` has the long run under load.

use crate::support::receiver::{Behaviour, Post};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_hanging_attempt_of_a_killed_process_is_charged_and_not_sent_from_there_again() {
    let mut scene = Scene::new("killed-in-flight", Plan::default());
    scene.tenant("t", Behaviour::Hang);
    let ringback = scene.run("a");
    // As many as a tenant without an answer may have in flight at once.
    scene.publish("t", 8);
    wait::until("attempts in flight", || scene.receiver.count() == 8);
    ringback.kill();

    scene.receiver.behave("t", Behaviour::Ok);
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    for (id, posts) in scene.receiver.posts() {
        let attempts: Vec<u8> = posts.iter().map(|p| p.attempt).collect();
        assert_eq!(attempts, [1, 2], "{id}");
    }
    ringback.until("eight in doubt", |metrics| {
        metrics.count("ringback_in_doubt_total", &[]) == 8
    });
    ringback.drain();
}

#[test]
fn a_record_that_was_only_ever_in_doubt_is_dead_lettered_as_unconfirmed() {
    let plan = Plan {
        attempts: 2,
        partitions: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("unconfirmed", plan);
    scene.tenant("t", Behaviour::Hang);
    scene.publish("t", 1);
    for attempt in [1, 2] {
        let ringback = scene.run("a");
        wait::until("the attempt", || scene.receiver.count() == attempt);
        ringback.kill();
    }
    let ringback = scene.run("a");
    let dead = scene.dead_letters_of(1);
    assert_eq!(dead[0].header("ringback-reason"), "attempts_unconfirmed");
    assert_eq!(dead[0].header("ringback-attempts-made"), "2");
    assert_eq!(dead[0].header("ringback-confirmed"), "0");
    assert_eq!(dead[0].header("ringback-error"), "in_doubt");
    assert_eq!(scene.receiver.count(), 2);
    ringback.drain();
}

#[test]
fn a_process_that_was_stopped_for_long_sends_nothing_that_others_took_over() {
    let mut scene = Scene::new("stopped", Plan::default());
    scene.tenant("t", Behaviour::Slow(Duration::from_millis(20)));
    let (first, second) = (scene.run("a"), scene.run("b"));
    wait::until("both to own partitions", || {
        let assigned = [&first, &second].map(|r| {
            let metrics = r.metrics();
            metrics.count("ringback_assigned_partitions", &[])
        });
        assigned.iter().sum::<u64>() == 8 && !assigned.contains(&0)
    });
    scene.publish("t", 1_000);
    wait::until("work under way", || scene.receiver.count() > 100);
    first.signal(Signal::STOP);
    // After the session timeout the other has all, and finishes it.
    scene.until_settled();
    first.signal(Signal::CONT);
    scene.publish("t", 200);
    scene.until_settled();
    second.until("no lag", |metrics| {
        metrics.count("ringback_unfinished_records", &[]) == 0
    });
    let account = scene.account();
    account.assert_kept();
    // In flight when it was stopped, 64 at most, are all that may repeat.
    assert!(account.after_success.len() <= 64, "{account}");
    let most = scene.receiver.posts().values().map(Vec::len).max();
    assert!(most <= Some(2), "{account}");
    drop(first);
    second.drain();
}

#[test]
fn another_programs_commit_is_replayed_from_its_base_and_counted() {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
    let plan = Plan {
        partitions: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("foreign-commit", plan);
    scene.tenant("t", Behaviour::Ok);
    scene.publish("t", 20);
    scene.flush();
    let other: BaseConsumer = scene
        .broker
        .client()
        .set("group.id", &scene.topic)
        .set("enable.auto.commit", "false")
        .create()
        .expect("valid settings");
    let mut list = rdkafka::TopicPartitionList::new();
    let mut base = list.add_partition(&scene.topic, 0);
    base.set_offset(rdkafka::Offset::Offset(10)).expect("valid");
    base.set_metadata("another program's note");
    other
        .commit(&list, CommitMode::Sync)
        .expect("the group is empty");
    drop(other);

    let ringback = scene.run("a");
    ringback.until("ten deliveries", |metrics| {
        metrics.disposed("delivered") == 10
    });
    let rejected = "ringback_commit_metadata_rejected_total";
    assert_eq!(ringback.metrics().count(rejected, &[]), 1);
    let posts = scene.receiver.posts();
    for number in 0..20 {
        let posts = posts.get(&format!("{}-{number}", scene.topic));
        let posts: Vec<u8> = posts
            .into_iter()
            .flatten()
            .map(|p: &Post| p.attempt)
            .collect();
        let expected: &[u8] = if number < 10 { &[] } else { &[1] };
        assert_eq!(posts, expected, "record {number}");
    }
    ringback.drain();
}
