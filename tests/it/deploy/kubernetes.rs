//! deploy/kubernetes: kustomize builds it, and it is valid by the schemas of
//! Kubernetes and of the Prometheus Operator. The linter finds nothing, and it
//! fits the program.

use super::{at, documents, read, repository, run, stdout_of, texts, tool, tools};
use crate::support::broker::Broker;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::{ringback, workspace};
use ::ringback::cli;
use ::ringback::model::time::parse_duration;
use ::ringback::telemetry::metrics::DEFINITIONS;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// The first Kubernetes with preStop's sleep enabled by default, and the newest
/// that the schemas have.
pub const VERSIONS: [&str; 2] = ["1.30", "1.37"];

/// The text and the objects of the kustomization.
pub static BUILT: LazyLock<(String, Vec<Value>)> =
    LazyLock::new(|| built(&repository("deploy/kubernetes")));

fn built(folder: &Path) -> (String, Vec<Value>) {
    let mut kubectl = tool("kubectl");
    let yaml = stdout_of(kubectl.arg("kustomize").arg(folder), "");
    let documents = documents(&yaml);
    (yaml, documents)
}

/// Returns the objects of an overlay with these components, as an operator makes it.
pub fn overlay(components: &[&str]) -> Vec<Value> {
    let directory = workspace::directory(&format!("kubernetes-{}", components.join("-")));
    let directory = fs::canonicalize(directory).expect("it exists");
    // Kustomize takes no absolute paths.
    let up = "../".repeat(directory.components().count() - 1);
    let base = repository("deploy/kubernetes");
    let base = format!(
        "{up}{}",
        base.strip_prefix("/").expect("absolute").display()
    );
    let components: Vec<String> = components.iter().map(|c| format!("{base}/{c}")).collect();
    let kustomization = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "ringback",
        "resources": [base],
        "components": components,
    });
    let file = directory.join("kustomization.yaml");
    fs::write(file, kustomization.to_string()).expect("the build directory is writable");
    built(&directory).1
}

/// Returns the only resource of a kind.
#[track_caller]
fn resource(kind: &str) -> &'static Value {
    let mut found = BUILT.1.iter().filter(|document| document["kind"] == kind);
    let resource = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "one {kind}");
    resource
}

fn container() -> &'static Value {
    at(resource("StatefulSet"), "/spec/template/spec/containers/0")
}

/// Returns whether Kubernetes has the resource by a definition of its own.
pub fn is_custom(document: &Value) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    version.starts_with("monitoring.coreos.com/") || version.starts_with("keda.sh/")
}

#[test]
fn every_resource_is_valid_by_kubernetes_own_schemas() {
    let directory = workspace::directory("kubernetes");
    let mut files = Vec::new();
    for document in BUILT.1.iter().filter(|document| !is_custom(document)) {
        let name = document["kind"].as_str().expect("a kind");
        let file = directory.join(format!("{name}.json"));
        fs::write(&file, document.to_string()).expect("the build directory is writable");
        files.push(file);
    }
    assert_eq!(files.len(), 9);
    for version in VERSIONS {
        let mut validate = tool("kubernetes-validate");
        validate.args(["--strict", "-k", version]).args(&files);
        stdout_of(&mut validate, "");
    }
    // The tool does find a wrong key.
    let mut wrong = resource("StatefulSet").clone();
    wrong["spec"]["replica"] = 2.into();
    let file = directory.join("wrong.json");
    fs::write(&file, wrong.to_string()).expect("the build directory is writable");
    let mut validate = tool("kubernetes-validate");
    let done = run(validate.arg("--strict").arg(file), "");
    assert!(!done.status.success());
}

#[test]
fn the_custom_resources_are_valid_by_the_operators_schemas() {
    let custom: Vec<&Value> = BUILT
        .1
        .iter()
        .filter(|document| is_custom(document))
        .collect();
    assert_eq!(custom.len(), 2);
    // A module finds its packages in its own folder or in a parent folder.
    let script = tools().join("custom-resources.mjs");
    let validate = |documents: &[&Value]| {
        let json = serde_json::to_string(documents).expect("plain JSON");
        run(Command::new("node").arg(&script), &json)
            .status
            .success()
    };
    assert!(validate(&custom));
    let mut wrong = resource("ServiceMonitor").clone();
    wrong["spec"]["endpoints"][0]["interval"] = 15.into();
    assert!(!validate(&[&wrong]));
}

#[test]
fn the_linter_for_security_finds_nothing() {
    let file = workspace::directory("kubernetes-lint").join("all.yaml");
    fs::write(&file, &BUILT.0).expect("the build directory is writable");
    let mut checkov = Command::new("python3");
    checkov.args([
        "-m",
        "checkov.main",
        "--framework",
        "kubernetes",
        "--compact",
    ]);
    checkov.args(["--skip-download", "-f"]).arg(&file);
    checkov.env("PYTHONPATH", tools().join("python"));
    let report = stdout_of(&mut checkov, "");
    assert!(
        report.contains("Failed checks: 0, Skipped checks: 8"),
        "{report}"
    );
}

#[test]
fn the_rules_are_those_of_prometheus_word_for_word() {
    let rules = documents(&read("deploy/prometheus/rules.yml")).remove(0);
    let hint = "deploy/kubernetes/prometheus-operator/prometheusrule.yaml says how to renew it";
    assert_eq!(at(resource("PrometheusRule"), "/spec"), &rules, "{hint}");
}

#[test]
fn names_ports_and_labels_fit_together() {
    let labels = at(resource("StatefulSet"), "/spec/template/metadata/labels");
    for (kind, selector) in [
        ("StatefulSet", "/spec/selector/matchLabels"),
        (
            "StatefulSet",
            "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels",
        ),
        (
            "StatefulSet",
            "/spec/template/spec/topologySpreadConstraints/1/labelSelector/matchLabels",
        ),
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
    ] {
        assert_eq!(at(resource(kind), selector), labels, "{kind}");
    }
    let of_job = at(resource("Job"), "/spec/template/metadata/labels");
    let name = "app.kubernetes.io/name";
    let policy = at(
        resource("NetworkPolicy"),
        "/spec/podSelector/matchExpressions",
    );
    let names = [&labels[name], &of_job[name]];
    let both = serde_json::json!([{ "key": name, "operator": "In", "values": names }]);
    assert_eq!(*policy, both);
    let monitored = at(resource("ServiceMonitor"), "/spec/selector/matchLabels");
    assert_eq!(monitored, at(resource("Service"), "/metadata/labels"));
    let port = at(container(), "/ports/0/name");
    for (kind, named) in [
        ("Service", "/spec/ports/0/targetPort"),
        ("Service", "/spec/ports/0/name"),
        ("NetworkPolicy", "/spec/ingress/0/ports/0/port"),
        ("ServiceMonitor", "/spec/endpoints/0/port"),
    ] {
        assert_eq!(at(resource(kind), named), port, "{kind}");
    }
    let set = resource("StatefulSet");
    assert_eq!(
        at(set, "/spec/serviceName"),
        at(resource("Service"), "/metadata/name")
    );
    let volume = at(
        set,
        "/spec/template/spec/volumes/0/projected/sources/0/secret/name",
    );
    assert_eq!(volume, at(resource("Secret"), "/metadata/name"));
    let user = at(set, "/spec/template/spec/securityContext/runAsUser");
    assert!(read("deploy/Dockerfile").contains(&format!("USER {user}:{user}")));
}

/// Admission by the profile `restricted` of Pod Security, which the namespace
/// enforces, asks for these values.
#[test]
fn all_pods_fit_the_restricted_profile_and_no_apply_resets_the_replicas() {
    for kind in ["StatefulSet", "Job"] {
        let pod = at(resource(kind), "/spec/template/spec");
        assert_eq!(at(pod, "/securityContext/runAsNonRoot"), true, "{kind}");
        let seccomp = at(pod, "/securityContext/seccompProfile/type");
        assert_eq!(seccomp, "RuntimeDefault", "{kind}");
        let container = at(pod, "/containers/0/securityContext");
        assert_eq!(at(container, "/allowPrivilegeEscalation"), false, "{kind}");
        assert_eq!(texts(at(container, "/capabilities/drop")), ["ALL"]);
    }
    assert_eq!(
        texts(at(resource("Job"), "/spec/template/spec/containers/0/args")),
        ["topics", "create"]
    );
    let of_job = at(resource("Job"), "/spec/template/metadata/labels");
    let of_replicas = at(resource("StatefulSet"), "/spec/selector/matchLabels");
    assert_ne!(of_job, of_replicas, "no Service selects the job");
    assert!(
        at(resource("StatefulSet"), "/spec")
            .get("replicas")
            .is_none()
    );
    let options = at(
        resource("StatefulSet"),
        "/spec/template/spec/dnsConfig/options/0",
    );
    assert_eq!(
        *options,
        serde_json::json!({ "name": "ndots", "value": "1" })
    );
}

/// Checks objects by the schemas of Kubernetes and of the custom resources.
#[track_caller]
pub fn valid(objects: &[Value], name: &str) {
    let directory = workspace::directory(name);
    let script = tools().join("custom-resources.mjs");
    for (number, object) in objects.iter().enumerate() {
        if is_custom(object) {
            let all = serde_json::json!([object]).to_string();
            stdout_of(Command::new("node").arg(&script), &all);
            continue;
        }
        let file = directory.join(format!("{number}.json"));
        fs::write(&file, object.to_string()).expect("the build directory is writable");
        for version in VERSIONS {
            let mut validate = tool("kubernetes-validate");
            validate.args(["--strict", "-k", version]).arg(&file);
            stdout_of(&mut validate, "");
        }
    }
}

#[test]
fn the_autoscalers_name_the_replicas_and_an_existing_metric() {
    for (component, kind) in [
        ("autoscaling", "HorizontalPodAutoscaler"),
        ("autoscaling-keda", "ScaledObject"),
    ] {
        let all = overlay(&[component]);
        let mut scalers = all.iter().filter(|object| object["kind"] == kind);
        let scaler = scalers.next().unwrap_or_else(|| panic!("no {kind}"));
        valid(std::slice::from_ref(scaler), component);
        let target = at(scaler, "/spec/scaleTargetRef/name");
        assert_eq!(target, at(resource("StatefulSet"), "/metadata/name"));
        let asked = match kind {
            "ScaledObject" => at(scaler, "/spec/triggers/0/metadata/query"),
            _ => at(scaler, "/spec/metrics/0/external/metric/name"),
        };
        let asked = asked.as_str().expect("text");
        let mut metrics = DEFINITIONS.iter();
        let lag = metrics.find(|row| row.name == "ringback_lag_records");
        assert!(asked.contains(lag.expect("it exists").name), "{asked}");
    }
}

#[test]
fn tenants_may_be_in_a_topic_that_the_job_creates() {
    let all = overlay(&["tenants-topic"]);
    valid(&all, "kubernetes-topic");
    let of = |kind: &str| all.iter().find(|object| object["kind"] == kind);
    assert!(of("Secret").is_none());
    let map = of("ConfigMap").expect("a ConfigMap");
    let topic = "topic:call-ended.tenants";
    assert_eq!(*at(map, "/data/RINGBACK_TENANTS"), topic);
    for (kind, from) in [
        ("StatefulSet", "/spec/template/spec/containers/0/envFrom/0"),
        ("Job", "/spec/template/spec/containers/0/envFrom/0"),
    ] {
        let name = at(of(kind).expect("there is one"), from).pointer("/configMapRef/name");
        assert_eq!(name, Some(at(map, "/metadata/name")), "{kind}");
    }
    // The topic has a name that is no delay topic's.
    let mut scene = Scene::bare(Broker::shared(), "kubernetes-tenants", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let tenants = topic.replace("call-ended", &scene.topic);
    let mut create = ringback::command(&["topics".to_owned(), "create".to_owned()]);
    create
        .env("RINGBACK_BROKERS", scene.broker.address())
        .env("RINGBACK_TOPIC", &scene.topic)
        .env("RINGBACK_TENANTS", &tenants);
    let created = stdout_of(&mut create, "");
    let name = tenants.trim_start_matches("topic:");
    assert!(created.contains(&format!("{name} created")), "{created}");
}

#[test]
fn the_pages_answer_on_both_families_and_to_the_monitoring_alone() {
    let service = at(resource("Service"), "/spec");
    assert_eq!(at(service, "/ipFamilyPolicy"), "PreferDualStack");
    let policy = at(resource("NetworkPolicy"), "/spec");
    let admitted = serde_json::json!([{ "namespaceSelector": { "matchLabels": {
        "kubernetes.io/metadata.name": "monitoring" } } }]);
    assert_eq!(*at(policy, "/ingress/0/from"), admitted);
    assert_eq!(policy["ingress"].as_array().map(Vec::len), Some(1));
    assert_eq!(texts(at(policy, "/policyTypes")), ["Ingress"]);
}

/// Returns all variables of a pod. A field reference has the pod's name as value.
fn variables() -> BTreeMap<String, String> {
    let plain = at(container(), "/env").as_array().expect("a list").iter();
    let mut all: BTreeMap<String, String> = plain
        .map(|variable| {
            let name = variable["name"].as_str().expect("a name").to_owned();
            let value = variable["value"]
                .as_str()
                .unwrap_or("ringback-0")
                .to_owned();
            (name, value)
        })
        .collect();
    let shared = at(resource("ConfigMap"), "/data")
        .as_object()
        .expect("an object");
    for (name, value) in shared {
        all.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
    }
    all
}

#[test]
fn ringback_accepts_the_settings_and_the_grace_period_covers_the_drain() {
    let settings = cli::variables();
    let mut command = ringback::command(&["check-config".to_owned()]);
    for (name, value) in variables() {
        assert!(settings.contains(&name), "{name} belongs to no setting");
        command.env(name, value);
    }
    // Its only *.json is that of the Secret.
    command.env("RINGBACK_TENANTS", repository("deploy/kubernetes"));
    stdout_of(&mut command, "");

    let pod = at(resource("StatefulSet"), "/spec/template/spec");
    let drain = parse_duration(&variables()["RINGBACK_DRAIN_TIMEOUT"]).expect("a duration");
    let stop = at(container(), "/lifecycle/preStop/sleep/seconds")
        .as_u64()
        .expect("a number");
    let grace = at(pod, "/terminationGracePeriodSeconds")
        .as_u64()
        .expect("a number");
    assert!(grace >= stop + drain.as_secs() + 5, "{grace} s");
    assert_eq!(at(pod, "/enableServiceLinks"), false);
    assert_eq!(texts(at(container(), "/args")), ["run"]);
    // The setting names the mounted folder.
    let mount = at(container(), "/volumeMounts/0/mountPath");
    assert_eq!(*mount, variables()["RINGBACK_TENANTS"]);
    assert!(
        at(resource("Secret"), "/data")
            .get("tenants.json")
            .is_some()
    );
}

#[test]
fn the_probes_and_the_scrape_ask_existing_pages() {
    let mut scene = Scene::new("kubernetes-probes", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    for page in [
        at(container(), "/livenessProbe/httpGet/path"),
        at(container(), "/readinessProbe/httpGet/path"),
        at(resource("ServiceMonitor"), "/spec/endpoints/0/path"),
    ] {
        let page = page.as_str().expect("a path");
        assert_eq!(ringback.page(page), Some(200), "{page}");
    }
    ringback.drain();
}
