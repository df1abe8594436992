//! deploy/systemd: systemd accepts the unit and finds it hardened, and the unit fits
//! the program.

use super::{read, repository, run, stdout_of};
use crate::support::{ringback, workspace};
use ::ringback::cli;
use ::ringback::exit::Exit;
use ::ringback::model::time::parse_duration;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const UNIT: &str = "deploy/systemd/ringback.service";
/// The program is not in its place on a machine that runs the tests.
const PROGRAM: &str = "/usr/bin/ringback";

/// Returns all values of a key, in order.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.filter(|(k, _)| *k == key).map(|(_, v)| v).collect()
}

#[track_caller]
fn value<'u>(unit: &'u str, key: &str) -> &'u str {
    let found = values(unit, key);
    assert_eq!(found.len(), 1, "{key}");
    found[0]
}

/// Writes the unit with the program of the tests, after a change.
fn unit_with(name: &str, change: impl Fn(String) -> String) -> PathBuf {
    let unit = change(read(UNIT)).replace(PROGRAM, env!("CARGO_BIN_EXE_ringback"));
    let path = workspace::directory(name).join("ringback.service");
    fs::write(&path, unit).expect("the build directory is writable");
    path
}

#[test]
fn systemd_accepts_the_unit_without_a_warning() {
    let verify = |path: PathBuf| {
        let done = run(Command::new("systemd-analyze").arg("verify").arg(path), "");
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        // It may also tell of units of the machine.
        let ours = told
            .lines()
            .filter(|line| line.contains("ringback.service"));
        ours.map(str::to_owned).collect::<Vec<_>>()
    };
    let found = verify(unit_with("systemd-verify", |unit| unit));
    assert!(found.is_empty(), "{found:#?}");
    let wrong = unit_with("systemd-wrong", |unit| unit.replace("Restart=", "Restrat="));
    assert!(!verify(wrong).is_empty(), "it finds a wrong key");
}

#[test]
fn systemd_rates_the_unit_as_hardened() {
    // By systemd's scale: 10 is unsafe, and above 2 something is open without need.
    let rate = |limit: &str, path: PathBuf| {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager"]);
        analyze.arg(format!("--threshold={limit}")).arg(path);
        run(&mut analyze, "").status.success()
    };
    assert!(rate("20", unit_with("systemd-rate", |unit| unit)));
    let open = |unit: String| unit.replace("CapabilityBoundingSet=\n", "");
    assert!(!rate("20", unit_with("systemd-open", open)));
}

#[test]
fn the_unit_fits_the_program() {
    let unit = read(UNIT);
    let settings = cli::variables();
    let environment = read("deploy/systemd/ringback.env");
    let tenants = workspace::directory("systemd-tenants");
    let file = tenants.join("a.json");
    fs::write(file, r#"{"a": {"url": "https://example.com/"}}"#).expect("the test owns it");
    let mut command = ringback::command(&["check-config".to_owned()]);
    let lines = environment.lines().map(|line| line.trim_start_matches('#'));
    let own = values(&unit, "Environment").into_iter();
    let mut seen = 0;
    for (name, value) in lines.chain(own).filter_map(|line| line.split_once('=')) {
        assert!(settings.contains(&name.to_owned()), "{name}");
        command.env(name, value);
        seen += 1;
    }
    assert_eq!(seen, 4);
    stdout_of(command.env("RINGBACK_TENANTS", &tenants), "");

    let seconds = |key: &str| value(&unit, key).parse::<u64>().expect("seconds");
    let own = |name: &str| {
        let mut own = values(&unit, "Environment").into_iter();
        let found = own.find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let drain = parse_duration(own("RINGBACK_DRAIN_TIMEOUT=")).expect("a duration");
    assert!(seconds("TimeoutStopSec") > drain.as_secs() + 5);
    // README says: after code 3, start again after 10 s or more.
    assert!(seconds("RestartSec") >= 10);
    let wrong_settings = Exit::WrongSettings.code().to_string();
    assert_eq!(value(&unit, "RestartPreventExitStatus"), wrong_settings);
    assert_eq!(value(&unit, "ExecStart"), format!("{PROGRAM} run"));
    let place = own("RINGBACK_TENANTS=");
    assert!(
        unit.contains(&format!("tenants.json {place}/\n")),
        "{place}"
    );
    let users = read("deploy/systemd/ringback.sysusers");
    assert!(users.contains(&format!("\nu {} ", value(&unit, "User"))));
    for named in ["ringback.env", "ringback.sysusers", "ringback.service"] {
        assert!(repository("deploy/systemd").join(named).is_file());
        assert!(unit.contains(&format!(" {named} ")), "{named} is installed");
    }
}

#[test]
fn the_debian_package_has_files_that_exist() {
    let manifest = read("Cargo.toml");
    let (_, assets) = manifest.split_once("\nassets = [\n").expect("a list");
    let (assets, _) = assets.split_once("\n]\n").expect("its end");
    let sources = assets.lines().filter_map(|line| line.split('"').nth(1));
    let sources: Vec<&str> = sources
        .filter(|path| !path.starts_with("target/"))
        .collect();
    assert!(sources.len() > 2, "{sources:?}");
    for source in sources.iter().chain(&["deploy/debian/postinst", UNIT]) {
        assert!(repository(source).is_file(), "{source}");
    }
    for script in ["deploy/debian/postinst", "deploy/release"] {
        stdout_of(Command::new("bash").arg("-n").arg(repository(script)), "");
    }
}
