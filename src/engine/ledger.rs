//! One partition's ledger: every offset between base and end that is not
//! finished, and the record in hand for it. Answers what to commit; decides
//! nothing about records.

use super::fairness::{LaneId, Occupancy};
use super::offsets::{self, Began, ENTRY_BYTES_MAX, Map, Mark};
use super::verdict::Verdict;
use crate::model::attempt::AttemptResult;
use crate::model::call::{CallEnded, RecordId};
use crate::model::headers::History;
use crate::model::message::METADATA_UNITS_MAX;
use crate::model::position::{NextOffset, Offset, TopicId};
use crate::model::record::Record;
use crate::model::time::UnixMillis;
use std::collections::BTreeMap;

/// The most unfinished records of one partition.
///
/// Arithmetic: tenants that do not answer hold at most 768 of the process's
/// 1,024 slots, all of them in one partition at worst; what waits for its
/// tenant comes in only while there are less than 500. So 200 and more are left
/// for the healthy: with 10 ms each from reading to completion, 20,000/s. A
/// distance takes one or two bytes at such densities, three where 8,192
/// finished offsets lie between two unfinished ones, and 1,000 of those fill
/// [`ENTRY_BYTES_MAX`].
pub const UNFINISHED_MAX: usize = 1_000;

/// The most bytes that one more entry can add to the map.
const ENTRY_BYTES_WORST: usize = 9;

/// A record in hand, waiting, being reserved or in flight.
#[derive(Debug)]
pub struct Held {
    pub record: Record,
    pub call: CallEnded,
    pub history: History,
    /// When it was due, in a delay topic.
    pub due: Option<UnixMillis>,
    pub lane: LaneId,
}

/// A record that goes to another residence.
#[derive(Debug)]
pub struct Moving {
    pub record: Record,
    pub id: Option<RecordId>,
    pub history: History,
    pub verdict: Verdict,
    /// Whether an attempt may have been started from here.
    pub mark: Mark,
    /// The attempt that led to it, where one did: known, whatever becomes of
    /// the move.
    pub ended: Option<AttemptResult>,
}

/// Where an unfinished record stands.
#[derive(Debug)]
pub enum Entry {
    /// Known from the map alone; its record has not been read again.
    Listed(Mark),
    /// In its lane.
    Waiting(Box<Held>),
    /// Its reservation is being written.
    Reserving(Box<Held>),
    /// Its attempt runs.
    InFlight(Box<Held>),
    /// To be moved, or being moved.
    Moving(Box<Moving>),
}

impl Entry {
    /// The size of a record that is to be moved.
    #[must_use]
    pub fn moving_bytes(&self) -> usize {
        match self {
            Self::Moving(moving) => moving.record.size(),
            _ => 0,
        }
    }

    fn mark(&self) -> Mark {
        match self {
            Self::Listed(mark) => *mark,
            Self::Waiting(_) => Mark::Open,
            Self::Reserving(_) | Self::InFlight(_) => Mark::Reserved,
            Self::Moving(moving) => moving.mark,
        }
    }
}

/// What is known of an offset that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Finished before: pass over.
    Finished,
    /// Never touched, or listed and certainly not sent.
    Open,
    /// Listed as reserved.
    Reserved,
}

/// The ledger of one partition.
#[derive(Debug)]
pub struct Ledger {
    /// Below it, what has no entry is finished.
    end: NextOffset,
    entries: BTreeMap<Offset, Entry>,
    /// At least the bytes that the entries take in the map.
    bytes: usize,
    /// Before it no entry is merely listed.
    listed_from: Offset,
}

impl Ledger {
    /// Nothing is known below `base`, nothing touched from it on.
    #[must_use]
    pub fn at(base: NextOffset) -> Self {
        Self {
            end: base,
            entries: BTreeMap::new(),
            bytes: 0,
            listed_from: Offset(base.0),
        }
    }

    /// What a map lists.
    #[must_use]
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

    /// The smallest unfinished offset, or the end.
    #[must_use]
    pub fn base(&self) -> NextOffset {
        self.entries
            .first_key_value()
            .map_or(self.end, |(o, _)| NextOffset::at(*o))
    }

    /// Below it everything was at least touched.
    #[must_use]
    pub fn end(&self) -> NextOffset {
        self.end
    }

    /// How many are unfinished.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many unfinished ones are marked as reserved.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.entries
            .values()
            .filter(|e| e.mark() == Mark::Reserved)
            .count()
    }

    /// Whether a record of this offset fits window and map: one that the map
    /// lists has its place, however full they are.
    #[must_use]
    pub fn has_room_for(&self, offset: Offset) -> bool {
        self.entries.contains_key(&offset) || self.has_room()
    }

    fn has_room(&self) -> bool {
        self.entries.len() < UNFINISHED_MAX && self.bytes + ENTRY_BYTES_WORST <= ENTRY_BYTES_MAX
    }

    /// Returns how much of its capacity is used. Half of it is for records that can
    /// start, half of the rest for records that wait for tenants that answer.
    #[must_use]
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

    /// What is known of an offset that was just read; `None` where its record
    /// is in hand already.
    #[must_use]
    pub fn standing(&self, offset: Offset) -> Option<Standing> {
        match self.entries.get(&offset) {
            Some(Entry::Listed(Mark::Open)) => Some(Standing::Open),
            Some(Entry::Listed(Mark::Reserved)) => Some(Standing::Reserved),
            Some(_) => None,
            None if self.end.is_past(offset) => Some(Standing::Finished),
            None => Some(Standing::Open),
        }
    }

    /// Takes a record in hand.
    pub fn take(&mut self, offset: Offset, entry: Entry) {
        if !self.end.is_past(offset) {
            let last = self.entries.last_key_value().map_or(offset, |(o, _)| *o);
            self.bytes += offsets::entry_bytes(offset.0 - last.0);
            self.end = offset.next();
        }
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

    /// The entry of an offset.
    pub fn entry(&mut self, offset: Offset) -> Option<&mut Entry> {
        self.entries.get_mut(&offset)
    }

    /// Puts another entry in the place of one that exists; returns that.
    pub fn replace(&mut self, offset: Offset, entry: Entry) -> Entry {
        let slot = self
            .entries
            .get_mut(&offset)
            .expect("only an unfinished record changes its state");
        std::mem::replace(slot, entry)
    }

    /// The record is done with here.
    pub fn finish(&mut self, offset: Offset) -> Option<Entry> {
        if !self.end.is_past(offset) {
            self.end = offset.next();
        }
        self.entries.remove(&offset)
    }

    /// Reading came to here without a record: there is none.
    pub fn reached(&mut self, next: NextOffset) -> bool {
        let further = next > self.end;
        self.end = self.end.max(next);
        further
    }

    /// Forgets listed offsets before this one, whose records no longer exist;
    /// returns how many. Offsets come in ascending order.
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

    /// Gives up records in hand that were not sent, except those that a write
    /// is moving (ascending): they stay listed.
    pub fn let_go(&mut self, moving_now: &[Offset]) {
        for (offset, entry) in &mut self.entries {
            let unsent = match entry {
                Entry::Waiting(_) => true,
                Entry::Moving(moving) => {
                    moving.mark == Mark::Open && moving_now.binary_search(offset).is_err()
                }
                Entry::Listed(_) | Entry::Reserving(_) | Entry::InFlight(_) => false,
            };
            if unsent {
                *entry = Entry::Listed(Mark::Open);
            }
        }
    }

    /// All entries, to be taken over when the ledger is dropped.
    pub fn into_entries(self) -> impl Iterator<Item = (Offset, Entry)> {
        self.entries.into_iter()
    }

    /// The entries in order.
    pub fn entries(&self) -> impl Iterator<Item = (Offset, &Entry)> {
        self.entries.iter().map(|(o, e)| (*o, e))
    }

    /// Base and map as they will be once the given offsets, ascending, are finished.
    pub fn snapshot(
        &mut self,
        topic_id: Option<&TopicId>,
        began: Began,
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
        let metadata = offsets::encode(base, self.end, topic_id, began, unfinished);
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
            bytes += offsets::entry_bytes(offset.0 - last);
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

    const BEGAN: Began = Began {
        at: UnixMillis(0),
        end: NextOffset(0),
    };

    #[test]
    fn what_a_map_lists_before_the_log_start_is_forgotten_and_counted() {
        let listed = [2, 5, 9].map(|offset| (Offset(offset), Mark::Reserved));
        let mut ledger = Ledger::adopted(Map {
            end: NextOffset(12),
            began: BEGAN,
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
        fn a_snapshot_says_what_is_finished(steps in prop::collection::vec((0_u8..4, 1_i64..4, any::<prop::sample::Index>()), 1..200)) {
            let mut ledger = Ledger::at(NextOffset(100));
            let mut next = 100_i64;
            let mut open: Vec<i64> = Vec::new();
            let mut finished: BTreeSet<i64> = BTreeSet::new();
            for (kind, gap, index) in steps {
                match kind {
                    0 | 1 if ledger.has_room() => {
                        finished.extend(next..next + gap - 1);
                        next += gap;
                        ledger.take(Offset(next - 1), Entry::Listed(Mark::Open));
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
                let (base, text) = ledger.snapshot(None, BEGAN, &[]);
                let map = offsets::decode(&text, base, None).expect("our own map");
                for offset in 100..next {
                    let listed = map.unfinished.iter().any(|(o, _)| o.0 == offset);
                    let told = offset < base.0 || (offset < map.end.0 && !listed);
                    prop_assert_eq!(told, finished.contains(&offset), "offset {}", offset);
                }
            }
        }
    }
}
