//! What the Kafka clients are configured with: the properties that the design
//! owns, the defaults that a user may change, and the user's own on top. Never
//! reads environment or files. Used on any thread.
//!
//! The arithmetic of memory (L5): a split partition queue stops fetching at
//! 512 KiB and one further response of 128 KiB may be under way, so 72
//! partitions that all have a backlog hold 46 MB at most; a response is 512 KiB
//! at most, so that one slow partition does not keep a large buffer alive.

use crate::model::position::{Topic, TopicNames};
use crate::model::time::Delay;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use std::fmt;
use std::time::Duration;

/// What our headers may add to a record.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Slack for keys, own headers and batch framing in the producer's own limit;
/// the topic's limit, on the broker, is the one that counts.
const PRODUCER_SLACK_BYTES: usize = 1024 * 1024;

/// `session.timeout.ms` unless the user sets it.
const SESSION_TIMEOUT_MS: u64 = 10_000;
/// `socket.timeout.ms` unless the user sets it: above the session timeout, so
/// that an older commit cannot land after a newer one.
const SOCKET_TIMEOUT_MS: u64 = 15_000;

/// `socket.timeout.ms` of the transactional producer, where librdkafka allows no
/// more than the transaction's timeout: half of it, so that what a frozen broker
/// took can still be asked of another one.
pub const TRANSACTION_SOCKET: Duration = Duration::from_secs(5);
/// `connections.max.idle.ms` of the transactional producer. Adding offsets to a
/// transaction waits in librdkafka without a limit once it was told three times
/// within some 50 ms that the group has no coordinator; it looks again only when
/// a connection comes or goes. So idle ones go.
const TRANSACTION_IDLE_MS: &str = "5000";

/// The kind of cluster that a client connects to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterKind {
    Brokers,
    /// librdkafka's in-process cluster, for the demo. It has no topic settings,
    /// no topic ids and no admin calls.
    Embedded,
}

/// How to reach Kafka and what to use there.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Bootstrap servers.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// Stable name of this replica.
    pub instance: String,
    /// Names of the topics.
    pub topics: TopicNames,
    /// The distinct delays of the schedule.
    pub delays: Vec<Delay>,
    /// The largest record that is moved whole.
    pub record_bytes_max: usize,
    /// The user's properties in order; may hold secrets.
    pub properties: Vec<(String, String)>,
    /// librdkafka's in-process cluster, which has no topic settings, no topic
    /// ids and no admin calls.
    pub embedded: bool,
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
            .field("embedded", &self.embedded)
            .finish()
    }
}

/// A property of the user's that cannot be taken. Its value is not kept: it
/// may be a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PropertyRefused {
    /// Which.
    pub key: String,
    /// Why, and what to do instead.
    pub why: String,
}

impl fmt::Display for PropertyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka property '{}' is refused: {}", self.key, self.why)
    }
}

/// Why the design owns this property, if it does.
#[must_use]
pub fn refused_property(key: &str) -> Option<&'static str> {
    OWNED
        .iter()
        .find(|(owned, _)| *owned == key)
        .map(|(_, why)| *why)
}

const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set --brokers"),
    ("metadata.broker.list", "set --brokers"),
    ("group.id", "set --group"),
    ("group.instance.id", "made from --instance"),
    ("transactional.id", "made from --group and --instance"),
    (
        "transaction.timeout.ms",
        "10 s, as long as a dead replica's moves may block its partitions",
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
        "a rebalance must not stop the partitions that stay",
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
        "where to start is decided, never guessed: the committed offsets, else the log's start",
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
    ("log.queue", "the clients' log lines pass through ours"),
    (
        "test.mock.num.brokers",
        "run `ringback demo` for a cluster in the process",
    ),
];

/// Defaults of every client; a user may change them. Reconnects stay short, so
/// that work goes on within a second of an outage's end.
const COMMON: &[(&str, &str)] = &[
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.connection.setup.timeout.ms", "5000"),
    ("socket.keepalive.enable", "true"),
    ("socket.nagle.disable", "true"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// A fetch that has begun does not include a partition whose queue was full at
/// that moment, so a short wait at the broker is what lets a single busy
/// partition flow.
const CONSUMER: &[(&str, &str)] = &[
    ("heartbeat.interval.ms", "500"),
    ("fetch.min.bytes", "1"),
    ("fetch.wait.max.ms", "50"),
    ("fetch.error.backoff.ms", "20"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.message.max.bytes", "131072"),
    ("fetch.max.bytes", "524288"),
    ("queued.max.messages.kbytes", "512"),
    ("queued.min.messages", "2000"),
];

/// Short retries: the broker refuses the next transaction for a moment while
/// the last one's markers are written.
const PRODUCER: &[(&str, &str)] = &[
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "20"),
    ("linger.ms", "1"),
    ("batch.size", "524288"),
    ("queue.buffering.max.kbytes", "65536"),
];

impl KafkaSettings {
    /// The source topic and the schedule's delay topics, with the dead letters:
    /// all that must exist.
    #[must_use]
    pub fn needed_topics(&self) -> Vec<Topic> {
        let delays = self.delays.iter().copied().map(Topic::Delay);
        std::iter::once(Topic::Source)
            .chain(delays)
            .chain(std::iter::once(Topic::DeadLetter))
            .collect()
    }

    /// Every mistake in the user's properties, each with its reason. Connects
    /// to nothing.
    #[must_use]
    pub fn refused(&self) -> Vec<PropertyRefused> {
        let mut refused = Vec::new();
        for (key, value) in &self.properties {
            let why = match refused_property(key) {
                Some(why) => Some(why.to_owned()),
                None => unusable(key, value),
            };
            refused.extend(why.map(|why| PropertyRefused {
                key: key.clone(),
                why,
            }));
        }
        let session = self.millis("session.timeout.ms", SESSION_TIMEOUT_MS);
        let socket = self.millis("socket.timeout.ms", SOCKET_TIMEOUT_MS);
        if socket <= session {
            refused.push(PropertyRefused {
                key: "socket.timeout.ms".to_owned(),
                why: format!(
                    "{socket} is not above session.timeout.ms ({session}): an older offset commit \
                     could overwrite a newer one"
                ),
            });
        }
        refused
    }

    fn millis(&self, key: &str, default: u64) -> u64 {
        let set = self.properties.iter().rev().find(|(k, _)| k == key);
        set.and_then(|(_, v)| v.parse().ok()).unwrap_or(default)
    }

    /// `group.instance.id` for a subscription: with a hash of the topics,
    /// because a sole static member that comes back with one more topic would
    /// keep its old assignment and never get the new topic.
    #[must_use]
    pub fn group_instance(&self, subscribed: &[String]) -> String {
        let mut sorted: Vec<&str> = subscribed.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let hash = crc32fast::hash(sorted.join("\n").as_bytes());
        format!("{}-{hash:08x}", self.instance)
    }

    /// `transactional.id`.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        format!("{}-{}", self.group, self.instance)
    }

    /// The consumer's configuration for these topics.
    #[must_use]
    pub fn consumer_config(&self, subscribed: &[String]) -> ClientConfig {
        let mut config = self.base(CONSUMER);
        let session = self.millis("session.timeout.ms", SESSION_TIMEOUT_MS);
        let socket = self.millis("socket.timeout.ms", SOCKET_TIMEOUT_MS);
        config
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
            // Nothing is produced here; the default would lift fetch.max.bytes.
            .set("message.max.bytes", "131072");
        config
    }

    /// The transactional producer's configuration.
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
            .set("connections.max.idle.ms", TRANSACTION_IDLE_MS);
        config
    }

    /// The configuration of a producer without transactions, for `publish`.
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

    /// The configuration of a consumer that reads what is committed, also where
    /// an open transaction is about to change it, and never joins the group.
    #[must_use]
    pub fn probe_config(&self) -> ClientConfig {
        let mut config = self.base(&[]);
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted");
        config
    }

    /// The configuration for admin calls.
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

/// Why librdkafka does not take this property.
fn unusable(key: &str, value: &str) -> Option<String> {
    let mut probe = ClientConfig::new();
    probe.set(key, value);
    let error = probe.create_native_config().err()?;
    Some(match error {
        // The description repeats the value, which may be a secret.
        KafkaError::ClientConfig(..) => {
            "librdkafka has no such property, or does not take this value for it".to_owned()
        }
        other => other.to_string(),
    })
}

#[cfg(test)]
impl KafkaSettings {
    /// Settings with these delays, and brokers that nobody is at.
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
            embedded: false,
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
    fn what_the_design_owns_is_refused_with_its_reason() {
        for (key, why) in OWNED {
            let refused = settings(&[(key, "1")]).refused();
            assert!(refused.iter().any(|r| r.key == *key && r.why == *why));
        }
    }

    #[test]
    fn a_users_property_wins_over_a_default_and_never_over_the_design() {
        let s = settings(&[("fetch.wait.max.ms", "7"), ("isolation.level", "x")]);
        let config = s.consumer_config(&["t".to_owned()]);
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn mistakes_are_named_without_their_values() {
        #[track_caller]
        fn check(properties: &[(&str, &str)], keys: &[&str]) {
            let refused = settings(properties).refused();
            let found: Vec<&str> = refused.iter().map(|r| r.key.as_str()).collect();
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
    fn librdkafka_takes_our_configurations() {
        let s = settings(&[]);
        for config in [
            s.consumer_config(&["t".to_owned()]),
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
    fn a_users_socket_timeout_above_what_a_transaction_allows_makes_no_wrong_producer() {
        let longer = [
            ("session.timeout.ms", "20000"),
            ("socket.timeout.ms", "25000"),
        ];
        let s = settings(&longer);
        let consumer = s.consumer_config(&["t".to_owned()]);
        assert_eq!(consumer.get("socket.timeout.ms"), Some("25000"));
        // Only a client that is made shows whether its settings fit together.
        let made: Result<BaseProducer, _> = s.producer_config().create();
        made.expect("a valid configuration");
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
