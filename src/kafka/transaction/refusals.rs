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

use super::producer::{Reports, TimedProducer};
use crate::model::destination::{RefusalReason, Refusals};
use crate::model::message::{MovePurpose, MoveRequest};
use crate::model::position::Topic;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The limit of one request for a topic's leaders.
const METADATA_MAX: Duration = Duration::from_secs(1);

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

/// Returns why a topic can take no record now, as far as the brokers' metadata show.
pub fn look_up(
    producer: &TimedProducer<'_>,
    topic: Topic,
) -> Result<Option<RefusalReason>, Unanswered> {
    let name = producer.state.settings.topics.name(topic);
    producer.timer.start("look up a topic", METADATA_MAX);
    let metadata = producer.client().fetch_metadata(Some(&name), METADATA_MAX);
    let metadata = metadata.map_err(|_| Unanswered)?;
    let Some(found) = metadata.topics().first() else {
        return Ok(Some(RefusalReason::UnknownTopic));
    };
    if let Some(error) = found.error() {
        return Ok(reason(error.into()));
    }
    let leaderless = found.partitions().iter().any(|p| p.leader() < 0);
    Ok(match (found.partitions().is_empty(), leaderless) {
        (true, _) => Some(RefusalReason::UnknownTopic),
        (false, true) => Some(RefusalReason::NoLeader),
        (false, false) => None,
    })
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
