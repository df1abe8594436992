//! L6 for one engine: between two starts of one ready lane, every other ready
//! lane that may start gets one. It is checked at each offset write: the new
//! reservations of a write are chosen together.
//!
//! Lanes are not visible from outside, so the checker uses only certain facts. A
//! record that a write lists as unfinished and not reserved waits in its lane if
//! the same engine reserves it there later. Its tenant may start if it has
//! answered well, has never failed, and has fewer attempts than any such lane may
//! have. A partition without a start in a write may pause for a transaction, so
//! its lanes do not count. The breach is reported at the later reservation.

use super::map::Map;
use super::{Law, Verdict};
use ringback::model::message::WriteId;
use ringback::model::position::{NextOffset, Partition, Position};
use ringback::model::tenant::{TenantId, Tenants};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// A lane whose tenant has not failed may have at least this many attempts at
/// once, or the tenant's own limit if that is lower.
const ATTEMPTS_CERTAIN: usize = 8;

/// An adopted partition.
struct AdoptedPartition {
    /// An earlier process may have listed records before this offset without
    /// reading them.
    end: NextOffset,
    /// Its last process stopped uncleanly, so the engine holds starts back. Their
    /// number is not visible from outside.
    ramps_up: bool,
    /// Its last write was refused, so its reservations come again.
    refused: bool,
}

/// A written partition, with its map before the write and in it.
pub type WrittenMap = (Partition, Option<Rc<Map>>, Rc<Map>);

/// The starts of one write.
#[derive(Default)]
struct Chosen {
    starts: BTreeMap<TenantId, usize>,
    /// Some of these records may be in a pending move; they are not reserved
    /// later.
    waiting: BTreeMap<TenantId, Vec<Position>>,
    /// A write after a refused one cannot be judged.
    refused_before: bool,
}

/// One engine's lanes, as far as they are visible from outside.
#[derive(Default)]
pub struct Fairness {
    tenant_of: HashMap<Position, TenantId>,
    adopted: BTreeMap<Partition, AdoptedPartition>,
    least_limits: HashMap<TenantId, usize>,
    proven: HashSet<TenantId>,
    failed: HashSet<TenantId>,
    reserving: HashMap<WriteId, BTreeMap<TenantId, usize>>,
    /// Reserved records whose attempts did not start. They are reserved again.
    not_started: HashSet<Position>,
    /// Records that waited while another tenant started twice.
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
    /// Notes that a partition's map was read.
    pub fn adopted(&mut self, partition: Partition, map: Option<&Map>) {
        let adopted = AdoptedPartition {
            end: map.map_or(NextOffset(i64::MIN), |map| map.end),
            ramps_up: map.is_some_and(|map| map.unfinished.values().any(|reserved| *reserved)),
            refused: false,
        };
        self.adopted.insert(partition, adopted);
    }

    /// Notes that the engine got a record.
    pub fn read(&mut self, position: Position, tenant: TenantId) {
        self.tenant_of.insert(position, tenant);
    }

    /// Notes that an attempt ended; `delivered` is `None` if it did not start.
    pub fn ended(&mut self, position: Position, tenant: &TenantId, delivered: Option<bool>) {
        let tenants = match delivered {
            None => {
                self.not_started.insert(position);
                return;
            }
            Some(true) => &mut self.proven,
            Some(false) => &mut self.failed,
        };
        if !tenants.contains(tenant) {
            tenants.insert(tenant.clone());
        }
    }

    /// Notes that the partition was revoked.
    pub fn revoked(&mut self, partition: Partition) {
        self.adopted.remove(&partition);
        self.tenant_of.retain(|p, _| p.partition != partition);
        self.passed_by.retain(|p, _| p.partition != partition);
    }

    /// Notes a re-adoption of all partitions.
    pub fn readopt(&mut self) {
        self.adopted.clear();
        self.tenant_of.clear();
        self.reserving.clear();
        self.not_started.clear();
        self.passed_by.clear();
    }

    /// Notes new limits. A tenant that was passed by may have been at its limit.
    /// A raised limit takes effect only with time.
    pub fn limits_change(&mut self, tenants: &Tenants) {
        self.passed_by.clear();
        for tenant in tenants.iter() {
            let limit = tenant.max_in_flight as usize;
            let least = self.least_limits.entry(tenant.id.clone()).or_insert(limit);
            *least = limit.min(*least);
        }
    }

    /// Notes the answer to a write. A refused write changes nothing. One that was
    /// answered after the lease of its reservations counts as refused.
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

    /// Checks a write, with each partition's map before it and now. `in_flight`
    /// returns a tenant's attempts, or `None` if its limit has just changed.
    pub fn written(
        &mut self,
        write: WriteId,
        maps: &[WrittenMap],
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

    fn chosen(&mut self, maps: &[WrittenMap]) -> Result<Chosen, super::Breach> {
        let mut chosen = Chosen::default();
        for (partition, before, map) in maps {
            let Some(adopted) = self.adopted.get_mut(partition) else {
                continue;
            };
            // After a refused write the map before it shows too many
            // reservations.
            let refused = std::mem::take(&mut adopted.refused);
            chosen.refused_before |= refused;
            let before = before.as_ref().filter(|_| !refused);
            let mut waiting = Vec::new();
            let mut starts = 0;
            for (offset, reserved) in &map.unfinished {
                let was = before.and_then(|b| b.unfinished.get(offset));
                let again = self.not_started.remove(&partition.at(*offset));
                if *reserved && (again || was != Some(&true)) {
                    if let Some(what) = self.passed_by.remove(&partition.at(*offset)) {
                        return Err(Law::L6.breach(format!("{:?}: {what}", partition.at(*offset))));
                    }
                    starts += 1;
                    if let Some(tenant) = self.tenant_of.get(&partition.at(*offset)) {
                        *chosen.starts.entry(tenant.clone()).or_default() += 1;
                    }
                } else if !*reserved && !adopted.ramps_up && !adopted.end.is_past(*offset) {
                    waiting.push(partition.at(*offset));
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

    /// Notes that a record has a disposition or is skipped.
    pub fn finished(&mut self, position: Position) {
        self.tenant_of.remove(&position);
        self.passed_by.remove(&position);
    }
}
