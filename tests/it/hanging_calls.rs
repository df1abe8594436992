//! Kafka calls that do not return. The program is unmodified: the thread that makes
//! the call is held from outside.

use crate::support::broker::Broker;
use crate::support::hold::Hold;
use crate::support::proxy::{Api, Fate, Proxy, Wanted};
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::{Duration, Instant};

/// The longest call's own limit, what a thread may take beyond it, and a busy
/// machine.
const FOUND_WITHIN: Duration = Duration::from_secs(20 + 15 + 10);

/// Checks that a held thread of this name ends the process with code 4, and that a
/// line says which call hangs.
fn check(name: &str, thread: &str, says: &[&str]) {
    let mut scene = Scene::new(name, Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.publish("t", 200);
    wait::until("work under way", || scene.receiver.count() > 20);
    let held = Hold::threads(ringback.pid(), thread);
    let since = Instant::now();
    assert_hung(ringback, thread, says);
    let took = since.elapsed();
    assert!(took < FOUND_WITHIN, "found after {took:?}");
    drop(held);

    // It is safe to start it again.
    let ringback = scene.run("a");
    scene.until_settled();
    scene.account().assert_kept();
    ringback.drain();
}

#[track_caller]
fn assert_hung(ringback: Ringback, thread: &str, says: &[&str]) {
    let (code, log) = ringback.ended();
    assert_eq!(code, 4, "{log}");
    let line = log.lines().find(|line| line.contains("has not returned"));
    let line = line.unwrap_or_else(|| panic!("no line says why:\n{log}"));
    assert!(line.contains(thread), "{line}");
    assert!(line.contains("safe to start it again"), "{line}");
    assert!(says.iter().any(|call| line.contains(call)), "{line}");
}

#[test]
fn a_transactional_call_that_hangs_ends_the_process_with_code_4() {
    let calls = ["transaction", "produce", "wait for moves"];
    check("hung-move", "kafka-move", &calls);
}

#[test]
fn a_commit_that_hangs_ends_the_process_with_code_4() {
    let calls = ["offset commit", "wait for commits"];
    check("hung-commit", "kafka-commit", &calls);
}

#[test]
fn a_consumer_that_hangs_ends_the_process_with_code_4() {
    check("hung-consumer", "kafka-consumer", &["poll"]);
}

#[test]
fn a_client_whose_own_thread_hangs_ends_the_process_with_code_4() {
    let mut scene = Scene::new("hung-client", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    // Clients that only the start needs are closed by then.
    scene.publish("t", 1);
    scene.until_delivered();
    // librdkafka's own: calls that need it wait for it without a limit, and
    // which of them comes first is chance.
    let held = Hold::threads(ringback.pid(), "rdk:main");
    scene.publish("t", 50);
    let calls = [
        "member id",
        "begin_transaction",
        "poll",
        "committed offsets",
        "log bounds",
    ];
    assert_hung(ringback, "kafka-", &calls);
    drop(held);
    let ringback = scene.run("a");
    scene.until_settled();
    scene.account().assert_kept();
    ringback.drain();
}

#[test]
fn a_call_that_hangs_in_an_abandoned_session_stops_nothing_and_is_found_too() {
    let mut scene = Scene::new("hung-left-behind", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = scene.start_behind(&proxy, "a", &[]);
    let held = Hold::threads(ringback.pid(), "kafka-move");
    let late = proxy.trap(Fate::Hold, Wanted::answer(&[Api::OFFSET_COMMIT]));
    scene.publish("t", 50);
    late.until_caught();
    // A commit of more than a second whose connection was lost may have been sent
    // twice: it leads to re-adoption.
    std::thread::sleep(Duration::from_millis(1_200));
    proxy.cut();
    proxy.mend();
    late.release();
    ringback.until("the re-adoption", |metrics| {
        metrics.count("ringback_readoptions_total", &[]) > 0
    });
    scene.until_delivered();
    assert_hung(ringback, "kafka-move", &[""]);
    drop(held);
    let ringback = scene.run("a");
    scene.account().assert_kept();
    ringback.drain();
}

#[test]
fn what_hangs_in_an_outage_ends_the_process_only_once_the_brokers_are_back() {
    let broker = Broker::prepare("hung-outage-broker");
    broker.start();
    let mut scene = Scene::bare(&broker, "hung-outage", Plan::default());
    scene.create_topics();
    scene.tenant("t", Behaviour::FailFirst(1));
    let mut ringback = scene.run("a");
    scene.publish("t", 200);
    wait::until("work under way", || scene.receiver.count() > 20);
    let held = Hold::threads(ringback.pid(), "kafka-move");
    broker.kill();
    // Longer than it would take with the brokers there.
    wait::stays("alive in an outage", FOUND_WITHIN, || {
        ringback.is_running() && ringback.page("/healthz") == Some(200)
    });
    broker.start();
    assert_hung(ringback, "kafka-move", &[""]);
    drop(held);
    let ringback = scene.run("a");
    scene.until_settled();
    scene.account().assert_kept();
    ringback.drain();
}
