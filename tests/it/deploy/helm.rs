//! deploy/helm: Helm renders it to the objects of deploy/kubernetes, its linter finds
//! nothing, and the schema of its values refuses what ringback would refuse.
//!
//! The package with Helm's own library has a build for x86-64 alone.

use super::kubernetes::{BUILT, overlay, valid};
use super::{at, read, repository, run, stdout_of, tools};
use crate::support::{ringback, workspace};
use ::ringback::cli;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output};

/// Flags of `ringback run` that the chart sets itself.
const OF_THE_CHART: [&str; 5] = ["brokers", "drain-timeout", "instance", "listen", "tenants"];

fn helm(values: &Value) -> Output {
    let mut python = Command::new("python3");
    python.arg(repository("tests/it/deploy/helm.py"));
    python.arg(repository("deploy/helm"));
    python.env("PYTHONPATH", tools().join("python"));
    run(&mut python, &values.to_string())
}

/// Returns the objects of the chart with these values.
#[track_caller]
fn rendered(values: &Value) -> Vec<Value> {
    let done = helm(values);
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{values}: {error}");
    let mut printed: Value = serde_json::from_slice(&done.stdout).expect("it prints JSON");
    assert_eq!(printed["lint"], json!([]));
    let objects = printed["objects"].take();
    serde_json::from_value(objects).expect("a list")
}

/// Returns a template of Pods without the hashes of settings, and without empty lists.
fn comparable_template(template: &Value, settings: &str) -> Value {
    let text = template.to_string().replace(settings, "\"ringback\"");
    let text = text.replace(",\"volumes\":[]", "");
    let text = text.replace(",\"volumeMounts\":[]", "");
    let mut template: Value = serde_json::from_str(&text).expect("JSON");
    let metadata = template["metadata"].as_object_mut().expect("an object");
    if let Some(annotations) = metadata.get_mut("annotations") {
        let all = annotations.as_object_mut().expect("an object");
        all.retain(|name, _| !name.starts_with("checksum/"));
    }
    metadata.retain(|_, value| *value != json!({}));
    template
}

/// Returns the objects by kind, without what the two ways name differently: names with
/// a hash, and the namespace.
fn comparable(objects: &[Value]) -> BTreeMap<String, Value> {
    let mut maps = objects.iter().filter(|o| o["kind"] == "ConfigMap");
    let settings = maps.next().expect("a ConfigMap")["metadata"]["name"].to_string();
    let mut all = BTreeMap::new();
    for object in objects.iter().filter(|o| o["kind"] != "Namespace") {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let mut object = object.clone();
        let metadata = object["metadata"].as_object_mut().expect("an object");
        metadata.remove("namespace");
        metadata.remove("annotations");
        if let Some(template) = object.pointer_mut("/spec/template") {
            *template = comparable_template(template, &settings);
        }
        let name = match kind.as_str() {
            "Job" => "ringback-topics",
            "Secret" => "ringback-tenants",
            _ => "ringback",
        };
        let long = object["metadata"]["name"].as_str().unwrap_or_default();
        assert!(long.starts_with(name), "{kind}: {long}");
        object["metadata"]["name"] = name.into();
        if kind == "Secret" {
            // The two ways print the same JSON with other white space.
            object["data"]["tenants.json"] = Value::Null;
        }
        all.insert(kind, object);
    }
    all
}

fn example() -> Value {
    let tenants: Value =
        serde_json::from_str(&read("deploy/kubernetes/tenants.json")).expect("JSON");
    json!({ "tenants": { "inline": tenants } })
}

/// Sorts the volumes and mounts, whose order means nothing.
fn by_name(mut objects: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    for object in objects.values_mut() {
        for list in [
            "/spec/template/spec/volumes",
            "/spec/template/spec/containers/0/volumeMounts",
        ] {
            if let Some(Value::Array(list)) = object.pointer_mut(list) {
                list.sort_by_key(|item| item["name"].to_string());
            }
        }
    }
    objects
}

#[test]
fn helm_renders_the_objects_of_the_kustomization() {
    let ours = comparable(&rendered(&example()));
    assert_eq!(ours, comparable(&BUILT.1));
    for (values, component) in [
        (json!({ "kind": "hpa" }), "autoscaling"),
        (json!({ "kind": "keda" }), "autoscaling-keda"),
    ] {
        let mut with = example();
        with["autoscaling"] = values;
        let mut theirs = comparable(&overlay(&[component]));
        // An overlay gives no label to the objects of its components.
        for (kind, object) in &mut theirs {
            if !ours.contains_key(kind) {
                object["metadata"]["labels"] = json!({ "app.kubernetes.io/name": "ringback" });
            }
        }
        assert_eq!(comparable(&rendered(&with)), theirs, "{component}");
    }
    let topic = json!({ "tenants": { "topic": "call-ended.tenants" } });
    let theirs = comparable(&overlay(&["tenants-topic"]));
    assert_eq!(comparable(&rendered(&topic)), theirs);
    let mut files = example();
    files["filesSecret"] = json!("ringback-kafka");
    let place = "/etc/ringback-files/kafka.properties";
    files["settings"]["kafka-properties"] = json!(place);
    let theirs = comparable(&overlay(&["kafka-files"]));
    assert_eq!(by_name(comparable(&rendered(&files))), by_name(theirs));
}

#[test]
fn versions_are_those_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = read("deploy/helm/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\n")));
    assert!(chart.contains(&format!("\nappVersion: {version}\n")));
    let kustomization = read("deploy/kubernetes/kustomization.yaml");
    assert!(kustomization.contains(&format!("newTag: {version}\n")));
    let image = read("deploy/Dockerfile");
    assert!(image.contains(&format!("image.version=\"{version}\"")));
}

#[test]
fn the_schema_has_every_flag_and_refuses_unknown_values() {
    let schema: Value =
        serde_json::from_str(&read("deploy/helm/values.schema.json")).expect("JSON");
    let settings = at(&schema, "/properties/settings/properties").as_object();
    let mut flags: BTreeSet<String> = settings.expect("an object").keys().cloned().collect();
    flags.extend(OF_THE_CHART.map(str::to_owned));
    let run = cli::command().find_subcommand("run").cloned();
    let run = run.expect("a command");
    let own = run.get_arguments().filter(|own| own.get_env().is_some());
    let own = own.filter_map(|own| own.get_long().map(str::to_owned));
    assert_eq!(flags, own.collect());
    for (wrong, named) in [
        (json!({ "replicas": 2 }), "replicas"),
        (json!({ "settings": { "brokers": "a:1" } }), "brokers"),
        (json!({ "brokers": "kafka" }), "brokers"),
        (json!({ "tenants": { "inline": { "a": {} } } }), "url"),
        (json!({ "autoscaling": { "kind": "vpa" } }), "kind"),
    ] {
        let done = helm(&wrong);
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success(), "{wrong}");
        assert!(error.contains(named), "{wrong}: {error}");
    }
}

/// Returns the variables that a chart with these values gives to ringback.
fn variables(objects: &[Value]) -> BTreeMap<String, String> {
    let mut maps = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap");
    let map = maps.next().expect("a ConfigMap");
    serde_json::from_value(map["data"].clone()).expect("texts")
}

#[test]
fn values_become_settings_that_ringback_accepts() {
    let tenants = workspace::directory("helm-tenants");
    let file = tenants.join("a.json");
    fs::write(file, r#"{"a": {"url": "https://example.com/"}}"#).expect("the test owns it");
    let values = json!({
        "settings": { "require-https": true, "in-flight-max": 20_000, "timeout": "2s", "topic": "calls" },
        "filesSecret": "files",
        "tenants": { "secrets": ["a", "b"] },
        "autoscaling": { "kind": "keda" },
    });
    let objects = rendered(&values);
    let mut found = variables(&objects);
    assert_eq!(found["RINGBACK_REQUIRE_HTTPS"], "on");
    assert_eq!(found["RINGBACK_IN_FLIGHT_MAX"], "20000");
    let of = |kind: &str| {
        let mut objects = objects.iter().filter(|object| object["kind"] == kind);
        objects.next().unwrap_or_else(|| panic!("no {kind}"))
    };
    let mount = at(
        of("StatefulSet"),
        "/spec/template/spec/containers/0/volumeMounts/0/mountPath",
    );
    assert_eq!(mount, &found["RINGBACK_TENANTS"]);
    let sources = at(
        of("StatefulSet"),
        "/spec/template/spec/volumes/0/projected/sources",
    );
    assert_eq!(
        *sources,
        json!([{ "secret": { "name": "a" } }, { "secret": { "name": "b" } }])
    );
    for kind in ["StatefulSet", "Job"] {
        let pod = at(of(kind), "/spec/template/spec");
        let volumes = pod["volumes"].as_array().expect("a list");
        let names: Vec<&Value> = volumes.iter().map(|volume| &volume["name"]).collect();
        let mounts = at(pod, "/containers/0/volumeMounts")
            .as_array()
            .expect("a list");
        let mounted: Vec<&Value> = mounts.iter().map(|mount| &mount["name"]).collect();
        assert_eq!(names, mounted, "{kind}");
        assert!(names.contains(&&json!("files")), "{kind}");
    }
    let query = at(of("ScaledObject"), "/spec/triggers/0/metadata/query");
    assert!(query.to_string().contains("calls"), "{query}");

    found.insert(
        "RINGBACK_TENANTS".to_owned(),
        tenants.to_str().expect("UTF-8").to_owned(),
    );
    let mut command = ringback::command(&["check-config".to_owned()]);
    stdout_of(command.envs(&found), "");

    valid(&objects, "helm-objects");
}

/// A Job cannot be changed, so another Job needs another name. Changed settings
/// restart the replicas.
#[test]
fn changed_settings_make_another_job_and_other_pods() {
    let job = |objects: &[Value]| {
        let mut jobs = objects.iter().filter(|object| object["kind"] == "Job");
        jobs.next().expect("a Job")["metadata"]["name"].clone()
    };
    let pods = |objects: &[Value]| {
        let mut sets = objects
            .iter()
            .filter(|object| object["kind"] == "StatefulSet");
        sets.next().expect("a StatefulSet")["spec"]["template"].clone()
    };
    let before = rendered(&json!({}));
    assert_eq!(job(&before), job(&rendered(&json!({}))));
    for changed in [
        json!({ "settings": { "delays": "1m,1h" } }),
        json!({ "image": { "tag": "9.9.9" } }),
    ] {
        let after = rendered(&changed);
        assert_ne!(job(&before), job(&after), "{changed}");
        assert_ne!(pods(&before), pods(&after), "{changed}");
    }
}
