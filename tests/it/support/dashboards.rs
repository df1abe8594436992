//! The dashboards in deploy/grafana, and what stands in their expressions.

use super::monitoring::deployed;
use serde_json::Value;
use std::collections::BTreeSet;

/// The names of the files.
pub const NAMES: [&str; 3] = ["overview", "tenants", "internals"];

/// One dashboard.
pub struct Dashboard {
    /// The name of its file.
    pub name: &'static str,
    /// All of it.
    pub json: Value,
}

/// All of them.
pub fn all() -> Vec<Dashboard> {
    let read = |name: &'static str| {
        let text = deployed(&format!("grafana/{name}.json"));
        let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        Dashboard { name, json }
    };
    NAMES.map(read).into()
}

impl Dashboard {
    /// Its panels, without the rows that part them.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        let panels = self.json["panels"].as_array().expect("panels");
        panels.iter().filter(|panel| panel["type"] != "row")
    }

    /// Each expression with the title of its panel or annotation, variables
    /// substituted.
    pub fn expressions(&self) -> Vec<(String, String)> {
        let annotations = self.json["annotations"]["list"].as_array();
        let of_annotations = annotations
            .expect("annotations")
            .iter()
            .map(|annotation| (&annotation["name"], &annotation["target"]));
        let of_panels = self.panels().flat_map(|panel| {
            let targets = panel["targets"].as_array().expect("targets");
            targets.iter().map(|target| (&panel["title"], target))
        });
        of_annotations
            .chain(of_panels)
            .map(|(title, target)| {
                let expression = target["expr"].as_str().expect("an expression");
                (text(title).to_owned(), substituted(expression))
            })
            .collect()
    }

    /// The query of each variable that is asked of Prometheus, as a selector.
    pub fn variables(&self) -> Vec<String> {
        let list = self.json["templating"]["list"].as_array();
        let query = |variable: &Value| {
            let query = variable["query"]["query"].as_str()?;
            let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
            let (selector, _) = inside.rsplit_once(", ")?;
            Some(substituted(selector))
        };
        list.expect("variables").iter().filter_map(query).collect()
    }
}

/// A JSON string.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// An expression as Grafana sends it when all jobs and instances are chosen.
fn substituted(expression: &str) -> String {
    let text = expression
        .replace("$__rate_interval", "5s")
        .replace("$job", ".+")
        .replace("$instance", ".+");
    assert!(!text.contains('$'), "an unknown variable: {text}");
    text
}

const FAMILIES: [&str; 3] = ["ringback_", "ringback:", "process_"];

/// The metrics that an expression names, each with its matchers.
pub fn selectors(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| is_name(c) || c == '"') {
        rest = &rest[start..];
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted
                .find('"')
                .expect("no expression has quotes in quotes");
            rest = &quoted[end + 1..];
            continue;
        }
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if FAMILIES.iter().any(|family| name.starts_with(family)) {
            let matchers = after
                .starts_with('{')
                .then(|| &after[..=after.find('}').expect("braces are closed")]);
            found.insert(format!("{name}{}", matchers.unwrap_or_default()));
        }
    }
    found
}

/// The name in a selector, of a histogram without what is added to it.
pub fn family(selector: &str) -> &str {
    let name = selector.split('{').next().expect("split gives one piece");
    let added = ["_bucket", "_count", "_sum"];
    let strip = |suffix: &&str| name.strip_suffix(suffix);
    added.iter().find_map(strip).unwrap_or(name)
}
