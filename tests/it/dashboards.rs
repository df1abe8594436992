//! The dashboards as files: Grafana accepts them, and readers find units and
//! links.

use crate::support::dashboards::{self, Dashboard, text};
use crate::support::json_schema;
use serde_json::Value;
use std::collections::BTreeSet;

/// Keys that the Prometheus data source adds to an annotation and to its target.
/// The types of Grafana's core lack them.
const OF_THE_DATA_SOURCE: [&str; 3] = ["titleFormat", "textFormat", "useValueForTime"];
const OF_ITS_TARGET: [&str; 3] = ["refId", "expr", "interval"];

/// Removes these keys from the objects in a list.
fn without(list: &mut Value, keys: &[&str], of_target: &[&str]) {
    for item in list.as_array_mut().expect("a list") {
        let item = item.as_object_mut().expect("an object");
        for key in keys {
            item.remove(*key);
        }
        let target = item["target"].as_object_mut().expect("a target");
        for key in of_target {
            target.remove(*key);
        }
    }
}

#[test]
fn dashboards_fit_the_types_of_grafana() {
    let schemas: Value =
        serde_json::from_str(include_str!("grafana/schema.json")).expect("it was generated");
    let mut found = Vec::new();
    let mut check = |schema: &str, value: &Value, at: &str| {
        let schema = schemas.get(schema).unwrap_or_else(|| panic!("no {schema}"));
        let mistakes = json_schema::mistakes(schema, value);
        found.extend(mistakes.into_iter().map(|m| format!("{at}{m}")));
    };
    for Dashboard { name, mut json } in dashboards::all() {
        let list = &mut json["annotations"]["list"];
        without(list, &OF_THE_DATA_SOURCE, &OF_ITS_TARGET);
        check("dashboard", &json, name);
        let dashboard = Dashboard { name, json };
        for panel in dashboard.panels() {
            let (kind, at) = (text(&panel["type"]), text(&panel["title"]));
            check(&format!("{kind}.options"), &panel["options"], at);
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            if kind != "stat" {
                check(&format!("{kind}.custom"), custom, at);
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_dashboard_that_does_not_fit_is_found() {
    let schemas: Value =
        serde_json::from_str(include_str!("grafana/schema.json")).expect("it was generated");
    let mut json = dashboards::all().remove(0).json;
    without(
        &mut json["annotations"]["list"],
        &OF_THE_DATA_SOURCE,
        &OF_ITS_TARGET,
    );
    json["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["mode"] = "relative".into();
    json["panles"] = true.into();
    json["schemaVersion"] = "41".into();
    json["links"][0]
        .as_object_mut()
        .expect("a link")
        .remove("type");
    let mistakes = json_schema::mistakes(&schemas["dashboard"], &json);
    assert_eq!(mistakes.len(), 4, "{mistakes:#?}");
}

#[test]
fn every_panel_has_a_description_a_unit_and_a_link_to_the_runbook() {
    let mut uids = BTreeSet::new();
    for dashboard in dashboards::all() {
        let name = dashboard.name;
        let json = &dashboard.json;
        assert!(uids.insert(text(&json["uid"]).to_owned()), "{name}: uid");
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in json["panels"].as_array().expect("panels") {
            assert!(ids.insert(panel["id"].as_u64()), "{name}: {}", panel["id"]);
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    let free = x < 24 && cells.insert((x, y));
                    assert!(free, "{name}: {} lies on another", panel["title"]);
                }
            }
        }
        for panel in dashboard.panels() {
            let title = format!("{name}: {}", text(&panel["title"]));
            assert!(text(&panel["description"]).len() > 20, "{title}");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!text(&defaults["unit"]).is_empty(), "{title}: unit");
            let steps = defaults["thresholds"]["steps"].as_array();
            assert!(steps.is_some_and(|s| !s.is_empty()), "{title}: thresholds");
            assert_eq!(text(&panel["datasource"]["uid"]), "${datasource}");
            let link = text(&panel["links"][0]["url"]);
            assert!(link.starts_with("${runbook}#"), "{title}: {link}");
            let targets = panel["targets"].as_array().expect("targets");
            let legend = |target: &Value| target["legendFormat"] != "__auto";
            assert!(targets.iter().all(legend), "{title}: legend");
        }
    }
}
