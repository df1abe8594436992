//! Destinations that refuse records while the service runs. Only the records that
//! need them wait. Operators are told which and why, and all heals by itself.

use crate::support::broker::Broker;
use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::receiver::{Behaviour, Post};
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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

/// A cluster of three brokers, and a scene whose first and last delay topics have two
/// copies. So has each partition of the first one on the third broker.
fn two_copies<'c>(cluster: &'c Cluster, name: &str, in_sync: &str) -> Scene<'c> {
    let plan = Plan {
        delays: "200ms,1s,2s",
        ..PLAN
    };
    let mut scene = Scene::bare(cluster.broker(0), name, plan);
    let settings = two_copies_settings(in_sync);
    let none = [&[1, 3][..], &[3, 1][..]];
    let first = scene.delay_topic("200ms");
    scene.broker.create_topic_on(&first, &none, &settings);
    let half = [&[1, 2][..], &[1, 3][..]];
    let last = scene.delay_topic("2s");
    scene.broker.create_topic_on(&last, &half, &settings);
    scene.create_replicated_topics(3);
    scene.tenant("good", Behaviour::Ok);
    scene.tenant("once", Behaviour::FailFirst(1));
    scene.tenant("1s", Behaviour::RetryAfter(1));
    scene.tenant("2s", Behaviour::RetryAfter(2));
    scene
}

fn two_copies_settings(in_sync: &str) -> [(&str, &str); 3] {
    [
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", "2097152"),
        ("min.insync.replicas", in_sync),
    ]
}

/// Kafka could not even end a transaction with a record for a topic that demands both
/// copies, while one of them is gone.
#[test]
fn a_delay_topic_with_too_few_copies_in_sync_holds_back_only_its_own_records() {
    let cluster = Cluster::start("refused-in-sync", 3, 0);
    let mut scene = two_copies(&cluster, "refused-in-sync", "2");
    let (topic, half) = (scene.delay_topic("200ms"), scene.delay_topic("2s"));
    let ringback = scene.run("a");
    let all = ["once", "1s", "2s"];
    let before = all.map(|tenant| publish(&mut scene, tenant, 5)).concat();
    until_delivered(&scene, &before);
    cluster.broker(2).kill();
    let mut waiting = publish(&mut scene, "once", 5);
    for dead_letters in 1..=5 {
        waiting.extend(publish(&mut scene, "once", 1));
        let others = ["1s", "2s"].map(|tenant| publish(&mut scene, tenant, 5));
        scene.send(&scene.topic, None, Some(b"not json"), &[]);
        let started = Instant::now();
        until_delivered(&scene, &others.concat());
        scene.dead_letters_of(dead_letters);
        println!("the others took {:?}", started.elapsed());
        until_refused(&ringback, &topic, &["not_enough_replicas"]);
    }
    let refused = ringback.metrics().count(REFUSED, &[("topic", &half)]);
    assert_eq!(refused, 0, "it has a partition that takes records");
    let posts = |id: &String| scene.receiver.posts_of(id).len();
    assert!(waiting.iter().all(|id| posts(id) == 1));
    cluster.broker(2).start();
    until_delivered(&scene, &waiting);
    until_accepted(&ringback, &topic);
    scene.account().assert_kept();
    ringback.drain();
}

/// The topic demands more at the moment of the move, before the replica knows. All moves
/// then wait for the end of that transaction, and everything else goes on.
#[test]
fn a_transaction_that_kafka_cannot_end_delays_no_first_attempt() {
    let cluster = Cluster::start("refused-open", 3, 0);
    let mut scene = two_copies(&cluster, "refused-open", "1");
    let topic = scene.delay_topic("200ms");
    let ringback = scene.run("a");
    cluster.broker(2).kill();
    let before = publish(&mut scene, "once", 5);
    until_delivered(&scene, &before);
    scene
        .broker
        .configure_topic(&topic, &two_copies_settings("2"));
    let mut waiting = publish(&mut scene, "once", 5);
    until_refused(&ringback, &topic, &["not_enough_replicas"]);
    waiting.extend(publish(&mut scene, "1s", 5));
    wait::until("all moves to wait", || {
        ringback.log().contains("moves wait: Kafka has not ended")
    });
    for _ in 0..10 {
        let good = publish(&mut scene, "good", 20);
        let started = Instant::now();
        until_delivered(&scene, &good);
        println!("good records took {:?}", started.elapsed());
    }
    let posts = |id: &String| scene.receiver.posts_of(id).len();
    assert!(waiting.iter().all(|id| posts(id) == 1));
    scene
        .broker
        .configure_topic(&topic, &two_copies_settings("1"));
    until_delivered(&scene, &waiting);
    until_accepted(&ringback, &topic);
    scene.account().assert_kept();
    ringback.drain();
}
