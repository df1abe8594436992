//! What Kafka answers to writes, and what follows for the records in them: a
//! reservation granted, a move done, or all as it was before.

use super::event::Action;
use super::ledger::{Entry, Held};
use super::offsets::Mark;
use super::owned::{InWrite, Phase};
use super::verdict::Verdict;
use super::writes::{LEASE, Outstanding};
use super::{Engine, Running};
use crate::model::disposition::DeadLetterReason;
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::headers::traceparent;
use crate::model::message::{AttemptRequest, Isolation, WriteId};
use crate::model::position::{Partition, Position};
use crate::model::tenant::Tenant;
use crate::model::time::UnixMillis;
use std::sync::Arc;
use std::time::Duration;

/// A commit that took longer may have been sent twice, and the older request
/// may land after a newer one.
const COMMIT_SURE: Duration = Duration::from_secs(1);
/// After a transaction, for a quarter of its time within these bounds, none
/// begins: attempts that it granted end meanwhile, and are committed before
/// their partition is held by the next one. Otherwise all of them would stand
/// uncommitted for the whole of that (measured: 164 POSTs after a success for
/// one kill -9 while transactions took 300 ms).
const MOVE_GAP_MIN: Duration = Duration::from_millis(10);
const MOVE_GAP_MAX: Duration = Duration::from_millis(250);
/// After an aborted transaction.
const MOVE_RETRY: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) fn on_committed(&mut self, write: WriteId, took: Duration) {
        let Some(done) = self.writes.commit.take_if(|o| o.write == write) else {
            return;
        };
        if took > COMMIT_SURE {
            self.readopt(ReadoptReason::CommitUnsure);
            return;
        }
        self.writes.commit_took = took;
        self.report(Fact::Committed {
            took,
            metadata_permille: done.metadata_permille,
        });
        for partition in done.partitions {
            self.written(partition, done.sent_at);
        }
    }

    pub(super) fn on_moved(&mut self, write: WriteId, took: Duration) {
        let Some(done) = self.writes.moving.take_if(|o| o.write == write) else {
            return;
        };
        let gap = (took / 4).clamp(MOVE_GAP_MIN, MOVE_GAP_MAX);
        self.writes.move_not_before = self.now.plus(gap);
        self.writes.move_took = took;
        self.report(Fact::MovesWritten {
            records: done.records,
            took,
        });
        for partition in done.partitions {
            self.written(partition, done.sent_at);
        }
    }

    /// A partition's snapshot is durable: what it says is so.
    fn written(&mut self, partition: Partition, sent_at: UnixMillis) {
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return;
        };
        owned.progress();
        let InWrite {
            moving, reserving, ..
        } = owned.in_write.take().unwrap_or_default();
        for offset in moving {
            self.finish_move(Position { partition, offset });
        }
        for offset in reserving {
            self.granted(Position { partition, offset }, sent_at);
        }
    }

    fn finish_move(&mut self, position: Position) {
        let owned = self
            .partitions
            .get_mut(&position.partition)
            .expect("a written partition is ours");
        let Some(Entry::Moving(moving)) = owned.ledger.finish(position.offset) else {
            unreachable!("L1: what a transaction moved stayed in hand until it was done");
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

    /// A reservation holds: the attempt starts, or why it does not is settled.
    fn granted(&mut self, position: Position, sent_at: UnixMillis) {
        let now = self.now;
        let Position { partition, offset } = position;
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("a written partition is ours");
        let running = owned.phase == Phase::Running;
        let placeholder = Entry::Listed(Mark::Open);
        let Entry::Reserving(held) = owned.ledger.replace(offset, placeholder) else {
            unreachable!("L3: what was being reserved stayed so until the answer");
        };
        let start_by = sent_at.plus(LEASE);
        self.start_slots.release();
        if !running || self.drain.is_some() {
            // Certainly not sent: the last snapshot takes the mark back.
            owned.active -= 1;
            owned.touch(now);
            self.lanes.release(held.lane, held.record.size());
        } else if now > start_by {
            owned.active -= 1;
            self.lanes.release(held.lane, held.record.size());
            self.move_in_doubt(*held);
        } else if let Some(tenant) = self.tenants.callback(&held.call.tenant).cloned() {
            self.start(position, held, tenant, start_by);
        } else {
            owned.active -= 1;
            self.lanes.release(held.lane, held.record.size());
            self.skip(position);
        }
    }

    fn start(
        &mut self,
        position: Position,
        held: Box<Held>,
        tenant: Arc<Tenant>,
        start_by: UnixMillis,
    ) {
        let attempt = held.history.attempts_made + 1;
        assert!(
            attempt <= self.settings.attempts,
            "L3: no attempt after the last"
        );
        assert!(
            held.due.is_none_or(|due| due <= self.now),
            "L4: no attempt before it is due"
        );
        assert!(
            self.attempts.len() < self.settings.in_flight_max,
            "L5: attempts in flight"
        );
        if let (Some(due), Some(delay)) = (held.due, position.partition.topic.delay()) {
            self.report(Fact::DelayedAttemptStarted {
                delay,
                lateness: self.now.since(due),
            });
        }
        let running = Running {
            lane: held.lane,
            bytes: held.record.size(),
            round: self.lanes.round(held.lane),
            tenant: held.call.tenant.clone(),
            record: held.call.id.clone(),
            attempt,
            published_at: held.history.published_at,
            first: held.history.attempts_made == 0,
            holds_start_slot: true,
        };
        let order = AttemptRequest {
            position,
            tenant,
            call: held.call.clone(),
            value: held.record.value.clone().unwrap_or_default(),
            attempt,
            start_by,
            traceparent: traceparent(&held.record.headers),
            isolation: match self.lanes.answers(held.lane) {
                true => Isolation::Shared,
                false => Isolation::Isolated,
            },
        };
        self.start_slots.take();
        self.start_slots.started(position, self.now);
        let before = self.attempts.insert(position, running);
        assert!(before.is_none(), "L3: one residence, one send");
        let owned = self
            .partitions
            .get_mut(&position.partition)
            .expect("a written partition is ours");
        owned.ledger.replace(position.offset, Entry::InFlight(held));
        self.act(Action::StartAttempt(order));
    }

    pub(super) fn on_commit_refused(&mut self, write: WriteId) {
        let Some(refused) = self.writes.commit.take_if(|o| o.write == write) else {
            return;
        };
        self.writes.refused_at = Some(self.now);
        self.undo(&refused);
    }

    pub(super) fn on_move_refused(&mut self, write: WriteId) {
        let Some(refused) = self.writes.moving.take_if(|o| o.write == write) else {
            return;
        };
        self.writes.move_not_before = self.now.plus(MOVE_RETRY);
        self.undo(&refused);
    }

    /// Tries record by record; the one that is too large alone becomes a dead
    /// letter, and where even that is refused its partition stops.
    pub(super) fn on_move_too_large(&mut self, write: WriteId) {
        let Some(refused) = self.writes.moving.take_if(|o| o.write == write) else {
            return;
        };
        self.undo(&refused);
        if refused.records > 1 {
            self.writes.alone = refused.records;
            return;
        }
        let [partition] = refused.partitions[..] else {
            return;
        };
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("a write's partition is ours until its answer");
        let Some(offset) = owned.moves.front().copied() else {
            return;
        };
        let Some(Entry::Moving(moving)) = owned.ledger.entry(offset) else {
            return;
        };
        let too_large = Verdict::DeadLetter(DeadLetterReason::TooLarge);
        if moving.verdict == too_large {
            let why = "the dead-letter topic refuses a record for its size";
            owned.phase = Phase::Stopped(why);
            self.lanes.remove_partition(partition);
            self.report(Fact::PartitionStopped { partition, why });
        } else {
            moving.verdict = too_large;
            self.writes.alone = self.writes.alone.max(1);
        }
    }

    pub(super) fn on_write_unsure(&mut self, write: WriteId) {
        let is = |outstanding: &Option<Outstanding>| {
            outstanding.as_ref().is_some_and(|o| o.write == write)
        };
        if is(&self.writes.commit) {
            self.readopt(ReadoptReason::CommitUnsure);
        } else if is(&self.writes.moving) {
            self.readopt(ReadoptReason::MoveUnsure);
        }
    }

    /// Nothing of this write counts: all as before it, but for what is known.
    fn undo(&mut self, refused: &Outstanding) {
        let now = self.now;
        self.report(Fact::WriteRefused);
        for partition in &refused.partitions {
            let Some(owned) = self.partitions.get_mut(partition) else {
                continue;
            };
            let InWrite {
                mut delivered,
                moving,
                reserving,
            } = owned.in_write.take().unwrap_or_default();
            delivered.append(&mut owned.delivered);
            owned.delivered = delivered;
            owned.touch(now);
            for offset in moving.into_iter().rev() {
                let entry = owned.ledger.entry(offset);
                let bytes = entry.map_or(0, |entry| entry.moving_bytes());
                owned.requeue_move(offset, bytes, now);
            }
            for offset in reserving.into_iter().rev() {
                self.unreserve(Position {
                    partition: *partition,
                    offset,
                });
            }
        }
    }

    fn unreserve(&mut self, position: Position) {
        let owned = self
            .partitions
            .get_mut(&position.partition)
            .expect("looked up by undo");
        let placeholder = Entry::Listed(Mark::Open);
        let Entry::Reserving(held) = owned.ledger.replace(position.offset, placeholder) else {
            unreachable!("L3: what was being reserved stayed so until the answer");
        };
        owned.active -= 1;
        self.start_slots.release();
        if owned.phase == Phase::Running {
            self.lanes.put_back(held.lane, position, held.record.size());
            owned.ledger.replace(position.offset, Entry::Waiting(held));
        } else {
            self.lanes.release(held.lane, held.record.size());
        }
    }
}
