//! Lanes: for each tenant a bounded FIFO and a limit of attempts at once,
//! served round robin. Holds positions only; the records are the ledgers'.
//!
//! Arithmetic: a tenant with 64 attempts at once that answers in 5 ms takes
//! 12,800 records/s; 256 waiting records are its next 20 ms, which covers a
//! commit and a transaction. All lanes together hold at most
//! [`WAITING_MIN`] records or twice the process's slots, whichever is more:
//! at 1.5 kB a record some 3 MiB, at 1 MiB a record [`WAITING_BYTES_MAX`].
//! Lanes that their tenants' limits hold back share three quarters of that, the
//! hanging and the paced among them half, each a quarter of what is left: one
//! gets its 256, of 5,000 dead ones most get nothing, and their records are
//! diverted.

mod rate;

use self::rate::Rate;
use super::limit::{Limit, Round, Standing};
use super::slots::{Kind, Slots, Turn, Turns};
use crate::model::attempt::ErrorClass;
use crate::model::overview::FirstAttempts;
use crate::model::position::{Partition, Position};
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// The most records that wait in one lane whose tenant is at its limit.
pub const LANE_RECORDS_MAX: usize = 256;
/// The most bytes that wait in one lane whose tenant is at its limit.
pub const LANE_BYTES_MAX: usize = 4 << 20;
/// All lanes may hold this many records, however few slots there are.
pub const WAITING_MIN: usize = 2_048;
/// The most bytes that wait in all lanes.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// A lane whose queue is empty after so many windows at its present rate empties
/// fast.
const FAST_WINDOWS: usize = 3;
/// Newcomers are held, and not diverted, where at the present rate all that
/// waits would have turned out to answer after so many windows: a second.
const NEWCOMER_WINDOWS: usize = 10;
/// Newcomers that find no room again so soon after others are of one crowd.
const ONE_CROWD: Duration = Duration::from_secs(1);
/// How long a lane that has just come to its limit has the benefit of the
/// doubt: time for a tenant that answers in 20 ms to show how fast it is.
const GRACE: Duration = Duration::from_millis(150);
/// A dead tenant is tried again after this at the latest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What counts as lately in [`FirstAttempts`].
const LATELY: Duration = Duration::from_secs(300);

/// A lane, by its place in [`Lanes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LaneId(usize);

/// What a lane says to one more record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It may wait here.
    Yes,
    /// There is no room behind the tenant's own limit, but that is so since a
    /// moment; or none behind others of whom nothing is known, but these turn
    /// out to answer: it had better wait where it is.
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
    /// The slots that those hold.
    slots: usize,
    limit: Limit,
    /// Until then nothing starts.
    paused_until: Option<UnixMillis>,
    turn: Option<(Turn, Kind)>,
    /// Since when its limit is seen to hold it back, and when last.
    limited: Option<(UnixMillis, UnixMillis)>,
    /// Attempts that ended, well or not: either empties the lane.
    ends: Rate,
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
    /// Records of tenants that turned out to answer.
    newcomers: Rate,
    /// Since when newcomers find no room, and when last.
    crowded: Option<(UnixMillis, UnixMillis)>,
    pause: Duration,
    /// When pauses end, with some that ended before their time.
    pauses: BTreeSet<(UnixMillis, LaneId)>,
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
            newcomers: Rate::default(),
            crowded: None,
            pause: shortest_delay.min(PAUSE_MAX),
            pauses: BTreeSet::new(),
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
        // quarter stays for the others. Those that hang, or ask for pauses, leave
        // another quarter, or who is not known yet would never be tried.
        let slow = lane.limit.standing() == Standing::Hanging || lane.limit.is_paced();
        let kept = if slow { 2 } else { 4 };
        let share = |free: usize, all: usize| free.saturating_sub(all / kept) / 4;
        let records_max = LANE_RECORDS_MAX.min(share(free, waiting_max));
        let bytes_max = LANE_BYTES_MAX.min(share(free_bytes, WAITING_BYTES_MAX));
        let first = Kind::of(lane.limit.standing(), 0);
        let share_taken = self.turns.is_share_taken(first, &self.slots);
        // One record of each newcomer is enough to tell what it is like.
        let told_soon = share_taken && lane.is_newcomer() && lane.has_records();
        let fits = lane.waiting.len() < records_max && lane.waiting_bytes < bytes_max;
        let crowded = match slow {
            true => crowd != Crowd::Roomy,
            false => crowd == Crowd::Crowded,
        };
        if fits && !crowded && !told_soon {
            return Room::Yes;
        }
        if lane.failing || share_taken {
            return match lane.limit.standing() {
                Standing::Unknown if self.is_newcomers_turn_soon(now) => Room::Hold,
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

    /// Whether a newcomer without room had better wait for those before it: for
    /// a moment, in which they show what they are like, and as long as they
    /// answer. After a start nothing is known of anyone.
    fn is_newcomers_turn_soon(&mut self, now: UnixMillis) -> bool {
        let crowded = self
            .crowded
            .filter(|(_, last)| now.since(*last) < ONE_CROWD);
        let since = crowded.map_or(now, |(since, _)| since);
        self.crowded = Some((since, now));
        now.since(since) < GRACE
            || self.newcomers.lately(now) * NEWCOMER_WINDOWS >= self.waiting.max(1)
    }

    /// Whether it is the tenant that holds its lane back: its own limit, or
    /// that it has no slot because too many like it have one. A lane that was
    /// seen so lately still is, as long as its queue would fill its limit: one
    /// answer does not make an overloaded tenant one that waits for us.
    fn is_limited(&mut self, id: LaneId, now: UnixMillis) -> bool {
        let lane = &mut self.lanes[id.0];
        let kind = lane.kind();
        let full = self.slots.are_taken();
        let no_share = self.turns.is_share_taken(kind, &self.slots);
        let held_back = !lane.may_start_more() || (no_share && (!full || kind == Kind::Hanging));
        if held_back {
            let since = lane.limited.map_or(now, |(since, _)| since);
            lane.limited = Some((since, now));
            return true;
        }
        if lane.limit.allows(lane.active + lane.waiting.len()) {
            lane.limited = None;
        }
        let lately = |(_, last): (_, UnixMillis)| now.since(last) < rate::WINDOW;
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

    /// A record that was chosen goes back to the lane's head; its slots are free again.
    pub fn put_back(&mut self, id: LaneId, position: Position, bytes: usize) {
        self.lanes[id.0].waiting.push_front((position, bytes));
        self.grew(id, bytes);
        self.release(id, bytes);
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
        let kind = lane.kind();
        let may_start = !lane.waiting.is_empty() && lane.may_start_more();
        lane.turn = match lane.turn {
            None if may_start => Some((self.turns.join(id, kind), kind)),
            None => None,
            Some((turn, was)) if may_start => {
                self.turns.change(id, turn, was, kind);
                Some((turn, kind))
            }
            Some((turn, was)) => {
                self.turns.leave(id, turn, was);
                None
            }
        };
    }

    /// The next record that may start, round robin over the lanes; it holds its
    /// slots until [`Lanes::release`] or [`Lanes::put_back`]. Lanes whose
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
        let slots = self.slots.of(bytes);
        lane.slots += slots;
        lane.limit.saw_active(lane.active);
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        self.slots.take(slots, standing);
        if let Some((turn, kind)) = lane.turn.take() {
            self.turns.leave(id, turn, kind);
        }
        self.offer_turn(id);
        Some((id, position))
    }

    /// The slots of a record of this size are free again.
    pub fn release(&mut self, id: LaneId, bytes: usize) {
        let lane = &mut self.lanes[id.0];
        assert!(lane.active > 0, "L5: a slot was given back twice");
        lane.active -= 1;
        let slots = self.slots.of(bytes);
        lane.slots -= slots;
        self.slots.give_back(slots, lane.limit.standing());
        self.offer_turn(id);
    }

    /// Whether the lane's tenant is known to answer.
    #[must_use]
    pub fn answers(&self, id: LaneId) -> bool {
        self.lanes[id.0].limit.standing() == Standing::Answering
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
        if lane.limit.is_dead() {
            lane.paused_until = None;
        }
        lane.ends.add(1, now);
        self.adapt(id, now, |limit| limit.delivered(round));
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
        lane.ends.add(1, now);
        let pace = self.adapt(id, now, |limit| limit.failed(round, class, after));
        let lane = &mut self.lanes[id.0];
        let pause = match lane.limit.is_dead() {
            true => self.pause,
            false => pace.min(self.pause),
        };
        if !pause.is_zero() {
            let until = now.plus(pause);
            lane.paused_until = lane.paused_until.max(Some(until));
            self.pauses.insert((until, id));
            self.offer_turn(id);
        }
    }

    /// Lanes whose pause is over may start again.
    pub fn end_pauses(&mut self, now: UnixMillis) {
        while let Some((until, id)) = self.pauses.first().copied() {
            if until > now {
                return;
            }
            self.pauses.pop_first();
            let lane = &mut self.lanes[id.0];
            lane.paused_until.take_if(|end| *end <= now);
            self.offer_turn(id);
        }
    }

    /// When the next pause ends.
    #[must_use]
    pub fn next_pause_end(&self) -> Option<UnixMillis> {
        self.pauses.first().map(|(until, _)| *until)
    }

    /// Changes a lane's limit, and what hangs on it.
    fn adapt<T>(&mut self, id: LaneId, now: UnixMillis, change: impl FnOnce(&mut Limit) -> T) -> T {
        let lane = &mut self.lanes[id.0];
        let before = lane.limit.standing();
        let told = change(&mut lane.limit);
        let after = lane.limit.standing();
        if (before, after) == (Standing::Unknown, Standing::Answering) {
            let others = lane.active + lane.waiting.len();
            self.newcomers.add(1 + others, now);
        }
        if before != after {
            self.slots.change(lane.slots, before, after);
        }
        self.offer_turn(id);
        told
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
            let no_share = self.turns.is_share_taken(lane.kind(), &self.slots);
            let held_back = no_share || !lane.may_start_more();
            held_back && !lane.failing && !lane.waiting.is_empty()
        };
        let mut limited: Vec<&Lane> = self.lanes.iter().filter(is_limited).collect();
        limited.sort_by_key(|lane| Reverse(lane.waiting.len()));
        limited.iter().map(|lane| lane.tenant.clone()).collect()
    }

    /// Tenants with a first attempt in the last 5 minutes.
    #[must_use]
    pub fn attempted(&self, now: UnixMillis) -> FirstAttempts {
        let mut attempted = FirstAttempts::default();
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
            slots: 0,
            limit: Limit::new(ceiling),
            paused_until: None,
            turn: None,
            limited: None,
            ends: Rate::default(),
            failing: false,
            first_attempt: None,
        }
    }

    fn kind(&self) -> Kind {
        Kind::of(self.limit.standing(), self.active)
    }

    fn is_newcomer(&self) -> bool {
        self.limit.standing() == Standing::Unknown
    }

    fn has_records(&self) -> bool {
        self.active + self.waiting.len() > 0
    }

    /// Whether its tenant may have one more attempt.
    fn may_start_more(&self) -> bool {
        self.paused_until.is_none() && self.limit.allows(self.active)
    }

    fn empties_fast(&self, now: UnixMillis) -> bool {
        let waiting = self.waiting.len().max(FAST_WINDOWS);
        self.ends.lately(now) * FAST_WINDOWS >= waiting
    }
}

#[cfg(test)]
mod tests;
