//! Replays and redrives: exact counts, one copy for each record through kills, and
//! delivery by the running service with a new budget.

mod bad_input;
mod killed;

use crate::support::jobs::{copies, counts, jobs, redrive, replay, start};
use crate::support::metrics::Metrics;
use crate::support::receiver::Behaviour;
use crate::support::ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn a_dry_run_counts_exactly_what_is_then_copied_and_delivered() {
    let mut scene = Scene::new("jobs-replay", Plan::default());
    for tenant in ["x", "y", "z"] {
        scene.tenant(tenant, Behaviour::Ok);
    }
    let ringback = scene.run("a");
    scene.publish("x", 30);
    scene.publish("y", 20);
    scene.publish("z", 10);
    scene.flush();
    scene.until_delivered();

    let select = ["--tenant", "x,y", "--since", "1h", "--output", "json"];
    let counted = replay(&scene, &[&select[..], &["--dry-run"]].concat());
    counted.exits(0);
    let (tenants, sum) = counts(&counted);
    assert_eq!(
        tenants,
        BTreeMap::from([("x".to_owned(), 30), ("y".to_owned(), 20)])
    );
    assert_eq!((&sum["sent"], &sum["dryRun"]), (&json!(50), &json!(true)));
    assert!(copies(&scene).is_empty(), "a dry run copies nothing");
    jobs(&scene, &["list"]).exits(5);

    let done = replay(&scene, &[&select[..], &["--job", "night"]].concat());
    done.exits(0);
    assert_eq!(counts(&done).0, tenants);
    wait::until("the copies to be delivered", || {
        scene.receiver.successes() == 110
    });
    let posts = scene.receiver.posts();
    for (id, posts) in &posts {
        let copied = if posts[0].tenant == "z" { 1 } else { 2 };
        assert_eq!(posts.len(), copied, "{id}");
        assert!(posts.iter().all(|post| post.attempt == 1), "{id}");
    }
    let found = copies(&scene);
    assert_eq!(found.len(), 50);
    for copy in &found {
        assert_eq!(copy.header("ringback-job"), "night");
        let from = copy.header("ringback-replayed-from");
        assert_eq!(copy.header("ringback-origin"), from);
        assert!(from.starts_with(&format!("{}/", scene.topic)), "{from}");
        assert_eq!(copy.number("ringback-attempts-made"), 0);
    }
    let listed = jobs(&scene, &["list", "--output", "json"]).exits(0).json();
    assert_eq!(
        (&listed[0]["job"], &listed[0]["state"]),
        (&json!("night"), &json!("finished"))
    );
    assert_eq!(
        (&listed[0]["sent"], &listed[0]["selected"]),
        (&json!(50), &json!(50))
    );
    let metrics = ringback.metrics();
    assert_eq!(metrics.disposed("dead_lettered"), 0);
    ringback.drain();
}

/// Runs the service while a job is open, killed, ended and damaged.
#[test]
fn the_metrics_of_the_service_count_jobs_by_state() {
    let mut scene = Scene::new("jobs-metrics", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let count = |metrics: &Metrics, state| metrics.count("ringback_jobs", &[("state", state)]);
    assert_eq!(count(&ringback.metrics(), "running"), 0);
    scene.publish("t", 300);
    scene.flush();
    let words = ["replay", "--tenant", "t", "--rate", "2", "--job", "slow"];
    let mut slow = start(&scene, &words);
    ringback.until("an open job", |metrics| count(metrics, "running") == 1);
    slow.kill();
    jobs(&scene, &["cancel", "slow"]).exits(0);
    replay(&scene, &["--tenant", "t", "--job", "quick", "--again"]).exits(0);
    ringback.until("jobs that have ended", |metrics| {
        let ended = ["cancelled", "finished"].map(|state| count(metrics, state));
        ended == [1, 1] && count(metrics, "running") == 0
    });
    ringback.drain();
}

#[test]
fn redriven_dead_letters_are_delivered_with_a_new_budget() {
    let plan = Plan {
        attempts: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("jobs-redrive", plan);
    scene.tenant("t", Behaviour::Always(503));
    scene.tenant("u", Behaviour::Always(500));
    let ringback = scene.run("a");
    scene.publish("t", 12);
    scene.publish("u", 3);
    scene.send(&scene.topic, None, Some(b"not json"), &[]);
    let dead = scene.dead_letters_of(16);
    scene.receiver.behave("t", Behaviour::Ok);
    let before = copies(&scene).len();

    let select = [
        "--status",
        "503",
        "--reason",
        "attempts_exhausted",
        "--job",
        "again",
    ];
    let done = redrive(&scene, &[&select[..], &["--output", "json"]].concat());
    done.exits(0);
    assert_eq!(counts(&done).0, BTreeMap::from([("t".to_owned(), 12)]));
    wait::until("the copies to be delivered", || {
        scene.receiver.successes() == 12
    });
    for posts in scene.receiver.posts().values() {
        let attempts: Vec<u8> = posts.iter().map(|post| post.attempt).collect();
        let expected: &[u8] = if posts[0].tenant == "t" {
            &[1, 2, 1]
        } else {
            &[1, 2]
        };
        assert_eq!(attempts, expected);
    }
    let found = copies(&scene);
    let new = found
        .iter()
        .filter(|copy| copy.headers.iter().any(|(n, _)| n == "ringback-job"));
    let new: Vec<_> = new.collect();
    assert_eq!((new.len(), found.len()), (12, before + 12));
    for copy in new {
        let letter = dead.iter().find(|letter| letter.id() == copy.id());
        let letter = letter.expect("its dead letter");
        assert_eq!((&letter.key, &letter.value), (&copy.key, &copy.value));
        for kept in ["ringback-origin", "ringback-published-at"] {
            assert_eq!(letter.header(kept), copy.header(kept));
        }
        let from = copy.header("ringback-replayed-from");
        assert!(
            from.starts_with(&format!("{}.dead-letter/", scene.topic)),
            "{from}"
        );
    }

    // All of them: one cannot be read, and none of `t` a second time without --again.
    let all = redrive(&scene, &["--dry-run", "--output", "json"]);
    all.exits(0);
    let (tenants, sum) = counts(&all);
    assert_eq!(tenants.values().sum::<u64>(), 15);
    assert_eq!(sum["refused"], json!({ "undecodable": 1 }));
    assert!(all.error.contains("'again'"), "{}", all.error);
    redrive(&scene, &[]).exits(2);
    ringback.drain();
}

#[test]
fn a_file_selects_its_records_and_a_broken_line_sends_nothing() {
    let plan = Plan {
        partitions: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("jobs-files", plan);
    scene.publish("t", 40);
    scene.flush();
    let ids: Vec<String> = (0..40)
        .step_by(4)
        .map(|n| format!("{}-{n}", scene.topic))
        .collect();
    let good = scene.file("ids.txt", &format!("{}\n\n", ids.join("\n")));
    let broken = scene.file("broken.txt", "a\nb\nnot an id\n");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let refused = replay(&scene, &["--ids-file", &path(&broken)]);
    refused.exits(2);
    assert!(refused.error.contains("line 3"), "{}", refused.error);
    assert!(copies(&scene).is_empty());

    let limited = ["--ids-file", &path(&good), "--limit", "6", "--job", "some"];
    replay(&scene, &limited).exits(0);
    assert_eq!(copies(&scene).len(), 6, "--limit holds");
    replay(
        &scene,
        &["--ids-file", &path(&good), "--again", "--job", "all"],
    )
    .exits(0);
    let found = copies(&scene);
    let all = found
        .iter()
        .filter(|copy| copy.header("ringback-job") == "all");
    let mut copied: Vec<String> = all.map(|copy| copy.id().expect("an id")).collect();
    let mut expected = ids.clone();
    copied.sort();
    expected.sort();
    assert_eq!(copied, expected);

    // An export selects by position, and nothing of a broken one is sent.
    let letter = |n: usize| crate::support::sample::record(&format!("dead-{n}"), "t");
    let topic = format!("{}.dead-letter", scene.topic);
    for n in 0..3 {
        scene
            .publisher()
            .send_to(&topic, Some(1), None, Some(&letter(n)), &[]);
    }
    scene.flush();
    let exported = export(&scene, &["--id", "dead-0,dead-2"]);
    let broken = scene.file("broken.jsonl", &format!("{exported}{{\n"));
    let refused = redrive(&scene, &["--from", &path(&broken)]);
    refused.exits(2);
    assert!(refused.error.contains("line 3"), "{}", refused.error);
    let file = scene.file("export.jsonl", &exported);
    redrive(&scene, &["--from", &path(&file), "--job", "exported"]).exits(0);
    let found = copies(&scene);
    let of_export = found
        .iter()
        .filter(|copy| copy.header("ringback-job") == "exported");
    let mut copied: Vec<String> = of_export.map(|copy| copy.id().expect("an id")).collect();
    copied.sort();
    assert_eq!(copied, ["dead-0", "dead-2"]);
}

/// Returns what `dead-letter export` prints.
#[track_caller]
fn export(scene: &Scene<'_>, more: &[&str]) -> String {
    let place = ["--brokers", scene.broker.address(), "--topic", &scene.topic];
    let words = ["dead-letter", "export"];
    let done = ringback::output(&[&words[..], &place, more].concat());
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).expect("UTF-8")
}

#[test]
fn jobs_that_overlap_say_so_and_need_again() {
    let mut scene = Scene::new("jobs-overlap", Plan::default());
    scene.publish("x", 5);
    scene.publish("y", 5);
    scene.flush();
    replay(&scene, &["--tenant", "x", "--job", "first"]).exits(0);
    replay(&scene, &["--tenant", "y", "--job", "other"]).exits(0);
    let both = ["--tenant", "x,z", "--job", "second"];
    let refused = replay(&scene, &both);
    refused.exits(2);
    assert!(
        refused.error.contains("the job 'first' selects too"),
        "{}",
        refused.error
    );
    assert!(!refused.error.contains("'other'"), "{}", refused.error);
    assert_eq!(copies(&scene).len(), 10, "nothing was sent");
    replay(&scene, &[&both[..], &["--again"]].concat()).exits(0);
    assert_eq!(copies(&scene).len(), 15);
    // A finished job has nothing left, and its name is taken.
    let resumed = replay(&scene, &["--resume", "first"]);
    resumed.exits(0);
    assert!(
        resumed.error.contains("finished already"),
        "{}",
        resumed.error
    );
    let taken = replay(&scene, &["--tenant", "v", "--job", "first"]);
    taken.exits(2);
    assert!(
        taken.error.contains("ringback replay --resume first"),
        "{}",
        taken.error
    );
    replay(&scene, &["--tenant", "v", "--job", "none"]).exits(5);
    // Records that came after a job are of none.
    scene.publish("x", 3);
    scene.flush();
    assert_eq!(copies(&scene).len(), 15);
}

#[test]
fn a_cancelled_job_stops_where_it_is_and_is_not_resumed() {
    let mut scene = Scene::new("jobs-cancel", Plan::default());
    scene.publish("t", 300);
    scene.flush();
    let mut running = start(
        &scene,
        &["replay", "--tenant", "t", "--rate", "20", "--job", "slow"],
    );
    wait::until("the first copies", || !copies(&scene).is_empty());
    // Another process cannot start it once more, and a resumed one takes it over.
    replay(&scene, &["--tenant", "t", "--job", "slow"]).exits(2);
    let cancelled = jobs(&scene, &["cancel", "slow"]);
    cancelled.exits(0);
    let status = running.wait(wait::PATIENCE);
    assert_eq!(status.code(), Some(1));
    assert!(
        running.log().contains("the job was cancelled"),
        "{}",
        running.log()
    );
    let listed = jobs(&scene, &["list", "--output", "json"]).exits(0).json();
    let copied = copies(&scene).len();
    assert_eq!(listed[0]["state"], json!("cancelled"));
    assert_eq!(listed[0]["sent"], json!(copied));
    assert!(copied < 300);
    replay(&scene, &["--resume", "slow"]).exits(2);
    jobs(&scene, &["cancel", "slow"]).exits(2);
    jobs(&scene, &["cancel", "unheard"]).exits(2);
}
