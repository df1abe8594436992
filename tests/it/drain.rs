//! Drain, leaving the group, and replicas beside each other.

use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Partitions of the source and its one delay topic.
const PARTITIONS: u64 = 8;

fn assigned(ringback: &Ringback) -> u64 {
    ringback
        .metrics()
        .count("ringback_assigned_partitions", &[])
}

#[test]
fn a_drain_under_load_repeats_nothing_and_the_other_replica_goes_on() {
    let mut scene = Scene::new("drain", Plan::default());
    scene.tenant("t", Behaviour::Slow(Duration::from_millis(20)));
    scene.tenant("flaky", Behaviour::FailFirst(1));
    let first = scene.run("a");
    let second = scene.run("b");
    wait::until("both to have partitions", || {
        let (a, b) = (assigned(&first), assigned(&second));
        a > 0 && b > 0 && a + b == PARTITIONS
    });
    scene.publish("t", 1_000);
    scene.publish("flaky", 500);
    wait::until("work under way at the first", || {
        first.metrics().count("ringback_attempts_total", &[]) > 50
    });
    let took = first.drain();
    assert!(took < Duration::from_secs(10), "draining took {took:?}");
    let left = Instant::now();
    wait::until("the second to have all", || assigned(&second) == PARTITIONS);
    assert!(
        left.elapsed() < Duration::from_secs(6),
        "it did not leave the group"
    );
    scene.publish("t", 200);
    scene.until_delivered();
    scene.account().assert_exact();
    second.drain();
}

#[test]
fn a_restart_after_a_drain_goes_on_at_once() {
    let mut scene = Scene::new("drain-restart", Plan::default());
    scene.tenant("t", Behaviour::Slow(Duration::from_millis(20)));
    let mut running = scene.run("a");
    for round in 1..=3 {
        scene.publish("t", 300);
        wait::until("work under way", || scene.receiver.count() > round * 200);
        running.signal(Signal::INT);
        assert_eq!(running.ended().0, 0);
        running = scene.run("a");
    }
    scene.until_delivered();
    scene.account().assert_exact();
    running.drain();
}

#[test]
fn a_drain_does_not_wait_for_hanging_attempts_beyond_its_limit() {
    let mut scene = Scene::new("drain-hanging", Plan::default());
    scene.tenant("t", Behaviour::Hang);
    let ringback = scene.start("a", &["--drain-timeout", "1s"]).ready();
    // As many as a tenant without an answer may have in flight at once.
    scene.publish("t", 8);
    wait::until("attempts in flight", || scene.receiver.count() == 8);
    let took = ringback.drain();
    assert!(took < Duration::from_secs(4), "draining took {took:?}");

    scene.receiver.behave("t", Behaviour::Ok);
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn two_replicas_share_the_work() {
    let mut scene = Scene::new("two-replicas", Plan::default());
    // The tenant is the key: many of them, so that every partition has records.
    let tenants: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    for tenant in &tenants {
        scene.tenant(tenant, Behaviour::FailFirst(1));
    }
    let replicas = [scene.run("a"), scene.run("b")];
    wait::until("both to have partitions", || {
        let counts = replicas.each_ref().map(assigned);
        counts.iter().sum::<u64>() == PARTITIONS && !counts.contains(&0)
    });
    for tenant in &tenants {
        scene.publish(tenant, 50);
    }
    scene.until_delivered();
    scene.account().assert_exact();
    for replica in replicas {
        // The assignor may give one all delay partitions.
        let metrics = replica.metrics();
        assert!(metrics.disposed("delivered") + metrics.disposed("delayed") > 0);
        replica.drain();
    }
}

#[test]
fn signals_reload_drain_or_do_nothing_but_never_kill() {
    let mut scene = Scene::new("signals", Plan::default());
    scene.tenant("t", Behaviour::Slow(Duration::from_millis(300)));
    let ringback = scene.run("a");
    let until = |line: &str| wait::until(line, || ringback.log().contains(line));
    for signal in [Signal::USR1, Signal::USR2] {
        ringback.signal(signal);
    }
    until("SIGUSR2");
    ringback.signal(Signal::HUP);
    until("SIGHUP: the tenants and the name files are read again");
    until("the tenants file was reloaded");
    scene.publish("t", 5);
    wait::until("attempts", || scene.receiver.count() > 0);
    ringback.signal(Signal::QUIT);
    let (code, log) = ringback.ended();
    assert_eq!(code, 0, "{log}");
    let next = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    next.drain();
}
