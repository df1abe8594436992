//! One stack: topics, group, tenants, receivers and two replicas of its own. Its
//! names do not tell its fault.

use super::fault::Fault;
use super::kafkas::Kafka;
use super::servers::{EgressProxy, TlsReceiver};
use crate::support::dns::{NameServer, Reply, Zone};
use crate::support::ports;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

const TENANTS: usize = 6;
const PLAN: Plan = Plan {
    partitions: 4,
    delays: "10s,10s,1m,1m,10m,10m,1h,1h,6h",
    delay_min: Duration::from_secs(10),
    attempts: 10,
};
/// Some POSTs to the first tenant always fail, as on any day.
const FAILURES: Behaviour = Behaviour::FailShare {
    permille: 200,
    seed: 3,
};
/// The crashing replica runs for this long, and pauses for this long at first and
/// at most.
const UP: Duration = Duration::from_secs(25);
const PAUSE_FIRST: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// A replica that may run.
pub struct Replica {
    pub name: String,
    pub port: u16,
    pub log: PathBuf,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    running: Option<Ringback>,
}

impl Replica {
    fn start(&mut self) {
        let started = Ringback::start_in(
            &self.wrapper,
            &self.name,
            &self.arguments,
            self.port,
            &self.log,
        );
        self.running = Some(started);
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|replica| replica.page("/readyz") == Some(200))
    }
}

/// The next kill or start of the crashing replica.
struct Crash {
    at: Instant,
    pause: Duration,
}

/// A stack with its fault.
pub struct Stack {
    pub fault: Fault,
    pub letter: char,
    pub replicas: Vec<Replica>,
    /// When it was broken.
    pub broken_at: Option<SystemTime>,
    pub kafka: Kafka,
    scene: Scene<'static>,
    name_server: Option<NameServer>,
    /// In place of the name server: it hears and does not answer.
    silent: Option<UdpSocket>,
    egress: Option<EgressProxy>,
    tls: Option<TlsReceiver>,
    crash: Option<Crash>,
}

impl Stack {
    /// Makes its topics and starts its replicas.
    pub fn start(fault: Fault, letter: char, kafka: &Kafka) -> Self {
        let mut scene = Scene::bare(kafka.broker, &format!("stack-{letter}"), PLAN);
        scene.topic = format!("call-ended-{letter}");
        scene.create_replicated_topics(kafka.replication);
        let mut stack = Self {
            fault,
            letter,
            replicas: Vec::new(),
            broken_at: None,
            kafka: kafka.clone(),
            scene,
            name_server: None,
            silent: None,
            egress: None,
            tls: None,
            crash: None,
        };
        stack.write_tenants();
        let arguments = stack.more_arguments();
        for number in 0..2 {
            let replica = stack.replica(number, &arguments);
            stack.replicas.push(replica);
        }
        for replica in &mut stack.replicas {
            replica.start();
        }
        stack
    }

    /// The names of its tenants.
    pub fn tenants() -> Vec<String> {
        let name = |number| format!("8746215813234318660059{:04}", 49 + number);
        (0..TENANTS).map(name).collect()
    }

    /// The source topic.
    pub fn topic(&self) -> &str {
        &self.scene.topic
    }

    /// The job of its targets.
    pub fn job(&self) -> String {
        format!("ringback-{}", self.letter)
    }

    fn write_tenants(&mut self) {
        let port = self.scene.receiver.port();
        if self.fault == Fault::DnsBroken {
            const ZONE: Zone = Zone {
                v4: &[Reply::Addresses(&["127.0.0.1"])],
                v6: Reply::Addresses(&[]),
            };
            self.name_server = Some(NameServer::start(HashMap::from([("customers.test", ZONE)])));
        }
        for (number, tenant) in Self::tenants().iter().enumerate() {
            let behaviour = if number == 0 { FAILURES } else { Behaviour::Ok };
            let mut url = json!({});
            if self.fault == Fault::DnsBroken {
                let name = format!("http://t{number}.customers.test:{port}/t/{tenant}");
                url = json!({ "url": name });
            }
            if self.fault == Fault::TenantCertificate && number == 2 {
                let tls = self.tls.get_or_insert_with(TlsReceiver::start);
                url = json!({ "url": tls.url() });
            }
            self.scene.tenant_with(tenant, behaviour, &url);
        }
    }

    fn more_arguments(&mut self) -> Vec<String> {
        let mut more = self.kafka.way_in().1;
        if self.fault == Fault::ProxyDown {
            let egress = self.egress.get_or_insert_with(EgressProxy::start);
            more.extend(["--proxy".to_owned(), egress.url()]);
        }
        if let Some(tls) = &self.tls {
            let file = self.scene.file("ca.pem", &tls.authority());
            more.extend(["--ca-file".to_owned(), file.display().to_string()]);
        }
        more
    }

    fn replica(&self, number: usize, more: &[String]) -> Replica {
        let name = format!("ringback-{number}");
        let mut arguments = self.scene.arguments(&name);
        let at = arguments
            .iter()
            .position(|argument| argument == "--brokers");
        arguments[at.expect("it is always there") + 1] = self.kafka.way_in().0;
        arguments.extend(more.iter().cloned());
        let mut wrapper = Vec::new();
        if let Some(server) = &self.name_server {
            const SCRIPT: &str =
                r#"mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@""#;
            let file = self.scene.file("resolv.conf", &server.resolv_conf());
            wrapper = ["unshare", "--mount", "sh", "-c", SCRIPT]
                .map(str::to_owned)
                .into();
            wrapper.push(file.display().to_string());
        }
        Replica {
            log: self.scene.file(&format!("{name}.log"), ""),
            name,
            port: ports::free(),
            arguments,
            wrapper,
            running: None,
        }
    }

    /// Breaks it.
    pub fn inject(&mut self) {
        self.broken_at = Some(SystemTime::now());
        self.kafka.inject(self.fault);
        let receiver = &self.scene.receiver;
        let tenants = Self::tenants();
        match self.fault {
            Fault::AllTenantsFail => {
                for tenant in &tenants {
                    receiver.behave(tenant, Behaviour::Always(503));
                }
            }
            Fault::OneTenantFails => receiver.behave(&tenants[3], Behaviour::Always(503)),
            Fault::TopicRefused => self.refuse_topic(),
            Fault::DnsBroken => self.silence_name_server(),
            Fault::ProxyDown => self.egress.as_ref().expect("it was started").stop(),
            Fault::TenantsFileRefused => {
                let text = fs::read_to_string(self.scene.tenants_file()).expect("it was written");
                self.scene.write_tenants_text(&text.replacen("},", "}", 1));
            }
            Fault::ReplicaCrashes => {
                let (at, pause) = (Instant::now(), PAUSE_FIRST);
                self.crash = Some(Crash { at, pause });
            }
            Fault::OffsetsToEarliest => self.reset(&["--all-topics"], "--to-earliest"),
            Fault::OffsetsToLatest => {
                let topic = self.scene.topic.clone();
                self.reset(&["--topic", &topic], "--to-latest");
            }
            Fault::TenantCertificate => self.tls.as_ref().expect("it was started").expire(),
            Fault::OneBrokerDown
            | Fault::AllBrokersDown
            | Fault::KafkaDiskFull
            | Fault::BrokerCertificate
            | Fault::ClockOff
            | Fault::Nothing => {}
        }
    }

    fn refuse_topic(&self) {
        let topic = self.scene.delay_topic("10s");
        for (how, operation) in [("--allow-principal", "All"), ("--deny-principal", "Write")] {
            self.scene.broker.acls(&[
                "--add",
                how,
                "User:ANONYMOUS",
                "--operation",
                operation,
                "--topic",
                &topic,
            ]);
        }
    }

    fn silence_name_server(&mut self) {
        let server = self.name_server.take().expect("it was started");
        let text = server.resolv_conf();
        drop(server);
        let ip = text.split_whitespace().nth(1).expect("an address");
        let ip: Ipv4Addr = ip.parse().expect("an address");
        self.silent = Some(UdpSocket::bind((ip, 53)).expect("nothing listens there"));
    }

    /// As an operator would do it, with the replicas stopped.
    fn reset(&mut self, topics: &[&str], to: &str) {
        for replica in &mut self.replicas {
            replica.running.take().expect("it runs").drain();
        }
        let group = &self.scene.topic;
        self.scene.broker.until_group_is_empty(group);
        let mut arguments = vec!["--group", group];
        arguments.extend(topics);
        arguments.extend(["--reset-offsets", to, "--execute"]);
        self.scene.broker.consumer_groups(&arguments);
        for replica in &mut self.replicas {
            replica.start();
        }
    }

    /// Kills or starts the crashing replica, if it is time.
    pub fn tick(&mut self) {
        let Some(crash) = &mut self.crash else {
            return;
        };
        if Instant::now() < crash.at {
            return;
        }
        let replica = &mut self.replicas[1];
        match replica.running.take() {
            Some(running) => {
                running.kill();
                crash.at = Instant::now() + crash.pause;
                crash.pause = PAUSE_MAX.min(crash.pause * 2);
            }
            None => {
                replica.start();
                crash.at = Instant::now() + UP;
            }
        }
    }
}
