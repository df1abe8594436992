//! A Kafka cluster of one broker or several, each a controller too. Every replica
//! has its own way in: a relay for each broker, which the broker names to clients
//! that came in there. So a replica can be cut from all of Kafka while everything
//! else goes on.

use super::broker::{Broker, Node};
use super::relay::{Relay, Speech};
use super::{ports, wait};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::BTreeMap;
use std::time::Duration;

/// Kafka's own default. A single broker may come back after its transactions have
/// timed out. If it looks for them within its first seconds, it ends them before it
/// can write their markers. The next transaction of the same producer then commits
/// what was aborted (seen on 4.3.0, with a look every second).
const SCAN: Duration = Duration::from_secs(10);

/// The cluster; its brokers end when it is dropped.
pub struct Cluster {
    brokers: Vec<Broker>,
    ways: Vec<Relay>,
}

impl Cluster {
    /// Starts it with so many brokers and ways, and waits until all serve.
    pub fn start(name: &str, brokers: usize, ways: usize) -> Self {
        let all: Vec<(u16, u16)> = (0..brokers)
            .map(|_| (ports::free(), ports::free()))
            .collect();
        let inside: Vec<Vec<u16>> = (0..ways)
            .map(|_| (0..brokers).map(|_| ports::free()).collect())
            .collect();
        let ways: Vec<Relay> = inside
            .iter()
            .map(|targets| Relay::start(targets, Speech::Kafka))
            .collect();
        let prepare = |index: usize| {
            let node = Node {
                index,
                scan: SCAN,
                ports: all.clone(),
                ways: inside
                    .iter()
                    .zip(&ways)
                    .map(|(targets, way)| (targets[index], way.ports()[index]))
                    .collect(),
            };
            Broker::prepare_node(&format!("{name}-{}", index + 1), &node)
        };
        let brokers: Vec<Broker> = (0..brokers).map(prepare).collect();
        brokers.iter().for_each(Broker::launch);
        brokers.iter().for_each(Broker::until_serving);
        let cluster = Self { brokers, ways };
        wait::until("every copy to be in sync", || cluster.in_sync());
        cluster
    }

    /// One of its brokers; each knows the addresses of all.
    pub fn broker(&self, index: usize) -> &Broker {
        &self.brokers[index]
    }

    /// One of the ways in.
    pub fn way(&self, number: usize) -> &Relay {
        &self.ways[number]
    }

    /// What to bootstrap from by this way.
    pub fn way_in(&self, number: usize) -> String {
        let ports = self.ways[number].ports().iter();
        let addresses: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    /// The leaders of a topic's partitions by their numbers, each as its place among the
    /// brokers, from 0.
    pub fn leaders(&self, topic: &str) -> BTreeMap<i32, usize> {
        let client: BaseConsumer = self.brokers[0].client().create().expect("valid settings");
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(60));
        let metadata = metadata.expect("a broker answers");
        let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        let leader = |id: i32| usize::try_from(id - 1).expect("each has a leader");
        partitions.map(|p| (p.id(), leader(p.leader()))).collect()
    }

    /// Whether every broker holds a copy in sync of every partition, so that
    /// one of them may go.
    pub fn in_sync(&self) -> bool {
        let client: BaseConsumer = self.brokers[0].client().create().expect("valid settings");
        client
            .fetch_metadata(None, Duration::from_secs(5))
            .is_ok_and(|metadata| {
                let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
                metadata.brokers().len() == self.brokers.len()
                    && partitions.all(|p| p.isr().len() == p.replicas().len() && p.leader() >= 0)
            })
    }
}
