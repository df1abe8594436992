//! A failing tenant costs the others nothing.

use crate::support::process;
use crate::support::receiver::{Behaviour, Keep, Receiver};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn a_hanging_tenant_diverts_and_costs_the_others_nothing() {
    const FLOOD: usize = 5_000;
    let plan = Plan {
        delays: "500ms,1s",
        delay_min: Duration::from_millis(500),
        ..Plan::default()
    };
    let mut scene = Scene::new("divert", plan);
    scene.tenant_with(
        "hangs",
        Behaviour::Hang,
        &serde_json::json!({ "maxInFlight": 2 }),
    );
    for tenant in ["w", "x", "y", "z"] {
        scene.tenant(tenant, Behaviour::Ok);
    }
    let ringback = scene.start("a", &["--timeout", "2s"]).ready();
    scene.publish("hangs", FLOOD);
    scene.flush();
    for tenant in ["w", "x", "y", "z"] {
        scene.publish(tenant, 100);
    }
    wait::until("the healthy tenants' records", || {
        scene.receiver.successes() == 400
    });
    ringback.until("a divert", |metrics| metrics.disposed("diverted") > 0);
    let hanging = scene.receiver.count() - 400;
    assert!(hanging < FLOOD, "the healthy tenants waited for the flood");

    scene.receiver.behave("hangs", Behaviour::Ok);
    scene.until_settled();
    scene.account().assert_exact();
    ringback.drain();
}

/// A tenant accepts and never answers. Its records leave the source topic all the same,
/// so a restart does not read everything behind them again.
#[test]
fn a_hanging_tenant_does_not_hold_the_committed_offset_back() {
    const RECORDS: usize = 300;
    let plan = Plan {
        delays: "2s,30s",
        delay_min: Duration::from_secs(2),
        ..Plan::default()
    };
    let mut scene = Scene::new("behind", plan);
    scene.tenant("hangs", Behaviour::Hang);
    scene.tenant("well", Behaviour::Ok);
    let ringback = scene.start("a", &["--timeout", "1s"]).ready();
    for _ in 0..RECORDS {
        scene.publish("hangs", 1);
        scene.publish("well", 1);
    }
    scene.flush();
    let topic = scene.topic.clone();
    ringback.until("the source topic to be finished", |metrics| {
        let lag = metrics.count("ringback_lag_records", &[("topic", &topic)]);
        lag == 0 && scene.receiver.successes() == RECORDS
    });
    ringback.kill();
    let ringback = scene.run("a");
    scene.publish("well", 1);
    wait::until("the next record of the healthy tenant", || {
        scene.receiver.successes() == RECORDS + 1
    });
    scene.receiver.behave("hangs", Behaviour::Ok);
    scene.until_settled();
    scene.account().assert_kept();
    ringback.drain();
}

/// Each tenant has its own address, whose connection is not used again.
#[test]
fn many_tenants_take_neither_sockets_nor_series() {
    const TENANTS: usize = 3_000;
    const IN_FLIGHT_MAX: usize = 64;
    /// Limit of idle connections in `src/http/pool.rs`.
    const POOL_MAX: usize = 1_024;
    /// Sockets of Kafka, the pages and name lookups.
    const OTHERS_MAX: usize = 64;
    let mut scene = Scene::new("many-tenants", Plan::default());
    scene.receiver = Receiver::start_at("0.0.0.0:0", Keep::All);
    let port = scene.receiver.port();
    let name = |n: usize| format!("t{n}");
    let entry = |n: usize| {
        let url = format!("http://127.1.{}.{}:{port}/t/t{n}", n / 250, 1 + n % 250);
        (name(n), serde_json::json!({ "url": url }))
    };
    let tenants: BTreeMap<_, _> = (0..TENANTS).map(entry).collect();
    scene.write_tenants_text(&serde_json::to_string(&tenants).expect("plain JSON"));
    let in_flight_max = IN_FLIGHT_MAX.to_string();
    let ringback = scene
        .start("a", &["--in-flight-max", &in_flight_max])
        .ready();
    // A connection is kept from a tenant's second record on, once the tenant has
    // answered.
    let mut most = 0;
    for round in 1..=2 {
        (0..TENANTS).for_each(|n| scene.publish(&name(n), 1));
        wait::until("the records of all tenants", || {
            most = most.max(process::sockets(ringback.pid()));
            scene.receiver.successes() == round * TENANTS
        });
    }
    assert!(
        (POOL_MAX..POOL_MAX + IN_FLIGHT_MAX + OTHERS_MAX).contains(&most),
        "{most} sockets"
    );
    let metrics = ringback.metrics();
    assert!(metrics.series() < 1_500, "{} series", metrics.series());
    scene.until_settled();
    scene.account().assert_exact();
    ringback.drain();
}
