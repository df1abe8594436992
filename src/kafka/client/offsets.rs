//! Asks leaders for offsets, once more where a partition has just got its leader. The
//! library gives such an answer back at once. Names the leaders that do not answer.
//! Blocking.

use super::brokers::{self, LogEnd};
use super::ffi;
use crate::model::broker::{Broker, BrokerId};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

/// Maximum number of requests. With the pauses this is 10 s, if leaders refuse at once.
const REQUESTS_MAX: usize = 50;
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The limit of each request that finds the leaders that do not answer.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Offsets that no answer tells.
pub struct OffsetsError {
    pub source: KafkaError,
    /// The leaders that do not answer, as far as others tell which they are.
    pub silent: Vec<Broker>,
}

/// Returns in words that these brokers do not answer.
pub fn in_words(silent: &[Broker]) -> String {
    let names = silent.iter().map(|b| format!("{} ({})", b.id, b.address));
    let names: Vec<String> = names.collect();
    match names.len() {
        1 => format!("broker {} does not answer", names[0]),
        _ => format!("brokers {} do not answer", names.join(", ")),
    }
}

/// Returns offsets as the client's `offsets_for_times` does. `timeout` is that of one
/// request.
///
/// # Errors
/// A leader does not answer, or refuses for another reason than a new leader.
pub fn for_times<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    asked: &TopicPartitionList,
    timeout: Duration,
) -> Result<TopicPartitionList, OffsetsError> {
    let answer = retried(RETRY_AFTER, || {
        client.offsets_for_times(asked.clone(), timeout)
    });
    answer.map_err(|source| OffsetsError {
        silent: match source.rdkafka_error_code() {
            Some(Code::OperationTimedOut | Code::BrokerTransportFailure) => {
                silent_leaders(client, asked).unwrap_or_default()
            }
            _ => Vec::new(),
        },
        source,
    })
}

/// Returns the leaders of these partitions that do not answer.
///
/// Errors: no broker tells the leaders.
fn silent_leaders<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    asked: &TopicPartitionList,
) -> KafkaResult<Vec<Broker>> {
    let mut lists: BTreeMap<BrokerId, TopicPartitionList> = BTreeMap::new();
    let mut addresses: BTreeMap<BrokerId, String> = BTreeMap::new();
    let asked = ffi::elements(asked);
    let topics: BTreeSet<&str> = asked.iter().map(|e| e.topic.as_str()).collect();
    for topic in topics {
        let metadata = client.fetch_metadata(Some(topic), LOOK_MAX)?;
        for broker in metadata.brokers() {
            let address = format!("{}:{}", broker.host(), broker.port());
            addresses.insert(BrokerId(broker.id()), address);
        }
        for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
            let is_this = |e: &&ffi::Element| e.topic == topic && e.partition == partition.id();
            if partition.leader() >= 0 && asked.iter().any(|e| is_this(&e)) {
                let list = lists.entry(BrokerId(partition.leader())).or_default();
                list.add_partition_offset(topic, partition.id(), Offset::End)?;
            }
        }
    }
    let (leaders, lists): (Vec<BrokerId>, Vec<TopicPartitionList>) = lists.into_iter().unzip();
    let answers = brokers::list_offsets(client, &lists, LogEnd::Stable, LOOK_MAX);
    let silent = leaders.into_iter().zip(answers);
    let silent = silent.filter(|(_, answer)| answer.is_empty());
    let broker = |id| Broker {
        id,
        address: addresses.get(&id).cloned().unwrap_or_default(),
    };
    Ok(silent.map(|(id, _)| id).map(broker).collect())
}

fn retried<T>(pause: Duration, mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    for _ in 1..REQUESTS_MAX {
        match ask() {
            Err(error)
                if matches!(
                    error.rdkafka_error_code(),
                    Some(Code::NotLeaderForPartition | Code::LeaderNotAvailable)
                ) =>
            {
                thread::sleep(pause);
            }
            answer => return answer,
        }
    }
    ask()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: Code) -> KafkaResult<u8> {
        Err(KafkaError::MetadataFetch(code))
    }

    #[test]
    fn a_new_leader_is_asked_again_and_another_refusal_is_final() {
        let mut answers = vec![Ok(7), failed(Code::NotLeaderForPartition)];
        let answer = retried(Duration::ZERO, || answers.pop().expect("two answers"));
        assert_eq!(answer.ok(), Some(7));
        let mut asked = 0;
        let answer = retried(Duration::ZERO, || {
            asked += 1;
            failed(Code::TopicAuthorizationFailed)
        });
        assert_eq!((asked, answer.is_err()), (1, true));
        let mut asked = 0;
        let answer = retried(Duration::ZERO, || {
            asked += 1;
            failed(Code::LeaderNotAvailable)
        });
        assert_eq!((asked, answer.is_err()), (REQUESTS_MAX, true));
    }
}
