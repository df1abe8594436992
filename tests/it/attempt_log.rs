//! The attempt log of a running service, and what `find` shows of it.

use crate::support::dead_letters;
use crate::support::receiver::Behaviour;
use crate::support::ringback;
use crate::support::sample;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

const DROPPED: &str = "ringback_attempt_log_dropped_total";

fn plan() -> Plan {
    Plan {
        partitions: 2,
        delays: "200ms",
        delay_min: Duration::from_millis(200),
        attempts: 2,
    }
}

/// Runs a command on the topic of the scene.
fn run(scene: &Scene<'_>, words: &[&str]) -> Output {
    let place = ["--brokers", scene.broker.address(), "--topic", &scene.topic];
    ringback::output(&[words, &place[..]].concat())
}

#[track_caller]
fn create_log_topic(scene: &Scene<'_>) {
    let words = ["topics", "create", "--attempt-log", "--delays", "200ms"];
    let done = run(scene, &words);
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{out}");
    let made = format!("{}.attempts created: 2 partitions, 1 replica", scene.topic);
    assert!(out.contains(&made), "{out}");
    assert!(out.contains("retention.ms=604800000"), "{out}");
}

/// Returns the entries of the log by record id, in the order of the attempts.
fn entries(scene: &Scene<'_>) -> BTreeMap<String, Vec<Value>> {
    let mut by_id: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let topic = format!("{}.attempts", scene.topic);
    for record in dead_letters::read(scene.broker, &topic) {
        let text = String::from_utf8(record.value.expect("an entry")).expect("UTF-8");
        assert!(!text.contains(sample::PHONE_NUMBER), "personal data");
        let entry: Value = serde_json::from_str(&text).expect("JSON");
        let id = entry["recordId"].as_str().expect("a text").to_owned();
        assert_eq!(record.key.as_deref(), Some(id.as_bytes()), "the key");
        by_id.entry(id).or_default().push(entry);
    }
    for entries in by_id.values_mut() {
        entries.sort_by_key(|entry| entry["attempt"].as_u64());
    }
    by_id
}

#[test]
fn each_attempt_has_an_entry_and_find_shows_it() {
    let mut scene = Scene::new("attempt-log", plan());
    create_log_topic(&scene);
    scene.tenant("ok", Behaviour::Ok);
    scene.tenant("down", Behaviour::Always(503));
    scene.publish_record("logged-ok", "ok");
    scene.publish_record("logged-down", "down");
    scene.send_record("logged-skipped", "unlisted");
    scene.flush();
    let service = scene.start("a", &["--attempt-log"]).ready();
    scene.dead_letters_of(1);
    scene.until_settled();
    // A drain waits for the last entries.
    service.drain();

    let entries = entries(&scene);
    let ids: Vec<&str> = entries.keys().map(String::as_str).collect();
    assert_eq!(ids, ["logged-down", "logged-ok"]);
    let down = &entries["logged-down"];
    let attempts: Vec<&Value> = down.iter().map(|entry| &entry["attempt"]).collect();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(down[0]["origin"], down[1]["origin"]);
    let source = format!("{}/", scene.topic);
    for entry in down {
        assert_eq!(
            (&entry["outcome"], &entry["status"]),
            (&"http_5xx".into(), &503.into())
        );
        assert_eq!(
            (&entry["tenantId"], &entry["instance"]),
            (&"down".into(), &"a".into())
        );
        assert!(
            entry["origin"]
                .as_str()
                .is_some_and(|o| o.starts_with(&source))
        );
        assert!(
            entry["durationMs"].is_u64() && entry["startedAt"].is_string(),
            "{entry}"
        );
    }
    assert!(down[0]["startedAt"].as_str() < down[1]["startedAt"].as_str());
    assert_eq!(entries["logged-ok"][0]["outcome"], "delivered");

    let words = ["find", "--output", "json", "--group", &scene.topic];
    let found = run(
        &scene,
        &[&words[..], &["logged-ok", "logged-down"]].concat(),
    );
    let text = String::from_utf8(found.stdout).expect("UTF-8");
    let found: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(found[0]["conclusions"][0]["fate"], "delivered", "{text}");
    assert_eq!(
        found[1]["attempts"].as_array().map(Vec::len),
        Some(2),
        "{text}"
    );
}

#[test]
fn a_log_without_a_topic_costs_entries_and_no_delivery() {
    let mut scene = Scene::new("attempt-log-away", plan());
    scene.tenant("ok", Behaviour::Ok);
    let settings = [
        "check-config",
        "--connect",
        "--attempt-log",
        "--delays",
        "200ms",
    ];
    let tenants = scene.tenants_file();
    let tenants = ["--tenants", tenants.to_str().expect("UTF-8")];
    let networks = ["--allow-networks", scene.allow_networks];
    let checked = run(&scene, &[&settings[..], &tenants, &networks].concat());
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let missing =
        "warning: the topic of the attempt log 'it-attempt-log-away.attempts' does not exist";
    assert!(checked.status.success() && said.contains(missing), "{said}");

    // librdkafka then gives a missing topic up soon, and finds a new one soon.
    let soon = "topic.metadata.propagation.max.ms=100";
    let again = "topic.metadata.refresh.interval.ms=200";
    let more = ["--attempt-log=on", "--kafka", soon, "--kafka", again];
    let service = scene.start("a", &more).ready();
    scene.publish("ok", 50);
    scene.until_delivered();
    service.until("the entries to be dropped", |metrics| {
        metrics.count(DROPPED, &[("reason", "refused")]) == 50
    });
    assert_eq!(service.page("/healthz"), Some(200));
    let log = service.log();
    let lines = log.matches("an attempt is missing in the attempt log");
    // One line for each reason in 30 s, and a busy machine takes its time.
    assert!((1..10).contains(&lines.count()), "{log}");

    create_log_topic(&scene);
    wait::until("an entry in the new topic", || {
        scene.publish("ok", 1);
        scene.until_delivered();
        !entries(&scene).is_empty()
    });
    scene.until_settled();
    service.kill();
}
