//! State of one assigned partition: its ledger, records that were read and not
//! yet placed, records to be moved, and its outstanding write. Decides nothing
//! about tenants. Runs on the runner's thread.

use super::fairness::RampUp;
use super::inbox::{Inbox, ReadRecord};
use super::ledger::Ledger;
use super::map::MapsSince;
use crate::model::attempt::AttemptResult;
use crate::model::call::RecordId;
use crate::model::message::WriteId;
use crate::model::position::{Generation, NextOffset, Offset, Partition, Topic, TopicId};
use crate::model::record::Record;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The maximum number of records in one transaction.
pub const MOVE_RECORDS_MAX: usize = 500;
/// The maximum size of one transaction's records.
pub const MOVE_BYTES_MAX: usize = 4 << 20;
/// From this number or size of pending moves on, a partition's moves are due at once.
const MOVES_MANY: usize = 200;
const MOVES_MANY_BYTES: usize = 1 << 20;
/// While the records to be moved have this size in total, only small ones start or are
/// diverted (L5). The ledgers bound those: 8 MiB for each partition.
const MOVING_BYTES_MAX: usize = 32 << 20;
/// The size of a small record.
const SMALL_BYTES: usize = 8 << 10;

/// A partition is stalled once it waited this long for Kafka while the brokers
/// answered where its log ends. Longer than anything that takes long by itself:
/// a commit until librdkafka gives it up (15 s), a dead replica's transaction
/// (20 s), a rebalance.
pub const STALLED: Duration = Duration::from_secs(30);
/// The maximum time that one answer about log bounds counts for. They come every second.
const BOUNDS_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// When a move is due.
#[derive(Clone, Copy)]
pub struct MoveBy {
    /// Until then the move waits for others.
    pub due: UnixMillis,
    /// From then on it does not wait for a plain commit either.
    pub overdue: UnixMillis,
}

/// Whether there is memory for one more record of this size that is to be moved, or that
/// is when its attempt fails. `moving_bytes` are to be moved already.
pub fn may_be_moved(moving_bytes: usize, bytes: usize) -> bool {
    bytes <= SMALL_BYTES || moving_bytes < MOVING_BYTES_MAX
}

/// What the record at an inbox's head waits for, and all records behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadWait {
    /// Its due time.
    Due(UnixMillis),
    /// A change of its lane, its map or its moves. It is placed again at each turn, and
    /// at this time.
    Change(Option<UnixMillis>),
}

impl HeadWait {
    /// Returns when the wait ends without an event.
    pub fn until(self) -> Option<UnixMillis> {
        match self {
            Self::Due(at) => Some(at),
            Self::Change(at) => at,
        }
    }
}

/// Phase of an assigned partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartitionPhase {
    /// Its committed state is being read.
    Adopting,
    Running,
    /// Revoked, or the service drains: nothing new starts.
    Leaving,
    /// Assigned to another member already: nothing may be written for it.
    Lost,
    /// Cannot continue without an operator.
    Stopped(&'static str),
}

/// A record that was delivered and is not committed as finished.
pub struct Delivered {
    pub offset: Offset,
    pub record: RecordId,
    pub result: AttemptResult,
}

/// Content of a partition's outstanding write.
#[derive(Default)]
pub struct InWrite {
    /// Set when the write is sent.
    pub write: WriteId,
    /// Delivered records that this write finishes.
    pub delivered: Vec<Delivered>,
    /// Records that this write moves. Ascending.
    pub moving: Vec<Offset>,
    /// Records that this write reserves.
    pub reserving: Vec<Offset>,
}

/// An open transaction of another producer beyond the last record that can be read.
#[derive(Clone, Copy)]
pub struct Blocked {
    /// The last stable offset: it does not move.
    pub offset: NextOffset,
    pub since: UnixMillis,
    pub told: bool,
}

/// State of an assigned partition.
pub struct PartitionState {
    pub id: Partition,
    pub generation: Generation,
    pub phase: PartitionPhase,
    pub ledger: Ledger,
    pub topic_id: Option<TopicId>,
    pub log_end: NextOffset,
    pub inbox: Inbox,
    /// The smallest offset that reading may return next.
    pub expected: NextOffset,
    /// What the record at the inbox's head waits for.
    pub head_wait: Option<HeadWait>,
    /// Diverts since a record was admitted to a lane that is less than half full.
    pub diverts_in_a_row: usize,
    /// Failed, diverted or unreadable records to be moved. In no write.
    pub moves: VecDeque<Offset>,
    /// When the first of them is to be moved.
    pub moves_by: Option<MoveBy>,
    pub moves_bytes: usize,
    /// Moves to destinations that refuse records. In no write.
    pub held: BTreeMap<Topic, VecDeque<Offset>>,
    /// Finished in memory, in no write.
    pub delivered: Vec<Delivered>,
    /// Since when the committed state lags behind the ledger.
    pub dirty_since: Option<UnixMillis>,
    /// The state must be written without delay.
    pub write_now: bool,
    pub in_write: Option<InWrite>,
    /// Limits attempts after an unclean stop of its last owner.
    pub ramp_up: Option<RampUp>,
    /// Records reserved, being reserved or in flight under this assignment.
    pub active: usize,
    /// Adopted with a valid map: the group's offsets were not lost.
    pub had_map: bool,
    pub maps_since: MapsSince,
    /// The transaction that holds it back.
    pub blocked: Option<Blocked>,
    /// When the brokers last reported its log bounds.
    bounds_at: Option<UnixMillis>,
    /// An awaited event came since then.
    progressed: bool,
    /// How long no awaited event came, in time in which the brokers answered.
    stalled: Duration,
}

impl PartitionState {
    /// A partition whose committed state is still to be read.
    pub fn adopting(id: Partition, generation: Generation) -> Self {
        Self {
            id,
            generation,
            phase: PartitionPhase::Adopting,
            ledger: Ledger::at(NextOffset(0)),
            topic_id: None,
            log_end: NextOffset(0),
            inbox: Inbox::default(),
            expected: NextOffset(0),
            head_wait: None,
            diverts_in_a_row: usize::MAX,
            moves: VecDeque::new(),
            moves_by: None,
            moves_bytes: 0,
            held: BTreeMap::new(),
            delivered: Vec::new(),
            dirty_since: None,
            write_now: false,
            in_write: None,
            ramp_up: None,
            active: 0,
            had_map: false,
            maps_since: MapsSince {
                at: UnixMillis(0),
                end: NextOffset(0),
            },
            blocked: None,
            bounds_at: None,
            progressed: false,
            stalled: Duration::ZERO,
        }
    }

    /// Returns whether the partition is adopted and new work on it may start.
    pub fn is_running(&self) -> bool {
        self.phase == PartitionPhase::Running
    }

    /// Notes that an awaited event came.
    pub fn progress(&mut self) {
        self.progressed = true;
    }

    /// Notes that the brokers reported the log's end. Waiting time counts from one
    /// such report to the next, so that an outage counts nothing.
    pub fn bounds_reported(&mut self, now: UnixMillis) {
        let before = self.bounds_at.replace(now);
        let passed = before.map_or(Duration::ZERO, |at| now.since(at).min(BOUNDS_INTERVAL_MAX));
        let progressed = std::mem::take(&mut self.progressed);
        if progressed || self.waits_for().is_none() {
            self.stalled = Duration::ZERO;
        } else {
            self.stalled += passed;
        }
    }

    /// Returns why the partition is stalled and for how long, if it is.
    pub fn stalled(&self) -> Option<(&'static str, Duration)> {
        let why = self.waits_for()?;
        (self.stalled >= STALLED).then_some((why, self.stalled))
    }

    /// Returns what the partition waits for from Kafka. Records that wait for
    /// their tenant do not count: a long lane is no fault of the partition.
    fn waits_for(&self) -> Option<&'static str> {
        match self.phase {
            PartitionPhase::Adopting => return Some("its committed offset cannot be read"),
            PartitionPhase::Leaving | PartitionPhase::Lost | PartitionPhase::Stopped(_) => {
                return None;
            }
            PartitionPhase::Running => {}
        }
        let unread =
            !self.inbox.has_no_credit() && self.inbox.is_empty() && self.log_end > self.expected;
        if self.in_write.is_some() {
            Some("a write of its offsets is not answered")
        } else if !self.moves.is_empty() {
            Some("records to be moved wait for a transaction")
        } else if self.dirty_since.is_some() || self.write_now {
            Some("finished records are not committed")
        } else if unread {
            Some("records in its log are not handed over")
        } else {
            None
        }
    }

    /// Queues a record behind those that were read before.
    pub fn receive(&mut self, read: ReadRecord) {
        self.progress();
        self.expected = read.record.position.offset.next();
        self.inbox.receive(read);
    }

    /// Passes a record that is finished.
    pub fn pass(&mut self, record: &Record, now: UnixMillis) {
        self.progress();
        self.inbox.pass(record.size());
        self.expected = record.position.offset.next();
        self.pass_gaps(now);
    }

    /// Whether all records in the inbox are for this tenant.
    pub fn only_waits_for(&self, tenant: &TenantId) -> bool {
        let is_tenants =
            |read: &ReadRecord| read.call.as_ref().is_ok_and(|call| call.tenant == *tenant);
        self.inbox.records().all(is_tenants)
    }

    /// Passes offsets without a record, such as transaction markers. Once the inbox
    /// is empty, no unread record lies before the offset that reading expects next.
    pub fn pass_gaps(&mut self, now: UnixMillis) {
        if self.inbox.is_empty() && self.ledger.reached(self.expected) {
            self.touch(now);
        }
    }

    /// Notes that the ledger has changed.
    pub fn touch(&mut self, now: UnixMillis) {
        self.dirty_since.get_or_insert(now);
    }

    /// Queues a record to be moved.
    pub fn queue_move(&mut self, offset: Offset, bytes: usize, by: MoveBy, now: UnixMillis) {
        self.moves.push_back(offset);
        self.moves_bytes += bytes;
        let many = self.moves.len() >= MOVES_MANY || self.moves_bytes >= MOVES_MANY_BYTES;
        let due = if many { now } else { by.due };
        self.move_by(MoveBy { due, ..by });
    }

    /// Queues a record whose move was refused, before all others.
    pub fn requeue_move(&mut self, offset: Offset, now: UnixMillis) {
        let entry = self.ledger.entry(offset);
        self.moves_bytes += entry.map_or(0, |entry| entry.moving_bytes());
        self.moves.push_front(offset);
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

    /// Notes that moves left the queue. An empty queue makes no partition overdue.
    pub fn moves_taken(&mut self) {
        if self.moves.is_empty() {
            self.moves_by = None;
            self.moves_bytes = 0;
        }
    }

    /// Returns when the pending moves are due, if there are any.
    pub fn move_due_at(&self) -> Option<UnixMillis> {
        let by = self.moves_by?;
        Some(match self.phase {
            PartitionPhase::Leaving => UnixMillis(0),
            _ => by.due,
        })
    }

    /// Whether its moves have waited too long.
    pub fn is_overdue(&self, now: UnixMillis) -> bool {
        self.moves_by.is_some_and(|by| now >= by.overdue)
    }

    /// Whether the pending moves fill a transaction. Reading then waits for one.
    pub fn is_full_of_moves(&self) -> bool {
        self.moves.len() >= MOVE_RECORDS_MAX || self.moves_bytes >= MOVE_BYTES_MAX
    }

    /// Whether a write for this partition may be sent now.
    pub fn may_write(&self) -> bool {
        let phase = matches!(
            self.phase,
            PartitionPhase::Running | PartitionPhase::Leaving
        );
        phase && self.in_write.is_none()
    }

    /// Whether one more record may be reserved.
    pub fn may_reserve(&self, now: UnixMillis) -> bool {
        let window = self.ramp_up.as_ref().map(|ramp_up| ramp_up.window(now));
        self.is_running() && window.is_none_or(|window| self.active < window)
    }

    /// Notes the end of an attempt from this partition.
    pub fn end_attempt(&mut self, now: UnixMillis) {
        self.active -= 1;
        if let Some(ramp_up) = &mut self.ramp_up {
            ramp_up.completed(now);
        }
        self.ramp_up.take_if(|ramp_up| ramp_up.is_over(now));
    }

    /// Whether this outstanding write holds the partition.
    pub fn is_in(&self, write: WriteId) -> bool {
        self.in_write.as_ref().is_some_and(|w| w.write == write)
    }

    /// Returns the number of deliveries that no acknowledged write has committed.
    pub fn uncommitted(&self) -> usize {
        let in_write = self.in_write.as_ref().map_or(0, |w| w.delivered.len());
        self.delivered.len() + in_write
    }

    /// Whether all changes are written.
    pub fn is_clean(&self) -> bool {
        self.in_write.is_none() && self.dirty_since.is_none() && self.moves.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that waits for records that its log holds.
    fn unread() -> PartitionState {
        let id = Topic::Source.partition(0);
        let mut state = PartitionState::adopting(id, Generation(1));
        state.phase = PartitionPhase::Running;
        state.log_end = NextOffset(5);
        state.inbox.request(1);
        state
    }

    fn report_bounds(state: &mut PartitionState, from_s: i64, to_s: i64) {
        for second in from_s..=to_s {
            state.bounds_reported(UnixMillis(second * 1_000));
        }
    }

    #[test]
    fn waiting_half_a_minute_for_kafka_is_a_stall_and_an_outage_is_none() {
        let mut state = unread();
        report_bounds(&mut state, 0, 20);
        assert_eq!(state.stalled(), None);
        report_bounds(&mut state, 10_000, 10_007);
        assert_eq!(state.stalled(), None, "no broker answered in between");
        report_bounds(&mut state, 10_008, 10_009);
        let (why, span) = state.stalled().expect("30 s of answers");
        assert_eq!(why, "records in its log are not handed over");
        assert!(span >= STALLED);
        state.progress();
        report_bounds(&mut state, 10_010, 10_010);
        assert_eq!(state.stalled(), None);
    }

    #[test]
    fn a_partition_that_waits_for_nothing_is_not_stalled() {
        let mut state = unread();
        state.inbox.clear();
        report_bounds(&mut state, 0, 100);
        assert_eq!(state.stalled(), None);
        state.phase = PartitionPhase::Adopting;
        report_bounds(&mut state, 101, 140);
        assert!(state.stalled().is_some());
    }
}
