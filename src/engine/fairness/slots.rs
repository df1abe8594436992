//! The slots of the process, which attempts hold from their reservation to
//! their end, and the turns in which lanes take them: round robin over all
//! lanes that may start something (L6).
//!
//! Arithmetic: tenants that answer take few slots (1,000 records/s answered in
//! 50 ms are 50), those that hang take all they get for 5 s each. So of 1,024
//! slots tenants that hung when last tried hold at most a quarter together,
//! which still tries 51 of them a second, and with those not yet known at most
//! three quarters. The last quarter, 256, is for those that answer, twice as many
//! as there are fresh slots. Among those not known one attempt tells as much as
//! eight, so further ones of a tenant get none of the second half, and while
//! newcomers wait the hanging share is a sixteenth: of 5,000 dead ones each is
//! known after 5,000 / 704 * 5 s = 36 s. Fewer than four slots are not divided.
//!
//! An attempt holds its record twice, as it was read and as it is sent. So a
//! record takes one slot for each [`SLOT_BYTES`] begun: 1,024 slots are 64 MiB of
//! records in flight, not 1,024 MiB where each is 1 MiB. But none takes more than
//! a sixteenth of all, or one of a dead tenant would hold up the others: beyond
//! 4 MiB a record, with 1,024 slots, sixteen of the largest are the bound.

use super::limit::TenantStatus;
use std::collections::BTreeSet;

/// What one slot carries.
pub const SLOT_BYTES: usize = 64 << 10;

/// What a lane's next attempt is: which slots are open to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotClass {
    /// Of a tenant that answers.
    Answering,
    /// The only one of a tenant of whom nothing is known.
    First,
    /// One more of a tenant of whom nothing is known yet.
    Further,
    /// Of a tenant that hangs.
    Hanging,
}

impl SlotClass {
    const ALL: [Self; 4] = [Self::Answering, Self::First, Self::Further, Self::Hanging];

    /// That of a tenant like this beside so many under way.
    #[must_use]
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
    /// So many, all free.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let held = Default::default();
        Self { max, held }
    }

    /// How many there are.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    fn held(&self, status: TenantStatus) -> usize {
        self.held[status as usize]
    }

    /// How many a record of this size takes.
    #[must_use]
    pub fn of(&self, bytes: usize) -> usize {
        bytes.div_ceil(SLOT_BYTES).min(self.max / 16).max(1)
    }

    /// Whether all are taken.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.held.iter().sum::<usize>() >= self.max
    }

    /// Whether those of this class hold as many as they may together.
    #[must_use]
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

    /// A record takes so many, where one at least is free.
    pub fn take(&mut self, count: usize, status: TenantStatus) {
        assert!(!self.are_full(), "L5: more slots taken than there are");
        self.held[status as usize] += count;
    }

    /// So many are free again.
    pub fn release(&mut self, count: usize, status: TenantStatus) {
        let held = &mut self.held[status as usize];
        *held = held
            .checked_sub(count)
            .expect("L5: a slot was given back twice");
    }

    /// The holder of so many is of another status now.
    pub fn change(&mut self, count: usize, from: TenantStatus, to: TenantStatus) {
        self.held[from as usize] -= count;
        self.held[to as usize] += count;
    }
}

/// A place in the order of turns: less is sooner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Turn(u64);

/// Whose turn it is: a ring for each class, so that thousands of lanes whose
/// share is taken are not looked at, and one order over all.
#[derive(Debug)]
pub struct Turns<Id> {
    rings: [BTreeSet<(Turn, Id)>; SlotClass::ALL.len()],
    last: Turn,
}

impl<Id: Copy + Ord> Turns<Id> {
    /// Nobody has a turn.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rings: Default::default(),
            last: Turn(0),
        }
    }

    /// Goes behind all others.
    pub fn join(&mut self, id: Id, class: SlotClass) -> Turn {
        self.last = Turn(self.last.0 + 1);
        self.rings[class as usize].insert((self.last, id));
        self.last
    }

    /// Has no turn any more.
    pub fn leave(&mut self, id: Id, turn: Turn, class: SlotClass) {
        let was = self.rings[class as usize].remove(&(turn, id));
        assert!(was, "L6: a turn that was given out is in its ring");
    }

    /// Keeps its turn with an attempt of another class.
    pub fn change(&mut self, id: Id, turn: Turn, from: SlotClass, to: SlotClass) {
        if from != to {
            self.leave(id, turn, from);
            self.rings[to as usize].insert((turn, id));
        }
    }

    /// Whether anyone has a turn for whom slots are open.
    #[must_use]
    pub fn any(&self, slots: &Slots) -> bool {
        let waits = |class: &SlotClass| self.has(*class) && self.are_open(*class, slots);
        SlotClass::ALL.iter().any(waits)
    }

    /// Whether anyone has a turn for an attempt of this class.
    fn has(&self, class: SlotClass) -> bool {
        !self.rings[class as usize].is_empty()
    }

    /// Whether those of this class hold as many slots as they may together.
    #[must_use]
    pub fn is_share_full(&self, class: SlotClass, slots: &Slots) -> bool {
        slots.is_share_full(class, self.has(SlotClass::First))
    }

    /// Whether an attempt of this class may take a slot.
    fn are_open(&self, class: SlotClass, slots: &Slots) -> bool {
        !slots.are_full() && !self.is_share_full(class, slots)
    }

    /// Those for whom slots are open, in the order of their turns.
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
