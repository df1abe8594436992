//! Checks L1 to L4 at two moments: an offset write takes effect at the broker,
//! and an attempt starts.

use super::map::{self, Map};
use super::residences::Residences;
use super::{Law, Verdict};
use ringback::model::message::Snapshot;
use ringback::model::position::{Generation, NextOffset, Offset, Partition, Position, TopicId};
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// An attempt starts within this time of the request that reserved it.
///
/// Source: the accounting rules, "one residence, one send".
pub const LEASE: Duration = Duration::from_secs(2);

/// The writer of an offset: one adoption of a partition by one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    pub replica: usize,
    pub process: u32,
    pub generation: Generation,
}

#[derive(Clone, Copy, Debug)]
struct Reservation {
    /// The first writer; for every other writer the record is in doubt.
    by: Writer,
    /// The request time of the last acknowledged write that holds the
    /// reservation.
    granted_at: Option<UnixMillis>,
}

#[derive(Debug)]
struct Committed {
    map: Map,
    reservations: BTreeMap<Offset, Reservation>,
}

/// An attempt as it starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub position: Position,
    pub attempt: u8,
    pub attempts_max: u8,
    pub by: Writer,
    /// The end of its lease, by the process's clock.
    pub start_by: UnixMillis,
    /// By the broker's clock.
    pub broker_at: UnixMillis,
    /// The maximum difference of the two clocks.
    pub skew_max: Duration,
}

/// The committed state of all partitions.
#[derive(Debug, Default)]
pub struct Offsets {
    of: HashMap<Partition, Committed>,
    /// Reservations that other writers ended; the first writer may not see that
    /// yet.
    ended_by_others: HashMap<Position, Reservation>,
}

impl Offsets {
    /// Checks a snapshot that took effect. `residences` already holds the moves
    /// of its transaction. `log_end` is the last stable offset.
    pub fn committed(
        &mut self,
        snapshot: &Snapshot,
        topic_id: Option<&TopicId>,
        by: Writer,
        residences: &Residences,
        log_end: NextOffset,
    ) -> Verdict {
        let partition = snapshot.partition;
        let map = map::decode(snapshot, topic_id)
            .map_err(|why| Law::L1.breach(format!("unreadable map for {partition:?}: {why}")))?;
        shape(&map, partition, log_end)?;
        let old = self.of.get(&partition);
        if let Some(old) = old {
            order(&old.map, &map, partition, residences)?;
        }
        let from = old.map_or(NextOffset(i64::MIN), |old| old.map.base);
        for (offset, residence) in residences.between(partition, from, map.end) {
            let lawful = map.unfinished.contains_key(&offset) || residence.is_durable();
            Law::L1.check(lawful, || {
                format!("committed past {partition:?} {offset}: {residence:?}")
            })?;
        }
        if let Some(old) = old {
            for (offset, reservation) in &old.reservations {
                let opened = map.unfinished.get(offset) == Some(&false);
                let posts = residences
                    .get(partition.at(*offset))
                    .map_or(0, |residence| residence.posts);
                Law::L3.check(!opened || (reservation.by == by && posts == 0), || {
                    format!("{partition:?}: {offset} was reserved, may have been sent, and is not reserved any more")
                })?;
            }
        }
        let reservations = map
            .unfinished
            .iter()
            .filter(|(_, reserved)| **reserved)
            .map(|(offset, _)| {
                let new = Reservation {
                    by,
                    granted_at: None,
                };
                let earlier = old.and_then(|old| old.reservations.get(offset)).copied();
                (*offset, earlier.unwrap_or(new))
            })
            .collect();
        if let Some(old) = old {
            let ended = old.reservations.iter().filter(|(offset, reservation)| {
                reservation.by != by && !map.unfinished.contains_key(offset)
            });
            for (offset, reservation) in ended {
                let position = partition.at(*offset);
                self.ended_by_others.insert(position, *reservation);
            }
        }
        self.of.insert(partition, Committed { map, reservations });
        Ok(())
    }

    /// Forgets the earlier commits: another program wrote this offset, or the
    /// service starts over from there.
    pub fn reset(&mut self, partition: Partition, base: NextOffset) {
        let map = Map::at(base);
        let reservations = BTreeMap::new();
        self.of.insert(partition, Committed { map, reservations });
    }

    /// Returns whether this partition has a committed offset.
    pub fn has_commit(&self, partition: Partition) -> bool {
        self.of.contains_key(&partition)
    }

    /// Removes the committed offset of this partition.
    pub fn forget(&mut self, partition: Partition) {
        self.of.remove(&partition);
    }

    /// Notes that the writer got the acknowledgement of a snapshot.
    pub fn acknowledged(&mut self, snapshot: &Snapshot, by: Writer, requested_at: UnixMillis) {
        let partition = snapshot.partition;
        if let Some(committed) = self.of.get_mut(&partition) {
            for reservation in committed.reservations.values_mut() {
                if reservation.by == by {
                    reservation.granted_at = Some(requested_at);
                }
            }
        }
        if self.ended_by_others.is_empty() {
            return;
        }
        for (position, reservation) in &mut self.ended_by_others {
            if reservation.by == by && position.partition == partition {
                reservation.granted_at = Some(requested_at);
            }
        }
    }

    /// Checks L3 and L4 for an attempt that the engine requests. Its POST may
    /// start later within the lease; [`Residences::posted`] counts it.
    pub fn started(&self, start: &Start, residences: &Residences) -> Verdict {
        let position = start.position;
        Law::L3.check(start.attempt <= start.attempts_max, || {
            format!("attempt {} from {position:?}", start.attempt)
        })?;
        let residence = residences.get(position).ok_or_else(|| {
            Law::L3.breach(format!("attempt from {position:?}, where no record exists"))
        })?;
        // A zombie may still start an attempt within its lease. It does not know
        // yet that its record was moved as in doubt, with this attempt charged.
        let zombies = self.ended_by_others.get(&position);
        let zombies = zombies.filter(|reservation| reservation.by == start.by);
        let moved = residence.moved && zombies.is_none();
        Law::L3.check(!moved && residence.posts == 0, || {
            format!("attempt from {position:?}: {residence:?}")
        })?;
        let reservation = self
            .of
            .get(&position.partition)
            .and_then(|committed| committed.reservations.get(&position.offset))
            .or(zombies)
            .ok_or_else(|| {
                Law::L3.breach(format!("attempt from {position:?}, which is not reserved"))
            })?;
        Law::L3.check(reservation.by == start.by, || {
            format!(
                "attempt from {position:?} by {:?}: in doubt, reserved by {:?}",
                start.by, reservation.by
            )
        })?;
        let granted_at = reservation.granted_at.ok_or_else(|| {
            Law::L3.breach(format!(
                "attempt from {position:?} before its reservation was acknowledged"
            ))
        })?;
        // The sender compares this time with its clock right before the POST.
        let lease = start.start_by.since(granted_at);
        Law::L3.check(lease <= LEASE, || {
            format!("attempt from {position:?} up to {lease:?} after its reservation was requested")
        })?;
        let due = residence.due;
        Law::L4.check(start.broker_at >= due.minus(start.skew_max), || {
            format!(
                "attempt from {position:?} at {}, due at {due} (broker's clock, skew at most {:?})",
                start.broker_at, start.skew_max
            )
        })
    }

    /// Returns the number of reserved offsets in the committed maps.
    pub fn reserved(&self) -> usize {
        self.of.values().map(|c| c.reservations.len()).sum()
    }
}

/// Checks that a map is well formed: base is the smallest unfinished offset or
/// the end, and the end lies in the log.
fn shape(map: &Map, partition: Partition, log_end: NextOffset) -> Verdict {
    let first = map.unfinished.keys().next().copied();
    let base = first.map_or(map.end, NextOffset::at);
    Law::L1.check(map.base == base, || {
        format!("{partition:?}: base {} is not {base}: {map:?}", map.base)
    })?;
    let last_inside = map
        .unfinished
        .keys()
        .next_back()
        .is_none_or(|last| map.end.is_past(*last));
    Law::L1.check(map.end <= log_end && last_inside, || {
        format!("{partition:?}: the log ends at {log_end}: {map:?}")
    })
}

/// Checks that finished records stay finished (L2).
fn order(old: &Map, new: &Map, partition: Partition, residences: &Residences) -> Verdict {
    Law::L2.check(new.base >= old.base, || {
        format!(
            "{partition:?}: base went back from {} to {}",
            old.base, new.base
        )
    })?;
    let from = old.base.min(new.base);
    for (offset, _) in residences.between(partition, from, old.end) {
        let back = old.is_finished(offset) && !new.is_finished(offset);
        Law::L2.check(!back, || {
            format!("{partition:?}: {offset} was finished before and is unfinished now")
        })?;
    }
    Ok(())
}
