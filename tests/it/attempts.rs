//! Attempts, the waits between them, and how they end.

use crate::support::dead_letters::FoundRecord;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::{ports, sample, wait};
use std::collections::HashMap;
use std::time::Duration;

#[test]
fn ten_failed_attempts_end_among_the_dead_letters_with_their_history() {
    let mut scene = Scene::new("ten-attempts", Plan::default());
    scene.tenant("dead", Behaviour::Always(503));
    let ringback = scene.run("a");
    scene.publish("dead", 500);
    let dead = scene.dead_letters_of(500);

    assert_eq!((dead.len(), scene.receiver.count()), (500, 5_000));
    scene.account().assert_exact();
    for (id, posts) in scene.receiver.posts() {
        let attempts: Vec<u8> = posts.iter().map(|p| p.attempt).collect();
        assert_eq!(attempts, (1..=10).collect::<Vec<u8>>(), "{id}");
    }
    for found in &dead {
        check_history(&scene, found);
    }
    ringback.until("500 dead letters counted", |metrics| {
        metrics.disposed("dead_lettered") == 500
    });
    let metrics = ringback.metrics();
    assert_eq!(metrics.disposed("delayed"), 4_500);
    let failed = metrics.count("ringback_attempts_total", &[("outcome", "http_5xx")]);
    assert_eq!(failed, 5_000);
    let log = ringback.log();
    check_lines(&scene, &log);
    assert!(
        !log.contains(sample::PHONE_NUMBER),
        "personal data in the log"
    );
    ringback.drain();
}

/// Checks the log: each failed attempt has a line, or is counted in the tenant's
/// next line. Attempts after the last line are in none yet.
fn check_lines(scene: &Scene<'_>, log: &str) {
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"));
    let failed: Vec<_> = lines.filter(|l| l["message"] == "attempt failed").collect();
    let mut reported = 0;
    for line in &failed {
        assert_eq!(line["tenant"], "dead", "{line}");
        assert_eq!(
            (&line["class"], &line["status"]),
            (&"http_5xx".into(), &503.into())
        );
        let record = line["record"].as_str().unwrap_or_default();
        assert!(record.starts_with(&scene.topic), "{line}");
        // A diverted record's first attempt is made from the delay topic too.
        let delayed = scene.delay_topic("200ms");
        let first = line["attempt"] == 1 && line["topic"] == *scene.topic;
        assert!(first || line["topic"] == *delayed, "{line}");
        let number = |name: &str| {
            line[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {line}"))
        };
        assert!((1..=10).contains(&number("attempt")), "{line}");
        assert!(number("partition") < u64::from(scene.plan.partitions));
        assert!(number("duration_ms") < 5_200, "{line}");
        number("offset");
        assert!(
            line["advice"]
                .as_str()
                .is_some_and(|advice| !advice.is_empty())
        );
        reported += 1 + number("left_out");
    }
    assert!(
        (2_500..=5_000).contains(&reported),
        "{reported} of {}",
        failed.len()
    );
}

fn check_history(scene: &Scene<'_>, found: &FoundRecord) {
    let id = found.id().expect("the value is the record's own");
    assert_eq!(found.key.as_deref(), Some(id.as_bytes()));
    assert_eq!(found.value.as_deref(), Some(&*sample::record(&id, "dead")));
    for (name, text) in [
        ("ringback-reason", "attempts_exhausted"),
        ("ringback-attempts-made", "10"),
        ("ringback-confirmed", "10"),
        ("ringback-error", "http_5xx"),
        ("ringback-status", "503"),
    ] {
        assert_eq!(found.header(name), text, "{name} of {id}");
    }
    // 500 records at once may fill the tenant's lane, which spends no attempt.
    assert!(found.number("ringback-diverts") >= 0);
    let origin: Vec<&str> = found.header("ringback-origin").split('/').collect();
    assert_eq!((origin.len(), origin[0]), (3, scene.topic.as_str()));
    let (published, first, last) = (
        found.number("ringback-published-at"),
        found.number("ringback-first-at"),
        found.number("ringback-last-at"),
    );
    assert!(published <= first && first + 9 * 200 <= last, "{id}");
}

#[test]
fn a_record_that_fails_twice_is_delivered_and_no_lag_stays() {
    let mut scene = Scene::new("fails-twice", Plan::default());
    scene.tenant("slow-starter", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    scene.publish("slow-starter", 100);
    scene.until_delivered();
    scene.account().assert_exact();
    assert_eq!(scene.receiver.count(), 300);
    ringback.until("100 deliveries counted", |metrics| {
        metrics.disposed("delivered") == 100 && metrics.disposed("delayed") == 200
    });
    ringback.until("no lag", |metrics| {
        metrics.count("ringback_lag_records", &[]) == 0
            && metrics.count("ringback_unfinished_records", &[]) == 0
    });
    wait::until("Kafka's own tool to show no lag", || {
        let lags = lags(&scene);
        lags.len() == 8 && lags.values().all(|lag| lag == "0")
    });
    ringback.drain();
}

/// Returns the LAG of every partition of the group, from Kafka's own tool.
fn lags(scene: &Scene<'_>) -> HashMap<(String, String), String> {
    let output = scene
        .broker
        .consumer_groups(&["--describe", "--group", &scene.topic]);
    let rows = output.lines().map(|line| line.split_whitespace().collect());
    rows.filter(|row: &Vec<&str>| row.len() > 5 && row[0] == scene.topic)
        .map(|row| ((row[1].to_owned(), row[2].to_owned()), row[5].to_owned()))
        .collect()
}

#[test]
fn every_kind_of_failure_has_its_class() {
    let plan = Plan {
        attempts: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("classes", plan);
    let closed_port = format!("http://127.0.0.1:{}/", ports::free());
    scene.tenant_with(
        "connect",
        Behaviour::Ok,
        &serde_json::json!({ "url": closed_port }),
    );
    for (class, behaviour) in [
        ("timeout", Behaviour::Hang),
        ("reset", Behaviour::Close),
        ("http_3xx", Behaviour::Redirect),
        ("http_4xx", Behaviour::Always(404)),
        ("http_429", Behaviour::Always(429)),
        ("http_5xx", Behaviour::Always(500)),
        ("protocol", Behaviour::Always(600)),
    ] {
        scene.tenant(class, behaviour);
    }
    let ringback = scene.start("a", &["--timeout", "500ms"]).ready();
    let classes = [
        "connect", "timeout", "reset", "http_3xx", "http_4xx", "http_429", "http_5xx", "protocol",
    ];
    for class in classes {
        scene.publish_record(class, class);
    }
    for found in scene.dead_letters_of(classes.len()) {
        let id = found.id().expect("a readable record");
        assert_eq!(found.header("ringback-error"), id);
        assert_eq!(found.header("ringback-reason"), "attempts_exhausted");
        assert_eq!(found.header("ringback-attempts-made"), "2");
    }
    assert_eq!(scene.receiver.strays(), 0, "a redirect was followed");
    assert_eq!(scene.receiver.count(), 2 * (classes.len() - 1));
    let metrics = ringback.metrics();
    for class in classes {
        for attempt in ["1", "2"] {
            let labels = [("outcome", class), ("attempt", attempt)];
            let counted = metrics.count("ringback_attempts_total", &labels);
            assert_eq!(counted, 1, "{class}, attempt {attempt}");
        }
    }
    ringback.drain();
}

#[test]
fn an_egress_proxy_that_cannot_be_reached_is_not_held_against_tenants() {
    let plan = Plan {
        attempts: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("proxy-down", plan);
    scene.tenant("t", Behaviour::Ok);
    // Nothing listens at this port.
    let proxy = ["--proxy", "http://user:proxy-password@127.0.0.1:1"];
    let ringback = scene.start("a", &proxy).ready();
    for record in ["r-1", "r-2", "r-3"] {
        scene.publish_record(record, "t");
    }
    for found in scene.dead_letters_of(3) {
        assert_eq!(found.header("ringback-error"), "proxy");
        assert_eq!(found.header("ringback-attempts-made"), "2");
    }
    let metrics = ringback.metrics();
    let proxy = [("outcome", "proxy")];
    assert_eq!(metrics.count("ringback_attempts_total", &proxy), 6);
    for gauge in ["ringback_tenant_failing", "ringback_tenants_attempted"] {
        assert_eq!(metrics.count(gauge, &[]), 0, "{gauge}");
    }
    assert!(!ringback.log().contains("proxy-password"));
    ringback.drain();
}

#[test]
fn retry_after_chooses_a_delay_that_is_long_enough() {
    let plan = Plan {
        delays: "200ms,2s",
        delay_min: Duration::from_secs(1),
        ..Plan::default()
    };
    let mut scene = Scene::new("retry-after", plan);
    scene.tenant("busy", Behaviour::RetryAfter(1));
    let ringback = scene.run("a");
    scene.publish("busy", 20);
    scene.until_delivered();
    let account = scene.account();
    account.assert_exact();
    assert!(
        account.shortest_gap >= Some(Duration::from_secs(2)),
        "{account}"
    );
    ringback.drain();
}
