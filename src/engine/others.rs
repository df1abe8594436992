//! Transactions and members of other programs that hold partitions, for operators.
//! Decides only when they are told. Nothing here changes what the service does: neither
//! has a remedy in this process. Runs on the runner's thread.

use super::partition::{Blocked, PartitionState};
use super::{Core, Engine};
use crate::model::fact::Fact;
use crate::model::message::{ForeignMember, LogBounds};
use crate::model::overview::BlockedPartition;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// Operators are told of a transaction that is open for this long. One of a replica that
/// died is over before: 10 s, and the broker's scan.
const TOLD_AFTER: Duration = Duration::from_secs(30);

impl Core {
    /// Notes whether an open transaction holds the partition back: everything before it
    /// is read.
    pub(super) fn note_open_transaction(&mut self, state: &mut PartitionState, found: &LogBounds) {
        let is_open = found.high_watermark > found.end && state.expected >= found.end;
        let before = state.blocked.take();
        let same = before.filter(|blocked| is_open && blocked.offset == found.end);
        if is_open {
            state.blocked = Some(same.unwrap_or(Blocked {
                offset: found.end,
                since: self.now,
                told: false,
            }));
        }
        let partition = state.id;
        if same.is_none() && before.is_some_and(|blocked| blocked.told) {
            self.report(Fact::PartitionUnblocked { partition });
        }
        if let Some(blocked) = &mut state.blocked
            && !blocked.told
            && self.now.since(blocked.since) >= TOLD_AFTER
        {
            blocked.told = true;
            let offset = blocked.offset;
            self.report(Fact::PartitionBlocked { partition, offset });
        }
    }

    pub(super) fn on_foreign_members(&mut self, members: Vec<ForeignMember>) {
        let before = std::mem::replace(&mut self.foreign, members);
        let is_in = |all: &[ForeignMember], one: &ForeignMember| {
            all.iter().any(|other| other.member == one.member)
        };
        let joined = self.foreign.iter().filter(|one| !is_in(&before, one));
        let joined = joined.cloned().map(Fact::ForeignMember);
        let left = before.iter().filter(|one| !is_in(&self.foreign, one));
        let left = left.map(|one| Fact::ForeignMemberLeft {
            member: one.member.clone(),
        });
        for fact in joined.chain(left).collect::<Vec<_>>() {
            self.report(fact);
        }
    }
}

impl Engine {
    /// Returns the partitions that operators were told of, with times of the wall clock.
    pub(super) fn blocked_partitions(&self, wall: UnixMillis) -> Vec<BlockedPartition> {
        let told = self.partitions.all().filter_map(|state| {
            let blocked = state.blocked.filter(|blocked| blocked.told)?;
            Some(BlockedPartition {
                partition: state.id,
                offset: blocked.offset,
                since: wall.minus(self.core.now.since(blocked.since)),
            })
        });
        told.collect()
    }
}
