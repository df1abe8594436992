//! A job's group: its committed offsets with their metadata, and the bounds of the
//! logs that the job reads. Joins no group and commits nothing. Runs on the thread
//! of a command.

use super::{JobCallError, REQUEST_MAX};
use crate::kafka::client::log::QueryContext;
use crate::kafka::client::{convert, ffi, offsets};
use crate::kafka::settings::KafkaSettings;
use crate::model::message::{LogBounds, Snapshot};
use crate::model::position::{NextOffset, Partition, Topic, TopicNames};
use crate::model::time::UnixMillis;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;

/// Which of a group's offsets are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// The offsets after every open transaction has ended. The read fails while one
    /// is open.
    Stable,
    /// The offsets now, without those of an open transaction.
    Now,
}

/// A client that lists the groups of the cluster.
pub struct GroupList {
    consumer: BaseConsumer<QueryContext>,
}

impl GroupList {
    const TRIED: &str = "list the consumer groups";

    /// Creates the client. It connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, JobCallError> {
        let consumer =
            BaseConsumer::from_config_and_context(&settings.admin_config(), QueryContext)
                .map_err(|error| JobCallError::new(Self::TRIED, error))?;
        Ok(Self { consumer })
    }

    /// Returns the names of all groups that start with `prefix`, in their order.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse to list groups.
    pub fn with_prefix(&self, prefix: &str) -> Result<Vec<String>, JobCallError> {
        let names = ffi::group_names(self.consumer.client(), REQUEST_MAX);
        let mut names = names.map_err(|code| JobCallError::of_code(Self::TRIED, code))?;
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// A client that reads a job's group.
pub struct JobGroup {
    name: String,
    names: TopicNames,
    consumer: BaseConsumer<QueryContext>,
}

impl JobGroup {
    /// Creates a client for this group. It connects in the background.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn connect(
        settings: &KafkaSettings,
        group: &str,
        reads: Reads,
    ) -> Result<Self, JobCallError> {
        let mut config = settings.probe_config();
        config.set("group.id", group);
        if reads == Reads::Stable {
            config.set("isolation.level", "read_committed");
        }
        let consumer = BaseConsumer::from_config_and_context(&config, QueryContext);
        Ok(Self {
            name: group.to_owned(),
            names: settings.topics.clone(),
            consumer: consumer
                .map_err(|error| JobCallError::new("create a Kafka client", error))?,
        })
    }

    /// Returns the partitions of a topic. None if there is no such topic.
    ///
    /// # Errors
    /// The brokers cannot be reached, or refuse to describe the topic.
    pub fn partitions(&self, topic: Topic) -> Result<Vec<Partition>, JobCallError> {
        let name = self.names.name(topic);
        let tried = || format!("describe the topic '{name}'");
        // All topics: to ask for one by name could create it.
        let metadata = self
            .consumer
            .fetch_metadata(None, REQUEST_MAX)
            .map_err(|error| JobCallError::new(tried(), error))?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let Some(found) = found else {
            return Ok(Vec::new());
        };
        if let Some(error) = found.error() {
            return Err(JobCallError::of_code(tried(), error.into()));
        }
        let numbers = found.partitions().iter().map(|partition| partition.id());
        let mut all: Vec<Partition> = numbers.map(|number| topic.partition(number)).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// Returns what the group has committed for these partitions. Partitions without
    /// a commit are left out.
    ///
    /// # Errors
    /// The coordinator does not answer, or refuses. With [`Reads::Stable`] also
    /// while a transaction is open.
    pub fn committed(&self, partitions: &[Partition]) -> Result<Vec<Snapshot>, JobCallError> {
        // librdkafka asks for the coordinator until the time is over, also if the
        // brokers refuse to name it.
        let tried = || {
            let group = &self.name;
            format!("read the offsets of the group '{group}' (it needs READ on the group)")
        };
        let asked = convert::list(&self.names, partitions);
        let list = self
            .consumer
            .committed_offsets(asked, REQUEST_MAX)
            .map_err(|error| JobCallError::new(tried(), error))?;
        let mut found = Vec::new();
        for element in ffi::elements(&list) {
            if let Some(code) = element.error {
                return Err(JobCallError::of_code(tried(), code));
            }
            let Some(partition) = convert::partition(&self.names, &element) else {
                continue;
            };
            if element.offset >= 0 {
                found.push(Snapshot {
                    partition,
                    base: NextOffset(element.offset),
                    metadata: element.metadata,
                });
            }
        }
        Ok(found)
    }

    /// Returns where the logs of these partitions start and end.
    ///
    /// # Errors
    /// A leader does not answer, or refuses.
    pub fn bounds(&self, partitions: &[Partition]) -> Result<Vec<LogBounds>, JobCallError> {
        let starts = self.offsets(partitions, Offset::Beginning)?;
        let ends = self.offsets(partitions, Offset::End)?;
        let bounds = partitions.iter().map(|partition| LogBounds {
            partition: *partition,
            start: starts[partition],
            end: ends[partition],
            high_watermark: ends[partition],
        });
        Ok(bounds.collect())
    }

    /// Returns for each partition the first offset whose timestamp is at or after
    /// `at`. Partitions without such an offset are left out.
    ///
    /// # Errors
    /// A leader does not answer, or refuses.
    pub fn offsets_at(
        &self,
        partitions: &[Partition],
        at: UnixMillis,
    ) -> Result<BTreeMap<Partition, NextOffset>, JobCallError> {
        // `offsets_for_times` takes negative numbers for the log's start and end.
        self.offsets_for(partitions, Offset::Offset(at.0.max(0)))
    }

    fn offsets(
        &self,
        partitions: &[Partition],
        which: Offset,
    ) -> Result<BTreeMap<Partition, NextOffset>, JobCallError> {
        let found = self.offsets_for(partitions, which)?;
        match partitions.iter().find(|asked| !found.contains_key(asked)) {
            None => Ok(found),
            Some(missing) => Err(JobCallError::of_code(
                self.tried_bounds(missing),
                RDKafkaErrorCode::UnknownPartition,
            )),
        }
    }

    fn tried_bounds(&self, partition: &Partition) -> String {
        let topic = self.names.name(partition.topic);
        format!("read the bounds of {topic}/{}", partition.number)
    }

    fn offsets_for(
        &self,
        partitions: &[Partition],
        which: Offset,
    ) -> Result<BTreeMap<Partition, NextOffset>, JobCallError> {
        let Some(first) = partitions.first() else {
            return Ok(BTreeMap::new());
        };
        let failed = |error: KafkaError| JobCallError::new(self.tried_bounds(first), error);
        let mut asked: TopicPartitionList = convert::list(&self.names, partitions);
        asked.set_all_offsets(which).map_err(failed)?;
        let list = offsets::for_times(&self.consumer, &asked, REQUEST_MAX);
        let list = list.map_err(|error| match error.silent.is_empty() {
            true => failed(error.source),
            false => {
                let silent = offsets::in_words(&error.silent);
                let tried = format!("read the bounds of all logs: {silent}");
                JobCallError::new(tried, error.source)
            }
        })?;
        let mut found = BTreeMap::new();
        for element in ffi::elements(&list) {
            let Some(partition) = convert::partition(&self.names, &element) else {
                continue;
            };
            if let Some(code) = element.error {
                return Err(JobCallError::of_code(self.tried_bounds(&partition), code));
            }
            if element.offset >= 0 {
                found.insert(partition, NextOffset(element.offset));
            }
        }
        Ok(found)
    }
}
