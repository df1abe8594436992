//! One partition that the group gave us: its ledger, what was read and not yet
//! looked at, what waits to be moved, and the write that is outstanding.

use super::fairness::RampUp;
use super::ledger::Ledger;
use super::offsets::Began;
use crate::model::attempt::AttemptResult;
use crate::model::call::{CallEnded, RecordId};
use crate::model::disposition::DeadLetterReason;
use crate::model::headers::History;
use crate::model::position::{Generation, NextOffset, Offset, TopicId};
use crate::model::record::Record;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::collections::VecDeque;
use std::time::Duration;

/// The most records that are asked for ahead of what was looked at.
pub const INBOX_RECORDS_MAX: usize = 64;
/// The bytes that are asked for ahead, judged by the largest record seen.
const INBOX_BYTES_AIM: usize = 512 << 10;

/// The most records and bytes of one transaction.
pub const MOVE_RECORDS_MAX: usize = 500;
pub const MOVE_BYTES_MAX: usize = 4 << 20;
/// So many moves of one partition, by number or bytes, wait no longer.
const MOVES_MANY: usize = 200;
const MOVES_MANY_BYTES: usize = 1 << 20;

/// A partition that waits for Kafka for this long, while the brokers answer
/// where its log ends, makes no progress. Above all that may take long by
/// itself: a commit until librdkafka gives it up (15 s), a dead replica's
/// transaction (20 s), a rebalance.
pub const STALLED: Duration = Duration::from_secs(30);
/// The most that one answer counts for; they come every second.
const HEARD_MAX: Duration = Duration::from_secs(2);

/// By when a move is to be done.
#[derive(Clone, Copy)]
pub struct MoveBy {
    /// Until then it waits for others.
    pub due: UnixMillis,
    /// From then on it does not wait for a plain commit either.
    pub overdue: UnixMillis,
}

/// How far along a partition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Its committed state is being read.
    Adopting,
    /// At work.
    Running,
    /// Taken by the group, or the service drains: nothing new starts.
    Leaving,
    /// Others own it already: nothing is written for it.
    Lost,
    /// Cannot go on without an operator.
    Stopped(&'static str),
}

/// A record that was read, with what it says.
pub struct Arrived {
    pub record: Record,
    pub history: History,
    pub call: Result<CallEnded, DeadLetterReason>,
    pub due: Option<UnixMillis>,
}

/// A record that was delivered and is not committed as finished.
pub struct Delivered {
    pub offset: Offset,
    pub record: RecordId,
    pub ended: AttemptResult,
}

/// What the outstanding write of a partition will have done.
#[derive(Default)]
pub struct InWrite {
    /// Delivered, finished by this write.
    pub delivered: Vec<Delivered>,
    /// Moved by this write. Ascending.
    pub moving: Vec<Offset>,
    /// Reserved by this write.
    pub reserving: Vec<Offset>,
}

/// A partition of ours.
pub struct Owned {
    pub generation: Generation,
    pub phase: Phase,
    pub ledger: Ledger,
    pub topic_id: Option<TopicId>,
    pub log_end: NextOffset,
    pub inbox: VecDeque<Arrived>,
    /// Asked for and not yet received.
    pub credit: usize,
    largest_bytes: usize,
    /// The least offset that reading may bring next.
    pub expected: NextOffset,
    /// When the record at the inbox's head becomes due.
    pub head_due: Option<UnixMillis>,
    /// Records in a row that met full lanes.
    pub full_streak: usize,
    /// Failed, diverted or unreadable: to be moved. In no write.
    pub moves: VecDeque<Offset>,
    /// By when the first of them is to be moved.
    pub moves_by: Option<MoveBy>,
    pub moves_bytes: usize,
    /// Finished in memory, in no write.
    pub delivered: Vec<Delivered>,
    /// Since when the committed state lags behind the ledger.
    pub dirty_since: Option<UnixMillis>,
    /// The state must be written without delay.
    pub write_now: bool,
    pub in_write: Option<InWrite>,
    /// Its last owner stopped in the middle, not long ago.
    pub ramp_up: Option<RampUp>,
    /// Reserved, being reserved or in flight, by this life.
    pub active: usize,
    /// It was adopted with a valid map: the group's offsets are not lost.
    pub had_map: bool,
    /// Since when its maps tell all.
    pub began: Began,
    /// When the brokers last told where its log ends.
    heard_at: Option<UnixMillis>,
    /// Something that it waited for came since then.
    progressed: bool,
    /// For how long nothing has come, in time in which the brokers answered.
    stalled: Duration,
}

impl Owned {
    /// A partition whose state is still to be read.
    pub fn adopting(generation: Generation) -> Self {
        Self {
            generation,
            phase: Phase::Adopting,
            ledger: Ledger::at(NextOffset(0)),
            topic_id: None,
            log_end: NextOffset(0),
            inbox: VecDeque::new(),
            credit: 0,
            largest_bytes: 4_096,
            expected: NextOffset(0),
            head_due: None,
            full_streak: usize::MAX,
            moves: VecDeque::new(),
            moves_by: None,
            moves_bytes: 0,
            delivered: Vec::new(),
            dirty_since: None,
            write_now: false,
            in_write: None,
            ramp_up: None,
            active: 0,
            had_map: false,
            began: Began {
                at: UnixMillis(0),
                end: NextOffset(0),
            },
            heard_at: None,
            progressed: false,
            stalled: Duration::ZERO,
        }
    }

    /// Something came that it waited for.
    pub fn progress(&mut self) {
        self.progressed = true;
    }

    /// The brokers told where the log ends. What a partition waits for counts
    /// from one such answer to the next, so that an outage counts nothing.
    pub fn heard(&mut self, now: UnixMillis) {
        let before = self.heard_at.replace(now);
        let passed = before.map_or(Duration::ZERO, |at| now.since(at).min(HEARD_MAX));
        let progressed = std::mem::take(&mut self.progressed);
        if progressed || self.waits_for().is_none() {
            self.stalled = Duration::ZERO;
        } else {
            self.stalled += passed;
        }
    }

    /// What it has waited for too long, and how long, if it has.
    pub fn stalled(&self) -> Option<(&'static str, Duration)> {
        let why = self.waits_for()?;
        (self.stalled >= STALLED).then_some((why, self.stalled))
    }

    /// What Kafka owes it. Not what waits for its tenant: a lane's length is
    /// no fault of the partition.
    fn waits_for(&self) -> Option<&'static str> {
        match self.phase {
            Phase::Adopting => return Some("its committed offset cannot be read"),
            Phase::Leaving | Phase::Lost | Phase::Stopped(_) => return None,
            Phase::Running => {}
        }
        let unread = self.credit > 0 && self.inbox.is_empty() && self.log_end > self.expected;
        if self.in_write.is_some() {
            Some("a write of its offsets is not answered")
        } else if !self.moves.is_empty() {
            Some("records that are to be moved wait for a transaction")
        } else if self.dirty_since.is_some() || self.write_now {
            Some("what is finished is not committed")
        } else if unread {
            Some("records in its log are not handed over")
        } else {
            None
        }
    }

    /// Puts a record behind those that were read before.
    pub fn arrive(&mut self, arrived: Arrived) {
        self.progress();
        self.credit = self.credit.saturating_sub(1);
        self.expected = arrived.record.position.offset.next();
        self.largest_bytes =
            (self.largest_bytes - self.largest_bytes / 64).max(arrived.record.size());
        self.inbox.push_back(arrived);
    }

    /// Whether all that was read and not yet looked at is for this tenant.
    pub fn only_waits_for(&self, tenant: &TenantId) -> bool {
        let theirs = |a: &Arrived| a.call.as_ref().is_ok_and(|call| call.tenant == *tenant);
        self.inbox.iter().all(theirs)
    }

    /// How many more records to ask for: none while half of the last are
    /// still here, so that requests are few.
    pub fn wanted(&self) -> usize {
        let aim = (INBOX_BYTES_AIM / self.largest_bytes).clamp(1, INBOX_RECORDS_MAX);
        let ahead = self.inbox.len() + self.credit;
        if ahead * 2 <= aim { aim - ahead } else { 0 }
    }

    /// Once all that was read has been looked at, nothing unread lies before
    /// what reading expects next: gaps left by transaction markers are passed.
    pub fn pass_to_end(&mut self, now: UnixMillis) {
        if self.inbox.is_empty() && self.ledger.reached(self.expected) {
            self.touch(now);
        }
    }

    /// The ledger has changed.
    pub fn touch(&mut self, now: UnixMillis) {
        self.dirty_since.get_or_insert(now);
    }

    /// A record waits to be moved.
    pub fn queue_move(&mut self, offset: Offset, bytes: usize, by: MoveBy, now: UnixMillis) {
        self.moves.push_back(offset);
        self.moves_bytes += bytes;
        let many = self.moves.len() >= MOVES_MANY || self.moves_bytes >= MOVES_MANY_BYTES;
        let due = if many { now } else { by.due };
        self.move_by(MoveBy { due, ..by });
    }

    /// A record that was not moved waits before all others.
    pub fn requeue_move(&mut self, offset: Offset, bytes: usize, now: UnixMillis) {
        self.moves.push_front(offset);
        self.moves_bytes += bytes;
        self.move_by(MoveBy {
            due: now,
            overdue: now,
        });
    }

    fn move_by(&mut self, by: MoveBy) {
        let before = self.moves_by.unwrap_or(by);
        self.moves_by = Some(MoveBy {
            due: before.due.min(by.due),
            overdue: before.overdue.min(by.overdue),
        });
    }

    /// Whether as much waits to be moved as one transaction takes, so that
    /// reading had better wait for one.
    pub fn is_full_of_moves(&self) -> bool {
        self.moves.len() >= MOVE_RECORDS_MAX || self.moves_bytes >= MOVE_BYTES_MAX
    }

    /// Whether one more record may be reserved.
    pub fn may_reserve(&self, now: UnixMillis) -> bool {
        let window = self.ramp_up.as_ref().map(|ramp_up| ramp_up.window(now));
        self.phase == Phase::Running && window.is_none_or(|window| self.active < window)
    }

    /// An attempt from here has ended.
    pub fn end_attempt(&mut self, now: UnixMillis) {
        self.active -= 1;
        if let Some(ramp_up) = &mut self.ramp_up {
            ramp_up.completed(now);
        }
        self.ramp_up.take_if(|ramp_up| ramp_up.is_over(now));
    }

    /// Deliveries that no acknowledged write has told yet.
    pub fn uncommitted(&self) -> usize {
        let in_write = self.in_write.as_ref().map_or(0, |w| w.delivered.len());
        self.delivered.len() + in_write
    }

    /// Whether everything that happened has been written.
    pub fn is_clean(&self) -> bool {
        self.in_write.is_none() && self.dirty_since.is_none() && self.moves.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that waits for records that its log holds.
    fn unread() -> Owned {
        let mut owned = Owned::adopting(Generation(1));
        owned.phase = Phase::Running;
        owned.log_end = NextOffset(5);
        owned.credit = 1;
        owned
    }

    fn hear(owned: &mut Owned, from_s: i64, to_s: i64) {
        for second in from_s..=to_s {
            owned.heard(UnixMillis(second * 1_000));
        }
    }

    #[test]
    fn what_kafka_owes_for_half_a_minute_is_a_stall_and_an_outage_is_none() {
        let mut owned = unread();
        hear(&mut owned, 0, 20);
        assert_eq!(owned.stalled(), None);
        hear(&mut owned, 10_000, 10_007);
        assert_eq!(owned.stalled(), None, "nobody answered in between");
        hear(&mut owned, 10_008, 10_009);
        let (why, span) = owned.stalled().expect("30 s of answers");
        assert_eq!(why, "records in its log are not handed over");
        assert!(span >= STALLED);
        owned.progress();
        hear(&mut owned, 10_010, 10_010);
        assert_eq!(owned.stalled(), None);
    }

    #[test]
    fn nothing_to_wait_for_is_no_stall() {
        let mut owned = unread();
        owned.credit = 0;
        hear(&mut owned, 0, 100);
        assert_eq!(owned.stalled(), None);
        owned.phase = Phase::Adopting;
        hear(&mut owned, 101, 140);
        assert!(owned.stalled().is_some());
    }
}
