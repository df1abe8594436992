use super::*;
use crate::config::definitions::RunGroup;
use crate::config::setting::{Group, SettingArgs};
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: SettingArgs<RunGroup>,
}

fn rule(properties: &[KafkaProperty]) -> Vec<(String, String)> {
    let group = properties.iter().filter(|p| p.key == "group.id");
    group
        .map(|p| (p.key.clone(), "--group sets it".to_owned()))
        .collect()
}

fn read_line(args: &[&str]) -> Result<ReadSettings, Vec<Mistake>> {
    let args = [&["ringback", "--instance", "r-0"], args].concat();
    read(&Line::parse_from(args).settings, rule)
}

/// Reads the settings of a command with one flag.
#[track_caller]
fn check_refused(args: &[&str], parts: &[&str]) {
    let typed = Line::parse_from([&["ringback"], args].concat()).settings;
    let mistakes = read(&typed, rule).expect_err("must be refused");
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    for part in parts {
        assert!(texts[0].contains(part), "{part} is not in: {}", texts[0]);
    }
}

fn texts(delays: &[Delay]) -> Vec<String> {
    delays.iter().map(Delay::to_string).collect()
}

#[test]
fn the_defaults_are_the_interfaces() {
    let read = read_line(&[]).expect("the defaults are allowed");
    assert_eq!(read.warnings, []);
    let shown: Vec<String> = read
        .effective
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        shown,
        [
            "brokers=127.0.0.1:9092",
            "topic=call-ended",
            "kafka-properties=none",
            "kafka=none",
            "group=ringback",
            "instance=r-0",
            "commit-interval=2ms",
            "attempts=10",
            "record-max-bytes=1048576",
            "delays=10s,10s,1m,1m,10m,10m,1h,1h,6h",
            "timeout=5s",
            "in-flight-max=1024",
            "attempt-log=off",
            "tenants=tenants.json",
            "allow-no-tenants=off",
            "require-https=off",
            "allow-networks=none",
            "deny-networks=none",
            "proxy=none",
            "ca-file=none",
            "client-cert=none",
            "listen=[::]:9464",
            "drain-timeout=10s",
            "log=info",
            "log-format=text on a terminal, else json",
        ]
    );
    assert_eq!(
        texts(&read.settings.schedule.distinct_delays()),
        ["10s", "1m", "10m", "1h", "6h"]
    );
}

#[test]
fn every_wrong_value_is_named_with_its_setting_and_what_is_allowed() {
    for row in RunGroup::rows() {
        let flag = format!("--{}", row.flag());
        for (value, allowed) in row.refused() {
            // A list quotes its wrong parts only. A proxy's URL may have a password.
            let is_whole = !value.contains(',') && row.flag() != "proxy";
            let quoted = if is_whole { value } else { "" };
            check_refused(&[&format!("{flag}={value}")], &[&flag, quoted, allowed]);
        }
        assert!(!row.refused().is_empty());
    }
}

#[test]
fn a_switch_may_stand_without_a_value() {
    let choice = |args: &[&str]| {
        let read = read_line(args).expect("allowed");
        read.settings.no_tenants
    };
    assert_eq!(choice(&["--allow-no-tenants"]), NoTenants::Allowed);
    assert_eq!(choice(&["--allow-no-tenants=on"]), NoTenants::Allowed);
    assert_eq!(choice(&["--allow-no-tenants=off"]), NoTenants::Refused);
    assert_eq!(choice(&[]), NoTenants::Refused);
}

#[test]
fn rules_across_settings_name_the_setting_to_change() {
    let long = "x".repeat(241);
    check_refused(&["--topic", &long], &["--topic", "253", "at most 249"]);
    let long = "x".repeat(237);
    check_refused(
        &["--topic", &long, "--delays", "100001ms"],
        &["--topic", "252", "249"],
    );
    check_refused(
        &["--attempts", "3", "--delays", "1s,1s,1s"],
        &["--delays", "3 delays", "at most 2"],
    );
    for own in [
        "call-ended",
        "call-ended.dead-letter",
        "call-ended.delay.7m",
    ] {
        let place = format!("topic:{own}");
        check_refused(&["--tenants", &place], &["--tenants", own, "of their own"]);
    }
    let long = format!("topic:{}", "x".repeat(250));
    check_refused(&["--tenants", &long], &["--tenants", "at most 249"]);
    check_refused(
        &["--kafka", "group.id=x"],
        &["--kafka", "'group.id'", "--group sets it"],
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let mistakes = read_line(&[
        "--brokers=",
        "--topic=?",
        "--attempts=0",
        "--delays=x",
        "--timeout=x",
        "--listen=x",
        "--in-flight-max=x",
        "--commit-interval=x",
        "--record-max-bytes=x",
        "--drain-timeout=x",
        "--require-https=x",
        "--allow-networks=x",
        "--deny-networks=x",
        "--proxy=x",
        "--ca-file=/x",
        "--client-cert=/x",
        "--kafka=x",
        "--kafka-properties=/x",
        "--log=x",
        "--log-format=x",
        "--group=",
    ])
    .expect_err("all are wrong");
    let mut names: Vec<&str> = mistakes.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 21, "{names:?}");
}

#[test]
fn fewer_attempts_use_the_first_part_of_the_default_schedule() {
    for (attempts, delays) in [("1", 1), ("2", 1), ("4", 3), ("10", 9)] {
        let settings = read_line(&["--attempts", attempts])
            .expect(attempts)
            .settings;
        assert_eq!(settings.schedule.delays.len(), delays, "{attempts}");
    }
    let settings = read_line(&["--delays", "200ms"])
        .expect("one delay repeats")
        .settings;
    assert_eq!(texts(&settings.schedule.delays), ["200ms"]);
    let settings = read_line(&["--delays", "60s,1m, 2s"])
        .expect("spaces are allowed")
        .settings;
    assert_eq!(texts(&settings.schedule.distinct_delays()), ["2s", "1m"]);
}

#[test]
fn empty_optional_settings_are_none_and_a_short_drain_is_a_warning() {
    let ReadSettings {
        settings, warnings, ..
    } = read_line(&[
        "--proxy=",
        "--ca-file=",
        "--client-cert=",
        "--allow-networks=",
        "--deny-networks=",
        "--log-format=",
        "--kafka-properties=",
        "--drain-timeout=3s",
    ])
    .expect("allowed");
    assert!(settings.proxy.is_none() && settings.ca_file.is_none());
    assert!(settings.allow_networks.is_empty() && settings.log_format.is_none());
    assert!(
        warnings.len() == 1 && warnings[0].0.contains("--drain-timeout 3s"),
        "{warnings:?}"
    );
}

#[test]
fn secrets_are_neither_in_the_log_nor_in_debug() {
    let read = read_line(&[
        "--kafka=sasl.password=hunter2",
        "--kafka=sasl.username=hunter2",
        "--kafka=ssl.key.pem=hunter2",
        "--kafka=ssl.keystore.password=hunter2",
        "--kafka=client.id=shown",
        "--kafka=sasl.mechanisms=PLAIN",
        "--proxy=http://user:hunter2@proxy:3128",
    ])
    .expect("allowed");
    let shown = format!("{read:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for part in [
        "client.id=shown",
        "sasl.mechanisms=PLAIN",
        "sasl.password=[redacted]",
        "http://proxy:3128",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
