//! L1 to L4 at the two moments that count: an offset write takes effect at the
//! broker, and an attempt starts.

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

/// Who writes: one adoption of a partition by one life of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    pub replica: usize,
    pub life: u32,
    pub generation: Generation,
}

#[derive(Clone, Copy, Debug)]
struct Reservation {
    /// Who wrote it first; for anyone else it is in doubt.
    by: Writer,
    /// When the last write that holds it and was acknowledged was requested.
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
    /// When it must not start any more, by the process's clock.
    pub start_by: UnixMillis,
    /// By the broker's clock.
    pub broker_at: UnixMillis,
    /// How far the two may differ.
    pub skew_max: Duration,
}

/// The committed state of all partitions.
#[derive(Debug, Default)]
pub struct Offsets {
    of: HashMap<Partition, Committed>,
    /// Reservations that others ended, which their writers may not know yet.
    ended_by_others: HashMap<Position, Reservation>,
}

impl Offsets {
    /// A snapshot took effect. The moves of its transaction, if it has one, are
    /// already told to `residences`. `log_end` is the last stable offset.
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
                    .get(Position {
                        partition,
                        offset: *offset,
                    })
                    .map_or(0, |residence| residence.posts);
                Law::L3.check(!opened || (reservation.by == by && posts == 0), || {
                    format!("{partition:?}: {offset} was reserved, may have been sent, and is open again")
                })?;
            }
        }
        let reservations = map
            .unfinished
            .iter()
            .filter(|(_, reserved)| **reserved)
            .map(|(offset, _)| {
                let fresh = Reservation {
                    by,
                    granted_at: None,
                };
                let known = old.and_then(|old| old.reservations.get(offset)).copied();
                (*offset, known.unwrap_or(fresh))
            })
            .collect();
        if let Some(old) = old {
            let ended = old.reservations.iter().filter(|(offset, reservation)| {
                reservation.by != by && !map.unfinished.contains_key(offset)
            });
            for (offset, reservation) in ended {
                let offset = *offset;
                let position = Position { partition, offset };
                self.ended_by_others.insert(position, *reservation);
            }
        }
        self.of.insert(partition, Committed { map, reservations });
        Ok(())
    }

    /// Something other than the service wrote this offset, or the service
    /// begins anew from there: what it said before does not count.
    pub fn reset(&mut self, partition: Partition, base: NextOffset) {
        let map = Map::at(base);
        let reservations = BTreeMap::new();
        self.of.insert(partition, Committed { map, reservations });
    }

    /// Whether something was committed for this partition.
    pub fn is_known(&self, partition: Partition) -> bool {
        self.of.contains_key(&partition)
    }

    /// Nothing is committed for this partition.
    pub fn forget(&mut self, partition: Partition) {
        self.of.remove(&partition);
    }

    /// The writer was told that its snapshot, requested then, took effect.
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

    /// The engine orders an attempt: L3 and L4. Its POST, which may start later
    /// within the lease, is counted by [`Residences::posted`].
    pub fn started(&self, start: &Start, residences: &Residences) -> Verdict {
        let position = start.position;
        Law::L3.check(start.attempt <= start.attempts_max, || {
            format!("attempt {} from {position:?}", start.attempt)
        })?;
        let residence = residences.get(position).ok_or_else(|| {
            Law::L3.breach(format!("attempt from {position:?}, where no record is"))
        })?;
        // A zombie that does not know yet that its record was moved on, as in
        // doubt and with this attempt charged, may still start it within its lease.
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
        // Whoever starts it looks at this moment first, however late that is.
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

    /// How many offsets the committed maps reserve.
    pub fn reserved(&self) -> usize {
        self.of.values().map(|c| c.reservations.len()).sum()
    }
}

/// A map is well formed: base is the smallest unfinished or the end, and the
/// end is in the log.
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

/// What is finished stays finished (L2).
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
            format!("{partition:?}: {offset} was finished and is not any more")
        })?;
    }
    Ok(())
}
