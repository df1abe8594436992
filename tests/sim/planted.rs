//! Planted breaches: a wrapper around an engine that tampers with its events or
//! actions. It shows that the checker of each law finds a breach.

use crate::laws::map::{self, Map};
use ringback::engine::event::{Action, Event};
use ringback::model::attempt::Outcome;
use ringback::model::call::CallEnded;
use ringback::model::destination::Refusals;
use ringback::model::message::{
    AttemptRequest, CommitRequest, CommittedState, ConsumerRequest, KafkaEvent, KafkaRequest,
    MoveRequest, Snapshot, WriteId,
};
use ringback::model::position::{NextOffset, Offset, Partition, Position, Topic, TopicId};
use ringback::model::tenant::TenantId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A way to break a law.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// L1: the first unfinished record of a map is left out.
    PassOver,
    /// L2: a base goes back by one.
    GoBack,
    /// L2: a commit is sent twice.
    WriteTwice,
    /// L3: a map loses its reservations.
    Unreserve,
    /// L3: an attempt starts twice.
    StartTwice,
    /// L3: an attempt has a wrong number.
    Miscount,
    /// L3: an attempt may start long after its reservation.
    Outlast,
    /// L3: a record in doubt looks unsent.
    Trust,
    /// L1: the copy of a moved record has other bytes.
    Garble,
    /// L3: a refused commit grants its reservations.
    GrantRefused,
    /// L1: an aborted transaction counts as committed.
    MoveAborted,
    /// L1: the map of another program says that all records are finished.
    TrustForeign,
    /// L3: possibly sent copies count as unsent.
    SendTooOld,
    /// L6: one tenant waits while another starts twice.
    Starve,
    /// L4: delayed records look older than they are.
    Hurry,
    /// L5: metadata that Kafka would refuse.
    Lengthen,
    /// L5: far more records are requested than fit.
    Greed,
    /// L5: far more bytes are requested than fit.
    Hoard,
    /// L7: commits are lost without an answer.
    Swallow,
    /// L8: a write for a revoked partition after its release.
    Linger,
    /// L9: the drain never ends.
    Stay,
    /// L10: a record of each partition stays listed when it is finished.
    Retain,
    /// L10: the refusal of a transaction names no destination.
    BlameNone,
}

/// A tenant has to wait from this commit on. By then all tenants have answered
/// well and the effects of the start are over.
const STARVES_FROM: u32 = 20;

/// Tampers with the events and actions of one engine, or does nothing.
pub struct Tamperer {
    planted: Option<Planted>,
    last: BTreeMap<Partition, Snapshot>,
    tenants: BTreeMap<Position, TenantId>,
    /// Tenants with a delivered attempt.
    proven: BTreeSet<TenantId>,
    /// Reservations of one tenant that are held back.
    withheld: BTreeSet<Position>,
    commits: u32,
    /// The record of each partition that stays listed, and its mark.
    retained: BTreeMap<Partition, (Offset, bool)>,
    /// Attempts of those reservations, which the world does not see.
    pub swallowed: usize,
}

impl Tamperer {
    /// Returns a tamperer with this breach, or one that does nothing.
    pub fn new(planted: Option<Planted>) -> Self {
        Self {
            planted,
            last: BTreeMap::new(),
            tenants: BTreeMap::new(),
            proven: BTreeSet::new(),
            withheld: BTreeSet::new(),
            commits: 0,
            retained: BTreeMap::new(),
            swallowed: 0,
        }
    }

    /// Returns the event that the engine gets instead.
    pub fn tamper_with_event(&mut self, event: Event) -> Event {
        let Some(planted) = self.planted else {
            return event;
        };
        match event {
            Event::Kafka { session, event } => Event::Kafka {
                session,
                event: self.tamper_with_kafka_event(planted, event),
            },
            Event::AttemptFinished { position, ended } if planted == Planted::Starve => {
                let tenant = self.tenants.get(&position);
                if let (Outcome::Delivered { .. }, Some(tenant)) = (&ended.outcome, tenant) {
                    self.proven.insert(tenant.clone());
                }
                Event::AttemptFinished { position, ended }
            }
            _ => event,
        }
    }

    fn tamper_with_kafka_event(&mut self, planted: Planted, mut event: KafkaEvent) -> KafkaEvent {
        match (planted, &mut event) {
            (Planted::GrantRefused, KafkaEvent::CommitRefused { write, took }) => {
                let (write, took) = (*write, *took);
                return KafkaEvent::Committed { write, took };
            }
            (Planted::BlameNone, KafkaEvent::MoveRefused { destinations, .. }) => {
                *destinations = Refusals::default();
            }
            (Planted::MoveAborted, KafkaEvent::MoveRefused { write, took, .. }) => {
                let (write, took) = (*write, *took);
                return KafkaEvent::Moved {
                    write,
                    took,
                    appended: None,
                };
            }
            (
                Planted::TrustForeign | Planted::SendTooOld,
                KafkaEvent::CommittedState {
                    partition, found, ..
                },
            ) => trust(planted, *partition, found),
            (Planted::Starve, KafkaEvent::Records(records)) => {
                for (_, record) in records {
                    if let Ok(call) = CallEnded::read(record.value.as_deref().unwrap_or_default()) {
                        self.tenants.insert(record.position, call.tenant);
                    }
                }
            }
            (Planted::Hurry, KafkaEvent::Records(records)) => {
                for (_, record) in records {
                    if record.position.partition.topic.delay().is_some() {
                        record.timestamp = record.timestamp.minus(Duration::from_secs(30 * 3_600));
                    }
                }
            }
            _ => {}
        }
        if let (
            Planted::Trust,
            KafkaEvent::CommittedState {
                partition, found, ..
            },
        ) = (planted, &mut event)
            && let Some((base, metadata)) = &mut found.committed
        {
            let mut snapshot = Snapshot {
                partition: *partition,
                base: *base,
                metadata: std::mem::take(metadata),
            };
            // A map of an earlier topic of this name stays unchanged.
            falsify(
                Planted::Unreserve,
                &mut snapshot,
                None,
                found.topic_id.as_ref(),
            );
            *metadata = snapshot.metadata;
        }
        event
    }

    /// Returns the actions that the world gets instead.
    pub fn tamper_with_action(&mut self, action: Action) -> Vec<Action> {
        let Some(planted) = self.planted else {
            return vec![action];
        };
        match action {
            Action::Kafka(KafkaRequest::Consumer(ConsumerRequest::Leave)) | Action::Exit(_)
                if planted == Planted::Stay =>
            {
                Vec::new()
            }
            Action::Kafka(request) => {
                let requests = self.tamper_with_request(planted, request);
                requests.into_iter().map(Action::Kafka).collect()
            }
            Action::StartAttempt(order) => {
                let orders = self.tamper_with_attempt(planted, order);
                orders.into_iter().map(Action::StartAttempt).collect()
            }
            action => vec![action],
        }
    }

    fn tamper_with_attempt(
        &mut self,
        planted: Planted,
        mut order: AttemptRequest,
    ) -> Vec<AttemptRequest> {
        match planted {
            Planted::Starve if self.withheld.contains(&order.position) => {
                self.swallowed += 1;
                return Vec::new();
            }
            Planted::StartTwice => return vec![order.clone(), order],
            Planted::Miscount => order.attempt = order.attempt % 10 + 1,
            Planted::Outlast => order.start_by = order.start_by.plus(Duration::from_secs(1)),
            _ => {}
        }
        vec![order]
    }

    fn tamper_with_request(
        &mut self,
        planted: Planted,
        mut request: KafkaRequest,
    ) -> Vec<KafkaRequest> {
        match (planted, &mut request) {
            (Planted::WriteTwice, KafkaRequest::Commit(_)) => {
                return vec![request.clone(), request];
            }
            (Planted::Starve, KafkaRequest::Commit(order)) => self.starve(order),
            (Planted::Starve, KafkaRequest::Move(order)) => {
                let written = order.snapshots.iter();
                self.last.extend(written.map(|s| (s.partition, s.clone())));
            }
            (Planted::Swallow, KafkaRequest::Commit(_)) => return Vec::new(),
            (Planted::Garble, KafkaRequest::Move(order)) => {
                for moved in &mut order.records {
                    moved.value = Some("{}".into());
                }
            }
            (Planted::Greed, KafkaRequest::Consumer(ConsumerRequest::Fetch { credit, .. })) => {
                credit.records = 1_000_000
            }
            (Planted::Hoard, KafkaRequest::Consumer(ConsumerRequest::Fetch { credit, .. })) => {
                credit.bytes = 1 << 30
            }
            (
                Planted::Linger,
                KafkaRequest::Consumer(ConsumerRequest::FinishRevoke { partitions, .. }),
            ) => {
                let late = partitions.first().and_then(|p| self.last.get(p)).cloned();
                let late = late.map(|snapshot| {
                    KafkaRequest::Commit(CommitRequest {
                        write: WriteId(u64::MAX),
                        snapshots: vec![snapshot],
                    })
                });
                return std::iter::once(request).chain(late).collect();
            }
            (Planted::Retain, KafkaRequest::Commit(CommitRequest { snapshots, .. }))
            | (Planted::Retain, KafkaRequest::Move(MoveRequest { snapshots, .. })) => {
                snapshots.iter_mut().for_each(|s| self.retain(s));
            }
            (planted, KafkaRequest::Commit(order)) => {
                for snapshot in &mut order.snapshots {
                    let honest = snapshot.clone();
                    let last = self.last.insert(honest.partition, honest);
                    falsify(planted, snapshot, last.as_ref(), None);
                }
            }
            (planted, KafkaRequest::Move(order)) => {
                for snapshot in &mut order.snapshots {
                    falsify(planted, snapshot, None, None);
                }
            }
            _ => {}
        }
        vec![request]
    }
}

impl Tamperer {
    /// Lists the first record of the partition's maps, whether it is finished or not.
    fn retain(&mut self, snapshot: &mut Snapshot) {
        let Ok(mut map) = map::decode(snapshot, None) else {
            return;
        };
        let first = map.unfinished.first_key_value();
        if let Some((offset, mark)) = first.map(|(offset, mark)| (*offset, *mark)) {
            let kept = self.retained.entry(snapshot.partition);
            kept.or_insert((offset, mark));
        }
        let Some((offset, mark)) = self.retained.get_mut(&snapshot.partition) else {
            return;
        };
        *mark = map.unfinished.get(offset).copied().unwrap_or(*mark);
        map.unfinished.insert(*offset, *mark);
        map.base = NextOffset::at(*offset);
        snapshot.base = map.base;
        snapshot.metadata = map::encode(&map, None);
    }

    /// Holds one tenant's reservations back in a commit where another tenant gets
    /// two starts.
    fn starve(&mut self, order: &mut CommitRequest) {
        let mut chosen: BTreeMap<TenantId, Vec<Position>> = BTreeMap::new();
        for snapshot in &order.snapshots {
            let partition = snapshot.partition;
            let reserved = |snapshot: &Snapshot| {
                let map = map::decode(snapshot, None).ok();
                let all = map.into_iter().flat_map(|map| map.unfinished);
                let reserved = all.filter(|(_, reserved)| *reserved);
                reserved.map(|(offset, _)| offset).collect::<BTreeSet<_>>()
            };
            let before = self.last.insert(partition, snapshot.clone());
            let before = before.map(|before| reserved(&before)).unwrap_or_default();
            for offset in reserved(snapshot).difference(&before) {
                let position = partition.at(*offset);
                if let Some(tenant) = self.tenants.get(&position) {
                    chosen.entry(tenant.clone()).or_default().push(position);
                }
            }
        }
        self.commits += 1;
        if self.commits < STARVES_FROM {
            return;
        }
        let favoured = chosen.iter().find(|(_, starts)| starts.len() >= 2);
        let favoured = favoured.map(|(tenant, _)| tenant.clone());
        let victim = chosen
            .into_iter()
            .find(|(t, _)| Some(t) != favoured.as_ref());
        if let (true, Some(_), Some((_, starts))) = (self.withheld.is_empty(), favoured, victim) {
            self.withheld.extend(starts);
            for snapshot in &mut order.snapshots {
                let partition = snapshot.partition;
                if let Ok(mut map) = map::decode(snapshot, None) {
                    for (offset, reserved) in &mut map.unfinished {
                        *reserved &= !self.withheld.contains(&partition.at(*offset));
                    }
                    snapshot.metadata = map::encode(&map, None);
                }
            }
        }
    }
}

/// Makes an unusable map usable.
fn trust(planted: Planted, partition: Partition, found: &mut CommittedState) {
    let log_end = found.log_end;
    let Some((base, metadata)) = &mut found.committed else {
        return;
    };
    let snapshot = Snapshot {
        partition,
        base: *base,
        metadata: metadata.clone(),
    };
    let honest = map::decode(&snapshot, found.topic_id.as_ref());
    let is_source = partition.topic == Topic::Source;
    let mut made_up = Map::at(*base);
    match (planted, honest) {
        // All records but the last are finished.
        (Planted::TrustForeign, Err(_)) if is_source && base.0 + 1 < log_end.0 => {
            let last = Offset(log_end.0 - 1);
            *base = NextOffset::at(last);
            made_up = Map::at(*base);
            made_up.end = log_end;
            made_up.unfinished.insert(last, false);
        }
        (Planted::SendTooOld, Ok(map)) if !is_source => {
            made_up = Map {
                maps_since: made_up.maps_since,
                ..map
            };
        }
        // Reset by hand.
        (Planted::SendTooOld, Err(_)) if !is_source && metadata.is_empty() => {}
        _ => return,
    }
    *metadata = map::encode(&made_up, None);
}

fn falsify(
    planted: Planted,
    snapshot: &mut Snapshot,
    last: Option<&Snapshot>,
    topic_id: Option<&TopicId>,
) {
    let Ok(mut map) = map::decode(snapshot, topic_id) else {
        return;
    };
    match planted {
        Planted::PassOver => {
            map.unfinished.pop_first();
            let first = map.unfinished.keys().next().copied();
            map.base = first.map_or(map.end, NextOffset::at);
        }
        Planted::GoBack if map.base.0 > 0 && last.is_some_and(|last| last.base == map.base) => {
            let before = Offset(map.base.0 - 1);
            map.unfinished.insert(before, false);
            map.base = NextOffset::at(before);
        }
        Planted::Unreserve => map.unfinished.values_mut().for_each(|mark| *mark = false),
        Planted::Lengthen => {
            snapshot.metadata = "x".repeat(4_097);
            return;
        }
        _ => return,
    }
    snapshot.base = map.base;
    snapshot.metadata = map::encode(&map, topic_id);
}
