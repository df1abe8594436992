//! Destinations that refuse records while the service runs. Only the records that
//! need them wait. Operators are told which and why, and all heals by itself.

use crate::support::broker::Broker;
use crate::support::http;
use crate::support::receiver::{Behaviour, Post};
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::collections::BTreeSet;
use std::time::Duration;

const PLAN: Plan = Plan {
    partitions: 2,
    delays: "200ms,1s",
    delay_min: Duration::from_millis(200),
    attempts: 10,
};

const REFUSED: &str = "ringback_destination_refused";

/// `once` needs the delay of 200 ms, `twice` also the one of 1 s.
fn scene<'b>(broker: &'b Broker, name: &str) -> Scene<'b> {
    let mut scene = Scene::bare(broker, name, PLAN);
    scene.create_topics();
    scene.tenant("good", Behaviour::Ok);
    scene.tenant("once", Behaviour::FailFirst(1));
    scene.tenant("twice", Behaviour::FailFirst(2));
    scene
}

/// Publishes records and returns their ids.
fn publish(scene: &mut Scene<'_>, tenant: &str, count: usize) -> Vec<String> {
    let before: BTreeSet<String> = scene.ledger.ids().map(str::to_owned).collect();
    scene.publish(tenant, count);
    let new = scene.ledger.ids().filter(|id| !before.contains(*id));
    new.map(str::to_owned).collect()
}

fn until_delivered(scene: &Scene<'_>, ids: &[String]) {
    wait::until("these records to be delivered", || {
        let delivered = |id: &String| scene.receiver.posts_of(id).iter().any(Post::succeeded);
        ids.iter().all(delivered)
    });
}

/// Waits until metric, health and page name the topic with one of these reasons.
fn until_refused(ringback: &Ringback, topic: &str, reasons: &[&str]) {
    let reason = wait::until_some("the refusal to be told", wait::PATIENCE, || {
        let metrics = ringback.metrics();
        let is =
            |reason: &&&str| metrics.count(REFUSED, &[("topic", topic), ("reason", reason)]) == 1;
        reasons.iter().find(is)
    });
    let (status, health) = http::get(ringback.port(), "/healthz").expect("it answers");
    assert_eq!(status, 200, "a restart would not help: {health}");
    for page in [health, ringback.says("/statusz"), ringback.says("/")] {
        let named = reasons.iter().any(|reason| page.contains(reason));
        assert!(page.contains(topic) && named, "no {reason}: {page}");
    }
}

/// Waits until no topic refuses records, and checks the lines about the topic.
fn until_accepted(ringback: &Ringback, topic: &str) {
    ringback.until("no refusal", |metrics| metrics.count(REFUSED, &[]) == 0);
    let log = ringback.log();
    let lines = |message: &str| {
        let of_topic = format!("\"topic\":\"{topic}\"");
        let lines = log.lines().filter(|l| l.contains(message));
        lines
            .filter(|line| line.contains(&of_topic))
            .collect::<Vec<_>>()
    };
    // The next read of its settings may tell another reason: each is told once.
    let refusals = lines("a topic refuses records");
    let reason = |line: &&str| line.split("\"reason\":").nth(1).map(str::to_owned);
    let reasons: BTreeSet<_> = refusals.iter().map(reason).collect();
    assert!(!refusals.is_empty(), "{log}");
    assert_eq!(reasons.len(), refusals.len(), "{log}");
    assert_eq!(lines("the topic accepts records again").len(), 1, "{log}");
}

#[test]
fn a_compacted_dead_letter_topic_holds_back_only_dead_letters() {
    let mut scene = scene(Broker::shared(), "refused-compacted");
    let topic = format!("{}.dead-letter", scene.topic);
    let ringback = scene.run("a");
    let compacted = [("cleanup.policy", "compact")];
    scene.broker.configure_topic(&topic, &compacted);
    scene.send(&scene.topic, None, Some(b"not json"), &[]);
    until_refused(&ringback, &topic, &["invalid_record", "settings"]);
    let mut others = publish(&mut scene, "once", 20);
    others.extend(publish(&mut scene, "twice", 20));
    until_delivered(&scene, &others);
    assert!(scene.dead_letters().is_empty());
    scene.broker.configure_topic(&topic, &[]);
    scene.dead_letters_of(1);
    until_accepted(&ringback, &topic);
    scene.account().assert_exact();
    ringback.drain();
}

/// A broker of its own: with one rule on a topic, all else there is denied.
#[test]
fn a_topic_that_may_not_be_written_holds_back_only_its_own_records() {
    let broker = Broker::prepare_with(
        "refused-authorizer-broker",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         allow.everyone.if.no.acl.found=true\n",
    );
    broker.start();
    let mut scene = scene(&broker, "refused-denied");
    let topic = scene.delay_topic("1s");
    let ringback = scene.run("a");
    let deny = ["--deny-principal", "User:*", "--operation", "WRITE"];
    let allow = ["--allow-principal", "User:*", "--operation", "ALL"];
    let rule = |how: &str, rule: [&str; 4]| {
        let to = [how, "--topic", topic.as_str()];
        broker.acls(&[&to[..], &rule[..]].concat());
    };
    rule("--add", allow);
    rule("--add", deny);
    let waiting = publish(&mut scene, "twice", 5);
    until_refused(&ringback, &topic, &["not_authorized"]);
    scene.send(&scene.topic, None, Some(b"not json"), &[]);
    let others = publish(&mut scene, "once", 20);
    until_delivered(&scene, &others);
    scene.dead_letters_of(1);
    rule("--remove", deny);
    until_delivered(&scene, &waiting);
    until_accepted(&ringback, &topic);
    scene.account().assert_exact();
    ringback.drain();
}

/// Kafka would remove the records before they are due.
#[test]
fn a_delay_topic_that_would_lose_its_records_gets_none_until_its_settings_are_right() {
    let mut scene = scene(Broker::shared(), "refused-settings");
    let topic = scene.delay_topic("1s");
    let ringback = scene.run("a");
    let right = ("message.timestamp.type", "LogAppendTime");
    let settings = [right, ("retention.ms", "86400000")];
    scene.broker.configure_topic(&topic, &settings);
    until_refused(&ringback, &topic, &["settings"]);
    assert!(ringback.log().contains("has retention.ms=86400000"));
    let waiting = publish(&mut scene, "twice", 5);
    let others = publish(&mut scene, "once", 20);
    until_delivered(&scene, &others);
    ringback.until("the records to wait", |_| {
        ringback.says("/healthz").contains("5 records wait for it")
    });
    scene.broker.configure_topic(&topic, &[right]);
    until_delivered(&scene, &waiting);
    until_accepted(&ringback, &topic);
    scene.account().assert_exact();
    ringback.drain();
}

/// The replica also reads the topic. It goes on without it, and reads it again.
#[test]
fn a_deleted_delay_topic_holds_back_only_its_own_records() {
    let mut scene = scene(Broker::shared(), "refused-deleted");
    let topic = scene.delay_topic("1s");
    let ringback = scene.run("a");
    let before = publish(&mut scene, "twice", 5);
    until_delivered(&scene, &before);
    scene.broker.delete_topic(&topic);
    let waiting = publish(&mut scene, "twice", 5);
    until_refused(&ringback, &topic, &["unknown_topic"]);
    // Longer than anything that the session does about a missing topic takes.
    for _ in 0..20 {
        let others = [
            publish(&mut scene, "good", 5),
            publish(&mut scene, "once", 5),
        ]
        .concat();
        until_delivered(&scene, &others);
        std::thread::sleep(Duration::from_secs(1));
    }
    until_refused(&ringback, &topic, &["unknown_topic"]);
    scene.create_topics();
    until_delivered(&scene, &waiting);
    let after = publish(&mut scene, "twice", 5);
    until_delivered(&scene, &after);
    until_accepted(&ringback, &topic);
    scene.account().assert_exact();
    ringback.drain();
}
