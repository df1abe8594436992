//! Jobs that are killed at random moments and resumed.

use crate::soak::killed::{self, Killed};
use crate::support::jobs::{copies, replay, start};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_job_that_is_killed_and_resumed_copies_each_record_once() {
    let mut scene = Scene::new("jobs-killed", Plan::default());
    scene.publish("t", 1_500);
    scene.publish("u", 1_500);
    scene.publish("other", 500);
    scene.flush();
    let run = Killed {
        words: &["replay", "--tenant", "t,u"],
        job: "j",
        rate: 1_500,
        kills: 5,
        after_max: Duration::from_millis(700),
    };
    let report = killed::run(&scene, &run);
    assert_eq!(
        (report.counted, report.sent, report.copies),
        (3_000, 3_000, 3_000)
    );
    assert_eq!(report.distinct, 3_000);
    assert_eq!(report.counted_by_tenant, report.copies_by_tenant);
    // Records that come later are of no job that has ended.
    scene.publish("t", 10);
    scene.flush();
    replay(&scene, &["--resume", "j"]).exits(0);
    assert_eq!(copies(&scene).len(), 3_000);
}

#[test]
fn what_retention_deletes_before_it_is_read_is_counted() {
    let plan = Plan {
        partitions: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("jobs-retention", plan);
    scene.publish("t", 400);
    scene.flush();
    let words = ["replay", "--tenant", "t", "--rate", "2", "--job", "j"];
    let mut job = start(&scene, &words);
    wait::until("the first copies", || !copies(&scene).is_empty());
    job.kill();
    scene.broker.delete_records((&scene.topic, 0), 350);
    let resumed = replay(&scene, &["--resume", "j", "--output", "json"]);
    resumed.exits(0);
    let sum = resumed.json().pop().expect("the sums");
    let copied = copies(&scene).len();
    assert_eq!(sum["sent"], json!(copied));
    assert_eq!(sum["lost"], json!(400 - copied), "{sum}");
    assert!((51..400).contains(&copied), "{copied}");
}
