//! The looks for partitions that no member of the group is assigned. Decides when
//! to look, and when this member leaves the group and joins it again. Sends no request
//! itself: the supervisor requests the look and passes the answer on.

use crate::model::position::Partition;
use crate::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

/// The first look for unassigned partitions after a rebalance. One join causes
/// several rebalances, and this is later than the next one.
pub const LOOK_AFTER_REBALANCE: Duration = Duration::from_secs(3);
/// The interval between two looks while no partition is unassigned.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The least time until the look that confirms an unassigned partition. Each member
/// waits for up to twice as long. The first one that joins again causes a rebalance,
/// which starts the looks of the others over. So not all members join again.
pub const CONFIRM: Duration = Duration::from_millis(1_500);

/// When to look, and what the last look found.
pub struct UnassignedLook {
    pub confirm_after: Duration,
    look: Look,
    /// Unassigned partitions of the last look.
    found: BTreeSet<Partition>,
}

#[derive(Clone, Copy)]
enum Look {
    At(UnixMillis),
    /// The answer is pending.
    Pending,
    /// The answer is pending, but a rebalance has come since the request. The
    /// next look follows at this time.
    Outdated(UnixMillis),
}

impl UnassignedLook {
    /// Returns the looks of this instance, before its first session.
    pub fn new(instance: &str) -> Self {
        let spread = crc32fast::hash(instance.as_bytes()) % 16;
        Self {
            confirm_after: CONFIRM + CONFIRM * spread / 16,
            look: Look::At(UnixMillis(0)),
            found: BTreeSet::new(),
        }
    }

    /// Starts over: a session starts now.
    pub fn session_started(&mut self, now: UnixMillis) {
        self.found.clear();
        self.look = Look::At(now.plus(LOOK_AFTER_REBALANCE));
    }

    /// Starts over after a rebalance. The answer to a look before it does not count.
    pub fn rebalanced(&mut self, now: UnixMillis) {
        let at = now.plus(LOOK_AFTER_REBALANCE);
        self.found.clear();
        self.look = match self.look {
            Look::At(_) => Look::At(at),
            Look::Pending | Look::Outdated(_) => Look::Outdated(at),
        };
    }

    /// Returns when the next look is due, if none is pending.
    pub fn next(&self) -> Option<UnixMillis> {
        match self.look {
            Look::At(at) => Some(at),
            Look::Pending | Look::Outdated(_) => None,
        }
    }

    /// Notes that the look was requested.
    pub fn requested(&mut self) {
        self.look = Look::Pending;
    }

    /// Handles the answer. Returns whether this member must join again.
    pub fn answered(&mut self, now: UnixMillis, found: &BTreeSet<Partition>) -> bool {
        match self.look {
            Look::Outdated(at) => self.look = Look::At(at),
            // No partition is unassigned for the second time.
            Look::Pending if found.is_disjoint(&self.found) => {
                let pause = match found.is_empty() {
                    true => LOOK_EVERY,
                    false => self.confirm_after,
                };
                self.look = Look::At(now.plus(pause));
                self.found.clone_from(found);
            }
            Look::Pending => {
                self.session_started(now);
                return true;
            }
            Look::At(_) => {}
        }
        false
    }
}
