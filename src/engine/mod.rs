//! Decisions: takes events and the time, returns actions. Never async, IO,
//! clocks, randomness, logging or locks. Runs on the runner's thread.
//!
//! The files follow a record: `intake` (read, due, tenant, lane) ->
//! `reservation` -> `attempt` -> `moving` (to a delay topic or the dead letters)
//! -> `snapshot` (commits). `overdue` ends long waits in a lane. `assignment` adopts
//! partitions and `handover` gives them back. `supervisor` starts and drops Kafka
//! sessions and ends the process; `unassigned_look` tells it when to join the group
//! again.
//! `commit_pace` bounds what is uncommitted, `write_set` the size of one write.
//! `destinations` holds back the moves to topics that refuse them. `brokers` tells
//! operators which brokers do not answer, `others` which transactions and members of
//! other programs hold partitions.
//! `partitions` holds the assigned partitions, and knows which have something to do.
//! `partition`, `ledger`, `map` and `verdict` hold the state of one partition and
//! one record. `fairness` holds the state of the tenants. `overview` and `readiness`
//! show the state to operators.

mod assignment;
mod attempt;
mod brokers;
mod commit_pace;
mod destinations;
pub mod event;
mod fairness;
mod handover;
mod inbox;
mod intake;
mod keep;
mod ledger;
pub mod map;
mod moving;
mod others;
mod overdue;
mod overview;
mod partition;
mod partitions;
mod readiness;
mod reservation;
mod snapshot;
mod supervisor;
mod unassigned_look;
mod verdict;
mod write_set;

use crate::model::destination::Refusals;
use crate::model::fact::{Fact, ReadoptReason};
use crate::model::message::{ForeignMember, KafkaEvent, KafkaRequest, SessionId};
use crate::model::position::{Generation, Partition, Position};
use crate::model::schedule::Schedule;
use crate::model::tenant::Tenants;
use crate::model::time::UnixMillis;
use attempt::{RememberedOutcome, Running};
use brokers::SilentBrokers;
use destinations::Destinations;
use event::{Action, EngineSettings, Event};
use fairness::{Failing, Lanes, StartSlots};
use handover::{Drain, Handover};
use partition::PartitionState;
use partitions::Partitions;
use readiness::Readiness;
use snapshot::Writes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use supervisor::{Decision, Supervisor};

/// The state machine of the service.
///
/// The caller passes every event to [`Engine::handle`], each with the time at
/// which it is handled. It then calls [`Engine::next_action`] until it returns
/// `None` and performs each action in that order. Several events may be handled
/// before the actions are taken. Then it calls [`Engine::next_wake`] and sleeps
/// until that time or the next event; a sleep that ends without an event is
/// followed by [`Event::Wake`].
pub struct Engine {
    partitions: Partitions,
    core: Core,
}

/// The engine's state except its partitions, so that a method of `Core` can
/// change the state of one partition that it is passed.
struct Core {
    settings: EngineSettings,
    schedule: Schedule,
    tenants: Arc<Tenants>,
    /// The time of the last event. It never steps, and serves all waits of this
    /// process.
    now: UnixMillis,
    /// The wall clock minus `now`: zero until the wall clock is stepped.
    wall_ahead_ms: i64,
    /// The most of it so far.
    wall_ahead_most_ms: i64,
    actions: VecDeque<Action>,
    /// Events were handled since the decisions last ran.
    dirty: bool,
    /// Where the next round over the partitions starts, so that none is always first.
    round_start: usize,
    lanes: Lanes,
    attempts: HashMap<Position, Running>,
    start_slots: StartSlots,
    failing: Failing,
    /// Outcomes of attempts whose partition was dropped before they were
    /// committed. Each is used when its record is read again.
    remembered: HashMap<Position, RememberedOutcome>,
    writes: Writes,
    /// The bytes of all records that are to be moved.
    moving_bytes: usize,
    destinations: Destinations,
    silent_brokers: SilentBrokers,
    foreign: Vec<ForeignMember>,
    generation: Generation,
    handovers: Vec<Handover>,
    supervisor: Supervisor,
    readiness: Readiness,
    drain: Option<Drain>,
    last_progress: UnixMillis,
}

impl Engine {
    /// An engine without partitions.
    ///
    /// Panics: where the settings have no delay or no attempt.
    #[must_use]
    pub fn new(settings: EngineSettings) -> Self {
        let schedule = Schedule::new(settings.attempts, settings.delays.clone());
        let core = Core {
            lanes: Lanes::new(
                settings.in_flight_max,
                schedule.shortest().duration(),
                schedule.longest().duration(),
            ),
            schedule,
            writes: Writes::default(),
            moving_bytes: 0,
            destinations: Destinations::default(),
            silent_brokers: SilentBrokers::default(),
            foreign: Vec::new(),
            supervisor: Supervisor::new(&settings.instance),
            readiness: Readiness::default(),
            settings,
            tenants: Arc::default(),
            now: UnixMillis(0),
            wall_ahead_ms: 0,
            wall_ahead_most_ms: 0,
            actions: VecDeque::new(),
            dirty: false,
            round_start: 0,
            attempts: HashMap::new(),
            start_slots: StartSlots::default(),
            failing: Failing::default(),
            remembered: HashMap::new(),
            generation: Generation(0),
            handovers: Vec::new(),
            drain: None,
            last_progress: UnixMillis(0),
        };
        Self {
            partitions: Partitions::default(),
            core,
        }
    }

    /// Handles an event. Never blocks, never fails.
    ///
    /// Panics: where `now` is before the time of the last event.
    pub fn handle(&mut self, now: UnixMillis, event: Event) {
        let core = &mut self.core;
        assert!(
            now >= core.now,
            "time goes forward: {now} after {}",
            core.now
        );
        core.now = now;
        core.dirty = true;
        match event {
            Event::Kafka { session, event } => self.on_kafka(session, event),
            Event::AttemptFinished { position, ended } => {
                let (state, core) = self.assigned(position.partition);
                core.on_attempt_finished(state, position, ended);
            }
            Event::AttemptExpired { position } => {
                let (state, core) = self.assigned(position.partition);
                core.on_attempt_expired(state, position);
            }
            Event::TenantsReplaced(tenants) => core.on_tenants_replaced(tenants),
            Event::TopicSettings { losing } => self.on_topic_settings(&losing),
            Event::Wake { worked } => core.start_slots.set_worked(worked),
            Event::ClockStepped { ahead_ms } => {
                core.wall_ahead_ms = ahead_ms;
                core.wall_ahead_most_ms = core.wall_ahead_most_ms.max(ahead_ms);
                // Other records may be due now.
                self.partitions.all_mut().for_each(drop);
            }
            Event::ProcessStopped => core.supervisor.note_broker_fault(now),
            Event::KafkaSettingsChanged => self.on_kafka_settings_changed(),
            Event::SessionDropped => core.supervisor.session_dropped(now),
            Event::Drain => self.on_drain(),
        }
    }

    /// Whether events of this session are handled.
    #[must_use]
    pub fn is_current(&self, session: SessionId) -> bool {
        self.core.supervisor.is_current(session)
    }

    /// Passes an event to the supervisor first. The rest of the engine handles only
    /// events of the current session.
    fn on_kafka(&mut self, session: SessionId, event: KafkaEvent) {
        let core = &mut self.core;
        core.supervisor.handle(core.now, session, &event);
        self.carry_out_decisions();
        if self.core.supervisor.is_current(session) {
            self.on_current_session(event);
        }
    }

    fn on_current_session(&mut self, event: KafkaEvent) {
        self.core.readiness.handle(self.core.now, &event);
        match event {
            KafkaEvent::Assigned {
                generation,
                partitions,
            } => self.on_assigned(generation, partitions),
            KafkaEvent::CommittedState {
                generation,
                partition,
                found,
            } => self.on_committed_state(generation, partition, &found),
            KafkaEvent::Revoked {
                generation,
                partitions,
                how,
            } => self.on_revoked(generation, partitions, how),
            KafkaEvent::Records(records) => self.on_records(records),
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
            KafkaEvent::SilentBrokers(silent) => self.core.on_silent_brokers(silent),
            KafkaEvent::ForeignMembers(members) => self.core.on_foreign_members(members),
            KafkaEvent::Committed { write, took } => self.on_committed(write, took),
            KafkaEvent::CommitRefused { write, .. } => self.on_commit_refused(write),
            KafkaEvent::Moved {
                write,
                took,
                appended,
            } => self.on_moved(write, took, appended),
            KafkaEvent::MoveRefused {
                write,
                destinations,
                ..
            } => self.on_move_refused(write, &destinations),
            KafkaEvent::MoveNotStarted { write, .. } => {
                self.on_move_refused(write, &Refusals::default());
            }
            KafkaEvent::MoveTooLarge { write, .. } => self.on_move_too_large(write),
            KafkaEvent::CommitUnsure { write, .. } | KafkaEvent::MoveUnsure { write, .. } => {
                self.on_write_unsure(write);
            }
            KafkaEvent::TopicRecreated { .. } => {
                self.readopt(ReadoptReason::TopicRecreated);
            }
            KafkaEvent::ConsumerFault { .. } => self.readopt(ReadoptReason::ConsumerFault),
            KafkaEvent::ConsumerFenced
            | KafkaEvent::ProducerFenced
            | KafkaEvent::BrokerFault
            | KafkaEvent::OpenTransaction(_)
            | KafkaEvent::Waiting { .. }
            | KafkaEvent::TopicsAccepted
            | KafkaEvent::Subscribed
            | KafkaEvent::Unassigned(_)
            | KafkaEvent::WrongSettings { .. }
            | KafkaEvent::Left
            | KafkaEvent::SessionEnded => {}
        }
    }

    fn carry_out_decisions(&mut self) {
        while let Some(decision) = self.core.supervisor.next_decision() {
            match decision {
                Decision::Start(start) => self.core.act(Action::StartSession(start)),
                Decision::Request(request) => self.core.request(request),
                Decision::Readopt => self.readopt(ReadoptReason::ConsumerFault),
                Decision::Wait { why } => self.core.readiness.wait(why),
                Decision::End(end) => self.core.act(Action::Exit(end)),
            }
        }
    }

    /// Returns the next action, if there is one.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.core.actions.is_empty() && std::mem::take(&mut self.core.dirty) {
            self.run_decisions();
            let assigned = self.partitions.len();
            if self.core.readiness.changed(self.core.now, assigned) {
                self.core.act(Action::ShowOverview);
            }
        }
        self.core.actions.pop_front()
    }

    /// Decides everything that the events of this turn made possible.
    fn run_decisions(&mut self) {
        self.core.supervisor.wake(self.core.now);
        self.carry_out_decisions();
        if self.core.drain.as_ref().is_some_and(Drain::is_over) {
            return;
        }
        self.partitions.wake(self.core.now);
        self.core.expire_start_slots();
        self.core.lanes.end_pauses(self.core.now);
        self.divert_overdue();
        self.count_moving();
        self.place_records();
        self.request_records();
        self.plan_writes();
        self.finish_handovers();
        self.finish_drain();
        self.partitions.rest();
    }

    /// Returns when to call `handle` with [`Event::Wake`] if no other event comes
    /// before.
    #[must_use]
    pub fn next_wake(&self) -> Option<UnixMillis> {
        let now = self.core.now;
        let due = self.partitions.next_head();
        let handovers = self.core.handovers.iter().map(|handover| handover.deadline);
        let drain = self.core.drain.as_ref().and_then(Drain::next_step);
        let overdue = self.core.lanes.next_watch();
        due.into_iter()
            .chain(overdue.filter(|_| self.core.drain.is_none()))
            .chain(handovers.filter(|at| *at > now))
            .chain(drain)
            .chain(self.next_write())
            .chain(self.core.supervisor.next_wake())
            .min()
    }

    /// Returns the state of the partition that an event names, if it is assigned, and
    /// the rest of the engine's state.
    fn assigned(&mut self, partition: Partition) -> (Option<&mut PartitionState>, &mut Core) {
        (self.partitions.get_mut(partition), &mut self.core)
    }

    /// The same for an event of one assignment (L8), while the partition runs.
    fn running(
        &mut self,
        partition: Partition,
        generation: Generation,
    ) -> Option<(&mut PartitionState, &mut Core)> {
        let (state, core) = self.assigned(partition);
        let state = state.filter(|state| state.generation == generation && state.is_running());
        Some((state?, core))
    }
}

impl Core {
    fn on_tenants_replaced(&mut self, tenants: Arc<Tenants>) {
        self.lanes
            .set_ceilings(|id| tenants.callback(id).map(|t| t.max_in_flight as usize));
        self.failing.retain(|id| tenants.callback(id).is_some());
        self.tenants = tenants;
    }

    /// Returns the wall time. It serves what is compared with times of others: when a
    /// record is due, its age, and the times in its headers.
    fn wall(&self) -> UnixMillis {
        self.wall_at(self.now)
    }

    fn wall_at(&self, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_add(self.wall_ahead_ms))
    }

    /// Whether a record that was due when it was placed was due at this time. A step
    /// back holds the records that wait in their partitions, not those in a lane.
    fn was_due(&self, due: UnixMillis) -> bool {
        due.0 <= self.now.0.saturating_add(self.wall_ahead_most_ms)
    }

    /// Returns the time of this process at which the wall clock shows `wall`.
    fn unstepped(&self, wall: UnixMillis) -> UnixMillis {
        UnixMillis(wall.0.saturating_sub(self.wall_ahead_ms))
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn request(&mut self, request: KafkaRequest) {
        self.act(Action::Kafka(request));
    }

    fn report(&mut self, fact: Fact) {
        self.act(Action::Report(fact));
    }
}

#[cfg(test)]
mod tests;
