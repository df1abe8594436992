//! Ends what an earlier transaction of ours may have left open. Decides nothing.
//! Runs on the mover's thread.
//!
//! Kafka takes a partition that has no leader at the moment for a deleted one,
//! and lets a transaction end without its marker there
//! (`TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue`: "likely deleted
//! already and hence can be skipped"). What was aborted stays open in that
//! partition, and the next commit of the same transactional id commits it:
//! records would come to life that were moved again since. Measured with Kafka
//! 4.3.0, one broker that was killed in the middle of a transaction and looks
//! for timed-out transactions every second: after 8 of 13 restarts; with the
//! look every 10 s that is Kafka's default, after none of 9.
//!
//! So a producer of ours begins with a transaction that it aborts, wherever one
//! before it may have left something open: its markers end that. What is in it
//! depends on what is known of the old one.
//!
//! - Its offsets were taken, and it was not committed: it may have left records
//!   in the topics that it was for. A record goes to every partition of them,
//!   and the group's offsets are added, for what was left pending there would be
//!   committed just so. Also where its commit was asked for and not answered:
//!   then its offsets and its records lack their markers together, for all
//!   brokers were away. Only where the offsets' marker was written and a
//!   record's was not, the records of that move would be lost; that takes all
//!   brokers of the record's partition to die in the milliseconds between the
//!   two, while the others live.
//! - Whether its offsets were taken is not known: it has written no record, but
//!   the next commit could complete offsets whose records were written nowhere.
//!   The group's offsets alone are added. So it is at the start of a process,
//!   whose predecessor may have died at any point of a transaction: of records
//!   it may not end any, for those of a transaction that was committed can lack
//!   their markers in the same way, and an abort would lose them.
//!
//! To abort offsets loses nothing: were they of a move that was committed and
//! lacks its markers, its records are moved once more, and may live twice.

use super::admin;
use super::calls::{Calls, Stop};
use super::ffi;
use super::mover::CALL;
use crate::model::message::OpenTransaction;
use crate::model::position::{Partition, Topic};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;

/// The key of the records that are never to be read.
const KEY: &[u8] = b"void";

/// Ends what is open. Errors: why that is not certain; the producer is then of
/// no further use.
pub fn clear(calls: Calls<'_>, open: &OpenTransaction) -> Result<(), Stop> {
    let targets = match open {
        OpenTransaction::Nothing => return Ok(()),
        OpenTransaction::Offsets => Vec::new(),
        OpenTransaction::Records(topics) => targets(calls, topics)?,
    };
    calls.begin()?;
    let filled = fill(calls, &targets);
    calls.abort()?;
    filled?;
    calls.shared.leave_open(OpenTransaction::Nothing);
    Ok(())
}

/// All partitions of the topics. Not before all of them have a leader: a
/// transaction that waits for one holds up all that is read from the others.
fn targets(calls: Calls<'_>, topics: &BTreeSet<Topic>) -> Result<Vec<Partition>, Stop> {
    let settings = &calls.shared.settings;
    calls.producer.seat.begin("list topics", CALL);
    let existing = admin::existing(settings, calls.producer.client(), CALL)?;
    let mut targets = Vec::new();
    for (&topic, existing) in existing.iter().filter(|(topic, _)| topics.contains(topic)) {
        if let Some(number) = existing.leaderless {
            let name = settings.topics.name(topic);
            return Err(Stop::Refused(format!("{name}/{number} has no leader")));
        }
        let numbers = 0..i32::try_from(existing.partitions).unwrap_or(i32::MAX);
        targets.extend(numbers.map(|number| Partition { topic, number }));
    }
    Ok(targets)
}

fn fill(calls: Calls<'_>, targets: &[Partition]) -> Result<(), Stop> {
    calls.produce_all(|| produce(calls, targets))?;
    // Of a topic in which the group has none. Whether they are taken does not
    // matter: the group's offsets are in the transaction before they are asked.
    let dead_letters = calls.shared.settings.topics.name(Topic::DeadLetter);
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&dead_letters, 0, Offset::Offset(0))
        .map_err(|error| Stop::Refused(error.to_string()))?;
    calls.begin_offsets();
    let client = calls.producer.client().native_ptr();
    let group = &calls.shared.settings.group;
    match ffi::send_offsets_of_group(client, group, &offsets, CALL) {
        Ok(()) => Ok(()),
        Err(Some(answer)) if answer.code == RDKafkaErrorCode::TopicAuthorizationFailed => Ok(()),
        Err(answer) => Err(Stop::Refused(
            answer.map_or_else(|| "the group's name".to_owned(), |answer| answer.text),
        )),
    }
}

fn produce(calls: Calls<'_>, targets: &[Partition]) -> Result<(), Stop> {
    for target in targets {
        let topic = calls.shared.settings.topics.name(target.topic);
        let wire = BaseRecord::<[u8], [u8]>::to(&topic);
        calls.send(wire.partition(target.number).key(KEY))?;
    }
    Ok(())
}
