//! Offsets and topics that moved under the service: commits of others, resets
//! by hand, topics deleted, made again, emptied or grown.

use crate::kafka_facts::member::{now_committed, offsets};
use crate::support::broker::Broker;
use crate::support::dead_letters::FoundRecord;
use crate::support::http;
use crate::support::receiver::Behaviour;
use crate::support::ringback::{self, Ringback};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use ::ringback::engine::map;
use ::ringback::model::position::{NextOffset, Offset, TopicId};
use ::ringback::model::time::UnixMillis;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use std::time::{Duration, Instant};

/// The accounting of these maps goes back to the beginning.
const MAPS_SINCE: map::MapsSince = map::MapsSince {
    at: UnixMillis(0),
    end: NextOffset(0),
};

const REJECTED: &str = "ringback_commit_metadata_rejected_total";

/// Notices new partitions and topics soon.
const LOOKS_OFTEN: [&str; 2] = ["--kafka", "topic.metadata.refresh.interval.ms=1000"];

/// Commits as an operator or another program would, while the group is empty.
fn commit(scene: &Scene<'_>, topic: &str, all: &[(i32, i64, &str)]) {
    let mut config = scene.broker.client();
    config
        .set("group.id", &scene.topic)
        .set("enable.auto.commit", "false");
    let other: BaseConsumer = config.create().expect("valid settings");
    wait::until("the group to be empty", || {
        other.commit(&offsets(topic, all), CommitMode::Sync).is_ok()
    });
}

fn reset_to_earliest(scene: &Scene<'_>, topic: &str) {
    scene.broker.consumer_groups(&[
        "--reset-offsets",
        "--to-earliest",
        "--topic",
        topic,
        "--group",
        &scene.topic,
        "--execute",
    ]);
}

/// Metadata that is not a map for offset 0 of this topic.
fn foreign() -> Vec<String> {
    let at = |base: i64, end: i64, id: Option<&TopicId>| {
        map::encode(
            NextOffset(base),
            NextOffset(end),
            id,
            MAPS_SINCE,
            [].into_iter(),
        )
    };
    let other_topic = TopicId("AAAAAAAAAAAAAAAAAAAAAQ".to_owned());
    // All of them say that everything is finished, had they a right to.
    let whole = at(0, 1, None);
    let mut damaged = whole.clone().into_bytes();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let reserved = [(Offset(1_000), map::Mark::Reserved)];
    vec![
        "another program's note".to_owned(),
        "{\"offset\": 5}".to_owned(),
        whole.replace("rb2.", "rb3."),
        String::from_utf8(damaged).expect("still text"),
        whole[..8].to_owned(),
        at(0, 1_000_000, None),
        map::encode(
            NextOffset(0),
            NextOffset(1_001),
            None,
            MAPS_SINCE,
            reserved.into_iter(),
        ),
        at(7, 8, None),
        at(0, 1, Some(&other_topic)),
        "漢".repeat(4_096),
        "x".repeat(4_096),
        "rb2.".to_owned(),
    ]
}

#[test]
fn metadata_that_is_no_offset_map_is_replayed_from_its_base_and_counted() {
    let foreign = foreign();
    let count = i32::try_from(foreign.len()).expect("a few");
    let plan = Plan {
        partitions: foreign.len() as u32,
        ..Plan::default()
    };
    let mut scene = Scene::new("moved-foreign", plan);
    scene.tenant("t", Behaviour::FailFirst(1));
    scene.publish("t", 200);
    scene.flush();
    let all: Vec<(i32, i64, &str)> = (0..count)
        .map(|number| (number, 0, foreign[number as usize].as_str()))
        .collect();
    commit(&scene, &scene.topic, &all);
    // Of a delay topic that nothing was ever in.
    commit(&scene, &scene.delay_topic("200ms"), &all);
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    assert_eq!(
        ringback.metrics().count(REJECTED, &[]),
        2 * foreign.len() as u64
    );
    ringback.drain();
    let ringback = scene.run("a");
    ringback.until("no lag", |m| m.count("ringback_lag_records", &[]) == 0);
    assert_eq!(ringback.metrics().count(REJECTED, &[]), 0, "ours by now");
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn a_topic_made_again_while_the_service_is_stopped_is_read_whole() {
    let mut scene = Scene::new("moved-again-stopped", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.publish("t", 100);
    scene.until_delivered();
    ringback.drain();
    scene.broker.delete_topic(&scene.topic);
    scene.broker.delete_topic(&scene.delay_topic("200ms"));
    scene.create_topics();
    scene.renew_publisher();
    scene.publish("t", 50);
    scene.flush();
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

/// With attempts in flight that end when the new topic is already there: what
/// is committed for them must not finish the new topic's records.
#[test]
fn a_topic_made_again_under_a_running_service_is_read_whole() {
    let mut scene = Scene::new("moved-again-running", Plan::default());
    scene.tenant("t", Behaviour::Slow(Duration::from_secs(2)));
    let ringback = scene.start("a", &LOOKS_OFTEN).ready();
    scene.publish("t", 100);
    scene.flush();
    wait::until("attempts in flight", || scene.receiver.count() > 0);
    scene.broker.delete_topic(&scene.topic);
    scene.create_topics();
    let before: Vec<String> = scene.ledger.ids().map(str::to_owned).collect();
    scene.renew_publisher();
    scene.receiver.behave("t", Behaviour::Ok);
    scene.publish("t", 50);
    // What had not been read of the old topic has gone with it.
    wait::until("every record of the new topic", || {
        let posts = scene.receiver.posts();
        let new = scene
            .ledger
            .ids()
            .filter(|id| !before.iter().any(|b| b == id));
        let mut delivered = new.map(|id| {
            posts
                .get(id)
                .is_some_and(|p| p.iter().any(|p| p.succeeded()))
        });
        delivered.all(|yes| yes)
    });
    let account = scene.account();
    assert!(
        account.over_ten.is_empty() && account.out_of_order.is_empty(),
        "{account}"
    );
    ringback.drain();
}

#[test]
fn a_delay_topic_reset_to_earliest_by_hand_sends_nothing_again_that_was_due() {
    let plan = Plan {
        delays: "300ms,20s",
        delay_min: Duration::from_millis(300),
        partitions: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("moved-delay-reset", plan);
    scene.tenant("t", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    scene.publish("t", 20);
    ringback.until("two moves each", |metrics| {
        metrics.disposed("delayed") == 40
    });
    ringback.drain();
    let before = scene.receiver.count();
    for delay in ["300ms", "20s"] {
        reset_to_earliest(&scene, &scene.delay_topic(delay));
    }
    let ringback = scene.run("a");
    let dead = scene.dead_letters_of(20);
    assert_eq!(scene.receiver.count(), before, "nothing was sent");
    for found in &dead {
        assert_eq!(found.header("ringback-reason"), "too_old");
        // A machine that is too busy makes charges of some.
        let made = found.number("ringback-attempts-made");
        assert!((1..=2).contains(&made), "{made}");
        assert!(found.number("ringback-confirmed") <= made);
        let error = found.header("ringback-error");
        assert!(["http_5xx", "in_doubt"].contains(&error), "{error}");
        let origin = found.header("ringback-origin");
        assert!(origin.starts_with(&scene.topic), "{origin}");
    }
    let ids: std::collections::BTreeSet<_> = dead.iter().filter_map(FoundRecord::id).collect();
    assert_eq!(ids.len(), 20, "each once");
    // Those that were not due yet wait as usual.
    scene.until_delivered();
    let account = scene.account();
    account.assert_kept();
    assert_eq!(account.dead_lettered, 20, "{account}");
    assert!(account.after_success.is_empty(), "{account}");
    ringback.drain();
}

/// In a new group a delay topic may get records before its own first owner has
/// committed anything for it.
#[test]
fn copies_that_were_there_before_the_first_commit_of_their_partition_are_sent() {
    let mut scene = Scene::new("moved-first-commit", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let value = crate::support::sample::record("early", "t");
    let headers = [
        ("ringback-attempts-made", "1"),
        ("ringback-confirmed", "1"),
        ("ringback-diverts", "0"),
        ("ringback-last-at", "1"),
        ("ringback-origin", "elsewhere/0/0"),
        ("ringback-published-at", "1"),
    ];
    scene.send(&scene.delay_topic("200ms"), None, Some(&value), &headers);
    scene.flush();
    // Due by now, for all that the service can see.
    let started = Instant::now();
    wait::until("it to be due", || {
        started.elapsed() > Duration::from_millis(300)
    });
    let ringback = scene.run("a");
    ringback.until("the delivery", |metrics| metrics.disposed("delivered") == 1);
    let posts = scene.receiver.posts_of("early");
    assert_eq!(posts.iter().map(|p| p.attempt).collect::<Vec<_>>(), [2]);
    assert!(scene.dead_letters().is_empty());
    ringback.drain();
}

#[test]
fn a_committed_offset_beyond_the_logs_end_stops_its_partition_and_healthz_says_why() {
    let mut scene = Scene::new("moved-beyond", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    scene.publish("t", 40);
    scene.flush();
    commit(&scene, &scene.topic, &[(2, 1_000, "")]);
    let ringback = scene.run("a");
    let health = |ringback: &Ringback| http::get(ringback.port(), "/healthz");
    wait::until("red health", || {
        health(&ringback).is_some_and(|(status, _)| status == 503)
    });
    let (_, why) = health(&ringback).expect("it answers");
    assert!(why.contains("beyond the log's end"), "{why}");
    assert!(why.contains(&scene.topic) && why.contains('2'), "{why}");
    let live = ringback.page("/livez");
    assert_eq!(live, Some(200), "a restart heals no stopped partition");
    ringback.until("one stopped, the others done", |metrics| {
        metrics.count("ringback_partitions", &[("state", "stopped")]) == 1
            && metrics.count("ringback_live", &[]) == 1
            && metrics.count("ringback_healthy", &[]) == 0
            && metrics.count("ringback_unfinished_records", &[]) == 0
            && metrics.disposed("delivered") > 0
    });
    let found = now_committed(scene.broker, &scene.topic, (&scene.topic, 2));
    assert_eq!(found, Some((1_000, String::new())), "never rewound");
    ringback.drain();

    reset_to_earliest(&scene, &format!("{}:2", scene.topic));
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    wait::until("green health", || {
        health(&ringback).is_some_and(|(status, _)| status == 200)
    });
    ringback.drain();
}

#[test]
fn a_base_below_the_logs_start_counts_what_is_gone_and_goes_on() {
    let plan = Plan {
        partitions: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("moved-deleted", plan);
    scene.tenant("t", Behaviour::Ok);
    scene.publish("t", 30);
    scene.flush();
    // Offsets 2, 5 and 20 are unfinished, and all from 25 on.
    let unfinished = [2, 5, 20].map(|at| (Offset(at), map::Mark::Unreserved));
    let text = map::encode(
        NextOffset(2),
        NextOffset(25),
        None,
        MAPS_SINCE,
        unfinished.into_iter(),
    );
    commit(&scene, &scene.topic, &[(0, 2, &text)]);
    scene.broker.delete_records((&scene.topic, 0), 10);
    let ringback = scene.run("a");
    ringback.until("what is left", |metrics| metrics.disposed("delivered") == 6);
    let metrics = ringback.metrics();
    assert_eq!(metrics.count("ringback_lost_records_total", &[]), 2);
    assert_eq!(metrics.count(REJECTED, &[]), 0);
    assert_eq!(scene.receiver.count(), 6);
    ringback.until("no lag", |m| m.count("ringback_lag_records", &[]) == 0);
    ringback.drain();
}

#[test]
fn partitions_added_to_source_and_delay_topics_are_read_from_their_beginning() {
    let plan = Plan {
        partitions: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("moved-grown", plan);
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.start("a", &LOOKS_OFTEN).ready();
    scene.publish("t", 40);
    scene.until_delivered();
    scene.broker.grow_topic(&scene.topic, 6);
    scene.broker.grow_topic(&scene.delay_topic("200ms"), 4);
    scene.renew_publisher();
    // Some land in new partitions before the service has seen them.
    scene.publish("t", 100);
    ringback.until("all partitions", |metrics| {
        metrics.count("ringback_assigned_partitions", &[]) == 10
    });
    scene.publish("t", 100);
    scene.until_delivered();
    scene.account().assert_exact();
    assert!(scene.dead_letters().is_empty());
    ringback.drain();
}

#[test]
fn brokers_that_take_too_little_metadata_end_the_start_with_what_to_do() {
    let broker = Broker::prepare_with("small-metadata-broker", "offset.metadata.max.bytes=512\n");
    broker.start();
    let mut scene = Scene::bare(&broker, "moved-small-metadata", Plan::default());
    scene.create_topics();
    scene.tenant("t", Behaviour::Ok);
    let (code, told) = scene.start("a", &[]).ended();
    assert_eq!(code, 2, "{told}");
    for named in ["offset.metadata.max.bytes", "512", "4096"] {
        assert!(told.contains(named), "{named} is not named in:\n{told}");
    }
    let arguments = scene.arguments("a");
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments[0] = "check-config";
    arguments.push("--connect");
    let checked = ringback::output(&arguments);
    assert_eq!(checked.status.code(), Some(2));
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("offset.metadata.max.bytes=512"), "{told}");
}
