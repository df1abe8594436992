//! Ledger of one partition: every unfinished offset between base and end, with
//! its record where that is in hand. Returns the offset and map to commit. Decides
//! nothing about records. Runs on the runner's thread.

use super::fairness::{LaneId, Occupancy};
use super::keep::Keep;
use super::map::{self, ENTRY_BYTES_MAX, Map, MapsSince, Mark};
use super::verdict::Verdict;
use crate::model::attempt::AttemptResult;
use crate::model::call::{CallEnded, RecordId};
use crate::model::headers::History;
use crate::model::message::METADATA_UNITS_MAX;
use crate::model::position::{NextOffset, Offset, Topic, TopicId};
use crate::model::record::Record;
use crate::model::time::UnixMillis;
use std::collections::BTreeMap;

/// The most unfinished records of one partition.
///
/// Arithmetic: tenants that do not answer hold at most 768 of the process's 1,024
/// slots, all of them in one partition at worst. A record may wait for its tenant
/// only while there are fewer than 500. So 200 and more are left for healthy
/// tenants: with 10 ms each from reading to completion, 20,000/s. A distance takes
/// one or two bytes at such densities. It takes three where 8,192 finished offsets
/// lie between two unfinished ones, and 1,000 of those fill [`ENTRY_BYTES_MAX`].
pub const UNFINISHED_MAX: usize = 1_000;

/// The most bytes that one more entry can add to the map.
const ENTRY_BYTES_WORST: usize = 9;

/// A record in hand: waiting, being reserved, or in flight.
#[derive(Debug)]
pub struct PendingRecord {
    pub record: Record,
    pub call: CallEnded,
    pub history: History,
    /// When it was due, for a record of a delay topic.
    pub due: Option<UnixMillis>,
    pub lane: LaneId,
}

/// A record that is to be moved to another residence.
#[derive(Debug)]
pub struct PendingMove {
    pub record: Record,
    pub id: Option<RecordId>,
    pub history: History,
    pub verdict: Verdict,
    /// How much of the record its next residence gets.
    pub keep: Keep,
    pub mark: Mark,
    /// The attempt that led to the move, if there was one.
    pub result: Option<AttemptResult>,
}

/// State of an unfinished record.
#[derive(Debug)]
pub enum Entry {
    /// Listed in the map; its record has not been read again.
    Listed(Mark),
    /// In its tenant's lane.
    Waiting(Box<PendingRecord>),
    /// Its reservation is being written.
    Reserving(Box<PendingRecord>),
    /// Its attempt runs.
    InFlight(Box<PendingRecord>),
    /// To be moved, or in a transaction.
    Moving(Box<PendingMove>),
}

impl Entry {
    /// Returns the size of a record that is to be moved.
    pub fn moving_bytes(&self) -> usize {
        match self {
            Self::Moving(moving) => moving.record.size(),
            _ => 0,
        }
    }

    /// Returns the destination of a record that is to be moved.
    pub fn moves_to(&self) -> Option<Topic> {
        match self {
            Self::Moving(moving) => Some(moving.verdict.topic()),
            _ => None,
        }
    }

    fn mark(&self) -> Mark {
        match self {
            Self::Listed(mark) => *mark,
            Self::Waiting(_) => Mark::Unreserved,
            Self::Reserving(_) | Self::InFlight(_) => Mark::Reserved,
            Self::Moving(moving) => moving.mark,
        }
    }
}

/// Status of an offset whose record was just read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetStatus {
    /// Finished before: the record is ignored.
    Finished,
    /// Certainly not sent from here.
    Untried,
    /// Listed as reserved: an attempt may have been started.
    Reserved,
}

/// The ledger of one partition.
#[derive(Debug)]
pub struct Ledger {
    /// Offsets below it without an entry are finished.
    end: NextOffset,
    entries: BTreeMap<Offset, Entry>,
    /// Upper bound of the bytes of the entries in the map.
    bytes: usize,
    /// No entry before it is only listed.
    listed_from: Offset,
    /// The bytes of the records that are to be moved.
    moving_bytes: usize,
}

impl Ledger {
    /// A ledger in which all offsets below `base` are finished and no other.
    pub fn at(base: NextOffset) -> Self {
        Self {
            end: base,
            entries: BTreeMap::new(),
            bytes: 0,
            listed_from: Offset(base.0),
            moving_bytes: 0,
        }
    }

    /// The ledger of a committed map.
    pub fn adopted(map: Map) -> Self {
        let mut ledger = Self::at(map.end);
        ledger.entries = map
            .unfinished
            .into_iter()
            .map(|(o, mark)| (o, Entry::Listed(mark)))
            .collect();
        ledger.bytes = ledger.exact_bytes();
        ledger.listed_from = Offset(ledger.base().0);
        ledger
    }

    /// Returns the smallest unfinished offset, or the end.
    pub fn base(&self) -> NextOffset {
        self.entries
            .first_key_value()
            .map_or(self.end, |(o, _)| NextOffset::at(*o))
    }

    /// Returns the offset from which on no record was read.
    pub fn end(&self) -> NextOffset {
        self.end
    }

    /// Returns the number of unfinished records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of unfinished records that are marked as reserved.
    pub fn reserved(&self) -> usize {
        self.entries
            .values()
            .filter(|e| e.mark() == Mark::Reserved)
            .count()
    }

    /// Whether a record of this offset fits ledger and map. An offset that is
    /// listed already always fits.
    pub fn fits(&self, offset: Offset) -> bool {
        self.entries.contains_key(&offset) || self.has_capacity()
    }

    /// Returns the most bytes that a commit's metadata takes.
    pub fn metadata_bytes_max(&self) -> usize {
        map::text_bytes_max(self.bytes)
    }

    fn has_capacity(&self) -> bool {
        self.entries.len() < UNFINISHED_MAX && self.bytes + ENTRY_BYTES_WORST <= ENTRY_BYTES_MAX
    }

    /// Returns how much of its capacity is used. Half of it is for records that can
    /// start, half of the rest for records that wait for tenants that answer.
    pub fn occupancy(&self) -> Occupancy {
        let beyond = |share: usize| {
            self.entries.len() >= UNFINISHED_MAX / share || self.bytes >= ENTRY_BYTES_MAX / share
        };
        match (beyond(4), beyond(2)) {
            (_, true) => Occupancy::High,
            (true, false) => Occupancy::Medium,
            (false, false) => Occupancy::Low,
        }
    }

    /// Returns the status of an offset that was just read, or `None` where its
    /// record is in hand already.
    pub fn status(&self, offset: Offset) -> Option<OffsetStatus> {
        match self.entries.get(&offset) {
            Some(Entry::Listed(Mark::Unreserved)) => Some(OffsetStatus::Untried),
            Some(Entry::Listed(Mark::Reserved)) => Some(OffsetStatus::Reserved),
            Some(_) => None,
            None if self.end.is_past(offset) => Some(OffsetStatus::Finished),
            None => Some(OffsetStatus::Untried),
        }
    }

    /// Adds the entry of a record that was read.
    pub fn take(&mut self, offset: Offset, entry: Entry) {
        if !self.end.is_past(offset) {
            let last = self.entries.last_key_value().map_or(offset, |(o, _)| *o);
            self.bytes += map::entry_bytes(offset.0 - last.0);
            self.end = offset.next();
        }
        self.moving_bytes += entry.moving_bytes();
        let before = self.entries.insert(offset, entry);
        assert!(
            matches!(before, None | Some(Entry::Listed(_))),
            "L1: a record in hand has one owner"
        );
        assert!(
            before.is_some() || self.entries.len() <= UNFINISHED_MAX + 1,
            "L5: more unfinished records than allowed"
        );
    }

    /// Returns the entry of an offset.
    pub fn entry(&mut self, offset: Offset) -> Option<&mut Entry> {
        self.entries.get_mut(&offset)
    }

    /// Replaces an existing entry and returns it.
    pub fn replace(&mut self, offset: Offset, entry: Entry) -> Entry {
        let slot = self
            .entries
            .get_mut(&offset)
            .expect("only an unfinished record changes its state");
        self.moving_bytes += entry.moving_bytes();
        self.moving_bytes -= slot.moving_bytes();
        std::mem::replace(slot, entry)
    }

    /// Replaces the entry of an offset, or adds one.
    pub fn put(&mut self, offset: Offset, entry: Entry) {
        match self.entries.contains_key(&offset) {
            true => drop(self.replace(offset, entry)),
            false => self.take(offset, entry),
        }
    }

    /// Returns the bytes of the records that are to be moved.
    pub fn moving_bytes(&self) -> usize {
        self.moving_bytes
    }

    /// Marks a record as finished and returns its entry.
    pub fn finish(&mut self, offset: Offset) -> Option<Entry> {
        if !self.end.is_past(offset) {
            self.end = offset.next();
        }
        let finished = self.entries.remove(&offset);
        self.moving_bytes -= finished.as_ref().map_or(0, Entry::moving_bytes);
        finished
    }

    /// Notes that no record lies before `next`. Returns whether that is new.
    pub fn reached(&mut self, next: NextOffset) -> bool {
        let further = next > self.end;
        self.end = self.end.max(next);
        further
    }

    /// Forgets listed offsets before this one, whose records do not exist any
    /// more. Returns how many. Calls come in ascending order of offsets.
    pub fn forget_listed_before(&mut self, offset: Offset) -> u64 {
        let mut gone = 0;
        let unread = self.entries.range(self.listed_from.min(offset)..offset);
        let listed = unread.filter(|(_, entry)| matches!(entry, Entry::Listed(_)));
        for offset in listed.map(|(offset, _)| *offset).collect::<Vec<_>>() {
            self.entries.remove(&offset);
            gone += 1;
        }
        self.listed_from = self.listed_from.max(offset);
        gone
    }

    /// Forgets records in hand that were not sent, except those that a write is
    /// moving (ascending). Their offsets stay listed.
    pub fn forget_unsent(&mut self, moving_now: &[Offset]) {
        for (offset, entry) in &mut self.entries {
            let unsent = match entry {
                Entry::Waiting(_) => true,
                Entry::Moving(moving) => {
                    moving.mark == Mark::Unreserved && moving_now.binary_search(offset).is_err()
                }
                Entry::Listed(_) | Entry::Reserving(_) | Entry::InFlight(_) => false,
            };
            if unsent {
                self.moving_bytes -= entry.moving_bytes();
                *entry = Entry::Listed(Mark::Unreserved);
            }
        }
    }

    /// Returns all entries.
    pub fn into_entries(self) -> impl Iterator<Item = (Offset, Entry)> {
        self.entries.into_iter()
    }

    /// Returns the entries in the order of their offsets.
    pub fn entries(&self) -> impl Iterator<Item = (Offset, &Entry)> {
        self.entries.iter().map(|(o, e)| (*o, e))
    }

    /// Returns base and map for the time when these offsets (ascending) are finished.
    pub fn snapshot(
        &mut self,
        topic_id: Option<&TopicId>,
        maps_since: MapsSince,
        finishing: &[Offset],
    ) -> (NextOffset, String) {
        self.bytes = self.exact_bytes();
        let stays = |offset: &Offset| finishing.binary_search(offset).is_err();
        let mut unfinished = self
            .entries
            .iter()
            .filter(|(offset, _)| stays(offset))
            .map(|(offset, entry)| (*offset, entry.mark()))
            .peekable();
        let base = unfinished
            .peek()
            .map_or(self.end, |(offset, _)| NextOffset::at(*offset));
        let metadata = map::encode(base, self.end, topic_id, maps_since, unfinished);
        assert!(
            metadata.len() <= METADATA_UNITS_MAX,
            "L5: the map fits the commit's metadata"
        );
        (base, metadata)
    }

    fn exact_bytes(&self) -> usize {
        let mut last = self.base().0;
        let mut bytes = 0;
        for offset in self.entries.keys() {
            bytes += map::entry_bytes(offset.0 - last);
            last = offset.0;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const MAPS_SINCE: MapsSince = MapsSince {
        at: UnixMillis(0),
        end: NextOffset(0),
    };

    #[test]
    fn offsets_listed_before_the_log_start_are_forgotten_and_counted() {
        let listed = [2, 5, 9].map(|offset| (Offset(offset), Mark::Reserved));
        let mut ledger = Ledger::adopted(Map {
            end: NextOffset(12),
            maps_since: MAPS_SINCE,
            unfinished: listed.to_vec(),
        });
        assert_eq!(ledger.forget_listed_before(Offset(9)), 2);
        assert_eq!(ledger.base(), NextOffset(9));
        assert_eq!(ledger.forget_listed_before(Offset(10)), 1);
        assert_eq!(ledger.base(), NextOffset(12));
    }

    proptest! {
        /// The oracle is a set of finished offsets.
        #[test]
        fn a_snapshot_tells_the_finished_offsets(steps in prop::collection::vec((0_u8..4, 1_i64..4, any::<prop::sample::Index>()), 1..200)) {
            let mut ledger = Ledger::at(NextOffset(100));
            let mut next = 100_i64;
            let mut open: Vec<i64> = Vec::new();
            let mut finished: BTreeSet<i64> = BTreeSet::new();
            for (kind, gap, index) in steps {
                match kind {
                    0 | 1 if ledger.has_capacity() => {
                        finished.extend(next..next + gap - 1);
                        next += gap;
                        ledger.take(Offset(next - 1), Entry::Listed(Mark::Unreserved));
                        open.push(next - 1);
                    }
                    2 if !open.is_empty() => {
                        let offset = open.remove(index.index(open.len()));
                        ledger.finish(Offset(offset));
                        finished.insert(offset);
                    }
                    _ => {
                        finished.extend(next..next + gap);
                        next += gap;
                        ledger.reached(NextOffset(next));
                    }
                }
                let (base, text) = ledger.snapshot(None, MAPS_SINCE, &[]);
                let map = map::decode(&text, base, None).expect("an encoded map");
                for offset in 100..next {
                    let listed = map.unfinished.iter().any(|(o, _)| o.0 == offset);
                    let told = offset < base.0 || (offset < map.end.0 && !listed);
                    prop_assert_eq!(told, finished.contains(&offset), "offset {}", offset);
                }
            }
        }
    }
}
