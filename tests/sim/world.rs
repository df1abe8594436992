//! The world around the engines: virtual time, one queue of what happens, and
//! the laws asked at each step. What Kafka does is in `kafka`, what the group
//! does in `group`.

use crate::broker::{Broker, TransactionId};
use crate::chance::Chance;
use crate::laws::desk::Desk;
use crate::laws::offsets::{Offsets, Writer};
use crate::laws::residences::Residences;
use crate::laws::{Breach, Law, Verdict};
use crate::plan::{Fault, MS, Plan, Rates, SECOND, TenantPlan, tenants_file};
use crate::planted::{Clumsy, Planted};
use crate::replica::{Member, Replica, Request, Tag};
use crate::trace::{self, Trace};
use ringback::engine::Engine;
use ringback::engine::event::{Action, Event};
use ringback::model::attempt::Ended;
use ringback::model::position::{Generation, Partition, Position};
use ringback::model::time::UnixMillis;
use ringback::model::write::AttemptOrder;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// The moment at which every run begins, by the broker's clock.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// More events than any run has: something goes round and round.
const STEPS_MAX: u64 = 1_000_000;

/// The longest sleep of a runner.
const SLEEP_MAX_MS: u64 = 1 << 32;

/// Something that will happen.
pub enum Happening {
    Publish(u64),
    Fault(Fault),
    Check,
    Bounds,
    Up(usize),
    Join(Tag),
    SessionTimeout {
        replica: usize,
        fence: u32,
    },
    RevokeCallback(Tag, Vec<Partition>),
    LostCallback(Tag),
    Distribute,
    /// To the engine, whatever became of its consumer.
    Tell(Tag, Event),
    /// From the consumer to the engine.
    TellConsumer(Tag, Event),
    Wake(Tag, u64),
    Find(Tag, Partition, Generation),
    Fetch(Tag, Partition, Generation),
    Landing {
        tag: Tag,
        fence: Option<u32>,
        request: Arc<Request>,
        answer: bool,
    },
    TransactionBegins(Tag, Arc<Request>),
    TransactionEnds(Tag, Arc<Request>, TransactionId),
    TransactionTimesOut(TransactionId),
    Start(Tag, Box<AttemptOrder>),
    Answered(Tag, Position, Ended),
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
    Settling { deadline_us: u64 },
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

/// One run.
pub struct World {
    pub plan: Plan,
    pub rates: Rates,
    pub chance: Chance,
    pub now_us: u64,
    pub broker: Broker,
    pub replicas: Vec<Replica>,
    pub owners: BTreeMap<Partition, Option<usize>>,
    pub residences: Residences,
    pub offsets: Offsets,
    pub tenants: Vec<TenantPlan>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    steps: u64,
    phase: Phase,
    trace: Trace,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, planted: Option<Planted>, trace: Trace) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::new(&mut chance);
        let mut broker = Broker::new(plan.partitions.iter().copied());
        broker.topic_ids = plan.topic_ids;
        broker.delayed_bytes_max = plan.delayed_bytes_max;
        let replica = |number: usize| {
            let desk = Desk::new(&plan.settings);
            Replica::new(number, plan.skews_ms[number], desk, Clumsy::new(planted))
        };
        Self {
            rates: plan.rates,
            now_us: 0,
            owners: broker.consumed().into_iter().map(|p| (p, None)).collect(),
            broker,
            replicas: (0..plan.replicas).map(replica).collect(),
            residences: Residences::default(),
            offsets: Offsets::default(),
            tenants: plan.tenants.clone(),
            queue: BinaryHeap::new(),
            scheduled: 0,
            steps: 0,
            phase: Phase::Faulty,
            seen: BTreeMap::new(),
            trace,
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

    /// The broker's clock.
    pub fn broker_now(&self) -> UnixMillis {
        UnixMillis(EPOCH_MS + (self.now_us / MS) as i64)
    }

    /// A replica's clock.
    pub fn now_of(&self, replica: usize) -> UnixMillis {
        UnixMillis(self.broker_now().0 + self.replicas[replica].skew_ms)
    }

    /// Whether the run is past its faults and about to end.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    fn begin(&mut self) {
        for number in 0..self.plan.records {
            let at = self.chance.below(self.plan.publish_us);
            self.at(at, Happening::Publish(number));
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
        match happening {
            Happening::Publish(number) => self.publish(number),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Check => return self.check(),
            Happening::Bounds => return self.tell_bounds(),
            Happening::Up(replica) => self.up(replica),
            Happening::Join(tag) => return self.join(tag),
            Happening::SessionTimeout { replica, fence } => self.session_timeout(replica, fence),
            Happening::RevokeCallback(tag, partitions) => self.revoke_callback(tag, &partitions),
            Happening::LostCallback(tag) => self.lost_callback(tag),
            Happening::Distribute => self.distribute(),
            Happening::Tell(tag, event) => {
                if self.replicas[tag.replica].lives(tag) {
                    return self.tell(tag.replica, event);
                }
            }
            Happening::TellConsumer(tag, event) => {
                if self.replicas[tag.replica].is_current(tag) {
                    self.replicas[tag.replica].told.push_back(event.clone());
                    return self.tell(tag.replica, event);
                }
            }
            Happening::Wake(tag, at) => {
                let replica = &mut self.replicas[tag.replica];
                if replica.lives(tag) && replica.wake_us == Some(at) {
                    replica.wake_us = None;
                    return self.tell(tag.replica, Event::Wake);
                }
            }
            Happening::Find(tag, partition, generation) => self.find(tag, partition, generation),
            Happening::Fetch(tag, partition, generation) => {
                return self.fetch(tag, partition, generation);
            }
            Happening::Landing {
                tag,
                fence,
                request,
                answer,
            } => {
                return self.landing(tag, fence, &request, answer);
            }
            Happening::TransactionBegins(tag, request) => self.transaction_begins(tag, request),
            Happening::TransactionEnds(tag, request, id) => {
                return self.transaction_ends(tag, &request, id);
            }
            Happening::TransactionTimesOut(id) => return self.transaction_times_out(id),
            Happening::Start(tag, order) => return self.start(tag, &order),
            Happening::Answered(tag, position, ended) => self.answered(tag, position, ended),
        }
        Ok(())
    }

    /// What a stopped process would do waits until it goes on.
    fn unless_paused(&mut self, happening: Happening) -> Option<Happening> {
        let tag = match &happening {
            Happening::Join(tag)
            | Happening::RevokeCallback(tag, _)
            | Happening::LostCallback(tag)
            | Happening::Tell(tag, _)
            | Happening::TellConsumer(tag, _)
            | Happening::Wake(tag, _)
            | Happening::Find(tag, ..)
            | Happening::Fetch(tag, ..)
            | Happening::TransactionBegins(tag, _)
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

    /// Tells a running engine something and does what it asks for.
    pub fn tell(&mut self, replica: usize, event: Event) -> Verdict {
        self.steps += 1;
        Law::L7.check(self.steps < STEPS_MAX, || {
            format!("{STEPS_MAX} events at {} s", self.now_us / SECOND)
        })?;
        let now = self.now_of(replica);
        let this = &mut self.replicas[replica];
        let event = this.clumsy.twist_event(event);
        self.trace.note(self.steps, self.now_us, replica, &event);
        this.desk.told(now, &event);
        this.desk.deadlines(now)?;
        self.acknowledge(replica, &event);
        self.see_tenants(replica, &event);
        let engine = self.replicas[replica].engine.as_mut();
        engine
            .expect("only running engines are told")
            .handle(now, event);
        self.perform_all(replica)?;
        self.plan_wake(replica)
    }

    fn perform_all(&mut self, replica: usize) -> Verdict {
        loop {
            let this = &mut self.replicas[replica];
            let Some(action) = this.engine.as_mut().and_then(Engine::next_action) else {
                return Ok(());
            };
            for action in this.clumsy.twist(action) {
                self.trace.note(self.steps, self.now_us, replica, &action);
                self.perform(replica, action)?;
            }
        }
    }

    fn perform(&mut self, replica: usize, action: Action) -> Verdict {
        let now = self.now_of(replica);
        self.replicas[replica].desk.ordered(now, &action)?;
        match action {
            Action::StartFetch {
                partition, from, ..
            } => self.start_fetch(replica, partition, from),
            Action::Fetch {
                partition, records, ..
            } => self.ask(replica, partition, records),
            Action::Commit(order) => {
                let request = self.request(replica, order.write, order.snapshots);
                self.commit(replica, request);
            }
            Action::Move(order) => {
                let mut request = self.request(replica, order.write, order.snapshots);
                request.records = order.records;
                request.generation = order.generation;
                self.transact(replica, request);
            }
            Action::StartAttempt(order) => return self.order_attempt(replica, order),
            Action::FinishRevoke { partitions, .. } => self.finish_revoke(replica, &partitions),
            Action::Readopt { .. } => self.readopt(replica),
            Action::Report(fact) => {
                if let Some(what) = trace::name_of(&fact) {
                    *self.seen.entry(what).or_default() += 1;
                }
            }
            Action::Stop => self.leave(replica),
        }
        Ok(())
    }

    /// The runner's sleep. An engine that asks again and again to be woken at
    /// once would keep a processor busy for nothing.
    fn plan_wake(&mut self, replica: usize) -> Verdict {
        let now = self.now_of(replica);
        let this = &mut self.replicas[replica];
        let Some(wake) = this.engine.as_ref().and_then(Engine::next_wake) else {
            this.wake_us = None;
            return Ok(());
        };
        this.spins = if wake <= now { this.spins + 1 } else { 0 };
        Law::L7.check(this.spins < 1_000, || {
            format!("asks to be woken at {wake}, and it is {now}")
        })?;
        // An engine that is done asks for the end of time.
        let wait_ms = u64::try_from(wake.0 - now.0).unwrap_or(0);
        let wait_ms = wait_ms.clamp(1, SLEEP_MAX_MS);
        let at = (self.now_us / MS + wait_ms) * MS;
        if this.wake_us != Some(at) {
            this.wake_us = Some(at);
            let tag = this.tag;
            self.at(at, Happening::Wake(tag, at));
        }
        Ok(())
    }

    fn request(
        &self,
        replica: usize,
        write: ringback::model::write::WriteId,
        snapshots: Vec<ringback::model::write::Snapshot>,
    ) -> Request {
        let writers = snapshots.iter().map(|s| self.writer(replica, s.partition));
        Request {
            write,
            writers: writers.collect(),
            snapshots,
            requested_at: self.now_of(replica),
            records: Vec::new(),
            generation: Generation(0),
        }
    }

    /// Who writes for this partition now.
    pub fn writer(&self, replica: usize, partition: Partition) -> Writer {
        let this = &self.replicas[replica];
        Writer {
            replica,
            life: this.tag.life,
            generation: this.desk.generation(partition).unwrap_or_default(),
        }
    }

    /// An acknowledged write grants what it reserves.
    fn acknowledge(&mut self, replica: usize, event: &Event) {
        let (write, granted) = match event {
            Event::Committed { write } | Event::Moved { write } => (*write, true),
            Event::CommitRefused { write }
            | Event::MoveRefused { write }
            | Event::MoveTooLarge { write }
            | Event::WriteUnsure { write } => (*write, false),
            _ => return,
        };
        let requests = &mut self.replicas[replica].requests;
        let Some(index) = requests.iter().position(|r| r.write == write) else {
            return;
        };
        let request = requests.remove(index);
        if granted {
            for (snapshot, by) in request.snapshots.iter().zip(&request.writers) {
                self.offsets
                    .acknowledged(snapshot, *by, request.requested_at);
            }
        }
    }

    /// Records may be skipped by who knows no callback of their tenant.
    fn see_tenants(&mut self, replica: usize, event: &Event) {
        match event {
            Event::TenantsReplaced(tenants) => {
                self.replicas[replica].tenants = Arc::clone(tenants);
                let tenants = Arc::clone(tenants);
                self.residences
                    .may_skip(|id| tenants.callback(id).is_none());
            }
            Event::Record { record, .. } => {
                let position = record.position;
                let tenants = &self.replicas[replica].tenants;
                let call = self.residences.get(position).and_then(|r| r.call.as_ref());
                if call.is_some_and(|call| tenants.callback(&call.tenant).is_none()) {
                    self.residences.may_skip_one(position);
                }
            }
            _ => {}
        }
    }

    fn up(&mut self, replica: usize) {
        if self.is_draining() || self.replicas[replica].engine.is_some() {
            return;
        }
        let settings = self.plan.settings.clone();
        let this = &mut self.replicas[replica];
        this.tag.life += 1;
        this.tag.consumer += 1;
        this.desk = Desk::new(&settings);
        this.engine = Some(Engine::new(settings));
        this.generation = 0;
        this.wake_us = None;
        this.down_us = None;
        this.channel_us = 0;
        this.member = Member::Joining;
        this.requests.clear();
        this.told.clear();
        let tag = this.tag;
        let file = Arc::new(tenants_file(&self.tenants));
        self.after(0, Happening::Tell(tag, Event::TenantsReplaced(file)));
        let late = self.chance.between(10 * MS, 600 * MS);
        self.after(late, Happening::Join(tag));
    }

    fn check(&mut self) -> Verdict {
        for replica in 0..self.replicas.len() {
            let this = &self.replicas[replica];
            if this.paused_until > self.now_us {
                continue;
            }
            let Some(engine) = &this.engine else {
                continue;
            };
            let now = self.now_of(replica);
            this.desk.deadlines(now)?;
            let (shown, true_one) = (engine.overview(now).in_flight, this.desk.in_flight());
            Law::L5.check(shown == true_one, || {
                format!("the overview shows {shown} attempts in flight: {true_one} are")
            })?;
        }
        match self.phase {
            Phase::Faulty if self.now_us >= self.plan.faults_end_us => {
                self.rates = Rates::CALM;
                let patience = self.plan.patience().as_micros() as u64 + 60 * SECOND;
                let deadline_us = self.now_us + patience;
                self.phase = Phase::Settling { deadline_us };
            }
            Phase::Settling { deadline_us } => self.settle(deadline_us)?,
            Phase::Faulty | Phase::Draining => {}
        }
        self.after(SECOND, Happening::Check);
        Ok(())
    }

    fn settle(&mut self, deadline_us: u64) -> Verdict {
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
        for (published, times) in self.residences.dead_letters() {
            Law::L3.check(*times == 1, || {
                format!("{published:?} became {times} dead letters")
            })?;
        }
        let reserved = self.offsets.reserved();
        Law::L9.check(reserved == 0, || {
            format!("{reserved} offsets are still reserved after a drain with nothing to do")
        })?;
        let after_success = self.residences.posts_after_success();
        Law::L3.check(after_success == 0 || !self.plan.is_calm(), || {
            format!("{after_success} POSTs after a success though nothing went wrong")
        })?;
        let ended = ["delivered", "dead_lettered", "skipped"];
        let ended: u64 = ended.iter().filter_map(|what| self.seen.get(what)).sum();
        Law::L1.check(ended == self.plan.records || !self.plan.is_calm(), || {
            format!("{ended} records ended of {} published", self.plan.records)
        })?;
        Ok(Summary {
            steps: self.steps,
            records: self.plan.records,
            posts: self
                .residences
                .posts()
                .values()
                .map(|n| u64::from(*n))
                .sum(),
            posts_after_success: after_success,
            dead_letters: self.residences.dead_letters().len() as u64,
            virtual_s: self.now_us / SECOND,
            seen: self.seen,
        })
    }
}
