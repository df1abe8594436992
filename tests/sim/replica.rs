//! One process of the service: its engine, its consumer's place in the group,
//! and what is under way between them.

use crate::coordinator::{Credentials, Name};
use crate::laws::desk::Desk;
use crate::laws::offsets::Writer;
use crate::planted::Clumsy;
use crate::world::Happening;
use ringback::engine::Engine;
use ringback::engine::event::Event;
use ringback::model::message::{Snapshot, WriteId};
use ringback::model::position::{Generation, NextOffset, Partition};
use ringback::model::record::MovedRecord;
use ringback::model::tenant::Tenants;
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names one consumer of one life of a replica; what is tagged with another
/// one than the present is from the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    pub replica: usize,
    pub life: u32,
    pub consumer: u32,
}

/// Where a consumer is in the group's protocol, as it believes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    Out,
    /// Its JoinGroup is under way.
    Joining,
    /// Its SyncGroup is under way.
    Syncing,
    In,
}

/// A partition as the consumer reads it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub generation: Generation,
    /// Of which topic of this name it was found.
    pub incarnation: Option<u32>,
    pub next: Option<NextOffset>,
    pub credits: usize,
    pub end_told: Option<NextOffset>,
    pub ticking: bool,
    pub revoking: bool,
}

impl Reading {
    /// Just assigned.
    pub fn new(generation: Generation) -> Self {
        Self {
            generation,
            incarnation: None,
            next: None,
            credits: 0,
            end_told: None,
            ticking: false,
            revoking: false,
        }
    }
}

/// A write as it was asked for.
#[derive(Debug)]
pub struct Request {
    pub write: WriteId,
    pub snapshots: Vec<Snapshot>,
    pub writers: Vec<Writer>,
    /// Of which topics of their names the snapshots tell.
    pub incarnations: Vec<Option<u32>>,
    pub requested_at: UnixMillis,
    pub records: Vec<MovedRecord>,
    /// How its sender names itself to the group.
    pub by: Option<Credentials>,
}

/// How many rebalance callbacks' group metadata is kept.
const METADATA_MAX: usize = 16;

/// One process and what surrounds it.
pub struct Replica {
    pub tag: Tag,
    /// Its `group.instance.id` and `transactional.id`.
    pub name: Name,
    pub engine: Option<Engine>,
    pub desk: Desk,
    pub clumsy: Clumsy,
    pub member: Member,
    pub credentials: Option<Credentials>,
    /// The coordinator holds back the answer to a join or sync, and with it
    /// all that comes behind on the same connection.
    pub blocked: bool,
    pub queued: Vec<Happening>,
    /// To be assigned once what is taken was given back.
    pub adding: Option<Vec<Partition>>,
    metadata: VecDeque<(Generation, Credentials)>,
    /// The producer's epoch, once its transactions are initialised.
    pub epoch: Option<u32>,
    pub generation: u64,
    pub reading: BTreeMap<Partition, Reading>,
    /// Events of the consumer come in order: not before this.
    pub channel_us: u64,
    pub wake_us: Option<u64>,
    pub spins: u32,
    pub paused_until: u64,
    /// Cut off from Kafka.
    pub cut_until: u64,
    pub tenants: Arc<Tenants>,
    /// Writes whose answers are not told yet.
    pub requests: Vec<Arc<Request>>,
    /// The runner is within a turn: what is decided is not performed yet.
    pub in_turn: bool,
    /// After its drain it starts again so much later.
    pub down_us: Option<u64>,
    pub skew_ms: i64,
    /// What the consumer told lately; some of it comes again when it is old.
    pub told: VecDeque<Event>,
}

impl Replica {
    /// A replica that has not started.
    pub fn new(replica: usize, skew_ms: i64, desk: Desk, clumsy: Clumsy) -> Self {
        Self {
            tag: Tag {
                replica,
                life: 0,
                consumer: 0,
            },
            name: replica,
            engine: None,
            desk,
            clumsy,
            member: Member::Out,
            credentials: None,
            blocked: false,
            queued: Vec::new(),
            adding: None,
            metadata: VecDeque::new(),
            epoch: None,
            generation: 0,
            reading: BTreeMap::new(),
            channel_us: 0,
            wake_us: None,
            spins: 0,
            paused_until: 0,
            cut_until: 0,
            tenants: Arc::default(),
            requests: Vec::new(),
            in_turn: false,
            down_us: None,
            skew_ms,
            told: VecDeque::new(),
        }
    }

    /// Whether what has this tag belongs to the present life.
    pub fn lives(&self, tag: Tag) -> bool {
        self.engine.is_some() && self.tag.life == tag.life
    }

    /// Whether what has this tag belongs to the present consumer.
    pub fn is_current(&self, tag: Tag) -> bool {
        self.engine.is_some() && self.tag == tag
    }

    /// The number of the next rebalance callback; the group metadata of this
    /// moment is kept with it.
    pub fn next_generation(&mut self) -> Generation {
        self.generation += 1;
        let generation = Generation(self.generation);
        if let Some(credentials) = self.credentials {
            self.metadata.push_back((generation, credentials));
            if self.metadata.len() > METADATA_MAX {
                self.metadata.pop_front();
            }
        }
        generation
    }

    /// The group metadata that was captured in this rebalance callback.
    pub fn metadata(&self, generation: Generation) -> Option<Credentials> {
        let found = self.metadata.iter().find(|(of, _)| *of == generation);
        found.map(|(_, credentials)| *credentials)
    }

    /// Whether some partitions are being taken and not given back yet.
    pub fn is_revoking(&self) -> bool {
        self.reading.values().any(|reading| reading.revoking)
    }

    /// The consumer is dropped, or its process dies.
    pub fn drop_consumer(&mut self) {
        self.tag.consumer += 1;
        self.member = Member::Out;
        self.credentials = None;
        self.blocked = false;
        self.adding = None;
        self.metadata.clear();
        self.epoch = None;
        self.reading.clear();
        self.channel_us = 0;
    }
}
