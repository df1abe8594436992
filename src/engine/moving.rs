//! Moves: transactions that write records to their next residences and complete
//! the old ones. One transaction is outstanding at a time. Never decides where a
//! record goes; `verdict` does. Runs on the runner's thread.
//!
//! Arithmetic: a transaction takes some 11 ms and delays the healthy records of its
//! partitions for that long. So the number of transactions per second of each
//! partition counts. Failed attempts wait [`MOVE_WAIT`] for others. Diverts come
//! by the hundred for one overloaded tenant. They wait half of the delay they go
//! to, up to [`DIVERT_WAIT`], and all partitions go at once. 1 of 250 healthy
//! records then meets a transaction of 20 ms. With [`MOVE_WAIT`] it would be every
//! second one. 450 diverts/s are five transactions.

use super::keep::Keep;
use super::ledger::{Entry, PendingMove};
use super::partition::{MOVE_BYTES_MAX, MOVE_RECORDS_MAX, MoveBy, PartitionState};
use super::reservation::Idle;
use super::verdict::Verdict;
use super::write_set::WriteSet;
use super::{Core, Engine};
use crate::model::destination::{RefusalReason, Refusals};
use crate::model::disposition::DeadLetterReason;
use crate::model::fact::Fact;
use crate::model::headers;
use crate::model::message::{Appended, KafkaRequest, MovePurpose, MoveRequest, WriteId};
use crate::model::position::{Offset, Partition, Topic};
use crate::model::record::MovedRecord;
use crate::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

/// Moves wait this long for others.
const MOVE_WAIT: Duration = Duration::from_millis(20);
/// Diverts wait at most this long for others.
const DIVERT_WAIT: Duration = Duration::from_secs(5);
/// A move is overdue once it is late by this many times its waiting time. As soon
/// as a transaction may start, its partition is left out of plain commits, so that
/// the transaction finds it free. Not while another transaction runs: some 100
/// deliveries stood uncommitted in partitions that waited for one of 300 ms.
const OVERDUE_WAITS: u32 = 2;
/// With this many pending moves, none waits longer.
const MOVES_PENDING_MAX: usize = 4 * MOVE_RECORDS_MAX;
/// After a transaction, for a quarter of its time within these bounds, none starts.
/// Attempts that it reserved end meanwhile, and are committed before the next one
/// holds their partition. Otherwise all of them stay uncommitted during the next one.
/// Measured: 164 POSTs after a success for one kill -9 while transactions took
/// 300 ms.
const MOVE_GAP_MIN: Duration = Duration::from_millis(10);
const MOVE_GAP_MAX: Duration = Duration::from_millis(250);
/// The same after an aborted transaction.
const MOVE_RETRY: Duration = Duration::from_millis(100);
/// The same after an aborted probe that told nothing about its destination.
const PROBE_RETRY: Duration = Duration::from_secs(1);

impl Engine {
    /// Counts the bytes of the records that are to be moved. An idle partition has none.
    pub(super) fn count_moving(&mut self) {
        let bytes = self.partitions.active().map(|s| s.ledger.moving_bytes());
        self.core.moving_bytes = bytes.sum();
    }

    pub(super) fn plan_move(&mut self) {
        let now = self.core.now;
        if !self.core.may_move() || self.is_overdue_in_commit() || self.plan_probe() {
            return;
        }
        let moves = self.partitions.active().map(|state| state.moves.len());
        let pending: usize = moves.sum();
        let Self { partitions, core } = self;
        let free = partitions.active_mut().filter(|state| state.may_write());
        let mut due: Vec<_> = free
            .filter_map(|state| Some((state.move_due_at()?, state)))
            .collect();
        due.sort_unstable_by_key(|(at, state)| (*at, state.id));
        let together = match due.first() {
            Some(_) if pending >= MOVES_PENDING_MAX => UnixMillis(i64::MAX),
            Some((first, _)) if *first <= now => now.plus(MOVE_WAIT),
            _ => return,
        };
        due.retain(|(at, _)| *at <= together);
        let mut write = WriteSet::default();
        let records = core.take_moves(&mut write, due.into_iter().map(|(_, state)| state));
        let taken = write.partitions().clone();
        self.reserve(&mut write, &taken, Idle::Excluded);
        self.send_move(records, &taken, None);
    }

    /// Moves one record to a destination that refused records, if a probe is due.
    /// It reserves nothing, so that a refusal delays no attempt.
    fn plan_probe(&mut self) -> bool {
        let Some(record) = self.take_probe() else {
            return false;
        };
        let (topic, taken) = (record.to, BTreeSet::from([record.from.partition]));
        self.send_move(vec![record], &taken, Some(topic));
        true
    }

    fn send_move(
        &mut self,
        records: Vec<MovedRecord>,
        taken: &BTreeSet<Partition>,
        probe: Option<Topic>,
    ) {
        let (sent, snapshots) = self.start_write(taken, records.len(), probe);
        let (core, write) = (&mut self.core, sent.write);
        core.writes.moving = Some(sent);
        let generation = core.generation;
        core.request(KafkaRequest::Move(MoveRequest {
            write,
            generation,
            purpose: match probe {
                Some(_) => MovePurpose::Probe,
                None => MovePurpose::Move,
            },
            records,
            snapshots,
        }));
    }

    /// Whether the outstanding commit holds a partition with overdue moves.
    pub(super) fn is_overdue_in_commit(&self) -> bool {
        self.core.writes.commit.as_ref().is_some_and(|commit| {
            let mut held = self.partitions.active().filter(|s| s.is_in(commit.write));
            held.any(|state| state.is_overdue(self.core.now))
        })
    }

    pub(super) fn on_moved(&mut self, write: WriteId, took: Duration, appended: Option<Appended>) {
        let core = &mut self.core;
        let Some(done) = core.writes.moving.take_if(|o| o.write == write) else {
            return;
        };
        let gap = (took / 4).clamp(MOVE_GAP_MIN, MOVE_GAP_MAX);
        core.writes.move_not_before = core.now.plus(gap);
        core.writes.pace.move_took = took;
        core.report(Fact::MovesWritten {
            records: done.records,
            took,
        });
        if let Some(Appended { at, ago }) = appended {
            let ms = core.wall().minus(ago).0 - at.0;
            core.report(Fact::ClockSkew { ms });
        }
        self.acknowledge(&done);
        if let Some(topic) = done.probe {
            self.on_probe_accepted(topic);
        }
    }

    /// Decides a refused transaction again. Where destinations refused it, its
    /// other records go on at once.
    pub(super) fn on_move_refused(&mut self, write: WriteId, destinations: &Refusals) {
        let core = &mut self.core;
        let Some(refused) = core.writes.moving.take_if(|o| o.write == write) else {
            return;
        };
        if destinations.is_empty() {
            core.writes.move_not_before = core.now.plus(MOVE_RETRY);
        }
        self.undo(write);
        self.on_refusals(destinations);
        if let Some(topic) = refused.probe.filter(|_| destinations.is_empty()) {
            self.probe_again(topic, self.core.now.plus(PROBE_RETRY));
        }
    }

    /// Moves the records one by one after a transaction was too large. A record
    /// that is too large alone becomes a dead letter, and is cut until it fits. If
    /// even the shortest is refused, the dead-letter topic refuses records.
    pub(super) fn on_move_too_large(&mut self, write: WriteId) {
        let moving = &mut self.core.writes.moving;
        let Some(refused) = moving.take_if(|o| o.write == write) else {
            return;
        };
        if refused.records > 1 {
            self.core.writes.alone = refused.records;
            self.undo(write);
            return;
        }
        let Self { partitions, core } = self;
        let mut states = partitions.active_mut();
        let fits = states.all(|state| !state.is_in(write) || core.shorten(state));
        drop(states);
        self.undo(write);
        if let Some(topic) = refused.probe {
            self.probe_again(topic, self.core.now);
        }
        if self.core.must_hold(Topic::DeadLetter) {
            self.hold(Topic::DeadLetter);
        }
        if !fits {
            self.on_refused(Topic::DeadLetter, RefusalReason::TooLarge);
        }
    }
}

impl Core {
    /// Queues a record for the next transaction.
    pub(super) fn queue_move(&mut self, state: &mut PartitionState, moving: PendingMove) {
        let offset = moving.record.position.offset;
        let topic = moving.verdict.topic();
        let by = move_by(moving.verdict, self.now);
        let bytes = moving.record.size();
        let entry = Entry::Moving(Box::new(moving));
        state.ledger.put(offset, entry);
        self.moving_bytes += bytes;
        if self.must_hold(topic) {
            state.held.entry(topic).or_default().push_back(offset);
        } else {
            state.queue_move(offset, bytes, by, self.now);
        }
    }

    /// Takes the records of one transaction from these partitions' queues.
    fn take_moves<'a>(
        &mut self,
        write: &mut WriteSet,
        due: impl Iterator<Item = &'a mut PartitionState>,
    ) -> Vec<MovedRecord> {
        let records_max = match self.writes.alone {
            0 => MOVE_RECORDS_MAX,
            _ => 1,
        };
        self.writes.alone = self.writes.alone.saturating_sub(1);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for state in due {
            if records.len() >= records_max || bytes >= MOVE_BYTES_MAX || !write.has_capacity() {
                break;
            }
            write.add(state);
            while records.len() < records_max && bytes < MOVE_BYTES_MAX {
                let Some(offset) = state.moves.pop_front() else {
                    break;
                };
                let (record, size) = state.start_move(offset);
                records.push(record);
                bytes += size;
                state.moves_bytes = state.moves_bytes.saturating_sub(size);
            }
            state.moves_taken();
            if let Some(in_write) = &mut state.in_write {
                in_write.moving.sort_unstable();
            }
        }
        records
    }

    /// Whether a transaction may start.
    pub(super) fn may_move(&self) -> bool {
        self.writes.moving.is_none() && self.now >= self.writes.move_not_before
    }

    /// A move was committed: the record is finished here.
    pub(super) fn finish_move(&mut self, state: &mut PartitionState, offset: Offset) {
        let position = state.id.at(offset);
        let Some(Entry::Moving(moving)) = state.ledger.finish(offset) else {
            unreachable!("L1: a record in a transaction stays in hand until the answer");
        };
        if let Verdict::DeadLetter(reason) = moving.verdict {
            self.report(Fact::DeadLettered {
                reason,
                position,
                record: moving.id,
            });
        }
        self.dispose(moving.verdict.disposition(), position);
    }

    /// Shortens the record in a transaction, or makes a dead letter of it. Returns
    /// whether it was not the shortest already.
    fn shorten(&mut self, state: &mut PartitionState) -> bool {
        let offset = state.in_write.as_ref().and_then(|w| w.moving.first());
        let entry = offset.and_then(|offset| state.ledger.entry(*offset));
        let Some(Entry::Moving(moving)) = entry else {
            return true;
        };
        let shorter = match moving.verdict {
            Verdict::DeadLetter(_) => moving.keep.shorter(),
            Verdict::Delay(_) | Verdict::Divert(_) => {
                moving.verdict = Verdict::DeadLetter(DeadLetterReason::TooLarge);
                Some(Keep::of(moving.verdict))
            }
        };
        if let Some(keep) = shorter {
            moving.keep = keep;
            self.writes.alone = self.writes.alone.max(1);
        }
        shorter.is_some()
    }
}

impl PartitionState {
    /// Takes a move into the next write. Returns the record as it is written to its
    /// next residence, and its size here.
    pub(super) fn start_move(&mut self, offset: Offset) -> (MovedRecord, usize) {
        let Some(Entry::Moving(moving)) = self.ledger.entry(offset) else {
            unreachable!("L1: a pending move is unfinished and in hand");
        };
        let in_write = self.in_write.get_or_insert_default();
        in_write.moving.push(offset);
        (moved_record(moving), moving.record.size())
    }
}

/// Returns when a record is to be moved. Diverts wait for the end of an interval
/// that is the same for all partitions.
fn move_by(verdict: Verdict, now: UnixMillis) -> MoveBy {
    let (wait, due) = match verdict {
        Verdict::Divert(delay) => {
            let interval = (delay.duration() / 2).clamp(MOVE_WAIT, DIVERT_WAIT);
            let interval_ms = interval.as_millis() as i64;
            let end = (now.0.div_euclid(interval_ms) + 1) * interval_ms;
            (interval, UnixMillis(end))
        }
        Verdict::Delay(_) | Verdict::DeadLetter(_) => (MOVE_WAIT, now.plus(MOVE_WAIT)),
    };
    let overdue = due.plus(wait * OVERDUE_WAITS);
    MoveBy { due, overdue }
}

/// Returns the record as it is written to its next residence.
fn moved_record(moving: &PendingMove) -> MovedRecord {
    let PendingMove {
        record,
        history,
        verdict,
        ..
    } = moving;
    let kept = moving.keep.apply(record);
    let mut headers = history.write(&kept.headers);
    if let Verdict::DeadLetter(reason) = *verdict {
        headers::write_dead_letter(&mut headers, reason, kept.cut);
    }
    MovedRecord {
        from: record.position,
        to: verdict.topic(),
        key: kept.key,
        value: kept.value,
        headers,
    }
}
