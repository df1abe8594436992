//! One tenant's trouble is its own.

use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
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
    assert!(hanging < FLOOD, "the healthy ones waited for the flood");

    scene.receiver.behave("hangs", Behaviour::Ok);
    scene.until_settled();
    scene.account().assert_exact();
    ringback.drain();
}
