//! Memory of a replica whose records are large: it is bounded in bytes, before and after
//! a restart. Other tenants do not notice.

use crate::support::process;
use crate::support::receiver::Behaviour;
use crate::support::sample;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::Duration;

const PLAN: Plan = Plan {
    partitions: 12,
    delays: "3s,1h",
    delay_min: Duration::from_secs(3),
    attempts: 3,
};

const LARGE: usize = 480;
const LARGE_BYTES: usize = 900_000;
const RESIDENT_MIB_MAX: u64 = 256;

/// Publishes a record of 900 kB, outside the ledger.
fn send_large(scene: &Scene<'_>, number: usize) {
    let id = format!("large-{number}");
    let mut value = sample::record(&id, "broken");
    let end = value.iter().rposition(|byte| *byte == b'}');
    value.truncate(end.expect("an object"));
    value.extend_from_slice(b",\"padding\":\"");
    value.resize(LARGE_BYTES, b'x');
    value.extend_from_slice(b"\"}");
    scene.send(&scene.topic, Some(id.as_bytes()), Some(&value), &[]);
}

#[test]
fn large_records_of_a_failing_tenant_take_a_bounded_amount_of_memory() {
    let mut scene = Scene::new("memory", PLAN);
    scene.tenant("broken", Behaviour::Always(503));
    scene.tenant("good", Behaviour::Ok);
    (0..LARGE).for_each(|number| send_large(&scene, number));
    scene.publish("good", 100);
    scene.flush();
    let first = scene.run("first");
    scene.until_delivered();
    first.until("all large records to wait for an hour", |metrics| {
        let delayed = metrics.disposed("delayed") + metrics.disposed("diverted");
        delayed as usize >= 2 * LARGE
    });
    let before = process::resident_max_kib(first.pid()) / 1_024;
    first.kill();
    scene.publish("good", 100);
    let second = scene.run("first");
    scene.until_delivered();
    wait::until("the restarted replica to read what it may", || {
        let metrics = second.metrics();
        metrics.count("ringback_partitions", &[("state", "running")]) == 36
    });
    let after = process::resident_max_kib(second.pid()) / 1_024;
    println!("{before} MiB resident at most, {after} MiB after a restart");
    assert!(before <= RESIDENT_MIB_MAX, "{before} MiB");
    assert!(after <= RESIDENT_MIB_MAX, "{after} MiB after a restart");
    second.drain();
}
