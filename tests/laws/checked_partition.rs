//! A partition as the checker of its engine sees it. Checks L10 for its tenants: none
//! holds the committed offset back for long.

use super::map::Map;
use super::{Law, Verdict};
use ringback::model::message::{Credit, Revocation, WriteId};
use ringback::model::position::{Generation, Offset, Partition, Position};
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::time::Duration;

/// The maximum length of a commit's metadata, in UTF-16 units.
pub const METADATA_UNITS_MAX: usize = 4_096;

/// The longest time for which an engine's maps list a record, where Kafka answers and
/// the process has free slots.
///
/// Source: 30 s in its lane, 5 s of an attempt, 5 s of waiting for other moves, and
/// half as much again.
const LISTED_MAX: Duration = Duration::from_secs(60);

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

/// The maximum number of records of one partition that an engine may hold or have
/// requested. It is a full map, and as many again on their way.
const RECORDS_MAX: usize = 2_000;
/// The most bytes that are requested from one partition.
const ASKED_BYTES_MAX: usize = 256 << 10;

/// A partition that is assigned to an engine.
#[derive(Debug)]
pub struct CheckedPartition {
    pub generation: Generation,
    pub phase: CheckedPhase,
    /// Revoked in this turn of the runner, whose first actions were decided before.
    pub revoked_in_turn: bool,
    pub fetching: bool,
    pub asked: Credit,
    pub in_hand: HashSet<Position>,
    /// The map of the last read or write.
    pub map: Option<Rc<Map>>,
    /// Since when the engine's maps list the unfinished offsets.
    listed_since: BTreeMap<Offset, UnixMillis>,
}

impl CheckedPartition {
    /// Returns the state right after the assignment.
    pub fn assigned(generation: Generation) -> Self {
        Self {
            generation,
            phase: CheckedPhase::Assigned,
            revoked_in_turn: false,
            fetching: false,
            asked: Credit::default(),
            in_hand: HashSet::new(),
            map: None,
            listed_since: BTreeMap::new(),
        }
    }

    /// Notes a request for records.
    pub fn requested(&mut self, id: Partition, more: Credit) -> Verdict {
        self.asked.add(more);
        let Credit { records, bytes } = self.asked;
        Law::L5.check(bytes <= ASKED_BYTES_MAX, || {
            format!("{bytes} bytes of {id:?} requested")
        })?;
        let total = records + self.in_hand.len();
        Law::L5.check(total <= RECORDS_MAX, || {
            format!("{total} records of {id:?} requested or held")
        })
    }

    /// Notes the map of a write, and returns it to be shared.
    pub fn replace_map(&mut self, now: UnixMillis, map: Map) -> Rc<Map> {
        self.listed_since
            .retain(|offset, _| map.unfinished.contains_key(offset));
        for offset in map.unfinished.keys() {
            self.listed_since.entry(*offset).or_insert(now);
        }
        self.in_hand.retain(|p| !map.is_finished(p.offset));
        Rc::clone(self.map.insert(Rc::new(map)))
    }

    /// Checks that no record is listed for too long.
    pub fn check_listed(&self, partition: Partition, now: UnixMillis) -> Verdict {
        for (offset, at) in &self.listed_since {
            let listed = now.since(*at);
            Law::L10.check(listed <= LISTED_MAX, || {
                format!("{partition:?} {offset} is unfinished for {listed:?}")
            })?;
        }
        Ok(())
    }

    /// Whether an action may start something from this partition.
    pub fn may_start(&self) -> bool {
        self.phase == CheckedPhase::Adopted || self.revoked_in_turn
    }
}
