//! Brokers by their ids. Pure values; any thread may use them.

use super::named_enum::named_enum;
use std::collections::BTreeSet;
use std::fmt;

/// The id of a broker in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A broker and the address that the cluster names to clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub id: BrokerId,
    /// Host and port.
    pub address: String,
}

/// A partition as a broker describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedPartition {
    pub number: i32,
    pub leader: Option<Broker>,
    /// The brokers whose replicas are in sync, the leader's included.
    pub in_sync: BTreeSet<BrokerId>,
    /// The number of its replicas.
    pub replicas: usize,
}

/// A broker that does not answer this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SilentBroker {
    pub broker: Broker,
    /// The number of assigned partitions that it leads.
    pub partitions: usize,
}

named_enum! {
    /// Why a session waits for Kafka. The names are in a metric.
    pub enum WaitCause {
        /// No broker accepts a connection or answers.
        Connect = "connect",
        /// The names of the brokers do not resolve.
        Name = "name",
        /// One side does not accept the certificate of the other.
        Tls = "tls",
        /// The brokers refuse the user or its password.
        Authentication = "authentication",
        /// Another cause, such as a missing topic.
        Other = "other",
    }
}
