//! The world around the engines: virtual time, one queue of what happens, and
//! the course of a run. What happens to an engine is in `desks`, what Kafka
//! does in `kafka` and `writes`, the group in `members`, the rest outside.

use crate::broker::{Broker, TransactionId};
use crate::chance::Chance;
use crate::coordinator::{Coordinator, Credentials, Name};
use crate::laws::desk::Desk;
use crate::laws::offsets::Offsets;
use crate::laws::residences::{Posted, Residences};
use crate::laws::{Breach, Law, Verdict};
use crate::plan::{Fault, MS, Plan, Rates, SECOND, Task, TenantPlan};
use crate::planted::{Clumsy, Planted};
use crate::reach::Away;
use crate::replica::{Replica, Request, Tag};
use crate::trace::Trace;
use crate::writes::Landing;
use bytes::Bytes;
use ringback::engine::event::Event;
use ringback::model::attempt::AttemptResult;
use ringback::model::fact::ReadoptReason;
use ringback::model::message::{AttemptRequest, WriteId};
use ringback::model::position::{Generation, Partition, Position};
use ringback::model::time::UnixMillis;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// The moment at which every run begins, by the broker's clock.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Once faults have stopped, the run is looked at this often.
const SETTLING_CHECK_US: u64 = 10 * SECOND;

/// By then whatever waited for brokers that were away has been tried again.
const SETTLING_MIN_US: u64 = 200 * SECOND;

/// So long partitions may be without an owner in a stable group.
const ORPHANED_US: u64 = 60 * SECOND;

/// Something that will happen.
#[derive(Debug)]
pub enum Happening {
    Publish,
    Fault(Fault),
    Maintain,
    MaintenanceEnds,
    Check,
    Bounds,
    Up(usize),
    Join(Tag),
    JoinAnswered(Tag, Credentials),
    Sync(Tag),
    SyncAnswered(Tag, Vec<Partition>),
    Heartbeat(Tag),
    SessionTimeout(Tag, Name),
    SessionCheck(Tag),
    Lose(Tag),
    Initialise(Tag),
    /// To the engine, whatever became of its consumer.
    Tell(Tag, Event),
    /// From the consumer to the engine.
    TellConsumer(Tag, Event),
    /// The rest of the runner's turn.
    Turn(Tag),
    Wake(Tag, u64),
    Find(Tag, Partition, Generation),
    Fetch(Tag, Partition, Generation),
    Landing(Landing),
    TransactionBegins(Tag, Arc<Request>),
    OffsetsAdded(Tag, Arc<Request>, TransactionId),
    TransactionEnds(Tag, WriteId, TransactionId),
    TransactionTimesOut(TransactionId),
    Start(Tag, Box<AttemptRequest>),
    Answered(Tag, Posted, Position, AttemptResult),
}

impl Happening {
    /// Whose doing it is, where it explains what an engine meets.
    fn to_be_noted(&self) -> Option<usize> {
        match self {
            Self::Fault(_) | Self::Maintain | Self::MaintenanceEnds => Some(0),
            Self::Up(replica) => Some(*replica),
            Self::Join(tag)
            | Self::JoinAnswered(tag, _)
            | Self::Sync(tag)
            | Self::SyncAnswered(tag, _)
            | Self::Heartbeat(tag)
            | Self::SessionTimeout(tag, _)
            | Self::SessionCheck(tag)
            | Self::Lose(tag)
            | Self::Initialise(tag) => Some(tag.replica),
            _ => None,
        }
    }
}

struct Scheduled {
    at_us: u64,
    number: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Faulty,
    Settling { since_us: u64, deadline_us: u64 },
    Draining,
}

/// What a lawful run was like.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub steps: u64,
    pub records: u64,
    pub posts: u64,
    pub posts_after_success: u64,
    pub dead_letters: u64,
    pub virtual_s: u64,
    /// How often what can happen did.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Summary {
    /// Takes another run in.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.records += other.records;
        self.posts += other.posts;
        self.posts_after_success += other.posts_after_success;
        self.dead_letters += other.dead_letters;
        self.virtual_s += other.virtual_s;
        for (what, times) in &other.seen {
            *self.seen.entry(what).or_default() += times;
        }
    }
}

/// A record as the call platform published it.
pub struct Published {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// One run.
pub struct World {
    pub plan: Plan,
    pub rates: Rates,
    pub chance: Chance,
    pub now_us: u64,
    pub broker: Broker,
    pub coordinator: Coordinator,
    pub away: Away,
    pub replicas: Vec<Replica>,
    pub published: Vec<Published>,
    pub residences: Residences,
    pub offsets: Offsets,
    pub tenants: Vec<TenantPlan>,
    pub maintenance: Option<Task>,
    /// Offsets that the engines reported as lost.
    pub lost_reported: u64,
    pub steps: u64,
    pub trace: Trace,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    phase: Phase,
    orphans_since: Option<u64>,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    /// The world of a plan.
    pub fn new(plan: Plan, chance: Chance, planted: Option<Planted>, trace: Trace) -> Self {
        let mut broker = Broker::new(plan.partitions.iter().copied());
        broker.topic_ids = plan.topic_ids;
        broker.delayed_bytes_max = plan.delayed_bytes_max;
        let replica = |(number, skew_ms): (usize, &i64)| {
            let desk = Desk::new(&plan.settings);
            Replica::new(number, *skew_ms, desk, Clumsy::new(planted))
        };
        Self {
            rates: plan.rates,
            now_us: 0,
            broker,
            coordinator: Coordinator::new(),
            away: Away::default(),
            replicas: plan.skews_ms.iter().enumerate().map(replica).collect(),
            published: Vec::new(),
            residences: Residences::default(),
            offsets: Offsets::default(),
            tenants: plan.tenants.clone(),
            maintenance: None,
            lost_reported: 0,
            steps: 0,
            trace,
            queue: BinaryHeap::new(),
            scheduled: 0,
            phase: Phase::Faulty,
            orphans_since: None,
            seen: BTreeMap::new(),
            chance,
            plan,
        }
    }

    /// Runs to the end, or to the first breach.
    pub fn run(mut self) -> Result<Summary, Breach> {
        self.begin();
        while let Some(Reverse(next)) = self.queue.pop() {
            self.now_us = next.at_us;
            self.happen(next.happening)?;
            if self.phase == Phase::Draining && self.replicas.iter().all(|r| r.engine.is_none()) {
                return self.end();
            }
        }
        Err(Law::L7.breach("nothing is left to happen"))
    }

    /// Schedules something so many microseconds from now.
    pub fn after(&mut self, us: u64, happening: Happening) {
        self.at(self.now_us + us, happening);
    }

    /// Schedules something.
    pub fn at(&mut self, at_us: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled {
            at_us: at_us.max(self.now_us),
            number: self.scheduled,
            happening,
        }));
    }

    /// Something happened that is counted.
    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The broker's clock.
    pub fn broker_now(&self) -> UnixMillis {
        UnixMillis(EPOCH_MS + (self.now_us / MS) as i64)
    }

    /// A replica's clock.
    pub fn now_of(&self, replica: usize) -> UnixMillis {
        UnixMillis(self.broker_now().0 + self.replicas[replica].skew_ms)
    }

    /// Whether faults have stopped.
    pub fn is_settling(&self) -> bool {
        self.phase != Phase::Faulty
    }

    /// Whether the run is about to end.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    fn begin(&mut self) {
        for _ in 0..self.plan.records {
            let at = self.chance.below(self.plan.publish_us);
            self.at(at, Happening::Publish);
        }
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, Happening::Fault(fault));
        }
        for replica in 0..self.plan.replicas {
            let at = if replica == 0 {
                0
            } else {
                self.chance.below(5 * SECOND)
            };
            self.at(at, Happening::Up(replica));
        }
        self.after(0, Happening::Check);
        self.after(SECOND, Happening::Bounds);
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        let happening = match self.unless_paused(happening) {
            Some(happening) => happening,
            None => return Ok(()),
        };
        if let Some(replica) = happening.to_be_noted() {
            self.trace
                .note(self.steps, self.now_us, replica, &happening);
        }
        match happening {
            Happening::Publish => self.publish(),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Maintain => self.maintenance_step(),
            Happening::MaintenanceEnds => self.maintenance_ends(),
            Happening::Check => return self.check(),
            Happening::Bounds => return self.tell_bounds(),
            Happening::Up(replica) => self.up(replica),
            Happening::Join(tag) => self.join(tag),
            Happening::JoinAnswered(tag, credentials) => self.join_answered(tag, credentials),
            Happening::Sync(tag) => self.sync(tag),
            Happening::SyncAnswered(tag, partitions) => self.sync_answered(tag, &partitions),
            Happening::Heartbeat(tag) => self.heartbeat(tag),
            Happening::SessionTimeout(tag, name) => self.session_timeout(tag, name),
            Happening::SessionCheck(tag) => self.session_check(tag),
            Happening::Lose(tag) => self.lose(tag),
            Happening::Initialise(tag) => return self.initialise(tag),
            Happening::Tell(tag, event) => {
                if self.replicas[tag.replica].lives(tag) {
                    return self.tell(tag.replica, event);
                }
            }
            Happening::TellConsumer(tag, event) => {
                if self.replicas[tag.replica].is_current(tag) {
                    self.end_turn_before(tag.replica, &event)?;
                }
                // The turn may have dropped the consumer.
                if self.replicas[tag.replica].is_current(tag) {
                    self.keep_told(tag.replica, &event);
                    return self.tell(tag.replica, event);
                }
            }
            Happening::Turn(tag) => return self.turn(tag),
            Happening::Wake(tag, at) => return self.wake(tag, at),
            Happening::Find(tag, partition, generation) => {
                self.find(tag, partition, generation);
            }
            Happening::Fetch(tag, partition, generation) => {
                return self.fetch(tag, partition, generation);
            }
            Happening::Landing(landing) => return self.landing(landing),
            Happening::TransactionBegins(tag, request) => self.transaction_begins(tag, request),
            Happening::OffsetsAdded(tag, request, id) => {
                return self.offsets_added(tag, request, id);
            }
            Happening::TransactionEnds(tag, write, id) => {
                return self.transaction_ends(tag, write, id);
            }
            Happening::TransactionTimesOut(id) => return self.transaction_times_out(id),
            Happening::Start(tag, order) => return self.start(tag, &order),
            Happening::Answered(tag, posted, position, ended) => {
                self.answered(tag, posted, position, ended);
            }
        }
        Ok(())
    }

    /// What a stopped process would do waits until it goes on.
    fn unless_paused(&mut self, happening: Happening) -> Option<Happening> {
        let tag = match &happening {
            Happening::Join(tag)
            | Happening::JoinAnswered(tag, _)
            | Happening::Sync(tag)
            | Happening::SyncAnswered(tag, _)
            | Happening::Heartbeat(tag)
            | Happening::SessionCheck(tag)
            | Happening::Lose(tag)
            | Happening::Initialise(tag)
            | Happening::Tell(tag, _)
            | Happening::TellConsumer(tag, _)
            | Happening::Turn(tag)
            | Happening::Wake(tag, _)
            | Happening::Find(tag, ..)
            | Happening::Fetch(tag, ..)
            | Happening::TransactionBegins(tag, _)
            | Happening::OffsetsAdded(tag, ..)
            | Happening::TransactionEnds(tag, ..)
            | Happening::Start(tag, _) => *tag,
            _ => return Some(happening),
        };
        let until = self.replicas[tag.replica].paused_until;
        if until <= self.now_us {
            return Some(happening);
        }
        self.at(until, happening);
        None
    }

    /// Something goes wrong, where it can.
    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Crash {
                replica,
                down_us,
                damage,
            } => {
                let owned = self.replicas[replica].reading.keys();
                let owned: Vec<Partition> = owned.copied().collect();
                self.crash(replica, down_us);
                if let (Some(damage), false) = (damage, owned.is_empty()) {
                    let partition = owned[self.chance.index(owned.len())];
                    let others = self
                        .replicas
                        .iter()
                        .any(|r| r.reading.contains_key(&partition));
                    if !others {
                        self.damage(partition, damage);
                    }
                }
            }
            Fault::Rebalance => self.shuffle(),
            Fault::Pause { replica, for_us } => self.pause(replica, for_us),
            Fault::Replace { replica, for_us } => self.replace(replica, for_us),
            Fault::Restart { replica, down_us } => {
                let this = &mut self.replicas[replica];
                if this.engine.is_some() && !this.desk.is_draining() {
                    this.down_us = Some(down_us);
                    let tag = this.tag;
                    self.after(0, Happening::Tell(tag, Event::Drain));
                }
            }
            Fault::ConsumerFails { replica } => {
                let reason = ReadoptReason::ConsumerFault;
                if self.replicas[replica].engine.is_some() {
                    self.tell_consumer(replica, Event::KafkaFault { reason });
                }
            }
            Fault::Cut { replica, for_us } => self.cut(replica, for_us),
            Fault::Away { way, for_us } => self.brokers_go(way, for_us),
            Fault::TenantsChange => self.change_tenants(),
            Fault::Grow => self.grow(),
            Fault::DeleteRecords => self.delete_records(),
            Fault::MakeAgain => self.make_again(),
            Fault::Maintain(task) => self.maintain(task),
        }
    }

    fn check(&mut self) -> Verdict {
        self.look_at_desks()?;
        self.look_for_orphans();
        match self.phase {
            Phase::Faulty => {
                let over = self.now_us >= self.plan.faults_end_us;
                if over && self.maintenance.is_none() && !self.must_reset() {
                    self.settle();
                }
            }
            Phase::Settling {
                since_us,
                deadline_us,
            } => {
                if self.now_us >= since_us + SETTLING_MIN_US {
                    self.look_for_end(deadline_us)?;
                }
            }
            Phase::Draining => {}
        }
        let seldom = matches!(self.phase, Phase::Settling { .. });
        let late = if seldom { SETTLING_CHECK_US } else { SECOND };
        self.after(late, Happening::Check);
        Ok(())
    }

    /// An offset beyond its log's end needs the operator.
    fn must_reset(&mut self) -> bool {
        let consumed = self.broker.consumed();
        let beyond = consumed.into_iter().any(|p| {
            let committed = self.broker.committed(p).map(|(base, _)| base);
            committed.is_some_and(|base| base > self.broker.bounds(p).end)
                && self.broker.origin(p) == Some(crate::broker::Origin::Other)
        });
        if beyond {
            self.maintain(Task::ResetBeyondEnd);
        }
        beyond
    }

    /// Faults stop: whoever is down comes up, and everything is reached.
    fn settle(&mut self) {
        self.rates = Rates::CALM;
        self.away = Away::default();
        let records = self.residences.budgets().max(self.plan.records);
        let patience = self.plan.patience(records);
        let deadline_us = self.now_us + patience.as_micros() as u64 + 60 * SECOND;
        self.phase = Phase::Settling {
            since_us: self.now_us,
            deadline_us,
        };
        for replica in 0..self.replicas.len() {
            self.replicas[replica].cut_until = 0;
            if replica < self.plan.replicas {
                self.after(20 * SECOND, Happening::Up(replica));
            }
        }
    }

    /// Partitions without an owner stay so up to the next rebalance; somebody
    /// sees to it that there is one.
    fn look_for_orphans(&mut self) {
        let orphans = self.coordinator.has_orphans(&self.broker.consumed());
        if !orphans {
            self.orphans_since = None;
            return;
        }
        let since = *self.orphans_since.get_or_insert(self.now_us);
        if self.now_us >= since + ORPHANED_US {
            self.count("orphaned");
            self.orphans_since = None;
            self.shuffle();
        }
    }

    fn look_for_end(&mut self, deadline_us: u64) -> Verdict {
        let consumed = self.broker.consumed();
        let left: Vec<Partition> = consumed
            .into_iter()
            .filter(|p| !self.broker.is_done(*p))
            .collect();
        Law::L7.check(left.is_empty() || self.now_us < deadline_us, || {
            format!("not done by {} s: {left:?}", self.now_us / SECOND)
        })?;
        let still = |r: &Replica| r.paused_until <= self.now_us;
        if !left.is_empty() || !self.replicas.iter().all(still) {
            return Ok(());
        }
        self.phase = Phase::Draining;
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].engine.is_some() {
                self.replicas[replica].down_us = None;
                self.tell(replica, Event::Drain)?;
            }
        }
        Ok(())
    }

    /// The last look at the whole.
    fn end(self) -> Result<Summary, Breach> {
        self.residences.ended()?;
        let reserved = self.offsets.reserved();
        Law::L9.check(reserved == 0, || {
            format!("{reserved} offsets are still reserved after a drain with nothing to do")
        })?;
        let (lost, told) = (self.residences.lost(), self.lost_reported);
        Law::L1.check(lost <= told, || {
            format!("{lost} records were deleted before their time, and {told} were counted")
        })?;
        let after_success = self.residences.posts_after_success();
        let calm = self.plan.is_calm();
        Law::L3.check(after_success == 0 || !calm, || {
            format!("{after_success} POSTs after a success though nothing went wrong")
        })?;
        let ended = ["delivered", "dead_lettered", "skipped"];
        let ended: u64 = ended.iter().filter_map(|what| self.seen.get(what)).sum();
        Law::L1.check(ended == self.plan.records || !calm, || {
            format!("{ended} records ended of {} published", self.plan.records)
        })?;
        Ok(Summary {
            steps: self.steps,
            records: self.residences.budgets(),
            posts: self.residences.posts(),
            posts_after_success: after_success,
            dead_letters: self.residences.dead_letters(),
            virtual_s: self.now_us / SECOND,
            seen: self.seen,
        })
    }
}
