//! Clears an open transaction: ends what an earlier transaction of the same name
//! may have left open. Decides nothing. Runs on the transaction thread.
//!
//! Kafka treats a partition without a leader as deleted, and lets a transaction end
//! there without its marker. Source:
//! `TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue`, "likely deleted
//! already and hence can be skipped". The aborted records stay open in that
//! partition. The next commit of the same transactional id commits them: records
//! come back that were moved again since. Measured with Kafka 4.3.0 and one broker,
//! killed in the middle of a transaction. With a
//! `transaction.abort.timed.out.transaction.cleanup.interval.ms` of 1 s, this happened
//! after 8 of 13 restarts. With Kafka's default of 10 s, it happened after none of 9.
//!
//! So a new producer first runs a clearing transaction and aborts it. The markers of
//! the abort also end the open transaction.
//!
//! | [`OpenTransaction`] | what may be open | the clearing transaction adds | what can be lost |
//! |---|---|---|---|
//! | `Nothing` | nothing | it does not run | nothing |
//! | `Offsets` | the group's offsets: no answer says whether Kafka accepted them | the group's offsets | nothing |
//! | `Offsets`, at the start of a process | offsets and records of an earlier process | the group's offsets | nothing |
//! | `Records` | accepted offsets, and records; the commit was not requested or not answered | the group's offsets, and a record to each partition of the records' topics | see below |
//!
//! - A partition whose leader does not answer this process is not cleared now: the
//!   others would wait for it. The same holds for one with too few replicas in sync:
//!   the transaction could not end. It stays in the unclosed partitions of
//!   [`Sessions`](crate::kafka::Sessions), and no record moves there. A new producer
//!   clears it when that is over.
//! - Offsets are always added: the next commit could commit them, although their
//!   records were never written. To abort offsets loses nothing. If their move was
//!   committed, its records are moved once more, and may exist twice.
//! - Records of an earlier process stay as they are. This process cannot know whether
//!   their transaction was committed, and an abort would then lose them.
//! - `Records` can lose the records of a committed move in one case: its marker was
//!   written for the offsets, and not for a record. All brokers of that record's
//!   partition must die in the milliseconds between the two, and others stay up.
//!   When all brokers die, offsets and records lack their markers together.

use super::producer::{CALL_MAX, Stop, TimedProducer};
use crate::kafka::admin;
use crate::kafka::session_state::SessionState;
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
    let state = producer.state;
    let mut targets = state.sessions.unclosed().clone();
    match open {
        OpenTransaction::Nothing if !can_close(state) => return Ok(()),
        OpenTransaction::Nothing | OpenTransaction::Offsets => {}
        OpenTransaction::Records(topics) => targets.extend(partitions_of(producer, topics)?),
    }
    let now = state.now();
    let is_good = |partition: &Partition| state.leaders().fault(*partition, now).is_none();
    // Those that cannot be cleared now, although others can, are cleared later.
    let (targets, later): (BTreeSet<_>, _) = targets.into_iter().partition(is_good);
    let targets: Vec<Partition> = targets.into_iter().collect();
    producer.begin()?;
    let filled = fill(producer, &targets);
    // Also after a failed fill, so that its part does not stay open.
    producer.abort()?;
    filled?;
    *state.sessions.unclosed() = later;
    let nothing = OpenTransaction::Nothing;
    state.report(KafkaEvent::OpenTransaction(nothing));
    Ok(())
}

/// Whether an unclosed partition can be cleared now.
pub fn can_close(state: &SessionState) -> bool {
    let unclosed = state.sessions.unclosed();
    let leaders = state.leaders();
    let mut unclosed = unclosed.iter();
    let now = state.now();
    !leaders.none_answers() && unclosed.any(|p| leaders.fault(*p, now).is_none())
}

/// Returns all partitions of the topics, once each of them has a leader or is not to
/// be cleared now. A transaction that waits for a leader would block all readers of
/// the other partitions.
fn partitions_of(
    producer: &TimedProducer<'_>,
    topics: &BTreeSet<Topic>,
) -> Result<Vec<Partition>, Stop> {
    let settings = &producer.state.settings;
    producer.timer.start("list topics", CALL_MAX);
    let existing = admin::existing(settings, producer.client(), CALL_MAX)?;
    let mut partitions = Vec::new();
    for (&topic, existing) in existing.iter().filter(|(topic, _)| topics.contains(topic)) {
        let leaderless = existing.leaderless.filter(|number| {
            let leaders = producer.state.leaders();
            leaders.none_answers() || leaders.may_answer(topic.partition(*number))
        });
        if let Some(number) = leaderless {
            let name = settings.topics.name(topic);
            return Err(Stop::Refused(format!("{name}/{number} has no leader")));
        }
        let numbers = 0..i32::try_from(existing.partitions).unwrap_or(i32::MAX);
        partitions.extend(numbers.map(|number| topic.partition(number)));
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
