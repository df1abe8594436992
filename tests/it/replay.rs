//! Replay with Kafka's own tool, and topics left over from another schedule.

use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use std::time::Duration;

#[test]
fn a_reset_of_the_offsets_right_after_a_drain_notifies_every_record_again() {
    let mut scene = Scene::new("replay", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.publish("t", 200);
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();

    scene.broker.consumer_groups(&[
        "--reset-offsets",
        "--to-earliest",
        "--topic",
        &scene.topic,
        "--group",
        &scene.topic,
        "--execute",
    ]);
    let ringback = scene.run("a");
    ringback.until("every record again", |metrics| {
        metrics.disposed("delivered") == 200
    });
    for (id, posts) in scene.receiver.posts() {
        let attempts: Vec<u8> = posts.iter().map(|p| p.attempt).collect();
        assert_eq!(attempts, [1, 2, 1], "{id}");
    }
    assert_eq!(scene.receiver.posts().len(), 200);
    ringback.drain();
}

#[test]
fn a_delay_topic_of_an_older_schedule_is_still_drained() {
    let plan = Plan {
        delays: "3s",
        delay_min: Duration::from_secs(3),
        ..Plan::default()
    };
    let mut scene = Scene::new("left-over", plan);
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.publish("t", 50);
    ringback.until("the moves", |metrics| metrics.disposed("delayed") == 50);
    ringback.drain();
    assert!(
        scene.receiver.successes() < 50,
        "the wait was over too soon to show anything"
    );

    scene.plan.delays = "500ms";
    scene.create_topics();
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}
