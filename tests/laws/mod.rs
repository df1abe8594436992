//! The laws of the engine as checkers: plain functions over observed facts. The
//! simulator uses them. They never do IO and never read a clock.

mod checked_partition;
pub mod engine_checker;
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
    /// Containment.
    L10,
}

/// A broken law.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    pub law: Law,
    pub what: String,
}

/// The result of a check.
pub type Verdict = Result<(), Breach>;

impl Law {
    /// Returns a breach of this law.
    pub fn breach(self, what: impl Into<String>) -> Breach {
        Breach {
            law: self,
            what: what.into(),
        }
    }

    /// Returns a breach of this law unless `holds`.
    pub fn check(self, holds: bool, what: impl FnOnce() -> String) -> Verdict {
        if holds {
            Ok(())
        } else {
            Err(self.breach(what()))
        }
    }
}
