//! Finds the destinations that refused the records of a transaction, and the
//! reasons. Decides nothing. Runs on the transaction thread.
//!
//! | what the transaction shows | answer |
//! |---|---|
//! | a delivery report with the broker's reason | its topic refuses |
//! | librdkafka took records back, because the broker refused to add a partition | the only topic refuses, or all are suspected |
//! | the same, and the transaction's error tells nothing | none |
//! | no report in time, or none that tells a reason, and a topic does not exist or has no leader | that topic refuses |
//! | the same, and all topics have leaders | the topic of a probe refuses, others are suspected |
//! | the same, and no broker answers | none: the brokers are away |
//!
//! Before a transaction, the brokers are asked where the loss of one broker leaves a
//! partition with too few replicas in sync ([`Leaders`](crate::kafka::leaders::Leaders)).

use super::producer::{Reports, TimedProducer};
use crate::model::broker::{Broker, BrokerId, DescribedPartition};
use crate::model::destination::{RefusalReason, Refusals};
use crate::model::message::{MovePurpose, MoveRequest};
use crate::model::position::Topic;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::MetadataPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The limit of one request for a topic's leaders.
const METADATA_MAX: Duration = Duration::from_secs(1);
/// The limit of one such request before a transaction, which takes some 1 ms as a rule.
const LOOK_MAX: Duration = Duration::from_millis(200);
/// After a look without an answer, none for this long: transactions must go on.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Finds the destinations that refused records of this request. Uses the delivery
/// reports first. `ask_for_error` calls the broker to get the error of the failed
/// transaction, which may take seconds. It is called only when it is needed.
pub fn find(
    producer: &TimedProducer<'_>,
    request: &MoveRequest,
    reports: &Reports,
    ask_for_error: impl FnOnce() -> Option<Code>,
) -> Refusals {
    let names = &producer.state.settings.topics;
    let mut sent: BTreeMap<Topic, usize> = BTreeMap::new();
    for record in &request.records {
        *sent.entry(record.to).or_default() += 1;
    }
    let reports_of = |topic: &Topic| reports.get(&names.name(*topic));
    let codes = |topic: &Topic| reports_of(topic).into_iter().flat_map(|r| &r.failed);
    let refusal = |topic: &Topic| {
        let first = codes(topic).find_map(|code| reason(*code))?;
        Some((*topic, first))
    };
    let refused: BTreeMap<Topic, RefusalReason> = sent.keys().filter_map(refusal).collect();
    if !refused.is_empty() {
        return only_refused(refused);
    }
    let topics: BTreeSet<Topic> = sent.keys().copied().collect();
    let is_taken_back = |topic: &Topic| codes(topic).any(|code| *code == Code::PurgeQueue);
    if sent.keys().any(is_taken_back) {
        return match (ask_for_error().and_then(reason), topics.first()) {
            (Some(reason), Some(only)) if topics.len() == 1 => {
                only_refused(BTreeMap::from([(*only, reason)]))
            }
            (Some(_), _) => only_suspected(topics),
            (None, _) => Refusals::default(),
        };
    }
    // Not all of its records were reported as delivered, and no code says why.
    let is_unexplained = |topic: &Topic, sent: &usize| {
        let answered = reports_of(topic).map_or(0, |r| r.answered);
        answered < *sent || codes(topic).next().is_some()
    };
    let unexplained = sent
        .iter()
        .filter(|(topic, sent)| is_unexplained(topic, sent));
    let unexplained = unexplained.map(|(topic, _)| *topic).collect();
    without_answer(producer, request.purpose, unexplained)
}

/// Finds out why these topics gave no answer.
fn without_answer(
    producer: &TimedProducer<'_>,
    purpose: MovePurpose,
    unexplained: BTreeSet<Topic>,
) -> Refusals {
    let mut refused = BTreeMap::new();
    for topic in &unexplained {
        match look_up(producer, *topic) {
            Ok(Some(reason)) => {
                refused.insert(*topic, reason);
            }
            Ok(None) => {}
            Err(Unanswered) => return Refusals::default(),
        }
    }
    match (refused.is_empty(), purpose) {
        (false, _) => only_refused(refused),
        (true, MovePurpose::Probe) => {
            let topics = unexplained.into_iter();
            only_refused(
                topics
                    .map(|topic| (topic, RefusalReason::NoAnswer))
                    .collect(),
            )
        }
        (true, MovePurpose::Move) => only_suspected(unexplained),
    }
}

/// No broker answered.
pub struct Unanswered;

/// Asks the brokers about those of these topics that are at risk. The next transaction
/// must not write to a partition that has just lost a replica. Without an answer, what
/// was told before counts.
pub fn look_at_risky(producer: &TimedProducer<'_>, topics: &BTreeSet<Topic>) {
    let state = producer.state;
    for topic in topics {
        let is_at_risk = state.leaders().is_at_risk(*topic);
        let is_due = state.now() >= producer.look_after.get();
        if is_at_risk && is_due && look_up_within(producer, *topic, LOOK_MAX).is_err() {
            producer.look_after.set(state.now() + LOOK_AGAIN_AFTER);
        }
    }
}

/// Returns why a topic can take no record now, as far as the brokers' metadata show.
pub fn look_up(
    producer: &TimedProducer<'_>,
    topic: Topic,
) -> Result<Option<RefusalReason>, Unanswered> {
    look_up_within(producer, topic, METADATA_MAX)
}

fn look_up_within(
    producer: &TimedProducer<'_>,
    topic: Topic,
    limit: Duration,
) -> Result<Option<RefusalReason>, Unanswered> {
    let name = producer.state.settings.topics.name(topic);
    producer.timer.start("look up a topic", limit);
    let metadata = producer.client().fetch_metadata(Some(&name), limit);
    let metadata = metadata.map_err(|_| Unanswered)?;
    let Some(found) = metadata.topics().first() else {
        return Ok(Some(RefusalReason::UnknownTopic));
    };
    if let Some(error) = found.error() {
        return Ok(reason(error.into()));
    }
    let addresses = metadata.brokers().iter();
    let addresses = addresses.map(|b| (b.id(), format!("{}:{}", b.host(), b.port())));
    let addresses: BTreeMap<i32, String> = addresses.collect();
    let described = found.partitions().iter().map(|p| described(p, &addresses));
    producer.state.set_partitions(topic, described.collect());
    let leaderless = found.partitions().iter().any(|p| p.leader() < 0);
    Ok(match (found.partitions().is_empty(), leaderless) {
        (true, _) => Some(RefusalReason::UnknownTopic),
        (false, true) => Some(RefusalReason::NoLeader),
        (false, false) => None,
    })
}

fn described(
    partition: &MetadataPartition,
    addresses: &BTreeMap<i32, String>,
) -> DescribedPartition {
    let leader = addresses.get(&partition.leader()).map(|address| Broker {
        id: BrokerId(partition.leader()),
        address: address.clone(),
    });
    DescribedPartition {
        number: partition.id(),
        leader,
        in_sync: partition.isr().iter().copied().map(BrokerId).collect(),
        replicas: partition.replicas().len(),
    }
}

fn only_refused(refused: BTreeMap<Topic, RefusalReason>) -> Refusals {
    Refusals {
        refused,
        ..Refusals::default()
    }
}

fn only_suspected(suspected: BTreeSet<Topic>) -> Refusals {
    Refusals {
        suspected,
        ..Refusals::default()
    }
}

/// Returns the reason that a code gives, or `None` for a code that tells nothing
/// about the topic.
fn reason(code: Code) -> Option<RefusalReason> {
    Some(match code {
        Code::TopicAuthorizationFailed => RefusalReason::NotAuthorized,
        Code::InvalidRecord | Code::InvalidMessage => RefusalReason::InvalidRecord,
        Code::InvalidTimestamp => RefusalReason::Timestamp,
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            RefusalReason::NotEnoughReplicas
        }
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTopic => RefusalReason::UnknownTopic,
        Code::LeaderNotAvailable | Code::NotLeaderForPartition => RefusalReason::NoLeader,
        Code::KafkaStorageError | Code::PolicyViolation | Code::UnsupportedForMessageFormat => {
            RefusalReason::Other
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_about_the_topic_is_a_reason() {
        assert_eq!(
            reason(Code::InvalidRecord),
            Some(RefusalReason::InvalidRecord)
        );
        for code in [
            Code::PurgeQueue,
            Code::PurgeInflight,
            Code::MessageTimedOut,
            Code::BrokerTransportFailure,
            Code::OutOfOrderSequenceNumber,
            Code::Fenced,
        ] {
            assert_eq!(reason(code), None, "{code:?}");
        }
    }
}
