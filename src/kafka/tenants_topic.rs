//! Reads the tenants topic: from its start to its end, and then each new entry.
//! Never interprets an entry, and never joins a group. Blocking: runs on the thread
//! `tenants`, or on the thread of a command.
//!
//! Memory (L5): the consumer holds at most 16 MiB of entries that were not taken yet.

use super::admin::{self, Admin, AdminCallError, check};
use super::client::log::QueryContext;
use super::settings::KafkaSettings;
use rdkafka::Message as _;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::Duration;

/// The maximum number of entries that one call returns.
const ENTRIES_MAX: usize = 10_000;

/// One record of the tenants topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicEntry {
    /// The tenantId.
    pub key: Vec<u8>,
    /// The tenant's settings. `None` removes the tenant.
    pub value: Option<Vec<u8>>,
}

/// Why the topic cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TenantsTopicError {
    /// It may be readable later: brokers are away, or the topic does not exist yet.
    NotYet(String),
    /// The topic cannot hold tenants, with what to do.
    Wrong(String),
}

impl std::fmt::Display for TenantsTopicError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NotYet(why) | Self::Wrong(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for TenantsTopicError {}

/// A consumer of all partitions of the topic.
pub struct TenantsTopic {
    consumer: BaseConsumer<QueryContext>,
    /// Partitions whose end was not reached yet.
    before_end: BTreeSet<i32>,
}

impl TenantsTopic {
    /// Checks the topic, and starts to read it from its start.
    ///
    /// # Errors
    /// The topic does not exist, does not keep all tenants, or cannot be reached.
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<Self, TenantsTopicError> {
        let not_yet = |what: &str, error: &dyn std::fmt::Display| {
            TenantsTopicError::NotYet(format!("the tenants topic '{topic}' {what}: {error}"))
        };
        let cannot_list = |error: AdminCallError| not_yet("cannot be found", &error);
        let admin = Admin::connect(settings).map_err(cannot_list)?;
        let all = admin.all_topics().map_err(cannot_list)?;
        let Some(existing) = all.get(topic) else {
            let why = format!(
                "the tenants topic '{topic}' does not exist, or this user may not DESCRIBE it: run \
                 `ringback topics create`"
            );
            return Err(TenantsTopicError::NotYet(why));
        };
        match check::tenants_topic(&admin, topic) {
            Ok(None) => {}
            Ok(Some(wrong)) => return Err(TenantsTopicError::Wrong(wrong)),
            Err(error) if error.is_denied() => {
                tracing::warn!(%error, "topic settings are not checked: not allowed to read them");
            }
            Err(error) => return Err(not_yet("cannot be checked", &error)),
        }
        let partitions = 0..i32::try_from(existing.partitions).unwrap_or(i32::MAX);
        let cannot_read = |error: KafkaError| not_yet("cannot be read", &error);
        let consumer =
            BaseConsumer::from_config_and_context(&settings.tenants_config(), QueryContext)
                .map_err(cannot_read)?;
        let mut from = TopicPartitionList::new();
        for partition in partitions.clone() {
            let added = from.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(cannot_read)?;
        }
        consumer.assign(&from).map_err(cannot_read)?;
        Ok(Self {
            consumer,
            before_end: partitions.collect(),
        })
    }

    /// Returns whether the end of the topic was reached since the start.
    #[must_use]
    pub fn reached_end(&self) -> bool {
        self.before_end.is_empty()
    }

    /// Returns the next entries. Waits at most this long for the first one.
    ///
    /// # Errors
    /// The client's error. It tries again by itself.
    pub fn read(&mut self, wait: Duration) -> Result<Vec<TopicEntry>, KafkaError> {
        let mut entries = Vec::new();
        let mut wait = wait;
        while entries.len() < ENTRIES_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => entries.push(TopicEntry {
                    key: message.key().unwrap_or_default().to_vec(),
                    value: message.payload().map(<[u8]>::to_vec),
                }),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.before_end.remove(&partition);
                }
                // What was read before the error must not be lost.
                Some(Err(_)) if !entries.is_empty() => break,
                Some(Err(error)) => return Err(error),
            }
            wait = Duration::ZERO;
        }
        Ok(entries)
    }

    /// Reads all entries up to the end of the topic, for a command.
    ///
    /// # Errors
    /// The end was not reached within the time of some admin calls.
    pub fn read_to_end(&mut self) -> Result<Vec<TopicEntry>, TenantsTopicError> {
        const STEP: Duration = Duration::from_millis(100);
        let mut all = Vec::new();
        let mut idle = Duration::ZERO;
        let mut why = "no answer".to_owned();
        while !self.reached_end() {
            match self.read(STEP) {
                Ok(entries) if entries.is_empty() => idle += STEP,
                Ok(entries) => {
                    idle = Duration::ZERO;
                    all.extend(entries);
                }
                Err(error) => {
                    why = error.to_string();
                    idle += STEP;
                }
            }
            if idle > admin::TIMEOUT {
                let text = format!("the end of the tenants topic was not reached: {why}");
                return Err(TenantsTopicError::NotYet(text));
            }
        }
        Ok(all)
    }
}
