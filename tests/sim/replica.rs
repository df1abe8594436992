//! One process of the service: its engine, its consumer's place in the group, and
//! the messages in transit between them.

use crate::coordinator::{Credentials, Name};
use crate::laws::engine_checker::EngineChecker;
use crate::laws::offsets::Writer;
use crate::planted::Tamperer;
use crate::sim_event::SimEvent;
use ringback::engine::Engine;
use ringback::engine::event::Event;
use ringback::model::message::{Credit, KafkaEvent, OpenTransaction, SessionId, Snapshot, WriteId};
use ringback::model::position::{Generation, NextOffset, Partition};
use ringback::model::record::MovedRecord;
use ringback::model::tenant::Tenants;
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Identifies one consumer of one process of a replica. A message with another
/// tag than the current one belongs to the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    pub replica: usize,
    pub process: u32,
    /// Zero where no session runs.
    pub session: SessionId,
}

impl Tag {
    /// Returns an event of this consumer's session.
    pub fn event(self, event: KafkaEvent) -> Event {
        let session = self.session;
        Event::Kafka { session, event }
    }
}

/// The state of a consumer in the group's protocol, as the consumer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    Out,
    /// Its JoinGroup is in progress.
    Joining,
    /// Its SyncGroup is in progress.
    Syncing,
    In,
}

/// A partition as the consumer reads it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub generation: Generation,
    /// Identifies the topic among those that had this name.
    pub incarnation: Option<u32>,
    pub next: Option<NextOffset>,
    pub credit: Credit,
    pub reported_end: Option<NextOffset>,
    pub ticking: bool,
    pub revoking: bool,
}

impl Reading {
    /// Returns the state right after the assignment.
    pub fn new(generation: Generation) -> Self {
        Self {
            generation,
            incarnation: None,
            next: None,
            credit: Credit::default(),
            reported_end: None,
            ticking: false,
            revoking: false,
        }
    }
}

/// A requested write.
#[derive(Debug)]
pub struct Request {
    pub write: WriteId,
    pub snapshots: Vec<Snapshot>,
    pub writers: Vec<Writer>,
    /// Identifies the snapshots' topics among those that had the same names.
    pub incarnations: Vec<Option<u32>>,
    pub requested_at: UnixMillis,
    /// The simulated time at which it was sent.
    pub sent_us: u64,
    pub records: Vec<MovedRecord>,
    /// The sender's identity in the group.
    pub by: Option<Credentials>,
}

impl Request {
    /// Returns the duration of its call where the answer comes at this time.
    pub fn took(&self, answered_us: u64) -> Duration {
        Duration::from_micros(answered_us - self.sent_us)
    }
}

/// The number of rebalance callbacks whose group metadata is kept.
const METADATA_MAX: usize = 16;

/// One process and what surrounds it.
pub struct Replica {
    pub tag: Tag,
    /// Its `group.instance.id` and `transactional.id`.
    pub name: Name,
    pub engine: Option<Engine>,
    pub checker: EngineChecker,
    pub tamperer: Tamperer,
    pub member: Member,
    pub credentials: Option<Credentials>,
    /// The coordinator delays the answer to a join or sync, and all later answers
    /// on the same connection.
    pub blocked: bool,
    pub queued: Vec<SimEvent>,
    /// Partitions to assign once the revoked ones are released.
    pub adding: Option<Vec<Partition>>,
    /// It leaves the group to join it again.
    pub rejoining: bool,
    /// What the transactions of this process and the one before may have left open.
    pub open: OpenTransaction,
    /// Events about a transaction that the session has reported, and the engine has
    /// not handled yet.
    pub reported: Vec<KafkaEvent>,
    /// What the last session has told the engine.
    pub told_open: (SessionId, OpenTransaction),
    metadata: VecDeque<(Generation, Credentials)>,
    /// The producer's epoch after `init_transactions`.
    pub epoch: Option<u32>,
    pub generation: u64,
    pub reading: BTreeMap<Partition, Reading>,
    /// The consumer's next event comes no earlier, to keep their order.
    pub channel_us: u64,
    pub wake_us: Option<u64>,
    pub spins: u32,
    pub paused_until: u64,
    /// Cut off from Kafka.
    pub cut_until: u64,
    pub tenants: Arc<Tenants>,
    /// Writes whose answers the engine does not have yet.
    pub requests: Vec<Arc<Request>>,
    /// The runner is within a turn: some actions are not performed yet.
    pub in_turn: bool,
    /// The time from its drain to its restart.
    pub down_us: Option<u64>,
    pub skew_ms: i64,
    /// The consumer's last events; some are repeated later.
    pub past_events: VecDeque<KafkaEvent>,
}

impl Replica {
    /// Returns a replica that is not started.
    pub fn new(replica: usize, skew_ms: i64, checker: EngineChecker, tamperer: Tamperer) -> Self {
        Self {
            tag: Tag {
                replica,
                process: 0,
                session: SessionId(0),
            },
            name: replica,
            engine: None,
            checker,
            tamperer,
            member: Member::Out,
            credentials: None,
            blocked: false,
            queued: Vec::new(),
            adding: None,
            rejoining: false,
            open: OpenTransaction::Offsets,
            reported: Vec::new(),
            told_open: (SessionId(0), OpenTransaction::Offsets),
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
            past_events: VecDeque::new(),
        }
    }

    /// Returns whether this tag belongs to the running process.
    pub fn is_running(&self, tag: Tag) -> bool {
        self.engine.is_some() && self.tag.process == tag.process
    }

    /// Returns whether this tag belongs to the current consumer.
    pub fn is_current(&self, tag: Tag) -> bool {
        self.engine.is_some() && self.tag == tag && tag.session != SessionId(0)
    }

    /// Returns the number of the next rebalance callback, and remembers the
    /// current group metadata with it.
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

    /// Returns the group metadata of this rebalance callback.
    pub fn metadata(&self, generation: Generation) -> Option<Credentials> {
        let found = self.metadata.iter().find(|(of, _)| *of == generation);
        found.map(|(_, credentials)| *credentials)
    }

    /// Returns whether some revoked partitions are not released yet.
    pub fn is_revoking(&self) -> bool {
        self.reading.values().any(|reading| reading.revoking)
    }

    /// Notes what an event tells the engine about an open transaction.
    pub fn note_told(&mut self, session: SessionId, event: &KafkaEvent) {
        self.reported.retain(|reported| reported != event);
        let open = match event {
            KafkaEvent::OpenTransaction(open) => open.clone(),
            KafkaEvent::Moved { .. } => OpenTransaction::Nothing,
            _ => return,
        };
        if session == self.told_open.0 {
            self.told_open.1 = open;
        }
    }

    /// Drops the consumer.
    pub fn drop_consumer(&mut self) {
        self.tag.session = SessionId(0);
        self.rejoining = false;
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
