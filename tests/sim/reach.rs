//! Reachability: brokers that are down, all or only the coordinator, and replicas
//! that are cut off.

use crate::members::SESSION_TIMEOUT_US;
use crate::plan::{MS, SECOND};
use crate::sim_event::SimEvent;
use crate::world::World;
use ringback::model::message::KafkaEvent;

/// The part of Kafka that a request needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Logs: reading and writing records.
    Logs,
    /// The coordinator of the group and of the transactions.
    Coordinator,
}

/// When the brokers come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Away {
    pub all_us: u64,
    pub coordinator_us: u64,
}

impl World {
    /// Returns when the brokers serve this part again.
    pub fn away_until(&self, way: Way) -> u64 {
        match way {
            Way::Logs => self.away.all_us,
            Way::Coordinator => self.away.all_us.max(self.away.coordinator_us),
        }
    }

    /// Returns when a replica reaches this part again, if it does not now.
    pub fn unreachable(&self, replica: usize, way: Way) -> Option<u64> {
        let at = self.away_until(way).max(self.replicas[replica].cut_until);
        (at > self.now_us).then_some(at)
    }

    /// Schedules a failed step again, soon after the part is reachable.
    pub fn retry_at(&mut self, at_us: u64, sim_event: SimEvent) {
        let late = self.chance.between(MS, SECOND);
        self.at(at_us + late, sim_event);
    }

    /// Takes brokers down.
    pub fn brokers_go(&mut self, way: Way, for_us: u64) {
        let until = self.now_us + for_us;
        match way {
            Way::Logs => {
                self.count("brokers_away");
                self.away.all_us = self.away.all_us.max(until);
            }
            Way::Coordinator => {
                self.count("coordinator_away");
                self.away.coordinator_us = self.away.coordinator_us.max(until);
            }
        }
        for replica in 0..self.replicas.len() {
            self.no_heartbeats(replica, until);
        }
    }

    /// Cuts a replica off from Kafka; its process continues.
    pub fn cut(&mut self, replica: usize, for_us: u64) {
        let until = self.now_us + for_us;
        let this = &mut self.replicas[replica];
        if this.engine.is_none() || this.cut_until > self.now_us {
            return;
        }
        this.cut_until = until;
        self.count("cut_off");
        self.falls_silent(replica);
        self.no_heartbeats(replica, until);
    }

    fn no_heartbeats(&mut self, replica: usize, until: u64) {
        let this = &self.replicas[replica];
        let tag = this.tag;
        if this.engine.is_some() {
            let late = self.chance.below(500 * MS);
            let fault = tag.event(KafkaEvent::BrokerFault);
            self.after(late, SimEvent::PassEvent(tag, fault));
            self.after(SESSION_TIMEOUT_US + late, SimEvent::SessionCheck(tag));
            self.at(until + late, SimEvent::Heartbeat(tag));
        }
    }
}
