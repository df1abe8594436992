//! Other programs that hold partitions: a producer whose transaction stays open, and a
//! consumer in the group of ringback. Operators are told who holds what.

use crate::support::http;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::sample;
use crate::support::scene::{Plan, Scene};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;

const CALL_MAX: Duration = Duration::from_secs(60);

fn health(ringback: &Ringback) -> String {
    let (status, health) = http::get(ringback.port(), "/healthz").expect("it answers");
    assert_eq!(status, 200, "a restart would not help: {health}");
    health
}

/// Begins a transaction in partition 0 of the source topic. Returns its producer.
fn open_transaction(scene: &Scene<'_>, id: &str) -> BaseProducer {
    let mut config = scene.broker.client();
    config.set("transactional.id", format!("{}-upstream", scene.topic));
    config.set("transaction.timeout.ms", "600000");
    let producer: BaseProducer = config.create().expect("valid settings");
    producer.init_transactions(CALL_MAX).expect("a coordinator");
    producer.begin_transaction().expect("it is initialised");
    let value = sample::record(id, "good");
    let record = BaseRecord::<[u8], [u8]>::to(&scene.topic).partition(0);
    let sent = producer.send(record.payload(&value[..]));
    assert!(sent.is_ok(), "the queue is empty");
    producer.flush(CALL_MAX).expect("the broker takes it");
    producer
}

/// The offsets were set to the end of the log while the transaction was open. So the
/// committed offset lies behind the last offset that can be read.
#[test]
fn an_open_transaction_is_named_and_an_offset_behind_it_is_no_fault() {
    let mut scene = Scene::new("open-transaction", Plan::default());
    scene.tenant("good", Behaviour::Ok);
    let upstream = open_transaction(&scene, "skipped");
    let group = ["--group", &scene.topic, "--topic", &scene.topic];
    let reset = ["--reset-offsets", "--to-latest", "--execute"];
    scene.broker.consumer_groups(&[&reset[..], &group].concat());
    let ringback = scene.run("a");
    scene.publish("good", 20);
    scene.flush();
    let place = format!("partition {}/0: an open transaction", scene.topic);
    ringback.until("the transaction to be named", |metrics| {
        assert_eq!(metrics.count("ringback_stopped_partitions", &[]), 0);
        metrics.count("ringback_blocked_partitions", &[]) == 1 && health(&ringback).contains(&place)
    });
    assert!(
        ringback
            .says("/")
            .contains("is held back by an open transaction")
    );
    let waiting = scene.ledger.len() - scene.receiver.successes();
    assert!(waiting > 0 && waiting < 20, "{waiting} in its partition");
    upstream.commit_transaction(CALL_MAX).expect("it is open");
    scene.until_delivered();
    ringback.until("no transaction to be named", |metrics| {
        metrics.count("ringback_blocked_partitions", &[]) == 0
    });
    assert!(scene.receiver.posts_of("skipped").is_empty());
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn another_program_in_the_group_is_named_until_it_leaves() {
    let mut scene = Scene::new("foreign-member", Plan::default());
    scene.tenant("good", Behaviour::Ok);
    let ringback = scene.run("a");
    let mut config = scene.broker.client();
    config
        .set("group.id", &scene.topic)
        .set("client.id", "somebody-else")
        .set("enable.auto.commit", "false")
        .set("partition.assignment.strategy", "cooperative-sticky");
    let other: BaseConsumer = config.create().expect("valid settings");
    other.subscribe(&[&scene.topic]).expect("a valid name");
    ringback.until("the other program to be named", |metrics| {
        other.poll(Duration::from_millis(100));
        metrics.count("ringback_foreign_partitions", &[]) > 0
            && health(&ringback).contains("client somebody-else")
    });
    assert!(ringback.says("/").contains("Another program in the group"));
    drop(other);
    ringback.until("no other program to be named", |metrics| {
        metrics.count("ringback_foreign_partitions", &[]) == 0
    });
    scene.publish("good", 20);
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}
