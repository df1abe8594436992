//! Brokers that answer late. A slow answer is slow, not unsure: it costs no attempt and
//! no new session.

use crate::support::proxy::{Api, Fate, Proxy, Wanted};
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::Duration;

#[test]
fn a_broker_that_takes_long_for_each_commit_costs_no_attempt() {
    let mut scene = Scene::new("slow-commits", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    scene.tenant("failing", Behaviour::FailFirst(1));
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = scene.start_behind(&proxy, "a", &[]);
    let slow = Fate::Delay(Duration::from_millis(1_500));
    let commits = proxy.trap(slow, Wanted::answer(&[Api::OFFSET_COMMIT]).all());
    for _ in 0..10 {
        scene.publish("t", 20);
        scene.publish("failing", 2);
        let before = commits.caught();
        wait::until("a further commit", || commits.caught() > before);
    }
    commits.release();
    scene.until_settled();
    scene.account().assert_kept();
    let metrics = ringback.metrics();
    for name in ["ringback_readoptions_total", "ringback_in_doubt_total"] {
        assert_eq!(metrics.count(name, &[]), 0, "{name}");
    }
    ringback.drain();
}
