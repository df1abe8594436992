//! Brokers that are not there, yet or for a while.

use crate::support::broker::Broker;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::Duration;

#[test]
fn brokers_and_topics_may_come_later_and_go_away_for_a_while() {
    let broker = Broker::prepare("outages-broker");
    let mut scene = Scene::bare(&broker, "outages", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.start("a", &[]);
    wait::until("its pages", || ringback.page("/readyz") == Some(503));
    let not_ready = || ringback.page("/readyz") == Some(503);
    wait::stays(
        "not ready without a broker",
        Duration::from_secs(2),
        not_ready,
    );
    broker.start();
    wait::stays(
        "not ready without topics",
        Duration::from_secs(2),
        not_ready,
    );
    scene.create_topics();
    let ringback = ringback.ready();
    scene.publish("t", 200);
    scene.until_delivered();

    broker.kill();
    // Long enough for requests to fail.
    let alive = || ringback.page("/healthz").is_some();
    wait::stays("alive without a broker", Duration::from_secs(3), alive);
    broker.start();
    scene.publish("t", 200);
    scene.until_settled();
    scene.account().assert_kept();
    ringback.until("no lag", |metrics| {
        metrics.count("ringback_unfinished_records", &[]) == 0
    });
    let lines = ringback
        .log()
        .lines()
        .filter(|l| !l.contains("http_5xx"))
        .count();
    assert!(lines < 300, "an outage floods the log: {lines} lines");
    ringback.drain();
}
