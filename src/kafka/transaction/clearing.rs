//! Clears an open transaction: ends what an earlier transaction of the same name
//! may have left open. Decides nothing. Runs on the transaction thread.
//!
//! Kafka takes a partition without a leader for a deleted partition, and lets a
//! transaction end without its marker there. Source:
//! `TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue`, "likely deleted
//! already and hence can be skipped". The aborted records stay open in that
//! partition. The next commit of the same transactional id commits them: records
//! come back that were moved again since. Measured with Kafka 4.3.0 and one
//! broker, killed in the middle of a transaction. With a look for timed-out
//! transactions every second, this happened after 8 of 13 restarts. With Kafka's
//! default of 10 s, it happened after none of 9.
//!
//! So a new producer first runs a transaction and aborts it, wherever an earlier
//! transaction may be open. The abort's markers end the open transaction. Its
//! content depends on [`OpenTransaction`].
//!
//! - `Records`: the offsets were accepted, and the transaction was not committed.
//!   Records may be open in its target topics. A record goes to each partition of
//!   these topics. The group's offsets are added, because the next commit would
//!   also commit pending offsets. The same holds when the commit was requested
//!   without an answer: offsets and records then lack their markers together,
//!   because all brokers were down. One case loses the records of that move: the
//!   marker of the offsets was written, and a marker of a record was not. For
//!   this, all brokers of the record's partition must die in the milliseconds
//!   between the two, while the other brokers stay up.
//! - `Offsets`: no answer says whether the offsets were accepted. The transaction
//!   has written no record. But the next commit could complete offsets whose
//!   records were never written. So the group's offsets alone are added. The same
//!   holds at the start of a process: the earlier process may have died at any
//!   point of a transaction. Its records must not be aborted, because the records
//!   of a committed transaction can lack their markers in the same way. An abort
//!   would lose those.
//!
//! To abort offsets loses nothing. If they belong to a committed move without
//! markers, its records are moved once more, and may exist twice.

use super::producer::{CALL_MAX, Stop, TimedProducer};
use crate::kafka::admin;
use crate::model::message::{KafkaEvent, OpenTransaction};
use crate::model::position::{Partition, Topic};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;

/// The key of records that are always aborted.
const KEY: &[u8] = b"void";

/// Ends the open transaction. Errors: the reason why it may still be open. The
/// producer then cannot be used any more.
pub fn clear(producer: &TimedProducer<'_>, open: &OpenTransaction) -> Result<(), Stop> {
    let targets = match open {
        OpenTransaction::Nothing => return Ok(()),
        OpenTransaction::Offsets => Vec::new(),
        OpenTransaction::Records(topics) => partitions_of(producer, topics)?,
    };
    producer.begin()?;
    let filled = fill(producer, &targets);
    producer.abort()?;
    filled?;
    let state = producer.state;
    let nothing = OpenTransaction::Nothing;
    state.report(KafkaEvent::OpenTransaction(nothing));
    Ok(())
}

/// Returns all partitions of the topics, once all of them have a leader. A
/// transaction that waits for a leader would block all readers of the other
/// partitions.
fn partitions_of(
    producer: &TimedProducer<'_>,
    topics: &BTreeSet<Topic>,
) -> Result<Vec<Partition>, Stop> {
    let settings = &producer.state.settings;
    producer.timer.start("list topics", CALL_MAX);
    let existing = admin::existing(settings, producer.client(), CALL_MAX)?;
    let mut partitions = Vec::new();
    for (&topic, existing) in existing.iter().filter(|(topic, _)| topics.contains(topic)) {
        if let Some(number) = existing.leaderless {
            let name = settings.topics.name(topic);
            return Err(Stop::Refused(format!("{name}/{number} has no leader")));
        }
        let numbers = 0..i32::try_from(existing.partitions).unwrap_or(i32::MAX);
        partitions.extend(numbers.map(|number| Partition { topic, number }));
    }
    Ok(partitions)
}

fn fill(producer: &TimedProducer<'_>, targets: &[Partition]) -> Result<(), Stop> {
    let names = &producer.state.settings.topics;
    producer.produce(|| {
        targets.iter().try_for_each(|target| {
            let topic = names.name(target.topic);
            let record = BaseRecord::<[u8], [u8]>::to(&topic);
            producer.send(record.partition(target.number).key(KEY))
        })
    })?;
    // The group has no offsets of this topic. A refusal of these offsets does not
    // matter: the request itself adds the group to the transaction.
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&names.name(Topic::DeadLetter), 0, Offset::Offset(0))
        .map_err(|error| Stop::Refused(error.to_string()))?;
    match producer.send_group_offsets(&offsets) {
        Ok(()) => Ok(()),
        Err(Some(answer)) if answer.code == RDKafkaErrorCode::TopicAuthorizationFailed => Ok(()),
        Err(answer) => Err(Stop::Refused(
            answer.map_or_else(|| "the group's name".to_owned(), |answer| answer.text),
        )),
    }
}
