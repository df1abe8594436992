//! Decisions: takes events and the time, returns actions. Never async, IO,
//! clocks, randomness, logging or locks. Runs on the runner's task.
//!
//! A record's way: `flow` (read, due, tenant, lane) -> `writes` (reservation)
//! -> `answers` (granted) -> attempt -> `ends` (outcome, verdict) -> `writes`
//! (move) -> `answers` (done). `membership` brings and takes partitions;
//! `ledger`, `fairness`, `offsets` and `verdict` hold the state and the arithmetic
//! of these decisions; `overview` is for operators.

mod answers;
mod ends;
pub mod event;
mod fairness;
mod flow;
mod ledger;
mod membership;
pub mod offsets;
mod overview;
mod owned;
mod verdict;
mod writes;

use crate::model::attempt::AttemptResult;
use crate::model::call::RecordId;
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::message::{KafkaEvent, KafkaRequest};
use crate::model::position::{Generation, Partition, Position};
use crate::model::tenant::{TenantId, Tenants};
use crate::model::time::UnixMillis;
use event::{Action, EngineSettings, Event};
use fairness::{Failing, LaneId, Lanes, Round, StartSlots};
use membership::{Drain, Revoking};
use owned::Owned;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use verdict::Schedule;
use writes::Writes;

/// The state machine.
pub struct Engine {
    settings: EngineSettings,
    schedule: Schedule,
    tenants: Arc<Tenants>,
    /// The time of the last event.
    now: UnixMillis,
    actions: VecDeque<Action>,
    /// Whether events were handled since the last look at what can be done.
    unsettled: bool,
    partitions: BTreeMap<Partition, Owned>,
    /// Where the next round over the partitions begins, so that none is always first.
    first: usize,
    lanes: Lanes,
    attempts: HashMap<Position, Running>,
    start_slots: StartSlots,
    failing: Failing,
    /// How attempts ended whose reservation outlived our hold on their record:
    /// met again by the record itself, when it is read again.
    known: HashMap<Position, Known>,
    writes: Writes,
    generation: Generation,
    revoking: Vec<Revoking>,
    readopting: bool,
    drain: Option<Drain>,
    last_progress: UnixMillis,
}

/// How an attempt ended of which Kafka may still say that it is reserved.
struct Known {
    /// Of which record: another one may have taken its place since, in a topic
    /// that was made again.
    record: RecordId,
    ended: AttemptResult,
    /// Whether its delivery was reported already.
    disposed: bool,
    at: UnixMillis,
}

/// An attempt under way.
struct Running {
    lane: LaneId,
    /// The record's, by which its slots are counted.
    bytes: usize,
    round: Round,
    tenant: TenantId,
    record: RecordId,
    attempt: u8,
    published_at: UnixMillis,
    first: bool,
    holds_start_slot: bool,
}

impl Engine {
    /// An engine that owns nothing yet.
    ///
    /// Panics: where the settings have no delay or no attempt.
    #[must_use]
    pub fn new(settings: EngineSettings) -> Self {
        let schedule = Schedule::new(settings.attempts, settings.delays.clone());
        Self {
            lanes: Lanes::new(settings.in_flight_max, schedule.shortest().duration()),
            schedule,
            writes: Writes::default(),
            settings,
            tenants: Arc::default(),
            now: UnixMillis(0),
            actions: VecDeque::new(),
            unsettled: false,
            partitions: BTreeMap::new(),
            first: 0,
            attempts: HashMap::new(),
            start_slots: StartSlots::default(),
            failing: Failing::default(),
            known: HashMap::new(),
            generation: Generation(0),
            revoking: Vec::new(),
            readopting: false,
            drain: None,
            last_progress: UnixMillis(0),
        }
    }

    /// Takes an event. Never blocks, never fails.
    ///
    /// Panics: where `now` goes back.
    pub fn handle(&mut self, now: UnixMillis, event: Event) {
        assert!(
            now >= self.now,
            "time goes forward: {now} after {}",
            self.now
        );
        self.now = now;
        self.unsettled = true;
        match event {
            Event::Kafka { event, .. } => self.on_kafka(event),
            Event::AttemptFinished { position, ended } => self.on_attempt_finished(position, ended),
            Event::AttemptExpired { position } => self.on_attempt_expired(position),
            Event::TenantsReplaced(tenants) => self.on_tenants_replaced(tenants),
            Event::Wake { worked } => self.start_slots.set_worked(worked),
            Event::Drain => self.on_drain(),
        }
    }

    fn on_kafka(&mut self, event: KafkaEvent) {
        match event {
            KafkaEvent::Assigned {
                generation,
                partitions,
            } => self.on_assigned(generation, partitions),
            KafkaEvent::CommittedState {
                generation,
                partition,
                found,
            } => self.on_found(generation, partition, found),
            KafkaEvent::Revoked {
                generation,
                partitions,
                how,
            } => self.on_revoked(generation, partitions, how),
            KafkaEvent::Records(records) => {
                for (generation, record) in records {
                    self.on_record(generation, record);
                }
            }
            KafkaEvent::ReachedEnd {
                generation,
                partition,
                next,
            } => self.on_reached_end(generation, partition, next),
            KafkaEvent::OutOfRange {
                generation,
                partition,
            } => self.on_out_of_range(generation, partition),
            KafkaEvent::LogBounds(bounds) => self.on_log_bounds(&bounds),
            KafkaEvent::Committed { write, took } => self.on_committed(write, took),
            KafkaEvent::CommitRefused { write, .. } => self.on_commit_refused(write),
            KafkaEvent::Moved { write, took } => self.on_moved(write, took),
            KafkaEvent::MoveRefused { write, .. } => self.on_move_refused(write),
            KafkaEvent::MoveTooLarge { write, .. } => self.on_move_too_large(write),
            KafkaEvent::CommitUnsure { write, .. } | KafkaEvent::MoveUnsure { write, .. } => {
                self.on_write_unsure(write);
            }
            KafkaEvent::TopicRecreated { .. } => {
                self.on_kafka_fault(ReadoptReason::TopicRecreated);
            }
            KafkaEvent::ConsumerFault { .. } => self.on_kafka_fault(ReadoptReason::ConsumerFault),
            KafkaEvent::ConsumerFenced
            | KafkaEvent::ProducerFenced
            | KafkaEvent::BrokerFault
            | KafkaEvent::Waiting { .. }
            | KafkaEvent::TopicsAccepted
            | KafkaEvent::Subscribed
            | KafkaEvent::Unassigned(_)
            | KafkaEvent::WrongSettings { .. }
            | KafkaEvent::Left
            | KafkaEvent::SessionEnded => {}
        }
    }

    /// The next thing to do, if there is one.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && self.unsettled {
            self.unsettled = false;
            self.settle();
        }
        self.actions.pop_front()
    }

    /// Once all events of a turn are in: everything that can go on, does.
    fn settle(&mut self) {
        self.age_attempts();
        self.lanes.end_pauses(self.now);
        self.dispatch_all();
        self.ask_for_records();
        self.plan_writes();
        self.finish_revocations();
        self.finish_drain();
    }

    /// When to call `handle` with [`Event::Wake`] if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<UnixMillis> {
        let running = self
            .partitions
            .values()
            .filter(|owned| owned.phase == owned::Phase::Running);
        let due = running.filter_map(|owned| owned.head_due);
        let revoking = self.revoking.iter().map(|r| r.deadline);
        let drain = self.drain.as_ref().map(Drain::next_step);
        let writes = self.next_write();
        due.chain(revoking.filter(|at| *at > self.now))
            .chain(drain)
            .chain(writes)
            .min()
    }

    fn on_tenants_replaced(&mut self, tenants: Arc<Tenants>) {
        self.lanes
            .set_ceilings(|id| tenants.callback(id).map(|t| t.max_in_flight as usize));
        self.failing.retain(|id| tenants.callback(id).is_some());
        self.tenants = tenants;
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn request(&mut self, request: KafkaRequest) {
        self.act(Action::Kafka(request));
    }

    fn report(&mut self, fact: Fact) {
        self.actions.push_back(Action::Report(fact));
    }
}
