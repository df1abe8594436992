use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    given: RunArgs,
}

fn rule(properties: &[KafkaProperty]) -> Vec<(String, String)> {
    let group = properties.iter().filter(|p| p.key == "group.id");
    group
        .map(|p| (p.key.clone(), "--group sets it".to_owned()))
        .collect()
}

fn read_line(args: &[&str]) -> Result<(Settings, Vec<Warning>), Vec<Mistake>> {
    let args = [&["ringback", "--instance", "r-0"], args].concat();
    read(&Line::parse_from(args).given, rule)
}

fn texts(delays: &[Delay]) -> Vec<String> {
    delays.iter().map(Delay::to_string).collect()
}

#[test]
fn the_defaults_are_the_interfaces() {
    let (settings, warnings) = read_line(&[]).expect("the defaults are allowed");
    assert_eq!(warnings, []);
    let shown: Vec<String> = settings
        .effective()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        shown,
        [
            "brokers=127.0.0.1:9092",
            "group=ringback",
            "instance=r-0",
            "topic=call-ended",
            "attempts=10",
            "delays=10s,10s,1m,1m,10m,10m,1h,1h,6h",
            "timeout=5s",
            "tenants=tenants.json",
            "listen=0.0.0.0:9464",
            "in-flight-max=1024",
            "commit-interval=2ms",
            "record-max-bytes=1048576",
            "drain-timeout=10s",
            "allow-networks=none",
            "proxy=none",
            "ca-file=none",
            "kafka=none",
            "log=info",
            "log-format=by terminal",
        ]
    );
    assert_eq!(
        texts(&settings.schedule.distinct_delays()),
        ["10s", "1m", "10m", "1h", "6h"]
    );
}

#[test]
fn every_bad_value_is_named_with_its_value_and_what_is_allowed() {
    #[track_caller]
    fn check(args: &[&str], parts: &[&str]) {
        let mistakes = read_line(args).expect_err("must be refused");
        let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        for part in parts {
            assert!(texts[0].contains(part), "{part} is not in: {}", texts[0]);
        }
    }
    check(&["--brokers", "a b"], &["--brokers", "'a b'", "host:port"]);
    check(&["--group", ""], &["--group", "''", "1 to 200"]);
    check(&["--topic", "a/b"], &["--topic", "'a/b'", "A-Z"]);
    check(&["--topic", ".."], &["--topic", "'..'"]);
    check(
        &["--topic", &"x".repeat(241)],
        &["--topic", "253", "at most 249"],
    );
    check(
        &["--topic", &"x".repeat(237), "--delays", "100001ms"],
        &["--topic", "252", "249"],
    );
    check(&["--attempts", "11"], &["--attempts", "'11'", "1 to 10"]);
    check(&["--attempts", "-1"], &["--attempts", "'-1'"]);
    check(&["--attempts", "many"], &["--attempts", "'many'"]);
    check(
        &["--delays", "1d,5s,99ms"],
        &["--delays", "'1d'", "99ms", "100ms to 168h"],
    );
    check(&["--delays", ""], &["--delays", "''"]);
    check(
        &["--attempts", "3", "--delays", "1s,1s,1s"],
        &["--delays", "3 waits", "at most 2"],
    );
    check(
        &["--delays", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"],
        &["--delays", "at most 9"],
    );
    check(&["--timeout", "6s"], &["--timeout", "'6s'", "100ms to 5s"]);
    check(&["--timeout", "5"], &["--timeout", "'5'", "100ms to 5s"]);
    check(
        &["--in-flight-max", "0"],
        &["--in-flight-max", "'0'", "1 to 65536"],
    );
    check(
        &["--commit-interval", "2s"],
        &["--commit-interval", "'2s'", "0ms to 1s"],
    );
    check(
        &["--record-max-bytes", "1MB"],
        &["--record-max-bytes", "'1MB'", "1KiB to 64MiB"],
    );
    check(
        &["--drain-timeout", "1h"],
        &["--drain-timeout", "'1h'", "100ms to 5m"],
    );
    check(
        &["--listen", "9464"],
        &["--listen", "'9464'", "0.0.0.0:9464"],
    );
    check(
        &["--allow-networks", "10.0.0.0/8,x"],
        &["--allow-networks", "'x'", "10.0.0.0/8"],
    );
    check(
        &["--proxy", "socks5://p:1"],
        &["--proxy", "'socks5'", "http://"],
    );
    check(
        &["--ca-file", "/nonexistent"],
        &["--ca-file", "'/nonexistent'"],
    );
    check(
        &["--ca-file", "Cargo.toml"],
        &["--ca-file", "'Cargo.toml'", "PEM"],
    );
    check(
        &["--kafka-properties", "/nonexistent"],
        &["--kafka-properties", "'/nonexistent'"],
    );
    check(
        &["--kafka", "group.id=x"],
        &["--kafka", "'group.id'", "--group sets it"],
    );
    check(
        &["--log", "loud"],
        &["--log", "'loud'", "error, warn, info, debug, trace"],
    );
    check(
        &["--log-format", "xml"],
        &["--log-format", "'xml'", "text, json"],
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
        "--allow-networks=x",
        "--proxy=x",
        "--ca-file=/x",
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
    assert_eq!(names.len(), 18, "{names:?}");
}

#[test]
fn fewer_attempts_use_the_first_part_of_the_default_schedule() {
    for (attempts, delays) in [("1", 1), ("2", 1), ("4", 3), ("10", 9)] {
        let (settings, _) = read_line(&["--attempts", attempts]).expect(attempts);
        assert_eq!(settings.schedule.delays.len(), delays, "{attempts}");
    }
    let (settings, _) = read_line(&["--delays", "200ms"]).expect("one delay repeats");
    assert_eq!(texts(&settings.schedule.delays), ["200ms"]);
    let (settings, _) = read_line(&["--delays", "60s,1m, 2s"]).expect("spaces are allowed");
    assert_eq!(texts(&settings.schedule.distinct_delays()), ["2s", "1m"]);
}

#[test]
fn empty_optional_settings_are_none_and_a_short_drain_is_a_warning() {
    let (settings, warnings) = read_line(&[
        "--proxy=",
        "--ca-file=",
        "--allow-networks=",
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
    let (settings, _) = read_line(&[
        "--kafka=sasl.password=hunter2",
        "--kafka=sasl.username=hunter2",
        "--kafka=ssl.key.pem=hunter2",
        "--kafka=ssl.keystore.password=hunter2",
        "--kafka=client.id=shown",
        "--kafka=sasl.mechanisms=PLAIN",
        "--proxy=http://user:hunter2@proxy:3128",
    ])
    .expect("allowed");
    let shown = format!("{:?} {settings:?}", settings.effective());
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
