//! Kafka sessions of each process: how they start, end, and leave the group, as
//! the engine's supervisor asks.

use crate::laws::{Law, Verdict};
use crate::plan::{MS, SECOND};
use crate::reach::Way;
use crate::replica::{Member, Tag};
use crate::sim_event::SimEvent;
use crate::world::World;
use ringback::engine::event::End;
use ringback::model::message::{KafkaEvent, OpenTransaction, Revocation, SessionId, SessionStart};
use ringback::model::position::Partition;
use std::collections::BTreeSet;

impl World {
    /// Starts a session. Its producer must clear what may be open.
    pub fn start_session(&mut self, replica: usize, start: &SessionStart) -> Verdict {
        let this = &mut self.replicas[replica];
        let clears = match &this.open {
            OpenTransaction::Nothing => true,
            OpenTransaction::Offsets => start.producer.clear != OpenTransaction::Nothing,
            records => start.producer.clear == *records,
        };
        Law::L1.check(clears, || {
            format!(
                "{:?} may be open, and {start:?} does not clear it",
                this.open
            )
        })?;
        let ended = this.told_open.1 == OpenTransaction::Nothing;
        Law::L1.check(
            !ended || start.producer.clear == OpenTransaction::Nothing,
            || format!("{start:?} aborts records of a committed move"),
        )?;
        this.told_open = (start.session, start.producer.clear.clone());
        let running = this.tag.session != SessionId(0);
        Law::L8.check(!running, || format!("{start:?} while a session runs"))?;
        this.tag.session = start.session;
        let latest_us = match start.session {
            SessionId(1) => 600 * MS,
            _ => 1_500 * MS,
        };
        self.connect(replica, latest_us);
        Ok(())
    }

    /// Drops a session. Its threads end later.
    pub fn drop_session(&mut self, replica: usize) {
        self.leave_open(replica);
        self.falls_silent(replica);
        self.unblock(replica);
        let tag = self.replicas[replica].tag;
        self.replicas[replica].drop_consumer();
        let late = self.chance.pick(&[MS, 100 * MS, 2 * SECOND, 20 * SECOND]);
        let ended = tag.event(KafkaEvent::SessionEnded);
        self.after(late, SimEvent::PassEvent(tag, ended));
    }

    /// Notes what the session's transaction may leave open, and reports it.
    pub fn set_open(&mut self, tag: Tag, open: OpenTransaction) {
        let this = &mut self.replicas[tag.replica];
        this.open = open.clone();
        let event = KafkaEvent::OpenTransaction(open);
        this.reported.push(event.clone());
        self.after(0, SimEvent::PassEvent(tag, tag.event(event)));
    }

    /// Replaces the producer.
    pub fn renew_producer(&mut self, replica: usize) {
        self.count("producer_renewed");
        let this = &mut self.replicas[replica];
        this.epoch = None;
        let tag = this.tag;
        let late = self.chance.between(10 * MS, 300 * MS);
        self.after(late, SimEvent::Initialise(tag));
    }

    /// Schedules the look for unassigned partitions.
    pub fn find_unassigned_later(&mut self, replica: usize) {
        let tag = self.replicas[replica].tag;
        let late = self.chance.between(5 * MS, 500 * MS);
        self.after(late, SimEvent::FindUnassigned(tag));
    }

    /// Answers which partitions of the stable group have no member.
    pub fn find_unassigned(&mut self, tag: Tag) {
        if !self.replicas[tag.replica].is_current(tag) {
            return;
        }
        let found = match self.unreachable(tag.replica, Way::Coordinator) {
            Some(_) => BTreeSet::new(),
            None => self.coordinator.unassigned(&self.broker.consumed()),
        };
        let event = tag.event(KafkaEvent::Unassigned(found));
        self.after(0, SimEvent::PassEvent(tag, event));
    }

    /// Leaves the group and joins it again.
    pub fn rejoin_group(&mut self, replica: usize) {
        let this = &mut self.replicas[replica];
        if this.member != Member::In || this.is_revoking() {
            return;
        }
        self.count("orphaned");
        let this = &mut self.replicas[replica];
        this.rejoining = true;
        let partitions: Vec<Partition> = this.reading.keys().copied().collect();
        match partitions.is_empty() {
            true => self.leave_and_join(replica),
            false => self.take(replica, partitions, Revocation::Requested),
        }
    }

    /// Leaves and joins: the consumer has released its partitions.
    pub fn leave_and_join(&mut self, replica: usize) {
        self.leave_group(replica);
        let this = &mut self.replicas[replica];
        this.rejoining = false;
        this.adding = None;
        this.credentials = None;
        let tag = this.tag;
        self.rejoin(tag);
    }

    fn leave_group(&mut self, replica: usize) {
        let this = &self.replicas[replica];
        let (name, id) = (this.name, this.credentials.map(|c| c.member));
        if id.is_some_and(|id| self.coordinator.is_member(name, id)) {
            if self.coordinator.remove(name) {
                self.rebalance_begins();
            }
            self.complete_join();
        }
    }

    /// Leaves the group at the end of a drain. Without the coordinator the consumer
    /// waits for its answer, and is cut.
    pub fn leave(&mut self, replica: usize) {
        let tag = self.replicas[replica].tag;
        if self.unreachable(replica, Way::Coordinator).is_none() {
            self.leave_group(replica);
            let late = self.chance.between(MS, 200 * MS);
            let left = tag.event(KafkaEvent::Left);
            self.after(late, SimEvent::PassEvent(tag, left));
        } else {
            self.falls_silent(replica);
        }
        self.unblock(replica);
        let this = &mut self.replicas[replica];
        this.member = Member::Out;
        this.credentials = None;
        this.adding = None;
        this.reading.clear();
    }

    /// Ends the process, as its supervisor decided.
    pub fn exit(&mut self, replica: usize, end: &End) {
        match end {
            End::NameInUse(_) => self.count("name_in_use"),
            End::Cut => self.count("cut"),
            _ => self.count("drained"),
        }
        self.end_process(replica);
        if let Some(down_us) = self.replicas[replica].down_us.take() {
            self.after(down_us, SimEvent::StartProcess(replica));
        }
    }
}
