//! ringback itself behind the proxy: what the facts of the other files lead to,
//! as its tenants, its pages and its group see it.

use super::member::{committed, now_committed};
use crate::support::broker::Broker;
use crate::support::hold::threads_named;
use crate::support::proxy::{Api, Fate, Proxy, Trap, Wanted, Way};
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait::{self, PATIENCE};
use ::ringback::engine::map;
use ::ringback::model::position::NextOffset;
use std::time::{Duration, Instant};

/// The shortest session that the broker allows, so that its end is soon, and a
/// socket timeout above it, as the service demands.
const SHORT_SESSION: [&str; 4] = [
    "--kafka",
    "session.timeout.ms=6000",
    "--kafka",
    "socket.timeout.ms=7000",
];

const ONE_PARTITION: Plan = Plan {
    partitions: 1,
    delays: "200ms",
    delay_min: Duration::from_millis(200),
    attempts: 10,
};

/// A replica whose Kafka is the proxy.
fn run(scene: &Scene<'_>, proxy: &Proxy, instance: &str) -> Ringback {
    scene.start_behind(proxy, instance, &SHORT_SESSION)
}

fn readoptions(ringback: &Ringback, reason: &str) -> u64 {
    let metrics = ringback.metrics();
    metrics.count("ringback_readoptions_total", &[("reason", reason)])
}

fn until_no_lag(ringback: &Ringback) {
    ringback.until("no lag", |metrics| {
        metrics.count("ringback_unfinished_records", &[]) == 0
            && metrics.count("ringback_lag_records", &[]) == 0
    });
}

/// Waits until the committed maps have no unfinished record: a kill then repeats
/// nothing.
fn until_written(scene: &Scene<'_>) {
    let partitions = i32::try_from(scene.plan.partitions).expect("a few");
    let source = scene.topic.clone();
    for topic in [source, scene.delay_topic("200ms")] {
        for number in 0..partitions {
            wait::until_some("a map without unfinished records", PATIENCE, || {
                let at = (topic.as_str(), number);
                let (base, text) = now_committed(scene.broker, &scene.topic, at)?;
                let map = map::decode(&text, NextOffset(base), None).ok()?;
                map.unfinished.is_empty().then_some(())
            });
        }
    }
}

#[test]
fn a_commit_answered_ok_after_more_than_a_second_costs_no_attempt_and_no_session() {
    let mut scene = Scene::new("facts-late-answer", ONE_PARTITION);
    scene.tenant("t", Behaviour::Ok);
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = run(&scene, &proxy, "a");
    scene.publish("t", 20);
    scene.until_delivered();
    let late = proxy.trap(Fate::Hold, Wanted::answer(&[Api::OFFSET_COMMIT]));
    scene.publish("t", 20);
    late.until_caught();
    let before = scene.receiver.count();
    wait::stays(
        "nothing sent unreserved",
        Duration::from_millis(1_200),
        || scene.receiver.count() == before,
    );
    late.release();
    scene.until_delivered();
    scene.account().assert_exact();
    until_no_lag(&ringback);
    assert_eq!(readoptions(&ringback, "commit_unsure"), 0);
    assert_eq!(ringback.metrics().count("ringback_in_doubt_total", &[]), 0);
    ringback.drain();
}

#[test]
fn an_older_commit_that_lands_after_newer_ones_is_refused_and_changes_nothing() {
    let mut scene = Scene::new("facts-older-commit", ONE_PARTITION);
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = run(&scene, &proxy, "a");
    scene.publish("t", 50);
    scene.until_delivered();
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::OFFSET_COMMIT]).after(1));
    scene.publish("t", 50);
    held.until_caught();
    // Its connection stays mute past the session's end. The next Kafka session goes on.
    scene.until_delivered();
    until_written(&scene);
    let at = (scene.topic.as_str(), 0);
    let newer = now_committed(scene.broker, &scene.topic, at);
    let answered = proxy.seen(Way::Answer, Api::OFFSET_COMMIT);
    held.release();
    wait::until("an answer that no client waits for", || {
        proxy.seen(Way::Answer, Api::OFFSET_COMMIT) > answered
    });
    assert_eq!(now_committed(scene.broker, &scene.topic, at), newer);
    ringback.kill();
    let ringback = run(&scene, &proxy, "a");
    scene.publish("t", 10);
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn a_transaction_that_was_carried_out_and_whose_answer_is_lost_is_not_done_again() {
    let mut scene = Scene::new("facts-end-answer", ONE_PARTITION);
    scene.tenant("t", Behaviour::FailFirst(2));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = run(&scene, &proxy, "a");
    let cut = proxy.trap(Fate::Cut, Wanted::answer(&[Api::END_TXN]));
    scene.publish("t", 50);
    cut.until_caught();
    let lost = proxy.trap(Fate::Lose, Wanted::answer(&[Api::END_TXN]));
    lost.until_caught();
    scene.until_delivered();
    scene.account().assert_exact();
    // A reservation in that transaction is over its lease when the answer
    // comes: charged and not sent. So numbers may be left out, POSTs may not.
    for id in scene.ledger.ids() {
        assert_eq!(scene.receiver.posts_of(id).len(), 3, "{id}");
    }
    until_no_lag(&ringback);
    ringback.drain();
}

/// A replica behind a proxy, with a tenant that fails each record once.
fn behind_a_proxy(name: &str) -> (Scene<'static>, Proxy, Ringback) {
    let mut scene = Scene::new(name, ONE_PARTITION);
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = run(&scene, &proxy, "a");
    (scene, proxy, ringback)
}

/// Makes its next transaction one that cannot end until the trap is released.
fn hold_a_commit<'p>(scene: &mut Scene<'_>, proxy: &'p Proxy) -> Trap<'p> {
    // Each of them: it is sent again before the transaction's time is over.
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::END_TXN]).all());
    scene.publish("t", 20);
    held.until_caught();
    held
}

/// The coordinator ends a transaction that takes too long. That looks as if another
/// process used the instance name, and none does: the process goes on.
#[test]
fn a_transaction_that_the_coordinator_timed_out_ends_in_readoption_and_never_the_process() {
    let (mut scene, proxy, ringback) = behind_a_proxy("facts-coordinator-timeout");
    let held = hold_a_commit(&mut scene, &proxy);
    let at = (scene.topic.as_str(), 0);
    let look = || committed(scene.broker, &scene.topic, at, Duration::from_millis(500));
    assert!(look().is_err(), "its offsets are pending");
    wait::until("the coordinator to end it", || look().is_ok());
    held.release();
    ringback.until("the re-adoption", |_| {
        readoptions(&ringback, "move_unsure") > 0
    });
    scene.until_delivered();
    scene.account().assert_exact();
    until_no_lag(&ringback);
    scene.publish("t", 20);
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

/// A Kafka session that is abandoned while it owes the group an answer still closes.
/// Otherwise it would stay for good, and the watchdog would end the process.
#[test]
fn a_session_abandoned_within_a_revocation_closes() {
    let (mut scene, proxy, ringback) = behind_a_proxy("facts-revocation-open");
    let held = hold_a_commit(&mut scene, &proxy);
    // A partition with records in an open transaction is not revoked yet.
    let lost = proxy.trap(Fate::Lose, Wanted::answer(&[Api::HEARTBEAT]).all());
    wait::until("the session to be lost", || {
        ringback.log().contains("partitions revoked")
    });
    let id = format!("{}-a", scene.topic);
    wait::until("the coordinator to end the transaction", || {
        scene.broker.transaction(&id).as_deref() != Some("Ongoing")
    });
    held.release();
    lost.release();
    ringback.until("the re-adoption", |_| {
        readoptions(&ringback, "move_unsure") > 0
    });
    for name in ["kafka-consumer", "kafka-commit", "kafka-move", "kafka-read"] {
        wait::until("the old session to close", || {
            threads_named(ringback.pid(), name).len() == 1
        });
    }
    scene.until_delivered();
    scene.account().assert_exact();
    until_no_lag(&ringback);
    ringback.drain();
}

#[test]
fn a_sync_that_is_held_back_stops_no_replica_for_good_and_repeats_nothing() {
    let mut scene = Scene::new("facts-sync-held", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let first = run(&scene, &proxy, "a");
    scene.publish("t", 100);
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::SYNC_GROUP]));
    let second = scene.start("b", &SHORT_SESSION);
    scene.publish("t", 100);
    held.until_caught();
    scene.publish("t", 100);
    // Longer than a lease, shorter than a session.
    wait::stays("held", Duration::from_millis(2_500), || held.caught() == 1);
    held.release();
    let second = second.ready();
    second.until("its share", |metrics| {
        metrics.count("ringback_assigned_partitions", &[]) > 0
    });
    scene.publish("t", 100);
    scene.until_delivered();
    scene.account().assert_exact();
    first.drain();
    second.drain();
    scene.account().assert_exact();
}

#[test]
fn a_coordinator_that_is_gone_for_seconds_is_waited_for() {
    let mut scene = Scene::new("facts-coordinator-gone", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = run(&scene, &proxy, "a");
    scene.publish("t", 100);
    scene.until_delivered();
    let gone = proxy.trap(Fate::Cut, Wanted::request(Api::GROUP).all());
    scene.publish("t", 100);
    gone.until_caught();
    wait::stays("gone", Duration::from_secs(3), || {
        ringback.page("/healthz").is_some()
    });
    gone.release();
    scene.until_delivered();
    scene.publish("t", 100);
    scene.until_delivered();
    let account = scene.account();
    account.assert_kept();
    // Delivered, and not committed when the coordinator went.
    assert!(account.after_success.len() <= 40, "{account}");
    until_no_lag(&ringback);
    ringback.drain();
}

/// Whichever message is cut, and its connection with it.
#[test]
fn a_cut_in_any_exchange_breaks_no_promise() {
    let mut scene = Scene::new("facts-cuts", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let cut = |wanted: Wanted| proxy.trap(Fate::Cut, wanted);
    let begins = [
        Api::FIND_COORDINATOR,
        Api::JOIN_GROUP,
        Api::SYNC_GROUP,
        Api::OFFSET_FETCH,
        Api::INIT_PRODUCER_ID,
    ];
    for way in [Wanted::request, Wanted::answer] {
        let traps = begins.map(|api| cut(way(&[api])));
        let ringback = run(&scene, &proxy, "a");
        scene.publish("t", 20);
        scene.until_delivered();
        traps.iter().for_each(Trap::until_caught);
        until_written(&scene);
        ringback.kill();
    }
    let ringback = run(&scene, &proxy, "a");
    for api in [
        Api::OFFSET_COMMIT,
        Api::HEARTBEAT,
        Api::FETCH,
        Api::PRODUCE,
        Api::TXN_OFFSET_COMMIT,
        Api::END_TXN,
    ] {
        for way in [Wanted::request, Wanted::answer] {
            let trap = cut(way(&[api]));
            scene.publish("t", 20);
            trap.until_caught();
            scene.until_delivered();
        }
    }
    until_no_lag(&ringback);
    scene.account().assert_exact();
    ringback.drain();
}

/// A dead replica's open transaction holds back what others wrote behind it in the
/// delay topic. It lasts at most its timeout, the broker's scan and a second.
#[test]
fn a_dead_replicas_transaction_freezes_its_delay_partition_no_longer_than_its_timeout_and_a_scan() {
    let mut scene = Scene::new("facts-freeze", ONE_PARTITION);
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let dies = run(&scene, &proxy, "dies");
    let held = proxy.trap(Fate::Hold, Wanted::request(&[Api::END_TXN]));
    scene.publish("t", 10);
    held.until_caught();
    let started = Instant::now();
    dies.kill();
    let heir = scene.start("heir", &SHORT_SESSION).ready();
    scene.publish("t", 10);
    wait::until("the heir's first attempt", || scene.receiver.count() > 10);
    let frozen = started.elapsed();
    println!("the first attempt {frozen:?} after the transaction was whole");
    // The transaction's timeout 10 s, the scan 1 s, a second; and what a busy
    // machine takes.
    assert!(frozen < Duration::from_secs(10 + 1 + 1 + 3), "{frozen:?}");
    scene.until_delivered();
    scene.account().assert_exact();
    until_no_lag(&heir);
    heir.drain();
}

#[test]
fn a_schedule_with_one_more_delay_gets_the_new_topic_under_the_same_name() {
    let mut scene = Scene::new("facts-one-more-delay", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    scene.publish("t", 20);
    scene.until_delivered();
    until_written(&scene);
    ringback.kill();
    scene.plan.delays = "200ms,400ms";
    scene.create_topics();
    let ringback = scene.run("a");
    ringback.until("three topics", |metrics| {
        metrics.count("ringback_assigned_partitions", &[]) == 12
    });
    scene.publish("t", 20);
    scene.until_delivered();
    scene.account().assert_exact();
    let waited = [("delay", "400ms")];
    let metrics = ringback.metrics();
    assert!(metrics.count("ringback_delay_lateness_seconds_count", &waited) >= 20);
    ringback.drain();
}

#[test]
fn markers_of_transactions_leave_no_lag_behind() {
    let mut scene = Scene::new("facts-markers", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    scene.publish("t", 100);
    scene.until_delivered();
    until_no_lag(&ringback);
    // What the operators' own tool says.
    let lags = || -> Vec<String> {
        let told = Broker::shared().consumer_groups(&["--describe", "--group", &scene.topic]);
        let rows = told.lines().filter(|line| line.starts_with(&scene.topic));
        rows.map(|row| row.split_whitespace().nth(5).unwrap_or("").to_owned())
            .collect()
    };
    wait::until_some("no lag for kafka-consumer-groups either", PATIENCE, || {
        let lags = lags();
        (lags.len() == 8 && lags.iter().all(|lag| lag == "0")).then_some(())
    });
    ringback.drain();
}

/// See `groups`: the group does not notice, so the members do.
#[test]
fn partitions_revoked_from_a_killed_replica_do_not_stay_unassigned() {
    let mut scene = Scene::new("facts-revoked-killed", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let proxy = Proxy::start(&[scene.broker.address()]);
    let dies = run(&scene, &proxy, "a");
    let second_step = proxy.trap(Fate::Hold, Wanted::request(&[Api::JOIN_GROUP]).after(1));
    let other = scene.start("b", &SHORT_SESSION);
    second_step.until_caught();
    dies.kill();
    let again = scene.start("a", &SHORT_SESSION);
    let (other, again) = (other.ready(), again.ready());
    wait::until("every partition to be assigned", || {
        let assigned = |r: &Ringback| r.metrics().count("ringback_assigned_partitions", &[]);
        assigned(&other) + assigned(&again) == 8
    });
    scene.publish("t", 100);
    scene.until_delivered();
    scene.account().assert_exact();
    other.drain();
    again.drain();
}
