//! The slots of the process, which attempts hold from their reservation to
//! their end, and the turns in which lanes take them: round robin over all
//! lanes that may start something (L6).
//!
//! Arithmetic: tenants that answer take few slots (1,000 records/s answered in
//! 50 ms are 50), those that hang take all they get for 5 s each. So of 1,024
//! slots tenants that hung when last tried hold at most a quarter together,
//! which still tries 51 of them a second, and with those not yet known at most
//! three quarters: of 5,000 dead ones each is known after 35 s. The last
//! quarter, 256, is for those that answer, as many as there are fresh slots.
//! Fewer than four slots are not divided.

use super::limit::Standing;
use std::collections::BTreeSet;

/// The process's slots.
#[derive(Debug)]
pub struct Slots {
    max: usize,
    held: [usize; Standing::ALL.len()],
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

    fn held(&self, standing: Standing) -> usize {
        self.held[standing as usize]
    }

    /// Whether all are taken.
    #[must_use]
    pub fn are_taken(&self) -> bool {
        self.held.iter().sum::<usize>() >= self.max
    }

    /// Whether those of this standing hold as many as they may together.
    #[must_use]
    pub fn is_share_taken(&self, standing: Standing) -> bool {
        let quarter = self.max / 4;
        let hanging = self.held(Standing::Hanging);
        let doubtful = hanging + self.held(Standing::Unknown);
        let doubtful_taken = doubtful >= self.max - quarter;
        match standing {
            Standing::Answering => false,
            Standing::Unknown => doubtful_taken,
            Standing::Hanging => doubtful_taken || hanging >= quarter.max(1),
        }
    }

    /// Whether a lane of this standing may take one.
    #[must_use]
    pub fn are_open(&self, standing: Standing) -> bool {
        !self.are_taken() && !self.is_share_taken(standing)
    }

    /// One is taken.
    pub fn take(&mut self, standing: Standing) {
        assert!(!self.are_taken(), "L5: more slots taken than there are");
        self.held[standing as usize] += 1;
    }

    /// One is free again.
    pub fn give_back(&mut self, standing: Standing) {
        let held = &mut self.held[standing as usize];
        *held = held
            .checked_sub(1)
            .expect("L5: a slot was given back twice");
    }

    /// The holder of so many is of another standing now.
    pub fn change(&mut self, count: usize, from: Standing, to: Standing) {
        self.held[from as usize] -= count;
        self.held[to as usize] += count;
    }
}

/// A place in the order of turns: less is sooner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Turn(u64);

/// Whose turn it is: a ring for each standing, so that thousands of lanes whose
/// share is taken are not looked at, and one order over all.
#[derive(Debug)]
pub struct Turns<Id> {
    rings: [BTreeSet<(Turn, Id)>; Standing::ALL.len()],
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
    pub fn join(&mut self, id: Id, standing: Standing) -> Turn {
        self.last = Turn(self.last.0 + 1);
        self.rings[standing as usize].insert((self.last, id));
        self.last
    }

    /// Has no turn any more.
    pub fn leave(&mut self, id: Id, turn: Turn, standing: Standing) {
        let was = self.rings[standing as usize].remove(&(turn, id));
        assert!(was, "L6: a turn that was given out is in its ring");
    }

    /// Keeps its turn with another standing.
    pub fn change(&mut self, id: Id, turn: Turn, from: Standing, to: Standing) {
        self.leave(id, turn, from);
        self.rings[to as usize].insert((turn, id));
    }

    /// Whether anyone has a turn for whom slots are open.
    #[must_use]
    pub fn any(&self, slots: &Slots) -> bool {
        let waits = |s: &Standing| !self.rings[*s as usize].is_empty() && slots.are_open(*s);
        Standing::ALL.iter().any(waits)
    }

    /// Those for whom slots are open, in the order of their turns.
    pub fn in_order(&self, slots: &Slots) -> impl Iterator<Item = Id> {
        let mut rings = Standing::ALL.map(|standing| {
            let ring = self.rings[standing as usize].iter();
            let open = slots.are_open(standing);
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
