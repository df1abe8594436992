//! Destinations of moves: the delay topics and the dead-letter topic. The reasons
//! why one refuses records are a closed list. Pure values; any thread may use them.

use super::named_enum::named_enum;
use super::position::Topic;
use std::collections::{BTreeMap, BTreeSet};

named_enum! {
    /// Why a destination refuses records. The names are labels of metrics.
    pub enum RefusalReason {
        /// This client may not write to it.
        NotAuthorized = "not_authorized",
        /// The broker calls a record invalid: a compacted topic refuses records
        /// without a key.
        InvalidRecord = "invalid_record",
        /// The time of the record is outside the window of the topic.
        Timestamp = "timestamp",
        /// It refuses even the shortest form of a dead letter.
        TooLarge = "too_large",
        /// Fewer replicas are in sync than it demands.
        NotEnoughReplicas = "not_enough_replicas",
        /// It does not exist.
        UnknownTopic = "unknown_topic",
        /// A partition of it has no leader.
        NoLeader = "no_leader",
        /// A leader does not answer, although other brokers do.
        NoAnswer = "no_answer",
        /// Its settings lose records: they are compacted, or expire before they are due.
        Settings = "settings",
        Other = "other",
    }
}

impl RefusalReason {
    /// Returns what an operator can do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NotAuthorized => "allow WRITE on the topic",
            Self::InvalidRecord => "set cleanup.policy=delete on the topic",
            Self::Timestamp => {
                "remove message.timestamp.before.max.ms and message.timestamp.after.max.ms from \
                 the topic, and check the clocks"
            }
            Self::TooLarge => "raise max.message.bytes of the topic",
            Self::NotEnoughReplicas => {
                "bring the brokers of its replicas back, or lower min.insync.replicas"
            }
            Self::UnknownTopic => "run `ringback topics create`",
            Self::NoLeader | Self::NoAnswer => "check the brokers that lead its partitions",
            Self::Settings => "run `ringback check-config --connect`, which names the setting",
            Self::Other => "see the log of the brokers",
        }
    }
}

/// What an aborted transaction tells about the destinations of its records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusals {
    /// Destinations that refused records.
    pub refused: BTreeMap<Topic, RefusalReason>,
    /// Destinations of which one or more refused records. Which ones is unknown.
    pub suspected: BTreeSet<Topic>,
}

impl Refusals {
    /// Whether the transaction failed for another cause than its destinations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.suspected.is_empty()
    }
}
