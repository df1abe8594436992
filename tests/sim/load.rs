//! One engine under load in virtual time, with a Kafka without faults. It shows
//! how lanes and diverts behave over minutes and hours. `world` simulates faults.

use crate::load_tenant::{LoadTenant, TIMEOUT, TenantResult, outcome, tenant};
use crate::plan::WAKE;
use ringback::engine::Engine;
use ringback::engine::event::{Action, EngineSettings, Event};
use ringback::engine::map::{MapsSince, Mark, encode};
use ringback::model::attempt::AttemptResult;
use ringback::model::disposition::Disposition;
use ringback::model::fact::{Fact, Latency};
use ringback::model::message::{
    AttemptRequest, CommittedState, ConsumerRequest, Credit, KafkaEvent, KafkaRequest, MoveRequest,
    SessionId, Snapshot,
};
use ringback::model::position::{Generation, NextOffset, Offset, Partition, Position, Topic};
use ringback::model::record::{Header, Record};
use ringback::model::tenant::Tenants;
use ringback::model::time::{Delay, UnixMillis};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const GENERATION: Generation = Generation(1);
const BEGIN_MS: i64 = 1_700_000_000_000;
/// The durations of a poll, a commit and a transaction with Kafka near.
const POLL_MS: i64 = 1;
const COMMIT_MS: i64 = 2;
const MOVE_MS: i64 = 15;

fn kafka(event: KafkaEvent) -> Event {
    let session = SessionId(1);
    Event::Kafka { session, event }
}

enum LoadEvent {
    Publish(usize),
    PassEvent(Event),
    Moved(MoveRequest),
    Poll(Partition),
    Answered(usize, Position, AttemptResult),
    Wake,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    /// When each of the records that were read was handed over.
    read_at: Vec<i64>,
    /// The committed offset.
    base: usize,
    read: usize,
    asked: Credit,
    polling: bool,
}

/// The engine and its surroundings.
pub struct Load {
    engine: Engine,
    tenants: Vec<LoadTenant>,
    /// Indexed by the tenants' numbers.
    pub results: Vec<TenantResult>,
    /// The maximum number of attempts in flight so far.
    pub in_flight_most: usize,
    /// The round trip to Kafka, in milliseconds. A poll and a commit take so much longer.
    pub round_trip_ms: i64,
    logs: BTreeMap<Partition, Log>,
    published: usize,
    tenant_of: HashMap<Position, usize>,
    first_partitions: u32,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    events: HashMap<u64, LoadEvent>,
    scheduled: u64,
    now: i64,
    wake: Option<i64>,
}

impl Load {
    /// Returns a load with this many partitions of each topic, all assigned and
    /// empty.
    pub fn new(settings: EngineSettings, partitions: u32, tenants: Vec<LoadTenant>) -> Self {
        Self::after_a_kill(settings, partitions, tenants, 0)
    }

    /// Returns the same load with `listed` records in each source partition, for
    /// the tenants in turn. The last process's map lists them as unfinished.
    pub fn after_a_kill(
        settings: EngineSettings,
        partitions: u32,
        tenants: Vec<LoadTenant>,
        listed: usize,
    ) -> Self {
        let delays = settings.delays.iter().map(|delay| Topic::Delay(*delay));
        let topics: Vec<Topic> = std::iter::once(Topic::Source).chain(delays).collect();
        let all = topics
            .into_iter()
            .flat_map(|topic| (0..partitions).map(move |number| topic.partition(number as i32)));
        let logs: BTreeMap<Partition, Log> = all.map(|p| (p, Log::default())).collect();
        let mut load = Self {
            engine: Engine::new(settings),
            results: vec![TenantResult::default(); tenants.len()],
            in_flight_most: 0,
            round_trip_ms: 0,
            published: 0,
            tenant_of: HashMap::new(),
            first_partitions: partitions,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            scheduled: 0,
            now: 0,
            wake: None,
            logs,
            tenants,
        };
        for number in 0..listed * partitions as usize {
            let tenant = number / partitions as usize % load.tenants.len();
            load.results[tenant].published += 1;
            load.append_new(tenant);
        }
        load.begin(listed);
        load
    }

    fn begin(&mut self, listed: usize) {
        let tenants: Tenants = self.tenants.iter().enumerate().map(tenant).collect();
        self.pass_event(Event::TenantsReplaced(Arc::new(tenants)));
        let partitions: Vec<Partition> = self.logs.keys().copied().collect();
        self.pass_kafka_event(KafkaEvent::Assigned {
            generation: GENERATION,
            partitions: partitions.clone(),
        });
        for partition in partitions {
            let (base, end) = (NextOffset(0), NextOffset(listed as i64));
            let maps_since = MapsSince {
                at: UnixMillis(0),
                end: base,
            };
            let unfinished = (0..end.0).map(|offset| (Offset(offset), Mark::Unreserved));
            let is_listed = listed > 0 && partition.topic == Topic::Source;
            let found = CommittedState {
                committed: is_listed
                    .then(|| (base, encode(base, end, None, maps_since, unfinished))),
                topic_id: None,
                log_start: base,
                log_end: if is_listed { end } else { base },
                high_watermark: if is_listed { end } else { base },
            };
            self.pass_kafka_event(KafkaEvent::CommittedState {
                generation: GENERATION,
                partition,
                found,
            });
        }
    }

    /// Publishes a record for this tenant at this time after the start.
    pub fn publish(&mut self, at_ms: i64, tenant: usize) {
        self.results[tenant].published += 1;
        self.at(at_ms, LoadEvent::Publish(tenant));
    }

    /// Runs until this time, or until no event is left.
    pub fn run(&mut self, until_ms: i64) {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > until_ms {
                self.queue.push(Reverse((at, number)));
                return;
            }
            self.now = at;
            let event = self.events.remove(&number);
            self.handle(event.expect("scheduled with it"));
        }
    }

    /// Runs until every record has ended, at most until this time.
    pub fn run_to_end(&mut self, until_ms: i64) {
        let mut to = self.now;
        while to < until_ms
            && self
                .results
                .iter()
                .any(|t| t.delivered + t.dead_lettered < t.published)
        {
            to = (to + 10_000).min(until_ms);
            self.run(to);
        }
    }

    /// Returns how far the committed offset of any partition is behind: the age of its
    /// record, in a delay topic since the record was due.
    pub fn behind_ms(&self) -> i64 {
        let ages = self.logs.iter().filter_map(|(partition, log)| {
            let record = log.records.get(log.base)?;
            Some(self.clock().0 - due_ms(*partition, record))
        });
        ages.max().unwrap_or(0).max(0)
    }

    /// Returns the age of the oldest record that does not wait for its tenant, which an
    /// alert watches.
    pub fn oldest_waiting(&self) -> Duration {
        let overview = self.engine.overview(self.clock());
        let topics = overview.topics.values();
        let ages = topics.map(|topic| topic.oldest_waiting_age);
        ages.max().unwrap_or(Duration::ZERO)
    }

    /// Returns the milliseconds since the start.
    pub fn now_ms(&self) -> i64 {
        self.now
    }

    fn at(&mut self, at_ms: i64, event: LoadEvent) {
        self.scheduled += 1;
        self.events.insert(self.scheduled, event);
        self.queue
            .push(Reverse((at_ms.max(self.now), self.scheduled)));
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis(BEGIN_MS + self.now)
    }

    fn handle(&mut self, event: LoadEvent) {
        match event {
            LoadEvent::Publish(tenant) => self.append_new(tenant),
            LoadEvent::PassEvent(event) => self.pass_event(event),
            LoadEvent::Moved(order) => self.moved(order),
            LoadEvent::Poll(partition) => self.poll(partition),
            LoadEvent::Answered(tenant, position, ended) => {
                self.results[tenant].in_flight -= 1;
                self.pass_event(Event::AttemptFinished { position, ended });
            }
            LoadEvent::Wake => {
                if self.wake.is_some_and(|at| at <= self.now) {
                    self.wake = None;
                    self.pass_event(WAKE);
                }
            }
        }
    }

    fn append_new(&mut self, tenant: usize) {
        let number = self.published;
        self.published += 1;
        let value = format!(r#"{{"id":"r{number}","tenantId":"t{tenant}"}}"#);
        let partition = Topic::Source.partition((number % self.first_partitions as usize) as i32);
        self.append(partition, tenant, Some(value.into()), Vec::new());
    }

    fn append(
        &mut self,
        partition: Partition,
        tenant: usize,
        value: Option<bytes::Bytes>,
        headers: Vec<Header>,
    ) {
        let timestamp = self.clock();
        let log = self.logs.get_mut(&partition).expect("a consumed topic");
        let position = partition.at(Offset(log.records.len() as i64));
        log.records.push(Record {
            position,
            timestamp,
            key: None,
            value,
            headers,
        });
        self.tenant_of.insert(position, tenant);
        self.poll_soon(partition);
    }

    fn poll_soon(&mut self, partition: Partition) {
        let log = self.logs.get_mut(&partition).expect("a consumed topic");
        if !log.polling && !log.asked.is_used_up() && log.read < log.records.len() {
            log.polling = true;
            self.at(
                self.now + POLL_MS + self.round_trip_ms,
                LoadEvent::Poll(partition),
            );
        }
    }

    fn poll(&mut self, partition: Partition) {
        let log = self.logs.get_mut(&partition).expect("a consumed topic");
        log.polling = false;
        let mut records = Vec::new();
        while let Some(record) = log
            .records
            .get(log.read)
            .filter(|_| !log.asked.is_used_up())
        {
            log.asked.take(record.size());
            log.read += 1;
            records.push(record.clone());
        }
        log.read_at
            .extend(std::iter::repeat_n(self.now, records.len()));
        let now = self.clock();
        let records = records.into_iter().map(|record| (GENERATION, record));
        let event = KafkaEvent::Records(records.collect());
        self.engine.handle(now, kafka(event));
        self.pass_event(WAKE);
    }

    fn moved(&mut self, order: MoveRequest) {
        for record in order.records {
            let tenant = self.tenant_of[&record.from];
            if let Topic::Delay(_) = record.to {
                let number = record.from.partition.number;
                let partition = record.to.partition(number);
                self.append(partition, tenant, record.value, record.headers);
            }
        }
        let write = order.write;
        let took = Duration::from_millis(MOVE_MS as u64);
        self.pass_kafka_event(KafkaEvent::Moved {
            write,
            took,
            appended: None,
        });
    }

    fn pass_kafka_event(&mut self, event: KafkaEvent) {
        self.pass_event(kafka(event));
    }

    fn pass_event(&mut self, event: Event) {
        let now = self.clock();
        self.engine.handle(now, event);
        while let Some(action) = self.engine.next_action() {
            self.perform(action);
        }
        let Some(wake) = self.engine.next_wake() else {
            return;
        };
        let at = (wake.0 - BEGIN_MS).max(self.now + 1);
        if self.wake.is_none_or(|before| at < before) {
            self.wake = Some(at);
            self.at(at, LoadEvent::Wake);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Kafka(request) => self.perform_request(request),
            Action::StartAttempt(order) => self.attempt(&order),
            Action::Report(Fact::Disposed {
                disposition,
                position,
            }) => self.disposed(disposition, position),
            Action::Report(Fact::AttemptEnded {
                position,
                first_attempt_latency: Some(Latency::Measured(wait)),
                ..
            }) => {
                let tenant = self.tenant_of[&position];
                self.results[tenant].waits_ms.push(wait.as_millis() as i64);
            }
            Action::Report(_) => {}
            Action::StartSession(_) | Action::ShowOverview => {}
            Action::DropSession | Action::Exit(_) => {
                panic!("{action:?} without any fault")
            }
        }
    }

    fn perform_request(&mut self, request: KafkaRequest) {
        match request {
            KafkaRequest::Consumer(ConsumerRequest::StartFetch { .. }) => {}
            KafkaRequest::Consumer(ConsumerRequest::Fetch {
                partition, credit, ..
            }) => {
                self.logs
                    .get_mut(&partition)
                    .expect("a consumed topic")
                    .asked
                    .add(credit);
                self.poll_soon(partition);
            }
            KafkaRequest::Commit(order) => {
                self.note_bases(&order.snapshots);
                let write = order.write;
                let took_ms = COMMIT_MS + self.round_trip_ms;
                let took = Duration::from_millis(took_ms as u64);
                self.at(
                    self.now + took_ms,
                    LoadEvent::PassEvent(kafka(KafkaEvent::Committed { write, took })),
                );
            }
            KafkaRequest::Move(order) => {
                self.note_bases(&order.snapshots);
                self.at(self.now + MOVE_MS, LoadEvent::Moved(order));
            }
            KafkaRequest::Consumer(ConsumerRequest::FinishRevoke { .. })
            | KafkaRequest::RenewProducer(_)
            | KafkaRequest::Consumer(ConsumerRequest::Rejoin)
            | KafkaRequest::Consumer(ConsumerRequest::Leave) => {
                panic!("{request:?} without any fault")
            }
            KafkaRequest::FindUnassigned => {}
        }
    }

    fn note_bases(&mut self, snapshots: &[Snapshot]) {
        for snapshot in snapshots {
            let log = self.logs.get_mut(&snapshot.partition);
            log.expect("a consumed topic").base = snapshot.base.0 as usize;
        }
    }

    fn disposed(&mut self, disposition: Disposition, position: Position) {
        let result = &mut self.results[self.tenant_of[&position]];
        match disposition {
            Disposition::Delivered => result.delivered += 1,
            Disposition::Delayed => result.delayed += 1,
            Disposition::Diverted => result.diverted += 1,
            Disposition::DeadLettered => result.dead_lettered += 1,
            Disposition::Skipped => panic!("every tenant has a callback"),
        }
    }

    fn attempt(&mut self, order: &AttemptRequest) {
        let tenant = self.tenant_of[&order.position];
        let Position { partition, offset } = order.position;
        let log = &self.logs[&partition];
        let due = due_ms(partition, &log.records[offset.0 as usize]) - BEGIN_MS;
        let in_lane = self.now - due.max(log.read_at[offset.0 as usize]);
        let result = &mut self.results[tenant];
        result.longest_in_lane_ms = result.longest_in_lane_ms.max(in_lane);
        result.attempts += 1;
        result.in_flight += 1;
        result.in_flight_most = result.in_flight_most.max(result.in_flight);
        let (wait, status) = (self.tenants[tenant].answers)(self.now, result.in_flight);
        let all: usize = self.results.iter().map(|t| t.in_flight).sum();
        self.in_flight_most = self.in_flight_most.max(all);
        let status = status.filter(|_| wait < TIMEOUT);
        let duration = if status.is_some() { wait } else { TIMEOUT };
        let outcome = outcome(status);
        let ended = AttemptResult {
            outcome,
            started_at: self.clock(),
            duration,
        };
        let at = self.now + (duration.as_millis() as i64).max(1);
        self.at(at, LoadEvent::Answered(tenant, order.position, ended));
    }
}

/// Returns when a record was published, in a delay topic when it is due.
fn due_ms(partition: Partition, record: &Record) -> i64 {
    let delay = partition
        .topic
        .delay()
        .map_or(Duration::ZERO, Delay::duration);
    record.timestamp.plus(delay).0
}

/// Returns the default settings.
pub fn settings(in_flight_max: usize) -> EngineSettings {
    let delays = [10, 10, 60, 60, 600, 600, 3_600, 3_600, 21_600];
    let delay = |s: u64| Delay::new(Duration::from_secs(s)).expect("in range");
    EngineSettings {
        instance: String::new(),
        topics: ringback::model::position::TopicNames::new("call-ended"),
        attempts: 10,
        delays: delays.into_iter().map(delay).collect(),
        in_flight_max,
        commit_interval: Duration::from_millis(2),
        record_bytes_max: 1 << 20,
        drain_timeout: Duration::from_secs(10),
    }
}
