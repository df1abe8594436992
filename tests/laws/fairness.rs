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
use ringback::model::position::{NextOffset, Offset, Partition, Position};
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
    /// Records that its map reserved when it was read. They never start here. They show
    /// that its last process stopped uncleanly, so the engine holds starts back. The
    /// number of those is not visible from outside.
    in_doubt: HashSet<Offset>,
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
            in_doubt: map.map(Map::reserved).unwrap_or_default(),
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
                let in_doubt = adopted.in_doubt.contains(offset);
                if *reserved && !in_doubt && (again || was != Some(&true)) {
                    if let Some(what) = self.passed_by.remove(&partition.at(*offset)) {
                        return Err(Law::L6.breach(format!("{:?}: {what}", partition.at(*offset))));
                    }
                    starts += 1;
                    if let Some(tenant) = self.tenant_of.get(&partition.at(*offset)) {
                        *chosen.starts.entry(tenant.clone()).or_default() += 1;
                    }
                } else if !*reserved && adopted.in_doubt.is_empty() && !adopted.end.is_past(*offset)
                {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ringback::model::position::Topic;
    use ringback::model::tenant::{MAX_IN_FLIGHT_DEFAULT, Secret, Tenant};

    /// A record of the favoured tenant is reserved there first.
    const FIRST: Partition = Topic::Source.partition(0);
    /// Records of both tenants wait there.
    const SECOND: Partition = Topic::Source.partition(1);
    const ONE: Position = FIRST.at(Offset(0));

    fn tenant(id: &str) -> TenantId {
        TenantId::new(id).expect("a tenant id")
    }

    fn map(unfinished: &[(i64, bool)]) -> Rc<Map> {
        let mut map = Map::at(NextOffset(0));
        map.unfinished = unfinished.iter().map(|(at, r)| (Offset(*at), *r)).collect();
        map.end = NextOffset(unfinished.len() as i64);
        Rc::new(map)
    }

    /// An engine that has reserved a record of the favoured tenant. The passed one is
    /// healthy.
    fn one_reserved() -> Fairness {
        let mut fairness = Fairness::default();
        let settings = |id| Tenant {
            id: tenant(id),
            url: Secret(String::new()),
            secrets: Vec::new(),
            headers: Vec::new(),
            max_in_flight: MAX_IN_FLIGHT_DEFAULT,
            timeout: None,
            enabled: true,
        };
        fairness.limits_change(&["favoured", "passed"].map(settings).into_iter().collect());
        fairness.ended(SECOND.at(Offset(9)), &tenant("passed"), Some(true));
        for partition in [FIRST, SECOND] {
            fairness.adopted(partition, None);
        }
        fairness.read(ONE, tenant("favoured"));
        fairness.read(SECOND.at(Offset(0)), tenant("favoured"));
        fairness.read(SECOND.at(Offset(1)), tenant("passed"));
        write(&mut fairness, 1, &[(FIRST, None, map(&[(0, true)]))]).expect("one start");
        fairness
    }

    fn write(fairness: &mut Fairness, id: u64, maps: &[WrittenMap]) -> Verdict {
        fairness.written(WriteId(id), maps, |_| Some(0))?;
        let written = maps.iter().map(|(partition, ..)| partition);
        fairness.answered(WriteId(id), written, false);
        Ok(())
    }

    /// Writes the first record as reserved beside one start of the favoured tenant,
    /// and then a start of the passed one.
    fn start_one_more(fairness: &mut Fairness) -> Verdict {
        let first = map(&[(0, true)]);
        let chosen = map(&[(0, true), (1, false)]);
        let both = [
            (FIRST, Some(Rc::clone(&first)), first),
            (SECOND, None, Rc::clone(&chosen)),
        ];
        write(fairness, 2, &both)?;
        let last = map(&[(0, true), (1, true)]);
        write(fairness, 3, &[(SECOND, Some(chosen), last)])
    }

    fn expire(fairness: &mut Fairness) {
        fairness.ended(ONE, &tenant("favoured"), None);
    }

    fn assign_again(fairness: &mut Fairness) {
        fairness.revoked(FIRST);
        fairness.adopted(FIRST, Some(&map(&[(0, true)])));
        fairness.read(ONE, tenant("favoured"));
    }

    #[test]
    fn a_record_that_is_reserved_again_is_a_start() {
        let mut fairness = one_reserved();
        expire(&mut fairness);
        let breach = start_one_more(&mut fairness).expect_err("two starts beside none");
        assert_eq!(breach.law, Law::L6);
    }

    /// Its attempt did not start, but only the former assignment could reserve it again.
    #[test]
    fn a_record_in_doubt_is_no_start() {
        let orders: [&[fn(&mut Fairness)]; 3] = [
            &[expire, assign_again],
            &[|f| f.revoked(FIRST), expire, assign_again],
            &[assign_again, expire],
        ];
        for (at, order) in orders.iter().enumerate() {
            let mut fairness = one_reserved();
            order.iter().for_each(|step| step(&mut fairness));
            assert_eq!(start_one_more(&mut fairness), Ok(()), "order {at}");
        }
    }
}
