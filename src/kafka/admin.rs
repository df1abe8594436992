//! Asks the brokers what exists and how it is set, and has topics made. Knows no
//! plan: `topics` and `check` say what should exist.
//! Blocking; runs on the thread of a command or on the mover. Never deletes or
//! alters anything.

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

/// For one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// From this replication factor on, two replicas must have every write.
pub(super) const REPLICATION_SAFE: usize = 3;
/// Kafka's own default of `max.message.bytes`.
pub(super) const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// What went wrong with an admin call.
#[derive(Debug)]
pub enum Error {
    /// The client or the request failed.
    KafkaRequest {
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
            Self::KafkaRequest { source, .. } => source.rdkafka_error_code(),
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
            Self::KafkaRequest { tried, source } => write!(f, "cannot {tried}: {source}"),
            Self::Topic { tried, name, code } => write!(f, "cannot {tried} '{name}': {code}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::KafkaRequest { source, .. } => Some(source),
            Self::Topic { code, .. } => Some(code),
        }
    }
}

/// A topic as the brokers show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Existing {
    /// Partitions.
    pub partitions: usize,
    /// The smallest replication factor among them.
    pub replication: usize,
    /// One of them that has no leader now.
    pub leaderless: Option<i32>,
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
                leaderless: partitions.iter().find(|p| p.leader() < 0).map(|p| p.id()),
            };
            (topic.name().to_owned(), existing)
        })
        .collect())
}

/// A topic's or broker's settings by name.
pub(super) type Config = BTreeMap<String, String>;

/// A setting that is a number.
pub(super) fn number(config: &Config, key: &str) -> Option<usize> {
    config.get(key)?.parse().ok()
}

/// A client for admin calls.
pub(super) struct Admin {
    client: AdminClient<QueryContext>,
}

impl Admin {
    pub(super) fn connect(settings: &KafkaSettings) -> Result<Self, Error> {
        let config = settings.admin_config();
        let client = AdminClient::from_config_and_context(&config, QueryContext);
        let client = client.map_err(|source| Error::KafkaRequest {
            tried: "make an admin client",
            source,
        })?;
        Ok(Self { client })
    }

    /// Has topics made. One that somebody else made meanwhile is no error.
    pub(super) fn make(&self, new: &[NewTopic<'_>]) -> Result<(), Error> {
        let made = block_on(self.client.create_topics(new, &options()));
        let made = made.map_err(|source| Error::KafkaRequest {
            tried: "make topics",
            source,
        })?;
        let failed = made.into_iter().filter_map(Result::err);
        let mut failed = failed.filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists);
        match failed.next() {
            None => Ok(()),
            Some((name, code)) => Err(Error::Topic {
                tried: "make the topic",
                name,
                code,
            }),
        }
    }

    /// Asks a partition's leader where its log ends.
    pub(super) fn ask_leader(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let client = self.client.inner();
        client
            .fetch_watermarks(topic, partition, timeout)
            .map(|_| ())
    }

    pub(super) fn all_topics(&self) -> Result<BTreeMap<String, Existing>, Error> {
        all_topics(self.client.inner(), TIMEOUT).map_err(|source| Error::KafkaRequest {
            tried: "list topics within 10 s",
            source,
        })
    }

    pub(super) fn existing(
        &self,
        settings: &KafkaSettings,
    ) -> Result<BTreeMap<Topic, Existing>, Error> {
        existing(settings, self.client.inner(), TIMEOUT).map_err(|source| Error::KafkaRequest {
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
        block_on(described).map_err(|source| Error::KafkaRequest {
            tried: "read settings",
            source,
        })
    }

    /// The settings of one of the brokers; none where not everybody may read them.
    pub(super) fn broker_settings(&self) -> Result<Config, Error> {
        let metadata = self.client.inner().fetch_metadata(None, TIMEOUT);
        let metadata = metadata.map_err(|source| Error::KafkaRequest {
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
