//! Why a scan or a question cannot go on, in words for the operator.

use super::{STALL_MAX, TopicPartition};
use crate::model::position::NextOffset;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::fmt;

/// A scan that cannot go on.
#[derive(Debug)]
pub enum ScanError {
    /// The consumer cannot be created.
    Client(KafkaError),
    Request {
        /// The action that failed: a verb with its object.
        tried: &'static str,
        source: KafkaError,
    },
    /// Leaders do not answer.
    Silent {
        tried: &'static str,
        /// Their ids and addresses.
        brokers: String,
    },
    /// A topic that is missing, or may not be read.
    Topic { name: String, code: Code },
    Partition {
        tried: &'static str,
        partition: TopicPartition,
        code: Code,
    },
    /// The log ends before the place where reading should go on.
    Recreated {
        partition: TopicPartition,
        at: NextOffset,
    },
    /// No record came within [`STALL_MAX`].
    Stalled {
        partition: TopicPartition,
        at: NextOffset,
        end: NextOffset,
        /// The client's last error.
        why: Option<String>,
    },
}

impl ScanError {
    /// Returns the name of the topic that does not exist, if that is the error.
    #[must_use]
    pub fn missing_topic(&self) -> Option<&str> {
        match self {
            Self::Topic { name, code } if is_missing(*code) => Some(name),
            _ => None,
        }
    }
}

/// Returns whether the topic or partition does not exist.
pub(super) fn is_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(source) => write!(f, "cannot create a consumer: {source}"),
            Self::Request { tried, source } => write!(f, "cannot {tried}: {source}"),
            Self::Silent { tried, brokers } => write!(f, "cannot {tried}: {brokers}"),
            Self::Topic { name, code } => match *code {
                code if is_missing(code) => write!(
                    f,
                    "the topic '{name}' does not exist: check --topic, or run `ringback topics create`"
                ),
                Code::TopicAuthorizationFailed => {
                    write!(
                        f,
                        "no right to read the topic '{name}': allow DESCRIBE and READ"
                    )
                }
                code => write!(f, "cannot read the topic '{name}': {code}"),
            },
            Self::Partition {
                tried,
                partition,
                code,
            } => write!(f, "cannot {tried} of '{partition}': {code}"),
            Self::Recreated { partition, at } => {
                write!(
                    f,
                    "the log of '{partition}' ends before offset {at}: was the topic created again?"
                )
            }
            Self::Stalled {
                partition,
                at,
                end,
                why,
            } => {
                let seconds = STALL_MAX.as_secs();
                write!(
                    f,
                    "no record came for {seconds} s: '{partition}' is read up to offset {at} of {end}"
                )?;
                why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
            }
        }
    }
}

impl std::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Client(source) | Self::Request { source, .. } => Some(source),
            _ => None,
        }
    }
}
