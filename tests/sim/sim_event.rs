//! The events of the simulation, and their order in the queue.

use crate::broker::TransactionId;
use crate::coordinator::{Credentials, Name};
use crate::laws::residences::Posted;
use crate::plan::Fault;
use crate::replica::{Request, Tag};
use crate::writes::CommitInTransit;
use ringback::engine::event::Event;
use ringback::model::attempt::AttemptResult;
use ringback::model::message::{AttemptRequest, KafkaEvent, WriteId};
use ringback::model::position::{Generation, Partition, Position};
use std::cmp::Ordering;
use std::sync::Arc;

/// An event of the simulation.
#[derive(Debug)]
pub enum SimEvent {
    Publish,
    Fault(Fault),
    Maintain,
    MaintenanceEnds,
    Check,
    Bounds,
    StartProcess(usize),
    Join(Tag),
    JoinAnswered(Tag, Credentials),
    Sync(Tag),
    SyncAnswered(Tag, Vec<Partition>),
    Heartbeat(Tag),
    SessionTimeout(Tag, Name),
    SessionCheck(Tag),
    Lose(Tag),
    Initialise(Tag),
    FindUnassigned(Tag),
    /// For the engine, even if its consumer is gone.
    PassEvent(Tag, Event),
    /// From the consumer, for the engine.
    PassConsumerEvent(Tag, KafkaEvent),
    /// The end of the runner's turn.
    Turn(Tag),
    Wake(Tag, u64),
    ReadCommitted(Tag, Partition, Generation),
    Fetch(Tag, Partition, Generation),
    CommitArrives(CommitInTransit),
    TransactionBegins(Tag, Arc<Request>),
    OffsetsAdded(Tag, Arc<Request>, TransactionId),
    TransactionEnds(Tag, WriteId, TransactionId),
    TransactionTimesOut(TransactionId),
    StartPost(Tag, Box<AttemptRequest>),
    Answered(Tag, Posted, Position, AttemptResult),
}

impl SimEvent {
    /// Returns the replica of an event that belongs in the trace.
    pub fn traced_replica(&self) -> Option<usize> {
        match self {
            Self::Fault(_) | Self::Maintain | Self::MaintenanceEnds => Some(0),
            Self::StartProcess(replica) => Some(*replica),
            Self::Join(tag)
            | Self::JoinAnswered(tag, _)
            | Self::Sync(tag)
            | Self::SyncAnswered(tag, _)
            | Self::Heartbeat(tag)
            | Self::SessionTimeout(tag, _)
            | Self::SessionCheck(tag)
            | Self::Lose(tag)
            | Self::Initialise(tag) => Some(tag.replica),
            _ => None,
        }
    }

    /// Returns the process that handles the event, if a process does.
    pub fn process(&self) -> Option<Tag> {
        match self {
            Self::Join(tag)
            | Self::JoinAnswered(tag, _)
            | Self::Sync(tag)
            | Self::SyncAnswered(tag, _)
            | Self::Heartbeat(tag)
            | Self::SessionCheck(tag)
            | Self::Lose(tag)
            | Self::Initialise(tag)
            | Self::FindUnassigned(tag)
            | Self::PassEvent(tag, _)
            | Self::PassConsumerEvent(tag, _)
            | Self::Turn(tag)
            | Self::Wake(tag, _)
            | Self::ReadCommitted(tag, ..)
            | Self::Fetch(tag, ..)
            | Self::TransactionBegins(tag, _)
            | Self::OffsetsAdded(tag, ..)
            | Self::TransactionEnds(tag, ..)
            | Self::StartPost(tag, _) => Some(*tag),
            _ => None,
        }
    }
}

/// An event in the queue. At the same time the smaller number comes first.
pub struct Scheduled {
    pub at_us: u64,
    pub number: u64,
    /// In a box: the queue moves its elements often.
    pub sim_event: Box<SimEvent>,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}
