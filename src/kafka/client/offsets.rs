//! Asks leaders for offsets, once more where a partition has just got its leader. The
//! library gives such an answer back at once. Blocking.

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::thread;
use std::time::Duration;

/// Maximum number of requests. With the pauses this is 10 s, if leaders refuse at once.
const REQUESTS_MAX: usize = 50;
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Returns offsets as the client's `offsets_for_times` does. `timeout` is that of one
/// request.
///
/// # Errors
/// A leader does not answer, or refuses for another reason than a new leader.
pub fn for_times<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    asked: &TopicPartitionList,
    timeout: Duration,
) -> KafkaResult<TopicPartitionList> {
    retried(RETRY_AFTER, || {
        client.offsets_for_times(asked.clone(), timeout)
    })
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
    use rdkafka::error::KafkaError;

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
