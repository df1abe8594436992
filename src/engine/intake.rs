//! Intake of records: parses a record and waits until it is due. Then places it in
//! its tenant's lane or in a move, or finishes it. Requests further records. Never
//! starts attempts and never writes. Runs on the runner's thread.

use super::fairness::{Admission, LaneId};
use super::inbox::{self, ReadRecord};
use super::keep::Keep;
use super::ledger::{Entry, OffsetStatus, PendingMove, PendingRecord};
use super::map::{MapsSince, Mark};
use super::partition::{HeadWait, PartitionState, may_be_moved};
use super::verdict::{self, Verdict};
use super::{Core, Engine};
use crate::model::attempt::Outcome;
use crate::model::call::{CallEnded, RecordId};
use crate::model::disposition::{DeadLetterReason, Disposition};
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::headers::{self, History};
use crate::model::message::{ConsumerRequest, KafkaRequest};
use crate::model::position::{Generation, NextOffset, Offset, Partition, Position};
use crate::model::record::{Header, Record};
use crate::model::schedule;
use std::time::Duration;

/// After this many diverts in a row, reading further finds no record that can
/// start. So a record whose lane empties fast waits and is not diverted.
const DIVERTS_IN_A_ROW: usize = 64;

/// When a record that waits for its lane is placed again.
const PLACE_AGAIN: Duration = Duration::from_millis(10);

/// What became of the record at the inbox's head.
enum Placed {
    Done,
    /// The record stays in the inbox, and so do all records behind it.
    Waits(Box<ReadRecord>, HeadWait),
}

impl Engine {
    pub(super) fn on_records(&mut self, records: Vec<(Generation, Record)>) {
        for (generation, record) in records {
            let position = record.position;
            let Some((state, core)) = self.running(position.partition, generation) else {
                continue;
            };
            // An offset that was passed already: the log is another one. The reason's
            // label says "base" for `expected`.
            if state.expected.is_past(position.offset) {
                self.readopt(ReadoptReason::RecordBelowBase);
                return;
            }
            // After an adoption most records may be finished: they are not parsed.
            let status = state.ledger.status(position.offset);
            if status == Some(OffsetStatus::Finished) && state.inbox.is_empty() {
                core.lose_listed_before(state, position.offset);
                state.pass(&record, core.now);
                continue;
            }
            state.receive(core.parse(record));
        }
    }

    pub(super) fn on_reached_end(
        &mut self,
        generation: Generation,
        partition: Partition,
        next: NextOffset,
    ) {
        let Some((state, core)) = self.running(partition, generation) else {
            return;
        };
        state.progress();
        state.log_end = state.log_end.max(next);
        state.expected = state.expected.max(next);
        state.pass_gaps(core.now);
    }

    /// Places the records that were read, one partition after the other.
    pub(super) fn place_records(&mut self) {
        let has_records = |state: &PartitionState| state.is_running() && !state.inbox.is_empty();
        let count = self.partitions.active().filter(|s| has_records(s)).count();
        if count == 0 {
            return;
        }
        self.core.round_start = (self.core.round_start + 1) % count;
        let mut ready: Vec<&mut PartitionState> = self
            .partitions
            .active_mut()
            .filter(|s| has_records(s))
            .collect();
        ready.rotate_left(self.core.round_start);
        for state in ready {
            self.core.place_inbox(state);
        }
    }

    /// Requests more records where the inbox has capacity.
    pub(super) fn request_records(&mut self) {
        let bytes_each = inbox::bytes_each(self.partitions.len());
        let running = self.partitions.active_mut();
        for state in running.filter(|state| state.is_running()) {
            if let Some(credit) = state.inbox.request(bytes_each) {
                self.core
                    .request(KafkaRequest::Consumer(ConsumerRequest::Fetch {
                        generation: state.generation,
                        partition: state.id,
                        credit,
                    }));
            }
        }
    }
}

impl ReadRecord {
    fn in_lane(self, call: CallEnded, lane: LaneId) -> Box<PendingRecord> {
        Box::new(PendingRecord {
            record: self.record,
            call,
            history: self.history,
            due: self.due,
            lane,
        })
    }
}

impl Core {
    /// Parses headers and value of a record, once.
    fn parse(&self, record: Record) -> ReadRecord {
        let Position { partition, offset } = record.position;
        let here = || {
            let topic = self.settings.topics.name(partition.topic);
            let origin = format!("{topic}/{}/{offset}", partition.number);
            History::new(origin, record.timestamp)
        };
        let read = match partition.topic.delay() {
            None => Ok(here()),
            Some(_) => History::read(&record.headers).ok_or(DeadLetterReason::Undecodable),
        };
        let value = record.value.as_deref().unwrap_or_default();
        let key_bytes = record.key.as_ref().map_or(0, |key| key.len());
        let own_headers = headers::own_headers(&record.headers);
        let header_bytes: usize = own_headers.map(Header::size).sum();
        let bytes = value.len() + key_bytes + header_bytes;
        let call = if bytes > self.settings.record_bytes_max {
            Err(DeadLetterReason::TooLarge)
        } else {
            CallEnded::read(value)
        };
        let (history, call) = match read {
            Ok(history) => (history, call),
            Err(reason) => (here(), Err(reason)),
        };
        let due = |delay| schedule::due(delay, record.timestamp, history.last_at);
        let due = partition.topic.delay().map(due);
        ReadRecord {
            history,
            call,
            due,
            record,
        }
    }

    fn place_inbox(&mut self, state: &mut PartitionState) {
        state.head_wait = None;
        while let Some(read) = state.inbox.take_first() {
            match self.place(state, read) {
                Placed::Done => {}
                Placed::Waits(read, wait) => {
                    state.head_wait = Some(wait);
                    state.inbox.put_back(*read);
                    return;
                }
            }
        }
        state.pass_gaps(self.now);
    }

    fn place(&mut self, state: &mut PartitionState, mut read: ReadRecord) -> Placed {
        let offset = read.record.position.offset;
        self.lose_listed_before(state, offset);
        match state.ledger.status(offset) {
            Some(OffsetStatus::Untried) => {}
            Some(OffsetStatus::Reserved) => return self.place_reserved(state, read),
            Some(OffsetStatus::Finished) => return Placed::Done,
            // `on_records` re-adopts when Kafka repeats an offset. So only a mistake
            // in the engine leads here.
            None => unreachable!("L1: each offset is placed once in a generation"),
        }
        if let Some(due) = read.due.filter(|due| *due > self.wall()) {
            return Placed::Waits(Box::new(read), HeadWait::Due(self.unstepped(due)));
        }
        // An earlier attempt still runs from this position, although no map says so:
        // the topic was recreated, or its committed offset was lost or reset.
        let runs = self.attempts.contains_key(&read.record.position);
        if runs || !state.ledger.fits(offset) {
            return Placed::Waits(Box::new(read), HeadWait::Change(None));
        }
        match self.accept(&read, state.maps_since) {
            Ok(call) => self.place_in_lane(state, read, call),
            Err(reason) => {
                read.history.last_at = Some(self.wall());
                self.move_untried(state, read, Verdict::DeadLetter(reason));
                Placed::Done
            }
        }
    }

    /// Notes that a record at this offset was read: offsets before it that the committed
    /// map lists and that reading skipped are deleted.
    fn lose_listed_before(&mut self, state: &mut PartitionState, offset: Offset) {
        let lost = state.ledger.forget_listed_before(offset);
        if lost > 0 {
            state.touch(self.now);
            self.report(Fact::RecordsLost {
                partition: state.id,
                offsets: lost,
            });
        }
    }

    /// Returns the record's call, or why the record is a dead letter.
    fn accept(&self, read: &ReadRecord, since: MapsSince) -> Result<CallEnded, DeadLetterReason> {
        let call = read.call.clone()?;
        let may_predate_maps = since.end.is_past(read.record.position.offset)
            && read.due.is_some_and(|due| due <= since.at);
        if may_predate_maps {
            return Err(DeadLetterReason::TooOld);
        }
        verdict::may_try(&self.schedule, &read.history)?;
        Ok(call)
    }

    fn place_in_lane(
        &mut self,
        state: &mut PartitionState,
        mut read: ReadRecord,
        call: CallEnded,
    ) -> Placed {
        let now = self.now;
        let position = read.record.position;
        let Some(tenant) = self.tenants.callback(&call.tenant) else {
            self.skip(state, position);
            return Placed::Done;
        };
        let lane = self.lanes.lane(&call.tenant, tenant.max_in_flight as usize);
        let admission = self.lanes.admission(lane, state.ledger.occupancy(), now);
        let again = HeadWait::Change(Some(now.plus(PLACE_AGAIN)));
        match admission {
            Admission::Admit => {
                if self.lanes.is_under_half_full(lane) {
                    state.diverts_in_a_row = 0;
                }
                let bytes = read.record.size();
                let entry = Entry::Waiting(read.in_lane(call, lane));
                state.ledger.take(position.offset, entry);
                self.lanes.push(lane, position, bytes, now);
                Placed::Done
            }
            Admission::StopReading => Placed::Waits(Box::new(read), HeadWait::Change(None)),
            Admission::WaitBriefly => Placed::Waits(Box::new(read), again),
            // If all other records in the inbox are of this tenant, it blocks no other.
            // Nor does it where nothing behind it could start.
            Admission::WaitUnlessBlocking
                if state.diverts_in_a_row >= DIVERTS_IN_A_ROW
                    || self.start_slots.are_scarce(now)
                    || state.only_waits_for(&call.tenant) =>
            {
                Placed::Waits(Box::new(read), again)
            }
            // Diverts come by the hundred, so they wait here. Other moves are few.
            Admission::WaitUnlessBlocking | Admission::Divert
                if state.is_full_of_moves()
                    || !may_be_moved(self.moving_bytes, read.record.size()) =>
            {
                Placed::Waits(Box::new(read), HeadWait::Change(None))
            }
            Admission::WaitUnlessBlocking | Admission::Divert => {
                state.diverts_in_a_row = state.diverts_in_a_row.saturating_add(1);
                let divert = self.lanes.divert(lane, now);
                let verdict =
                    verdict::divert(&self.schedule, &mut read.history, divert, self.wall());
                self.move_untried(state, read, verdict);
                Placed::Done
            }
        }
    }

    /// Moves a record from which no attempt was made here.
    pub(super) fn move_untried(
        &mut self,
        state: &mut PartitionState,
        read: ReadRecord,
        verdict: Verdict,
    ) {
        let moving = PendingMove {
            record: read.record,
            id: read.call.ok().map(|call| call.id),
            history: read.history,
            verdict,
            keep: Keep::of(verdict),
            mark: Mark::Unreserved,
            result: None,
        };
        self.queue_move(state, moving);
    }

    /// Places a record that its map marks as reserved: an attempt may have been
    /// sent from here, so none is sent from here again.
    fn place_reserved(&mut self, state: &mut PartitionState, read: ReadRecord) -> Placed {
        let position = read.record.position;
        // In a recreated topic, another record may have this position.
        let is_same_record = |id: &RecordId| read.call.as_ref().is_ok_and(|c| c.id == *id);
        let remembered = self.remembered.remove(&position);
        let remembered = remembered.filter(|remembered| is_same_record(&remembered.record));
        let running = self.attempts.get(&position);
        let running = running.filter(|running| is_same_record(&running.record));
        let result = match (remembered, running) {
            (None, None) => None,
            (None, Some(running)) => return Self::rejoin(state, read, running.lane),
            (Some(remembered), _) => {
                let (record, result) = (remembered.record, remembered.result);
                if matches!(result.outcome, Outcome::Delivered { .. }) {
                    self.complete(state, position, record, result);
                    if remembered.reported.is_none() {
                        self.dispose(Disposition::Delivered, position);
                    }
                    return Placed::Done;
                }
                Some(result)
            }
        };
        let id = read.call.ok().map(|call| call.id);
        self.charge(state, read.record, id, read.history, result);
        Placed::Done
    }

    /// Connects a record that was read again with the attempt of this process that
    /// still runs for it.
    fn rejoin(state: &mut PartitionState, read: ReadRecord, lane: LaneId) -> Placed {
        let offset = read.record.position.offset;
        let call = read.call.clone().expect("its record id was compared");
        state.active += 1;
        let entry = Entry::InFlight(read.in_lane(call, lane));
        state.ledger.take(offset, entry);
        Placed::Done
    }

    /// Finishes a record whose tenant has no callback.
    pub(super) fn skip(&mut self, state: &mut PartitionState, position: Position) {
        state.ledger.finish(position.offset);
        state.touch(self.now);
        self.dispose(Disposition::Skipped, position);
    }

    pub(super) fn dispose(&mut self, disposition: Disposition, position: Position) {
        self.last_progress = self.wall();
        self.report(Fact::Disposed {
            disposition,
            position,
        });
    }
}
