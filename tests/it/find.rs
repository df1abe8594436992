//! `ringback find` and `ringback dead-letter` against a running service.

use crate::support::receiver::Behaviour;
use crate::support::ringback::{self, Ringback};
use crate::support::sample;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use serde_json::Value;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

/// Runs a command that reads, on the topic and group of the scene.
fn read(scene: &Scene<'_>, words: &[&str]) -> Output {
    let place = ["--brokers", scene.broker.address(), "--topic", &scene.topic];
    ringback::output(&[words, &place[..], &["--group", &scene.topic]].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints UTF-8")
}

/// Runs a command that must succeed, and returns its objects.
#[track_caller]
fn objects(scene: &Scene<'_>, words: &[&str]) -> Vec<Value> {
    let done = read(scene, words);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{out}{err}");
    assert!(
        !(out + &err).contains(sample::PHONE_NUMBER),
        "personal data"
    );
    json_lines(&done.stdout)
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let lines = text(bytes);
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("each line is an object"))
        .collect()
}

/// Returns the fates of one id.
#[track_caller]
fn fates(scene: &Scene<'_>, id: &str) -> Vec<String> {
    let done = read(scene, &["find", "--output", "json", id]);
    let found = json_lines(&done.stdout);
    let fates = found[0]["conclusions"].as_array().expect("a list");
    let fates = fates.iter().map(|c| c["fate"].as_str().expect("a name"));
    fates.map(str::to_owned).collect()
}

#[track_caller]
fn until_fate(scene: &Scene<'_>, id: &str, fate: &str) {
    wait::until(&format!("{id} to be {fate}"), || fates(scene, id) == [fate]);
}

#[test]
fn a_record_is_found_in_each_state() {
    let plan = Plan {
        partitions: 2,
        delays: "1h",
        delay_min: Duration::from_secs(3_600),
        attempts: 10,
    };
    let mut scene = Scene::new("find", plan);
    let one = serde_json::json!({ "maxInFlight": 1 });
    scene.tenant("ok", Behaviour::Ok);
    scene.tenant("down", Behaviour::Always(503));
    scene.tenant_with("hangs", Behaviour::Slow(Duration::from_secs(4)), &one);
    scene.publish_record("find-delivered", "ok");
    scene.publish_record("find-delayed", "down");
    scene.publish_record("find-skipped", "unlisted");
    let mut large = sample::record("find-large", "ok");
    large.resize(70_000, b' ');
    scene.send(&scene.topic, Some(b"ok"), Some(&large), &[]);
    scene.flush();
    let service = scene.start("a", &["--record-max-bytes", "64KiB"]).ready();
    until_fate(&scene, "find-delivered", "delivered_or_skipped");
    until_fate(&scene, "find-skipped", "delivered_or_skipped");
    until_fate(&scene, "find-delayed", "delayed");
    until_fate(&scene, "find-large", "dead_letter");

    let ids = ["find-delayed", "find-large", "find-none"];
    let found = objects(&scene, &[&["find", "--output", "json"], &ids[..]].concat());
    let fate = |index: usize| found[index]["conclusions"][0]["fate"].clone();
    assert_eq!((found.len(), fate(2)), (3, "not_found".into()));
    let places = found[0]["places"].as_array().expect("a list");
    assert_eq!((&places[0]["state"], places.len()), (&"finished".into(), 2));
    let delayed = &places[1];
    assert_eq!(delayed["state"], "waiting");
    assert_eq!(
        (&delayed["attemptsMade"], &delayed["status"]),
        (&1.into(), &503.into())
    );
    assert_eq!(delayed["origin"], places[0]["position"]);
    assert!(delayed["dueAt"].as_str() > delayed["writtenAt"].as_str());
    let letter = &found[1]["places"][1];
    assert_eq!(
        (&letter["reason"], &letter["state"]),
        (&"too_large".into(), &Value::Null)
    );

    until_one_attempt_is_in_progress(&mut scene);

    let table = read(&scene, &["find", "find-delayed"]);
    let (out, err) = (text(&table.stdout), text(&table.stderr));
    assert!(
        out.contains("=> waiting in it-find.delay.1h, due "),
        "{out}"
    );
    assert!(out.contains("1 attempt made, last http_5xx 503"), "{out}");
    assert!(
        err.contains("ringback: read ") && !out.contains("ringback: "),
        "{err}"
    );
    service.kill();
    check_refusals(&scene);
}

/// While an attempt lasts, the other records of its tenant wait: 20 attempts of 4 s,
/// one at a time, are longer than a look.
fn until_one_attempt_is_in_progress(scene: &mut Scene<'_>) {
    let ids: Vec<String> = (0..20).map(|n| format!("find-slow-{n}")).collect();
    for id in &ids {
        scene.publish_record(id, "hangs");
    }
    scene.flush();
    let words = ["find", "--output", "json"].into_iter();
    let words: Vec<&str> = words.chain(ids.iter().map(String::as_str)).collect();
    wait::until("an attempt in progress, with a record behind it", || {
        let found = json_lines(&read(scene, &words).stdout);
        let is_some = |fate: &str| {
            found
                .iter()
                .any(|one| one["conclusions"][0]["fate"] == fate)
        };
        is_some("in_progress") && is_some("untried")
    });
}

fn check_refusals(scene: &Scene<'_>) {
    let check = |words: &[&str], code: i32, said: &str| {
        let done = read(scene, words);
        let all = text(&done.stdout) + &text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{words:?}: {all}");
        assert!(all.contains(said), "{words:?}: {all}");
    };
    check(&["find", "find-none"], 5, "not found: 'it-find'");
    check(&["find", "--tenant", "ok", "find-delayed"], 5, "not found");
    check(&["find", "--since", "0s", "find-delayed"], 5, "not found");
    check(&["find", "a b"], 2, "visible ASCII");
    check(
        &["find", "--since", "2100-01-01T00:00:00Z", "x"],
        2,
        "in the future",
    );
    check(
        &["find", "--since", "soon", "--tenant", "", "x"],
        2,
        "2 mistakes",
    );
    check(
        &["find", "--output", "xml", "x"],
        2,
        "possible values: table, json",
    );
    check(&["find"], 2, "required");
    let list = ["dead-letter", "list"];
    check(&[&list[..], &["--tenant", "no-such"]].concat(), 5, "read ");
    check(
        &[&list[..], &["--reason", "dead"]].concat(),
        2,
        "attempts_exhausted",
    );
    check(
        &["dead-letter", "show", "it-find/0/0"],
        2,
        "'it-find.dead-letter'",
    );
    check(&["dead-letter", "show", "x"], 2, "topic/partition/offset");
    check(&["dead-letter", "show", "it-find.dead-letter/0/999"], 5, "");
    check(&["dead-letter", "show", "it-find.dead-letter/99/0"], 5, "");
    let away = ["dead-letter", "summary", "--topic", "it-find-away"];
    let head = ["--brokers", scene.broker.address()];
    let done = ringback::output(&[&away[..], &head].concat());
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("'it-find-away.dead-letter' does not exist"));
}

/// Makes two dead letters of a real record, an undecodable one, and one of an older
/// version.
fn dead_letters(name: &str) -> (Scene<'static>, Ringback) {
    let plan = Plan {
        partitions: 1,
        attempts: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new(name, plan);
    scene.tenant("down", Behaviour::Always(503));
    scene.publish_record("dead-1", "down");
    scene.publish_record("dead-2", "down");
    scene.send(&scene.topic, None, Some(b"not json"), &[("x", "y")]);
    let old = format!("{}.dead-letter", scene.topic);
    scene.send(&old, None, Some(&sample::record("dead-old", "other")), &[]);
    scene.flush();
    let service = scene.run("a");
    scene.dead_letters_of(4);
    (scene, service)
}

#[test]
fn dead_letters_are_listed_counted_and_shown_without_personal_data() {
    let (scene, service) = dead_letters("dead-letter");
    let list = |more: &[&str]| {
        let words = [&["dead-letter", "list", "--output", "json"], more].concat();
        objects(&scene, &words)
    };
    let all = list(&[]);
    assert_eq!(all.len(), 4);
    let ids = |found: &[Value]| {
        let mut ids: Vec<String> = found.iter().map(|o| o["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(
        ids(&all),
        ["\"dead-1\"", "\"dead-2\"", "\"dead-old\"", "null"]
    );
    for (filter, expected) in [
        (["--tenant", "down"], &["\"dead-1\"", "\"dead-2\""][..]),
        (
            ["--tenant", "down,other"],
            &["\"dead-1\"", "\"dead-2\"", "\"dead-old\""],
        ),
        (["--reason", "undecodable"], &["null"]),
        (["--error", "http_5xx"], &["\"dead-1\"", "\"dead-2\""]),
        (["--status", "503"], &["\"dead-1\"", "\"dead-2\""]),
        (["--id", "dead-2"], &["\"dead-2\""]),
        (
            ["--since", "1h"],
            &["\"dead-1\"", "\"dead-2\"", "\"dead-old\"", "null"],
        ),
    ] {
        assert_eq!(ids(&list(&filter)), expected, "{filter:?}");
    }
    let origin = all
        .iter()
        .find(|o| o["id"] == "dead-1")
        .expect("it is there");
    let origin = origin["origin"].as_str().expect("a position");
    assert_eq!(ids(&list(&["--origin", origin])), ["\"dead-1\""]);
    let done = read(&scene, &["dead-letter", "list", "--until", "1h"]);
    assert_eq!(done.status.code(), Some(5));

    let table = text(&read(&scene, &["dead-letter", "list"]).stdout);
    let old = table.lines().find(|line| line.contains("dead-old"));
    let cells: Vec<&str> = old.expect("it is listed").split_whitespace().collect();
    assert_eq!(cells[2..], ["-", "-", "-", "other", "dead-old"], "{table}");

    check_summary(&scene);
    check_show(&scene, &all);
    service.drain();
}

fn check_summary(scene: &Scene<'_>) {
    let counts = objects(scene, &["dead-letter", "summary", "--output", "json"]);
    let count = |by: &str, value: &str| {
        let found = counts.iter().find(|c| c["by"] == by && c["value"] == value);
        found.map_or(0, |c| c["count"].as_u64().expect("a number"))
    };
    assert_eq!((count("tenant", "down"), count("tenant", "-")), (2, 1));
    assert_eq!(
        (count("reason", "attempts_exhausted"), count("reason", "-")),
        (2, 1)
    );
    assert_eq!((count("error", "http_5xx"), count("error", "-")), (2, 2));
    let hours = counts.iter().filter(|c| c["by"] == "hour");
    assert_eq!(
        hours
            .map(|c| c["count"].as_u64().expect("a number"))
            .sum::<u64>(),
        4
    );
}

fn check_show(scene: &Scene<'_>, all: &[Value]) {
    let position = all
        .iter()
        .find(|o| o["id"] == "dead-1")
        .expect("it is there");
    let position = position["position"].as_str().expect("a position");
    let shown = text(&read(scene, &["dead-letter", "show", position]).stdout);
    assert!(shown.contains("attempts made     2"), "{shown}");
    assert!(!shown.contains(sample::PHONE_NUMBER), "personal data");
    let shown = text(&read(scene, &["dead-letter", "show", "--body", position]).stdout);
    assert!(shown.contains(sample::PHONE_NUMBER), "{shown}");
}

#[test]
fn an_export_is_published_again() {
    let (mut scene, service) = dead_letters("export");
    let plain = objects(&scene, &["dead-letter", "export", "--tenant", "down"]);
    assert_eq!(plain.len(), 2);
    assert!(plain.iter().all(|line| line.get("record").is_none()));
    let full = read(&scene, &["dead-letter", "export", "--body"]);
    assert_eq!(json_lines(&full.stdout).len(), 4);

    scene.tenant("down", Behaviour::Ok);
    scene.tenant("other", Behaviour::Ok);
    service.until("both tenants", |metrics| {
        metrics.sum("ringback_tenants", &[]) >= 2.0
    });
    let said = publish(&scene, &full.stdout);
    assert!(
        said.contains("3 acknowledged, 0 failed, 1 lines refused"),
        "{said}"
    );
    wait::until("the deliveries", || scene.receiver.successes() == 3);
    let said = publish(&scene, &read(&scene, &["dead-letter", "export"]).stdout);
    assert!(
        said.contains("0 acknowledged, 0 failed, 4 lines refused"),
        "{said}"
    );
    assert!(said.contains("export with --body"), "{said}");
    service.drain();
}

/// Gives lines to `publish -`, and returns what it says.
fn publish(scene: &Scene<'_>, lines: &[u8]) -> String {
    let arguments = [
        "publish",
        "-",
        "--brokers",
        scene.broker.address(),
        "--topic",
        &scene.topic,
    ];
    let mut child = ringback::command(&arguments.map(str::to_owned))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(lines).expect("the program reads it");
    drop(input);
    let done = child.wait_with_output().expect("its output can be read");
    text(&done.stdout) + &text(&done.stderr)
}
