//! The slots of the process, and the turns in which lanes take them. An attempt
//! holds its slots from its reservation to its end. Turns are round robin over
//! all lanes that may start an attempt (L6). Never IO, never a clock. Runs on the
//! runner's thread.
//!
//! Arithmetic: answering tenants take few slots (1,000 records/s answered in 50
//! ms are 50). Hanging tenants hold all their slots for 5 s each. So of 1,024
//! slots the hanging tenants together hold at most a quarter, which still tries
//! 51 of them a second. Hanging and untried tenants together hold at most three
//! quarters. The last quarter, 256, is for answering tenants, twice the number of
//! start slots.
//!
//! One attempt of an untried tenant tells as much as eight. So its further
//! attempts get none of the second half of the slots. While untried tenants wait,
//! the hanging share is a sixteenth. So 5,000 dead tenants are all tried after
//! 5,000 / 704 * 5 s = 36 s. Fewer than four slots are not divided.
//!
//! An attempt holds its record twice, as read and as sent. So a record takes one
//! slot for each started [`SLOT_BYTES`]. Then 1,024 slots are 32 MiB of records
//! in flight, not 1,024 MiB at 1 MiB each. A record takes at most a sixteenth of
//! the slots, or one record of a dead tenant would hold up the others. With 1,024
//! slots that bounds records beyond 2 MiB: at most sixteen of them are in flight.

use super::limit::TenantStatus;
use std::collections::BTreeSet;

/// The record bytes of one slot.
pub const SLOT_BYTES: usize = 32 << 10;

/// The class of a lane's next attempt, which decides its share of the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotClass {
    /// An attempt of an answering tenant.
    Answering,
    /// The only attempt of an untried tenant.
    First,
    /// A further attempt of an untried tenant.
    Further,
    /// An attempt of a hanging tenant.
    Hanging,
}

impl SlotClass {
    const ALL: [Self; 4] = [Self::Answering, Self::First, Self::Further, Self::Hanging];

    /// Returns the class of an attempt beside `active` other ones of the tenant.
    pub fn of(status: TenantStatus, active: usize) -> Self {
        match status {
            TenantStatus::Answering => Self::Answering,
            TenantStatus::Untried if active == 0 => Self::First,
            TenantStatus::Untried => Self::Further,
            TenantStatus::Hanging => Self::Hanging,
        }
    }
}

/// The process's slots.
#[derive(Debug)]
pub struct Slots {
    max: usize,
    held: [usize; TenantStatus::ALL.len()],
}

impl Slots {
    /// Returns `max` free slots.
    pub fn new(max: usize) -> Self {
        let held = Default::default();
        Self { max, held }
    }

    /// Returns the number of slots.
    pub fn max(&self) -> usize {
        self.max
    }

    fn held(&self, status: TenantStatus) -> usize {
        self.held[status as usize]
    }

    /// Returns the number of slots of a record of this size.
    pub fn of(&self, bytes: usize) -> usize {
        bytes.div_ceil(SLOT_BYTES).min(self.max / 16).max(1)
    }

    /// Returns whether all slots are taken.
    pub fn are_full(&self) -> bool {
        self.held.iter().sum::<usize>() >= self.max
    }

    /// Returns whether the attempts of this class hold their whole share.
    fn is_share_full(&self, class: SlotClass, untried_wait: bool) -> bool {
        let quarter = self.max / 4;
        let hanging = self.held(TenantStatus::Hanging);
        let unproven = hanging + self.held(TenantStatus::Untried);
        let hanging_max = match untried_wait {
            true => self.max / 16,
            false => quarter,
        };
        match class {
            SlotClass::Answering => false,
            SlotClass::First => unproven >= self.max - quarter,
            SlotClass::Further => unproven >= self.max - 2 * quarter,
            SlotClass::Hanging => unproven >= self.max - quarter || hanging >= hanging_max.max(1),
        }
    }

    /// Takes slots for a record; at least one must be free.
    pub fn take(&mut self, count: usize, status: TenantStatus) {
        assert!(!self.are_full(), "L5: more slots taken than there are");
        self.held[status as usize] += count;
    }

    /// Releases slots.
    pub fn release(&mut self, count: usize, status: TenantStatus) {
        let held = &mut self.held[status as usize];
        *held = held
            .checked_sub(count)
            .expect("L5: a slot was released twice");
    }

    /// Moves slots to the new status of their tenant.
    pub fn change(&mut self, count: usize, from: TenantStatus, to: TenantStatus) {
        self.held[from as usize] -= count;
        self.held[to as usize] += count;
    }
}

/// A place in the order of turns; the smallest is next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Turn(u64);

/// The turns of the lanes, in one order over all. Each class has a ring of its
/// own, so the many lanes of a full share need not be scanned.
#[derive(Debug)]
pub struct Turns<Id> {
    rings: [BTreeSet<(Turn, Id)>; SlotClass::ALL.len()],
    last: Turn,
}

impl<Id: Copy + Ord> Turns<Id> {
    /// Returns an order without turns.
    pub fn new() -> Self {
        Self {
            rings: Default::default(),
            last: Turn(0),
        }
    }

    /// Adds a turn behind all others.
    pub fn join(&mut self, id: Id, class: SlotClass) -> Turn {
        self.last = Turn(self.last.0 + 1);
        self.rings[class as usize].insert((self.last, id));
        self.last
    }

    /// Removes a turn.
    pub fn leave(&mut self, id: Id, turn: Turn, class: SlotClass) {
        let was = self.rings[class as usize].remove(&(turn, id));
        assert!(was, "L6: every turn is in its ring");
    }

    /// Moves a turn to another class and keeps its place.
    pub fn change(&mut self, id: Id, turn: Turn, from: SlotClass, to: SlotClass) {
        if from != to {
            self.leave(id, turn, from);
            self.rings[to as usize].insert((turn, id));
        }
    }

    /// Returns whether some turn may take a slot.
    pub fn any(&self, slots: &Slots) -> bool {
        let waits = |class: &SlotClass| self.has(*class) && self.are_open(*class, slots);
        SlotClass::ALL.iter().any(waits)
    }

    /// Returns whether there is a turn of this class.
    fn has(&self, class: SlotClass) -> bool {
        !self.rings[class as usize].is_empty()
    }

    /// Returns whether the attempts of this class hold their whole share.
    pub fn is_share_full(&self, class: SlotClass, slots: &Slots) -> bool {
        slots.is_share_full(class, self.has(SlotClass::First))
    }

    /// Returns whether an attempt of this class may take a slot.
    fn are_open(&self, class: SlotClass, slots: &Slots) -> bool {
        !slots.are_full() && !self.is_share_full(class, slots)
    }

    /// Returns the lanes that may take a slot, in the order of their turns.
    pub fn in_order(&self, slots: &Slots) -> impl Iterator<Item = Id> {
        let mut rings = SlotClass::ALL.map(|class| {
            let ring = self.rings[class as usize].iter();
            let open = self.are_open(class, slots);
            ring.take(if open { usize::MAX } else { 0 }).peekable()
        });
        std::iter::from_fn(move || {
            let heads = rings.iter_mut().enumerate();
            let heads = heads.filter_map(|(ring, ids)| Some((ids.peek()?.0, ring)));
            let (_, ring) = heads.min()?;
            rings[ring].next().map(|(_, id)| *id)
        })
    }
}
