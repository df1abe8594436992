//! What someone on call sees of one stack, as files.

use super::panels::{Frame, clock};
use super::stack::{Replica, Stack};
use crate::support::dashboards::text;
use crate::support::{http, sample};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Lines of each replica's log.
const LINES: usize = 60;

/// Writes the files of a stack into a directory. Returns the names of its firing alerts.
///
/// Panics: when a file holds a phone number.
pub fn write(stack: &Stack, frame: &Frame<'_>, directory: &Path) -> BTreeSet<String> {
    fs::create_dir_all(directory).expect("the build directory is writable");
    let alerts = alerts(frame);
    let firing = alerts.iter().filter(|alert| alert.state == "firing");
    let firing = firing.map(|alert| alert.name.clone()).collect();
    let mut pages = String::new();
    let mut logs = String::new();
    let mut health = String::new();
    for replica in &stack.replicas {
        write_health(replica, &mut health);
        write_pages(replica, &mut pages);
        write_log(replica, &mut logs);
    }
    let files = [
        ("alerts.txt", shown_alerts(&alerts, frame)),
        ("panels.txt", frame.text()),
        ("health.txt", health),
        ("page.txt", pages),
        ("log.txt", logs),
    ];
    for (name, text) in files {
        let leaks = text.contains(sample::PHONE_NUMBER);
        assert!(!leaks, "{name}: a phone number");
        fs::write(directory.join(name), text).expect("the build directory is writable");
    }
    firing
}

/// An alert of this stack that is pending or fires, as Prometheus says it.
struct Alert {
    name: String,
    state: String,
    since: String,
    labels: Value,
    annotations: Value,
    /// What Alertmanager does with it.
    notified: &'static str,
}

fn alerts(frame: &Frame<'_>) -> Vec<Alert> {
    let held = frame.monitoring.alerts();
    let mut alerts = Vec::new();
    for alert in frame.monitoring.active() {
        let labels = alert["labels"].clone();
        if labels["job"] != frame.job {
            continue;
        }
        let at_manager = held.iter().find(|one| one["labels"] == labels);
        let notified = match at_manager.map(|one| one["status"]["state"].as_str()) {
            None => "not notified yet",
            Some(Some("suppressed")) => "suppressed, because another alert explains it",
            Some(_) => "notified",
        };
        let since = text(&alert["activeAt"]);
        let since = since.get(11..19).unwrap_or(since);
        alerts.push(Alert {
            name: text(&labels["alertname"]).to_owned(),
            state: text(&alert["state"]).to_owned(),
            since: since.to_owned(),
            annotations: alert["annotations"].clone(),
            labels,
            notified,
        });
    }
    alerts.sort_by_key(|alert| (alert.since.clone(), alert.name.clone()));
    alerts
}

fn shown_alerts(alerts: &[Alert], frame: &Frame<'_>) -> String {
    let mut shown = format!("now: {} UTC\n\n", clock(frame.to));
    for alert in alerts {
        let Alert {
            name,
            state,
            since,
            labels,
            annotations,
            notified,
        } = alert;
        let severity = text(&labels["severity"]);
        let said = |name: &str| text(&annotations[name]);
        let (summary, description) = (said("summary"), said("description"));
        let runbook = said("runbook_url");
        let labels = labels.as_object().expect("labels");
        let label = |(name, value): (&String, &Value)| format!("{name}={}", text(value));
        let labels: Vec<String> = labels.iter().map(label).collect();
        writeln!(
            shown,
            "{state} {severity} {name}, true since {since}, {notified}\n  {summary}\n  \
             {description}\n  {runbook}\n  {}\n",
            labels.join(" ")
        )
        .expect("strings take all");
    }
    if alerts.is_empty() {
        shown += "no alert is pending or fires\n";
    }
    let job = frame.job;
    let fired = format!("ALERTS{{job=\"{job}\", alertstate=\"firing\"}}");
    let step = 15.0 / frame.faster as f64;
    for series in frame.monitoring.range(&fired, (frame.from, frame.to), step) {
        let (first, last) = (series.points[0].0, series.points[series.points.len() - 1].0);
        if last < frame.to - 3.0 * step {
            let name = text(&series.labels["alertname"]);
            let (first, last) = (clock(first), clock(last));
            writeln!(shown, "earlier: {name} fired from {first} to {last}")
                .expect("strings take all");
        }
    }
    shown
}

fn write_health(replica: &Replica, shown: &mut String) {
    writeln!(shown, "#### {}", replica.name).expect("strings take all");
    for page in ["/livez", "/healthz", "/readyz"] {
        let answer = http::get(replica.port, page);
        let answer = answer.map_or("no answer".to_owned(), |(status, text)| {
            format!("{status} {text}")
        });
        writeln!(shown, "{page}: {}\n", answer.trim_end()).expect("strings take all");
    }
}

fn write_pages(replica: &Replica, shown: &mut String) {
    writeln!(shown, "#### {}: the page /\n", replica.name).expect("strings take all");
    let page = http::get(replica.port, "/").map_or(String::new(), |(_, html)| plain(&html));
    shown.push_str(&page);
    writeln!(shown, "\n#### {}: /statusz\n", replica.name).expect("strings take all");
    let status = http::get(replica.port, "/statusz").map(|(_, text)| text);
    let status = status.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let status = status.map_or("no answer".to_owned(), |status| format!("{status:#}"));
    writeln!(shown, "{status}\n").expect("strings take all");
}

/// The text of a page.
fn plain(html: &str) -> String {
    let body = html.split("<body").nth(1).unwrap_or(html);
    let mut plain = String::new();
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or((piece, ""));
        let ends_a_line = ["/tr", "/p", "/h", "/li", "/div", "br"];
        if ends_a_line.iter().any(|end| tag.starts_with(end)) {
            plain.push('\n');
        }
        let text = text.trim();
        if !text.is_empty() && !["style", "script"].iter().any(|t| tag.starts_with(t)) {
            plain.push_str(text);
            plain.push_str("  ");
        }
    }
    plain
}

/// The last lines that warn, and those of no logger.
fn write_log(replica: &Replica, shown: &mut String) {
    let log = fs::read(&replica.log).expect("the log exists");
    let log = String::from_utf8_lossy(&log);
    let warns = |line: &&str| {
        let levels = ["\"level\":\"WARN\"", "\"level\":\"ERROR\""];
        !line.starts_with('{') || levels.iter().any(|level| line.contains(level))
    };
    let lines: Vec<&str> = log.lines().filter(warns).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    let (name, all) = (&replica.name, lines.len());
    writeln!(
        shown,
        "#### {name}: the last of {all} lines at warn or error"
    )
    .expect("text");
    for line in last {
        writeln!(shown, "{line}").expect("strings take all");
    }
    shown.push('\n');
}
