//! The panels of the dashboards as text: what each query shows, minute by minute.

use crate::support::dashboards::{self, Dashboard, text};
use crate::support::monitoring::{Monitoring, Series};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Columns of a graph, at most.
const COLUMNS_MAX: f64 = 24.0;
/// Series of a query that are shown.
const SERIES_MAX: usize = 12;

/// What the dashboards show: one job in a span.
pub struct Frame<'a> {
    pub monitoring: &'a Monitoring,
    pub job: &'a str,
    /// Seconds since the epoch.
    pub from: f64,
    pub to: f64,
    /// The divisor of all durations in deploy/prometheus.
    pub faster: u64,
}

impl Frame<'_> {
    /// A minute, or less in a faster run.
    fn minute(&self) -> f64 {
        60.0 / self.faster as f64
    }

    /// The moments of the columns, the last one now.
    fn moments(&self) -> Vec<f64> {
        let columns = ((self.to - self.from) / self.minute())
            .floor()
            .min(COLUMNS_MAX);
        let back = (0..=columns as usize).rev();
        back.map(|n| self.to - n as f64 * self.minute()).collect()
    }

    /// An expression as Grafana sends it when this job is chosen.
    fn chosen(&self, expression: &str) -> String {
        let rate = format!("{}ms", 60_000 / self.faster);
        expression
            .replace("$__rate_interval", &rate)
            .replace("$job", self.job)
            .replace("$instance", ".+")
    }

    fn range(&self, expression: &str, step: f64) -> Vec<Series> {
        let moments = self.moments();
        let span = (moments[0], self.to);
        self.monitoring.range(&self.chosen(expression), span, step)
    }

    /// All dashboards.
    pub fn text(&self) -> String {
        let mut shown = String::new();
        let moments = self.moments();
        let minutes: String = moments
            .iter()
            .map(|at| format!("{:>8}", minutes(at - self.to, self.minute())))
            .collect();
        let head = format!("{:<28}{minutes}\n", "minutes before now");
        for dashboard in dashboards::all() {
            let title = text(&dashboard.json["title"]);
            writeln!(shown, "######## dashboard {title}\n").expect("strings take all");
            self.annotations(&dashboard, &mut shown);
            for panel in dashboard.panels() {
                self.panel(panel, &head, &mut shown);
            }
        }
        shown
    }

    /// The vertical lines of a dashboard.
    fn annotations(&self, dashboard: &Dashboard, shown: &mut String) {
        let list = dashboard.json["annotations"]["list"].as_array();
        for annotation in list.expect("annotations") {
            let name = text(&annotation["name"]);
            let expression = text(&annotation["target"]["expr"]);
            let mut moments = BTreeSet::new();
            for series in self.range(expression, self.minute() / 4.0) {
                let instance = series.labels["instance"].as_str().unwrap_or("");
                let mut before = f64::MIN;
                for (at, value) in series.points {
                    // The value of a start is its moment.
                    let is_start = annotation["useValueForTime"] == true;
                    let at = if is_start { value / 1_000.0 } else { at };
                    if at - before > self.minute() / 2.0 && at >= self.from {
                        moments.insert((minutes(at - self.to, self.minute()), instance.to_owned()));
                    }
                    before = at;
                }
            }
            let moments: Vec<String> = moments
                .into_iter()
                .map(|(at, instance)| format!("{at} {instance}").trim_end().to_owned())
                .collect();
            if !moments.is_empty() {
                let moments = moments.join(", ");
                writeln!(shown, "vertical lines \"{name}\": {moments}").expect("strings take all");
            }
        }
        shown.push('\n');
    }

    fn panel(&self, panel: &Value, head: &str, shown: &mut String) {
        let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
        let (title, kind) = (text(&panel["title"]), text(&panel["type"]));
        let (about, link) = (text(&panel["description"]), text(&panel["links"][0]["url"]));
        let link = link.replace("${runbook}", "RUNBOOK.md");
        writeln!(shown, "== {title} [{kind}, {unit}]\n   {about}\n   {link}")
            .expect("strings take all");
        let targets = panel["targets"].as_array().expect("targets");
        if kind == "table" {
            for target in targets {
                self.table(target, shown);
            }
            shown.push('\n');
            return;
        }
        shown.push_str(head);
        for target in targets {
            let expression = text(&target["expr"]);
            let mut all = self.range(expression, self.minute());
            all.sort_by_key(|series| legend(target, series));
            if all.is_empty() {
                writeln!(shown, "{:<28} no data", text(&target["legendFormat"]))
                    .expect("strings take all");
            }
            for series in all.iter().take(SERIES_MAX) {
                self.row(panel, &legend(target, series), series, shown);
            }
        }
        shown.push('\n');
    }

    fn row(&self, panel: &Value, name: &str, series: &Series, shown: &mut String) {
        write!(shown, "{name:<28}").expect("strings take all");
        for at in self.moments() {
            let near = |point: &&(f64, f64)| (point.0 - at).abs() < self.minute() / 2.0;
            let value = series.points.iter().find(near).map(|point| point.1);
            let value = value.map_or("-".to_owned(), |value| cell(panel, value));
            write!(shown, "{value:>8}").expect("strings take all");
        }
        shown.push('\n');
    }

    fn table(&self, target: &Value, shown: &mut String) {
        let now = self.monitoring.range(
            &self.chosen(text(&target["expr"])),
            (self.to, self.to),
            self.minute(),
        );
        for series in now {
            let labels = series.labels.as_object().expect("labels");
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let since = clock(series.points[0].1 / 1_000.0);
            let labels = labels.join(" ");
            writeln!(shown, "{labels} since {since}").expect("strings take all");
        }
    }
}

/// Minutes of this length, rounded.
fn minutes(seconds: f64, minute: f64) -> i64 {
    (seconds / minute).round() as i64
}

/// The time of day, UTC.
pub fn clock(seconds: f64) -> String {
    let moment = jiff::Timestamp::from_second(seconds as i64).expect("a moment of today");
    moment.strftime("%H:%M:%S").to_string()
}

fn legend(target: &Value, series: &Series) -> String {
    let mut legend = text(&target["legendFormat"]).to_owned();
    for (name, value) in series.labels.as_object().expect("labels") {
        let value = value.as_str().expect("labels are text");
        legend = legend.replace(&format!("{{{{{name}}}}}"), value);
    }
    legend
}

/// A value as its panel shows it.
fn cell(panel: &Value, value: f64) -> String {
    let defaults = &panel["fieldConfig"]["defaults"];
    let mapping = &defaults["mappings"][0]["options"][value.to_string()]["text"];
    if let Some(mapped) = mapping.as_str() {
        return mapped.to_owned();
    }
    match text(&defaults["unit"]) {
        _ if value.is_nan() => "-".to_owned(),
        "percentunit" => format!("{:.1}%", value * 100.0),
        "s" if value.abs() < 1.0 => format!("{:.0}ms", value * 1_000.0),
        "s" if value.abs() < 120.0 => format!("{value:.1}s"),
        "s" => format!("{:.1}min", value / 60.0),
        "bytes" => format!("{:.0}MiB", value / 1024.0 / 1024.0),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.2}"),
    }
}
