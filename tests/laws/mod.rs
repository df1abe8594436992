//! The laws of the engine as checkers: plain functions over what was seen, for
//! the simulator and for tests on real processes alike. Never IO or clocks.

pub mod desk;
pub mod fairness;
pub mod map;
pub mod offsets;
pub mod residences;

/// The laws, by their numbers in the crate's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Law {
    /// No loss.
    L1,
    /// Order of commit.
    L2,
    /// Try bound.
    L3,
    /// Not early.
    L4,
    /// Bounds.
    L5,
    /// Fairness.
    L6,
    /// Liveness.
    L7,
    /// Fencing.
    L8,
    /// Drain.
    L9,
}

/// A law that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    pub law: Law,
    pub what: String,
}

/// Whether what was just seen is lawful.
pub type Verdict = Result<(), Breach>;

impl Law {
    /// The breach of this law that consists in `what`.
    pub fn breach(self, what: impl Into<String>) -> Breach {
        Breach {
            law: self,
            what: what.into(),
        }
    }

    /// Lawful where `holds`.
    pub fn check(self, holds: bool, what: impl FnOnce() -> String) -> Verdict {
        if holds {
            Ok(())
        } else {
            Err(self.breach(what()))
        }
    }
}
