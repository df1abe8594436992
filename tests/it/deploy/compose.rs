//! docker-compose.yml: compose's own client accepts it, and its services fit
//! ringback.

use super::{at, documents, read, repository, run, stdout_of, texts};
use crate::support::broker::Broker;
use crate::support::process::Process;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::{ports, ringback, wait, workspace};
use serde_json::{Map, Value};
use std::process::Command;
use std::sync::LazyLock;

/// The file as compose reads it, with merges and defaults.
static COMPOSE: LazyLock<Value> = LazyLock::new(|| {
    let file = repository("docker-compose.yml");
    let has_plugin = Command::new("docker").args(["compose", "version"]).output();
    let mut client = match has_plugin {
        Ok(done) if done.status.success() => {
            let mut docker = Command::new("docker");
            docker.arg("compose");
            docker
        }
        _ => Command::new("docker-compose"),
    };
    client.arg("-f").arg(file).arg("config");
    documents(&stdout_of(&mut client, "")).remove(0)
});

fn services() -> &'static Map<String, Value> {
    at(&COMPOSE, "/services")
        .as_object()
        .expect("services have names")
}

/// Returns the command of a health check, without its `CMD`.
fn check(service: &str) -> Vec<String> {
    let test = texts(at(&services()[service], "/healthcheck/test"));
    assert_eq!(test[0], "CMD", "{service}: the image has no shell");
    test[1..].iter().map(|&word| word.to_owned()).collect()
}

/// Waits until the program succeeds or fails as expected.
#[track_caller]
fn becomes(expected: bool, program: &str, arguments: &[String]) {
    wait::until(
        &format!("{program} {arguments:?} to say {expected}"),
        || {
            run(Command::new(program).args(arguments), "")
                .status
                .success()
                == expected
        },
    );
}

#[test]
fn images_are_pinned_ports_are_local_and_nothing_is_secret() {
    for (name, service) in services() {
        let image = at(service, "/image").as_str().unwrap_or_default();
        let (_, tag) = image.rsplit_once(':').unwrap_or_default();
        assert!(tag.contains('.') && tag != "latest", "{name}: {image}");
        for port in service["ports"].as_array().into_iter().flatten() {
            let host = port
                .get("host_ip")
                .unwrap_or(port)
                .as_str()
                .unwrap_or_default();
            assert!(host.starts_with("127.0.0.1"), "{name}: {port}");
        }
    }
    let file = read("docker-compose.yml").to_lowercase();
    for word in ["whsec_", "secret", "token", "password:"] {
        assert!(!file.contains(word), "{word}");
    }
}

#[test]
fn mounted_files_exist_and_services_wait_for_services_with_a_health_check() {
    let ends = ["topics"];
    for (name, service) in services() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume
                .get("source")
                .unwrap_or(volume)
                .as_str()
                .unwrap_or_default();
            let from = from.split(':').next().unwrap_or_default();
            let named = at(&COMPOSE, "/volumes").get(from).is_some();
            assert!(
                named || std::path::Path::new(from).exists(),
                "{name}: {volume}"
            );
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let condition = how["condition"].as_str().unwrap_or_default();
            let ended = ends.contains(&other.as_str());
            let expected = if ended {
                "service_completed_successfully"
            } else {
                "service_healthy"
            };
            assert_eq!(condition, expected, "{name} waits for {other}");
            // Ringback's check is in the image.
            if !ended && other != "ringback" {
                check(other);
            }
        }
    }
    let kafka = &services()["kafka"];
    let data = at(kafka, "/environment/KAFKA_LOG_DIRS");
    let mounted = kafka["volumes"].as_array().into_iter().flatten();
    let target = |volume: &Value| {
        let short = volume.as_str().and_then(|text| text.split(':').nth(1));
        let long = volume.get("target").and_then(Value::as_str);
        short.or(long).map(str::to_owned)
    };
    let mut mounted = mounted.filter_map(target);
    assert!(mounted.any(|target| *data == *target), "{kafka}");
    let home = at(
        &services()["grafana"],
        "/environment/GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
    );
    let home = home
        .as_str()
        .unwrap_or_default()
        .replace("/var/lib/grafana/dashboards", "deploy/grafana");
    assert!(repository(&home).exists(), "{home}");
    let scrapes = documents(&read("deploy/prometheus/prometheus.yml")).remove(0);
    for target in [
        at(&scrapes, "/scrape_configs/0/static_configs/0/targets/0"),
        at(
            &scrapes,
            "/alerting/alertmanagers/0/static_configs/0/targets/0",
        ),
    ] {
        let host = target
            .as_str()
            .and_then(|t| t.split(':').next())
            .unwrap_or_default();
        assert!(services().contains_key(host), "{host} is no service");
    }
}

#[test]
fn ringback_accepts_its_settings_and_tenants() {
    let service = &services()["ringback"];
    let mut command = ringback::command(&["check-config".to_owned()]);
    for (name, value) in at(service, "/environment")
        .as_object()
        .expect("they have names")
    {
        command.env(name, value.as_str().unwrap_or_default());
    }
    command.env(
        "RINGBACK_TENANTS",
        repository("deploy/compose/tenants.json"),
    );
    stdout_of(&mut command, "");
    // The default drain timeout and some more, before Docker kills.
    assert_eq!(at(service, "/stop_grace_period"), "15s");
    let tenants: Value = serde_json::from_str(&read("deploy/compose/tenants.json")).expect("JSON");
    for (tenant, settings) in tenants.as_object().expect("they have names") {
        let url = settings["url"].as_str().unwrap_or_default();
        let host = url.split(['/', ':']).nth(3).unwrap_or_default();
        assert!(
            services().contains_key(host),
            "{tenant}: {host} is no service"
        );
    }
    let publisher = texts(at(&services()["publisher"], "/command")).join(" ");
    let (_, published) = publisher
        .split_once("--tenants=")
        .expect("it names tenants");
    assert!(
        published
            .split(',')
            .all(|tenant| tenants.get(tenant).is_some())
    );
}

#[test]
fn the_topics_are_created_and_kafkas_check_asks_the_broker() {
    let broker = Broker::shared();
    let command = texts(at(&services()["topics"], "/command"));
    let more = ["--topic", "it-compose", "--brokers", broker.address()];
    let done = ringback::output(&[&command[..], &more].concat());
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(broker.partitions("it-compose"), 6);
    assert_eq!(broker.partitions("it-compose.dead-letter"), 6);

    // The image's script starts a class that the tests' broker has too.
    let check = check("kafka");
    assert_eq!(check[0], "/opt/kafka/bin/kafka-topics.sh");
    let listed = broker.topics(
        &check[1..]
            .iter()
            .map(|word| match word.as_str() {
                "kafka:9092" => broker.address(),
                other => other,
            })
            .collect::<Vec<_>>(),
    );
    assert!(
        listed.lines().any(|topic| topic == "it-compose"),
        "{listed}"
    );
}

#[test]
fn the_tenants_check_asks_the_receiver() {
    for tenant in ["tenant", "tenant-failing"] {
        let port = ports::free();
        let here = |text: &str| {
            text.replace("8080", &port.to_string())
                .replace("0.0.0.0", "127.0.0.1")
        };
        let command: Vec<String> = texts(at(&services()[tenant], "/command"))
            .iter()
            .map(|word| here(word))
            .collect();
        let log = workspace::directory("compose").join(tenant);
        let check = check(tenant);
        assert_eq!(check[0], "/ringback");
        let check: Vec<String> = check[1..].iter().map(|word| here(word)).collect();
        let program = env!("CARGO_BIN_EXE_ringback");
        assert!(
            !run(Command::new(program).args(&check), "").status.success(),
            "no listener yet"
        );
        let receiver = Process::start(tenant, &mut ringback::command(&command), &log);
        becomes(true, program, &check);
        drop(receiver);
    }
}

/// The checks of Prometheus, Alertmanager and Grafana ask a page for its status.
#[test]
fn the_checks_ask_a_page_with_programs_of_their_images() {
    let mut scene = Scene::new("compose-pages", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let pages = [
        ("prometheus", 9090, "/-/ready"),
        ("alertmanager", 9093, "/-/ready"),
        ("grafana", 3000, "/api/health"),
    ];
    for (service, port, page) in pages {
        let check = check(service);
        let asked = format!("http://127.0.0.1:{port}{page}");
        assert_eq!(check.last(), Some(&asked));
        // Here the check's program and options are tried, on a page of ringback.
        // The checks of the first two services have tests of their own.
        let on_ringback = |page: &str| {
            let mut check = check.clone();
            *check.last_mut().expect("it has words") =
                format!("http://127.0.0.1:{}{page}", ringback.port());
            check
        };
        let well = on_ringback("/healthz");
        becomes(true, &well[0], &well[1..]);
        let missing = on_ringback("/no-such-page");
        becomes(false, &missing[0], &missing[1..]);
    }
    ringback.drain();
}

/// Starts Prometheus and Alertmanager as the compose file does, from Debian's
/// packages.
#[test]
fn prometheus_and_alertmanager_are_ready_by_their_checks() {
    let programs = workspace::target().join("monitoring/usr/bin");
    let directory = workspace::directory("compose-monitoring");
    for (service, program, file, home) in [
        (
            "prometheus",
            "prometheus",
            "prometheus.yml",
            "--storage.tsdb.path",
        ),
        (
            "alertmanager",
            "prometheus-alertmanager",
            "alertmanager.yml",
            "--storage.path",
        ),
    ] {
        let port = ports::free();
        let config = repository("deploy/prometheus").join(file);
        let mut command = Command::new(programs.join(program));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("{home}={}", directory.join(service).display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        if service == "alertmanager" {
            command.arg("--cluster.listen-address=");
        }
        let mut check = check(service);
        let address = check.last_mut().expect("it has words");
        *address = address
            .replace("9090", &port.to_string())
            .replace("9093", &port.to_string());
        let asked = run(Command::new(&check[0]).args(&check[1..]), "");
        assert!(!asked.status.success(), "no listener yet");
        let log = directory.join(format!("{service}.log"));
        let process = Process::start(service, &mut command, &log);
        becomes(true, &check[0], &check[1..]);
        drop(process);
    }
}
