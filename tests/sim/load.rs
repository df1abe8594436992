//! One engine under load, in virtual time, where Kafka does what it should: for
//! what lanes and diverts do over minutes and hours. Faults are the world's.

use crate::plan::WAKE;
use ringback::engine::Engine;
use ringback::engine::event::{Action, EngineSettings, Event};
use ringback::engine::offsets::{Began, Mark, encode};
use ringback::model::attempt::{AttemptResult, ErrorClass, Outcome};
use ringback::model::disposition::Disposition;
use ringback::model::fact::Fact;
use ringback::model::message::{AttemptRequest, CommittedState, MoveRequest};
use ringback::model::position::{Generation, NextOffset, Offset, Partition, Position, Topic};
use ringback::model::record::{Header, Record};
use ringback::model::tenant::{Secret, Tenant, TenantId, Tenants};
use ringback::model::time::{Delay, UnixMillis};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const GENERATION: Generation = Generation(1);
const BEGIN_MS: i64 = 1_700_000_000_000;
/// What a poll, a commit and a transaction take.
const POLL_MS: i64 = 1;
const COMMIT_MS: i64 = 2;
const MOVE_MS: i64 = 15;

/// How a tenant's receiver answers one attempt: after so long, this status;
/// none is never.
pub type Answer = (Duration, Option<u16>);

/// The deadline of an attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A tenant and its receiver.
pub struct Party {
    pub max_in_flight: u32,
    /// From the moment in milliseconds since the beginning, and how many of
    /// its attempts are in flight, this one included.
    pub answers: Box<dyn FnMut(i64, usize) -> Answer>,
}

impl Party {
    /// One that always answers so.
    pub fn steady(ms: u64, status: Option<u16>) -> Self {
        Self {
            max_in_flight: 64,
            answers: Box::new(move |_, _| (Duration::from_millis(ms), status)),
        }
    }
}

/// What became of a tenant's records.
#[derive(Clone, Default, Debug)]
pub struct Told {
    pub published: usize,
    pub attempts: usize,
    pub delivered: usize,
    pub diverted: usize,
    pub delayed: usize,
    pub dead_lettered: usize,
    /// From publication to the start of the first attempt.
    pub waits_ms: Vec<i64>,
    pub in_flight: usize,
    pub in_flight_most: usize,
}

impl Told {
    /// Copies of records that were written.
    pub fn writes(&self) -> usize {
        self.diverted + self.delayed + self.dead_lettered
    }

    /// The wait that so large a share did not exceed.
    pub fn wait_ms(&self, share: f64) -> i64 {
        let mut waits = self.waits_ms.clone();
        waits.sort_unstable();
        let at = (waits.len() as f64 * share) as usize;
        waits[at.min(waits.len() - 1)]
    }
}

enum Happening {
    Publish(usize),
    Tell(Event),
    Moved(MoveRequest),
    Poll(Partition),
    Answered(usize, Position, AttemptResult),
    Wake,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    read: usize,
    asked: usize,
    polling: bool,
}

/// The engine and all around it.
pub struct Load {
    engine: Engine,
    parties: Vec<Party>,
    /// By the tenants' numbers.
    pub told: Vec<Told>,
    /// The most unfinished records that were seen in one partition's map.
    pub in_flight_most: usize,
    logs: BTreeMap<Partition, Log>,
    published: usize,
    tenant_of: HashMap<Position, usize>,
    first_partitions: u32,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: HashMap<u64, Happening>,
    scheduled: u64,
    now: i64,
    wake: Option<i64>,
}

impl Load {
    /// So many partitions of each topic, all assigned and empty.
    pub fn new(settings: EngineSettings, partitions: u32, parties: Vec<Party>) -> Self {
        Self::after_a_kill(settings, partitions, parties, 0)
    }

    /// The same, where each source partition holds so many records, for the
    /// tenants in turn, that the last owner's map lists as unfinished.
    pub fn after_a_kill(
        settings: EngineSettings,
        partitions: u32,
        parties: Vec<Party>,
        listed: usize,
    ) -> Self {
        let delays = settings.delays.iter().map(|delay| Topic::Delay(*delay));
        let topics: Vec<Topic> = std::iter::once(Topic::Source).chain(delays).collect();
        let all = topics.into_iter().flat_map(|topic| {
            (0..partitions).map(move |number| Partition {
                topic,
                number: number as i32,
            })
        });
        let logs: BTreeMap<Partition, Log> = all.map(|p| (p, Log::default())).collect();
        let mut load = Self {
            engine: Engine::new(settings),
            told: vec![Told::default(); parties.len()],
            in_flight_most: 0,
            published: 0,
            tenant_of: HashMap::new(),
            first_partitions: partitions,
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            scheduled: 0,
            now: 0,
            wake: None,
            logs,
            parties,
        };
        for number in 0..listed * partitions as usize {
            let tenant = number / partitions as usize % load.parties.len();
            load.told[tenant].published += 1;
            load.append_new(tenant);
        }
        load.begin(listed);
        load
    }

    fn begin(&mut self, listed: usize) {
        let tenants: Tenants = self.parties.iter().enumerate().map(tenant).collect();
        self.tell(Event::TenantsReplaced(Arc::new(tenants)));
        let partitions: Vec<Partition> = self.logs.keys().copied().collect();
        self.tell(Event::Assigned {
            generation: GENERATION,
            partitions: partitions.clone(),
        });
        for partition in partitions {
            let (base, end) = (NextOffset(0), NextOffset(listed as i64));
            let began = Began {
                at: UnixMillis(0),
                end: base,
            };
            let unfinished = (0..end.0).map(|offset| (Offset(offset), Mark::Open));
            let is_listed = listed > 0 && partition.topic == Topic::Source;
            let found = CommittedState {
                committed: is_listed.then(|| (base, encode(base, end, None, began, unfinished))),
                topic_id: None,
                log_start: base,
                log_end: if is_listed { end } else { base },
            };
            self.tell(Event::CommittedState {
                generation: GENERATION,
                partition,
                found,
            });
        }
    }

    /// A record for this tenant, so many milliseconds after the beginning.
    pub fn publish(&mut self, at_ms: i64, tenant: usize) {
        self.told[tenant].published += 1;
        self.at(at_ms, Happening::Publish(tenant));
    }

    /// Goes on until then, or until nothing is left to do.
    pub fn run(&mut self, until_ms: i64) {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > until_ms {
                self.queue.push(Reverse((at, number)));
                return;
            }
            self.now = at;
            let happening = self.happenings.remove(&number);
            self.happen(happening.expect("scheduled with it"));
        }
    }

    /// Goes on until every record has ended, at most so long.
    pub fn run_to_end(&mut self, until_ms: i64) {
        let mut to = self.now;
        while to < until_ms
            && self
                .told
                .iter()
                .any(|t| t.delivered + t.dead_lettered < t.published)
        {
            to = (to + 10_000).min(until_ms);
            self.run(to);
        }
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> i64 {
        self.now
    }

    fn at(&mut self, at_ms: i64, happening: Happening) {
        self.scheduled += 1;
        self.happenings.insert(self.scheduled, happening);
        self.queue
            .push(Reverse((at_ms.max(self.now), self.scheduled)));
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis(BEGIN_MS + self.now)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Publish(tenant) => self.append_new(tenant),
            Happening::Tell(event) => self.tell(event),
            Happening::Moved(order) => self.moved(order),
            Happening::Poll(partition) => self.poll(partition),
            Happening::Answered(tenant, position, ended) => {
                self.told[tenant].in_flight -= 1;
                self.tell(Event::AttemptFinished { position, ended });
            }
            Happening::Wake => {
                if self.wake.is_some_and(|at| at <= self.now) {
                    self.wake = None;
                    self.tell(WAKE);
                }
            }
        }
    }

    fn append_new(&mut self, tenant: usize) {
        let number = self.published;
        self.published += 1;
        let value = format!(r#"{{"id":"r{number}","tenantId":"t{tenant}"}}"#);
        let partition = Partition {
            topic: Topic::Source,
            number: (number % self.first_partitions as usize) as i32,
        };
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
        let log = self.logs.get_mut(&partition).expect("a topic of ours");
        let position = Position {
            partition,
            offset: Offset(log.records.len() as i64),
        };
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
        let log = self.logs.get_mut(&partition).expect("a topic of ours");
        if !log.polling && log.asked > 0 && log.read < log.records.len() {
            log.polling = true;
            self.at(self.now + POLL_MS, Happening::Poll(partition));
        }
    }

    fn poll(&mut self, partition: Partition) {
        let log = self.logs.get_mut(&partition).expect("a topic of ours");
        log.polling = false;
        let count = log.asked.min(log.records.len() - log.read);
        log.asked -= count;
        let records = log.records[log.read..log.read + count].to_vec();
        log.read += count;
        let now = self.clock();
        for record in records {
            let generation = GENERATION;
            self.engine
                .handle(now, Event::Record { generation, record });
        }
        self.tell(WAKE);
    }

    fn moved(&mut self, order: MoveRequest) {
        for record in order.records {
            let tenant = self.tenant_of[&record.from];
            if let Topic::Delay(_) = record.to {
                let number = record.from.partition.number;
                let partition = Partition {
                    topic: record.to,
                    number,
                };
                self.append(partition, tenant, record.value, record.headers);
            }
        }
        let write = order.write;
        self.tell(Event::Moved { write });
    }

    fn tell(&mut self, event: Event) {
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
            self.at(at, Happening::Wake);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::StartFetch { .. } => {}
            Action::Fetch {
                partition, records, ..
            } => {
                self.logs
                    .get_mut(&partition)
                    .expect("a topic of ours")
                    .asked += records;
                self.poll_soon(partition);
            }
            Action::Commit(order) => {
                let write = order.write;
                self.at(
                    self.now + COMMIT_MS,
                    Happening::Tell(Event::Committed { write }),
                );
            }
            Action::Move(order) => self.at(self.now + MOVE_MS, Happening::Moved(order)),
            Action::StartAttempt(order) => self.attempt(&order),
            Action::Report(Fact::Disposed {
                disposition,
                position,
            }) => self.disposed(disposition, position),
            Action::Report(Fact::AttemptEnded {
                position,
                first_attempt_latency: Some(wait),
                ..
            }) => {
                let tenant = self.tenant_of[&position];
                self.told[tenant].waits_ms.push(wait.as_millis() as i64);
            }
            Action::Report(_) => {}
            Action::Readopt { .. } | Action::FinishRevoke { .. } | Action::Stop => {
                panic!("nothing went wrong, and it asks for {action:?}")
            }
        }
    }

    fn disposed(&mut self, disposition: Disposition, position: Position) {
        let told = &mut self.told[self.tenant_of[&position]];
        match disposition {
            Disposition::Delivered => told.delivered += 1,
            Disposition::Delayed => told.delayed += 1,
            Disposition::Diverted => told.diverted += 1,
            Disposition::DeadLettered => told.dead_lettered += 1,
            Disposition::Skipped => panic!("every tenant has a callback"),
        }
    }

    fn attempt(&mut self, order: &AttemptRequest) {
        let tenant = self.tenant_of[&order.position];
        let told = &mut self.told[tenant];
        told.attempts += 1;
        told.in_flight += 1;
        told.in_flight_most = told.in_flight_most.max(told.in_flight);
        let (wait, status) = (self.parties[tenant].answers)(self.now, told.in_flight);
        let all: usize = self.told.iter().map(|t| t.in_flight).sum();
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
        self.at(at, Happening::Answered(tenant, order.position, ended));
    }
}

fn outcome(status: Option<u16>) -> Outcome {
    let class = match status {
        Some(status) => match ErrorClass::of_status(status) {
            None => return Outcome::Delivered { status },
            Some(class) => class,
        },
        None => ErrorClass::Timeout,
    };
    Outcome::Failed {
        class,
        status,
        retry_after: None,
        detail: String::new(),
    }
}

fn tenant((number, party): (usize, &Party)) -> Tenant {
    Tenant {
        id: TenantId::new(&format!("t{number}")).expect("a short name"),
        url: Secret(format!("http://t{number}.invalid/")),
        secrets: Vec::new(),
        headers: Vec::new(),
        max_in_flight: party.max_in_flight,
        enabled: true,
    }
}

/// The default settings.
pub fn settings(in_flight_max: usize) -> EngineSettings {
    let delays = [10, 10, 60, 60, 600, 600, 3_600, 3_600, 21_600];
    let delay = |s: u64| Delay::new(Duration::from_secs(s)).expect("in range");
    EngineSettings {
        topics: ringback::model::position::TopicNames::new("call-ended"),
        attempts: 10,
        delays: delays.into_iter().map(delay).collect(),
        in_flight_max,
        commit_interval: Duration::from_millis(2),
        record_bytes_max: 1 << 20,
        drain_timeout: Duration::from_secs(10),
    }
}
