//! The partitions of one write, within the size that the group coordinator takes. The
//! coordinator appends a commit as one batch to its log, which takes 1 MiB by default
//! (`message.max.bytes` of the broker). A write that is too large would be refused
//! again and again. Runs on the runner's thread.
//!
//! Arithmetic: a full map has 4,096 bytes, so at least 110 partitions fit one write.
//! With small maps some 720 fit.

use super::partition::PartitionState;
use crate::model::message::METADATA_UNITS_MAX;
use crate::model::position::Partition;
use std::collections::BTreeSet;

/// The maximum size of one write.
const BYTES_MAX: usize = 512 << 10;
/// The most that the names of group and topic, the offset and the framing add to the
/// metadata of one partition. Each name has at most 249 characters.
const FRAMING_BYTES: usize = 600;
/// The maximum size of one partition in a write.
const PARTITION_BYTES_MAX: usize = FRAMING_BYTES + METADATA_UNITS_MAX;

/// The partitions of one write.
#[derive(Default)]
pub struct WriteSet {
    partitions: BTreeSet<Partition>,
    bytes: usize,
}

impl WriteSet {
    /// Returns whether any partition can be added.
    pub fn has_capacity(&self) -> bool {
        self.bytes + PARTITION_BYTES_MAX <= BYTES_MAX
    }

    /// Returns whether this partition is in the write.
    pub fn has(&self, partition: Partition) -> bool {
        self.partitions.contains(&partition)
    }

    /// Returns whether this partition is in the write or can be added.
    pub fn takes(&self, partition: Partition) -> bool {
        self.has_capacity() || self.has(partition)
    }

    /// Adds a partition. It must fit.
    pub fn add(&mut self, state: &PartitionState) {
        if self.partitions.insert(state.id) {
            assert!(self.has_capacity(), "L5: a write has at most 512 KiB");
            self.bytes += FRAMING_BYTES + state.ledger.metadata_bytes_max();
        }
    }

    /// Returns whether no partition is in the write.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Returns the partitions of the write.
    pub fn partitions(&self) -> &BTreeSet<Partition> {
        &self.partitions
    }
}
