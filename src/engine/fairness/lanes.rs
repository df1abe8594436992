//! Lanes: for each tenant a bounded FIFO and a limit of concurrent attempts,
//! served round robin. They hold positions only; the ledgers hold the records.
//! Never IO, never a clock. Runs on the runner's thread.
//!
//! Arithmetic: a tenant with 64 concurrent attempts that answers in 5 ms takes
//! 12,800 records/s. Its next 20 ms are 256 waiting records, which covers a
//! commit and a transaction. All lanes together hold at most the larger of
//! [`WAITING_MIN`] records and twice the process's slots. That is 3 MiB at 1.5 kB
//! a record, and [`WAITING_BYTES_MAX`] at 1 MiB a record. `admission` divides
//! this capacity among lanes that their tenants hold back. `overdue` ends waits that
//! are too long.

use super::divert_load::{AttemptTime, DivertLoad, LaneDiverts};
use super::limit::{Limit, Round, TenantStatus};
use super::rate::Rate;
use super::slots::{SlotClass, Slots, Turn, Turns};
use crate::model::attempt::ErrorClass;
use crate::model::overview::FirstAttempts;
use crate::model::position::{Partition, Position};
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// The maximum number of records that wait in one lane.
pub(super) const LANE_RECORDS_MAX: usize = 256;
/// The maximum number of bytes that wait in one lane.
pub(super) const LANE_BYTES_MAX: usize = 4 << 20;
/// The number of waiting records that all lanes may hold, however few slots there
/// are.
pub(super) const WAITING_MIN: usize = 2_048;
/// The maximum number of bytes that wait across all lanes.
pub(super) const WAITING_BYTES_MAX: usize = 32 << 20;

/// The maximum pause before a dead tenant's next attempt.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The age up to which [`FirstAttempts`] counts an attempt.
pub(super) const RECENT: Duration = Duration::from_secs(300);

/// The index of a lane in [`Lanes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LaneId(pub(super) usize);

/// The lane of one tenant.
pub(super) struct Lane {
    tenant: TenantId,
    pub(super) waiting: VecDeque<WaitingRecord>,
    pub(super) waiting_bytes: usize,
    /// Records that are reserved, being reserved or in flight.
    pub(super) active: usize,
    /// Records in flight.
    in_flight: usize,
    /// The slots of the active records.
    pub(super) slots: usize,
    pub(super) limit: Limit,
    /// No attempt starts before this time.
    pub(super) paused_until: Option<UnixMillis>,
    turn: Option<(Turn, SlotClass)>,
    /// When admission saw its tenant hold it back.
    pub(super) held_back: Option<Observed>,
    /// Ended attempts, delivered or failed: both empty the lane.
    pub(super) ends: Rate,
    /// The durations of its attempts.
    pub(super) attempt_time: AttemptTime,
    pub(super) diverts: LaneDiverts,
    /// Whether the lane's oldest record is watched in [`Lanes::pop_overdue`].
    pub(super) watched: bool,
    /// Attempts that failed since the last one was delivered.
    pub(super) failures: u32,
    /// When a record's first attempt last ended, and whether it delivered.
    first_attempt: Option<(UnixMillis, bool)>,
}

/// A record that waits in a lane.
#[derive(Clone, Copy)]
pub(super) struct WaitingRecord {
    pub(super) position: Position,
    pub(super) bytes: usize,
    /// When it came to the lane. Never after that of the record behind it.
    pub(super) since: UnixMillis,
}

/// The first and the last time of an observation.
#[derive(Clone, Copy)]
pub(super) struct Observed {
    pub(super) since: UnixMillis,
    pub(super) last: UnixMillis,
}

impl Observed {
    /// Returns the observation continued by one at `now`.
    pub(super) fn again(before: Option<Self>, now: UnixMillis) -> Self {
        let since = before.map_or(now, |before| before.since);
        Self { since, last: now }
    }
}

/// All lanes of this process.
pub struct Lanes {
    pub(super) lanes: Vec<Lane>,
    by_tenant: HashMap<TenantId, LaneId>,
    pub(super) turns: Turns<LaneId>,
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
    pub(super) slots: Slots,
    /// Records of untried tenants that turned out to answer.
    pub(super) untried_answered: Rate,
    /// When untried tenants found no capacity.
    pub(super) untried_waiting: Option<Observed>,
    pub(super) pause: Duration,
    /// The longest time for which a divert takes a record away.
    pub(super) longest_delay: Duration,
    /// The ends of all pauses; some of these pauses were ended early.
    pauses: BTreeSet<(UnixMillis, LaneId)>,
    /// When to look for records that wait too long.
    pub(super) watches: BTreeSet<(UnixMillis, LaneId)>,
    pub(super) divert_load: DivertLoad,
}

impl Lanes {
    /// Returns lanes with `active_max` slots. A dead tenant is tried again after
    /// `shortest_delay`, when its record is due again, and not earlier with other
    /// records. So fewer of its records spend an attempt, and fewer are moved.
    pub fn new(active_max: usize, shortest_delay: Duration, longest_delay: Duration) -> Self {
        Self {
            lanes: Vec::new(),
            by_tenant: HashMap::new(),
            turns: Turns::new(),
            waiting: 0,
            waiting_bytes: 0,
            slots: Slots::new(active_max),
            untried_answered: Rate::default(),
            untried_waiting: None,
            pause: shortest_delay.min(PAUSE_MAX),
            longest_delay,
            pauses: BTreeSet::new(),
            watches: BTreeSet::new(),
            divert_load: DivertLoad::default(),
        }
    }

    /// Returns the tenant's lane, and creates it at the first use. Lanes are
    /// never dropped. Their number is bounded by the tenants configured since the
    /// start, some 300 bytes each.
    pub fn lane(&mut self, tenant: &TenantId, ceiling: usize) -> LaneId {
        match self.by_tenant.get(tenant) {
            Some(id) => *id,
            None => {
                let id = LaneId(self.lanes.len());
                self.by_tenant.insert(tenant.clone(), id);
                self.lanes.push(Lane::new(tenant.clone(), ceiling));
                id
            }
        }
    }

    /// Returns the maximum number of records that wait across all lanes.
    pub(super) fn waiting_max(&self) -> usize {
        WAITING_MIN.max(2 * self.slots.max())
    }

    /// Returns whether the lane is less than half full: a sign that further
    /// reading finds records that can start.
    pub fn is_under_half_full(&self, id: LaneId) -> bool {
        self.lanes[id.0].waiting.len() < LANE_RECORDS_MAX / 2
    }

    /// Adds a record to the lane's end.
    pub fn push(&mut self, id: LaneId, position: Position, bytes: usize, now: UnixMillis) {
        self.lanes[id.0].waiting.push_back(WaitingRecord {
            position,
            bytes,
            since: now,
        });
        self.count_waiting(id, bytes);
        self.watch(id);
    }

    /// Puts a chosen record back at the lane's head, after [`Lanes::release`].
    pub fn put_back(&mut self, id: LaneId, position: Position, bytes: usize, now: UnixMillis) {
        let waiting = &mut self.lanes[id.0].waiting;
        let since = waiting.front().map_or(now, |next| next.since);
        waiting.push_front(WaitingRecord {
            position,
            bytes,
            since,
        });
        self.count_waiting(id, bytes);
        self.watch(id);
    }

    fn count_waiting(&mut self, id: LaneId, bytes: usize) {
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.lanes[id.0].waiting_bytes += bytes;
        self.update_turn(id);
    }

    /// Gives the lane a turn if it may start an attempt; removes its turn
    /// otherwise.
    pub(super) fn update_turn(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        let class = lane.slot_class();
        let may_start = !lane.waiting.is_empty() && lane.may_start_more();
        lane.turn = match lane.turn {
            None if may_start => Some((self.turns.join(id, class), class)),
            None => None,
            Some((turn, was)) if may_start => {
                self.turns.change(id, turn, was, class);
                Some((turn, class))
            }
            Some((turn, was)) => {
                self.turns.leave(id, turn, was);
                None
            }
        };
    }

    /// Returns the next record that may start, round robin over the lanes, by its
    /// position and size. The record holds its slots until [`Lanes::release`]. A
    /// lane without an eligible record keeps its turn.
    pub fn choose(
        &mut self,
        mut eligible: impl FnMut((Position, usize)) -> bool,
    ) -> Option<(LaneId, Position)> {
        let lanes = &self.lanes;
        let mut turns = self.turns.in_order(&self.slots);
        let (id, at) = turns.find_map(|id| {
            let mut waiting = lanes[id.0].waiting.iter();
            let at = waiting.position(|record| eligible((record.position, record.bytes)))?;
            Some((id, at))
        })?;
        drop(turns);
        let lane = &mut self.lanes[id.0];
        let status = lane.limit.status();
        let WaitingRecord {
            position, bytes, ..
        } = lane.waiting.remove(at)?;
        lane.waiting_bytes -= bytes;
        lane.active += 1;
        let slots = self.slots.of(bytes);
        lane.slots += slots;
        lane.limit.saw_active(lane.active);
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        self.slots.take(slots, status);
        if let Some((turn, class)) = lane.turn.take() {
            self.turns.leave(id, turn, class);
        }
        self.update_turn(id);
        Some((id, position))
    }

    /// Releases the slots of a record of this size.
    pub fn release(&mut self, id: LaneId, bytes: usize) {
        let lane = &mut self.lanes[id.0];
        assert!(lane.active > 0, "L5: a slot was released twice");
        lane.active -= 1;
        let slots = self.slots.of(bytes);
        lane.slots -= slots;
        self.slots.release(slots, lane.limit.status());
        self.update_turn(id);
    }

    /// Records that an attempt of a chosen record starts.
    pub fn attempt_starts(&mut self, id: LaneId) {
        self.lanes[id.0].in_flight += 1;
    }

    /// Records that an attempt of a chosen record ended. [`Lanes::release`] follows.
    pub fn attempt_ended(&mut self, id: LaneId) {
        let in_flight = &mut self.lanes[id.0].in_flight;
        assert!(*in_flight > 0, "L5: an attempt ended twice");
        *in_flight -= 1;
    }

    /// Returns whether the lane's tenant answers.
    pub fn answers(&self, id: LaneId) -> bool {
        self.lanes[id.0].limit.status() == TenantStatus::Answering
    }

    /// Returns the round of an attempt that starts now.
    pub fn round(&self, id: LaneId) -> Round {
        self.lanes[id.0].limit.round()
    }

    /// Records that an attempt of `round` was delivered after this time.
    pub fn delivered(&mut self, id: LaneId, round: Round, after: Duration, now: UnixMillis) {
        let lane = &mut self.lanes[id.0];
        lane.note_end(after, now);
        lane.failures = 0;
        if lane.limit.is_dead() {
            lane.paused_until = None;
        }
        self.change_limit(id, now, |limit| limit.delivered(round));
    }

    /// Records that an attempt of `round` failed with this class after this time.
    pub fn failed(
        &mut self,
        id: LaneId,
        round: Round,
        failure: (ErrorClass, Duration),
        now: UnixMillis,
    ) {
        let (class, after) = failure;
        let lane = &mut self.lanes[id.0];
        lane.note_end(after, now);
        lane.failures = lane.failures.saturating_add(1);
        let pace = self.change_limit(id, now, |limit| limit.failed(round, class, after));
        let lane = &mut self.lanes[id.0];
        let pause = match lane.limit.is_dead() {
            true => self.pause,
            false => pace.min(self.pause),
        };
        if !pause.is_zero() {
            let until = now.plus(pause);
            lane.paused_until = lane.paused_until.max(Some(until));
            self.pauses.insert((until, id));
            self.update_turn(id);
        }
    }

    /// Records that an attempt ended and shows nothing of its tenant.
    pub fn ended(&mut self, id: LaneId, now: UnixMillis) {
        self.lanes[id.0].ends.add(1, now);
    }

    /// Ends the pauses that are over.
    pub fn end_pauses(&mut self, now: UnixMillis) {
        while let Some((until, id)) = self.pauses.first().copied() {
            if until > now {
                return;
            }
            self.pauses.pop_first();
            let lane = &mut self.lanes[id.0];
            lane.paused_until.take_if(|end| *end <= now);
            self.update_turn(id);
        }
    }

    /// Returns the end of the next pause.
    pub fn next_pause_end(&self) -> Option<UnixMillis> {
        self.pauses.first().map(|(until, _)| *until)
    }

    /// Changes a lane's limit, and the slots and the turn that depend on it.
    pub(super) fn change_limit<T>(
        &mut self,
        id: LaneId,
        now: UnixMillis,
        change: impl FnOnce(&mut Limit) -> T,
    ) -> T {
        let lane = &mut self.lanes[id.0];
        let before = lane.limit.status();
        let result = change(&mut lane.limit);
        let after = lane.limit.status();
        if (before, after) == (TenantStatus::Untried, TenantStatus::Answering) {
            let others = lane.active + lane.waiting.len();
            self.untried_answered.add(1 + others, now);
        }
        if before != after {
            self.slots.change(lane.slots, before, after);
        }
        self.update_turn(id);
        result
    }

    /// Records the end of a record's first attempt.
    pub fn first_attempt(&mut self, id: LaneId, delivered: bool, now: UnixMillis) {
        self.lanes[id.0].first_attempt = Some((now, delivered));
    }

    /// Removes all waiting records of a partition.
    pub fn remove_partition(&mut self, partition: Partition) {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let before = (lane.waiting.len(), lane.waiting_bytes);
            lane.waiting.retain(|record| {
                let stays = record.position.partition != partition;
                if !stays {
                    lane.waiting_bytes -= record.bytes;
                }
                stays
            });
            self.waiting -= before.0 - lane.waiting.len();
            self.waiting_bytes -= before.1 - lane.waiting_bytes;
            self.update_turn(LaneId(index));
        }
    }

    /// Removes all waiting records.
    pub fn clear_waiting(&mut self) {
        self.waiting = 0;
        self.waiting_bytes = 0;
        for index in 0..self.lanes.len() {
            self.lanes[index].waiting.clear();
            self.lanes[index].waiting_bytes = 0;
            self.update_turn(LaneId(index));
        }
    }

    /// Sets every lane's ceiling from its tenant's settings. A tenant without a
    /// callback keeps its ceiling: its waiting records are skipped in turn.
    pub fn set_ceilings(&mut self, ceiling_of: impl Fn(&TenantId) -> Option<usize>) {
        for index in 0..self.lanes.len() {
            if let Some(ceiling) = ceiling_of(&self.lanes[index].tenant) {
                self.lanes[index].limit.set_ceiling(ceiling);
            }
            self.update_turn(LaneId(index));
        }
    }

    /// Returns whether some lane has a turn.
    pub fn has_turns(&self) -> bool {
        self.turns.any(&self.slots)
    }

    /// Returns the tenants whose lane is held back with records waiting, longest
    /// lane first. Failing tenants are excluded.
    pub fn limited(&self) -> Vec<TenantId> {
        let is_limited = |lane: &&Lane| {
            let no_share = self.turns.is_share_full(lane.slot_class(), &self.slots);
            let held_back = no_share || !lane.may_start_more();
            held_back && lane.failures == 0 && !lane.waiting.is_empty()
        };
        let mut limited: Vec<&Lane> = self.lanes.iter().filter(is_limited).collect();
        limited.sort_by_key(|lane| Reverse(lane.waiting.len()));
        limited.iter().map(|lane| lane.tenant.clone()).collect()
    }

    /// Returns whether the lane's records wait for their own tenant. It hangs, it
    /// pauses, or it has as many attempts in progress as it may have.
    pub fn waits_for_tenant(&self, id: LaneId) -> bool {
        let lane = &self.lanes[id.0];
        lane.limit.status() == TenantStatus::Hanging || !lane.may_start_more()
    }

    /// Returns whether the records of this tenant wait for it, as
    /// [`Lanes::waits_for_tenant`]. A tenant without a lane makes no record wait.
    pub fn is_waited_for(&self, tenant: &TenantId) -> bool {
        let lane = self.by_tenant.get(tenant);
        lane.is_some_and(|id| self.waits_for_tenant(*id))
    }

    /// Returns how many tenants had a record's first attempt in the last 5
    /// minutes.
    pub fn attempted(&self, now: UnixMillis) -> FirstAttempts {
        let mut attempted = FirstAttempts::default();
        for (at, delivered) in self.lanes.iter().filter_map(|lane| lane.first_attempt) {
            if now.since(at) < RECENT {
                attempted.delivered += usize::from(delivered);
                attempted.failed += usize::from(!delivered);
            }
        }
        attempted
    }
}

impl Lane {
    fn new(tenant: TenantId, ceiling: usize) -> Self {
        Self {
            tenant,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            active: 0,
            in_flight: 0,
            slots: 0,
            limit: Limit::new(ceiling),
            paused_until: None,
            turn: None,
            held_back: None,
            ends: Rate::default(),
            attempt_time: AttemptTime::default(),
            diverts: LaneDiverts::default(),
            watched: false,
            failures: 0,
            first_attempt: None,
        }
    }

    pub(super) fn slot_class(&self) -> SlotClass {
        SlotClass::of(self.limit.status(), self.active)
    }

    /// Returns whether its tenant may have one more attempt.
    pub(super) fn may_start_more(&self) -> bool {
        self.paused_until.is_none() && self.limit.allows(self.active)
    }

    /// The same beside the attempts in flight alone. Records that are being reserved
    /// wait for Kafka.
    pub(super) fn waits_for_answers(&self) -> bool {
        self.paused_until.is_some() || !self.limit.allows(self.in_flight)
    }
}
