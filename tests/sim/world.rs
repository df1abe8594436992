//! The world around the engines: virtual time, one queue of events, and the
//! course of a run. `turns` drives the engines, `kafka` and `writes` simulate
//! Kafka, `members` the group, the other files the rest.

use crate::broker::Broker;
use crate::chance::Chance;
use crate::coordinator::Coordinator;
use crate::laws::engine_checker::EngineChecker;
use crate::laws::offsets::Offsets;
use crate::laws::residences::Residences;
use crate::laws::{Breach, Law, Verdict};
use crate::plan::{Fault, MS, Plan, Rates, SECOND, Task, TenantPlan};
use crate::planted::{Planted, Tamperer};
use crate::reach::Away;
use crate::refusing::Refusing;
use crate::replica::Replica;
use crate::sim_event::{Scheduled, SimEvent};
use crate::trace::Trace;
use bytes::Bytes;
use ringback::engine::event::Event;
use ringback::model::message::KafkaEvent;
use ringback::model::position::{Partition, Topic};
use ringback::model::time::UnixMillis;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The start of every run, by the broker's clock.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The interval of the checks after the last fault.
const SETTLING_CHECK_US: u64 = 10 * SECOND;

/// By then every request that waited for the brokers was repeated.
const SETTLING_MIN_US: u64 = 200 * SECOND;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RunPhase {
    Faulty,
    Settling { since_us: u64, deadline_us: u64 },
    Draining,
}

/// The totals of a run without a breach.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub steps: u64,
    pub records: u64,
    pub posts: u64,
    pub posts_after_success: u64,
    pub dead_letters: u64,
    pub virtual_s: u64,
    /// The longest time from a publication to a 2xx.
    pub slowest_us: u64,
    /// How often each counted event occurred.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Summary {
    /// Adds the totals of another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.records += other.records;
        self.posts += other.posts;
        self.posts_after_success += other.posts_after_success;
        self.dead_letters += other.dead_letters;
        self.virtual_s += other.virtual_s;
        self.slowest_us = self.slowest_us.max(other.slowest_us);
        for (what, times) in &other.seen {
            *self.seen.entry(what).or_default() += times;
        }
    }
}

/// A record as the call platform published it.
pub struct Published {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub at_us: u64,
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
    pub refusing: BTreeMap<Topic, Refusing>,
    /// The longest time from a publication after the warm-up to a 2xx.
    pub slowest_us: u64,
    /// Offsets that the engines reported as lost.
    pub lost_reported: u64,
    pub steps: u64,
    pub trace: Trace,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    phase: RunPhase,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    /// Returns the world of a plan.
    pub fn new(plan: Plan, chance: Chance, planted: Option<Planted>, trace: Trace) -> Self {
        let mut broker = Broker::new(plan.partitions.iter().copied());
        broker.topic_ids = plan.topic_ids;
        broker.delayed_bytes_max = plan.delayed_bytes_max;
        let replica = |(number, skew_ms): (usize, &i64)| {
            let checker = EngineChecker::new(&plan.settings);
            Replica::new(number, *skew_ms, checker, Tamperer::new(planted))
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
            refusing: BTreeMap::new(),
            slowest_us: 0,
            lost_reported: 0,
            steps: 0,
            trace,
            queue: BinaryHeap::new(),
            scheduled: 0,
            phase: RunPhase::Faulty,
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
            self.handle(*next.sim_event)?;
            if self.phase == RunPhase::Draining && self.replicas.iter().all(|r| r.engine.is_none())
            {
                return self.end();
            }
        }
        Err(Law::L7.breach("no event is left"))
    }

    /// Schedules an event this many microseconds from now.
    pub fn after(&mut self, us: u64, sim_event: SimEvent) {
        self.at(self.now_us + us, sim_event);
    }

    /// Schedules an event.
    pub fn at(&mut self, at_us: u64, sim_event: SimEvent) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled {
            at_us: at_us.max(self.now_us),
            number: self.scheduled,
            sim_event: Box::new(sim_event),
        }));
    }

    /// Counts an event.
    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Returns the time of the broker's clock.
    pub fn broker_now(&self) -> UnixMillis {
        UnixMillis(EPOCH_MS + (self.now_us / MS) as i64)
    }

    /// Returns the time of a replica's clock.
    pub fn now_of(&self, replica: usize) -> UnixMillis {
        UnixMillis(self.broker_now().0 + self.replicas[replica].skew_ms)
    }

    /// Returns whether the faults are over.
    pub fn is_settling(&self) -> bool {
        self.phase != RunPhase::Faulty
    }

    /// Returns whether the run is ending.
    pub fn is_draining(&self) -> bool {
        self.phase == RunPhase::Draining
    }

    fn begin(&mut self) {
        for _ in 0..self.plan.records {
            let at = self.chance.below(self.plan.publish_us);
            self.at(at, SimEvent::Publish);
        }
        for (at, fault) in self.plan.faults.clone() {
            self.at(at, SimEvent::Fault(fault));
        }
        for replica in 0..self.plan.replicas {
            let at = if replica == 0 {
                0
            } else {
                self.chance.below(5 * SECOND)
            };
            self.at(at, SimEvent::StartProcess(replica));
        }
        self.after(0, SimEvent::Check);
        self.after(SECOND, SimEvent::Bounds);
    }

    fn handle(&mut self, sim_event: SimEvent) -> Verdict {
        let sim_event = match self.unless_paused(sim_event) {
            Some(sim_event) => sim_event,
            None => return Ok(()),
        };
        if let Some(replica) = sim_event.traced_replica() {
            self.trace
                .note(self.steps, self.now_us, replica, &sim_event);
        }
        match sim_event {
            SimEvent::Publish => self.publish(),
            SimEvent::Fault(fault) => self.fault(fault),
            SimEvent::Maintain => self.maintenance_step(),
            SimEvent::MaintenanceEnds => self.maintenance_ends(),
            SimEvent::Check => return self.check(),
            SimEvent::Bounds => return self.pass_log_bounds(),
            SimEvent::StartProcess(replica) => self.start_if_name_is_free(replica),
            SimEvent::Join(tag) => self.join(tag),
            SimEvent::JoinAnswered(tag, credentials) => self.join_answered(tag, credentials),
            SimEvent::Sync(tag) => self.sync(tag),
            SimEvent::SyncAnswered(tag, partitions) => self.sync_answered(tag, &partitions),
            SimEvent::Heartbeat(tag) => self.heartbeat(tag),
            SimEvent::SessionTimeout(tag, name) => self.session_timeout(tag, name),
            SimEvent::SessionCheck(tag) => self.session_check(tag),
            SimEvent::Lose(tag) => self.lose(tag),
            SimEvent::Initialise(tag) => return self.initialise(tag),
            SimEvent::FindUnassigned(tag) => self.find_unassigned(tag),
            SimEvent::PassEvent(tag, event) => {
                if self.replicas[tag.replica].is_running(tag) {
                    return self.pass_event(tag.replica, event);
                }
            }
            SimEvent::PassConsumerEvent(tag, event) => {
                if self.replicas[tag.replica].is_current(tag) {
                    self.remember_event(tag.replica, &event);
                    return self.pass_event(tag.replica, tag.event(event));
                }
            }
            SimEvent::Turn(tag) => return self.turn(tag),
            SimEvent::Wake(tag, at) => return self.wake(tag, at),
            SimEvent::ReadCommitted(tag, partition, generation) => {
                self.read_committed(tag, partition, generation);
            }
            SimEvent::Fetch(tag, partition, generation) => {
                return self.fetch(tag, partition, generation);
            }
            SimEvent::CommitArrives(commit) => return self.commit_arrives(commit),
            SimEvent::TransactionBegins(tag, request) => self.transaction_begins(tag, request),
            SimEvent::OffsetsAdded(tag, request, id) => {
                return self.offsets_added(tag, request, id);
            }
            SimEvent::TransactionEnds(tag, write, id) => {
                return self.transaction_ends(tag, write, id);
            }
            SimEvent::TransactionTimesOut(id) => return self.transaction_times_out(id),
            SimEvent::StartPost(tag, order) => return self.start(tag, &order),
            SimEvent::Answered(tag, posted, position, ended) => {
                self.answered(tag, posted, position, ended);
            }
        }
        Ok(())
    }

    /// Postpones an event of a paused process until it continues.
    fn unless_paused(&mut self, sim_event: SimEvent) -> Option<SimEvent> {
        let Some(tag) = sim_event.process() else {
            return Some(sim_event);
        };
        let until = self.replicas[tag.replica].paused_until;
        if until <= self.now_us {
            return Some(sim_event);
        }
        self.at(until, sim_event);
        None
    }

    /// Performs a fault, if that is possible now.
    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Crash {
                replica,
                down_us,
                damage,
            } => {
                let assigned = self.replicas[replica].reading.keys();
                let assigned: Vec<Partition> = assigned.copied().collect();
                self.crash(replica, down_us);
                if let (Some(damage), false) = (damage, assigned.is_empty()) {
                    let partition = assigned[self.chance.index(assigned.len())];
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
                if this.engine.is_some() && !this.checker.is_draining() {
                    this.down_us = Some(down_us);
                    let tag = this.tag;
                    self.after(0, SimEvent::PassEvent(tag, Event::Drain));
                }
            }
            Fault::ConsumerFails { replica } => {
                let why = String::new();
                if self.replicas[replica].engine.is_some() {
                    self.pass_consumer_event(replica, KafkaEvent::ConsumerFault { why });
                }
            }
            Fault::Cut { replica, for_us } => self.cut(replica, for_us),
            Fault::Away { way, for_us } => self.brokers_go(way, for_us),
            Fault::Refuse {
                destination,
                reason,
                for_us,
            } => {
                let mut delays = self.plan.settings.delays.clone();
                delays.sort_unstable();
                delays.dedup();
                let delay = delays.get(destination).copied();
                let topic = delay.map_or(Topic::DeadLetter, Topic::Delay);
                self.refuse(topic, reason, for_us);
            }
            Fault::NewSettings { replica } => {
                let this = &self.replicas[replica];
                if this.engine.is_some() {
                    let changed = SimEvent::PassEvent(this.tag, Event::KafkaSettingsChanged);
                    self.count("new_settings");
                    self.after(0, changed);
                }
            }
            Fault::TenantsChange => self.change_tenants(),
            Fault::Grow => self.grow(),
            Fault::DeleteRecords => self.delete_records(),
            Fault::MakeAgain => self.make_again(),
            Fault::Maintain(task) => self.maintain(task),
        }
    }

    fn check(&mut self) -> Verdict {
        self.check_engines()?;
        match self.phase {
            RunPhase::Faulty => {
                let over = self.now_us >= self.plan.faults_end_us;
                if over && self.maintenance.is_none() && !self.must_reset() {
                    self.settle();
                }
            }
            RunPhase::Settling {
                since_us,
                deadline_us,
            } => {
                if self.now_us >= since_us + SETTLING_MIN_US {
                    self.look_for_end(deadline_us)?;
                }
            }
            RunPhase::Draining => {}
        }
        let seldom = matches!(self.phase, RunPhase::Settling { .. });
        let late = if seldom { SETTLING_CHECK_US } else { SECOND };
        self.after(late, SimEvent::Check);
        Ok(())
    }

    /// Starts the operator's reset if an offset lies beyond its log's end;
    /// returns whether one does.
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

    /// Ends the faults: starts all replicas and makes everything reachable.
    fn settle(&mut self) {
        self.rates = Rates::CALM;
        self.away = Away::default();
        let records = self.residences.budgets().max(self.plan.records);
        let patience = self.plan.patience(records);
        let deadline_us = self.now_us + patience.as_micros() as u64 + 60 * SECOND;
        self.phase = RunPhase::Settling {
            since_us: self.now_us,
            deadline_us,
        };
        for replica in 0..self.replicas.len() {
            self.replicas[replica].cut_until = 0;
            if replica < self.plan.replicas {
                self.after(20 * SECOND, SimEvent::StartProcess(replica));
            }
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
        self.phase = RunPhase::Draining;
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].engine.is_some() {
                self.replicas[replica].down_us = None;
                self.pass_event(replica, Event::Drain)?;
            }
        }
        Ok(())
    }

    /// Runs the final checks.
    fn end(self) -> Result<Summary, Breach> {
        self.residences.ended()?;
        let reserved = self.offsets.reserved();
        Law::L9.check(reserved == 0, || {
            format!("{reserved} offsets are still reserved after a drain without work")
        })?;
        let (lost, reported) = (self.residences.lost(), self.lost_reported);
        Law::L1.check(lost <= reported, || {
            format!("{lost} records were deleted before their time, and {reported} were counted")
        })?;
        let after_success = self.residences.posts_after_success();
        let calm = self.plan.is_calm();
        Law::L3.check(after_success == 0 || !calm, || {
            format!("{after_success} POSTs after a success without any fault")
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
            slowest_us: self.slowest_us,
            seen: self.seen,
        })
    }
}
