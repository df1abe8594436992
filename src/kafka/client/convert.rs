//! Conversions between librdkafka's values and the model's, and the meaning of
//! error codes. Pure; used by all threads of a session.

use super::ffi;
use super::queue::RawMessage;
use crate::model::message::Snapshot;
use crate::model::position::{NextOffset, Offset, Partition, TopicNames};
use crate::model::record::{Header, Record};
use crate::model::time::UnixMillis;
use bytes::Bytes;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Header as WireHeader, OwnedHeaders};
use rdkafka::topic_partition_list::{Offset as WireOffset, TopicPartitionList};

/// Returns the record of a message.
pub fn record(partition: Partition, message: &RawMessage) -> Record {
    Record {
        position: partition.at(Offset(message.offset())),
        timestamp: UnixMillis(message.timestamp_ms()),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.value().map(Bytes::copy_from_slice),
        headers: headers_of(message),
    }
}

/// Returns a copy of a message's headers in their order.
pub fn headers_of(message: &RawMessage) -> Vec<Header> {
    let mut headers = Vec::new();
    message.for_each_header(|name, value| {
        headers.push(Header {
            name: name.to_string_lossy().into_owned(),
            value: value.map(Bytes::copy_from_slice),
        });
    });
    headers
}

/// Returns headers for a record to be produced.
pub fn headers(headers: &[Header]) -> OwnedHeaders {
    headers.iter().fold(
        OwnedHeaders::new_with_capacity(headers.len()),
        |all, header| {
            all.insert(WireHeader {
                key: &header.name,
                value: header.value.as_deref(),
            })
        },
    )
}

/// Returns the partitions of a list in its order, without foreign topics.
pub fn partitions(names: &TopicNames, list: &TopicPartitionList) -> Vec<Partition> {
    ffi::elements(list)
        .into_iter()
        .filter_map(|element| partition(names, &element))
        .collect()
}

/// Returns the element's partition, or `None` for a foreign topic.
pub fn partition(names: &TopicNames, element: &ffi::Element) -> Option<Partition> {
    Some(names.topic(&element.topic)?.partition(element.partition))
}

/// Returns a list of partitions without offsets.
pub fn list<'a>(
    names: &TopicNames,
    partitions: impl IntoIterator<Item = &'a Partition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&names.name(partition.topic), partition.number);
    }
    list
}

/// Returns a list of partitions with the offsets to read next.
pub fn starts(
    names: &TopicNames,
    starts: &[(Partition, NextOffset)],
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, from) in starts {
        let topic = names.name(partition.topic);
        list.add_partition_offset(&topic, partition.number, WireOffset::Offset(from.0))?;
    }
    Ok(list)
}

/// Returns snapshots as offsets with metadata.
pub fn snapshots(names: &TopicNames, snapshots: &[Snapshot]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(snapshots.len());
    for snapshot in snapshots {
        let topic = names.name(snapshot.partition.topic);
        let mut element = list.add_partition(&topic, snapshot.partition.number);
        element.set_offset(WireOffset::Offset(snapshot.base.0))?;
        element.set_metadata(&snapshot.metadata);
    }
    Ok(list)
}

/// The meaning of an offset commit's error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitAnswer {
    /// The group rebalances, or has rebalanced. The sender may assume that this
    /// request wrote nothing, and decides again after the next callback.
    Refused,
    /// The commit may have been written, or may still be written later.
    Unsure,
}

/// Classifies the error of an offset commit.
#[must_use]
pub fn commit_answer(code: Code) -> CommitAnswer {
    match code {
        Code::IllegalGeneration | Code::RebalanceInProgress | Code::UnknownMemberId => {
            CommitAnswer::Refused
        }
        _ => CommitAnswer::Unsure,
    }
}

/// Returns whether a record or batch was too large for its topic or the producer.
#[must_use]
pub fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)
}

/// Returns whether another producer took the `transactional.id`, or the
/// coordinator ended the transaction. The two errors look alike.
#[must_use]
pub fn is_producer_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

/// Returns whether the offset to read is outside the log.
#[must_use]
pub fn is_out_of_range(code: Code) -> bool {
    matches!(code, Code::OffsetOutOfRange | Code::AutoOffsetReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::Topic;

    #[test]
    fn only_the_answers_of_a_rebalance_are_refusals() {
        for (code, answer) in [
            (Code::IllegalGeneration, CommitAnswer::Refused),
            (Code::RebalanceInProgress, CommitAnswer::Refused),
            (Code::UnknownMemberId, CommitAnswer::Refused),
            (Code::FencedInstanceId, CommitAnswer::Unsure),
            (Code::RequestTimedOut, CommitAnswer::Unsure),
            (Code::OperationTimedOut, CommitAnswer::Unsure),
            (Code::BrokerTransportFailure, CommitAnswer::Unsure),
            (Code::OffsetMetadataTooLarge, CommitAnswer::Unsure),
            (Code::NoOffset, CommitAnswer::Unsure),
        ] {
            assert_eq!(commit_answer(code), answer, "{code:?}");
        }
    }

    #[test]
    fn a_code_has_at_most_one_meaning() {
        let all = [
            Code::MessageSizeTooLarge,
            Code::MessageBatchTooLarge,
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::OffsetOutOfRange,
            Code::AutoOffsetReset,
            Code::IllegalGeneration,
        ];
        for code in all {
            let meanings = [
                is_too_large(code),
                is_producer_fenced(code),
                is_out_of_range(code),
                commit_answer(code) == CommitAnswer::Refused,
            ];
            let count = meanings.iter().filter(|yes| **yes).count();
            assert_eq!(count, 1, "{code:?}");
        }
    }

    #[test]
    fn snapshots_keep_offset_and_metadata_and_foreign_topics_are_left_out() {
        let names = TopicNames::new("t");
        let source = Topic::Source.partition(3);
        let delay = Topic::Delay("1m".parse().expect("valid"));
        let expected: Vec<Snapshot> = [(source, 7, "map"), (delay.partition(0), 0, "")]
            .into_iter()
            .map(|(partition, base, metadata)| Snapshot {
                partition,
                base: NextOffset(base),
                metadata: metadata.to_owned(),
            })
            .collect();
        let mut list = snapshots(&names, &expected).expect("valid offsets");
        list.add_partition("other", 1);
        let read: Vec<_> = ffi::elements(&list)
            .into_iter()
            .filter_map(|e| Some((partition(&names, &e)?, e.offset, e.metadata)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|s| (s.partition, s.base.0, s.metadata.clone()))
            .collect();
        assert_eq!(read, expected);
    }
}
