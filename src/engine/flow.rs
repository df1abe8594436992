//! A record's way through the process, up to its reservation and from its
//! attempt's end on: read, due, tenant, lane; outcome, verdict, disposition.

use super::event::Action;
use super::fairness::Admission;
use super::ledger::{Entry, Held, Moving, Standing};
use super::offsets::{Began, Mark};
use super::owned::{Arrived, Delivered, Phase};
use super::verdict::{self, Verdict};
use super::{Engine, writes};
use crate::model::attempt::{AttemptResult, Outcome};
use crate::model::call::{CallEnded, RecordId};
use crate::model::disposition::{DeadLetterReason, Disposition};
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::headers::History;
use crate::model::message::KafkaRequest;
use crate::model::position::{Generation, NextOffset, Partition, Position};
use crate::model::record::Record;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// After this many records in a row that met full lanes, reading on is not
/// expected to find one that can be sent.
const FULL_STREAK: usize = 64;

/// When a record is looked at again that stays for its lane.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A record tells the clock's skew if its append was this recent.
const SKEW_FRESH: Duration = Duration::from_secs(2);

/// What became of the record at the inbox's head.
enum Step {
    /// It has gone its way; the next one, please.
    Taken,
    /// It stays, and so does all behind it, until then or until something changes.
    Stays(Option<UnixMillis>),
}

impl Engine {
    pub(super) fn on_record(&mut self, generation: Generation, record: Record) {
        let position = record.position;
        let Some(owned) = self.partitions.get(&position.partition) else {
            return;
        };
        if owned.generation != generation || owned.phase != Phase::Running {
            return;
        }
        if owned.expected.is_past(position.offset) {
            self.readopt(ReadoptReason::RecordBelowBase);
            return;
        }
        let arrived = self.look_at(record);
        self.report_skew(&arrived);
        if let Some(owned) = self.partitions.get_mut(&position.partition) {
            owned.arrive(arrived);
        }
    }

    /// Reads what a record says, once.
    fn look_at(&self, record: Record) -> Arrived {
        let Position { partition, offset } = record.position;
        let here = || {
            let topic = self.settings.topics.name(partition.topic);
            History::new(
                format!("{topic}/{}/{offset}", partition.number),
                record.timestamp,
            )
        };
        let read = match partition.topic.delay() {
            None => Ok(here()),
            Some(_) => History::read(&record.headers).ok_or(DeadLetterReason::Undecodable),
        };
        let value = record.value.as_deref().unwrap_or_default();
        let key_bytes = record.key.as_ref().map_or(0, |key| key.len());
        let call = if value.len() + key_bytes > self.settings.record_bytes_max {
            Err(DeadLetterReason::TooLarge)
        } else {
            CallEnded::read(value)
        };
        let (history, call) = match read {
            Ok(history) => (history, call),
            Err(reason) => (here(), Err(reason)),
        };
        let due = partition
            .topic
            .delay()
            .map(|delay| verdict::due(delay, record.timestamp, history.last_at));
        Arrived {
            history,
            call,
            due,
            record,
        }
    }

    /// A delayed record that was just appended shows our clock beside the broker's.
    fn report_skew(&mut self, arrived: &Arrived) {
        let appended_at = arrived.record.timestamp;
        let fresh = self.now.since(appended_at) <= SKEW_FRESH;
        if let Some(last_at) = arrived.history.last_at.filter(|_| fresh) {
            self.report(Fact::ClockSkew {
                ms: last_at.0 - appended_at.0,
            });
        }
    }

    pub(super) fn on_reached_end(
        &mut self,
        generation: Generation,
        partition: Partition,
        next: NextOffset,
    ) {
        let now = self.now;
        let Some(owned) = self.partitions.get_mut(&partition) else {
            return;
        };
        if owned.generation != generation || owned.phase != Phase::Running {
            return;
        }
        owned.progress();
        owned.log_end = owned.log_end.max(next);
        owned.expected = owned.expected.max(next);
        owned.pass_to_end(now);
    }

    /// Looks at what was read, each partition in its turn.
    pub(super) fn dispatch_all(&mut self) {
        let ready: Vec<Partition> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.phase == Phase::Running && !owned.inbox.is_empty())
            .map(|(partition, _)| *partition)
            .collect();
        if ready.is_empty() {
            return;
        }
        self.first = (self.first + 1) % ready.len();
        for index in 0..ready.len() {
            self.dispatch(ready[(self.first + index) % ready.len()]);
        }
    }

    fn dispatch(&mut self, partition: Partition) {
        loop {
            let Some(owned) = self.partitions.get_mut(&partition) else {
                return;
            };
            owned.head_due = None;
            let Some(arrived) = owned.inbox.pop_front() else {
                owned.pass_to_end(self.now);
                return;
            };
            match self.place(partition, arrived) {
                (Step::Taken, _) => {}
                (Step::Stays(until), arrived) => {
                    if let (Some(owned), Some(arrived)) =
                        (self.partitions.get_mut(&partition), arrived)
                    {
                        owned.head_due = until;
                        owned.inbox.push_front(arrived);
                    }
                    return;
                }
            }
        }
    }

    /// Gives one record its place; hands it back where it must stay.
    fn place(&mut self, partition: Partition, arrived: Arrived) -> (Step, Option<Arrived>) {
        let now = self.now;
        let offset = arrived.record.position.offset;
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("dispatch looked it up");
        let lost = owned.ledger.forget_listed_before(offset);
        if lost > 0 {
            owned.touch(now);
            self.report(Fact::RecordsLost {
                partition,
                offsets: lost,
            });
        }
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("dispatch looked it up");
        match owned.ledger.standing(offset) {
            Some(Standing::Open) => {}
            Some(Standing::Reserved) => return self.place_reserved(arrived),
            Some(Standing::Finished) => return (Step::Taken, None),
            None => unreachable!("L1: reading never brings a record twice within one generation"),
        }
        if let Some(due) = arrived.due.filter(|due| *due > now) {
            return (Step::Stays(Some(due)), Some(arrived));
        }
        // Of this record's former life, or of one that had its place before.
        if self.attempts.contains_key(&arrived.record.position) {
            return (Step::Stays(None), Some(arrived));
        }
        if !owned.ledger.has_room_for(offset) {
            return (Step::Stays(None), Some(arrived));
        }
        let Began { at, end } = owned.began;
        let too_old = end.is_past(offset) && arrived.due.is_some_and(|due| due <= at);
        let call = match self.readable(&arrived, too_old) {
            Ok(call) => call,
            Err(reason) => {
                self.dead_letter(arrived, reason);
                return (Step::Taken, None);
            }
        };
        self.place_in_lane(partition, arrived, call)
    }

    /// The call that a record tells, or why it is a dead letter.
    fn readable(&self, arrived: &Arrived, too_old: bool) -> Result<CallEnded, DeadLetterReason> {
        let call = arrived.call.clone()?;
        if too_old {
            return Err(DeadLetterReason::TooOld);
        }
        self.schedule.may_try(&arrived.history)?;
        Ok(call)
    }

    fn place_in_lane(
        &mut self,
        partition: Partition,
        arrived: Arrived,
        call: CallEnded,
    ) -> (Step, Option<Arrived>) {
        let now = self.now;
        let Arrived { record, .. } = &arrived;
        let position = record.position;
        let Some(tenant) = self.tenants.callback(&call.tenant) else {
            self.skip(position);
            return (Step::Taken, None);
        };
        let lane = self.lanes.lane(&call.tenant, tenant.max_in_flight as usize);
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("dispatch looked it up");
        let occupancy = owned.ledger.occupancy();
        let admission = self.lanes.admission(lane, occupancy, now);
        let under_half_full = self.lanes.is_under_half_full(lane);
        match admission {
            Admission::Admit => {
                if under_half_full {
                    owned.full_streak = 0;
                }
                let bytes = record.size();
                let Arrived {
                    record,
                    history,
                    due,
                    ..
                } = arrived;
                let held = Held {
                    record,
                    call,
                    history,
                    due,
                    lane,
                };
                owned
                    .ledger
                    .take(position.offset, Entry::Waiting(Box::new(held)));
                self.lanes.push(lane, position, bytes);
                (Step::Taken, None)
            }
            Admission::StopReading => (Step::Stays(None), Some(arrived)),
            Admission::WaitBriefly => (Step::Stays(Some(now.plus(LOOK_AGAIN))), Some(arrived)),
            Admission::WaitUnlessBlocking
                if owned.full_streak >= FULL_STREAK || owned.only_waits_for(&call.tenant) =>
            {
                (Step::Stays(Some(now.plus(LOOK_AGAIN))), Some(arrived))
            }
            Admission::WaitUnlessBlocking | Admission::Divert | Admission::DivertUntried
                if owned.is_full_of_moves() =>
            {
                (Step::Stays(None), Some(arrived))
            }
            Admission::WaitUnlessBlocking | Admission::Divert | Admission::DivertUntried => {
                owned.full_streak = owned.full_streak.saturating_add(1);
                let Arrived {
                    record,
                    mut history,
                    ..
                } = arrived;
                let verdict = match admission {
                    Admission::DivertUntried => self.schedule.divert_shortly(&mut history, now),
                    _ => self.schedule.divert(&mut history, now),
                };
                let id = Some(call.id);
                self.begin_move(Moving {
                    record,
                    id,
                    history,
                    verdict,
                    mark: Mark::Open,
                    ended: None,
                });
                (Step::Taken, None)
            }
        }
    }

    /// A record whose map says that it may have been sent: never from here again.
    fn place_reserved(&mut self, arrived: Arrived) -> (Step, Option<Arrived>) {
        let now = self.now;
        let position = arrived.record.position;
        let is_this = |record: &RecordId| arrived.call.as_ref().is_ok_and(|c| c.id == *record);
        let known = self.known.remove(&position);
        let known = known.filter(|known| is_this(&known.record));
        let runs = self.attempts.get(&position);
        if known.is_none() && runs.is_some_and(|running| is_this(&running.record)) {
            return self.rejoin(arrived);
        }
        let Arrived {
            record,
            mut history,
            call,
            ..
        } = arrived;
        let id = call.ok().map(|call| call.id);
        let known = match known {
            Some(known) if matches!(known.ended.outcome, Outcome::Delivered { .. }) => {
                self.complete(position, known.record, known.ended);
                if !known.disposed {
                    self.dispose(Disposition::Delivered, position);
                }
                return (Step::Taken, None);
            }
            other => other,
        };
        let known = known.map(|known| known.ended);
        let verdict = match &known {
            Some(ended) => {
                self.schedule
                    .failed(&mut history, &ended.outcome, ended.started_at, now)
            }
            None => {
                self.report(Fact::InDoubt { position });
                self.schedule.in_doubt(&mut history, now)
            }
        };
        self.begin_move(Moving {
            record,
            id,
            history,
            verdict,
            mark: Mark::Reserved,
            ended: known,
        });
        (Step::Taken, None)
    }

    /// A record read again while the attempt that this process made still runs.
    fn rejoin(&mut self, arrived: Arrived) -> (Step, Option<Arrived>) {
        let Arrived {
            record,
            history,
            call,
            due,
        } = arrived;
        let position = record.position;
        let lane = self.attempts[&position].lane;
        let owned = self
            .partitions
            .get_mut(&position.partition)
            .expect("dispatch looked it up");
        let call = call.expect("only a readable record is joined again");
        let held = Held {
            record,
            call,
            history,
            due,
            lane,
        };
        owned.active += 1;
        owned
            .ledger
            .take(position.offset, Entry::InFlight(Box::new(held)));
        (Step::Taken, None)
    }

    /// The tenant has no callback: done with, for good.
    pub(super) fn skip(&mut self, position: Position) {
        let now = self.now;
        let owned = self
            .partitions
            .get_mut(&position.partition)
            .expect("only our own records are skipped");
        owned.ledger.finish(position.offset);
        owned.touch(now);
        self.dispose(Disposition::Skipped, position);
    }

    fn dead_letter(&mut self, arrived: Arrived, reason: DeadLetterReason) {
        let Arrived {
            record,
            mut history,
            call,
            ..
        } = arrived;
        history.last_at = Some(self.now);
        let id = call.ok().map(|call| call.id);
        let verdict = Verdict::DeadLetter(reason);
        self.begin_move(Moving {
            record,
            id,
            history,
            verdict,
            mark: Mark::Open,
            ended: None,
        });
    }

    /// From here on the record belongs to the next move.
    pub(super) fn begin_move(&mut self, moving: Moving) {
        let Position { partition, offset } = moving.record.position;
        let by = writes::move_by(moving.verdict, self.now);
        let bytes = moving.record.size();
        let owned = self
            .partitions
            .get_mut(&partition)
            .expect("only our own records are moved");
        match owned.ledger.entry(offset) {
            Some(_) => {
                owned
                    .ledger
                    .replace(offset, Entry::Moving(Box::new(moving)));
            }
            None => owned.ledger.take(offset, Entry::Moving(Box::new(moving))),
        }
        owned.queue_move(offset, bytes, by, self.now);
    }

    /// The record was delivered.
    pub(super) fn complete(&mut self, position: Position, record: RecordId, ended: AttemptResult) {
        let now = self.now;
        let owned = self
            .partitions
            .get_mut(&position.partition)
            .expect("only our own records are completed");
        owned.ledger.finish(position.offset);
        owned.delivered.push(Delivered {
            offset: position.offset,
            record,
            ended,
        });
        owned.touch(now);
    }

    pub(super) fn dispose(&mut self, disposition: Disposition, position: Position) {
        self.last_progress = self.now;
        self.report(Fact::Disposed {
            disposition,
            position,
        });
    }

    /// Asks for more where there is room.
    pub(super) fn ask_for_records(&mut self) {
        for (partition, owned) in &mut self.partitions {
            if owned.phase != Phase::Running {
                continue;
            }
            let records = owned.wanted();
            if records > 0 {
                owned.credit += records;
                let generation = owned.generation;
                let fetch = KafkaRequest::Fetch {
                    generation,
                    partition: *partition,
                    records,
                };
                self.actions.push_back(Action::Kafka(fetch));
            }
        }
    }
}
