//! Alerts and dashboards on a real Prometheus and Alertmanager that scrape real
//! replicas, and the alerts' own cases.

use crate::support::dashboards::{self, Dashboard, family, selectors, text};
use crate::support::documents::anchor;
use crate::support::monitoring::{self, Monitoring, deployed};
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::{wait, workspace};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Expressions that are empty as long as the service is healthy.
const EMPTY_IN_HEALTH: [&str; 4] = [
    "RingbackBrokerUnreachable",
    "RingbackDestinationRefused",
    // Annotations: a replica is gone, a replica was killed.
    "Gone",
    "Unclean stops",
];

/// An alert waits 15 s, and more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[track_caller]
fn succeeds(program: &str, arguments: &[&str]) {
    let done = monitoring::output(program, arguments);
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {text}");
}

#[test]
fn prometheus_accepts_the_files_and_the_alerts_pass_their_cases() {
    succeeds("promtool", &["check", "rules", "rules.yml"]);
    succeeds("promtool", &["test", "rules", "rules-test.yml"]);
    succeeds(
        "promtool",
        &["check", "config", "--syntax-only", "prometheus.yml"],
    );
    succeeds("amtool", &["check-config", "alertmanager.yml"]);
}

/// Returns the names after this key in a file, in order.
fn named(file: &str, key: &str) -> Vec<String> {
    let lines = file.lines().map(str::trim_start);
    let names = lines.filter_map(|line| line.strip_prefix("- ").unwrap_or(line).strip_prefix(key));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_cases_that_stay_silent_fire_and_resolve() {
    let rules = deployed("prometheus/rules.yml");
    let cases = deployed("prometheus/rules-test.yml");
    // By alert: the states that a scene shows in this order.
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for scene in cases.split("\n  - name: ") {
        let mut fired = BTreeSet::new();
        for case in scene.split("- eval_time: ").skip(1) {
            let alert = named(case, "alertname: ").remove(0);
            let silent = case.contains("exp_alerts: []");
            let state = match (silent, fired.contains(&alert)) {
                (true, false) => "silent",
                (true, true) => "resolves",
                (false, _) => {
                    fired.insert(alert.clone());
                    "fires"
                }
            };
            seen.entry(alert).or_default().insert(state);
        }
    }
    for alert in named(&rules, "alert: ") {
        let states = seen.remove(&alert).unwrap_or_default();
        let all = ["fires", "resolves", "silent"].into();
        assert_eq!(states, all, "cases of {alert}");
    }
    assert!(seen.is_empty(), "cases of no alert: {seen:?}");
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_every_link_its_target() {
    let runbook = deployed("RUNBOOK.md");
    let headings = runbook.lines().filter(|line| line.starts_with('#'));
    let anchors: Vec<String> = headings.map(anchor).collect();
    let rules = deployed("prometheus/rules.yml");
    let mut alerts = BTreeSet::new();
    for alert in named(&rules, "alert: ") {
        let section = anchor(&alert);
        assert!(anchors.contains(&section), "no section on {alert}");
        let link = format!("https://ringback.example/RUNBOOK.md#{section}");
        let links = named(&rules, "runbook_url: ");
        assert!(links.contains(&link), "no link to {section}");
        alerts.insert(section);
    }
    let of_alerts = anchors
        .iter()
        .filter(|a| a.starts_with("ringback") && *a != "ringback");
    for section in of_alerts {
        assert!(alerts.contains(section), "{section}: a section on no alert");
    }
    for dashboard in dashboards::all() {
        for panel in dashboard.panels() {
            let link = text(&panel["links"][0]["url"]);
            let (_, section) = link.split_once('#').expect("a section");
            let exists = anchors.iter().any(|anchor| anchor == section);
            assert!(exists, "{}: {link}", panel["title"]);
        }
    }
}

/// A scene in which every metric gets data, step by step.
struct Busy {
    scene: Scene<'static>,
    next: Instant,
}

impl Busy {
    const STEP: Duration = Duration::from_millis(250);

    fn new() -> Self {
        let plan = Plan {
            partitions: 2,
            delays: "1s,2s",
            delay_min: Duration::from_secs(1),
            attempts: 3,
        };
        let mut scene = Scene::new("monitoring", plan);
        for tenant in ["good-1", "good-2", "good-3", "good-4"] {
            scene.tenant(tenant, Behaviour::Ok);
        }
        scene.tenant("dead", Behaviour::Always(503));
        let (permille, seed) = (300, 1);
        scene.tenant("shaky", Behaviour::FailShare { permille, seed });
        let one = json!({ "maxInFlight": 1 });
        let slow = Behaviour::Slow(Duration::from_millis(400));
        scene.tenant_with("slow", slow, &one);
        scene.tenant_with("off", Behaviour::Ok, &json!({ "enabled": false }));
        Self {
            scene,
            next: Instant::now(),
        }
    }

    /// Looks at most four times a second, and publishes a few records before.
    fn look<T>(&mut self, look: impl FnOnce() -> Option<T>) -> Option<T> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + Self::STEP;
        for tenant in [
            "good-1", "good-2", "good-3", "good-4", "shaky", "dead", "off",
        ] {
            self.scene.publish(tenant, 1);
        }
        self.scene.publish("slow", 3);
        let topic = self.scene.topic.clone();
        self.scene.send(&topic, None, Some(b"{"), &[]);
        look()
    }

    #[track_caller]
    fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        wait::until_some(what, PATIENCE, || self.look(&mut look))
    }
}

/// Returns the expressions of all panels and annotations, and the selectors of
/// all rules and variables, each with its place.
fn expressions(monitoring: &Monitoring) -> Vec<(String, String)> {
    let dashboards = dashboards::all();
    let mut all: Vec<_> = dashboards.iter().flat_map(Dashboard::expressions).collect();
    for dashboard in &dashboards {
        for variable in dashboard.variables() {
            all.push((format!("a variable of {}", dashboard.name), variable));
        }
    }
    // An alert's expression is empty in health; its selectors are not.
    for rule in monitoring.rules() {
        let name = text(&rule["name"]);
        for selector in selectors(text(&rule["query"])) {
            all.push((name.to_owned(), selector));
        }
    }
    all.retain(|(place, _)| !EMPTY_IN_HEALTH.contains(&place.as_str()));
    all
}

/// Checks that every named metric was scraped, and that every metric of ringback
/// is named.
fn check_names(monitoring: &Monitoring) {
    let scraped = monitoring.names();
    let scraped: BTreeSet<&str> = scraped.iter().map(|name| family(name)).collect();
    let all = expressions(monitoring);
    let named = all.iter().flat_map(|(_, expression)| selectors(expression));
    let named: BTreeSet<String> = named.map(|s| family(&s).to_owned()).collect();
    for name in &named {
        assert!(scraped.contains(name.as_str()), "no {name}");
    }
    for name in scraped.iter().filter(|n| n.starts_with("ringback_")) {
        assert!(
            named.contains(*name),
            "{name} is on no panel and in no alert"
        );
    }
}

#[test]
fn every_expression_finds_data_and_the_alert_of_a_dead_tenant_fires_and_resolves() {
    const ALERT: &str = r#"ALERTS{alertname="RingbackTenantFailing", alertstate="firing"}"#;
    let mut busy = Busy::new();
    let replicas = ["a", "b"].map(|instance| busy.scene.run(instance));
    let ports = replicas.each_ref().map(Ringback::port);
    let monitoring = Monitoring::start(&workspace::directory("monitoring-files"), &ports);
    // A third replica causes a rebalance, which an expression shows.
    busy.until("the first scrapes", || {
        let seen = monitoring.query("ringback_rebalances_total");
        (seen.len() == replicas.len()).then_some(())
    });
    let _third = busy.scene.run("c");

    let mut empty = expressions(&monitoring);
    let started = Instant::now();
    while !empty.is_empty() {
        assert!(started.elapsed() < PATIENCE, "without data: {empty:#?}");
        busy.until("a look", || Some(()));
        empty.retain(|(_, expression)| monitoring.query(expression).is_empty());
    }
    check_names(&monitoring);

    busy.until("the alert", || {
        let firing = monitoring.query(ALERT);
        let tenant = |sample: &monitoring::Sample| sample.labels["tenant"] == "dead";
        firing.iter().any(tenant).then_some(())
    });
    let alert_of_the_dead = || {
        let alerts = monitoring.alerts();
        let one = |alert: &serde_json::Value| {
            let labels = &alert["labels"];
            labels["alertname"] == "RingbackTenantFailing" && labels["tenant"] == "dead"
        };
        alerts.into_iter().find(one)
    };
    let alert = busy.until("the alert at alertmanager", alert_of_the_dead);
    assert_eq!(alert["labels"]["severity"], "warning");
    let description = text(&alert["annotations"]["description"]);
    assert!(description.contains("http_5xx"), "{description}");
    let healthy = r#"ALERTS{alertname="RingbackTenantFailing", tenant!="dead"}"#;
    assert!(monitoring.query(healthy).is_empty(), "others are delivered");
    let health = &dashboards::all()[0].expressions();
    let (_, health) = health
        .iter()
        .find(|(title, _)| title == "Healthy?")
        .expect("a verdict");
    let verdict = monitoring.query(health);
    assert_eq!(verdict.len(), 1, "one verdict");
    assert!(verdict[0].value >= 1.0, "an alert fires: not healthy");

    busy.scene.receiver.behave("dead", Behaviour::Ok);
    busy.until("the end of the alert", || {
        let over = monitoring.query(ALERT).is_empty() && alert_of_the_dead().is_none();
        over.then_some(())
    });
}
