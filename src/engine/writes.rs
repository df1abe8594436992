//! What is written to Kafka and when: reservations and completions in plain
//! commits, moves and what they complete in transactions. One commit and one
//! transaction are outstanding at a time, and a partition is in one of them
//! (L2): the older write could otherwise overwrite the newer one's map.
//!
//! Arithmetic: a commit costs the broker some 0.5 ms of CPU whatever it
//! carries, so all partitions share one, and the interval between two bounds
//! them to 500/s at 2 ms. A transaction takes some 11 ms and holds up what is
//! healthy in its partitions for that long, so what counts is in how many of
//! them a second each partition is. Failed attempts wait [`MOVE_WAIT`] for
//! others. Diverts, which come by the hundred for one overloaded tenant, wait
//! half of the delay they go to, up to [`DIVERT_WAIT`], and all partitions go
//! at once: 1 of 250 healthy records meets a transaction of 20 ms, where with
//! [`MOVE_WAIT`] it were every second one. 450 diverts/s are five transactions.

use super::Engine;
use super::ledger::{Entry, Moving};
use super::owned::{InWrite, MOVE_BYTES_MAX, MOVE_RECORDS_MAX, MoveBy, Owned, Phase};
use super::verdict::Verdict;
use crate::model::disposition::DeadLetterReason;
use crate::model::fact::ReadoptReason;
use crate::model::headers;
use crate::model::message::{
    CommitRequest, KafkaRequest, METADATA_UNITS_MAX, MoveRequest, Snapshot, WriteId,
};
use crate::model::position::{Partition, Position};
use crate::model::record::MovedRecord;
use crate::model::time::UnixMillis;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// A reservation is good for this long from the moment its write was sent: a
/// process that was stopped and goes on must not send what others have moved.
pub const LEASE: Duration = Duration::from_secs(2);
/// What was completed is committed within this time.
const COMPLETION_WAIT: Duration = Duration::from_millis(50);
/// Moves are gathered for this long.
const MOVE_WAIT: Duration = Duration::from_millis(20);
/// Diverts are gathered for at most this long.
const DIVERT_WAIT: Duration = Duration::from_secs(5);
/// Moves that are due since this many times of what they waited for others are
/// overdue: once a transaction may begin, their partition is kept out of plain
/// commits and one that holds it is waited for, so that the transaction finds it
/// free. Not while another runs: of deliveries in partitions that waited for a
/// transaction of 300 ms some 100 stood uncommitted.
const OVERDUE_WAITS: u32 = 2;
/// With so many waiting moves, none waits longer.
const MOVES_WAITING_MAX: usize = 4 * MOVE_RECORDS_MAX;
/// After a refused commit the rebalance that caused it must show within this
/// time: the session's, and then some.
const REBALANCE_WAIT: Duration = Duration::from_secs(12);
/// Nothing more is reserved while so many deliveries stand uncommitted: each is
/// repeated if the process dies now. 25,000/s, more than one core can do, have
/// some 100 uncommitted while commits take 2 ms.
const UNCOMMITTED_MAX: usize = 128;
/// The same together with what has just begun, while Kafka is slow: 64 in a
/// commit of 60 ms are 1,000/s.
const SLOW_UNCOMMITTED_MAX: usize = 64;
/// Kafka is slow where the last transaction or commit took longer.
const MOVE_SLOW: Duration = Duration::from_millis(100);
const COMMIT_SLOW: Duration = Duration::from_millis(20);
/// Partitions come to rest before a slow transaction where all that stands
/// uncommitted, or has just begun, would do so for this long together if it
/// took as long as the last one: 10 attempts for 300 ms. Less costs less when the
/// process dies than the healthy would wait.
const SETTLE_FROM: Duration = Duration::from_secs(3);
/// What is kept of a record that is too large.
const CUT_BYTES: usize = 64 << 10;

/// The writes under way, and what governs the next ones.
#[derive(Default)]
pub struct Writes {
    last: WriteId,
    pub commit: Option<Outstanding>,
    pub moving: Option<Outstanding>,
    last_commit_at: UnixMillis,
    /// A commit was refused at this moment: nothing is written until the group says who owns what.
    pub refused_at: Option<UnixMillis>,
    pub move_not_before: UnixMillis,
    /// How long the last transaction and the last commit took.
    pub move_took: Duration,
    pub commit_took: Duration,
    /// So many records are moved alone, for one of them is too large.
    pub alone: usize,
    /// Nothing that waits can be reserved until something changes.
    idle: bool,
}

/// A write that was sent and not answered.
pub struct Outstanding {
    pub write: WriteId,
    pub sent_at: UnixMillis,
    pub partitions: Vec<Partition>,
    pub records: usize,
    pub metadata_permille: u16,
}

impl Writes {
    /// Forgets everything that was under way.
    pub fn abandon(&mut self) {
        *self = Self {
            last: self.last,
            ..Self::default()
        };
    }

    /// The group has spoken: what was refused may be decided again.
    pub fn resume(&mut self) {
        self.refused_at = None;
        self.move_not_before = UnixMillis(0);
    }

    /// Whether Kafka takes so long that what stands uncommitted meanwhile counts.
    fn are_slow(&self) -> bool {
        self.move_took >= MOVE_SLOW || self.commit_took >= COMMIT_SLOW
    }

    fn next_id(&mut self) -> WriteId {
        self.last = WriteId(self.last.0 + 1);
        self.last
    }
}

impl Engine {
    pub(super) fn plan_writes(&mut self) {
        if self.readopting {
            return;
        }
        if let Some(at) = self.writes.refused_at {
            if self.now.since(at) >= REBALANCE_WAIT {
                self.readopt(ReadoptReason::CommitUnsure);
            }
            return;
        }
        self.plan_move();
        self.plan_commit();
    }

    fn plan_move(&mut self) {
        let now = self.now;
        if !self.may_move() || self.is_overdue_in_commit() {
            return;
        }
        let waiting: usize = self
            .partitions
            .values()
            .map(|owned| owned.moves.len())
            .sum();
        let free = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.may_write());
        let mut due: Vec<(UnixMillis, Partition)> = free
            .filter_map(|(partition, owned)| Some((move_due_at(owned)?, *partition)))
            .collect();
        due.sort_unstable();
        let together = match due.first() {
            Some(_) if waiting >= MOVES_WAITING_MAX => UnixMillis(i64::MAX),
            Some((first, _)) if *first <= now => now.plus(MOVE_WAIT),
            _ => return,
        };
        due.retain(|(at, _)| *at <= together);
        let records = self.take_moves(&due);
        let taken: BTreeSet<Partition> = records.iter().map(|r| r.from.partition).collect();
        self.reserve(&taken);
        let (snapshots, _) = self.snapshots(&taken);
        let write = self.writes.next_id();
        self.writes.moving = Some(Outstanding {
            write,
            sent_at: now,
            partitions: taken.into_iter().collect(),
            records: records.len(),
            metadata_permille: 0,
        });
        let generation = self.generation;
        self.request(KafkaRequest::Move(MoveRequest {
            write,
            generation,
            records,
            snapshots,
        }));
    }

    /// Takes what one transaction may carry from these partitions' queues.
    fn take_moves(&mut self, due: &[(UnixMillis, Partition)]) -> Vec<MovedRecord> {
        let records_max = if self.writes.alone > 0 {
            1
        } else {
            MOVE_RECORDS_MAX
        };
        self.writes.alone = self.writes.alone.saturating_sub(1);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (_, partition) in due {
            let owned = self
                .partitions
                .get_mut(partition)
                .expect("chosen from our partitions");
            let mut moving = Vec::new();
            while records.len() < records_max && bytes < MOVE_BYTES_MAX {
                let Some(offset) = owned.moves.pop_front() else {
                    break;
                };
                match owned.ledger.entry(offset) {
                    Some(Entry::Moving(entry)) => {
                        let record = moved_record(entry);
                        bytes += entry.record.size();
                        owned.moves_bytes = owned.moves_bytes.saturating_sub(entry.record.size());
                        records.push(record);
                        moving.push(offset);
                    }
                    _ => unreachable!("L1: what is queued to be moved is unfinished and in hand"),
                }
            }
            if owned.moves.is_empty() {
                owned.moves_by = None;
                owned.moves_bytes = 0;
            }
            if !moving.is_empty() {
                moving.sort_unstable();
                owned.in_write = Some(InWrite {
                    moving,
                    ..InWrite::default()
                });
            }
        }
        records
    }

    /// Whether a transaction may begin.
    fn may_move(&self) -> bool {
        self.writes.moving.is_none() && self.now >= self.writes.move_not_before
    }

    /// The partitions that come to rest for the next transaction, so that few of
    /// their deliveries stand uncommitted while that runs.
    fn settling(&self) -> BTreeSet<Partition> {
        let gap = self.writes.moving.is_none() && self.now < self.writes.move_not_before;
        let outstanding = (self.uncommitted() + self.start_slots.taken()) as u32;
        let took = self.writes.move_took;
        if !gap || took < MOVE_SLOW || took * outstanding < SETTLE_FROM {
            return BTreeSet::new();
        }
        let due = self.partitions.iter().filter(|(_, owned)| {
            move_due_at(owned).is_some_and(|at| at <= self.writes.move_not_before)
        });
        due.map(|(partition, _)| *partition).collect()
    }

    /// Whether the outstanding commit holds a partition with overdue moves.
    fn is_overdue_in_commit(&self) -> bool {
        let held = self.writes.commit.iter().flat_map(|o| &o.partitions);
        let mut held = held.filter_map(|partition| self.partitions.get(partition));
        held.any(|owned| owned.is_overdue(self.now))
    }

    fn plan_commit(&mut self) {
        let now = self.now;
        self.writes.idle = false;
        let not_before = self
            .writes
            .last_commit_at
            .plus(self.settings.commit_interval);
        if self.writes.commit.is_some() || now < not_before {
            return;
        }
        let may_move = self.may_move();
        let free: BTreeSet<Partition> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.may_write() && !(may_move && owned.is_overdue(now)))
            .map(|(partition, _)| *partition)
            .collect();
        let settling = self.settling();
        let mut chosen = match settling.is_empty() {
            true => self.reserve(&free),
            false => self.reserve(&(&free - &settling)),
        };
        self.writes.idle = true;
        let urgent = |partition: &Partition| {
            let owned = &self.partitions[partition];
            let wait = match settling.contains(partition) {
                true => Duration::ZERO,
                false => COMPLETION_WAIT,
            };
            owned.write_now || owned.dirty_since.is_some_and(|at| now.since(at) >= wait)
        };
        let is_urgent = !chosen.is_empty() || self.is_pressing() || free.iter().any(urgent);
        if !is_urgent {
            return;
        }
        let dirty = |partition: &&Partition| {
            let owned = &self.partitions[*partition];
            owned.write_now || owned.dirty_since.is_some()
        };
        chosen.extend(free.iter().filter(dirty).copied());
        if chosen.is_empty() {
            return;
        }
        let (snapshots, metadata_permille) = self.snapshots(&chosen);
        let write = self.writes.next_id();
        self.writes.last_commit_at = now;
        self.writes.commit = Some(Outstanding {
            write,
            sent_at: now,
            partitions: chosen.into_iter().collect(),
            records: 0,
            metadata_permille,
        });
        self.request(KafkaRequest::Commit(CommitRequest { write, snapshots }));
    }

    /// Chooses what starts next from these partitions; each record takes its
    /// slot now and its attempt begins when the write is acknowledged.
    fn reserve(&mut self, free: &BTreeSet<Partition>) -> BTreeSet<Partition> {
        let mut chosen = BTreeSet::new();
        if self.drain.is_some() || free.is_empty() {
            return chosen;
        }
        let now = self.now;
        if self.is_pressing() {
            return chosen;
        }
        let start_slots_max = match self.writes.are_slow() {
            true => SLOW_UNCOMMITTED_MAX - self.uncommitted(),
            false => usize::MAX,
        };
        self.start_slots.set_max(start_slots_max);
        while self.start_slots.has_free() {
            let partitions = &self.partitions;
            let eligible = |p: Position| {
                free.contains(&p.partition) && partitions[&p.partition].may_reserve(now)
            };
            let Some((lane, position)) = self.lanes.choose(eligible) else {
                return chosen;
            };
            let Position { partition, offset } = position;
            let owned = self
                .partitions
                .get_mut(&partition)
                .expect("chosen from our partitions");
            let Entry::Waiting(held) = owned
                .ledger
                .replace(offset, Entry::Listed(super::offsets::Mark::Open))
            else {
                unreachable!("L3: only what waits is reserved");
            };
            if self.tenants.callback(&held.call.tenant).is_none() {
                self.lanes.release(lane, held.record.size());
                self.skip(position);
                continue;
            }
            owned.ledger.replace(offset, Entry::Reserving(held));
            self.start_slots.take();
            owned.active += 1;
            owned
                .in_write
                .get_or_insert_default()
                .reserving
                .push(offset);
            chosen.insert(partition);
        }
        chosen
    }

    /// Deliveries that would be repeated if the process died now.
    fn uncommitted(&self) -> usize {
        self.partitions.values().map(Owned::uncommitted).sum()
    }

    /// Whether so many stand uncommitted that nothing begins.
    fn is_pressing(&self) -> bool {
        let max = match self.writes.are_slow() {
            true => SLOW_UNCOMMITTED_MAX,
            false => UNCOMMITTED_MAX,
        };
        self.uncommitted() >= max
    }

    /// The snapshots of these partitions, with the largest one's used share.
    fn snapshots(&mut self, partitions: &BTreeSet<Partition>) -> (Vec<Snapshot>, u16) {
        let mut largest = 0;
        let snapshots = partitions.iter().map(|partition| {
            let owned = self
                .partitions
                .get_mut(partition)
                .expect("chosen from our partitions");
            let in_write = owned.in_write.get_or_insert_default();
            in_write.delivered = std::mem::take(&mut owned.delivered);
            owned.dirty_since = None;
            owned.write_now = false;
            let (base, metadata) =
                owned
                    .ledger
                    .snapshot(owned.topic_id.as_ref(), owned.began, &in_write.moving);
            largest = largest.max(metadata.len());
            Snapshot {
                partition: *partition,
                base,
                metadata,
            }
        });
        let snapshots = snapshots.collect();
        let permille = largest * 1_000 / METADATA_UNITS_MAX;
        (snapshots, u16::try_from(permille).unwrap_or(1_000))
    }

    /// When the next write may be due, if nothing happens before.
    pub(super) fn next_write(&self) -> Option<UnixMillis> {
        if self.readopting {
            return None;
        }
        if let Some(at) = self.writes.refused_at {
            return Some(at.plus(REBALANCE_WAIT));
        }
        let soon = UnixMillis(self.now.0 + 1);
        let mut next: Option<UnixMillis> = None;
        let mut consider = |at: UnixMillis| {
            let at = at.max(soon);
            next = Some(next.map_or(at, |n| n.min(at)));
        };
        let free = self.partitions.values().filter(|owned| owned.may_write());
        if self.writes.commit.is_none() {
            let not_before = self
                .writes
                .last_commit_at
                .plus(self.settings.commit_interval);
            if self.lanes.has_turns() && !self.writes.idle && self.drain.is_none() {
                consider(not_before);
            }
            if let Some(at) = self.lanes.next_pause_end() {
                consider(at);
            }
            if let Some(at) = self
                .start_slots
                .next_expiry(self.now)
                .filter(|_| self.lanes.has_turns())
            {
                consider(at.max(not_before));
            }
            let pressing = self.is_pressing();
            for owned in free.clone() {
                if self.lanes.has_turns()
                    && let Some(ramp_up) = &owned.ramp_up
                {
                    consider(ramp_up.next(self.now).max(not_before));
                }
                if owned.write_now || (pressing && owned.dirty_since.is_some()) {
                    consider(not_before);
                } else if let Some(at) = owned.dirty_since {
                    consider(not_before.max(at.plus(COMPLETION_WAIT)));
                }
            }
        }
        if self.writes.moving.is_none() && !self.is_overdue_in_commit() {
            for at in free.filter_map(move_due_at) {
                consider(at.max(self.writes.move_not_before));
            }
        }
        next
    }
}

impl Owned {
    /// Whether a write for this partition may be sent now.
    fn may_write(&self) -> bool {
        let phase = matches!(self.phase, Phase::Running | Phase::Leaving);
        phase && self.in_write.is_none()
    }

    /// Whether its moves have waited too long.
    fn is_overdue(&self, now: UnixMillis) -> bool {
        self.moves_by.is_some_and(|by| now >= by.overdue)
    }
}

/// By when a record is moved. Diverts wait for the end of a span of time that
/// is the same for all partitions.
pub(super) fn move_by(verdict: Verdict, now: UnixMillis) -> MoveBy {
    let (wait, due) = match verdict {
        Verdict::Divert(delay) => {
            let span = (delay.duration() / 2).clamp(MOVE_WAIT, DIVERT_WAIT);
            let span_ms = span.as_millis() as i64;
            let end = (now.0.div_euclid(span_ms) + 1) * span_ms;
            (span, UnixMillis(end))
        }
        Verdict::Delay(_) | Verdict::DeadLetter(_) => (MOVE_WAIT, now.plus(MOVE_WAIT)),
    };
    let overdue = due.plus(wait * OVERDUE_WAITS);
    MoveBy { due, overdue }
}

/// When the partition's waiting moves are due, if it has any.
fn move_due_at(owned: &Owned) -> Option<UnixMillis> {
    let by = owned.moves_by.filter(|_| !owned.moves.is_empty())?;
    Some(match owned.phase {
        Phase::Leaving => UnixMillis(0),
        _ => by.due,
    })
}

/// The record as it is written to its next residence.
fn moved_record(moving: &Moving) -> MovedRecord {
    let Moving {
        record,
        history,
        verdict,
        ..
    } = moving;
    let mut headers = history.write(&record.headers);
    let mut value = record.value.clone();
    if let Verdict::DeadLetter(reason) = *verdict {
        let cut_from = match (&value, reason) {
            (Some(bytes), DeadLetterReason::TooLarge) if bytes.len() > CUT_BYTES => {
                Some(bytes.len())
            }
            _ => None,
        };
        headers::write_dead_letter(&mut headers, reason, cut_from);
        if cut_from.is_some() {
            value = value.map(|bytes: Bytes| bytes.slice(..CUT_BYTES));
        }
    }
    MovedRecord {
        from: record.position,
        to: verdict.topic(),
        key: record.key.clone(),
        value,
        headers,
    }
}
