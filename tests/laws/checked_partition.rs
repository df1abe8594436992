//! A partition as the checker of its engine sees it. Only data.

use super::map::Map;
use ringback::model::message::{Revocation, WriteId};
use ringback::model::position::{Generation, Partition, Position};
use ringback::model::time::UnixMillis;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

/// A write without an answer, its partitions, and when it was sent.
pub type SentWrite = (WriteId, BTreeSet<Partition>, UnixMillis);

/// Phase of a partition, as its engine may see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckedPhase {
    /// The map is not read yet.
    Assigned,
    Adopted,
    Revoking(Revocation, UnixMillis),
}

/// A partition that is assigned to an engine.
#[derive(Debug)]
pub struct CheckedPartition {
    pub generation: Generation,
    pub phase: CheckedPhase,
    /// Revoked in this turn of the runner, whose first actions were decided before.
    pub revoked_in_turn: bool,
    pub fetching: bool,
    pub asked: usize,
    pub in_hand: HashSet<Position>,
    /// The map of the last read or write.
    pub map: Option<Rc<Map>>,
}

impl CheckedPartition {
    /// Returns the state right after the assignment.
    pub fn assigned(generation: Generation) -> Self {
        Self {
            generation,
            phase: CheckedPhase::Assigned,
            revoked_in_turn: false,
            fetching: false,
            asked: 0,
            in_hand: HashSet::new(),
            map: None,
        }
    }

    /// Notes the map of a write, and returns it to be shared.
    pub fn replace_map(&mut self, map: Map) -> Rc<Map> {
        self.in_hand.retain(|p| !map.is_finished(p.offset));
        Rc::clone(self.map.insert(Rc::new(map)))
    }

    /// Whether an action may start something from this partition.
    pub fn may_start(&self) -> bool {
        self.phase == CheckedPhase::Adopted || self.revoked_in_turn
    }
}
