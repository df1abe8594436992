//! The members of the group: how librdkafka joins, syncs, releases partitions,
//! and receives the coordinator's decisions. Also how a process leaves, dies or
//! is paused.

use crate::broker::Ending;
use crate::coordinator::{Credentials, Join, Name, Refusal, Sync};
use crate::laws::Verdict;
use crate::plan::{MS, SECOND};
use crate::reach::Way;
use crate::replica::{Member, Reading, Tag};
use crate::sim_event::SimEvent;
use crate::world::World;
use ringback::engine::event::Event;
use ringback::model::message::{KafkaEvent, OpenTransaction, Revocation};
use ringback::model::position::Partition;
use std::collections::BTreeSet;

/// `session.timeout.ms`.
pub const SESSION_TIMEOUT_US: u64 = 10 * SECOND;

/// `heartbeat.interval.ms`.
const HEARTBEAT_US: u64 = 500 * MS;

/// The process notices a pause that is longer.
const PAUSE_NOTICED_US: u64 = 5 * SECOND;

/// How long a partition's new process waits before it reads the map.
const FIND_US: u64 = 30 * MS;

impl World {
    /// Sends a consumer's join.
    pub fn join(&mut self, tag: Tag) {
        let this = &self.replicas[tag.replica];
        if !this.is_current(tag) || this.member != Member::Joining {
            return;
        }
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            return self.retry_at(at, SimEvent::Join(tag));
        }
        let this = &self.replicas[tag.replica];
        let (name, id) = (this.name, this.credentials.map(|c| c.member));
        let claims: BTreeSet<Partition> = this.reading.keys().copied().collect();
        let was_preparing = self.coordinator.is_preparing();
        // The earlier consumer of the name learns from its next heartbeat that it
        // is fenced.
        if let Some(former) = self.coordinator.tag_of(name).filter(|of| *of != tag) {
            let late = self.chance.below(HEARTBEAT_US);
            self.after(late, SimEvent::Heartbeat(former));
        }
        match self.coordinator.join(name, tag, id, claims) {
            Join::Fenced => return self.fenced(tag),
            Join::Unknown => return self.lose(tag),
            Join::AtOnce(credentials) => {
                self.count("member_replaced");
                let late = self.chance.between(100, 3 * MS);
                self.after(late, SimEvent::JoinAnswered(tag, credentials));
            }
            Join::Waits => {
                self.replicas[tag.replica].blocked = true;
                if !was_preparing {
                    self.rebalance_begins();
                }
            }
        }
        self.complete_join();
    }

    /// Starts a rebalance: each member learns from its next heartbeat that it
    /// must join.
    pub fn rebalance_begins(&mut self) {
        self.count("rebalance");
        for tag in self.coordinator.tags() {
            let late = self.chance.below(HEARTBEAT_US);
            self.after(late, SimEvent::Heartbeat(tag));
        }
    }

    /// Starts a rebalance that moves partitions to other members.
    pub fn shuffle(&mut self) {
        if self.coordinator.is_empty() || self.coordinator.is_preparing() {
            return;
        }
        self.coordinator.shuffles += 1;
        self.coordinator.prepare();
        self.rebalance_begins();
    }

    /// Answers all joins once every member has joined, and releases the requests
    /// that waited behind them.
    pub fn complete_join(&mut self) {
        let Some(answers) = self.coordinator.complete_join() else {
            return;
        };
        for (tag, credentials) in answers {
            let late = self.chance.between(100, 3 * MS);
            self.after(late, SimEvent::JoinAnswered(tag, credentials));
            self.unblock(tag.replica);
        }
    }

    /// Answers the blocking request of a connection, and releases the requests
    /// behind it.
    pub fn unblock(&mut self, replica: usize) {
        let this = &mut self.replicas[replica];
        this.blocked = false;
        for sim_event in std::mem::take(&mut this.queued) {
            self.after(0, sim_event);
        }
    }

    /// Makes a consumer a member of the new generation; the consumer sends its
    /// sync.
    pub fn join_answered(&mut self, tag: Tag, credentials: Credentials) {
        let this = &mut self.replicas[tag.replica];
        if !this.is_current(tag) || this.member != Member::Joining {
            return;
        }
        this.credentials = Some(credentials);
        this.member = Member::Syncing;
        let late = self.chance.pick(&[MS, 20 * MS, 300 * MS]);
        let late = self.chance.between(100, late);
        self.after(late, SimEvent::Sync(tag));
    }

    /// Handles a member's SyncGroup.
    pub fn sync(&mut self, tag: Tag) {
        let this = &self.replicas[tag.replica];
        let (true, Member::Syncing, Some(by)) =
            (this.is_current(tag), this.member, this.credentials)
        else {
            return;
        };
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            return self.retry_at(at, SimEvent::Sync(tag));
        }
        let partitions = self.broker.consumed();
        match self.coordinator.sync(&by, &partitions, &mut self.chance) {
            Ok(Sync::Waits) => self.replicas[tag.replica].blocked = true,
            Ok(Sync::Answered(others)) => {
                for other in others.into_iter().filter(|other| *other != tag) {
                    if self.replicas[other.replica].blocked {
                        self.synced(other);
                    }
                }
                self.synced(tag);
            }
            Err(Refusal::FencedInstance) => self.fenced(tag),
            Err(Refusal::RebalanceInProgress) => {
                self.unblock(tag.replica);
                self.rejoin(tag);
            }
            // The member missed a generation: librdkafka revokes all its
            // partitions as lost (rd_kafka_cgrp_handle_SyncGroup).
            Err(Refusal::UnknownMember | Refusal::IllegalGeneration) => self.lose(tag),
        }
    }

    fn synced(&mut self, tag: Tag) {
        self.unblock(tag.replica);
        let name = self.replicas[tag.replica].name;
        let assignment = self.coordinator.assignment(name);
        let late = self.chance.between(100, 3 * MS);
        let partitions = assignment.into_iter().collect();
        self.after(late, SimEvent::SyncAnswered(tag, partitions));
    }

    /// Handles the new assignment: the consumer first releases partitions, then
    /// adds new ones.
    pub fn sync_answered(&mut self, tag: Tag, partitions: &[Partition]) {
        let this = &mut self.replicas[tag.replica];
        if !this.is_current(tag) || this.member != Member::Syncing {
            return;
        }
        this.member = Member::In;
        let new = |p: &&Partition| !this.reading.contains_key(p);
        let added: Vec<Partition> = partitions.iter().filter(new).copied().collect();
        let assigned = this.reading.keys();
        let gone: Vec<Partition> = assigned
            .filter(|p| !partitions.contains(p))
            .copied()
            .collect();
        if gone.is_empty() {
            return self.assign(tag.replica, added);
        }
        this.adding = Some(added);
        self.take(tag.replica, gone, Revocation::Requested);
    }

    /// Runs a rebalance callback that assigns partitions, perhaps none.
    fn assign(&mut self, replica: usize, partitions: Vec<Partition>) {
        let this = &mut self.replicas[replica];
        let generation = this.next_generation();
        let tag = this.tag;
        for partition in &partitions {
            this.reading.insert(*partition, Reading::new(generation));
        }
        for partition in &partitions {
            let late = self.chance.between(MS, FIND_US);
            self.after(late, SimEvent::ReadCommitted(tag, *partition, generation));
        }
        let event = KafkaEvent::Assigned {
            generation,
            partitions,
        };
        self.pass_consumer_event(replica, event);
    }

    /// Runs a rebalance callback that revokes partitions.
    pub fn take(&mut self, replica: usize, partitions: Vec<Partition>, how: Revocation) {
        let this = &mut self.replicas[replica];
        for partition in &partitions {
            if let Some(reading) = this.reading.get_mut(partition) {
                reading.revoking = true;
            }
        }
        let event = KafkaEvent::Revoked {
            generation: this.next_generation(),
            partitions,
            how,
        };
        if how == Revocation::Lost {
            self.count("lost");
        }
        self.pass_consumer_event(replica, event);
    }

    /// Releases partitions for the engine.
    pub fn finish_revoke(&mut self, replica: usize, partitions: &[Partition]) {
        let this = &mut self.replicas[replica];
        for partition in partitions {
            this.reading.remove(partition);
        }
        let loses = this.credentials.is_none() && !this.reading.is_empty();
        if this.is_revoking() || this.member == Member::Out || loses {
            return;
        }
        if this.rejoining && this.reading.is_empty() {
            return self.leave_and_join(replica);
        }
        if let Some(added) = this.adding.take().filter(|added| !added.is_empty()) {
            self.assign(replica, added);
        }
        let tag = self.replicas[replica].tag;
        self.rejoin(tag);
    }

    pub fn rejoin(&mut self, tag: Tag) {
        self.replicas[tag.replica].member = Member::Joining;
        let late = self.chance.between(100, 20 * MS);
        self.after(late, SimEvent::Join(tag));
    }

    /// Handles the answer to a heartbeat.
    pub fn heartbeat(&mut self, tag: Tag) {
        let this = &self.replicas[tag.replica];
        if !this.is_current(tag) {
            return;
        }
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            return self.retry_at(at, SimEvent::Heartbeat(tag));
        }
        let Some(by) = this.credentials else {
            return;
        };
        match self.coordinator.check(&by) {
            Err(Refusal::FencedInstance) => self.fenced(tag),
            Err(_) => self.lose(tag),
            Ok(()) if self.coordinator.is_preparing() => {
                if this.member == Member::In && !this.is_revoking() {
                    self.rejoin(tag);
                } else if this.member == Member::Syncing {
                    self.unblock(tag.replica);
                    self.rejoin(tag);
                }
            }
            Ok(()) => {}
        }
    }

    /// A consumer finds that it lost all its partitions.
    pub fn lose(&mut self, tag: Tag) {
        let this = &mut self.replicas[tag.replica];
        if !this.is_current(tag) {
            return;
        }
        this.credentials = None;
        // librdkafka runs the next callback only after the last revocation is
        // done.
        if this.is_revoking() {
            return self.after(50 * MS, SimEvent::Lose(tag));
        }
        this.adding = None;
        self.unblock(tag.replica);
        let this = &self.replicas[tag.replica];
        let partitions: Vec<Partition> = this.reading.keys().copied().collect();
        if partitions.is_empty() {
            return self.rejoin(tag);
        }
        self.replicas[tag.replica].member = Member::In;
        self.take(tag.replica, partitions, Revocation::Lost);
    }

    /// Runs the consumer's own session check: no heartbeat was answered within
    /// the session timeout.
    pub fn session_check(&mut self, tag: Tag) {
        let member = self.replicas[tag.replica].member;
        let cut_off = self.unreachable(tag.replica, Way::Coordinator).is_some();
        if cut_off && member == Member::In {
            self.lose(tag);
        }
    }

    /// Handles a fencing: another process seems to have joined with this name.
    fn fenced(&mut self, tag: Tag) {
        self.count("fenced");
        let replica = tag.replica;
        self.replicas[replica].credentials = None;
        self.unblock(replica);
        self.pass_consumer_event(replica, KafkaEvent::ConsumerFenced);
    }

    /// Removes a member without heartbeats from the group.
    pub fn session_timeout(&mut self, tag: Tag, name: Name) {
        let away = self.away_until(Way::Coordinator);
        if away > self.now_us {
            let at = away + SESSION_TIMEOUT_US;
            return self.at(at, SimEvent::SessionTimeout(tag, name));
        }
        let this = &self.replicas[tag.replica];
        let silent = !this.is_current(tag)
            || this.paused_until > self.now_us
            || this.cut_until > self.now_us;
        let is_its = self.coordinator.tags().contains(&tag);
        if !silent || !is_its {
            return;
        }
        if self.coordinator.awaits_join(name) {
            return self.after(SECOND, SimEvent::SessionTimeout(tag, name));
        }
        self.count("session_timeout");
        if self.coordinator.remove(name) {
            self.rebalance_begins();
        }
        self.complete_join();
        self.after(0, SimEvent::Heartbeat(tag));
    }

    /// Stops the heartbeats of this replica's consumer.
    pub fn falls_silent(&mut self, replica: usize) {
        let this = &self.replicas[replica];
        let (tag, name) = (this.tag, this.name);
        let since = self.chance.below(HEARTBEAT_US);
        let late = SESSION_TIMEOUT_US - since;
        self.after(late, SimEvent::SessionTimeout(tag, name));
    }

    /// Pauses a process. After the session timeout it has lost its partitions
    /// without noticing.
    pub fn pause(&mut self, replica: usize, for_us: u64) {
        let until = self.now_us + for_us;
        let this = &mut self.replicas[replica];
        if this.engine.is_none() || this.paused_until > self.now_us {
            return;
        }
        self.count("paused");
        let this = &mut self.replicas[replica];
        this.paused_until = until;
        this.checker
            .excuse_pause(std::time::Duration::from_micros(for_us));
        let tag = this.tag;
        if for_us > PAUSE_NOTICED_US {
            self.at(until, SimEvent::PassEvent(tag, Event::ProcessStopped));
        }
        self.falls_silent(replica);
        let late = self.chance.below(HEARTBEAT_US);
        self.at(until + late, SimEvent::Heartbeat(tag));
    }

    /// Kills a process with kill -9. Commits stay; requests in the network may
    /// still arrive.
    pub fn crash(&mut self, replica: usize, down_us: u64) {
        if self.replicas[replica].engine.is_none() {
            return;
        }
        self.count("crash");
        self.end_process(replica);
        self.after(down_us, SimEvent::StartProcess(replica));
    }

    /// The open transaction may have been committed without an answer.
    pub fn leave_open(&mut self, replica: usize) {
        let name = self.replicas[replica].name;
        let fate = self.chance.pick(&[Ending::Commit, Ending::Abort]);
        let left = self
            .broker
            .leave_open(name, self.replicas[replica].epoch, fate);
        if left {
            self.count("left_open");
        }
    }

    /// Ends a process.
    pub fn end_process(&mut self, replica: usize) {
        self.leave_open(replica);
        self.falls_silent(replica);
        self.unblock(replica);
        let this = &mut self.replicas[replica];
        this.engine = None;
        this.tag.process += 1;
        this.drop_consumer();
        this.in_turn = false;
        this.paused_until = 0;
        this.cut_until = 0;
    }

    /// Schedules the join of a new consumer and `init_transactions` of a new
    /// producer, in either order.
    pub fn connect(&mut self, replica: usize, latest_us: u64) {
        let this = &mut self.replicas[replica];
        this.member = Member::Joining;
        let tag = this.tag;
        let late = self.chance.between(20 * MS, latest_us);
        self.after(late, SimEvent::Join(tag));
        let more = self.chance.below(600 * MS);
        self.after(late + more, SimEvent::Initialise(tag));
    }

    /// Runs `init_transactions`: the open transaction of this name ends, and its
    /// producer is fenced.
    pub fn initialise(&mut self, tag: Tag) -> Verdict {
        if !self.replicas[tag.replica].is_current(tag) {
            return Ok(());
        }
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            self.retry_at(at, SimEvent::Initialise(tag));
            return Ok(());
        }
        let name = self.replicas[tag.replica].name;
        if let Some((id, fate)) = self.broker.open_of(name) {
            self.end_transaction(id, fate)?;
        }
        self.replicas[tag.replica].epoch = Some(self.broker.next_epoch(name));
        self.set_open(tag, OpenTransaction::Nothing);
        Ok(())
    }
}
