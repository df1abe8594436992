//! Lanes: for each tenant a bounded FIFO and a limit of attempts at once,
//! served round robin. Holds positions only; the records are the ledgers'.
//!
//! Arithmetic: a tenant with 64 attempts at once that answers in 5 ms takes
//! 12,800 records/s; 256 waiting records are its next 20 ms, which covers a
//! commit and a transaction. All lanes together hold at most
//! [`WAITING_MIN`] records or twice the process's slots, whichever is more:
//! at 1.5 kB a record some 3 MiB, at 1 MiB a record [`WAITING_BYTES_MAX`].

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

/// How long a rate is measured, and how long a lane that has just filled up is
/// given the benefit of the doubt.
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// A lane that takes this many in a window empties within two of them.
const FAST_PER_WINDOW: u32 = LANE_RECORDS_MAX as u32 / 2;
/// What counts as lately in [`Attempted`].
const LATELY: Duration = Duration::from_secs(300);

/// A lane, by its place in [`Lanes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneId(usize);

/// What a lane says to one more record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It may wait here.
    Yes,
    /// The tenant's own limit holds and its queue is full, but it empties so
    /// fast that the record had better wait where it is.
    Soon,
    /// The tenant's own limit holds and its queue is full: divert.
    No,
    /// The process's own limit holds: reading stops.
    ProcessFull,
}

struct Lane {
    tenant: TenantId,
    waiting: VecDeque<(Position, usize)>,
    waiting_bytes: usize,
    /// Reserved, being reserved or in flight.
    active: usize,
    limit: usize,
    queued_for_turn: bool,
    full_since: Option<UnixMillis>,
    window_start: UnixMillis,
    window_count: u32,
    window_before: u32,
    /// When its last first attempt ended, and whether that delivered.
    first_attempt: Option<(UnixMillis, bool)>,
}

/// All lanes of this process.
pub struct Lanes {
    lanes: Vec<Lane>,
    by_tenant: HashMap<TenantId, LaneId>,
    turns: VecDeque<LaneId>,
    waiting: usize,
    waiting_bytes: usize,
    active: usize,
    active_max: usize,
}

impl Lanes {
    /// No lane yet; at most `active_max` slots in all.
    #[must_use]
    pub fn new(active_max: usize) -> Self {
        Self {
            lanes: Vec::new(),
            by_tenant: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            waiting_bytes: 0,
            active: 0,
            active_max,
        }
    }

    /// The tenant's lane, made when it is first needed. Lanes are never
    /// dropped, so their number is bounded by that of the tenants configured
    /// since the start, some 200 bytes each.
    pub fn lane(&mut self, tenant: &TenantId, limit: usize) -> LaneId {
        let id = match self.by_tenant.get(tenant) {
            Some(id) => *id,
            None => {
                let id = LaneId(self.lanes.len());
                self.by_tenant.insert(tenant.clone(), id);
                self.lanes.push(Lane::new(tenant.clone()));
                id
            }
        };
        self.lanes[id.0].limit = limit;
        id
    }

    /// The most records that may wait in all lanes together.
    fn waiting_max(&self) -> usize {
        WAITING_MIN.max(2 * self.active_max)
    }

    /// Whether one more record of this size may wait in the lane.
    pub fn room(&mut self, id: LaneId, now: UnixMillis) -> Room {
        let waiting_max = self.waiting_max();
        let free = waiting_max.saturating_sub(self.waiting);
        let free_bytes = WAITING_BYTES_MAX.saturating_sub(self.waiting_bytes);
        let slots_full = self.active >= self.active_max && self.waiting >= self.active_max;
        let lane = &mut self.lanes[id.0];
        if lane.active < lane.limit {
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
        // quarter stays for the others.
        let share = |free: usize, all: usize| free.saturating_sub(all / 4) / 4;
        let records_max = LANE_RECORDS_MAX.min(share(free, waiting_max));
        let bytes_max = LANE_BYTES_MAX.min(share(free_bytes, WAITING_BYTES_MAX));
        if lane.waiting.len() < records_max && lane.waiting_bytes < bytes_max {
            return Room::Yes;
        }
        let full_since = *lane.full_since.get_or_insert(now);
        let fast = lane.window_before.max(lane.window_count) >= FAST_PER_WINDOW
            && now.since(lane.window_start) < 2 * RATE_WINDOW;
        if fast || now.since(full_since) < RATE_WINDOW {
            Room::Soon
        } else {
            Room::No
        }
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

    fn offer_turn(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        if !lane.queued_for_turn && !lane.waiting.is_empty() && lane.active < lane.limit {
            lane.queued_for_turn = true;
            self.turns.push_back(id);
        }
    }

    /// The next record that may start, round robin over the lanes; it takes a
    /// slot until [`Lanes::release`] or [`Lanes::put_back`]. Lanes whose
    /// records are all in partitions that are not eligible keep their turn.
    pub fn choose(
        &mut self,
        mut eligible: impl FnMut(Position) -> bool,
    ) -> Option<(LaneId, Position)> {
        if self.active >= self.active_max {
            return None;
        }
        for _ in 0..self.turns.len() {
            let id = self.turns.pop_front()?;
            let lane = &mut self.lanes[id.0];
            lane.queued_for_turn = false;
            if lane.waiting.is_empty() || lane.active >= lane.limit {
                continue;
            }
            let found = lane
                .waiting
                .iter()
                .position(|(position, _)| eligible(*position));
            let chosen = found.and_then(|at| lane.waiting.remove(at));
            if let Some((position, bytes)) = chosen {
                lane.waiting_bytes -= bytes;
                lane.active += 1;
                lane.full_since = None;
                self.waiting -= 1;
                self.waiting_bytes -= bytes;
                self.active += 1;
                assert!(
                    self.active <= self.active_max,
                    "L5: more slots taken than there are"
                );
                self.offer_turn(id);
                return Some((id, position));
            }
            self.offer_turn(id);
        }
        None
    }

    /// A slot is free again.
    pub fn release(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        assert!(lane.active > 0, "L5: a slot was given back twice");
        lane.active -= 1;
        self.active -= 1;
        self.offer_turn(id);
    }

    /// An attempt of this lane was answered with success.
    pub fn delivered(&mut self, id: LaneId, now: UnixMillis) {
        self.lanes[id.0].count_end(now);
    }

    /// An attempt of this lane failed.
    pub fn failed(&mut self, id: LaneId, now: UnixMillis) {
        self.lanes[id.0].count_end(now);
    }

    /// A record's first attempt in this lane ended.
    pub fn first_attempt(&mut self, id: LaneId, delivered: bool, now: UnixMillis) {
        self.lanes[id.0].first_attempt = Some((now, delivered));
    }

    /// Takes all waiting records of a partition out.
    pub fn remove_partition(&mut self, partition: Partition) {
        for lane in &mut self.lanes {
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
        }
    }

    /// Takes all waiting records of all partitions out.
    pub fn clear_waiting(&mut self) {
        for lane in &mut self.lanes {
            lane.waiting.clear();
            lane.waiting_bytes = 0;
        }
        self.waiting = 0;
        self.waiting_bytes = 0;
    }

    /// Gives every lane its tenant's present limit; tenants without a callback
    /// keep theirs, for what waits there is skipped when its turn comes.
    pub fn set_limits(&mut self, limit_of: impl Fn(&TenantId) -> Option<usize>) {
        for index in 0..self.lanes.len() {
            if let Some(limit) = limit_of(&self.lanes[index].tenant) {
                self.lanes[index].limit = limit;
            }
            self.offer_turn(LaneId(index));
        }
    }

    /// Whether some lane may have a record that can start.
    #[must_use]
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty() && self.active < self.active_max
    }

    /// Tenants whose lane is at its limit with records waiting, those with the
    /// most first.
    #[must_use]
    pub fn limited(&self) -> Vec<TenantId> {
        let is_limited = |lane: &&Lane| lane.active >= lane.limit && !lane.waiting.is_empty();
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
    fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            active: 0,
            limit: 1,
            queued_for_turn: false,
            full_since: None,
            window_start: UnixMillis(0),
            window_count: 0,
            window_before: 0,
            first_attempt: None,
        }
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
        let mut lanes = Lanes::new(100);
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
        let mut lanes = Lanes::new(1_024);
        let dead = lanes.lane(&tenant("dead"), 2);
        for offset in 0..2 {
            lanes.push(dead, position(offset), 1);
            lanes.choose(|_| true).expect("a free slot");
        }
        for offset in 0..LANE_RECORDS_MAX as i64 {
            assert_eq!(lanes.room(dead, NOW), Room::Yes);
            lanes.push(dead, position(10 + offset), 1);
        }
        assert_eq!(lanes.choose(|_| true), None);
        assert_eq!(lanes.room(dead, NOW), Room::Soon);
        assert_eq!(lanes.room(dead, NOW.plus(RATE_WINDOW)), Room::No);
    }

    #[test]
    fn many_dead_lanes_leave_room_for_the_healthy() {
        let mut lanes = Lanes::new(2_048);
        for index in 0..100 {
            let dead = lanes.lane(&tenant(&format!("dead{index}")), 1);
            lanes.push(dead, position(0), 1);
            lanes.choose(|_| true).expect("a free slot");
            while lanes.room(dead, NOW) == Room::Yes {
                lanes.push(dead, position(1), 1);
            }
        }
        let healthy = lanes.lane(&tenant("healthy"), 64);
        assert_eq!(lanes.room(healthy, NOW), Room::Yes);
    }

    #[test]
    fn the_process_limit_stops_reading_and_diverts_nothing() {
        let mut lanes = Lanes::new(2);
        let lane = lanes.lane(&tenant("a"), 64);
        for offset in 0..2 {
            lanes.push(lane, position(offset), 1);
            lanes.choose(|_| true).expect("a free slot");
        }
        for offset in 0..2 {
            assert_eq!(lanes.room(lane, NOW), Room::Yes);
            lanes.push(lane, position(offset + 2), 1);
        }
        assert_eq!(lanes.room(lane, NOW), Room::ProcessFull);
        assert_eq!(lanes.choose(|_| true), None);
    }

    #[test]
    fn what_is_not_eligible_keeps_its_place() {
        let mut lanes = Lanes::new(10);
        let lane = lanes.lane(&tenant("a"), 10);
        lanes.push(lane, position(1), 1);
        lanes.push(lane, position(2), 1);
        assert_eq!(lanes.choose(|p| p.offset.0 == 2), Some((lane, position(2))));
        assert_eq!(lanes.choose(|p| p.offset.0 == 2), None);
        assert_eq!(lanes.choose(|_| true), Some((lane, position(1))));
    }

    #[test]
    fn tenants_are_told_as_limited_and_lately_attempted() {
        let mut lanes = Lanes::new(100);
        let [a, b] = ["a", "b"].map(|name| lanes.lane(&tenant(name), 1));
        let later = NOW.plus(LATELY);
        lanes.first_attempt(a, false, NOW);
        lanes.first_attempt(b, false, later);
        assert_eq!(lanes.attempted(NOW).failed, 2);
        assert_eq!(lanes.attempted(later).failed, 1, "a's is long ago");
        lanes.first_attempt(b, true, later);
        assert_eq!(lanes.attempted(later).delivered, 1);

        assert_eq!(lanes.limited(), []);
        for (id, offset) in [(a, 1), (a, 2), (b, 3), (b, 4), (b, 5)] {
            lanes.push(id, position(offset), 1);
        }
        lanes.choose(|_| true).expect("a's turn");
        lanes.choose(|_| true).expect("b's turn");
        assert_eq!(lanes.limited(), [tenant("b"), tenant("a")]);
    }
}
