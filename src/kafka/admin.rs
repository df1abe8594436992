//! What exists on the brokers, what should, and making it so: for
//! `topics list|create`, and for the checks beside it.
//! Blocking; runs on the thread of a command or on the mover. Never deletes or
//! alters anything.

use super::settings::{HEADER_BYTES_MAX, KafkaSettings};
use crate::model::position::Topic;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// For one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a delay topic keeps records beyond its delay: a stop over a long
/// weekend loses nothing.
const KEPT_BEYOND: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long dead letters are kept.
const DEAD_LETTERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// From this replication factor on, two replicas must have every write.
pub(super) const REPLICATION_SAFE: usize = 3;
/// Kafka's own default of `max.message.bytes`.
pub(super) const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// What went wrong with an admin call.
#[derive(Debug)]
pub enum Error {
    /// The client or the request failed.
    Request {
        /// What was tried.
        tried: &'static str,
        /// Why not.
        source: KafkaError,
    },
    /// The brokers refused something about one topic.
    Topic {
        /// What was tried.
        tried: &'static str,
        /// Which topic.
        name: String,
        /// What they answered.
        code: RDKafkaErrorCode,
    },
}

impl Error {
    /// Whether the brokers do not allow us to ask.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let code = match self {
            Self::Request { source, .. } => source.rdkafka_error_code(),
            Self::Topic { code, .. } => Some(*code),
        };
        matches!(
            code,
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
            )
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { tried, source } => write!(f, "cannot {tried}: {source}"),
            Self::Topic { tried, name, code } => write!(f, "cannot {tried} '{name}': {code}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Request { source, .. } => Some(source),
            Self::Topic { code, .. } => Some(code),
        }
    }
}

/// How far a topic of ours exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// On the brokers.
    Exists,
    /// To be made.
    Missing,
}

/// A topic that the settings need, as it is or as it would be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPlan {
    /// Its part.
    pub topic: Topic,
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub presence: Presence,
    /// Its partitions, or how many it would get.
    pub partitions: usize,
    /// Its replication factor, or what it would get.
    pub replication: usize,
    /// With which settings it would be made; those of an existing one as far as
    /// they matter here.
    pub settings: Vec<(String, String)>,
}

/// What `topics create` was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// Partitions of topics to be made; like the source's if not given.
    pub partitions: Option<usize>,
    /// Their replication factor; like the source's if not given.
    pub replication: Option<usize>,
}

/// A topic as the brokers show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Existing {
    /// Partitions.
    pub partitions: usize,
    /// The smallest replication factor among them.
    pub replication: usize,
}

/// What the brokers give to topics that are made without saying more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BrokerDefaults {
    partitions: usize,
    replication: usize,
    message_bytes: usize,
}

/// The topics of ours that exist, also those of an older schedule.
pub fn existing<C: ClientContext>(
    settings: &KafkaSettings,
    client: &Client<C>,
    timeout: Duration,
) -> Result<BTreeMap<Topic, Existing>, KafkaError> {
    let all = all_topics(client, timeout)?;
    let ours = all.into_iter().filter_map(|(name, existing)| {
        let topic = settings.topics.topic(&name)?;
        Some((topic, existing))
    });
    Ok(ours.collect())
}

fn all_topics<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<BTreeMap<String, Existing>, KafkaError> {
    let metadata = client.fetch_metadata(None, timeout)?;
    let good = metadata
        .topics()
        .iter()
        .filter(|topic| !topic.error().is_some_and(|error| error.is_error()))
        .filter(|topic| !topic.partitions().is_empty());
    Ok(good
        .map(|topic| {
            let partitions = topic.partitions();
            let replication = partitions.iter().map(|p| p.replicas().len()).min();
            let existing = Existing {
                partitions: partitions.len(),
                replication: replication.unwrap_or(0),
            };
            (topic.name().to_owned(), existing)
        })
        .collect())
}

/// The topics that the settings need, with what `topics create` would do.
///
/// Errors: the brokers cannot be reached, or refuse to show their topics.
pub fn plan(settings: &KafkaSettings, wish: Wish) -> Result<Vec<TopicPlan>, Error> {
    let admin = Admin::connect(settings)?;
    let existing = admin.existing(settings)?;
    let defaults = admin.defaults()?;
    let topics: Vec<Topic> = existing.keys().copied().collect();
    let known = admin.topic_settings(settings, &topics)?;
    Ok(plan_topics(settings, wish, &existing, &known, defaults))
}

/// Makes those topics of a plan that are missing; returns their names. A topic
/// that somebody else made meanwhile counts as there.
///
/// Errors: the first topic that cannot be made, with the brokers' reason.
pub fn create(settings: &KafkaSettings, plan: &[TopicPlan]) -> Result<Vec<String>, Error> {
    const TRIED: &str = "make the topic";
    let admin = Admin::connect(settings)?;
    let missing: Vec<&TopicPlan> = plan
        .iter()
        .filter(|topic| topic.presence == Presence::Missing)
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|topic| {
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let replication = i32::try_from(topic.replication).unwrap_or(i32::MAX);
            let replication = TopicReplication::Fixed(replication);
            let new = NewTopic::new(&topic.name, partitions, replication);
            let settings = topic.settings.iter();
            settings.fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let made = block_on(admin.client.create_topics(&new, &options())).map_err(|source| {
        Error::Request {
            tried: "make topics",
            source,
        }
    })?;
    for result in made {
        if let Err((name, code)) = result
            && code != RDKafkaErrorCode::TopicAlreadyExists
        {
            return Err(Error::Topic {
                tried: TRIED,
                name,
                code,
            });
        }
    }
    Ok(missing.iter().map(|topic| topic.name.clone()).collect())
}

/// A topic's or broker's settings by name.
pub(super) type Config = BTreeMap<String, String>;

/// A setting that is a number.
pub(super) fn number(config: &Config, key: &str) -> Option<usize> {
    config.get(key)?.parse().ok()
}

fn plan_topics(
    settings: &KafkaSettings,
    wish: Wish,
    existing: &BTreeMap<Topic, Existing>,
    known: &BTreeMap<Topic, Config>,
    defaults: BrokerDefaults,
) -> Vec<TopicPlan> {
    let source = existing.get(&Topic::Source);
    let partitions = wish
        .partitions
        .or(source.map(|s| s.partitions))
        .unwrap_or(defaults.partitions);
    let replication = wish
        .replication
        .or(source.map(|s| s.replication))
        .unwrap_or(defaults.replication);
    let source_max = known
        .get(&Topic::Source)
        .and_then(|config| number(config, "max.message.bytes"))
        .unwrap_or(defaults.message_bytes);
    let plan_one = |topic: Topic| {
        let name = settings.topics.name(topic);
        match existing.get(&topic) {
            Some(found) => TopicPlan {
                topic,
                name,
                presence: Presence::Exists,
                partitions: found.partitions,
                replication: found.replication,
                settings: shown(known.get(&topic)),
            },
            None => TopicPlan {
                topic,
                name,
                presence: Presence::Missing,
                partitions,
                replication,
                settings: new_topic_settings(topic, source_max, replication),
            },
        }
    };
    settings.needed_topics().into_iter().map(plan_one).collect()
}

/// Settings that matter here, of a topic that exists.
fn shown(config: Option<&Config>) -> Vec<(String, String)> {
    const SHOWN: [&str; 5] = [
        "cleanup.policy",
        "retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
    ];
    let Some(config) = config else {
        return Vec::new();
    };
    SHOWN
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())))
        .collect()
}

fn new_topic_settings(
    topic: Topic,
    source_max: usize,
    replication: usize,
) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    let kept = match topic {
        Topic::Source => None,
        Topic::Delay(delay) => Some(delay.duration() + KEPT_BEYOND),
        Topic::DeadLetter => Some(DEAD_LETTERS_KEPT),
    };
    if let Some(kept) = kept {
        set("cleanup.policy", "delete".to_owned());
        set("retention.ms", kept.as_millis().to_string());
        let max = source_max + HEADER_BYTES_MAX;
        set("max.message.bytes", max.to_string());
    }
    if topic.delay().is_some() {
        set("message.timestamp.type", "LogAppendTime".to_owned());
    }
    if replication >= REPLICATION_SAFE {
        set("min.insync.replicas", "2".to_owned());
    }
    settings
}

/// librdkafka's log lines during an admin call, at a level that only a debug
/// log shows: what matters is in the call's answer.
struct AdminContext;

impl ClientContext for AdminContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }
}

/// A client for admin calls.
pub(super) struct Admin {
    client: AdminClient<AdminContext>,
}

impl Admin {
    pub(super) fn connect(settings: &KafkaSettings) -> Result<Self, Error> {
        let config = settings.admin_config();
        let client = AdminClient::from_config_and_context(&config, AdminContext);
        let client = client.map_err(|source| Error::Request {
            tried: "make an admin client",
            source,
        })?;
        Ok(Self { client })
    }

    /// Whether a broker answers within this time.
    pub(super) fn answers(&self, timeout: Duration) -> bool {
        self.client.inner().fetch_metadata(None, timeout).is_ok()
    }

    pub(super) fn all_topics(&self) -> Result<BTreeMap<String, Existing>, Error> {
        all_topics(self.client.inner(), TIMEOUT).map_err(|source| Error::Request {
            tried: "list topics within 10 s",
            source,
        })
    }

    fn existing(&self, settings: &KafkaSettings) -> Result<BTreeMap<Topic, Existing>, Error> {
        existing(settings, self.client.inner(), TIMEOUT).map_err(|source| Error::Request {
            tried: "list topics within 10 s",
            source,
        })
    }

    pub(super) fn topic_settings(
        &self,
        settings: &KafkaSettings,
        topics: &[Topic],
    ) -> Result<BTreeMap<Topic, Config>, Error> {
        let names: Vec<String> = topics.iter().map(|t| settings.topics.name(*t)).collect();
        let configs = self.describe(&names)?;
        Ok(configs
            .into_iter()
            .filter_map(|(name, config)| Some((settings.topics.topic(&name)?, config)))
            .collect())
    }

    pub(super) fn describe(&self, names: &[String]) -> Result<BTreeMap<String, Config>, Error> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked: Vec<ResourceSpecifier<'_>> =
            names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
        let results = self.describe_resources(&asked)?;
        let mut configs = BTreeMap::new();
        // The answers come in the order of the questions.
        for (name, result) in names.iter().zip(results) {
            let resource = result.map_err(|code| Error::Topic {
                tried: "read the settings of topic",
                name: name.clone(),
                code,
            })?;
            configs.insert(name.clone(), config(resource));
        }
        Ok(configs)
    }

    fn describe_resources(
        &self,
        asked: &[ResourceSpecifier<'_>],
    ) -> Result<Vec<Result<ConfigResource, RDKafkaErrorCode>>, Error> {
        let described = self.client.describe_configs(asked, &options());
        block_on(described).map_err(|source| Error::Request {
            tried: "read settings",
            source,
        })
    }

    /// The settings of one of the brokers; none where not everybody may read them.
    pub(super) fn broker_settings(&self) -> Result<Config, Error> {
        let metadata = self.client.inner().fetch_metadata(None, TIMEOUT);
        let metadata = metadata.map_err(|source| Error::Request {
            tried: "list brokers within 10 s",
            source,
        })?;
        if let Some(broker) = metadata.brokers().first() {
            let asked = [ResourceSpecifier::Broker(broker.id())];
            if let Ok(answers) = self.describe_resources(&asked)
                && let Some(Ok(resource)) = answers.into_iter().next()
            {
                return Ok(config(resource));
            }
        }
        Ok(Config::new())
    }

    /// What a new topic gets from the brokers.
    fn defaults(&self) -> Result<BrokerDefaults, Error> {
        let known = self.broker_settings()?;
        Ok(BrokerDefaults {
            partitions: number(&known, "num.partitions").unwrap_or(1),
            replication: number(&known, "default.replication.factor").unwrap_or(1),
            message_bytes: number(&known, "message.max.bytes").unwrap_or(MESSAGE_BYTES_DEFAULT),
        })
    }
}

fn config(resource: ConfigResource) -> Config {
    let entries = resource.entries.into_iter();
    entries.filter_map(|e| Some((e.name, e.value?))).collect()
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for one answer; the admin client has a thread of its own that wakes us.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::TopicNames;

    fn settings() -> KafkaSettings {
        KafkaSettings {
            brokers: String::new(),
            group: "g".to_owned(),
            instance: "i".to_owned(),
            topics: TopicNames::new("t"),
            delays: vec![delay("10s"), delay("1h")],
            record_bytes_max: 1 << 20,
            properties: Vec::new(),
            embedded: false,
        }
    }

    fn delay(text: &str) -> crate::model::time::Delay {
        text.parse().expect("a valid delay")
    }

    const DEFAULTS: BrokerDefaults = BrokerDefaults {
        partitions: 5,
        replication: 2,
        message_bytes: 1_000,
    };

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn missing_topics_are_planned_like_the_source() {
        let source = Existing {
            partitions: 12,
            replication: 3,
        };
        let existing = BTreeMap::from([(Topic::Source, source)]);
        let known = BTreeMap::from([(Topic::Source, config(&[("max.message.bytes", "2000")]))]);
        let plan = plan_topics(&settings(), Wish::default(), &existing, &known, DEFAULTS);
        let names: Vec<&str> = plan.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["t", "t.delay.10s", "t.delay.1h", "t.dead-letter"]);
        assert_eq!(plan[0].presence, Presence::Exists);
        for topic in &plan[1..] {
            assert_eq!(topic.presence, Presence::Missing);
            assert_eq!((topic.partitions, topic.replication), (12, 3));
        }
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            plan[2].settings,
            [
                pair("cleanup.policy", "delete"),
                pair("retention.ms", "608400000"),
                pair("max.message.bytes", "67536"),
                pair("message.timestamp.type", "LogAppendTime"),
                pair("min.insync.replicas", "2"),
            ]
        );
        assert_eq!(plan[3].settings[1], pair("retention.ms", "2592000000"));
        assert!(
            !plan[3]
                .settings
                .iter()
                .any(|(k, _)| k.contains("timestamp"))
        );
    }

    #[test]
    fn a_wish_wins_over_the_source_and_the_source_over_the_brokers() {
        let none = BTreeMap::new();
        let known = BTreeMap::new();
        let plan = plan_topics(&settings(), Wish::default(), &none, &known, DEFAULTS);
        assert_eq!((plan[0].partitions, plan[0].replication), (5, 2));
        assert!(plan[0].settings.is_empty());
        assert!(
            !plan[1]
                .settings
                .iter()
                .any(|(k, _)| k == "min.insync.replicas")
        );
        let wish = Wish {
            partitions: Some(7),
            replication: Some(1),
        };
        let plan = plan_topics(&settings(), wish, &none, &known, DEFAULTS);
        assert!(plan.iter().all(|p| (p.partitions, p.replication) == (7, 1)));
    }
}
