//! Reads committed records of partitions, each one when it is asked for. The
//! others are fetched in advance. Joins no group and commits nothing. Runs on the
//! thread of a command.
//!
//! Memory (L5): each partition holds at most 4 MiB that are fetched in advance. One
//! response of 1 MiB, or one larger record, may be in flight for it.

use super::JobCallError;
use crate::kafka::client::convert;
use crate::kafka::client::log::QueryContext;
use crate::kafka::client::queue::{PartitionQueue, Polled};
use crate::kafka::client::wake::Waker;
use crate::kafka::settings::KafkaSettings;
use crate::model::position::{NextOffset, Partition};
use crate::model::record::Record;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How long one wait for a record lasts before the client's events are served.
const WAIT: Duration = Duration::from_millis(50);

/// The next item of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextRecord {
    Record(Record),
    /// No committed record is left before this offset, and none after it yet.
    End(NextOffset),
    /// The offset to read is outside the log: retention has deleted it.
    OutOfRange,
    /// Nothing has come within the wait.
    Nothing,
}

/// A consumer that assigns itself.
pub struct JobReader {
    queues: BTreeMap<Partition, PartitionQueue<QueryContext>>,
    topic: String,
    waker: Arc<Waker>,
    consumer: Arc<BaseConsumer<QueryContext>>,
}

impl JobReader {
    /// Starts to fetch from these offsets, which are all of one topic.
    ///
    /// # Errors
    /// librdkafka refuses the configuration or the partitions.
    pub fn start(
        settings: &KafkaSettings,
        group: &str,
        starts: &[(Partition, NextOffset)],
    ) -> Result<Self, JobCallError> {
        let topic = starts.first().map(|(first, _)| first.topic);
        let topic = topic.map_or_else(String::new, |topic| settings.topics.name(topic));
        let failed = |error| JobCallError::new(format!("read the topic '{topic}'"), error);
        let mut config = settings.scan_config();
        config
            .set("group.id", group)
            .set("queued.max.messages.kbytes", "4096");
        let mut consumer =
            BaseConsumer::from_config_and_context(&config, QueryContext).map_err(failed)?;
        let waker = Arc::new(Waker::default());
        waker.register();
        let wake = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(consumer);
        let mut queues = BTreeMap::new();
        for (partition, _) in starts {
            let queue = PartitionQueue::split(&consumer, &topic, partition.number, &waker);
            let queue = queue.ok_or_else(|| {
                let code = RDKafkaErrorCode::UnknownPartition;
                JobCallError::of_code(format!("read {topic}/{}", partition.number), code)
            })?;
            queues.insert(*partition, queue);
        }
        let list = convert::starts(&settings.topics, starts).map_err(failed)?;
        consumer.assign(&list).map_err(failed)?;
        Ok(Self {
            queues,
            topic,
            waker,
            consumer,
        })
    }

    /// Returns the next item of this partition. Waits for a moment if there is none.
    ///
    /// # Errors
    /// The partition cannot be read.
    pub fn next(&self, partition: Partition) -> Result<NextRecord, JobCallError> {
        let Some(queue) = self.queues.get(&partition) else {
            return Ok(NextRecord::OutOfRange);
        };
        let mut next = Ok(NextRecord::Nothing);
        let polled = queue.poll(1, |message| {
            next = match message.error() {
                None => Ok(NextRecord::Record(convert::record(partition, message))),
                Some(RDKafkaErrorCode::PartitionEOF) => {
                    Ok(NextRecord::End(NextOffset(message.offset())))
                }
                Some(code) if convert::is_out_of_range(code) => Ok(NextRecord::OutOfRange),
                Some(code) => {
                    let tried = format!("read {}/{}", self.topic, partition.number);
                    Err(JobCallError::of_code(tried, code))
                }
            };
            ControlFlow::Break(())
        });
        if polled == Polled::Emptied {
            self.waker.sleep(WAIT);
            // Serves the client's errors and log lines. No record comes here.
            self.consumer.poll(Duration::ZERO);
        }
        next
    }
}
