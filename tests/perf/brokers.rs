//! The brokers of the benchmark: one, or a cluster of three on the same machine.

use super::machine;
use super::support::broker::Broker;
use super::support::cluster::Cluster;
use std::time::Duration;

/// Running brokers; they end when this is dropped.
pub enum Brokers {
    One(Box<Broker>),
    Three(Cluster),
}

impl Brokers {
    /// Starts one broker.
    pub fn one() -> Self {
        let broker = Broker::prepare("perf-broker");
        broker.start();
        Self::One(Box::new(broker))
    }

    /// Starts three brokers. Each topic has three copies.
    pub fn three() -> Self {
        Self::Three(Cluster::start("perf-brokers", 3, 0))
    }

    fn all(&self) -> Vec<&Broker> {
        match self {
            Self::One(broker) => vec![broker],
            Self::Three(cluster) => (0..3).map(|index| cluster.broker(index)).collect(),
        }
    }

    /// Returns one of them. It has the addresses of all.
    pub fn first(&self) -> &Broker {
        self.all()[0]
    }

    /// Returns the addresses of all.
    pub fn address(&self) -> &str {
        self.first().address()
    }

    /// Returns the number of copies of each topic.
    pub fn copies(&self) -> usize {
        self.all().len()
    }

    /// Returns the CPU time of all brokers.
    pub fn cpu(&self) -> Duration {
        self.all()
            .iter()
            .map(|broker| machine::cpu(broker.pid()))
            .sum()
    }

    /// Confines all brokers to these cores.
    pub fn confine(&self, cores: &str) {
        for broker in self.all() {
            machine::confine(broker.pid(), cores);
        }
    }
}
