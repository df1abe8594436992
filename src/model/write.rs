//! What goes to Kafka and what is found there: snapshots of partitions, moves,
//! and the committed state that a new owner reads.

use super::call::CallEnded;
use super::position::{Generation, NextOffset, Partition, Position, TopicId};
use super::record::MovedRecord;
use super::tenant::Tenant;
use super::time::UnixMillis;
use bytes::Bytes;
use std::sync::Arc;

/// Numbers the writes of this process; an answer to an older one is ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// The longest metadata of a commit that Kafka takes.
///
/// Units: UTF-16 code units; our text is ASCII. Source: Kafka's
/// `offset.metadata.max.bytes`, 4096 by default, checked on Java strings.
pub const METADATA_UNITS_MAX: usize = 4096;

/// One partition's offset and map as they will be once the write succeeds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The partition.
    pub partition: Partition,
    /// The base: the offset to commit.
    pub base: NextOffset,
    /// The map, as the commit's metadata.
    pub metadata: String,
}

/// A plain offset commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitOrder {
    /// Its number.
    pub write: WriteId,
    /// One for each partition.
    pub snapshots: Vec<Snapshot>,
}

/// One transaction: records to their next residences, and the snapshots that
/// complete the old ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveOrder {
    /// Its number.
    pub write: WriteId,
    /// The rebalance callback whose group metadata must go with it.
    pub generation: Generation,
    /// What moves.
    pub records: Vec<MovedRecord>,
    /// One for each partition that records move from.
    pub snapshots: Vec<Snapshot>,
}

/// An attempt to be started now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptOrder {
    /// The record's residence; names the attempt in its answer.
    pub position: Position,
    /// To whom.
    pub tenant: Arc<Tenant>,
    /// The record's id and framing.
    pub call: CallEnded,
    /// The record's value; [`CallEnded::body`] makes the body of it.
    pub value: Bytes,
    /// 1 to 10: which attempt this is.
    pub attempt: u8,
    /// After this moment it must not start: the reservation's lease is over.
    pub start_by: UnixMillis,
    /// The record's trace context.
    pub traceparent: Option<String>,
    /// Whether it is to be kept from the others, for its tenant is not known to
    /// answer: it may do anything.
    pub apart: bool,
}

/// What a new owner finds of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The committed offset and its metadata; none where nothing is committed.
    pub committed: Option<(NextOffset, String)>,
    /// The first offset in the log.
    pub log_start: NextOffset,
    /// The last stable offset: the end of what can be read.
    pub log_end: NextOffset,
    /// The topic's identity, where the broker tells it.
    pub topic_id: Option<TopicId>,
}

/// Where a partition's log begins and ends now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// The partition.
    pub partition: Partition,
    /// The first offset in the log.
    pub start: NextOffset,
    /// The last stable offset.
    pub end: NextOffset,
}
