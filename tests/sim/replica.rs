//! One process of the service: its engine, its consumer's place in the group,
//! and what is under way between them.

use crate::broker::TransactionId;
use crate::laws::desk::Desk;
use crate::laws::offsets::Writer;
use crate::planted::Clumsy;
use ringback::engine::Engine;
use ringback::engine::event::Event;
use ringback::model::position::{Generation, NextOffset, Partition};
use ringback::model::record::MovedRecord;
use ringback::model::tenant::Tenants;
use ringback::model::time::UnixMillis;
use ringback::model::write::{Snapshot, WriteId};
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

/// A replica's place in the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    Out,
    Joining,
    In,
    /// The session timed out, and the process does not know it yet.
    Kicked,
}

/// A partition as the consumer reads it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub generation: Generation,
    pub next: Option<NextOffset>,
    pub credits: usize,
    pub end_told: Option<NextOffset>,
    pub ticking: bool,
    pub revoking: bool,
}

/// A write as it was asked for.
#[derive(Debug)]
pub struct Request {
    pub write: WriteId,
    pub snapshots: Vec<Snapshot>,
    pub writers: Vec<Writer>,
    pub requested_at: UnixMillis,
    pub records: Vec<MovedRecord>,
    pub generation: Generation,
}

/// One process and what surrounds it.
pub struct Replica {
    pub tag: Tag,
    pub engine: Option<Engine>,
    pub desk: Desk,
    pub clumsy: Clumsy,
    pub member: Member,
    pub rebalancing: bool,
    /// Counts joins and kicks: what was sent before is refused after.
    pub fence: u32,
    pub generation: u64,
    pub reading: BTreeMap<Partition, Reading>,
    /// Events of the consumer come in order: not before this.
    pub channel_us: u64,
    pub wake_us: Option<u64>,
    pub spins: u32,
    pub paused_until: u64,
    pub tenants: Arc<Tenants>,
    pub transaction: Option<TransactionId>,
    /// Writes whose answers are not told yet.
    pub requests: Vec<Arc<Request>>,
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
            engine: None,
            desk,
            clumsy,
            member: Member::Out,
            rebalancing: false,
            fence: 0,
            generation: 0,
            reading: BTreeMap::new(),
            channel_us: 0,
            wake_us: None,
            spins: 0,
            paused_until: 0,
            tenants: Arc::default(),
            transaction: None,
            requests: Vec::new(),
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

    /// The number of the next rebalance callback.
    pub fn next_generation(&mut self) -> Generation {
        self.generation += 1;
        Generation(self.generation)
    }

    /// Whether some partitions are being taken and not given back yet.
    pub fn is_revoking(&self) -> bool {
        self.reading.values().any(|reading| reading.revoking)
    }
}
