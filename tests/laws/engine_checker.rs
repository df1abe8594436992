//! Checks one engine by its events and its actions alone: L2 (one write at a
//! time), L5, L6, L8 and L9.

use super::checked_partition::{CheckedPartition, CheckedPhase, METADATA_UNITS_MAX, SentWrite};
use super::fairness::Fairness;
use super::map;
use super::offsets::LEASE;
use super::{Law, Verdict};
use ringback::engine::event::{Action, End, EngineSettings, Event};
use ringback::model::attempt::Outcome;
use ringback::model::call::CallEnded;
use ringback::model::fact::Fact;
use ringback::model::message::{
    AttemptRequest, ConsumerRequest, KafkaEvent, KafkaRequest, Revocation, Snapshot, WriteId,
};
use ringback::model::position::{Generation, Partition, Position};
use ringback::model::record::Record;
use ringback::model::tenant::{TenantId, Tenants};
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The deadline of `FinishRevoke`: 2 s for attempts in flight, and the writes. It
/// counts from `Revoked`, or from the answer to a write that holds a revoked
/// partition.
const REVOKE_MAX: Duration = Duration::from_secs(10);

/// Leaving the group gets at least this.
const LEAVE_MIN: Duration = Duration::from_millis(300);

/// The checker of one engine.
#[derive(Debug)]
pub struct EngineChecker {
    in_flight_max: usize,
    drain_timeout: Duration,
    assigned: BTreeMap<Partition, CheckedPartition>,
    commit: Option<SentWrite>,
    movement: Option<SentWrite>,
    in_flight: BTreeMap<Position, TenantId>,
    per_tenant: HashMap<TenantId, usize>,
    /// The limit of a tenant before its last change, and the time of the change.
    former: HashMap<TenantId, (u32, UnixMillis)>,
    tenants: Arc<Tenants>,
    fairness: Fairness,
    draining_since: Option<UnixMillis>,
    /// The group was left.
    stopped: bool,
    exited: bool,
}

impl EngineChecker {
    /// Returns the checker of a new engine.
    pub fn new(settings: &EngineSettings) -> Self {
        Self {
            in_flight_max: settings.in_flight_max,
            drain_timeout: settings.drain_timeout,
            assigned: BTreeMap::new(),
            commit: None,
            movement: None,
            in_flight: BTreeMap::new(),
            per_tenant: HashMap::new(),
            former: HashMap::new(),
            tenants: Arc::default(),
            fairness: Fairness::default(),
            draining_since: None,
            stopped: false,
            exited: false,
        }
    }

    /// Notes an event that the engine is about to handle.
    pub fn note_event(&mut self, now: UnixMillis, event: &Event) {
        match event {
            Event::Kafka { event, .. } => self.note_kafka_event(now, event),
            Event::AttemptFinished { position, ended } => {
                let delivered = matches!(ended.outcome, Outcome::Delivered { .. });
                self.finished(position, Some(delivered));
            }
            Event::AttemptExpired { position } => self.finished(position, None),
            Event::TenantsReplaced(tenants) => self.limits_change(now, tenants),
            Event::Drain => {
                self.draining_since.get_or_insert(now);
            }
            _ => {}
        }
    }

    fn note_kafka_event(&mut self, now: UnixMillis, event: &KafkaEvent) {
        match event {
            KafkaEvent::Assigned {
                generation,
                partitions,
            } => self.assigned(*generation, partitions),
            KafkaEvent::CommittedState {
                generation,
                partition,
                found,
            } => {
                let state = self.assigned.get_mut(partition);
                if let Some(state) = state.filter(|o| o.generation == *generation)
                    && state.phase == CheckedPhase::Assigned
                {
                    state.phase = CheckedPhase::Adopted;
                    state.map = found.committed.clone().and_then(|(base, metadata)| {
                        let partition = *partition;
                        let snapshot = Snapshot {
                            partition,
                            base,
                            metadata,
                        };
                        map::decode(&snapshot, found.topic_id.as_ref())
                            .ok()
                            .map(Rc::new)
                    });
                    self.fairness.adopted(*partition, state.map.as_deref());
                }
            }
            KafkaEvent::Revoked {
                partitions, how, ..
            } => {
                for partition in partitions {
                    self.fairness.revoked(*partition);
                    if let Some(state) = self.assigned.get_mut(partition) {
                        state.revoked_in_turn = state.may_start();
                        state.phase = CheckedPhase::Revoking(*how, now);
                    }
                }
            }
            KafkaEvent::Records(records) => {
                for (generation, record) in records {
                    self.record(*generation, record);
                }
            }
            KafkaEvent::Committed { write, .. } | KafkaEvent::Moved { write, .. } => {
                self.answered(now, *write, false);
            }
            KafkaEvent::CommitRefused { write, .. }
            | KafkaEvent::CommitUnsure { write, .. }
            | KafkaEvent::MoveRefused { write, .. }
            | KafkaEvent::MoveNotStarted { write, .. }
            | KafkaEvent::MoveTooLarge { write, .. }
            | KafkaEvent::MoveUnsure { write, .. } => self.answered(now, *write, true),
            _ => {}
        }
    }

    fn record(&mut self, generation: Generation, record: &Record) {
        let state = self.assigned.get_mut(&record.position.partition);
        if let Some(state) = state.filter(|o| o.generation == generation) {
            state.asked.take(record.size());
            // The engine ignores a finished record that is read again.
            let offset = record.position.offset;
            let map = state.map.as_ref();
            if !map.is_some_and(|map| map.is_finished(offset)) {
                state.in_hand.insert(record.position);
                let value = record.value.as_deref().unwrap_or_default();
                if let Ok(call) = CallEnded::read(value) {
                    self.fairness.read(record.position, call.tenant);
                }
            }
        }
    }

    fn check_request(&mut self, now: UnixMillis, request: &KafkaRequest) -> Verdict {
        match request {
            KafkaRequest::Consumer(ConsumerRequest::StartFetch {
                generation,
                partition,
                ..
            }) => {
                let state = self.adopted(*generation, *partition, "StartFetch")?;
                Law::L8.check(!state.fetching, || {
                    format!("StartFetch twice for {partition:?}")
                })?;
                state.fetching = true;
                Ok(())
            }
            KafkaRequest::Consumer(ConsumerRequest::Fetch {
                generation,
                partition,
                credit,
            }) => {
                let state = self.adopted(*generation, *partition, "Fetch")?;
                state.requested(*partition, *credit)
            }
            KafkaRequest::Commit(order) => {
                Law::L2.check(self.commit.is_none(), || {
                    format!("a commit while {:?} is outstanding", self.commit)
                })?;
                let partitions = self.writes(now, order.write, &order.snapshots)?;
                self.commit = Some((order.write, partitions, now));
                Ok(())
            }
            KafkaRequest::Move(order) => {
                Law::L2.check(self.movement.is_none(), || {
                    format!("a move while {:?} is outstanding", self.movement)
                })?;
                let partitions = self.writes(now, order.write, &order.snapshots)?;
                for record in &order.records {
                    Law::L1.check(partitions.contains(&record.from.partition), || {
                        format!("{:?} moves without a snapshot", record.from)
                    })?;
                }
                self.movement = Some((order.write, partitions, now));
                Ok(())
            }
            KafkaRequest::Consumer(ConsumerRequest::FinishRevoke { partitions, .. }) => {
                self.release(partitions)
            }
            KafkaRequest::RenewProducer(_)
            | KafkaRequest::FindUnassigned
            | KafkaRequest::Consumer(ConsumerRequest::Rejoin) => Ok(()),
            KafkaRequest::Consumer(ConsumerRequest::Leave) => {
                self.stopped = true;
                self.assigned.clear();
                Law::L9.check(self.draining_since.is_some(), || {
                    "Leave without Drain".to_owned()
                })?;
                self.check_deadlines(now)
            }
        }
    }

    /// Checks an action that the engine requests.
    pub fn check_action(&mut self, now: UnixMillis, action: &Action) -> Verdict {
        let works = matches!(
            action,
            Action::Kafka(_) | Action::StartAttempt(_) | Action::StartSession(_)
        );
        Law::L9.check(!(self.stopped && works), || {
            format!("after Leave: {action:?}")
        })?;
        match action {
            Action::Kafka(request) => self.check_request(now, request),
            Action::StartAttempt(order) => self.attempt_starts(now, order),
            Action::StartSession(_) | Action::ShowOverview => Ok(()),
            Action::DropSession => {
                self.assigned.clear();
                self.fairness.readopt();
                self.commit = None;
                self.movement = None;
                Ok(())
            }
            Action::Report(fact) => {
                if let Fact::Disposed { position, .. } = fact {
                    self.fairness.finished(*position);
                    if let Some(state) = self.assigned.get_mut(&position.partition) {
                        state.in_hand.remove(position);
                    }
                }
                Ok(())
            }
            Action::Exit(end) => {
                self.stopped = true;
                self.exited = true;
                let without_drain = matches!(end, End::NameInUse(_) | End::WrongSettings(_));
                Law::L9.check(without_drain || self.draining_since.is_some(), || {
                    format!("{end:?} without Drain")
                })?;
                self.check_deadlines(now)
            }
        }
    }

    /// The runner has performed all actions of its turn.
    pub fn end_turn(&mut self) {
        for state in self.assigned.values_mut() {
            state.revoked_in_turn = false;
        }
    }

    /// Checks that the engine missed no deadline.
    pub fn check_deadlines(&self, now: UnixMillis) -> Verdict {
        if let Some(since) = self.draining_since {
            let took = now.since(since);
            Law::L9.check(took <= self.drain_timeout || self.stopped, || {
                format!("draining for {took:?}")
            })?;
            let exit_max = self.drain_timeout + LEAVE_MIN;
            Law::L9.check(took <= exit_max || self.exited, || {
                format!("leaving, {took:?} after Drain")
            })?;
        }
        let mut outstanding = [&self.commit, &self.movement].into_iter().flatten();
        if outstanding.any(|(_, held, _)| held.iter().any(|p| self.is_revoking(*p))) {
            return Ok(());
        }
        for (partition, state) in &self.assigned {
            if let CheckedPhase::Revoking(_, since) = state.phase {
                let took = now.since(since);
                Law::L8.check(took <= REVOKE_MAX, || {
                    format!("{partition:?} was revoked {took:?} ago and is not released")
                })?;
            }
        }
        Ok(())
    }

    /// Checks that no record waits too long, where neither Kafka nor slots are short.
    pub fn check_listed(&self, now: UnixMillis) -> Verdict {
        let mut assigned = self.assigned.iter();
        assigned.try_for_each(|(partition, state)| state.check_listed(*partition, now))
    }

    /// Extends all deadlines by the time for which the process was stopped.
    pub fn excuse_pause(&mut self, stopped: Duration) {
        if let Some(since) = &mut self.draining_since {
            *since = since.plus(stopped);
        }
        for state in self.assigned.values_mut() {
            if let CheckedPhase::Revoking(_, since) = &mut state.phase {
                *since = since.plus(stopped);
            }
        }
    }

    /// Returns the generation of the partition's assignment, if the partition is
    /// assigned.
    pub fn generation(&self, partition: Partition) -> Option<Generation> {
        self.assigned.get(&partition).map(|state| state.generation)
    }

    /// Returns the number of attempts in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns whether the engine got `Drain`.
    pub fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }

    fn assigned(&mut self, generation: Generation, partitions: &[Partition]) {
        for partition in partitions {
            let state = CheckedPartition::assigned(generation);
            self.assigned.insert(*partition, state);
        }
    }

    fn answered(&mut self, now: UnixMillis, write: WriteId, refused: bool) {
        let commit = self.commit.take_if(|(id, ..)| *id == write);
        let movement = self.movement.take_if(|(id, ..)| *id == write);
        for (_, partitions, sent_at) in commit.into_iter().chain(movement) {
            let refused = refused || now.since(sent_at) > LEASE;
            self.fairness.answered(write, partitions.iter(), refused);
            // Before it, these partitions and others of the revocation were not released.
            let held = partitions.iter().any(|p| self.is_revoking(*p));
            for state in self.assigned.values_mut().filter(|_| held) {
                if let CheckedPhase::Revoking(_, since) = &mut state.phase {
                    *since = now;
                }
            }
        }
    }

    fn is_revoking(&self, partition: Partition) -> bool {
        let state = self.assigned.get(&partition);
        state.is_some_and(|state| matches!(state.phase, CheckedPhase::Revoking(..)))
    }

    fn adopted(
        &mut self,
        generation: Generation,
        partition: Partition,
        what: &str,
    ) -> Result<&mut CheckedPartition, super::Breach> {
        self.assigned
            .get_mut(&partition)
            .filter(|o| o.generation == generation && o.may_start())
            .ok_or_else(|| Law::L8.breach(format!("{what} for {partition:?}, not adopted")))
    }

    fn writes(
        &mut self,
        now: UnixMillis,
        write: WriteId,
        snapshots: &[Snapshot],
    ) -> Result<BTreeSet<Partition>, super::Breach> {
        let mut partitions = BTreeSet::new();
        let mut maps = Vec::new();
        for snapshot in snapshots {
            let partition = snapshot.partition;
            let units = snapshot.metadata.encode_utf16().count();
            Law::L5.check(units <= METADATA_UNITS_MAX, || {
                format!("metadata of {units} units for {partition:?}")
            })?;
            let outstanding = [&self.commit, &self.movement].into_iter().flatten();
            for (write, other, _) in outstanding {
                Law::L2.check(!other.contains(&partition), || {
                    format!("a write for {partition:?} while {write:?} is outstanding")
                })?;
            }
            Law::L2.check(partitions.insert(partition), || {
                format!("two snapshots of {partition:?} in one write")
            })?;
            let lawful = self.assigned.get(&partition).is_some_and(|state| {
                matches!(
                    state.phase,
                    CheckedPhase::Adopted | CheckedPhase::Revoking(Revocation::Requested, _)
                )
            });
            Law::L8.check(lawful, || {
                let phase = self.assigned.get(&partition).map(|o| o.phase);
                format!("a write for {partition:?} in phase {phase:?}")
            })?;
            if let (Some(state), Ok(map)) = (
                self.assigned.get_mut(&partition),
                map::decode(snapshot, None),
            ) {
                maps.push((partition, state.map.clone(), state.replace_map(now, map)));
            }
        }
        let (per_tenant, tenants) = (&self.per_tenant, &self.tenants);
        let changed = self.former.values().any(|(_, at)| now.since(*at) <= LEASE);
        self.fairness.written(write, &maps, |tenant| {
            tenants.callback(tenant).filter(|_| !changed)?;
            Some(per_tenant.get(tenant).copied().unwrap_or(0))
        })?;
        Ok(partitions)
    }

    /// Reservations made under the old limits stay valid until their lease ends.
    fn limits_change(&mut self, now: UnixMillis, tenants: &Arc<Tenants>) {
        for tenant in self.tenants.iter() {
            let former = self.former_limit(now, &tenant.id);
            let limit = former.max(tenant.max_in_flight);
            self.former.insert(tenant.id.clone(), (limit, now));
        }
        self.tenants = Arc::clone(tenants);
        self.fairness.limits_change(tenants);
    }

    fn former_limit(&self, now: UnixMillis, tenant: &TenantId) -> u32 {
        let former = self.former.get(tenant);
        let recent = former.filter(|(_, at)| now.since(*at) <= LEASE);
        recent.map_or(0, |(limit, _)| *limit)
    }

    fn attempt_starts(&mut self, now: UnixMillis, order: &AttemptRequest) -> Verdict {
        let position = order.position;
        Law::L9.check(self.draining_since.is_none(), || {
            format!("attempt from {position:?} after Drain")
        })?;
        let state = self.assigned.get(&position.partition);
        let adopted = state.is_some_and(CheckedPartition::may_start);
        Law::L8.check(adopted, || {
            format!("attempt from {position:?}, whose partition is not assigned")
        })?;
        Law::L3.check(!self.in_flight.contains_key(&position), || {
            format!("attempt from {position:?} while another is in flight")
        })?;
        let tenant = order.tenant.id.clone();
        let limit = self.former_limit(now, &tenant);
        let limit = limit.max(order.tenant.max_in_flight) as usize;
        let of_tenant = self.per_tenant.entry(tenant.clone()).or_default();
        *of_tenant += 1;
        Law::L5.check(*of_tenant <= limit, || {
            format!("{of_tenant} attempts in flight to {tenant}")
        })?;
        self.in_flight.insert(position, tenant);
        Law::L5.check(self.in_flight.len() <= self.in_flight_max, || {
            format!("{} attempts in flight", self.in_flight.len())
        })
    }

    fn finished(&mut self, position: &Position, delivered: Option<bool>) {
        if let Some(tenant) = self.in_flight.remove(position) {
            if let Some(count) = self.per_tenant.get_mut(&tenant) {
                *count -= 1;
            }
            self.fairness.ended(*position, &tenant, delivered);
        }
    }

    fn release(&mut self, partitions: &[Partition]) -> Verdict {
        for partition in partitions {
            let outstanding = [&self.commit, &self.movement].into_iter().flatten();
            for (write, held, _) in outstanding {
                Law::L2.check(!held.contains(partition), || {
                    format!("{partition:?} released while {write:?} is outstanding")
                })?;
            }
            self.fairness.revoked(*partition);
            let state = self.assigned.remove(partition);
            let revoked = state.is_some_and(|o| matches!(o.phase, CheckedPhase::Revoking(..)));
            Law::L8.check(revoked, || {
                format!("{partition:?} released without a revocation")
            })?;
        }
        Ok(())
    }
}
