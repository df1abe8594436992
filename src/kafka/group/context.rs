//! The consumer's callbacks: rebalances, errors and log lines. Decides nothing: a
//! rebalance becomes an event. Holds no consumer, because the consumer holds it.
//! Rebalances run on the consumer thread, inside its poll; log lines run on the
//! thread that polls.

use super::coordinator::CoordinatorConnection;
use super::metadata::GroupMetadata;
use crate::kafka::client::{convert, log};
use crate::kafka::inbox::ToReader;
use crate::kafka::session_state::SessionState;
use crate::model::message::{KafkaEvent, Revocation};
use crate::model::position::{Generation, NextOffset, Partition};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The consumer of a session.
pub type Consumer = BaseConsumer<GroupContext>;

/// The consumer's callbacks.
pub struct GroupContext {
    state: Arc<SessionState>,
    metadata: Arc<GroupMetadata>,
    reader: Sender<ToReader>,
    coordinator: Arc<CoordinatorConnection>,
    /// The partitions that librdkafka fetches.
    fetched: Mutex<BTreeSet<Partition>>,
}

impl GroupContext {
    /// Returns the callbacks of a new consumer.
    pub fn new(
        state: Arc<SessionState>,
        metadata: Arc<GroupMetadata>,
        reader: Sender<ToReader>,
        coordinator: Arc<CoordinatorConnection>,
    ) -> Self {
        Self {
            state,
            metadata,
            reader,
            coordinator,
            fetched: Mutex::default(),
        }
    }

    /// Lets librdkafka fetch these partitions from these offsets.
    pub fn assign(
        &self,
        consumer: &Consumer,
        starts: &[(Partition, NextOffset)],
    ) -> KafkaResult<()> {
        let list = convert::starts(&self.state.settings.topics, starts)?;
        consumer.incremental_assign(&list)?;
        self.fetched().extend(starts.iter().map(|(p, _)| *p));
        Ok(())
    }

    /// Gives these partitions back, which completes a revocation. The list names
    /// only partitions that librdkafka fetches, because librdkafka refuses
    /// others. It may be empty.
    pub fn unassign(&self, consumer: &Consumer, partitions: &[Partition]) -> KafkaResult<()> {
        let mut fetched = self.fetched();
        let listed = partitions.iter().filter(|p| fetched.contains(p));
        consumer.incremental_unassign(&convert::list(&self.state.settings.topics, listed))?;
        for partition in partitions {
            fetched.remove(partition);
        }
        Ok(())
    }

    /// Gives all partitions back, which completes a revocation.
    pub fn unassign_all(&self, consumer: &Consumer) -> KafkaResult<()> {
        let all: Vec<Partition> = self.fetched().iter().copied().collect();
        self.unassign(consumer, &all)
    }

    fn fetched(&self) -> MutexGuard<'_, BTreeSet<Partition>> {
        // The set is consistent between any two statements.
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assigned(&self, consumer: &Consumer, partitions: Vec<Partition>) {
        if !self.state.is_active() {
            return;
        }
        let generation = self.next_generation(consumer);
        self.state.report(KafkaEvent::Assigned {
            generation,
            partitions: partitions.clone(),
        });
        self.state.check_sent(self.reader.send(ToReader::Assigned {
            generation,
            partitions,
        }));
    }

    fn revoked(&self, consumer: &Consumer, partitions: Vec<Partition>) {
        if !self.state.is_active() {
            // The runner no longer finishes revocations of this session.
            if let Err(error) = self.unassign(consumer, &partitions) {
                let why = format!("cannot give partitions back: {error}");
                self.state.consumer_fault(why);
            }
            return;
        }
        let how = match consumer.assignment_lost() {
            true => Revocation::Lost,
            false => Revocation::Requested,
        };
        let generation = self.next_generation(consumer);
        let forget = ToReader::Revoked(partitions.clone());
        self.state.check_sent(self.reader.send(forget));
        self.state.report(KafkaEvent::Revoked {
            generation,
            partitions,
            how,
        });
    }

    /// Counts a rebalance callback and keeps its group metadata.
    fn next_generation(&self, consumer: &Consumer) -> Generation {
        let generation = self.state.sessions.next_generation();
        if let Some(metadata) = consumer.group_metadata() {
            self.metadata.add(generation, metadata);
        }
        generation
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.coordinator.note(facility, text, self.state.now());
        self.state.note_line(facility, text);
        if is_shown(level) {
            log::pass_on(&self.state.sessions.throttle, level, facility, text);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.state.client_error(&error, reason);
    }
}

impl ConsumerContext for GroupContext {
    /// Completes the rebalance protocol with an empty list. Each partition is
    /// fetched later, from its exact offset, once its map is read.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = convert::partitions(&self.state.settings.topics, list);
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                let why = format!("cannot complete an assignment: {error}");
                self.state.consumer_fault(why);
            }
            self.assigned(consumer, partitions);
        } else {
            self.revoked(consumer, partitions);
        }
    }
}

/// Returns whether a line of this level is for the log. The others are read only for
/// the connection to the group coordinator.
fn is_shown(level: RDKafkaLogLevel) -> bool {
    !matches!(level, RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug)
}
