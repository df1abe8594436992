//! Tenants in a compacted topic: `--tenants topic:NAME`.

use crate::support::broker::Broker;
use crate::support::ringback::{self, Ringback};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A scene with a tenants topic, which `topics create` makes.
struct Topic<'b> {
    scene: Scene<'b>,
    name: String,
}

impl Topic<'static> {
    fn new(name: &str) -> Self {
        let mut scene = Scene::new(name, Plan::default());
        let name = format!("{}-tenants", scene.topic);
        scene.tenants_at = Some(format!("topic:{name}"));
        let topic = Self { scene, name };
        let place = topic.place();
        let made = ringback::output(&[
            "topics",
            "create",
            "--brokers",
            topic.scene.broker.address(),
            "--topic",
            &topic.scene.topic,
            "--delays",
            topic.scene.plan.delays,
            "--tenants",
            &place,
        ]);
        let told = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(made.status.success(), "{told}");
        let line = format!("{} created: 1 partition", topic.name);
        assert!(
            told.contains(&line) && told.contains("cleanup.policy=compact"),
            "{told}"
        );
        topic
    }
}

impl Topic<'_> {
    fn place(&self) -> String {
        format!("topic:{}", self.name)
    }

    fn write(&self, tenant: &str, value: Option<&str>) {
        let value = value.map(str::as_bytes);
        self.scene
            .send(&self.name, Some(tenant.as_bytes()), value, &[]);
        self.scene.flush();
    }

    /// Writes a tenant whose callback leads to the receiver.
    fn set(&self, tenant: &str) {
        let entry = serde_json::json!({ "url": self.scene.receiver.url(tenant) });
        self.write(tenant, Some(&entry.to_string()));
    }

    /// `run` or another command with tenants at this place, without
    /// `--allow-no-tenants`.
    fn arguments(&mut self, command: &str, place: &str) -> Vec<String> {
        self.scene.tenants_at = Some(place.to_owned());
        let mut all = self.scene.arguments("a");
        all.retain(|argument| argument != "--allow-no-tenants");
        all[0] = command.to_owned();
        all
    }

    fn start(&self) -> Ringback {
        self.scene.start("a", &[])
    }
}

#[test]
fn entries_of_the_topic_are_followed_and_a_wrong_one_is_refused_alone() {
    let topic = Topic::new("topic-followed");
    topic.set("a");
    topic.set("b");
    let ringback = topic.start().ready();
    topic.scene.send_record("followed-1", "a");
    ringback.until("the delivery", |m| m.disposed("delivered") == 1);

    topic.set("c");
    let written = Instant::now();
    ringback.until("three tenants", |metrics| {
        metrics.count("ringback_tenants", &[("state", "healthy")]) == 3
    });
    println!("in force after {:?}", written.elapsed());
    // Two seconds more than promised, for a busy machine.
    assert!(written.elapsed() < Duration::from_secs(3));
    topic.scene.send_record("followed-2", "c");
    ringback.until("the delivery", |m| m.disposed("delivered") == 2);

    topic.write("a", Some(r#"{"url":"ftp://hunter2.example/"}"#));
    topic.write("wrong", Some("hunter2"));
    ringback.until("two refused entries", |metrics| {
        metrics.count("ringback_tenants_refused", &[]) == 2
            && metrics.count("ringback_tenants_last_reload_successful", &[]) == 0
    });
    let named = "tenant \"a\", url: scheme 'ftp'";
    let page = ringback.says("/");
    assert!(
        page.contains("Refused entries of the tenants topic"),
        "{page}"
    );
    assert!(ringback.says("/statusz").contains("refused_entries"));
    let log = ringback.log().replace("\\\"", "\"");
    assert!(log.contains(named), "{log}");
    for text in [page, log, ringback.says("/statusz")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    topic.scene.send_record("followed-3", "a");
    ringback.until("the last good entry of a", |m| m.disposed("delivered") == 3);

    topic.write("wrong", None);
    topic.write("b", None);
    topic.set("a");
    ringback.until("no refused entry", |metrics| {
        metrics.count("ringback_tenants_refused", &[]) == 0
            && metrics.count("ringback_tenants", &[("state", "healthy")]) == 2
    });
    topic.scene.send_record("followed-4", "b");
    ringback.until("the skip", |m| m.disposed("skipped") == 1);

    ringback.signal(Signal::HUP);
    wait::until("the second reading", || {
        let log = ringback.log();
        let read = "the entries of the tenants topic are in force";
        log.lines().filter(|line| line.contains(read)).count() >= 5
    });
    topic.scene.send_record("followed-5", "c");
    ringback.until("the delivery", |m| m.disposed("delivered") == 4);
    ringback.drain();
}

#[test]
fn no_record_is_skipped_before_the_end_of_the_topic_is_read() {
    let topic = Topic::new("topic-first");
    for number in 0..2_000 {
        let entry = r#"{"url":"http://h.invalid/"}"#;
        let tenant = format!("t{number}");
        topic.scene.send(
            &topic.name,
            Some(tenant.as_bytes()),
            Some(entry.as_bytes()),
            &[],
        );
    }
    topic.set("last");
    for number in 0..20 {
        topic.scene.send_record(&format!("first-{number}"), "last");
    }
    topic.scene.flush();
    let ringback = topic.start();
    wait::until("20 deliveries", || topic.scene.receiver.successes() == 20);
    let ringback = ringback.ready();
    ringback.until("2001 tenants", |metrics| {
        metrics.disposed("delivered") == 20
            && metrics.count("ringback_tenants", &[("state", "healthy")]) == 2_001
    });
    assert_eq!(ringback.metrics().disposed("skipped"), 0);
    ringback.drain();
}

#[test]
fn a_topic_that_is_not_compacted_or_has_no_enabled_tenant_ends_the_start() {
    let mut topic = Topic::new("topic-wrong");
    let broker = Broker::shared();
    let plain = format!("{}-plain", topic.name);
    broker.create_topic(&plain, 1, &[("cleanup.policy", "compact,delete")]);
    for (place, named) in [
        (format!("topic:{plain}"), "cleanup.policy="),
        (topic.place(), "--allow-no-tenants"),
    ] {
        let run = topic.arguments("run", &place);
        let mut check = topic.arguments("check-config", &place);
        check.push("--connect".to_owned());
        for arguments in [run, check] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let done = ringback::output(&arguments);
            let told = [done.stdout, done.stderr].concat();
            let told = String::from_utf8_lossy(&told);
            assert_eq!(done.status.code(), Some(2), "{told}");
            assert!(told.contains(named), "{told}");
        }
    }
    topic.set("t");
    topic.write("u", Some("{}"));
    let place = topic.place();
    let mut check = topic.arguments("check-config", &place);
    check.push("--connect".to_owned());
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    let done = ringback::output(&check);
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert!(told.contains("1 tenants, 1 enabled"), "{told}");
    assert!(told.contains("1 entries are refused"), "{told}");
}

#[test]
fn a_start_waits_for_a_topic_that_does_not_exist_yet() {
    let mut topic = Topic::new("topic-later");
    let later = format!("{}-later", topic.name);
    topic.scene.tenants_at = Some(format!("topic:{later}"));
    let ringback = topic.start();
    wait::until("/readyz to name the topic", || {
        ringback.page("/readyz") == Some(503) && ringback.says("/readyz").contains(&later)
    });
    assert_eq!(ringback.page("/healthz"), Some(200));
    let compacted = [("cleanup.policy", "compact")];
    Broker::shared().create_topic(&later, 2, &compacted);
    ringback.ready().drain();

    topic.scene.tenants_at = Some("topic:it-never-made".to_owned());
    let ringback = topic.start();
    // Signals have their handlers by then.
    wait::until("/readyz to name the topic", || {
        ringback.says("/readyz").contains("it-never-made")
    });
    ringback.drain();
}

/// Runs a `tenant` command on the topic, and returns its exit code and its texts.
fn tenant(topic: &Topic<'_>, arguments: &[&str]) -> (Option<i32>, String) {
    let place = topic.place();
    let brokers = [
        "--brokers",
        topic.scene.broker.address(),
        "--tenants",
        &place,
    ];
    let done = ringback::output(&[&["tenant"], arguments, &brokers].concat());
    let told = [done.stdout, done.stderr].concat();
    (
        done.status.code(),
        String::from_utf8_lossy(&told).into_owned(),
    )
}

#[test]
fn entries_are_written_only_after_a_check_and_an_import_says_what_it_changes() {
    let topic = Topic::new("topic-written");
    let file = |name: &str, text: &str| {
        let path = topic.scene.file(name, text);
        path.to_str()
            .expect("the build directory is UTF-8")
            .to_owned()
    };
    let secrets = file("secrets", "whsec_aHVudGVyMg==\n");
    let set = [
        "set",
        "a",
        "--url",
        "https://h.example/?t=hunter2",
        "--secret-file",
        &secrets,
    ];
    let (code, told) = tenant(&topic, &set);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = tenant(&topic, &["set", "a", "--url", "ftp://h", "--timeout", "9s"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("url: scheme 'ftp'") && told.contains("timeout"),
        "{told}"
    );
    let (code, told) = tenant(&topic, &["list"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("https://h.example"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");

    let entry = file(
        "entry.json",
        r#"{"url":"https://h.example/b","timeout":"2s"}"#,
    );
    let (code, told) = tenant(&topic, &["set", "b", "--from", &entry]);
    assert_eq!(code, Some(0), "{told}");
    let wrong = file("wrong.json", r#"{"c":{"url":"https://h/"},"d":{}}"#);
    let (code, told) = tenant(&topic, &["import", &wrong]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("tenant \"d\", url: missing"), "{told}");
    let all = file(
        "all.json",
        r#"{"b":{"url":"https://h.example/b","timeout":"2s"},"c":{"url":"https://h/"}}"#,
    );
    for (more, written) in [
        (&["--dry-run"][..], None),
        (&[], Some("1 entries were written")),
        (&["--prune"], Some("1 entries were written")),
    ] {
        let (code, told) = tenant(&topic, &[&["import", &all], more].concat());
        assert_eq!(code, Some(0), "{told}");
        let mut lines = told.lines();
        let has = |line: &str| told.lines().any(|told| told == line);
        let added = if more == ["--prune"] {
            "added: 0"
        } else {
            "added: 1"
        };
        assert!(has(added) && has("changed: 0"), "{told}");
        assert!(told.contains("  \"a\""), "{told}");
        let last = lines.next_back().unwrap_or_default();
        assert_eq!(last.contains("were written"), written.is_some(), "{told}");
    }
    assert_eq!(tenant(&topic, &["show", "a"]).0, Some(5), "it was removed");
    assert_eq!(tenant(&topic, &["show", "b"]).0, Some(0));
    assert_eq!(tenant(&topic, &["remove", "c"]).0, Some(0));
    assert_eq!(tenant(&topic, &["remove", "c"]).0, Some(5));
}

#[test]
fn commands_that_write_refuse_tenants_in_files() {
    let done = ringback::output(&["tenant", "set", "a", "--url", "https://h/"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(told.contains("edit the file"), "{told}");
}
