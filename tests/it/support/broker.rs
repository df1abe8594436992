//! A real Apache Kafka in one process (KRaft, broker and controller), and its
//! own tools. One broker serves all tests; one that a test stops is its own.
//! Several make a cluster (`cluster.rs`).

use super::kafka_version::{self, Metadata};
use super::process::Process;
use super::{ports, wait, workspace};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// A topic of every broker, for records that no test reads.
pub const WARM_UP_TOPIC: &str = "warm-up";

/// What `kafka-consumer-groups.sh` runs.
pub const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// What `kafka-transactions.sh` runs.
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
/// What `kafka-acls.sh` runs.
const ACLS: &str = "org.apache.kafka.tools.AclCommand";
/// As the broker's own settings say: on every broker of the cluster.
const REPLICATION: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// The least that keeps a broker small and its transactions quick to end.
const HEAP: [&str; 4] = [
    "-Xmx512m",
    "-Xms384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
];

/// Where one broker of a cluster stands.
pub struct Node {
    /// Its place among them, from 0.
    pub index: usize,
    /// The port for clients and the one for controllers, of each of them.
    pub ports: Vec<(u16, u16)>,
    /// Further ways in: where it listens, and what it tells clients that came
    /// in there to connect to.
    pub ways: Vec<(u16, u16)>,
    /// How often it looks for transactions that have timed out.
    pub scan: Duration,
}

impl Node {
    /// A broker that is the whole cluster.
    pub fn alone() -> Self {
        Self {
            index: 0,
            ports: vec![(ports::free(), ports::free())],
            ways: Vec::new(),
            scan: Duration::from_secs(1),
        }
    }
}

/// A broker, running or stopped.
pub struct Broker {
    /// Its own address.
    own: String,
    /// Those of the whole cluster, its own included.
    address: String,
    directory: PathBuf,
    /// Held, so that it ends with the broker.
    zookeeper: Mutex<Option<Process>>,
    process: Mutex<Option<Process>>,
    /// The port for controllers, or for ZooKeeper.
    controller: u16,
}

impl Broker {
    /// The broker that tests share: topics and groups are each test's own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| {
            let broker = Self::prepare("broker");
            broker.start();
            broker
        })
    }

    /// A formatted broker that does not run yet.
    pub fn prepare(name: &str) -> Self {
        Self::prepare_with(name, "")
    }

    /// The same with further lines of its settings.
    pub fn prepare_with(name: &str, more: &str) -> Self {
        Self::prepare_settings(name, &Node::alone(), more)
    }

    /// A formatted broker of a cluster that does not run yet.
    pub fn prepare_node(name: &str, node: &Node) -> Self {
        Self::prepare_settings(name, node, "")
    }

    /// The same with further lines of its settings.
    pub fn prepare_settings(name: &str, node: &Node, more: &str) -> Self {
        let directory = workspace::directory(name);
        let addresses: Vec<String> = node
            .ports
            .iter()
            .map(|(port, _)| format!("127.0.0.1:{port}"))
            .collect();
        let broker = Self {
            own: addresses[node.index].clone(),
            address: addresses.join(","),
            directory,
            zookeeper: Mutex::new(None),
            process: Mutex::new(None),
            controller: node.ports[node.index].1,
        };
        let settings = settings(node, &broker.directory) + more;
        fs::write(broker.properties(), settings).expect("the build directory is writable");
        let properties = broker.properties();
        let properties = properties.to_str().expect("the build directory is UTF-8");
        if kafka_version::metadata() == Metadata::ZooKeeper {
            return broker;
        }
        let arguments = ["format", "-t", "TGxjc2hhZG93cmluZ2JhYw", "-c", properties];
        run_java("kafka.tools.StorageTool", &arguments).expect("the broker's storage is formatted");
        broker
    }

    /// Starts it, again on the same port and data, and waits until it serves.
    pub fn start(&self) {
        self.launch();
        self.until_serving();
    }

    /// Starts it, not waiting for anything.
    pub fn launch(&self) {
        self.launch_with(&[]);
    }

    /// The same with these variables in its environment.
    pub fn launch_with(&self, environment: &[(&str, &Path)]) {
        if kafka_version::metadata() == Metadata::ZooKeeper {
            let mut zookeeper = self.zookeeper.lock().expect("no holder panics");
            let start = || kafka_version::start_zookeeper(self.controller, &self.directory);
            zookeeper.get_or_insert_with(start);
        }
        let mut command = java();
        command.envs(environment.iter().copied());
        command
            .args(HEAP)
            .arg("-cp")
            .arg(kafka_version::class_path());
        command.arg("kafka.Kafka").arg(self.properties());
        let log = self.directory.join("broker.log");
        let process = Process::start("the broker", &mut command, &log);
        *self.process.lock().expect("no holder panics") = Some(process);
    }

    /// Waits until it serves, and with it enough others to make a topic.
    pub fn until_serving(&self) {
        let probe: BaseConsumer = self
            .client()
            .set("bootstrap.servers", &self.own)
            .create()
            .expect("valid settings");
        wait::until("the broker to serve", || {
            probe
                .fetch_metadata(Some(WARM_UP_TOPIC), Duration::from_secs(1))
                .is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
        wait::until("the first topic", || {
            let topic = NewTopic::new(WARM_UP_TOPIC, 1, REPLICATION);
            self.try_create(&topic).is_ok()
        });
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        let process = self.process.lock().expect("no holder panics").take();
        process.expect("the broker runs").kill();
    }

    /// Stops it with SIGTERM: it hands its partitions over first.
    pub fn stop(&self) {
        let process = self.process.lock().expect("no holder panics").take();
        let mut process = process.expect("the broker runs");
        process.signal(Signal::TERM);
        process.wait(wait::PATIENCE);
    }

    /// Stops its threads, until [`Broker::thaw`].
    #[allow(dead_code, reason = "chaos uses it")]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    #[allow(dead_code, reason = "chaos uses it")]
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    #[allow(dead_code, reason = "chaos uses it")]
    fn signal(&self, signal: Signal) {
        let process = self.process.lock().expect("no holder panics");
        process.as_ref().expect("the broker runs").signal(signal);
    }

    /// Its process id.
    #[allow(dead_code, reason = "the benchmark confines it to a core")]
    pub fn pid(&self) -> u32 {
        let process = self.process.lock().expect("no holder panics");
        process.as_ref().expect("the broker runs").pid()
    }

    /// `host:port` to bootstrap from.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The start of any rdkafka client's settings for this broker.
    pub fn client(&self) -> ClientConfig {
        client(&self.address)
    }

    /// Makes a topic with these settings.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, REPLICATION);
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        self.try_create(&topic)
            .unwrap_or_else(|e| panic!("creating {name}: {e}"));
    }

    /// Makes a topic whose partitions have their copies on the brokers of these ids.
    pub fn create_topic_on(&self, name: &str, brokers: &[&[i32]], settings: &[(&str, &str)]) {
        let partitions = i32::try_from(brokers.len()).expect("a small number");
        let on = TopicReplication::Variable(brokers);
        let mut topic = NewTopic::new(name, partitions, on);
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        self.try_create(&topic)
            .unwrap_or_else(|e| panic!("creating {name}: {e}"));
    }

    /// Replaces all settings of a topic by these. The others get their defaults.
    pub fn configure_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut config = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in settings {
            config = config.set(key, value);
        }
        let admin = self.admin();
        let done = wait_for(admin.alter_configs([&config], &admin_options()));
        let done = done.expect("the broker answers").remove(0);
        done.unwrap_or_else(|e| panic!("configuring {name}: {e:?}"));
    }

    /// Runs `kafka-acls.sh` with these arguments.
    pub fn acls(&self, arguments: &[&str]) {
        let mut all = vec!["--bootstrap-server", self.address(), "--force"];
        all.extend(arguments);
        run_java(ACLS, &all).expect("the rules change");
    }

    /// Gives a topic more partitions.
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let wanted = NewPartitions::new(name, partitions);
        let admin = self.admin();
        let done = wait_for(admin.create_partitions([&wanted], &admin_options()));
        let done = done.expect("the broker answers").remove(0);
        done.unwrap_or_else(|e| panic!("growing: {e:?}"));
    }

    /// Deletes a partition's records before this offset.
    pub fn delete_records(&self, (topic, partition): (&str, i32), before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .expect("a valid offset");
        let admin = self.admin();
        let done = wait_for(admin.delete_records(&list, &admin_options()));
        let done = done.expect("the broker answers");
        done.elements()[0].error().expect("they are deleted");
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        let admin = self.admin();
        let done = wait_for(admin.delete_topics(&[name], &admin_options()));
        let done = done.expect("the broker answers").remove(0);
        done.unwrap_or_else(|e| panic!("deleting: {e:?}"));
        wait::until("the topic to be gone", || self.partitions(name) == 0);
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("valid settings")
    }

    fn try_create(&self, topic: &NewTopic<'_>) -> Result<(), String> {
        let admin = self.admin();
        let made = wait_for(admin.create_topics([topic], &admin_options()));
        match made.map_err(|e| e.to_string())?.remove(0) {
            Ok(_) => Ok(()),
            Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
            Err((name, code)) => Err(format!("{name}: {code}")),
        }
    }

    /// How many partitions a topic has; 0 where there is none.
    pub fn partitions(&self, topic: &str) -> i32 {
        let client: BaseConsumer = self.client().create().expect("valid settings");
        let metadata = client.fetch_metadata(Some(topic), wait::PATIENCE);
        let metadata = metadata.expect("the broker answers");
        i32::try_from(metadata.topics()[0].partitions().len()).expect("a small number")
    }

    /// Waits until a consumer group exists and has no members: their sessions are over.
    #[track_caller]
    pub fn until_group_is_empty(&self, group: &str) {
        let client: BaseConsumer = self.client().create().expect("valid settings");
        wait::until("the end of every session of the group", || {
            let list = client.fetch_group_list(Some(group), wait::PATIENCE);
            let list = list.expect("the broker answers");
            matches!(list.groups(), [group] if group.state() == "Empty")
        });
    }

    /// Runs Kafka's own `kafka-consumer-groups` and returns what it prints.
    pub fn consumer_groups(&self, arguments: &[&str]) -> String {
        let class = kafka_version::consumer_groups();
        let all = [&["--bootstrap-server", &self.address], arguments].concat();
        run_java(class, &all).unwrap_or_else(|e| panic!("kafka-consumer-groups {arguments:?}: {e}"))
    }

    /// Runs Kafka's own `kafka-topics` and returns what it prints.
    pub fn topics(&self, arguments: &[&str]) -> String {
        run_java("org.apache.kafka.tools.TopicCommand", arguments)
            .unwrap_or_else(|e| panic!("kafka-topics {arguments:?}: {e}"))
    }

    /// The state of a transaction, as Kafka's own tool says it.
    pub fn transaction(&self, id: &str) -> Option<String> {
        self.transaction_column(id, 3)
    }

    /// The id of the broker that coordinates a transaction.
    pub fn transaction_coordinator(&self, id: &str) -> Option<usize> {
        self.transaction_column(id, 1)?.parse().ok()
    }

    fn transaction_column(&self, id: &str, column: usize) -> Option<String> {
        let all = ["--bootstrap-server", &self.address, "list"];
        let listed = run_java(TRANSACTIONS, &all).unwrap_or_else(|e| panic!("{e}"));
        let line = listed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id))?;
        line.split_whitespace().nth(column).map(str::to_owned)
    }

    /// The file of its settings.
    pub fn properties(&self) -> PathBuf {
        self.directory.join("server.properties")
    }
}

/// The start of any rdkafka client's settings for the brokers at this address.
pub fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("log_level", "0");
    config
}

fn wait_for<T>(call: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime can be made").block_on(call)
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)))
}

fn settings(node: &Node, directory: &Path) -> String {
    let (port, controller) = node.ports[node.index];
    let id = node.index + 1;
    let voters: Vec<String> = (1..)
        .zip(&node.ports)
        .map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}"))
        .collect();
    let ways = |told: fn(&(u16, u16)) -> u16| {
        let each = (0..).zip(&node.ways);
        each.map(|(number, way)| format!(",WAY{number}://127.0.0.1:{}", told(way)))
            .collect::<String>()
    };
    let (listeners, advertised) = (ways(|way| way.0), ways(|way| way.1));
    let protocols: String = (0..node.ways.len())
        .map(|number| format!(",WAY{number}:PLAINTEXT"))
        .collect();
    let replicas = node.ports.len();
    let in_sync = if replicas >= 3 { 2 } else { 1 };
    let (roles, more_listeners, more_protocols) = match kafka_version::metadata() {
        Metadata::KRaft => (
            format!(
                "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER",
                voters = voters.join(",")
            ),
            format!(",CONTROLLER://127.0.0.1:{controller}"),
            ",CONTROLLER:PLAINTEXT",
        ),
        Metadata::ZooKeeper => {
            assert_eq!(replicas, 1, "one broker has its ZooKeeper");
            let zookeeper = format!("broker.id={id}\nzookeeper.connect=127.0.0.1:{controller}");
            (zookeeper, String::new(), "")
        }
    };
    format!(
        "{roles}
listeners=PLAINTEXT://127.0.0.1:{port}{more_listeners}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT{more_protocols}{protocols}
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=5000
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.abort.timed.out.transaction.cleanup.interval.ms={scan_ms}
",
        scan_ms = node.scan.as_millis(),
        data = directory.join("data").display()
    )
}

fn java() -> Command {
    Command::new("java")
}

/// One of Kafka's tools, without its arguments.
pub fn tool(class: &str) -> Command {
    let mut command = java();
    command
        .args([
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ])
        .arg(kafka_version::class_path())
        .arg(class);
    command
}

/// Runs one of Kafka's tools to its end.
pub fn run_java(class: &str, arguments: &[&str]) -> Result<String, String> {
    let done = tool(class)
        .args(arguments)
        .output()
        .map_err(|e| format!("java cannot be started: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(text(&done.stdout) + &text(&done.stderr))
    }
}
