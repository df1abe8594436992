//! How attempts end, and what is remembered of those whose record is no longer
//! in hand.

use super::fairness::Failure;
use super::ledger::{Entry, Held, Moving};
use super::offsets::Mark;
use super::{Engine, Known, Running};
use crate::model::attempt::{AttemptResult, Outcome};
use crate::model::call::RecordId;
use crate::model::disposition::Disposition;
use crate::model::fact::Fact;
use crate::model::position::Position;
use crate::model::tenant::TenantId;
use crate::model::time::Delay;
use std::time::Duration;

/// How long outcomes are kept whose records have not been read again, and how
/// many for each slot: at most so many attempts end in that time with one
/// re-adoption after another.
const KNOWN_FOR: Duration = Duration::from_secs(60);
const KNOWN_PER_SLOT: usize = 4;

impl Engine {
    pub(super) fn on_attempt_finished(&mut self, position: Position, ended: AttemptResult) {
        let now = self.now;
        let Some(running) = self.end_running(position) else {
            return;
        };
        let delivered = matches!(ended.outcome, Outcome::Delivered { .. });
        match &ended.outcome {
            Outcome::Delivered { .. } => {
                self.lanes.delivered(running.lane, running.round, now);
                self.failing.delivered(&running.tenant);
            }
            Outcome::Failed { class, .. } => {
                let failure = (*class, ended.duration);
                self.lanes.failed(running.lane, running.round, failure, now);
            }
        }
        if running.first {
            self.lanes.first_attempt(running.lane, delivered, now);
        }
        let ended_at = ended.started_at.plus(ended.duration);
        self.report(Fact::AttemptEnded {
            tenant: running.tenant.clone(),
            record: running.record.clone(),
            position,
            attempt: running.attempt,
            first_attempt_latency: running
                .first
                .then(|| ended.started_at.since(running.published_at)),
            delivery_latency: delivered.then(|| ended_at.since(running.published_at)),
            ended: ended.clone(),
        });
        let Some(held) = self.take_in_flight(position) else {
            self.note_failure(&running.tenant, position, &ended.outcome, Duration::ZERO);
            let known = Known {
                record: running.record,
                ended,
                disposed: false,
                at: now,
            };
            self.remember(position, known);
            return;
        };
        if delivered {
            self.complete(position, held.call.id, ended);
            self.dispose(Disposition::Delivered, position);
            return;
        }
        let Held {
            record,
            call,
            mut history,
            ..
        } = held;
        let verdict = self
            .schedule
            .failed(&mut history, &ended.outcome, ended.started_at, now);
        let wait = verdict
            .topic()
            .delay()
            .map_or(Duration::ZERO, Delay::duration);
        self.note_failure(&call.tenant, position, &ended.outcome, wait);
        let id = Some(call.id);
        self.begin_move(Moving {
            record,
            id,
            history,
            verdict,
            mark: Mark::Reserved,
            ended: Some(ended),
        });
    }

    /// Tells operators of a failed attempt, whose record waits so long now.
    fn note_failure(
        &mut self,
        tenant: &TenantId,
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
        {
            let failure = Failure {
                class: *class,
                status: *status,
                detail,
                partition: position.partition,
                wait,
            };
            self.failing.failed(tenant, self.now, failure);
        }
    }

    /// Frees what an attempt held.
    fn end_running(&mut self, position: Position) -> Option<Running> {
        let running = self.attempts.remove(&position)?;
        self.lanes.release(running.lane, running.bytes);
        if running.holds_start_slot {
            self.start_slots.release();
        }
        Some(running)
    }

    /// Releases the start slots of attempts that last.
    pub(super) fn age_attempts(&mut self) {
        while let Some(position) = self.start_slots.pop_expired(self.now) {
            if let Some(running) = self.attempts.get_mut(&position)
                && std::mem::take(&mut running.holds_start_slot)
            {
                self.start_slots.release();
            }
        }
    }

    /// The lease had run out before the attempt could start: charged as in doubt.
    pub(super) fn on_attempt_expired(&mut self, position: Position) {
        if self.end_running(position).is_none() {
            return;
        }
        if let Some(held) = self.take_in_flight(position) {
            self.move_in_doubt(held);
        }
    }

    /// Moves a record on that was reserved and must not be sent from here.
    pub(super) fn move_in_doubt(&mut self, held: Held) {
        let Held {
            record,
            call,
            mut history,
            ..
        } = held;
        self.report(Fact::InDoubt {
            position: record.position,
        });
        let verdict = self.schedule.in_doubt(&mut history, self.now);
        let id: Option<RecordId> = Some(call.id);
        self.begin_move(Moving {
            record,
            id,
            history,
            verdict,
            mark: Mark::Reserved,
            ended: None,
        });
    }

    /// The record of an attempt that just ended, if its partition is still
    /// held by the assignment that started it (L8).
    fn take_in_flight(&mut self, position: Position) -> Option<Held> {
        let owned = self.partitions.get_mut(&position.partition)?;
        let entry = owned.ledger.entry(position.offset)?;
        if !matches!(entry, Entry::InFlight(_)) {
            return None;
        }
        let taken = std::mem::replace(entry, Entry::Listed(Mark::Reserved));
        owned.end_attempt(self.now);
        match taken {
            Entry::InFlight(held) => Some(*held),
            _ => unreachable!("matched just above"),
        }
    }

    /// Keeps an outcome for when its record is read again.
    pub(super) fn remember(&mut self, position: Position, known: Known) {
        let max = KNOWN_PER_SLOT * self.settings.in_flight_max;
        if self.known.len() >= max {
            let now = self.now;
            self.known
                .retain(|_, known| now.since(known.at) < KNOWN_FOR);
        }
        if self.known.len() < max {
            self.known.insert(position, known);
        }
    }
}
