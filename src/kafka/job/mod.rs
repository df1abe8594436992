//! The Kafka side of jobs: reads partitions up to fixed ends, and writes batches
//! of copies together with the job's position. The position is a group's committed
//! offsets. No member ever joins that group. Decides nothing. Runs on the thread of
//! a command.

mod group;
mod reader;
mod writer;

pub use group::{GroupList, JobGroup, Reads};
pub use reader::{JobReader, NextRecord};
pub use writer::{JobWriter, WriteError};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::fmt;
use std::time::Duration;

/// The limit of one request.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// A call for a job that failed.
#[derive(Debug)]
pub struct JobCallError {
    /// The action that failed: a verb with its object.
    tried: String,
    source: KafkaError,
}

impl JobCallError {
    fn new(tried: impl Into<String>, source: KafkaError) -> Self {
        Self {
            tried: tried.into(),
            source,
        }
    }

    fn of_code(tried: impl Into<String>, code: RDKafkaErrorCode) -> Self {
        Self::new(tried, KafkaError::Global(code))
    }

    /// Returns whether the same call may work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        use RDKafkaErrorCode as Code;
        !matches!(
            self.source.rdkafka_error_code(),
            Some(
                Code::TopicAuthorizationFailed
                    | Code::GroupAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::TransactionalIdAuthorizationFailed
                    | Code::SaslAuthenticationFailed
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownTopic
                    | Code::UnknownPartition
            )
        )
    }
}

impl fmt::Display for JobCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.tried, self.source)
    }
}

impl std::error::Error for JobCallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
