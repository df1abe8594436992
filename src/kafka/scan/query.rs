//! Questions of the commands that read: which topics exist, where their logs start
//! and end, and what a group has committed. Joins no group and commits nothing.
//! Blocking: runs on the thread of a command.

use super::{PartitionRange, ScanError, TopicPartition};
use crate::kafka::admin::{TIMEOUT, all_topics};
use crate::kafka::client::log::QueryContext;
use crate::kafka::client::offsets;
use crate::kafka::client::{brokers, ffi};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::{NextOffset, TopicId};
use crate::model::time::UnixMillis;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{IsError as _, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset as WireOffset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a scan starts in each partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// The start of the log.
    Beginning,
    /// The first record with this timestamp or a later one. No record before it is
    /// that late, but records after it may be earlier.
    Time(UnixMillis),
}

/// The committed state of a group in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOffset {
    pub base: NextOffset,
    pub metadata: String,
}

/// A client that asks and reads no records.
pub struct Query {
    /// It sees what open transactions have written, so that ends are ends of logs.
    client: BaseConsumer<QueryContext>,
}

impl Query {
    /// Creates the client. It connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, ScanError> {
        let config = settings.probe_config();
        let client = BaseConsumer::from_config_and_context(&config, QueryContext);
        let client = client.map_err(ScanError::Client)?;
        Ok(Self { client })
    }

    /// Returns the names of all topics that the user may see.
    ///
    /// # Errors
    /// No broker answers within 10 s.
    pub fn topics(&self) -> Result<Vec<String>, ScanError> {
        let all = all_topics(self.client.client(), TIMEOUT);
        let all = all.map_err(|source| ScanError::Request {
            tried: "list topics within 10 s",
            source,
        })?;
        Ok(all.into_keys().collect())
    }

    /// Returns the partitions of a topic, ascending.
    ///
    /// # Errors
    /// The topic does not exist, may not be read, or no broker answers within 10 s.
    pub fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>, ScanError> {
        let metadata = self.client.fetch_metadata(Some(topic), TIMEOUT);
        let metadata = metadata.map_err(|source| ScanError::Request {
            tried: "read the partitions of a topic within 10 s",
            source,
        })?;
        let refused = |code| ScanError::Topic {
            name: topic.to_owned(),
            code,
        };
        let missing = || refused(Code::UnknownTopicOrPartition);
        let found = metadata.topics().first().ok_or_else(missing)?;
        if let Some(error) = found.error()
            && error.is_error()
        {
            return Err(refused(error.into()));
        }
        if found.partitions().is_empty() {
            return Err(missing());
        }
        let name: Arc<str> = topic.into();
        let numbers = found.partitions().iter().map(|partition| partition.id());
        let mut all: Vec<TopicPartition> = numbers
            .map(|number| TopicPartition {
                topic: Arc::clone(&name),
                number,
            })
            .collect();
        all.sort_unstable();
        Ok(all)
    }

    /// Returns for each partition of these topics where a scan starts, and the end
    /// of the log now. An open transaction's records lie before the end.
    ///
    /// # Errors
    /// A topic does not exist or may not be read, or a leader does not answer.
    pub fn ranges(
        &self,
        topics: &[String],
        start: Start,
    ) -> Result<Vec<PartitionRange>, ScanError> {
        let mut partitions = Vec::new();
        for topic in topics {
            partitions.extend(self.partitions(topic)?);
        }
        let starts = match start {
            Start::Beginning => self.log_starts(&partitions)?,
            Start::Time(at) => self.offsets(&partitions, WireOffset::Offset(at.0))?,
        };
        let ends = self.log_ends(&partitions)?;
        let range = |partition: TopicPartition| {
            let end = *ends.get(&partition)?;
            // A time after the last record has no offset.
            let start = starts.get(&partition).copied().unwrap_or(end);
            Some(PartitionRange {
                start: start.min(end),
                end,
                partition,
            })
        };
        Ok(partitions.into_iter().filter_map(range).collect())
    }

    /// Returns where the log of each partition starts.
    ///
    /// # Errors
    /// A leader does not answer within 10 s, or refuses to.
    pub fn log_starts(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, NextOffset>, ScanError> {
        self.offsets(partitions, WireOffset::Beginning)
    }

    /// Returns where the log of each partition ends, after the records of open
    /// transactions.
    ///
    /// # Errors
    /// A leader does not answer within 10 s, or refuses to.
    pub fn log_ends(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, NextOffset>, ScanError> {
        self.offsets(partitions, WireOffset::End)
    }

    /// Asks ListOffsets. Partitions without an offset are left out.
    fn offsets(
        &self,
        partitions: &[TopicPartition],
        which: WireOffset,
    ) -> Result<BTreeMap<TopicPartition, NextOffset>, ScanError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let tried = "read where the logs start and end, within 10 s";
        let mut asked = list(partitions);
        let set = asked.set_all_offsets(which);
        set.map_err(|source| ScanError::Request { tried, source })?;
        let answer = offsets::for_times(&self.client, &asked, TIMEOUT);
        let answer = answer.map_err(|error| match error.silent.is_empty() {
            true => ScanError::Request {
                tried,
                source: error.source,
            },
            false => ScanError::Silent {
                tried,
                brokers: offsets::in_words(&error.silent),
            },
        });
        let mut offsets = BTreeMap::new();
        for element in ffi::elements(&answer?) {
            let partition = TopicPartition::new(&element.topic, element.partition);
            if let Some(code) = element.error {
                return Err(ScanError::Partition {
                    tried: "read where the log starts and ends",
                    partition,
                    code,
                });
            }
            if element.offset >= 0 {
                offsets.insert(partition, NextOffset(element.offset));
            }
        }
        Ok(offsets)
    }

    /// Returns what the group of the settings has committed, without waiting for
    /// open transactions. Partitions without a commit are left out.
    ///
    /// # Errors
    /// The group's coordinator does not answer within 10 s, or refuses to.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, GroupOffset>, ScanError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        // librdkafka asks for the coordinator until the time is over, also if the
        // brokers refuse to name it.
        let tried = "read the group's committed offsets within 10 s: does a broker answer, and \
                     may this user DESCRIBE the group?";
        let answer = self.client.committed_offsets(list(partitions), TIMEOUT);
        let answer = answer.map_err(|source| ScanError::Request { tried, source })?;
        let mut committed = BTreeMap::new();
        for element in ffi::elements(&answer) {
            let partition = TopicPartition::new(&element.topic, element.partition);
            if let Some(code) = element.error {
                return Err(ScanError::Partition {
                    tried: "read the group's committed offset",
                    partition,
                    code,
                });
            }
            if element.offset >= 0 {
                let offset = GroupOffset {
                    base: NextOffset(element.offset),
                    metadata: element.metadata,
                };
                committed.insert(partition, offset);
            }
        }
        Ok(committed)
    }

    /// Returns the ids of these topics, as far as the brokers tell them.
    #[must_use]
    pub fn topic_ids(&self, topics: &[String]) -> BTreeMap<String, TopicId> {
        let described = brokers::describe(&self.client, topics, None, TIMEOUT);
        let topics = described.unwrap_or_default().into_iter();
        topics
            .map(|topic| (topic.name, TopicId(topic.id)))
            .collect()
    }
}

fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}
