//! The brokers: one for most stacks, and those that a fault needs for itself.

use super::fault::{Fault, KafkaKind};
use crate::support::broker::{Broker, Node};
use crate::support::cluster::Cluster;
use crate::support::publisher::Publisher;
use crate::support::tls::Authority;
use crate::support::{ports, workspace};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// The size of the small disk.
const SMALL: &str = "size=256m";

/// A Kafka with its publisher. Its processes end with the program.
#[derive(Clone)]
pub struct Kafka {
    /// Its first broker.
    pub broker: &'static Broker,
    /// How many brokers hold a copy of each partition.
    pub replication: usize,
    pub publisher: Arc<Publisher>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Shared,
    Cluster(&'static Cluster),
    SmallDisk(PathBuf),
    Tls(Arc<Tls>),
    /// The file with the seconds that its clock is off.
    Clock(PathBuf),
}

/// A broker's listener with TLS.
struct Tls {
    authority: Authority,
    port: u16,
    directory: PathBuf,
}

impl Kafka {
    /// Starts it.
    pub fn start(kind: KafkaKind) -> Self {
        let (broker, kind): (&'static Broker, Kind) = match kind {
            KafkaKind::Shared => (leak(shared()), Kind::Shared),
            KafkaKind::Cluster => {
                let cluster: &Cluster = Box::leak(Box::new(Cluster::start("night", 3, 0)));
                (cluster.broker(0), Kind::Cluster(cluster))
            }
            KafkaKind::SmallDisk => {
                let (broker, disk) = small_disk();
                (leak(broker), Kind::SmallDisk(disk))
            }
            KafkaKind::Tls => {
                let (broker, tls) = tls();
                (leak(broker), Kind::Tls(Arc::new(tls)))
            }
            KafkaKind::Clock => {
                let (broker, clock) = with_clock();
                (leak(broker), Kind::Clock(clock))
            }
        };
        Self {
            broker,
            replication: if matches!(kind, Kind::Cluster(_)) {
                3
            } else {
                1
            },
            publisher: Arc::new(Publisher::new(broker)),
            kind,
        }
    }

    /// The address for replicas, and the arguments with which they reach it.
    pub fn way_in(&self) -> (String, Vec<String>) {
        let Kind::Tls(tls) = &self.kind else {
            return (self.broker.address().to_owned(), Vec::new());
        };
        let ca = tls.directory.join("ca.pem");
        let properties = [
            "security.protocol=SSL".to_owned(),
            format!("ssl.ca.location={}", ca.display()),
        ];
        let arguments = properties.map(|property| ["--kafka".to_owned(), property]);
        (format!("127.0.0.1:{}", tls.port), arguments.concat())
    }

    /// Breaks it, where the fault is one of Kafka.
    pub fn inject(&self, fault: Fault) {
        match (fault, &self.kind) {
            // The first broker stays, so that its address can be asked.
            (Fault::OneBrokerDown, Kind::Cluster(cluster)) => cluster.broker(2).kill(),
            (Fault::AllBrokersDown, Kind::Cluster(cluster)) => {
                cluster.broker(0).kill();
                cluster.broker(1).kill();
            }
            (Fault::KafkaDiskFull, Kind::SmallDisk(disk)) => fill(disk),
            (Fault::ClockOff, Kind::Clock(clock)) => {
                fs::write(clock, "-100").expect("the build directory is writable");
            }
            (Fault::BrokerCertificate, Kind::Tls(tls)) => {
                self.broker.stop();
                let (certificate, key) = tls.authority.expired("kafka-0");
                fs::write(tls.directory.join("broker.pem"), key + &certificate)
                    .expect("the build directory is writable");
                self.broker.start();
            }
            _ => {}
        }
    }
}

fn leak(broker: Broker) -> &'static Broker {
    Box::leak(Box::new(broker))
}

/// A broker that can refuse a topic.
fn shared() -> Broker {
    let authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
";
    let broker = Broker::prepare_with("night-shared", authorizer);
    broker.start();
    broker
}

/// A broker with a disk of its own.
fn small_disk() -> (Broker, PathBuf) {
    let disk = workspace::directory("night-small").join("data");
    fs::create_dir_all(&disk).expect("the build directory is writable");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", SMALL, "tmpfs"]).arg(&disk);
    let mounted = mount.status().expect("mount can be started");
    assert!(mounted.success(), "a disk can be mounted");
    let broker = Broker::prepare("night-small");
    broker.start();
    (broker, disk)
}

/// A broker whose clock is off by what a file says.
fn with_clock() -> (Broker, PathBuf) {
    let library = workspace::target().join("wrong-clock.so");
    assert!(library.exists(), "tests/night/run builds it");
    let clock = workspace::directory("night-clock-file").join("seconds");
    fs::write(&clock, "0").expect("the build directory is writable");
    let broker = Broker::prepare("night-clock");
    broker.launch_with(&[("LD_PRELOAD", &library), ("WRONG_CLOCK", &clock)]);
    broker.until_serving();
    (broker, clock)
}

/// Writes until nothing fits any more.
fn fill(disk: &std::path::Path) {
    let mut ballast = File::create(disk.join("ballast")).expect("the disk is not full yet");
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![0; size];
        while ballast.write_all(&block).is_ok() {}
    }
}

fn tls() -> (Broker, Tls) {
    let directory = workspace::directory("night-tls-files");
    let authority = Authority::new();
    let (certificate, key) = authority.common_name("kafka-0");
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).expect("the build directory is writable");
        path
    };
    let store = write("broker.pem", &(key + &certificate));
    write("ca.pem", &authority.pem());
    let port = ports::free();
    let node = Node {
        ways: vec![(port, port)],
        ..Node::alone()
    };
    let settings = format!(
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,WAY0:SSL
ssl.keystore.type=PEM
ssl.keystore.location={}
",
        store.display()
    );
    let broker = Broker::prepare_settings("night-tls", &node, &settings);
    broker.start();
    let tls = Tls {
        authority,
        port,
        directory,
    };
    (broker, tls)
}
