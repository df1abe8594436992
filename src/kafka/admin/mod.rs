//! The admin client: lists topics, reads settings and creates topics. [`topics`]
//! and [`check`] decide what should exist. Never deletes or alters anything.
//! Blocking: runs on the thread of a command, on `kafka-move` or on `topic-settings`.

pub mod check;
mod retention;
mod rights;
pub mod settings_watch;
pub mod topics;

use super::client::log::QueryContext;
use super::settings::KafkaSettings;
use crate::model::position::Topic;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// The deadline of one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// With this replication factor, a write must be on two replicas.
const REPLICATION_SAFE: usize = 3;
/// Kafka's own default of `max.message.bytes`.
const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// An admin call that failed.
#[derive(Debug)]
pub enum AdminCallError {
    Request {
        /// The action that failed: a verb with its object.
        tried: &'static str,
        source: KafkaError,
    },
    /// The brokers refused an action on one topic.
    Topic {
        tried: &'static str,
        name: String,
        code: RDKafkaErrorCode,
    },
}

impl AdminCallError {
    /// Returns whether the brokers refused the call for lack of permission.
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

impl fmt::Display for AdminCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { tried, source } => write!(f, "cannot {tried}: {source}"),
            Self::Topic { tried, name, code } => {
                write!(f, "cannot {tried} '{name}': {code}")?;
                match *code == RDKafkaErrorCode::TopicAuthorizationFailed {
                    true if tried.starts_with("read") => f.write_str(": allow DESCRIBE_CONFIGS"),
                    true => f.write_str(": allow CREATE"),
                    false => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for AdminCallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Request { source, .. } => Some(source),
            Self::Topic { code, .. } => Some(code),
        }
    }
}

/// A topic on the brokers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExistingTopic {
    pub partitions: usize,
    /// The smallest replication factor of its partitions.
    pub replication: usize,
    /// A partition without a leader.
    pub leaderless: Option<i32>,
}

/// Returns ringback's topics that exist, including those of an older schedule.
pub fn existing<C: ClientContext>(
    settings: &KafkaSettings,
    client: &Client<C>,
    timeout: Duration,
) -> Result<BTreeMap<Topic, ExistingTopic>, KafkaError> {
    let all = all_topics(client, timeout)?;
    let own = all.into_iter().filter_map(|(name, existing)| {
        let topic = settings.topics.topic(&name)?;
        Some((topic, existing))
    });
    Ok(own.collect())
}

/// Returns all topics that have partitions and no error, by name.
pub(super) fn all_topics<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<BTreeMap<String, ExistingTopic>, KafkaError> {
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
            let existing = ExistingTopic {
                partitions: partitions.len(),
                replication: replication.unwrap_or(0),
                leaderless: partitions.iter().find(|p| p.leader() < 0).map(|p| p.id()),
            };
            (topic.name().to_owned(), existing)
        })
        .collect())
}

/// The settings of a topic or broker, by name.
type ConfigEntries = BTreeMap<String, String>;

/// Returns a setting that is a number.
fn number(config: &ConfigEntries, key: &str) -> Option<usize> {
    config.get(key)?.parse().ok()
}

/// The topic setting that says how many replicas must be in sync.
const LEAST_IN_SYNC: &str = "min.insync.replicas";

/// Returns how many replicas each topic wants in sync. Kafka wants no more than a
/// partition has.
fn least_in_sync(configs: &BTreeMap<Topic, ConfigEntries>) -> BTreeMap<Topic, usize> {
    let told = configs.iter();
    told.filter_map(|(topic, config)| Some((*topic, number(config, LEAST_IN_SYNC)?)))
        .collect()
}

/// The admin client.
pub(super) struct Admin {
    client: AdminClient<QueryContext>,
}

impl Admin {
    pub(super) fn connect(settings: &KafkaSettings) -> Result<Self, AdminCallError> {
        let config = settings.admin_config();
        let client = AdminClient::from_config_and_context(&config, QueryContext);
        let client = client.map_err(|source| AdminCallError::Request {
            tried: "create an admin client",
            source,
        })?;
        Ok(Self { client })
    }

    /// Creates topics, and returns the names of those that exist by now.
    fn create(&self, new: &[NewTopic<'_>]) -> Result<Vec<String>, AdminCallError> {
        let results = block_on(self.client.create_topics(new, &options()));
        let results = results.map_err(|source| AdminCallError::Request {
            tried: "create topics",
            source,
        })?;
        let failed = results.into_iter().filter_map(Result::err);
        let (exist, failed): (Vec<_>, Vec<_>) =
            failed.partition(|(_, code)| *code == RDKafkaErrorCode::TopicAlreadyExists);
        match failed.into_iter().next() {
            None => Ok(exist.into_iter().map(|(name, _)| name).collect()),
            Some((name, code)) => Err(AdminCallError::Topic {
                tried: "create the topic",
                name,
                code,
            }),
        }
    }

    /// Asks the leader of a partition for its log bounds.
    fn ask_leader(&self, topic: &str, partition: i32, timeout: Duration) -> Result<(), KafkaError> {
        let client = self.client.inner();
        client
            .fetch_watermarks(topic, partition, timeout)
            .map(|_| ())
    }

    pub(super) fn all_topics(&self) -> Result<BTreeMap<String, ExistingTopic>, AdminCallError> {
        all_topics(self.client.inner(), TIMEOUT).map_err(|source| AdminCallError::Request {
            tried: "list topics within 10 s",
            source,
        })
    }

    fn existing(
        &self,
        settings: &KafkaSettings,
    ) -> Result<BTreeMap<Topic, ExistingTopic>, AdminCallError> {
        existing(settings, self.client.inner(), TIMEOUT).map_err(|source| AdminCallError::Request {
            tried: "list topics within 10 s",
            source,
        })
    }

    fn topic_settings(
        &self,
        settings: &KafkaSettings,
        topics: &[Topic],
    ) -> Result<BTreeMap<Topic, ConfigEntries>, AdminCallError> {
        let names: Vec<String> = topics.iter().map(|t| settings.topics.name(*t)).collect();
        let configs = self.describe(&names)?;
        Ok(configs
            .into_iter()
            .filter_map(|(name, config)| Some((settings.topics.topic(&name)?, config)))
            .collect())
    }

    fn describe(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, ConfigEntries>, AdminCallError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked: Vec<ResourceSpecifier<'_>> =
            names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
        let results = self.describe_resources(&asked)?;
        let mut configs = BTreeMap::new();
        // The answers come in the order of the questions.
        for (name, result) in names.iter().zip(results) {
            let refused = |code| AdminCallError::Topic {
                tried: "read the settings of topic",
                name: name.clone(),
                code,
            };
            let config = config(result.map_err(refused)?);
            if config.is_empty() {
                // Every topic has settings. The crate drops the error of a resource.
                return Err(refused(RDKafkaErrorCode::TopicAuthorizationFailed));
            }
            configs.insert(name.clone(), config);
        }
        Ok(configs)
    }

    fn describe_resources(
        &self,
        asked: &[ResourceSpecifier<'_>],
    ) -> Result<Vec<Result<ConfigResource, RDKafkaErrorCode>>, AdminCallError> {
        let described = self.client.describe_configs(asked, &options());
        block_on(described).map_err(|source| AdminCallError::Request {
            tried: "read settings",
            source,
        })
    }

    /// Returns the settings of one broker. Empty if reading them is not allowed.
    fn broker_settings(&self) -> Result<ConfigEntries, AdminCallError> {
        let metadata = self.client.inner().fetch_metadata(None, TIMEOUT);
        let metadata = metadata.map_err(|source| AdminCallError::Request {
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
        Ok(ConfigEntries::new())
    }
}

fn config(resource: ConfigResource) -> ConfigEntries {
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

/// Waits for one answer. The admin client's own thread wakes this one.
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
