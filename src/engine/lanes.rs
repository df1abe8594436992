//! Lanes: for each tenant a bounded FIFO and a limit of attempts at once,
//! served round robin. Holds positions only; the records are the ledgers'.
//!
//! Arithmetic: a tenant with 64 attempts at once that answers in 5 ms takes
//! 12,800 records/s; 256 waiting records are its next 20 ms, which covers a
//! commit and a transaction. All lanes together hold at most
//! [`WAITING_MIN`] records or twice the process's slots, whichever is more:
//! at 1.5 kB a record some 3 MiB, at 1 MiB a record [`WAITING_BYTES_MAX`].
//! Lanes that their tenants' limits hold back share three quarters of that, the
//! hanging among them half, each a quarter of what is left: one gets its 256,
//! of 5,000 dead ones most get nothing, and their records are diverted.

use super::limit::{Limit, Round, Standing};
use super::slots::{Slots, Turn, Turns};
use crate::model::attempt::ErrorClass;
use crate::model::fact::Attempted;
use crate::model::position::{Partition, Position};
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// The most records that wait in one lane whose tenant is at its limit.
pub const LANE_RECORDS_MAX: usize = 256;
/// The most bytes that wait in one lane whose tenant is at its limit.
pub const LANE_BYTES_MAX: usize = 4 << 20;
/// All lanes may hold this many records, however few slots there are.
pub const WAITING_MIN: usize = 2_048;
/// The most bytes that wait in all lanes.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// How long a rate is measured.
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// How long a lane that has just come to its limit has the benefit of the
/// doubt: time for a tenant that answers in 20 ms to show how fast it is.
const GRACE: Duration = Duration::from_millis(150);
/// A dead tenant is tried again after this at the latest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What counts as lately in [`Attempted`].
const LATELY: Duration = Duration::from_secs(300);

/// A lane, by its place in [`Lanes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LaneId(usize);

/// What a lane says to one more record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It may wait here.
    Yes,
    /// The tenant's own limit holds and there is no room behind it, but that is
    /// so since a moment: it had better wait where it is.
    Hold,
    /// The tenant's own limit holds and there is no room behind it, but the
    /// lane empties so fast that it had better wait where it is, unless others
    /// wait behind it.
    Soon,
    /// The tenant's own limit holds and there is no room behind it: divert.
    No,
    /// So many of whom nothing is known hang that there is no slot to try this
    /// one: divert, and try again soon.
    NotTried,
    /// The process's own limit holds: reading stops.
    ProcessFull,
}

/// How much room a record's partition has for unfinished ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crowd {
    /// Enough.
    Roomy,
    /// No more is taken that would wait for a tenant that hangs.
    Filling,
    /// What is left is for records that can start: none more is taken that
    /// would wait for its tenant.
    Crowded,
}

struct Lane {
    tenant: TenantId,
    waiting: VecDeque<(Position, usize)>,
    waiting_bytes: usize,
    /// Reserved, being reserved or in flight.
    active: usize,
    limit: Limit,
    /// Until then nothing starts.
    paused_until: Option<UnixMillis>,
    turn: Option<Turn>,
    /// Since when its limit is seen to hold it back, and when last.
    limited: Option<(UnixMillis, UnixMillis)>,
    window_start: UnixMillis,
    window_count: usize,
    window_before: usize,
    /// Whether its last attempt failed.
    failing: bool,
    /// When its last first attempt ended, and whether that delivered.
    first_attempt: Option<(UnixMillis, bool)>,
}

/// All lanes of this process.
pub struct Lanes {
    lanes: Vec<Lane>,
    by_tenant: HashMap<TenantId, LaneId>,
    turns: Turns<LaneId>,
    waiting: usize,
    waiting_bytes: usize,
    slots: Slots,
    pause: Duration,
    /// When pauses end, soonest first, with some that ended before their time.
    pauses: VecDeque<(UnixMillis, LaneId)>,
}

impl Lanes {
    /// No lane yet; at most `active_max` slots in all. A dead tenant is tried
    /// again after `shortest_delay`, when its record is, and not sooner with
    /// others: so fewer of them spend an attempt, and fewer are moved.
    #[must_use]
    pub fn new(active_max: usize, shortest_delay: Duration) -> Self {
        Self {
            lanes: Vec::new(),
            by_tenant: HashMap::new(),
            turns: Turns::new(),
            waiting: 0,
            waiting_bytes: 0,
            slots: Slots::new(active_max),
            pause: shortest_delay.min(PAUSE_MAX),
            pauses: VecDeque::new(),
        }
    }

    /// The tenant's lane, made when it is first needed. Lanes are never
    /// dropped, so their number is bounded by that of the tenants configured
    /// since the start, some 300 bytes each.
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

    /// The most records that may wait in all lanes together.
    fn waiting_max(&self) -> usize {
        WAITING_MIN.max(2 * self.slots.max())
    }

    /// Whether one more record of this size may wait in the lane.
    pub fn room(&mut self, id: LaneId, crowd: Crowd, now: UnixMillis) -> Room {
        let limited = self.is_limited(id, now);
        let waiting_max = self.waiting_max();
        let free = waiting_max.saturating_sub(self.waiting);
        let free_bytes = WAITING_BYTES_MAX.saturating_sub(self.waiting_bytes);
        let slots_full = self.slots.are_taken() && self.waiting >= self.slots.max();
        let lane = &mut self.lanes[id.0];
        if !limited {
            let pressed = slots_full || free == 0 || free_bytes == 0;
            let enough =
                lane.waiting.len() >= LANE_RECORDS_MAX || lane.waiting_bytes >= LANE_BYTES_MAX;
            return if pressed || enough {
                Room::ProcessFull
            } else {
                Room::Yes
            };
        }
        // A share of what is free beyond a quarter of all (Choudhury and Hahne's
        // dynamic threshold): however many lanes are at their limit, that
        // quarter stays for the others. Those that hang leave another quarter,
        // or who is not known yet would never be tried.
        let kept = match lane.limit.standing() {
            Standing::Hanging => 2,
            Standing::Answering | Standing::Unknown => 4,
        };
        let share = |free: usize, all: usize| free.saturating_sub(all / kept) / 4;
        let records_max = LANE_RECORDS_MAX.min(share(free, waiting_max));
        let bytes_max = LANE_BYTES_MAX.min(share(free_bytes, WAITING_BYTES_MAX));
        let fits = lane.waiting.len() < records_max && lane.waiting_bytes < bytes_max;
        let crowded = match lane.limit.standing() {
            Standing::Hanging => crowd != Crowd::Roomy,
            Standing::Answering | Standing::Unknown => crowd == Crowd::Crowded,
        };
        if fits && !crowded {
            return Room::Yes;
        }
        let no_share = self.slots.is_share_taken(lane.limit.standing());
        if lane.failing || no_share {
            return match lane.limit.standing() {
                Standing::Unknown => Room::NotTried,
                Standing::Answering | Standing::Hanging => Room::No,
            };
        }
        if lane
            .limited
            .is_some_and(|(since, _)| now.since(since) < GRACE)
        {
            Room::Hold
        } else if lane.empties_fast(now) {
            Room::Soon
        } else {
            Room::No
        }
    }

    /// Whether it is the tenant that holds its lane back: its own limit, or
    /// that it has no slot because too many like it have one. A lane that was
    /// seen so lately still is, as long as its queue would fill its limit: one
    /// answer does not make an overloaded tenant one that waits for us.
    fn is_limited(&mut self, id: LaneId, now: UnixMillis) -> bool {
        let lane = &mut self.lanes[id.0];
        let standing = lane.limit.standing();
        let full = self.slots.are_taken();
        let no_share = self.slots.is_share_taken(standing);
        let held_back =
            !lane.may_start_more() || (no_share && (!full || standing == Standing::Hanging));
        if held_back {
            let since = lane.limited.map_or(now, |(since, _)| since);
            lane.limited = Some((since, now));
            return true;
        }
        if lane.limit.allows(lane.active + lane.waiting.len()) {
            lane.limited = None;
        }
        let lately = |(_, last): (_, UnixMillis)| now.since(last) < RATE_WINDOW;
        !full && lane.limited.is_some_and(lately)
    }

    /// Whether the lane is less than half full: a sign that reading on finds
    /// records that can be sent.
    #[must_use]
    pub fn is_light(&self, id: LaneId) -> bool {
        self.lanes[id.0].waiting.len() < LANE_RECORDS_MAX / 2
    }

    /// A record waits at the lane's end.
    pub fn push(&mut self, id: LaneId, position: Position, bytes: usize) {
        self.lanes[id.0].waiting.push_back((position, bytes));
        self.grew(id, bytes);
    }

    /// A record that was chosen goes back to the lane's head; its slot is free again.
    pub fn put_back(&mut self, id: LaneId, position: Position, bytes: usize) {
        self.lanes[id.0].waiting.push_front((position, bytes));
        self.grew(id, bytes);
        self.release(id);
    }

    fn grew(&mut self, id: LaneId, bytes: usize) {
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.lanes[id.0].waiting_bytes += bytes;
        self.offer_turn(id);
    }

    /// Gives the lane a turn if it may start something, and takes it otherwise.
    fn offer_turn(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        let standing = lane.limit.standing();
        let may_start = !lane.waiting.is_empty() && lane.may_start_more();
        match lane.turn {
            None if may_start => lane.turn = Some(self.turns.join(id, standing)),
            Some(turn) if !may_start => {
                self.turns.leave(id, turn, standing);
                lane.turn = None;
            }
            _ => {}
        }
    }

    /// The next record that may start, round robin over the lanes; it takes a
    /// slot until [`Lanes::release`] or [`Lanes::put_back`]. Lanes whose
    /// records are all in partitions that are not eligible keep their turn.
    pub fn choose(
        &mut self,
        mut eligible: impl FnMut(Position) -> bool,
    ) -> Option<(LaneId, Position)> {
        let lanes = &self.lanes;
        let mut turns = self.turns.in_order(&self.slots);
        let (id, at) = turns.find_map(|id| {
            let mut waiting = lanes[id.0].waiting.iter();
            let at = waiting.position(|(position, _)| eligible(*position))?;
            Some((id, at))
        })?;
        drop(turns);
        let lane = &mut self.lanes[id.0];
        let standing = lane.limit.standing();
        let (position, bytes) = lane.waiting.remove(at)?;
        lane.waiting_bytes -= bytes;
        lane.active += 1;
        lane.limit.saw_active(lane.active);
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        self.slots.take(standing);
        if let Some(turn) = lane.turn.take() {
            self.turns.leave(id, turn, standing);
        }
        self.offer_turn(id);
        Some((id, position))
    }

    /// A slot is free again.
    pub fn release(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        assert!(lane.active > 0, "L5: a slot was given back twice");
        lane.active -= 1;
        self.slots.give_back(lane.limit.standing());
        self.offer_turn(id);
    }

    /// The round that an attempt of this lane begins in.
    #[must_use]
    pub fn round(&self, id: LaneId) -> Round {
        self.lanes[id.0].limit.round()
    }

    /// An attempt of this lane was answered with success.
    pub fn delivered(&mut self, id: LaneId, round: Round, now: UnixMillis) {
        let lane = &mut self.lanes[id.0];
        lane.failing = false;
        lane.paused_until = None;
        lane.count_end(now);
        self.adapt(id, |limit| limit.delivered(round));
    }

    /// An attempt of this lane failed.
    pub fn failed(
        &mut self,
        id: LaneId,
        round: Round,
        failure: (ErrorClass, Duration),
        now: UnixMillis,
    ) {
        let (class, after) = failure;
        let lane = &mut self.lanes[id.0];
        lane.failing = true;
        lane.count_end(now);
        self.adapt(id, |limit| limit.failed(round, class, after));
        let lane = &mut self.lanes[id.0];
        if lane.limit.is_dead() {
            let until = now.plus(self.pause);
            lane.paused_until = Some(until);
            self.pauses.push_back((until, id));
            self.offer_turn(id);
        }
    }

    /// Lanes whose pause is over may start again.
    pub fn end_pauses(&mut self, now: UnixMillis) {
        while let Some((until, id)) = self.pauses.front().copied() {
            if until > now {
                return;
            }
            self.pauses.pop_front();
            let lane = &mut self.lanes[id.0];
            lane.paused_until.take_if(|end| *end <= now);
            self.offer_turn(id);
        }
    }

    /// When the next pause ends.
    #[must_use]
    pub fn next_pause_end(&self) -> Option<UnixMillis> {
        self.pauses.front().map(|(until, _)| *until)
    }

    /// Changes a lane's limit, and what hangs on it.
    fn adapt(&mut self, id: LaneId, change: impl FnOnce(&mut Limit)) {
        let lane = &mut self.lanes[id.0];
        let before = lane.limit.standing();
        change(&mut lane.limit);
        let after = lane.limit.standing();
        if before != after {
            self.slots.change(lane.active, before, after);
            if let Some(turn) = lane.turn {
                self.turns.change(id, turn, before, after);
            }
        }
        self.offer_turn(id);
    }

    /// A record's first attempt in this lane ended.
    pub fn first_attempt(&mut self, id: LaneId, delivered: bool, now: UnixMillis) {
        self.lanes[id.0].first_attempt = Some((now, delivered));
    }

    /// Takes all waiting records of a partition out.
    pub fn remove_partition(&mut self, partition: Partition) {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let before = (lane.waiting.len(), lane.waiting_bytes);
            lane.waiting.retain(|(position, bytes)| {
                let stays = position.partition != partition;
                if !stays {
                    lane.waiting_bytes -= bytes;
                }
                stays
            });
            self.waiting -= before.0 - lane.waiting.len();
            self.waiting_bytes -= before.1 - lane.waiting_bytes;
            self.offer_turn(LaneId(index));
        }
    }

    /// Takes all waiting records of all partitions out.
    pub fn clear_waiting(&mut self) {
        self.waiting = 0;
        self.waiting_bytes = 0;
        for index in 0..self.lanes.len() {
            self.lanes[index].waiting.clear();
            self.lanes[index].waiting_bytes = 0;
            self.offer_turn(LaneId(index));
        }
    }

    /// Gives every lane its tenant's present ceiling; tenants without a callback
    /// keep theirs, for what waits there is skipped when its turn comes.
    pub fn set_ceilings(&mut self, ceiling_of: impl Fn(&TenantId) -> Option<usize>) {
        for index in 0..self.lanes.len() {
            if let Some(ceiling) = ceiling_of(&self.lanes[index].tenant) {
                self.lanes[index].limit.set_ceiling(ceiling);
            }
            self.offer_turn(LaneId(index));
        }
    }

    /// Whether some lane may have a record that can start.
    #[must_use]
    pub fn has_turns(&self) -> bool {
        self.turns.any(&self.slots)
    }

    /// Tenants that do not fail and whose lane is at its limit with records
    /// waiting, those with the most first.
    #[must_use]
    pub fn limited(&self) -> Vec<TenantId> {
        let is_limited = |lane: &&Lane| {
            let no_share = self.slots.is_share_taken(lane.limit.standing());
            let held_back = no_share || !lane.may_start_more();
            held_back && !lane.failing && !lane.waiting.is_empty()
        };
        let mut limited: Vec<&Lane> = self.lanes.iter().filter(is_limited).collect();
        limited.sort_by_key(|lane| Reverse(lane.waiting.len()));
        limited.iter().map(|lane| lane.tenant.clone()).collect()
    }

    /// Tenants with a first attempt in the last 5 minutes.
    #[must_use]
    pub fn attempted(&self, now: UnixMillis) -> Attempted {
        let mut attempted = Attempted::default();
        for (at, delivered) in self.lanes.iter().filter_map(|lane| lane.first_attempt) {
            if now.since(at) < LATELY {
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
            limit: Limit::new(ceiling),
            paused_until: None,
            turn: None,
            limited: None,
            window_start: UnixMillis(0),
            window_count: 0,
            window_before: 0,
            failing: false,
            first_attempt: None,
        }
    }

    /// Whether its tenant may have one more attempt.
    fn may_start_more(&self) -> bool {
        self.paused_until.is_none() && self.limit.allows(self.active)
    }

    /// Whether its queue is empty within three windows at its present rate.
    fn empties_fast(&self, now: UnixMillis) -> bool {
        let recent = now.since(self.window_start) < 2 * RATE_WINDOW;
        recent && self.window_before.max(self.window_count) * 3 >= self.waiting.len().max(3)
    }

    /// Counts an attempt that ended, well or not: either empties the lane.
    fn count_end(&mut self, now: UnixMillis) {
        let age = now.since(self.window_start);
        if age >= RATE_WINDOW {
            self.window_before = if age < 2 * RATE_WINDOW {
                self.window_count
            } else {
                0
            };
            self.window_count = 0;
            self.window_start = now;
        }
        self.window_count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{Offset, Topic};

    const NOW: UnixMillis = UnixMillis(1_000);

    fn position(offset: i64) -> Position {
        Position {
            partition: Partition {
                topic: Topic::Source,
                number: 0,
            },
            offset: Offset(offset),
        }
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("valid tenant id")
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = Lanes::new(100, PAUSE_MAX);
        let (a, b) = (lanes.lane(&tenant("a"), 10), lanes.lane(&tenant("b"), 10));
        for offset in 0..4 {
            lanes.push(a, position(offset), 1);
        }
        lanes.push(b, position(10), 1);
        let order: Vec<i64> = std::iter::from_fn(|| lanes.choose(|_| true))
            .map(|(_, p)| p.offset.0)
            .collect();
        assert_eq!(order, [0, 10, 1, 2, 3]);
    }

    #[test]
    fn a_tenant_at_its_limit_fills_its_lane_and_no_more() {
        let mut lanes = Lanes::new(1_024, PAUSE_MAX);
        let dead = lanes.lane(&tenant("dead"), 2);
        for offset in 0..2 {
            lanes.push(dead, position(offset), 1);
            lanes.choose(|_| true).expect("a free slot");
        }
        for offset in 0..LANE_RECORDS_MAX as i64 {
            assert_eq!(lanes.room(dead, Crowd::Roomy, NOW), Room::Yes);
            lanes.push(dead, position(10 + offset), 1);
        }
        assert_eq!(lanes.choose(|_| true), None);
        assert_eq!(lanes.room(dead, Crowd::Roomy, NOW), Room::Hold);
        let later = NOW.plus(GRACE);
        assert_eq!(lanes.room(dead, Crowd::Roomy, later), Room::No);
    }

    #[test]
    fn many_dead_lanes_leave_room_for_the_healthy() {
        let mut lanes = Lanes::new(2_048, PAUSE_MAX);
        for index in 0..100 {
            let dead = lanes.lane(&tenant(&format!("dead{index}")), 1);
            lanes.push(dead, position(0), 1);
            lanes.choose(|_| true).expect("a free slot");
            while lanes.room(dead, Crowd::Roomy, NOW) == Room::Yes {
                lanes.push(dead, position(1), 1);
            }
        }
        let healthy = lanes.lane(&tenant("healthy"), 64);
        assert_eq!(lanes.room(healthy, Crowd::Roomy, NOW), Room::Yes);
        assert_eq!(lanes.room(healthy, Crowd::Crowded, NOW), Room::Yes);
    }

    #[test]
    fn the_process_limit_stops_reading_and_diverts_nothing() {
        let mut lanes = Lanes::new(2, PAUSE_MAX);
        let lane = lanes.lane(&tenant("a"), 64);
        for offset in 0..2 {
            lanes.push(lane, position(offset), 1);
            lanes.choose(|_| true).expect("a free slot");
        }
        for offset in 0..2 {
            assert_eq!(lanes.room(lane, Crowd::Roomy, NOW), Room::Yes);
            lanes.push(lane, position(offset + 2), 1);
        }
        assert_eq!(lanes.room(lane, Crowd::Roomy, NOW), Room::ProcessFull);
        assert_eq!(lanes.choose(|_| true), None);
    }

    #[test]
    fn what_is_not_eligible_keeps_its_place() {
        let mut lanes = Lanes::new(10, PAUSE_MAX);
        let lane = lanes.lane(&tenant("a"), 10);
        lanes.push(lane, position(1), 1);
        lanes.push(lane, position(2), 1);
        assert_eq!(lanes.choose(|p| p.offset.0 == 2), Some((lane, position(2))));
        assert_eq!(lanes.choose(|p| p.offset.0 == 2), None);
        assert_eq!(lanes.choose(|_| true), Some((lane, position(1))));
    }

    #[test]
    fn tenants_are_told_as_limited_and_lately_attempted() {
        let mut lanes = Lanes::new(100, PAUSE_MAX);
        let [a, b] = ["a", "b"].map(|name| lanes.lane(&tenant(name), 1));
        let later = NOW.plus(LATELY);
        let first = Round::default();
        lanes.failed(a, first, (ErrorClass::Dns, Duration::ZERO), NOW);
        lanes.first_attempt(a, false, NOW);
        lanes.failed(a, first, (ErrorClass::Http5xx, Duration::ZERO), later);
        lanes.failed(b, first, (ErrorClass::Connect, Duration::ZERO), later);
        lanes.first_attempt(b, false, later);
        assert_eq!(lanes.attempted(NOW).failed, 2);
        assert_eq!(lanes.attempted(later).failed, 1, "a's is long ago");
        lanes.delivered(b, first, later);
        lanes.first_attempt(b, true, later);
        assert_eq!(lanes.attempted(later).delivered, 1);

        assert_eq!(lanes.limited(), []);
        for (id, offset) in [(a, 1), (a, 2), (b, 3), (b, 4), (b, 5)] {
            lanes.push(id, position(offset), 1);
        }
        lanes.choose(|_| true).expect("a's turn");
        lanes.choose(|_| true).expect("b's turn");
        assert_eq!(lanes.limited(), [tenant("b")], "a fails, and is told so");
        lanes.delivered(a, lanes.round(a), later);
        assert_eq!(lanes.limited(), [tenant("b"), tenant("a")]);
    }

    /// A lane whose tenant hangs, with so many attempts that hang.
    fn hanging(lanes: &mut Lanes, name: &str, attempts: i64) -> LaneId {
        let id = lanes.lane(&tenant(name), 64);
        for offset in 0..attempts {
            lanes.push(id, position(offset), 1);
        }
        while lanes.choose(|_| true).is_some() {}
        id
    }

    fn time_out(lanes: &mut Lanes, id: LaneId) {
        let round = lanes.round(id);
        lanes.release(id);
        lanes.failed(
            id,
            round,
            (ErrorClass::Timeout, Duration::from_secs(5)),
            NOW,
        );
    }

    #[test]
    fn the_dead_together_hold_a_quarter_of_the_slots() {
        let mut lanes = Lanes::new(64, PAUSE_MAX);
        for number in 0..200 {
            let id = hanging(&mut lanes, &format!("dead{number}"), 1);
            for _ in 0..4 {
                if lanes.lanes[id.0].active > 0 {
                    time_out(&mut lanes, id);
                    lanes.push(id, position(0), 1);
                    lanes.end_pauses(NOW.plus(PAUSE_MAX));
                    while lanes.choose(|_| true).is_some() {}
                }
            }
        }
        for number in 0..200 {
            hanging(&mut lanes, &format!("new{number}"), 1);
        }
        let active = |standing| {
            let of = |lane: &&Lane| lane.limit.standing() == standing;
            let lanes = lanes.lanes.iter().filter(of);
            lanes.map(|lane| lane.active).sum::<usize>()
        };
        assert_eq!(
            (active(Standing::Hanging), active(Standing::Unknown)),
            (16, 32)
        );
        let healthy = lanes.lane(&tenant("healthy"), 64);
        lanes.adapt(healthy, |limit| limit.delivered(Round::default()));
        for offset in 0..8 {
            assert_eq!(lanes.room(healthy, Crowd::Roomy, NOW), Room::Yes);
            lanes.push(healthy, position(offset), 1);
            let chosen = lanes
                .choose(|_| true)
                .expect("a slot for those that answer");
            assert_eq!(chosen.0, healthy);
        }
    }

    #[test]
    fn a_tenant_at_the_floor_keeps_its_queue_and_diverts_without_delay() {
        let mut lanes = Lanes::new(1_024, PAUSE_MAX);
        let dead = hanging(&mut lanes, "dead", 300);
        assert_eq!(lanes.room(dead, Crowd::Roomy, NOW), Room::Hold);
        for _ in 0..3 {
            time_out(&mut lanes, dead);
        }
        assert_eq!(lanes.room(dead, Crowd::Roomy, NOW), Room::No);
        let in_partition = lanes.lane(&tenant("other"), 1);
        lanes.push(in_partition, position(0), 1);
        lanes.choose(|_| true).expect("a free slot");
        assert_eq!(lanes.room(in_partition, Crowd::Roomy, NOW), Room::Yes);
        assert_eq!(lanes.room(in_partition, Crowd::Crowded, NOW), Room::Hold);
    }

    /// The slow tenant's queue is full, and one of its attempts ends: that is
    /// no sign that reading should stop for all.
    #[test]
    fn one_answer_of_an_overloaded_tenant_stops_nobody() {
        let mut lanes = Lanes::new(1_024, PAUSE_MAX);
        let slow = hanging(&mut lanes, "slow", 8 + LANE_RECORDS_MAX as i64);
        lanes.room(slow, Crowd::Roomy, NOW);
        let later = NOW.plus(GRACE);
        lanes.room(slow, Crowd::Roomy, later);
        let later = later.plus(Duration::from_millis(50));
        lanes.release(slow);
        lanes.delivered(slow, Round::default(), later);
        assert_eq!(lanes.room(slow, Crowd::Roomy, later), Room::No);
    }

    #[test]
    fn waiting_lanes_get_a_turn_between_two_starts_of_one() {
        let mut lanes = Lanes::new(1_000, PAUSE_MAX);
        let ids: Vec<LaneId> = (0..9)
            .map(|n| lanes.lane(&tenant(&format!("t{n}")), 64))
            .collect();
        for (n, id) in ids.iter().enumerate() {
            match n % 3 {
                0 => {}
                1 => lanes.adapt(*id, |limit| limit.delivered(Round::default())),
                _ => lanes.adapt(*id, |limit| {
                    limit.failed(Round::default(), ErrorClass::Timeout, GRACE)
                }),
            }
            for offset in 0..4 {
                lanes.push(*id, position(offset), 1);
            }
        }
        for _ in 0..4 {
            let mut started: Vec<LaneId> = ids
                .iter()
                .map(|_| lanes.choose(|_| true).expect("a free slot").0)
                .collect();
            started.sort();
            assert_eq!(started, ids);
        }
    }

    #[test]
    fn a_dead_tenant_is_tried_again_when_its_record_would_be() {
        let delay = Duration::from_millis(200);
        let mut lanes = Lanes::new(64, delay);
        let dead = hanging(&mut lanes, "dead", 8);
        for _ in 0..7 {
            time_out(&mut lanes, dead);
        }
        lanes.push(dead, position(9), 1);
        time_out(&mut lanes, dead);
        assert_eq!(lanes.choose(|_| true), None);
        let until = lanes.next_pause_end().expect("it pauses");
        assert_eq!(until, NOW.plus(delay));
        lanes.end_pauses(NOW.plus(delay - Duration::from_millis(1)));
        assert_eq!(lanes.choose(|_| true), None);
        lanes.end_pauses(until);
        assert_eq!(lanes.choose(|_| true), Some((dead, position(9))));
        lanes.release(dead);
        lanes.delivered(dead, lanes.round(dead), until);
        lanes.push(dead, position(10), 1);
        assert!(lanes.choose(|_| true).is_some(), "it answers again");
    }
}
