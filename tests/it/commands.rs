//! The commands other than `run`.

use crate::support::broker::Broker;
use crate::support::receiver::Behaviour;
use crate::support::ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

#[test]
fn topics_are_created_once_and_listed() {
    let broker = Broker::shared();
    let topics = |command: &str, more: &[&str]| {
        let head = [
            "topics",
            command,
            "--brokers",
            broker.address(),
            "--topic",
            "it-topics",
        ];
        let done = ringback::output(&[&head[..], &["--delays", "60s,90s"], more].concat());
        let output = String::from_utf8_lossy(&done.stdout).into_owned();
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "topics {command}: {error}");
        output
    };
    let make = ["--partitions", "3", "--replication-factor", "1"];
    topics("create", &[&make[..], &["--dry-run"]].concat());
    assert_eq!(
        broker.partitions("it-topics"),
        0,
        "a dry run creates nothing"
    );
    topics("create", &make);
    topics("create", &make);
    let listed = topics("list", &[]);
    for topic in [
        "it-topics",
        "it-topics.delay.1m",
        "it-topics.delay.90s",
        "it-topics.dead-letter",
    ] {
        assert_eq!(broker.partitions(topic), 3, "{topic}");
        assert!(
            listed.contains(topic),
            "{topic} is not listed in:\n{listed}"
        );
    }
}

#[test]
fn new_topics_are_served_by_their_leaders() {
    let plan = Plan {
        partitions: 60,
        delays: "1s,2s,3s,4s",
        ..Plan::default()
    };
    let scene = Scene::bare(Broker::shared(), "served", plan);
    let consumer: BaseConsumer = scene.broker.client().create().expect("valid settings");
    scene.create_topics();
    let mut ends = TopicPartitionList::new();
    let delay_topics = ["1s", "2s", "3s", "4s"].map(|delay| scene.delay_topic(delay));
    for topic in delay_topics.iter().chain([&scene.topic]) {
        for number in 0..60 {
            ends.add_partition_offset(topic, number, Offset::End)
                .expect("a valid offset");
        }
    }
    // If one leader does not serve yet, the answer is an error for all.
    let asked = consumer.offsets_for_times(ends, wait::PATIENCE);
    let answered = asked.expect("every partition has a leader that serves it");
    assert!(answered.elements().iter().all(|p| p.error().is_ok()));
}

#[test]
fn health_asks_a_running_service() {
    let mut scene = Scene::new("health", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    assert_eq!(ringback.page("/healthz"), Some(200));
    let url = format!("http://127.0.0.1:{}/healthz", ringback.port());
    let ask = || ringback::output(&["health", "--url", &url]).status.code();
    assert_eq!(ask(), Some(0));
    ringback.drain();
    assert_eq!(ask(), Some(1));
}

#[test]
fn published_samples_are_delivered() {
    let mut scene = Scene::new("publish", Plan::default());
    scene.tenant("x", Behaviour::Ok);
    scene.tenant("y", Behaviour::Ok);
    let ringback = scene.run("a");
    let arguments = [
        "publish",
        "--brokers",
        scene.broker.address(),
        "--topic",
        &scene.topic,
    ];
    let samples = ["--count", "30", "--tenants", "x,y"];
    let done = ringback::output(&[&arguments[..], &samples].concat());
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    wait::until("30 deliveries", || scene.receiver.successes() == 30);
    let posts: Vec<_> = scene.receiver.posts().into_values().flatten().collect();
    assert_eq!(posts.iter().filter(|post| post.tenant == "x").count(), 15);
    ringback.drain();
}

#[test]
fn the_demo_ends_by_itself_and_its_numbers_add_up() {
    let done = ringback::output(&["demo"]);
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{output}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
