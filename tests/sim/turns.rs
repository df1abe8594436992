//! The turns of each engine's runner: events in, actions out. Also how processes
//! start.

use crate::laws::engine_checker::EngineChecker;
use crate::laws::{Law, Verdict};
use crate::plan::{Behaviour, MS, Plan, SECOND, TenantPlan, WAKE, tenants_file};
use crate::replica::Tag;
use crate::sim_event::SimEvent;
use crate::trace;
use crate::world::World;
use ringback::engine::Engine;
use ringback::engine::event::{Action, Event};
use ringback::model::fact::Fact;
use ringback::model::message::{
    ConsumerRequest, KafkaEvent, KafkaRequest, OpenTransaction, SessionId,
};
use std::sync::Arc;

/// More events than any run needs: the engine is in a loop.
const STEPS_MAX: u64 = 1_000_000;

/// The maximum sleep of a runner.
const SLEEP_MAX_MS: u64 = 1 << 32;

/// The maximum time for which a turn of the runner collects events.
const TURN_US: u64 = 2 * MS;

impl World {
    /// Passes an event to a running engine.
    fn hand_over(&mut self, replica: usize, event: Event) -> Verdict {
        self.steps += 1;
        Law::L7.check(self.steps < STEPS_MAX, || {
            format!("{STEPS_MAX} events at {} s", self.now_us / SECOND)
        })?;
        self.end_turn_before(replica, &event)?;
        let now = self.now_of(replica);
        let this = &mut self.replicas[replica];
        let event = this.tamperer.tamper_with_event(event);
        self.trace.note(self.steps, self.now_us, replica, &event);
        this.checker.note_event(now, &event);
        this.checker.check_deadlines(now)?;
        self.acknowledge(replica, &event);
        self.note_tenants(replica, &event);
        let Some(engine) = self.replicas[replica].engine.as_mut() else {
            return Ok(());
        };
        engine.handle(now, event);
        Ok(())
    }

    /// Passes an event to a running engine. Performs the engine's actions at once
    /// or at the end of the runner's turn.
    pub fn pass_event(&mut self, replica: usize, event: Event) -> Verdict {
        self.hand_over(replica, event)?;
        if self.replicas[replica].engine.is_none() {
            return Ok(());
        }
        if self.chance.permille(self.rates.turn) {
            if !self.replicas[replica].in_turn {
                self.replicas[replica].in_turn = true;
                let tag = self.replicas[replica].tag;
                let late = self.chance.below(TURN_US);
                self.after(late, SimEvent::Turn(tag));
            }
            return Ok(());
        }
        self.perform_all(replica)?;
        self.plan_wake(replica)
    }

    /// Ends the turn before an event that the runner passes only at its beginning.
    fn end_turn_before(&mut self, replica: usize, event: &Event) -> Verdict {
        let turning = matches!(event, Event::TenantsReplaced(_) | Event::Drain);
        match turning && self.replicas[replica].in_turn {
            true => self.perform_all(replica),
            false => Ok(()),
        }
    }

    /// Ends the turn.
    pub fn turn(&mut self, tag: Tag) -> Verdict {
        let this = &self.replicas[tag.replica];
        if !this.is_running(tag) || !this.in_turn {
            return Ok(());
        }
        self.perform_all(tag.replica)?;
        self.plan_wake(tag.replica)
    }

    /// Wakes the runner at the end of its sleep.
    pub fn wake(&mut self, tag: Tag, at: u64) -> Verdict {
        let this = &mut self.replicas[tag.replica];
        if !this.is_running(tag) || this.wake_us != Some(at) {
            return Ok(());
        }
        this.wake_us = None;
        self.pass_event(tag.replica, WAKE)
    }

    fn perform_all(&mut self, replica: usize) -> Verdict {
        self.replicas[replica].in_turn = false;
        loop {
            let this = &mut self.replicas[replica];
            let Some(action) = this.engine.as_mut().and_then(Engine::next_action) else {
                this.checker.end_turn();
                return Ok(());
            };
            for action in this.tamperer.tamper_with_action(action) {
                self.trace.note(self.steps, self.now_us, replica, &action);
                self.perform(replica, action)?;
            }
        }
    }

    fn perform(&mut self, replica: usize, action: Action) -> Verdict {
        let now = self.now_of(replica);
        self.replicas[replica].checker.check_action(now, &action)?;
        match action {
            Action::Kafka(request) => self.perform_request(replica, request),
            Action::StartSession(start) => return self.start_session(replica, &start),
            Action::DropSession => {
                let this = &self.replicas[replica];
                let (tag, reported) = (this.tag, this.reported.clone());
                self.drop_session(replica);
                for event in reported {
                    self.hand_over(replica, tag.event(event))?;
                }
                return self.hand_over(replica, Event::SessionDropped);
            }
            Action::ShowOverview => return self.check_readiness(replica),
            Action::StartAttempt(order) => return self.order_attempt(replica, order),
            Action::Report(fact) => self.note(&fact),
            Action::Exit(end) => self.exit(replica, &end),
        }
        Ok(())
    }

    fn perform_request(&mut self, replica: usize, request: KafkaRequest) {
        match request {
            KafkaRequest::Consumer(ConsumerRequest::StartFetch {
                partition, from, ..
            }) => self.start_fetch(replica, partition, from),
            KafkaRequest::Consumer(ConsumerRequest::Fetch {
                partition, credit, ..
            }) => self.add_credit(replica, partition, credit),
            KafkaRequest::Commit(order) => self.commit(replica, order.write, order.snapshots),
            KafkaRequest::Move(order) => self.transact(replica, order),
            KafkaRequest::Consumer(ConsumerRequest::FinishRevoke { partitions, .. }) => {
                self.finish_revoke(replica, &partitions);
            }
            KafkaRequest::RenewProducer(_) => self.renew_producer(replica),
            KafkaRequest::FindUnassigned => self.find_unassigned_later(replica),
            KafkaRequest::Consumer(ConsumerRequest::Rejoin) => self.rejoin_group(replica),
            KafkaRequest::Consumer(ConsumerRequest::Leave) => self.leave(replica),
        }
    }

    fn note(&mut self, fact: &Fact) {
        if let Fact::RecordsLost { offsets, .. } = fact {
            self.lost_reported += offsets;
        }
        if let Some(what) = trace::name_of(fact) {
            self.count(what);
        }
    }

    /// Checks that a ready service has a Kafka session and does not drain.
    fn check_readiness(&mut self, replica: usize) -> Verdict {
        let now = self.now_of(replica);
        let this = &self.replicas[replica];
        let engine = this.engine.as_ref().expect("it has just decided");
        let Some(fault) = engine.overview(now).readiness else {
            let delivers = this.tag.session != SessionId(0) && !this.checker.is_draining();
            return Law::L9.check(delivers, || {
                "ready in a drain or without session".to_owned()
            });
        };
        if fault.contains("earlier Kafka sessions") {
            self.count("session_waits");
        }
        Ok(())
    }

    /// Plans the end of the runner's sleep. An engine that asks again and again
    /// for an immediate wake-up would keep a processor busy for nothing.
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
        // A stopped engine returns the largest time.
        let wait_ms = u64::try_from(wake.0 - now.0).unwrap_or(0);
        let wait_ms = wait_ms.clamp(1, SLEEP_MAX_MS);
        let at = (self.now_us / MS + wait_ms) * MS;
        if this.wake_us != Some(at) {
            this.wake_us = Some(at);
            let tag = this.tag;
            self.at(at, SimEvent::Wake(tag, at));
        }
        Ok(())
    }

    /// Notes which records may be skipped: the process has no callback for their
    /// tenant.
    fn note_tenants(&mut self, replica: usize, event: &Event) {
        match event {
            Event::TenantsReplaced(tenants) => {
                self.replicas[replica].tenants = Arc::clone(tenants);
                let tenants = Arc::clone(tenants);
                self.residences
                    .may_skip(|id| tenants.callback(id).is_none());
            }
            Event::Kafka {
                event: KafkaEvent::Records(records),
                ..
            } => {
                let tenants = &self.replicas[replica].tenants;
                for (_, record) in records {
                    let position = record.position;
                    let call = self.residences.get(position).and_then(|r| r.call.as_ref());
                    if call.is_some_and(|call| tenants.callback(&call.tenant).is_none()) {
                        self.residences.may_skip_one(position);
                    }
                }
            }
            _ => {}
        }
    }

    /// Starts a process, unless another process with its name runs.
    pub fn start_if_name_is_free(&mut self, replica: usize) {
        let name = self.replicas[replica].name;
        let named = |r: &crate::replica::Replica| r.engine.is_some() && r.name == name;
        let stopped = self.is_draining() || self.maintenance.is_some();
        if !stopped && !self.replicas.iter().any(named) {
            self.start_process(replica);
        }
    }

    /// Stops a process and starts another one with the same name.
    pub fn replace(&mut self, replica: usize, for_us: u64) {
        let spare = self.replicas.len() - 1;
        let this = &self.replicas[replica];
        let free = self.replicas[spare].engine.is_none() && replica != spare;
        if this.engine.is_none() || !free || self.maintenance.is_some() {
            return;
        }
        self.count("replaced");
        self.pause(replica, for_us);
        self.replicas[spare].name = self.replicas[replica].name;
        self.start_process(spare);
    }

    fn start_process(&mut self, replica: usize) {
        let mut settings = self.plan.settings.clone();
        settings.instance = format!("replica-{}", self.replicas[replica].name);
        let this = &mut self.replicas[replica];
        this.tag.process += 1;
        this.drop_consumer();
        this.checker = EngineChecker::new(&settings);
        this.engine = Some(Engine::new(settings));
        this.generation = 0;
        this.wake_us = None;
        this.down_us = None;
        this.requests.clear();
        this.past_events.clear();
        this.open = OpenTransaction::Offsets;
        this.reported.clear();
        this.told_open = (SessionId(0), OpenTransaction::Offsets);
        let tag = this.tag;
        let file = Arc::new(tenants_file(&self.tenants));
        self.after(0, SimEvent::PassEvent(tag, Event::TenantsReplaced(file)));
    }

    /// Checks L5 and the deadlines of L8 and L9 for every engine.
    pub fn check_engines(&mut self) -> Verdict {
        for replica in 0..self.replicas.len() {
            let this = &self.replicas[replica];
            let (false, Some(engine)) = (this.paused_until > self.now_us, &this.engine) else {
                continue;
            };
            let now = self.now_of(replica);
            this.checker.check_deadlines(now)?;
            if bounds_lanes(&self.plan) {
                this.checker.check_listed(now)?;
            }
            let in_flight = this.checker.in_flight() + this.tamperer.swallowed;
            let shown = engine.in_flight();
            // Within a turn some actions are not performed yet.
            Law::L5.check(shown == in_flight || this.in_turn, || {
                format!("the engine counts {shown} attempts in flight, but {in_flight} are")
            })?;
        }
        Ok(())
    }
}

/// Returns whether no record may wait in a lane for long. There are no faults then, and
/// the process has capacity. No tenant delivers slowly, or only now and then.
fn bounds_lanes(plan: &Plan) -> bool {
    let is_bounded = |tenant: &TenantPlan| {
        use Behaviour::{Dead, FailsFirst, Good, Refuses};
        matches!(tenant.behaviour, Good | Dead | Refuses | FailsFirst(_))
    };
    plan.is_calm() && plan.settings.in_flight_max >= 1_024 && plan.tenants.iter().all(is_bounded)
}
