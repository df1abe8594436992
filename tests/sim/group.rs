//! The consumer group and what befalls its members: joins, rebalances,
//! crashes, stops, restarts.

use crate::broker::Ending;
use crate::laws::Verdict;
use crate::plan::{Fault, MS, SECOND};
use crate::replica::{Member, Reading, Tag};
use crate::world::{Happening, World};
use ringback::engine::event::{Event, Revocation};
use ringback::model::fact::ReadoptReason;
use ringback::model::position::Partition;

/// `session.timeout.ms`.
const SESSION_TIMEOUT_US: u64 = 10 * SECOND;

impl World {
    /// Something goes wrong, where it can.
    pub fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { replica, down_us } => self.crash(replica, down_us),
            Fault::Rebalance { replica } => self.rebalance(replica),
            Fault::Pause { replica, for_us } => self.pause(replica, for_us),
            Fault::Restart { replica, down_us } => {
                let this = &mut self.replicas[replica];
                if this.engine.is_some() && !this.desk.is_draining() {
                    this.down_us = Some(down_us);
                    let tag = this.tag;
                    self.after(0, Happening::Tell(tag, Event::Drain));
                }
            }
            Fault::ConsumerFails { replica } => {
                let reason = ReadoptReason::ConsumerFault;
                let this = &self.replicas[replica];
                if this.engine.is_some() && this.member == Member::In {
                    self.tell_consumer(replica, Event::KafkaFault { reason });
                }
            }
            Fault::TenantsChange => self.change_tenants(),
        }
    }

    /// A consumer joins under its replica's name: what its predecessor left
    /// open ends, and what is still in the network is refused from now on.
    pub fn join(&mut self, tag: Tag) -> Verdict {
        let replica = tag.replica;
        if !self.replicas[replica].is_current(tag) {
            return Ok(());
        }
        self.end_left_open(replica)?;
        let this = &mut self.replicas[replica];
        this.fence += 1;
        this.member = Member::In;
        this.rebalancing = false;
        let mine = self.owners.iter().filter(|(_, o)| **o == Some(replica));
        let mine: Vec<Partition> = mine.map(|(partition, _)| *partition).collect();
        if !mine.is_empty() {
            self.assign(replica, &mine);
        }
        let late = self.chance.between(5 * MS, 400 * MS);
        self.after(late, Happening::Distribute);
        Ok(())
    }

    /// A rebalance callback brings partitions, perhaps none.
    fn assign(&mut self, replica: usize, partitions: &[Partition]) {
        let this = &mut self.replicas[replica];
        let generation = this.next_generation();
        let tag = this.tag;
        this.rebalancing = false;
        for partition in partitions {
            let reading = Reading {
                generation,
                next: None,
                credits: 0,
                end_told: None,
                ticking: false,
                revoking: false,
            };
            this.reading.insert(*partition, reading);
            self.owners.insert(*partition, Some(replica));
        }
        let event = Event::Assigned {
            generation,
            partitions: partitions.to_vec(),
        };
        self.tell_consumer(replica, event);
        for partition in partitions {
            let late = self.chance.between(MS, 30 * MS);
            self.after(late, Happening::Find(tag, *partition, generation));
        }
    }

    /// Gives the partitions without an owner to members that may take them.
    pub fn distribute(&mut self) {
        let members: Vec<usize> = (0..self.replicas.len())
            .filter(|replica| {
                let this = &self.replicas[*replica];
                this.member == Member::In && !this.desk.is_draining()
            })
            .collect();
        let free = self.owners.iter().filter(|(_, owner)| owner.is_none());
        let free: Vec<Partition> = free.map(|(partition, _)| *partition).collect();
        let revoking = members.iter().any(|r| self.replicas[*r].is_revoking());
        if members.is_empty() {
            return;
        }
        if revoking {
            return self.after(100 * MS, Happening::Distribute);
        }
        let mut shares = vec![Vec::new(); members.len()];
        for partition in free {
            shares[self.chance.index(members.len())].push(partition);
        }
        for (replica, share) in members.into_iter().zip(shares) {
            if !share.is_empty() || self.replicas[replica].rebalancing {
                self.assign(replica, &share);
            }
        }
    }

    /// The group begins to take some of a member's partitions.
    fn rebalance(&mut self, replica: usize) {
        let this = &mut self.replicas[replica];
        if this.engine.is_none() || this.member != Member::In || this.rebalancing {
            return;
        }
        this.rebalancing = true;
        let tag = this.tag;
        let all: Vec<Partition> = this.reading.keys().copied().collect();
        let share = self.chance.pick(&[0, 300, 1_000]);
        let taken = all.into_iter().filter(|_| self.chance.permille(share));
        let taken: Vec<Partition> = taken.collect();
        let late = self.chance.between(MS, 600 * MS);
        self.after(late, Happening::RevokeCallback(tag, taken));
    }

    /// The consumer hears what is taken.
    pub fn revoke_callback(&mut self, tag: Tag, taken: &[Partition]) {
        let replica = tag.replica;
        let this = &self.replicas[replica];
        if !this.is_current(tag) || !this.rebalancing || this.is_revoking() {
            return;
        }
        let this = &mut self.replicas[replica];
        let mut partitions = Vec::new();
        for partition in taken {
            if let Some(reading) = this.reading.get_mut(partition) {
                reading.revoking = true;
                partitions.push(*partition);
            }
        }
        if partitions.is_empty() {
            return self.after(0, Happening::Distribute);
        }
        let event = Event::Revoked {
            generation: this.next_generation(),
            partitions,
            how: Revocation::Asked,
        };
        self.tell_consumer(replica, event);
    }

    /// The engine gives partitions back.
    pub fn finish_revoke(&mut self, replica: usize, partitions: &[Partition]) {
        let this = &mut self.replicas[replica];
        for partition in partitions {
            this.reading.remove(partition);
            if self.owners.get(partition) == Some(&Some(replica)) {
                self.owners.insert(*partition, None);
            }
        }
        let this = &self.replicas[replica];
        if this.member == Member::Kicked && this.reading.is_empty() {
            self.rejoin(replica);
        }
        let late = self.chance.between(5 * MS, 300 * MS);
        self.after(late, Happening::Distribute);
    }

    /// A stopped process. After the session timeout it has lost its partitions
    /// and does not know.
    fn pause(&mut self, replica: usize, for_us: u64) {
        let until = self.now_us + for_us;
        let this = &mut self.replicas[replica];
        if this.engine.is_none() || this.paused_until > self.now_us {
            return;
        }
        this.paused_until = until;
        this.desk.excuse(std::time::Duration::from_micros(for_us));
        let (fence, tag) = (this.fence, this.tag);
        self.after(
            SESSION_TIMEOUT_US,
            Happening::SessionTimeout { replica, fence },
        );
        let late = self.chance.between(MS, 800 * MS);
        self.at(until + late, Happening::LostCallback(tag));
    }

    /// The group goes on without a member that was not heard of.
    pub fn session_timeout(&mut self, replica: usize, fence: u32) {
        let this = &mut self.replicas[replica];
        let silent = this.engine.is_none() || this.paused_until > self.now_us;
        if this.fence != fence || !silent {
            return;
        }
        this.fence += 1;
        if this.engine.is_some() && this.member == Member::In {
            this.member = Member::Kicked;
        }
        for owner in self.owners.values_mut() {
            if *owner == Some(replica) {
                *owner = None;
            }
        }
        self.after(10 * MS, Happening::Distribute);
    }

    /// A member that was kicked hears of it.
    pub fn lost_callback(&mut self, tag: Tag) {
        let replica = tag.replica;
        let this = &mut self.replicas[replica];
        if !this.is_current(tag) || this.member != Member::Kicked {
            return;
        }
        // librdkafka calls back again only once the last revocation is served.
        if this.is_revoking() {
            return self.after(50 * MS, Happening::LostCallback(tag));
        }
        for reading in this.reading.values_mut() {
            reading.revoking = true;
        }
        let partitions: Vec<Partition> = this.reading.keys().copied().collect();
        if partitions.is_empty() {
            return self.rejoin(replica);
        }
        let event = Event::Revoked {
            generation: this.next_generation(),
            partitions,
            how: Revocation::Lost,
        };
        self.tell_consumer(replica, event);
    }

    /// The same consumer joins again.
    fn rejoin(&mut self, replica: usize) {
        let this = &mut self.replicas[replica];
        this.member = Member::Joining;
        let tag = this.tag;
        let late = self.chance.between(5 * MS, 300 * MS);
        self.after(late, Happening::Join(tag));
    }

    /// kill -9: what is committed stays, what is in the network may arrive.
    fn crash(&mut self, replica: usize, down_us: u64) {
        if self.replicas[replica].engine.is_none() {
            return;
        }
        self.leave_open(replica);
        self.end_life(replica);
        let fence = self.replicas[replica].fence;
        self.after(
            SESSION_TIMEOUT_US,
            Happening::SessionTimeout { replica, fence },
        );
        self.after(down_us, Happening::Up(replica));
    }

    /// What is open now may have been committed without us knowing.
    fn leave_open(&mut self, replica: usize) {
        let fate = self.chance.pick(&[Ending::Commit, Ending::Abort]);
        let id = self.replicas[replica].transaction;
        if let Some(transaction) = id.and_then(|id| self.broker.transaction(id)) {
            transaction.fate = fate;
        }
    }

    fn end_life(&mut self, replica: usize) {
        let this = &mut self.replicas[replica];
        this.engine = None;
        this.tag.life += 1;
        this.reading.clear();
        this.member = Member::Out;
        this.rebalancing = false;
        this.paused_until = 0;
    }

    /// The engine drops its consumer and producer and takes new ones.
    pub fn readopt(&mut self, replica: usize) {
        self.leave_open(replica);
        let this = &mut self.replicas[replica];
        this.tag.consumer += 1;
        this.reading.clear();
        this.member = Member::Joining;
        this.rebalancing = false;
        this.channel_us = 0;
        let tag = this.tag;
        let late = self.chance.between(20 * MS, 1_500 * MS);
        self.after(late, Happening::Join(tag));
    }

    /// Drained: the process leaves the group in order and ends.
    pub fn leave(&mut self, replica: usize) {
        self.leave_open(replica);
        self.end_life(replica);
        self.replicas[replica].fence += 1;
        for owner in self.owners.values_mut() {
            if *owner == Some(replica) {
                *owner = None;
            }
        }
        self.after(50 * MS, Happening::Distribute);
        if let Some(down_us) = self.replicas[replica].down_us.take() {
            self.after(down_us, Happening::Up(replica));
        }
    }
}
