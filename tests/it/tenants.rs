//! The tenants: who gets callbacks, and changes while the service runs.

use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::{Duration, Instant};

#[test]
fn tenants_without_a_callback_are_skipped_and_counted() {
    let mut scene = Scene::new("skipped", Plan::default());
    scene.tenant("on", Behaviour::Ok);
    scene.tenant_with(
        "off",
        Behaviour::Ok,
        &serde_json::json!({ "enabled": false }),
    );
    let ringback = scene.run("a");
    for tenant in ["on", "off", "not-configured"] {
        scene.publish(tenant, 20);
    }
    ringback.until("40 skipped and 20 delivered", |metrics| {
        metrics.disposed("skipped") == 40 && metrics.disposed("delivered") == 20
    });
    assert_eq!(scene.receiver.count(), 20);
    assert!(scene.dead_letters().is_empty());
    ringback.drain();
}

#[test]
fn a_changed_file_is_in_force_within_a_second() {
    let mut scene = Scene::new("reload", Plan::default());
    scene.tenant("first", Behaviour::Ok);
    let ringback = scene.run("a");
    let changed = Instant::now();
    scene.tenant("second", Behaviour::Ok);
    ringback.until("the reload", |metrics| {
        metrics.count("ringback_tenants_reloads_total", &[("result", "ok")]) >= 1
    });
    // Two seconds more than promised, for a busy machine.
    assert!(changed.elapsed() < Duration::from_secs(3));
    scene.publish("second", 10);
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn a_bad_file_is_refused_whole_and_the_last_good_one_stays() {
    let mut scene = Scene::new("reload-refused", Plan::default());
    for tenant in ["a", "b", "c", "d"] {
        scene.tenant(tenant, Behaviour::Ok);
    }
    let ringback = scene.run("a");
    let bad = [
        "{",
        "",
        "{}",
        r#"{"a":{"url":"ftp://example.com/"},"b":{"url":"http://u:hunter2@example.com/"},"c":{"url":"http://example.com/","nope":1},"d":{}}"#,
        r#"{"a":{"url":"http://127.0.0.1:1/","secrets":["whsec_hunter2"]},"b":{"url":"http://h/","maxInFlight":0},"c":{"url":"http://h/","headers":{"x":"hunter2\r\nhost: i"}},"d":{"url":"http://h/","headers":{"Webhook-Id":"hunter2"}}}"#,
        r#"{"a":{"url":"http://127.0.0.1:1/"}}"#,
    ];
    for (text, refused) in bad.into_iter().zip(1..) {
        scene.write_tenants_text(text);
        ringback.until("the refusal", |metrics| {
            let labels = [("result", "refused")];
            metrics.count("ringback_tenants_reloads_total", &labels) >= refused
        });
        let successful = "ringback_tenants_last_reload_successful";
        assert_eq!(ringback.metrics().count(successful, &[]), 0, "{text}");
    }
    scene.publish("a", 10);
    scene.until_delivered();
    scene.account().assert_exact();
    let log = ringback.log();
    for named in [
        "ftp",
        "nope",
        "url",
        "secrets[0]",
        "maxInFlight",
        "headers.x",
        "headers.Webhook-Id",
    ] {
        assert!(log.contains(named), "the log does not name {named}");
    }
    assert!(!log.contains("hunter2"), "a password in the log");

    scene.tenant("e", Behaviour::Ok);
    ringback.until("the good file", |metrics| {
        metrics.count("ringback_tenants_last_reload_successful", &[]) == 1
    });
    ringback.drain();
}

#[test]
fn a_removed_tenants_records_are_skipped_when_they_come_due() {
    let plan = Plan {
        delays: "3s",
        ..Plan::default()
    };
    let mut scene = Scene::new("removed", plan);
    for tenant in ["stays", "other"] {
        scene.tenant(tenant, Behaviour::Ok);
    }
    let kept = std::fs::read_to_string(scene.tenants_file()).expect("it was written");
    scene.tenant("goes", Behaviour::Always(503));
    let ringback = scene.run("a");
    scene.publish("goes", 5);
    ringback.until("the first attempts", |metrics| {
        metrics.disposed("delayed") == 5
    });
    scene.write_tenants_text(&kept);
    ringback.until("the records to be skipped", |metrics| {
        metrics.disposed("skipped") == 5
    });
    assert_eq!(scene.receiver.count(), 5);
    assert!(scene.dead_letters().is_empty());
    ringback.until("no failing tenant", |metrics| {
        metrics.count("ringback_tenant_failing", &[]) == 0
            && metrics.count("ringback_lag_records", &[]) == 0
    });
    ringback.drain();
}

#[test]
fn a_corrected_url_helps_records_that_already_wait() {
    let plan = Plan {
        delays: "3s",
        ..Plan::default()
    };
    let mut scene = Scene::new("corrected-url", plan);
    scene.tenant("t", Behaviour::Always(404));
    let ringback = scene.run("a");
    scene.publish("t", 5);
    ringback.until("the first attempts", |metrics| {
        metrics.disposed("delayed") == 5
    });
    let right = serde_json::json!({ "url": scene.receiver.url("right") });
    scene.tenant_with("t", Behaviour::Always(404), &right);
    wait::until("the records at the right URL", || {
        scene.receiver.successes() == 5
    });
    assert_eq!(scene.receiver.count(), 10);
    ringback.drain();
}

#[test]
fn a_tenants_own_timeout_ends_its_attempts() {
    let plan = Plan {
        attempts: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("own-timeout", plan);
    let late = Behaviour::Slow(Duration::from_millis(1_500));
    scene.tenant_with("hasty", late, &serde_json::json!({ "timeout": "200ms" }));
    scene.tenant("patient", late);
    let ringback = scene.run("a");
    scene.publish("hasty", 2);
    scene.publish("patient", 2);
    ringback.until("both tenants' records to end", |metrics| {
        let timeouts = [("outcome", "timeout")];
        metrics.count("ringback_attempts_total", &timeouts) == 2
            && metrics.disposed("delivered") == 2
    });
    assert!(ringback.log().contains("no answer within 200 ms"));
    ringback.drain();
}

#[test]
fn denied_networks_are_not_reached_although_they_are_allowed() {
    let plan = Plan {
        attempts: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("denied", plan);
    scene.tenant("t", Behaviour::Ok);
    let denied = ["--deny-networks", "127.0.0.1,10.0.0.0/8"];
    let ringback = scene.start("a", &denied).ready();
    scene.publish("t", 2);
    ringback.until("both attempts to be refused", |metrics| {
        let refused = [("outcome", "refused_address")];
        metrics.count("ringback_attempts_total", &refused) == 2
    });
    assert_eq!(scene.receiver.count(), 0);
    ringback.drain();
}

#[test]
fn plain_http_is_refused_at_the_start_and_by_a_reload_where_https_is_required() {
    let mut scene = Scene::new("https-only", Plan::default());
    scene.tenant("plain", Behaviour::Ok);
    let (code, told) = scene.start("a", &["--require-https"]).ended();
    assert_eq!(code, 2, "{told}");
    // The service logs as JSON, in which quotes are escaped.
    let parts = [
        r#"tenant \"plain\", url"#,
        "scheme 'http' is refused: --require-https is on",
    ];
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");

    scene.write_tenants_text(r#"{"plain":{"url":"https://h.invalid/"}}"#);
    let ringback = scene.start("a", &["--require-https"]).ready();
    scene.write_tenants();
    ringback.until("the refusal", |metrics| {
        let refused = [("result", "refused")];
        metrics.count("ringback_tenants_reloads_total", &refused) == 1
    });
    assert!(ringback.log().contains("--require-https is on"));
    ringback.drain();
}

#[test]
fn the_files_of_a_directory_are_merged_and_a_tenant_stands_in_one_of_them() {
    let mut scene = Scene::new("directory", Plan::default());
    let directory = scene.tenants_file().with_file_name("tenants.d");
    std::fs::remove_dir_all(&directory).ok();
    std::fs::create_dir(&directory).expect("the build directory is writable");
    let place = directory.to_str().expect("the build directory is UTF-8");
    scene.tenants_at = Some(place.to_owned());
    let write = |file: &str, tenant: &str| {
        let tenants = serde_json::json!({ tenant: { "url": scene.receiver.url(tenant) } });
        std::fs::write(directory.join(file), tenants.to_string()).expect("writable");
    };
    write("a.json", "one");
    write("b.json", "two");
    let ringback = scene.start("a", &[]).ready();
    scene.send_record("directory-1", "one");
    scene.send_record("directory-2", "two");
    ringback.until("both deliveries", |m| m.disposed("delivered") == 2);

    write("c.json", "two");
    ringback.until("the refusal", |metrics| {
        let refused = [("result", "refused")];
        metrics.count("ringback_tenants_reloads_total", &refused) == 1
    });
    let log = ringback.log();
    assert!(log.contains("is in 'b.json' and in 'c.json'"), "{log}");
    write("c.json", "three");
    ringback.until("the reload", |metrics| {
        metrics.count("ringback_tenants_last_reload_successful", &[]) == 1
    });
    scene.send_record("directory-3", "three");
    ringback.until("the third delivery", |m| m.disposed("delivered") == 3);
    ringback.drain();
}
