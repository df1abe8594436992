//! One test's own topic, group, tenants, receiver and publisher, on the shared
//! broker or on one of its own.

use super::broker::Broker;
use super::dead_letters::{self, FoundRecord};
use super::ledger::{Account, Ledger};
use super::ports;
use super::proxy::{Api, Proxy, Way};
use super::publisher::Publisher;
use super::receiver::{Behaviour, Keep, Receiver};
use super::ringback::{self, Ringback};
use super::{sample, wait, workspace};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a test chooses of the settings.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Partitions of every topic.
    pub partitions: u32,
    /// `--delays`.
    pub delays: &'static str,
    /// The shortest of them.
    pub delay_min: Duration,
    /// `--attempts`.
    pub attempts: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            partitions: 4,
            delays: "200ms",
            delay_min: Duration::from_millis(200),
            attempts: 10,
        }
    }
}

/// A test's surroundings.
pub struct Scene<'b> {
    /// The broker.
    pub broker: &'b Broker,
    /// The source topic, and the group's name too.
    pub topic: String,
    /// Where the tenants' callbacks lead.
    pub receiver: Receiver,
    /// What was published through [`Scene::publish`].
    pub ledger: Ledger,
    /// What the test chose.
    pub plan: Plan,
    /// `--allow-networks`.
    pub allow_networks: &'static str,
    /// `--tenants`, where it is not the scene's own file.
    pub tenants_at: Option<String>,
    publisher: OnceLock<Publisher>,
    tenants: BTreeMap<String, serde_json::Value>,
    directory: PathBuf,
    next: AtomicUsize,
}

impl Scene<'static> {
    /// A scene on the shared broker, with its topics made by the program.
    pub fn new(name: &str, plan: Plan) -> Self {
        let scene = Self::bare(Broker::shared(), name, plan);
        scene.create_topics();
        scene
    }
}

impl<'b> Scene<'b> {
    /// A scene whose topics are not made yet.
    pub fn bare(broker: &'b Broker, name: &str, plan: Plan) -> Self {
        let scene = Self {
            broker,
            topic: format!("it-{name}"),
            receiver: Receiver::start(Keep::All),
            ledger: Ledger::default(),
            plan,
            allow_networks: "127.0.0.0/8",
            tenants_at: None,
            publisher: OnceLock::new(),
            tenants: BTreeMap::new(),
            directory: workspace::directory(name),
            next: AtomicUsize::new(1),
        };
        scene.write_tenants();
        scene
    }

    /// Makes the topics with `ringback topics create`.
    #[track_caller]
    pub fn create_topics(&self) {
        self.create_replicated_topics(1);
    }

    /// The same, each partition on so many brokers.
    #[track_caller]
    pub fn create_replicated_topics(&self, replication: usize) {
        let partitions = self.plan.partitions.to_string();
        let made = ringback::output(&[
            "topics",
            "create",
            "--brokers",
            self.broker.address(),
            "--topic",
            &self.topic,
            "--delays",
            self.plan.delays,
            "--partitions",
            &partitions,
            "--replication-factor",
            &replication.to_string(),
        ]);
        let text = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "topics create: {text}");
    }

    /// Adds a tenant whose callback leads to the receiver, and writes the file.
    pub fn tenant(&mut self, tenant: &str, behaviour: Behaviour) {
        self.tenant_with(tenant, behaviour, &serde_json::json!({}));
    }

    /// The same with further settings of the tenant.
    pub fn tenant_with(&mut self, tenant: &str, behaviour: Behaviour, more: &serde_json::Value) {
        self.receiver.behave(tenant, behaviour);
        let mut settings = serde_json::json!({ "url": self.receiver.url(tenant) });
        let more = more.as_object().expect("an object");
        let all = settings.as_object_mut().expect("an object");
        all.extend(more.clone());
        self.tenants.insert(tenant.to_owned(), settings);
        self.write_tenants();
    }

    /// Replaces the tenants file by this text.
    pub fn write_tenants_text(&self, text: &str) {
        let new = self.directory.join("tenants.json.new");
        fs::write(&new, text).expect("the build directory is writable");
        fs::rename(new, self.tenants_file()).expect("the build directory is writable");
    }

    /// Writes the tenants file.
    pub fn write_tenants(&self) {
        let text = serde_json::to_string(&self.tenants).expect("plain JSON");
        self.write_tenants_text(&text);
    }

    /// Where the tenants file is.
    pub fn tenants_file(&self) -> PathBuf {
        self.directory.join("tenants.json")
    }

    /// The arguments of `run` for a replica of this name.
    pub fn arguments(&self, instance: &str) -> Vec<String> {
        self.arguments_at(self.broker.address(), instance)
    }

    fn arguments_at(&self, brokers: &str, instance: &str) -> Vec<String> {
        let attempts = self.plan.attempts.to_string();
        let file = self.tenants_file();
        let file = file.to_str().expect("the build directory is UTF-8");
        let tenants = self.tenants_at.as_deref().unwrap_or(file);
        [
            "run",
            "--brokers",
            brokers,
            "--group",
            &self.topic,
            "--topic",
            &self.topic,
            "--instance",
            instance,
            "--delays",
            self.plan.delays,
            "--attempts",
            &attempts,
            "--tenants",
            tenants,
            "--allow-networks",
            self.allow_networks,
            "--allow-no-tenants",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Starts a replica with further arguments, not waiting for anything.
    pub fn start(&self, instance: &str, more: &[&str]) -> Ringback {
        self.start_at(self.broker.address(), instance, more)
    }

    /// Starts a replica that reaches Kafka at another address: a proxy's.
    pub fn start_at(&self, brokers: &str, instance: &str, more: &[&str]) -> Ringback {
        let (arguments, log) = self.next(brokers, instance, more);
        Ringback::start(&self.named(instance), &arguments, ports::free(), &log)
    }

    /// Starts a replica that reaches Kafka through a proxy. Waits until it is ready
    /// and its first transaction is over, which ends a predecessor's open one.
    pub fn start_behind(&self, proxy: &Proxy, instance: &str, more: &[&str]) -> Ringback {
        let ended = || proxy.seen(Way::Answer, Api::END_TXN);
        let before = ended();
        let ringback = self.start_at(&proxy.address(), instance, more).ready();
        wait::until("its first transaction to end", || ended() > before);
        ringback
    }

    /// The same, started by another program that becomes it.
    pub fn start_in(&self, wrapper: &[String], brokers: &str, instance: &str) -> Ringback {
        let (arguments, log) = self.next(brokers, instance, &[]);
        let name = self.named(instance);
        Ringback::start_in(wrapper, &name, &arguments, ports::free(), &log)
    }

    /// The same with further arguments, looking names up as this resolv.conf
    /// says, for which it gets a mount namespace of its own.
    pub fn start_with_names(&self, instance: &str, more: &[&str], resolv_conf: &str) -> Ringback {
        const SCRIPT: &str = r#"mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@""#;
        let file = self.file("resolv.conf", resolv_conf);
        let file = file.to_str().expect("the build directory is UTF-8");
        let wrapper = ["unshare", "--mount", "sh", "-c", SCRIPT, file].map(str::to_owned);
        let (arguments, log) = self.next(self.broker.address(), instance, more);
        let name = self.named(instance);
        Ringback::start_in(&wrapper, &name, &arguments, ports::free(), &log)
    }

    /// Writes a file of the test's own.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("the build directory is writable");
        path
    }

    fn named(&self, instance: &str) -> String {
        format!("{} {instance}", self.topic)
    }

    /// The arguments and the log of the next process.
    fn next(&self, brokers: &str, instance: &str, more: &[&str]) -> (Vec<String>, PathBuf) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("{instance}-{number}.log"));
        let mut arguments = self.arguments_at(brokers, instance);
        arguments.extend(more.iter().map(|&a| a.to_owned()));
        (arguments, log)
    }

    /// Starts a replica and waits until it is ready.
    #[track_caller]
    pub fn run(&self, instance: &str) -> Ringback {
        self.start(instance, &[]).ready()
    }

    /// Publishes so many sample records of a tenant; each has its place in the
    /// ledger.
    pub fn publish(&mut self, tenant: &str, count: usize) {
        for _ in 0..count {
            let id = format!("{}-{}", self.topic, self.ledger.len());
            self.publish_record(&id, tenant);
        }
    }

    /// Publishes a sample record of this id.
    pub fn publish_record(&mut self, id: &str, tenant: &str) {
        let value = sample::record(id, tenant);
        self.ledger.publish(id, tenant, &sample::wrapped(&value));
        self.send(&self.topic, Some(id.as_bytes()), Some(&value), &[]);
    }

    /// Publishes a sample record of this id, outside the ledger.
    pub fn send_record(&self, id: &str, tenant: &str) {
        let value = sample::record(id, tenant);
        self.send(&self.topic, Some(id.as_bytes()), Some(&value), &[]);
    }

    /// Publishes anything to any topic, outside the ledger.
    pub fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) {
        self.publisher().send(topic, key, value, headers);
    }

    /// The producer, made when it is first needed.
    pub fn publisher(&self) -> &Publisher {
        self.publisher.get_or_init(|| Publisher::new(self.broker))
    }

    /// Publishes with a new producer from now on, which reads the topics' metadata.
    pub fn renew_publisher(&mut self) {
        self.publisher = OnceLock::new();
    }

    /// Waits until the broker has all that was published.
    pub fn flush(&self) {
        self.publisher().flush();
    }

    /// The name of a delay topic.
    pub fn delay_topic(&self, delay: &str) -> String {
        format!("{}.delay.{delay}", self.topic)
    }

    /// The dead letters now.
    pub fn dead_letters(&self) -> Vec<FoundRecord> {
        dead_letters::read(self.broker, &format!("{}.dead-letter", self.topic))
    }

    /// Waits until there are so many dead letters, and returns them.
    #[track_caller]
    pub fn dead_letters_of(&self, count: usize) -> Vec<FoundRecord> {
        let what = format!("{count} dead letters");
        wait::until_some(&what, wait::PATIENCE, || {
            let found = self.dead_letters();
            (found.len() >= count).then_some(found)
        })
    }

    /// Waits until every published record was answered 2xx.
    #[track_caller]
    pub fn until_delivered(&self) {
        wait::until("every record to be delivered", || {
            self.receiver.successes() >= self.ledger.len()
                && self.ledger.settled(&self.receiver.posts(), &[])
        });
    }

    /// Waits until every published record was answered 2xx or is a dead letter.
    #[track_caller]
    pub fn until_settled(&self) {
        let started = Instant::now();
        while !self.ledger.settled(&self.receiver.posts(), &[]) {
            // The posts are read last: reading dead letters may take long.
            let dead = self.dead_letters();
            let open = self.ledger.unsettled(&self.receiver.posts(), &dead);
            if open.is_empty() {
                return;
            }
            assert!(
                started.elapsed() < wait::PATIENCE,
                "{} of {} records not settled, among them {:?}",
                open.len(),
                self.ledger.len(),
                &open[..open.len().min(5)]
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The account of all that was published.
    pub fn account(&self) -> Account {
        let dead = self.dead_letters();
        self.ledger
            .account(&self.receiver.posts(), &dead, self.plan.delay_min)
    }
}
