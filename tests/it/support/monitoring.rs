//! Prometheus and Alertmanager with the settings in deploy/prometheus, in tests sixty
//! times as fast: a minute is a second. `tests/prepare` unpacks the programs.

use super::process::Process;
use super::{http, ports, wait, workspace};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How much faster than written everything is in tests.
const FASTER: u64 = 60;

/// The job in prometheus.yml.
const JOB: &str = "  - job_name: ringback
    static_configs:
      - targets: [ringback:9464]
";

/// A directory of deploy.
pub fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

/// The text of a file of deploy.
pub fn deployed(name: &str) -> String {
    let path = deploy(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// One of the programs.
pub fn program(name: &str) -> Command {
    let path = workspace::target().join("monitoring/usr/bin").join(name);
    assert!(
        path.is_file(),
        "{} is missing: tests/run fetches it",
        path.display()
    );
    Command::new(path)
}

/// Runs one of them in deploy/prometheus to its end.
#[track_caller]
pub fn output(name: &str, arguments: &[&str]) -> Output {
    program(name)
        .current_dir(deploy("prometheus"))
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{name} cannot be started: {e}"))
}

/// One series of an answer.
pub struct Sample {
    /// Its labels.
    pub labels: Value,
    /// Its value now.
    pub value: f64,
}

/// One series of an answer about a span.
#[derive(Clone)]
pub struct Series {
    /// Its labels.
    pub labels: Value,
    /// Moments in seconds since the epoch, and the values then.
    pub points: Vec<(f64, f64)>,
}

/// Both programs, running.
pub struct Monitoring {
    _prometheus: Process,
    _alertmanager: Process,
    prometheus_port: u16,
    alertmanager_port: u16,
}

impl Monitoring {
    /// Starts both; Prometheus scrapes these ports.
    pub fn start(directory: &Path, targets: &[u16]) -> Self {
        let targets: Vec<String> = targets.iter().map(|p| format!("127.0.0.1:{p}")).collect();
        let jobs = JOB.replace("ringback:9464", &targets.join(", "));
        Self::start_with(directory, &jobs, FASTER)
    }

    /// Starts both with these jobs in the form of prometheus.yml, this many times
    /// faster than written.
    pub fn start_with(directory: &Path, jobs: &str, factor: u64) -> Self {
        let (prometheus_port, alertmanager_port) = (ports::free(), ports::free());
        let put = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).expect("the build directory is writable");
            path.to_str().expect("it is UTF-8").to_owned()
        };
        let rules = faster(&deployed("prometheus/rules.yml"), factor);
        let rules = put("rules.yml", &rules);
        let settings = faster(&deployed("prometheus/prometheus.yml"), factor);
        let settings = [
            ("/etc/prometheus/rules.yml", rules),
            (
                "alertmanager:9093",
                format!("127.0.0.1:{alertmanager_port}"),
            ),
            (JOB, jobs.to_owned()),
        ]
        .iter()
        .fold(settings, |text, (from, to)| {
            assert!(text.contains(from), "no {from} in prometheus.yml");
            text.replace(from, to)
        });
        let settings = put("prometheus.yml", &settings);
        let data = directory.join("data");
        let mut prometheus = program("prometheus");
        prometheus
            .arg(format!("--config.file={settings}"))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{prometheus_port}"));
        let settings = faster(&deployed("prometheus/alertmanager.yml"), factor);
        let settings = put("alertmanager.yml", &settings);
        let mut alertmanager = program("prometheus-alertmanager");
        alertmanager
            .arg(format!("--config.file={settings}"))
            .arg(format!("--storage.path={}", data.display()))
            .arg(format!(
                "--web.listen-address=127.0.0.1:{alertmanager_port}"
            ))
            .arg("--cluster.listen-address=");
        let log = |name: &str| directory.join(name);
        let started = Self {
            _alertmanager: Process::start(
                "alertmanager",
                &mut alertmanager,
                &log("alertmanager.log"),
            ),
            _prometheus: Process::start("prometheus", &mut prometheus, &log("prometheus.log")),
            prometheus_port,
            alertmanager_port,
        };
        for port in [prometheus_port, alertmanager_port] {
            wait::until("prometheus and alertmanager", || {
                http::get(port, "/-/ready").is_some_and(|(status, _)| status == 200)
            });
        }
        started
    }

    /// What Prometheus answers to an expression.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer = json(self.prometheus_port, &path);
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector");
        let sample = |sample: &Value| Sample {
            labels: sample["metric"].clone(),
            value: sample["value"][1]
                .as_str()
                .and_then(|v| v.parse().ok())
                .expect("a number"),
        };
        result.iter().map(sample).collect()
    }

    /// An expression's values in a span, in seconds since the epoch.
    #[track_caller]
    pub fn range(&self, expression: &str, (from, to): (f64, f64), step: f64) -> Vec<Series> {
        let query = encoded(expression);
        let path = format!("/api/v1/query_range?query={query}&start={from}&end={to}&step={step}");
        let answer = json(self.prometheus_port, &path);
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let number = |value: &Value| value.as_str().and_then(|v| v.parse().ok());
        let point = |pair: &Value| {
            let at = pair[0].as_f64().expect("a moment");
            (at, number(&pair[1]).expect("a number"))
        };
        let series = |series: &Value| Series {
            labels: series["metric"].clone(),
            points: series["values"]
                .as_array()
                .expect("points")
                .iter()
                .map(point)
                .collect(),
        };
        let result = answer["data"]["result"].as_array().expect("a matrix");
        result.iter().map(series).collect()
    }

    /// The pending and firing alerts of Prometheus.
    #[track_caller]
    pub fn active(&self) -> Vec<Value> {
        let answer = json(self.prometheus_port, "/api/v1/alerts");
        answer["data"]["alerts"].as_array().expect("a list").clone()
    }

    /// The names of all metrics that Prometheus has seen.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let answer = json(self.prometheus_port, "/api/v1/label/__name__/values");
        let names = answer["data"].as_array().expect("a list");
        let name = |name: &Value| name.as_str().expect("a name").to_owned();
        names.iter().map(name).collect()
    }

    /// The rules that Prometheus has loaded.
    #[track_caller]
    pub fn rules(&self) -> Vec<Value> {
        let answer = json(self.prometheus_port, "/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules").clone())
            .collect()
    }

    /// The alerts that Alertmanager holds as firing.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Value> {
        let answer = json(self.alertmanager_port, "/api/v2/alerts");
        answer.as_array().expect("a list").clone()
    }
}

#[track_caller]
fn json(port: u16, path: &str) -> Value {
    let asked = || http::get(port, path);
    let (status, text) = wait::until_some("an answer of the monitoring", wait::PATIENCE, asked);
    let answer = serde_json::from_str(&text);
    answer.unwrap_or_else(|e| panic!("{path}: {status}: {e}: {text}"))
}

/// A text as it may stand in a URL's query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        write!(url, "%{byte:02X}").expect("strings take all");
        url
    })
}

/// Settings or rules with all their durations divided by a factor: those that are a
/// key's whole value, and the windows in brackets.
pub fn faster(text: &str, factor: u64) -> String {
    let mut fast = String::new();
    for line in text.lines() {
        match line.split_once(": ") {
            Some((key, value)) if milliseconds(value).is_some() => {
                let ms = milliseconds(value).expect("looked at above");
                write!(fast, "{key}: {}ms", ms / factor).expect("strings take all");
            }
            _ => {
                let mut pieces = line.split('[');
                fast.push_str(pieces.next().expect("split gives one piece at least"));
                for piece in pieces {
                    let window = piece.split_once(']');
                    match window.and_then(|(window, rest)| Some((milliseconds(window)?, rest))) {
                        Some((ms, rest)) => write!(fast, "[{}ms]{rest}", ms / factor),
                        None => write!(fast, "[{piece}"),
                    }
                    .expect("strings take all");
                }
            }
        }
        fast.push('\n');
    }
    fast
}

/// A duration as Prometheus writes it, with one unit.
fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}
