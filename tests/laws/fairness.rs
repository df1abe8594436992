//! L6 at one engine's desk: between two starts of one ready lane, every other
//! ready lane that may start gets one. Seen at each offset write, whose new
//! reservations are the starts that were chosen together.
//!
//! A lane is not seen from outside, so only what is certain counts: a record
//! that a write lists as unfinished and not reserved, and that the same engine
//! reserves from there later, was waiting in its lane all the time; its tenant
//! may start where it has answered well, has never failed and has fewer attempts
//! than any such lane is allowed. A partition of which a write starts nothing at
//! all may come to rest for a transaction, and none of its lanes counts. The
//! breach is told when that later reservation comes.

use super::map::Map;
use super::{Law, Verdict};
use ringback::model::message::WriteId;
use ringback::model::position::{NextOffset, Offset, Partition, Position};
use ringback::model::tenant::{TenantId, Tenants};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A lane whose tenant has not failed may have at least so many attempts at once, or
/// its tenant's own limit.
const ATTEMPTS_CERTAIN: usize = 8;

/// What is known of a partition that was adopted.
struct Adopted {
    /// What lies before it may have been listed by a former owner, unread.
    end: NextOffset,
    /// Its last owner stopped in the middle: starts are held back, and how many
    /// is not seen from outside.
    cautious: bool,
    /// Its last write was refused: what it reserved is reserved again.
    refused: bool,
}

/// What one write chose.
#[derive(Default)]
struct Chosen {
    starts: BTreeMap<TenantId, usize>,
    /// Some of them may be on their way to be moved: those are not reserved later.
    waiting: BTreeMap<TenantId, Vec<Position>>,
    /// Whether it can be judged.
    refused_before: bool,
}

/// One engine's lanes as far as they can be seen.
#[derive(Default)]
pub struct Fairness {
    tenant_of: HashMap<Position, TenantId>,
    adopted: BTreeMap<Partition, Adopted>,
    least_limits: HashMap<TenantId, usize>,
    proven: HashSet<TenantId>,
    failed: HashSet<TenantId>,
    reserving: HashMap<WriteId, BTreeMap<TenantId, usize>>,
    /// Records that were passed by while others started twice.
    passed_by: BTreeMap<Position, String>,
}

impl std::fmt::Debug for Fairness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fairness")
            .field("passed_by", &self.passed_by)
            .finish_non_exhaustive()
    }
}

impl Fairness {
    /// A partition's map was read.
    pub fn adopted(&mut self, partition: Partition, map: Option<&Map>) {
        let adopted = Adopted {
            end: map.map_or(NextOffset(i64::MIN), |map| map.end),
            cautious: map.is_some_and(|map| map.unfinished.values().any(|reserved| *reserved)),
            refused: false,
        };
        self.adopted.insert(partition, adopted);
    }

    /// A record came.
    pub fn read(&mut self, position: Position, tenant: TenantId) {
        self.tenant_of.insert(position, tenant);
    }

    /// An attempt ended, well or not, or did not start.
    pub fn ended(&mut self, tenant: &TenantId, delivered: Option<bool>) {
        let known = match delivered {
            None => return,
            Some(true) => &mut self.proven,
            Some(false) => &mut self.failed,
        };
        if !known.contains(tenant) {
            known.insert(tenant.clone());
        }
    }

    /// The partition is taken.
    pub fn taken(&mut self, partition: Partition) {
        self.adopted.remove(&partition);
        self.tenant_of.retain(|p, _| p.partition != partition);
        self.passed_by.retain(|p, _| p.partition != partition);
    }

    /// All partitions are taken up anew.
    pub fn readopts(&mut self) {
        self.adopted.clear();
        self.tenant_of.clear();
        self.reserving.clear();
        self.passed_by.clear();
    }

    /// Limits change: what was passed by may have been at its limit, and one
    /// that is raised is reached only with time.
    pub fn limits_change(&mut self, tenants: &Tenants) {
        self.passed_by.clear();
        for tenant in tenants.iter() {
            let limit = tenant.max_in_flight as usize;
            let least = self.least_limits.entry(tenant.id.clone()).or_insert(limit);
            *least = limit.min(*least);
        }
    }

    /// A write was answered; where it was refused, all is as before it.
    pub fn answered<'a>(
        &mut self,
        write: WriteId,
        partitions: impl Iterator<Item = &'a Partition>,
        refused: bool,
    ) {
        self.reserving.remove(&write);
        for partition in partitions.filter(|_| refused) {
            if let Some(adopted) = self.adopted.get_mut(partition) {
                adopted.refused = true;
            }
        }
    }

    /// A write is ordered, with each partition's map before it and now.
    /// `in_flight` tells a tenant's attempts, where its limit has not just changed.
    pub fn written(
        &mut self,
        write: WriteId,
        maps: &[(Partition, Option<Map>, Map)],
        in_flight: impl Fn(&TenantId) -> Option<usize>,
    ) -> Verdict {
        let chosen = self.chosen(maps)?;
        let most = chosen.starts.iter().max_by_key(|(_, starts)| **starts);
        if let Some((favoured, starts)) = most.filter(|(_, n)| **n >= 2)
            && !chosen.refused_before
        {
            for (tenant, positions) in &chosen.waiting {
                let own = chosen.starts.get(tenant).copied().unwrap_or(0);
                let busy = self.reserving.values().filter_map(|of| of.get(tenant));
                let reserving: usize = busy.sum();
                let least = self.least_limits.get(tenant).copied().unwrap_or(0);
                let free = in_flight(tenant)
                    .is_some_and(|active| active + reserving + own < least.min(ATTEMPTS_CERTAIN));
                let healthy = self.proven.contains(tenant) && !self.failed.contains(tenant);
                if free && healthy && own + 1 < *starts {
                    let what = format!(
                        "{tenant} waited in {write:?} and got {own} starts, where {favoured} got {starts}"
                    );
                    for position in positions {
                        self.passed_by.entry(*position).or_insert(what.clone());
                    }
                }
            }
        }
        self.reserving.insert(write, chosen.starts);
        Ok(())
    }

    fn chosen(&mut self, maps: &[(Partition, Option<Map>, Map)]) -> Result<Chosen, super::Breach> {
        let mut chosen = Chosen::default();
        for (partition, before, map) in maps {
            let Some(adopted) = self.adopted.get_mut(partition) else {
                continue;
            };
            // Then the map before it says of too much that it is reserved.
            let refused = std::mem::take(&mut adopted.refused);
            chosen.refused_before |= refused;
            let before = before.as_ref().filter(|_| !refused);
            let at = |offset: Offset| Position {
                partition: *partition,
                offset,
            };
            let mut waiting = Vec::new();
            let mut starts = 0;
            for (offset, reserved) in &map.unfinished {
                let was = before.and_then(|b| b.unfinished.get(offset));
                if *reserved && was != Some(&true) {
                    if let Some(what) = self.passed_by.remove(&at(*offset)) {
                        return Err(Law::L6.breach(format!("{:?}: {what}", at(*offset))));
                    }
                    starts += 1;
                    if let Some(tenant) = self.tenant_of.get(&at(*offset)) {
                        *chosen.starts.entry(tenant.clone()).or_default() += 1;
                    }
                } else if !*reserved && !adopted.cautious && !adopted.end.is_past(*offset) {
                    waiting.push(at(*offset));
                }
            }
            if starts == 0 {
                continue;
            }
            for position in waiting {
                if let Some(tenant) = self.tenant_of.get(&position) {
                    let of_tenant = chosen.waiting.entry(tenant.clone());
                    of_tenant.or_default().push(position);
                }
            }
        }
        Ok(chosen)
    }

    /// A record has a disposition, or is passed over.
    pub fn finished(&mut self, position: Position) {
        self.tenant_of.remove(&position);
        self.passed_by.remove(&position);
    }
}
