//! Wrong settings and incompatible topics end the program at the start.

use crate::support::broker::Broker;
use crate::support::receiver::Behaviour;
use crate::support::ringback;
use crate::support::scene::{Plan, Scene};
use std::process::Output;

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn wrong_settings_are_all_reported_at_once() {
    let done = ringback::output(&[
        "run",
        "--topic",
        "not a topic",
        "--attempts",
        "11",
        "--delays",
        "50ms",
        "--timeout",
        "6s",
        "--instance",
        "no spaces",
        "--record-max-bytes",
        "many",
        "--kafka",
        "enable.auto.commit=true",
        "--tenants",
        "/nonexistent/tenants.json",
    ]);
    let told = text(&done);
    assert_eq!(done.status.code(), Some(2), "{told}");
    for named in [
        "topic",
        "not a topic",
        "attempts",
        "11",
        "delays",
        "50ms",
        "timeout",
        "6s",
        "instance",
        "no spaces",
        "record-max-bytes",
        "many",
        "enable.auto.commit",
        "/nonexistent/tenants.json",
    ] {
        assert!(told.contains(named), "{named} is not named in:\n{told}");
    }
}

#[test]
fn a_refused_start_is_told_in_the_format_of_the_log() {
    let run = |format: &str| {
        let wrong = ["--attempts", "11", "--log", "loud"];
        let done = ringback::output(&[&["run", "--log-format", format], &wrong[..]].concat());
        assert_eq!(done.status.code(), Some(2), "{}", text(&done));
        String::from_utf8(done.stderr).expect("UTF-8")
    };
    let mut named = Vec::new();
    for line in run("json").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(!line["mistake"].as_str().expect("a text").is_empty());
        named.push(line["name"].as_str().expect("a text").to_owned());
    }
    for name in ["--attempts", "--log"] {
        assert!(named.iter().any(|n| n == name), "{name}: {named:?}");
    }
    let told = run("text");
    assert!(
        told.contains("mistakes in the settings") && !told.contains('{'),
        "{told}"
    );
}

/// Attempts and idle connections are sockets. A lack of them looks as if tenants were
/// unreachable.
#[test]
fn a_limit_of_open_files_that_is_too_low_is_told_at_the_start() {
    let scene = Scene::new("open-files", Plan::default());
    let told = "the limit of open files is low";
    // The soft limit is raised as far as the hard limit allows.
    for (limit, is_low) in [("-n 2303", true), ("-Sn 256", false)] {
        let shell = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        let wrapper = ["sh".to_owned(), "-c".to_owned(), shell];
        let broker = scene.broker.address();
        let ringback = scene.start_in(&wrapper, broker, "a").ready();
        assert_eq!(ringback.log().contains(told), is_low, "{limit}");
        ringback.drain();
    }
}

#[test]
fn a_module_of_a_library_has_a_log_level_of_its_own() {
    let mut scene = Scene::new("module-levels", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.start("a", &["--log", "warn,hyper=debug"]).ready();
    scene.publish("t", 1);
    scene.until_delivered();
    let log = ringback.log();
    assert!(log.contains("hyper_util"), "{log}");
    assert!(!log.contains("INFO"), "{log}");
    ringback.drain();
}

#[test]
fn a_wrong_tenants_file_ends_the_start_with_every_mistake() {
    let mut scene = Scene::bare(Broker::shared(), "wrong-tenants", Plan::default());
    scene.tenant("fine", Behaviour::Ok);
    scene.write_tenants_text(
        r#"{"one":{"url":"ftp://example.com/"},"two":{"url":"http://u:hunter2@example.com/"},
            "three":{"url":"http://example.com/","nope":1},"four":{},"fine":{"url":"http://example.com/"}}"#,
    );
    let all = scene.arguments("a");
    let mut arguments: Vec<&str> = all.iter().map(String::as_str).collect();
    arguments[0] = "check-config";
    let done = ringback::output(&arguments);
    let told = text(&done);
    assert_eq!(done.status.code(), Some(2), "{told}");
    for named in ["one", "two", "three", "four", "nope"] {
        assert!(told.contains(named), "{named} is not named in:\n{told}");
    }
    assert!(
        !told.contains("hunter2") && !told.contains("fine"),
        "{told}"
    );

    assert_eq!(scene.start("a", &[]).ended().0, 2);
    scene.write_tenants();
    let done = ringback::output(&arguments);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
}

#[test]
fn a_delay_topic_with_the_wrong_timestamp_type_ends_the_start() {
    let broker = Broker::shared();
    let mut scene = Scene::bare(broker, "wrong-timestamps", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let wrong = [("message.timestamp.type", "CreateTime")];
    broker.create_topic(&scene.delay_topic("200ms"), 4, &wrong);
    scene.create_topics();
    let (code, told) = scene.start("a", &[]).ended();
    assert_eq!(code, 2, "{told}");
    for named in [&*scene.delay_topic("200ms"), "LogAppendTime"] {
        assert!(told.contains(named), "{named} is not named in:\n{told}");
    }
}

#[test]
fn topics_that_lose_records_end_the_start_and_the_check() {
    let broker = Broker::shared();
    let mut scene = Scene::bare(broker, "losing-topics", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    // `topics create` adds ringback's headers to this limit, the largest of Kafka.
    let largest = [("max.message.bytes", "2147483647")];
    broker.create_topic(&scene.topic, 4, &largest);
    let delay = scene.delay_topic("200ms");
    let losing = [
        ("message.timestamp.type", "LogAppendTime"),
        ("cleanup.policy", "compact"),
        ("retention.ms", "60000"),
        ("retention.bytes", "4096"),
    ];
    broker.create_topic(&delay, 4, &losing);
    scene.create_topics();
    let all = scene.arguments("a");
    let mut arguments: Vec<&str> = all.iter().map(String::as_str).collect();
    arguments[0] = "check-config";
    arguments.push("--connect");
    let checked = ringback::output(&arguments);
    let (code, told) = scene.start("a", &[]).ended();
    assert_eq!((code, checked.status.code()), (2, Some(2)), "{told}");
    for told in [text(&checked), told] {
        let named = ["cleanup.policy=compact", "retention.ms=60000", "=4096"];
        for named in [named.as_slice(), &[&delay]].concat() {
            assert!(told.contains(named), "{named} is not named in:\n{told}");
        }
    }
}

#[test]
fn properties_that_no_client_can_use_are_refused_without_a_connection() {
    for (property, named) in [
        ("sasl.mechanism=GSSAPI", "SCRAM-SHA-512"),
        ("sasl.mechanism=OAUTHBEARER", "SCRAM-SHA-512"),
        ("max.poll.interval.ms=6000", "session.timeout.ms"),
        ("fetch.max.bytes=1000", "131072"),
    ] {
        let done = ringback::output(&["check-config", "--kafka", property]);
        let told = text(&done);
        assert_eq!(done.status.code(), Some(2), "{told}");
        let key = property.split('=').next().expect("a key");
        assert!(told.contains(key) && told.contains(named), "{told}");
    }
}

#[test]
fn a_start_without_enabled_tenants_must_be_asked_for() {
    let scene = Scene::bare(Broker::shared(), "no-tenants", Plan::default());
    let file = scene.tenants_file();
    let file = file.to_str().expect("the build directory is UTF-8");
    for tenants in ["{}", r#"{"t":{"url":"http://h/","enabled":false}}"#] {
        scene.write_tenants_text(tenants);
        for command in ["check-config", "run"] {
            let done = ringback::output(&[command, "--tenants", file]);
            let told = text(&done);
            assert_eq!(done.status.code(), Some(2), "{told}");
            assert!(told.contains(file), "{told}");
            assert!(told.contains("--allow-no-tenants"), "{told}");
        }
        let arguments = ["check-config", "--allow-no-tenants", "--tenants", file];
        let done = ringback::output(&arguments);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    }
}

#[test]
fn skipped_records_are_logged_with_their_share() {
    let mut scene = Scene::new("skip-line", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    scene.publish_record("unlisted-1", "unlisted");
    scene.publish("t", 1);
    ringback.until("both records to end", |metrics| {
        metrics.disposed("skipped") == 1 && metrics.disposed("delivered") == 1
    });
    crate::support::wait::until("the line about the skip", || {
        let log = ringback.log();
        let line = log.lines().find(|line| line.contains("skipped for good"));
        line.is_some_and(|line| line.contains("50") && line.contains("enabled"))
    });
    ringback.drain();
}
