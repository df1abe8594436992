//! The metric of records that wait leaves out those that wait for their own tenant.

use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use serde_json::json;
use std::time::Duration;

/// The age of the oldest unfinished record that the first test waits for. Records that
/// wait for the process must stay younger than half of it.
const AGE_SECONDS: f64 = 4.0;

#[test]
fn a_record_that_waits_for_its_own_tenant_does_not_count_as_waiting() {
    let mut scene = Scene::new("waits-for-tenant", Plan::default());
    let one = json!({ "maxInFlight": 1 });
    scene.tenant_with("hangs", Behaviour::Hang, &one);
    scene.tenant("w", Behaviour::Ok);
    let ringback = scene.start("a", &["--timeout", "500ms"]).ready();
    scene.publish("hangs", 100);
    let labels = [("topic", scene.topic.clone())];
    let labels = labels.each_ref().map(|(key, topic)| (*key, topic.as_str()));
    let mut most: f64 = 0.0;
    ringback.until("an old record", |metrics| {
        scene.publish("w", 1);
        let waiting = metrics.sum("ringback_oldest_waiting_age_seconds", &labels);
        most = most.max(waiting);
        metrics.sum("ringback_oldest_unfinished_age_seconds", &labels) > AGE_SECONDS
    });
    assert!(most < AGE_SECONDS / 2.0, "{most} s");
    ringback.until("failed first attempts", |metrics| {
        let hangs = [("tenant", "hangs")];
        metrics.count("ringback_tenant_first_attempts_failed", &hangs) >= 3
    });
    scene.receiver.behave("hangs", Behaviour::Ok);
    scene.until_settled();
    ringback.drain();
}

#[test]
fn a_record_that_waits_for_the_process_counts_as_waiting() {
    let mut scene = Scene::new("waits-for-process", Plan::default());
    let slow = Duration::from_millis(300);
    for tenant in ["w", "x", "y", "z"] {
        scene.tenant(tenant, Behaviour::Slow(slow));
    }
    let ringback = scene.start("a", &["--in-flight-max", "2"]).ready();
    for tenant in ["w", "x", "y", "z"] {
        scene.publish(tenant, 10);
    }
    ringback.until("a waiting record", |metrics| {
        let labels = [("topic", scene.topic.as_str())];
        metrics.sum("ringback_oldest_waiting_age_seconds", &labels) > 2.0
    });
    scene.until_settled();
    ringback.drain();
}
