//! Attempts: starts them, and decides what follows when they end. Remembers
//! outcomes whose partition was dropped before they were committed. Never sends
//! anything itself. Runs on the runner's thread.

use super::Core;
use super::event::Action;
use super::fairness::{Failure, LaneId, Round};
use super::keep::Keep;
use super::ledger::{Entry, PendingMove, PendingRecord};
use super::map::Mark;
use super::partition::{Delivered, PartitionState};
use super::verdict::{self, Verdict};
use crate::model::attempt::{AttemptResult, Outcome};
use crate::model::call::RecordId;
use crate::model::disposition::Disposition;
use crate::model::fact::{Fact, Latency};
use crate::model::headers::{History, traceparent};
use crate::model::message::{AttemptRequest, Isolation};
use crate::model::position::{Generation, Position};
use crate::model::record::Record;
use crate::model::tenant::{Tenant, TenantId};
use crate::model::time::{Delay, UnixMillis};
use std::sync::Arc;
use std::time::Duration;

/// How long outcomes of records that were not read again are remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// At most this number of attempts of a slot end in that time, with one re-adoption
/// after another.
const REMEMBERED_PER_SLOT: usize = 4;

/// An attempt in progress.
pub struct Running {
    pub lane: LaneId,
    /// The record's size, by which its slots are counted.
    bytes: usize,
    round: Round,
    tenant: TenantId,
    pub record: RecordId,
    origin: String,
    attempt: u8,
    published_at: UnixMillis,
    first: bool,
    holds_start_slot: bool,
    /// The assignment of the partition that reserved the record.
    generation: Generation,
}

/// The outcome of an attempt whose reservation Kafka may still return.
pub struct RememberedOutcome {
    /// In a topic that was created again, another record may have this position.
    pub record: RecordId,
    pub result: AttemptResult,
    /// The disposition of the record, if it was reported already.
    pub reported: Option<Disposition>,
    at: UnixMillis,
}

impl Core {
    pub(super) fn start_attempt(
        &mut self,
        state: &mut PartitionState,
        pending: Box<PendingRecord>,
        tenant: Arc<Tenant>,
        start_by: UnixMillis,
    ) {
        let position = pending.record.position;
        let attempt = pending.history.attempts_made + 1;
        assert!(
            attempt <= self.settings.attempts,
            "L3: no attempt after the last"
        );
        assert!(
            pending.due.is_none_or(|due| self.was_due(due)),
            "L4: no attempt before it is due"
        );
        assert!(
            self.attempts.len() < self.settings.in_flight_max,
            "L5: attempts in flight"
        );
        if let (Some(due), Some(delay)) = (pending.due, position.partition.topic.delay()) {
            self.report(Fact::DelayedAttemptStarted {
                delay,
                lateness: self.wall().since(due),
            });
        }
        let running = Running {
            lane: pending.lane,
            bytes: pending.record.size(),
            round: self.lanes.round(pending.lane),
            tenant: pending.call.tenant.clone(),
            record: pending.call.id.clone(),
            origin: pending.history.origin.clone(),
            attempt,
            published_at: pending.history.published_at,
            first: pending.history.attempts_made == 0,
            holds_start_slot: true,
            generation: state.generation,
        };
        let request = AttemptRequest {
            position,
            tenant,
            call: pending.call.clone(),
            value: pending.record.value.clone().unwrap_or_default(),
            attempt,
            start_by,
            traceparent: traceparent(&pending.record.headers),
            isolation: match self.lanes.answers(pending.lane) {
                true => Isolation::Shared,
                false => Isolation::Isolated,
            },
        };
        self.lanes.attempt_starts(pending.lane);
        self.start_slots.take();
        self.start_slots.started(position, self.now);
        let before = self.attempts.insert(position, running);
        assert!(before.is_none(), "L3: one residence, one send");
        let entry = Entry::InFlight(pending);
        state.ledger.replace(position.offset, entry);
        self.act(Action::StartAttempt(request));
    }

    /// An attempt ended. `state` is its partition's, if it is assigned.
    pub(super) fn on_attempt_finished(
        &mut self,
        state: Option<&mut PartitionState>,
        position: Position,
        result: AttemptResult,
    ) {
        let Some(mut running) = self.end_running(position) else {
            return;
        };
        self.count_outcome(&running, &result);
        self.report_end(&mut running, position, &result);
        let Some((state, pending)) = self.take_in_flight(state, position) else {
            self.note_failure(&running, position, &result.outcome, Duration::ZERO);
            self.remember(position, running.record, result, None);
            return;
        };
        state.end_attempt(self.now);
        if matches!(result.outcome, Outcome::Delivered { .. }) {
            self.complete(state, position, pending.call.id, result);
            self.dispose(Disposition::Delivered, position);
            return;
        }
        let verdict = self.charge_pending(state, *pending, Some(result.clone()));
        let delay = verdict.topic().delay();
        let wait = delay.map_or(Duration::ZERO, Delay::duration);
        self.note_failure(&running, position, &result.outcome, wait);
    }

    /// Counts an outcome for the tenant's limit. A fault of the sender says
    /// nothing of the tenant.
    fn count_outcome(&mut self, running: &Running, result: &AttemptResult) {
        let now = self.now;
        let delivered = match &result.outcome {
            Outcome::Delivered { .. } => {
                let took = result.duration;
                self.lanes.delivered(running.lane, running.round, took, now);
                self.failing
                    .delivered(&running.tenant, running.first, self.wall());
                true
            }
            Outcome::Failed { class, .. } if class.is_senders() => {
                self.lanes.ended(running.lane, now);
                return;
            }
            Outcome::Failed { class, .. } => {
                let failure = (*class, result.duration);
                self.lanes.failed(running.lane, running.round, failure, now);
                false
            }
        };
        if running.first {
            self.lanes.first_attempt(running.lane, delivered, now);
        }
    }

    fn report_end(&mut self, running: &mut Running, position: Position, result: &AttemptResult) {
        let delivered = matches!(result.outcome, Outcome::Delivered { .. });
        let ended_at = result.started_at.plus(result.duration);
        let first_wait = Latency::between(running.published_at, result.started_at);
        self.report(Fact::AttemptEnded {
            tenant: running.tenant.clone(),
            record: running.record.clone(),
            position,
            origin: std::mem::take(&mut running.origin),
            attempt: running.attempt,
            first_attempt_latency: running.first.then_some(first_wait),
            delivery_latency: delivered.then(|| Latency::between(running.published_at, ended_at)),
            ended: result.clone(),
        });
    }

    /// Notes a failed attempt for operators; its record waits this long next.
    fn note_failure(
        &mut self,
        running: &Running,
        position: Position,
        outcome: &Outcome,
        wait: Duration,
    ) {
        if let Outcome::Failed {
            class,
            status,
            detail,
            ..
        } = outcome
            && !class.is_senders()
        {
            let failure = Failure {
                class: *class,
                status: *status,
                detail,
                partition: position.partition,
                first: running.first,
                wait,
            };
            let now = self.wall();
            self.failing.failed(&running.tenant, now, failure);
        }
    }

    /// Releases the slots of an attempt.
    fn end_running(&mut self, position: Position) -> Option<Running> {
        let running = self.attempts.remove(&position)?;
        self.lanes.attempt_ended(running.lane);
        self.lanes.release(running.lane, running.bytes);
        if running.holds_start_slot {
            self.start_slots.release();
        }
        Some(running)
    }

    /// Releases the start slots of attempts that last.
    pub(super) fn expire_start_slots(&mut self) {
        while let Some(position) = self.start_slots.pop_expired(self.now) {
            if let Some(running) = self.attempts.get_mut(&position)
                && std::mem::take(&mut running.holds_start_slot)
            {
                self.start_slots.release();
            }
        }
    }

    /// The lease ran out before the attempt could start: the record is reserved again.
    /// Where its partition was assigned again since the reservation, another replica
    /// may have sent it from here meanwhile. Then it is charged as in doubt.
    pub(super) fn on_attempt_expired(
        &mut self,
        state: Option<&mut PartitionState>,
        position: Position,
    ) {
        let Some(running) = self.end_running(position) else {
            return;
        };
        let Some((state, pending)) = self.take_in_flight(state, position) else {
            return;
        };
        if state.generation == running.generation {
            self.not_started(state, pending);
            state.touch(self.now);
        } else {
            state.end_attempt(self.now);
            self.charge_pending(state, *pending, None);
        }
    }

    /// Charges one attempt to a record in hand, as [`Core::charge`].
    fn charge_pending(
        &mut self,
        state: &mut PartitionState,
        pending: PendingRecord,
        result: Option<AttemptResult>,
    ) -> Verdict {
        let (record, id) = (pending.record, pending.call.id);
        self.charge(state, record, Some(id), pending.history, result)
    }

    /// Charges one attempt to a reserved record and moves it. Without the result of
    /// that attempt, it is charged as in doubt.
    pub(super) fn charge(
        &mut self,
        state: &mut PartitionState,
        record: Record,
        id: Option<RecordId>,
        mut history: History,
        result: Option<AttemptResult>,
    ) -> Verdict {
        let now = self.wall();
        let verdict = match &result {
            Some(result) => verdict::failed(&self.schedule, &mut history, result, now),
            None => {
                let position = record.position;
                self.report(Fact::InDoubt { position });
                verdict::in_doubt(&self.schedule, &mut history, now)
            }
        };
        let moving = PendingMove {
            record,
            id,
            history,
            verdict,
            keep: Keep::of(verdict),
            mark: Mark::Reserved,
            result,
        };
        self.queue_move(state, moving);
        verdict
    }

    /// Takes the record of an attempt that ended or did not start, if its partition
    /// is still under the assignment that chose it (L8).
    fn take_in_flight<'a>(
        &self,
        state: Option<&'a mut PartitionState>,
        position: Position,
    ) -> Option<(&'a mut PartitionState, Box<PendingRecord>)> {
        let state = state?;
        let entry = state.ledger.entry(position.offset)?;
        if !matches!(entry, Entry::InFlight(_)) {
            return None;
        }
        let taken = std::mem::replace(entry, Entry::Listed(Mark::Reserved));
        match taken {
            Entry::InFlight(pending) => Some((state, pending)),
            _ => unreachable!("matched just above"),
        }
    }

    /// Finishes a delivered record.
    pub(super) fn complete(
        &mut self,
        state: &mut PartitionState,
        position: Position,
        record: RecordId,
        result: AttemptResult,
    ) {
        self.writes.pace.delivered();
        state.ledger.finish(position.offset);
        state.delivered.push(Delivered {
            offset: position.offset,
            record,
            result,
        });
        state.touch(self.now);
    }

    /// Remembers an outcome until its record is read again.
    pub(super) fn remember(
        &mut self,
        position: Position,
        record: RecordId,
        result: AttemptResult,
        reported: Option<Disposition>,
    ) {
        let (max, at) = (REMEMBERED_PER_SLOT * self.settings.in_flight_max, self.now);
        if self.remembered.len() >= max {
            self.remembered
                .retain(|_, remembered| at.since(remembered.at) < REMEMBERED_FOR);
        }
        if self.remembered.len() < max {
            let remembered = RememberedOutcome {
                record,
                result,
                reported,
                at,
            };
            self.remembered.insert(position, remembered);
        }
    }
}
