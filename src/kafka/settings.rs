//! The configuration of the Kafka clients. It has properties that the design
//! fixes, defaults that a user may change, and the user's own properties. Never
//! reads environment or files. Used on any thread.
//!
//! Memory (L5): a split partition queue stops fetching at a limit, and one more
//! response may be in flight. Both together are a partition's share of
//! [`QUEUES_BYTES`]: 640 KiB with 76 partitions or fewer, and 100 KiB with 480 or more.
//! A batch is fetched whole, whatever its size. A response has at most 512 KiB, so that one slow
//! partition does not keep a large buffer alive.

use crate::model::position::{Topic, TopicNames};
use crate::model::time::Delay;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use std::fmt;
use std::time::Duration;

/// The maximum size that ringback's headers add to a record.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Slack in the producer's own limit for keys, headers of the record and batch
/// framing. The limit that counts is the topic's, on the broker.
const PRODUCER_SLACK_BYTES: usize = 1024 * 1024;

/// `session.timeout.ms` unless the user sets it.
const SESSION_TIMEOUT_MS: u64 = 10_000;
/// `socket.timeout.ms` unless the user sets it: above the session timeout, so
/// that an older commit cannot land after a newer one.
const SOCKET_TIMEOUT_MS: u64 = 15_000;

/// `socket.timeout.ms` of the transactional producer. librdkafka allows at most
/// the transaction timeout. This is half of it, so that a request to a frozen
/// broker can still be retried on another one.
pub const TRANSACTION_SOCKET: Duration = Duration::from_secs(5);
/// `connections.max.idle.ms` of the transactional producer. librdkafka may hear
/// three times within some 50 ms that the group has no coordinator. Adding offsets
/// to a transaction then waits without a limit: librdkafka asks again only when a
/// connection opens or closes. So idle connections are closed.
const TRANSACTION_IDLE_MS: &str = "5000";

/// `message.send.max.retries` of the transactional producer. A topic with too few
/// in-sync replicas then answers within some 0.2 s. Without a limit, it would hold
/// the transaction until its timeout.
const SEND_RETRIES_MAX: &str = "10";

/// The bytes that librdkafka holds for the partitions of a consumer.
const QUEUES_BYTES: usize = 48 << 20;
/// The least and the largest share of one partition. While all other partitions are
/// idle, a full queue waits for `fetch.wait.max.ms`. So a share of 100 KiB passes some
/// 1,000 records of 1.5 kB a second.
const QUEUE_BYTES_MIN: usize = 100 << 10;
const QUEUE_BYTES_MAX: usize = 640 << 10;

/// The kind of cluster that a client connects to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterKind {
    Brokers,
    /// librdkafka's in-process cluster, for the demo. It has no topic settings,
    /// no topic ids and no admin calls.
    Embedded,
}

/// The settings of the Kafka shell.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Bootstrap servers, comma separated.
    pub brokers: String,
    pub group: String,
    /// The stable name of this replica.
    pub instance: String,
    pub topics: TopicNames,
    /// The distinct delays of the schedule.
    pub delays: Vec<Delay>,
    /// A larger record is cut when it is moved.
    pub record_bytes_max: usize,
    /// The user's librdkafka properties in order. They may hold secrets.
    pub properties: Vec<(String, String)>,
    pub kind: ClusterKind,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.properties.iter().map(|(k, _)| k.as_str()).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("instance", &self.instance)
            .field("topics", &self.topics)
            .field("delays", &self.delays)
            .field("record_bytes_max", &self.record_bytes_max)
            .field("properties", &keys)
            .field("kind", &self.kind)
            .finish()
    }
}

/// Returns the reason why the user may not set this property, if there is one.
#[must_use]
pub fn refused_property(key: &str) -> Option<&'static str> {
    REFUSED
        .iter()
        .find(|(refused, _)| *refused == key)
        .map(|(_, why)| *why)
}

const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set --brokers"),
    ("metadata.broker.list", "set --brokers"),
    ("group.id", "set --group"),
    ("group.instance.id", "made from --instance"),
    ("transactional.id", "made from --group and --instance"),
    (
        "transaction.timeout.ms",
        "fixed at 10 s: for so long the moves of a dead replica may block its partitions",
    ),
    (
        "message.timeout.ms",
        "bounded by the transaction timeout of 10 s",
    ),
    (
        "delivery.timeout.ms",
        "bounded by the transaction timeout of 10 s",
    ),
    ("message.max.bytes", "set --record-max-bytes"),
    ("group.protocol", "only the classic protocol is safe here"),
    (
        "group.remote.assignor",
        "only the classic protocol is safe here",
    ),
    (
        "partition.assignment.strategy",
        "a rebalance must not stop the partitions that stay assigned",
    ),
    (
        "enable.auto.commit",
        "offsets are committed when records are finished",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed when records are finished",
    ),
    (
        "auto.offset.reset",
        "ringback starts at the committed offsets, else at the start of the log",
    ),
    ("isolation.level", "aborted moves must not be read"),
    ("enable.partition.eof", "the log's end must be seen"),
    ("enable.idempotence", "moves are transactions"),
    ("acks", "moves must be on all in-sync replicas"),
    (
        "request.required.acks",
        "moves must be on all in-sync replicas",
    ),
    ("allow.auto.create.topics", "run `ringback topics create`"),
    ("log.queue", "ringback writes the log lines of the clients"),
    (
        "test.mock.num.brokers",
        "`ringback demo` runs an embedded cluster",
    ),
];

/// Defaults of every client, which a user may change. Reconnects are quick, so
/// that work resumes within a second after an outage.
const COMMON: &[(&str, &str)] = &[
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.connection.setup.timeout.ms", "5000"),
    ("socket.keepalive.enable", "true"),
    ("socket.nagle.disable", "true"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// Defaults of the consumer. A fetch in progress leaves out a partition whose
/// queue was full at its start. A short wait at the broker lets a single busy
/// partition flow.
const CONSUMER: &[(&str, &str)] = &[
    ("heartbeat.interval.ms", "500"),
    ("fetch.min.bytes", "1"),
    ("fetch.wait.max.ms", "50"),
    ("fetch.error.backoff.ms", "20"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.max.bytes", "524288"),
    ("queued.min.messages", "2000"),
];

/// Defaults of a scan. Its records are small and many: few large responses cost less.
const SCAN: &[(&str, &str)] = &[
    ("fetch.min.bytes", "1"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "50"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.message.max.bytes", "1048576"),
    ("fetch.max.bytes", "8388608"),
    ("queued.max.messages.kbytes", "65536"),
    ("queued.min.messages", "100000"),
];

/// Defaults of the producers. Retries are quick: the broker refuses the next
/// transaction for a moment while it writes the markers of the last one.
const PRODUCER: &[(&str, &str)] = &[
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "20"),
    ("linger.ms", "1"),
    ("batch.size", "524288"),
    ("queue.buffering.max.kbytes", "65536"),
];

/// Defaults of the attempt log's producer: large batches, and a queue that is small
/// enough to be lost (L5).
const ATTEMPT_LOG: &[(&str, &str)] = &[
    ("linger.ms", "100"),
    ("compression.type", "lz4"),
    ("queue.buffering.max.messages", "20000"),
    ("queue.buffering.max.kbytes", "8192"),
];

impl KafkaSettings {
    /// Returns whether the cluster is librdkafka's in-process one.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.kind == ClusterKind::Embedded
    }

    /// Returns all topics that must exist: source, delay and dead-letter topics.
    #[must_use]
    pub fn needed_topics(&self) -> Vec<Topic> {
        let delays = self.delays.iter().copied().map(Topic::Delay);
        std::iter::once(Topic::Source)
            .chain(delays)
            .chain(std::iter::once(Topic::DeadLetter))
            .collect()
    }

    /// Returns `group.instance.id` for a subscription. It includes a hash of the
    /// topics. Without it, a sole static member that rejoins with one more topic
    /// keeps its old assignment and never gets the new topic.
    #[must_use]
    pub fn group_instance(&self, subscribed: &[String]) -> String {
        let mut sorted: Vec<&str> = subscribed.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let hash = crc32fast::hash(sorted.join("\n").as_bytes());
        format!("{}-{hash:08x}", self.instance)
    }

    /// Returns `transactional.id`.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        format!("{}-{}", self.group, self.instance)
    }

    /// Returns `socket.timeout.ms` of the consumer.
    #[must_use]
    pub fn socket_timeout(&self) -> Duration {
        let socket = millis(&self.properties, "socket.timeout.ms", SOCKET_TIMEOUT_MS);
        Duration::from_millis(socket)
    }

    /// Returns the configuration of the consumer of these topics, which have so many
    /// partitions together.
    #[must_use]
    pub fn consumer_config(&self, subscribed: &[String], partitions: usize) -> ClientConfig {
        let share = (QUEUES_BYTES / partitions.max(1)).clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX);
        let fetch_bytes = (share / 5).to_string();
        let queued_kbytes = (share * 4 / 5 / 1_024).to_string();
        let mut defaults = CONSUMER.to_vec();
        defaults.push(("fetch.message.max.bytes", &fetch_bytes));
        defaults.push(("queued.max.messages.kbytes", &queued_kbytes));
        let mut config = self.base(&defaults);
        let session = millis(&self.properties, "session.timeout.ms", SESSION_TIMEOUT_MS);
        let socket = self.socket_timeout().as_millis();
        config
            // `kafka/group/coordinator.rs` reads the lines about lost connections.
            .set_log_level(RDKafkaLogLevel::Info)
            .set("log.connection.close", "true")
            .set("session.timeout.ms", session.to_string())
            .set("socket.timeout.ms", socket.to_string())
            .set("group.id", &self.group)
            .set("group.instance.id", self.group_instance(subscribed))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            // A consumer produces nothing. The default would raise fetch.max.bytes.
            .set("message.max.bytes", "131072");
        config
    }

    /// Returns the configuration of the transactional producer.
    #[must_use]
    pub fn producer_config(&self) -> ClientConfig {
        let mut config = self.idempotent_config();
        config
            .set("transactional.id", self.transactional_id())
            .set("transaction.timeout.ms", "10000")
            .set(
                "socket.timeout.ms",
                TRANSACTION_SOCKET.as_millis().to_string(),
            )
            .set("connections.max.idle.ms", TRANSACTION_IDLE_MS)
            .set("message.send.max.retries", SEND_RETRIES_MAX);
        if !self.is_embedded() {
            // A topic that is made with the brokers' defaults has the wrong settings.
            config.set("allow.auto.create.topics", "false");
        }
        config
    }

    /// Returns the configuration of a producer without transactions, for `publish`.
    #[must_use]
    pub fn idempotent_config(&self) -> ClientConfig {
        let mut config = self.base(PRODUCER);
        let bytes = self.record_bytes_max + HEADER_BYTES_MAX + PRODUCER_SLACK_BYTES;
        config
            .set("message.max.bytes", bytes.to_string())
            .set("acks", "all")
            .set("enable.idempotence", "true");
        config
    }

    /// Returns the configuration of the attempt log's producer. A lost entry is
    /// counted, so it is not idempotent: it has no fatal errors.
    #[must_use]
    pub fn attempt_log_config(&self) -> ClientConfig {
        let mut config = self.base(ATTEMPT_LOG);
        config
            .set("acks", "all")
            .set("message.timeout.ms", "30000")
            .set("delivery.report.only.error", "true")
            .set("allow.auto.create.topics", "false");
        config
    }

    /// Returns the configuration of a consumer that only reads committed offsets,
    /// even while an open transaction changes them. It never joins the group.
    #[must_use]
    pub fn probe_config(&self) -> ClientConfig {
        let mut config = self.base(&[]);
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted");
        config
    }

    /// Returns the configuration of the consumer of the tenants topic. It never joins
    /// the group.
    #[must_use]
    pub fn tenants_config(&self) -> ClientConfig {
        let mut config = self.base(&[]);
        // librdkafka assigns no partition without a group's name; commands have none.
        let group = match self.group.as_str() {
            "" => "ringback",
            group => group,
        };
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", "16384");
        config
    }

    /// Returns the configuration of a consumer that assigns itself partitions, for
    /// the commands that read. It never joins the group.
    #[must_use]
    pub fn scan_config(&self) -> ClientConfig {
        let mut config = self.base(SCAN);
        config
            .set("group.id", &self.group)
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true");
        config
    }

    /// Returns the configuration of the admin client.
    #[must_use]
    pub fn admin_config(&self) -> ClientConfig {
        self.base(&[])
    }

    fn base(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in COMMON.iter().chain(defaults) {
            config.set(*key, *value);
        }
        for (key, value) in &self.properties {
            if refused_property(key).is_none() {
                config.set(key, value);
            }
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

/// Returns every property that the user may not set so, with the reason. Connects
/// to nothing. The values are left out: they may be secrets.
#[must_use]
pub fn refused(properties: &[(String, String)]) -> Vec<(String, String)> {
    let mut refused: Vec<(String, String)> = properties
        .iter()
        .filter_map(|(key, value)| {
            let why = refused_property(key).map(str::to_owned);
            Some((key.clone(), why.or_else(|| unusable(key, value))?))
        })
        .collect();
    let session = millis(properties, "session.timeout.ms", SESSION_TIMEOUT_MS);
    let socket = millis(properties, "socket.timeout.ms", SOCKET_TIMEOUT_MS);
    if socket <= session {
        let why = format!(
            "{socket} is not above session.timeout.ms ({session}): an older offset commit could \
             overwrite a newer one"
        );
        refused.push(("socket.timeout.ms".to_owned(), why));
    }
    refused
}

fn millis(properties: &[(String, String)], key: &str, default: u64) -> u64 {
    let set = properties.iter().rev().find(|(k, _)| k == key);
    set.and_then(|(_, v)| v.parse().ok()).unwrap_or(default)
}

/// Returns the reason why librdkafka refuses this property.
fn unusable(key: &str, value: &str) -> Option<String> {
    let mut probe = ClientConfig::new();
    probe.set(key, value);
    let error = probe.create_native_config().err()?;
    Some(match error {
        // librdkafka's text repeats the value, which may be a secret.
        KafkaError::ClientConfig(..) => {
            "librdkafka has no such property, or refuses this value for it".to_owned()
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
impl KafkaSettings {
    /// Returns settings with these delays, and with an unused broker address.
    pub fn of_a_test(delays: &[&str]) -> Self {
        let delays = delays.iter();
        Self {
            brokers: "127.0.0.1:1".to_owned(),
            group: "g".to_owned(),
            instance: "i".to_owned(),
            topics: TopicNames::new("t"),
            delays: delays.map(|d| d.parse().expect("a delay")).collect(),
            record_bytes_max: 1 << 20,
            properties: Vec::new(),
            kind: ClusterKind::Brokers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::producer::BaseProducer;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        let properties = properties.iter();
        KafkaSettings {
            properties: properties
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..KafkaSettings::of_a_test(&["10s"])
        }
    }

    #[test]
    fn fixed_properties_are_refused_with_their_reason() {
        for (key, why) in REFUSED {
            let refused = refused(&settings(&[(key, "1")]).properties);
            assert!(refused.contains(&((*key).to_owned(), (*why).to_owned())));
        }
    }

    #[test]
    fn a_users_property_overrides_a_default_but_no_fixed_one() {
        let s = settings(&[("fetch.wait.max.ms", "7"), ("isolation.level", "x")]);
        let config = s.consumer_config(&["t".to_owned()], 12);
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn the_queues_of_many_partitions_hold_no_more_than_those_of_few() {
        let s = settings(&[]);
        for (partitions, fetch_bytes, queued_kbytes) in [
            (0, "131072", "512"),
            (76, "131072", "512"),
            (300, "33554", "131"),
            (1_200, "20480", "80"),
            (100_000, "20480", "80"),
        ] {
            let config = s.consumer_config(&["t".to_owned()], partitions);
            assert_eq!(config.get("fetch.message.max.bytes"), Some(fetch_bytes));
            assert_eq!(
                config.get("queued.max.messages.kbytes"),
                Some(queued_kbytes)
            );
            config
                .create_native_config()
                .expect("a valid configuration");
        }
    }

    #[test]
    fn mistakes_are_named_without_their_values() {
        #[track_caller]
        fn check(properties: &[(&str, &str)], keys: &[&str]) {
            let refused = refused(&settings(properties).properties);
            let found: Vec<&str> = refused.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(found, keys);
            assert!(!format!("{refused:?}").contains("s3cret"));
            assert!(!format!("{:?}", settings(properties)).contains("s3cret"));
        }
        check(&[], &[]);
        check(&[("sasl.password", "s3cret")], &[]);
        check(&[("no.such", "s3cret")], &["no.such"]);
        check(
            &[("fetch.wait.max.ms", "s3cret"), ("group.id", "x")],
            &["fetch.wait.max.ms", "group.id"],
        );
        check(&[("socket.timeout.ms", "10000")], &["socket.timeout.ms"]);
        check(&[("session.timeout.ms", "15000")], &["socket.timeout.ms"]);
        check(
            &[
                ("session.timeout.ms", "20000"),
                ("socket.timeout.ms", "20001"),
            ],
            &[],
        );
    }

    #[test]
    fn librdkafka_accepts_every_configuration() {
        let s = settings(&[]);
        for config in [
            s.consumer_config(&["t".to_owned()], 12),
            s.producer_config(),
            s.idempotent_config(),
            s.probe_config(),
            s.admin_config(),
        ] {
            config
                .create_native_config()
                .expect("a valid configuration");
        }
    }

    #[test]
    fn a_users_socket_timeout_above_the_transaction_timeout_does_not_break_the_producer() {
        let longer = [
            ("session.timeout.ms", "20000"),
            ("socket.timeout.ms", "25000"),
        ];
        let s = settings(&longer);
        let consumer = s.consumer_config(&["t".to_owned()], 12);
        assert_eq!(consumer.get("socket.timeout.ms"), Some("25000"));
        // librdkafka checks combinations of settings only when it creates a client.
        let created: Result<BaseProducer, _> = s.producer_config().create();
        created.expect("a valid configuration");
    }

    #[test]
    fn the_instance_id_depends_on_the_set_of_topics_and_not_on_their_order() {
        let s = settings(&[]);
        let id = |topics: &[&str]| {
            let topics: Vec<String> = topics.iter().map(|t| (*t).to_owned()).collect();
            s.group_instance(&topics)
        };
        assert_eq!(id(&["a", "b"]), id(&["b", "a"]));
        assert_ne!(id(&["a", "b"]), id(&["a"]));
        assert!(id(&["a"]).starts_with("i-") && id(&["a"]).len() == 10);
    }
}
