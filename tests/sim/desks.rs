//! At each engine's desk: what it is told and what it asks for, in the turns
//! of its runner, and how processes start.

use crate::laws::desk::Desk;
use crate::laws::{Law, Verdict};
use crate::plan::{MS, SECOND, WAKE, tenants_file};
use crate::replica::Tag;
use crate::trace;
use crate::world::{Happening, World};
use ringback::engine::Engine;
use ringback::engine::event::{Action, Event};
use ringback::model::fact::Fact;
use std::sync::Arc;

/// More events than any run has: something goes round and round.
const STEPS_MAX: u64 = 1_000_000;

/// The longest sleep of a runner.
const SLEEP_MAX_MS: u64 = 1 << 32;

/// The longest that a turn of the runner gathers events.
const TURN_US: u64 = 2 * MS;

impl World {
    /// Tells a running engine something and does what it asks for, at once or
    /// at the end of the runner's turn.
    pub fn tell(&mut self, replica: usize, event: Event) -> Verdict {
        self.steps += 1;
        Law::L7.check(self.steps < STEPS_MAX, || {
            format!("{STEPS_MAX} events at {} s", self.now_us / SECOND)
        })?;
        self.end_turn_before(replica, &event)?;
        let now = self.now_of(replica);
        let this = &mut self.replicas[replica];
        let event = this.clumsy.twist_event(event);
        self.trace.note(self.steps, self.now_us, replica, &event);
        this.desk.told(now, &event);
        this.desk.deadlines(now)?;
        self.acknowledge(replica, &event);
        self.see_tenants(replica, &event);
        let Some(engine) = self.replicas[replica].engine.as_mut() else {
            return Ok(());
        };
        engine.handle(now, event);
        if self.chance.permille(self.rates.turn) {
            if !self.replicas[replica].in_turn {
                self.replicas[replica].in_turn = true;
                let tag = self.replicas[replica].tag;
                let late = self.chance.below(TURN_US);
                self.after(late, Happening::Turn(tag));
            }
            return Ok(());
        }
        self.perform_all(replica)?;
        self.plan_wake(replica)
    }

    /// What the desk would judge by the new state was decided by the old one.
    pub fn end_turn_before(&mut self, replica: usize, event: &Event) -> Verdict {
        let turning = matches!(
            event,
            Event::Assigned { .. }
                | Event::Revoked { .. }
                | Event::TenantsReplaced(_)
                | Event::Drain
        );
        match turning && self.replicas[replica].in_turn {
            true => self.perform_all(replica),
            false => Ok(()),
        }
    }

    /// The turn ends.
    pub fn turn(&mut self, tag: Tag) -> Verdict {
        let this = &self.replicas[tag.replica];
        if !this.lives(tag) || !this.in_turn {
            return Ok(());
        }
        self.perform_all(tag.replica)?;
        self.plan_wake(tag.replica)
    }

    /// The runner has slept long enough.
    pub fn wake(&mut self, tag: Tag, at: u64) -> Verdict {
        let this = &mut self.replicas[tag.replica];
        if !this.lives(tag) || this.wake_us != Some(at) {
            return Ok(());
        }
        this.wake_us = None;
        self.tell(tag.replica, WAKE)
    }

    fn perform_all(&mut self, replica: usize) -> Verdict {
        self.replicas[replica].in_turn = false;
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
            Action::Commit(order) => self.commit(replica, order.write, order.snapshots),
            Action::Move(order) => self.transact(replica, order),
            Action::StartAttempt(order) => return self.order_attempt(replica, order),
            Action::FinishRevoke { partitions, .. } => self.finish_revoke(replica, &partitions),
            Action::Readopt { .. } => self.readopt(replica),
            Action::Report(fact) => self.note(&fact),
            Action::Stop => self.leave(replica),
        }
        Ok(())
    }

    fn note(&mut self, fact: &Fact) {
        if let Fact::RecordsLost { offsets, .. } = fact {
            self.lost_reported += offsets;
        }
        if let Some(what) = trace::name_of(fact) {
            self.count(what);
        }
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

    /// A process starts, unless one of its name runs.
    pub fn up(&mut self, replica: usize) {
        let name = self.replicas[replica].name;
        let named = |r: &crate::replica::Replica| r.engine.is_some() && r.name == name;
        let stopped = self.is_draining() || self.maintenance.is_some();
        if !stopped && !self.replicas.iter().any(named) {
            self.start_process(replica);
        }
    }

    /// A process is stopped, and another one is started under its name.
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
        let settings = self.plan.settings.clone();
        let this = &mut self.replicas[replica];
        this.tag.life += 1;
        this.drop_consumer();
        this.desk = Desk::new(&settings);
        this.engine = Some(Engine::new(settings));
        this.generation = 0;
        this.wake_us = None;
        this.down_us = None;
        this.requests.clear();
        this.told.clear();
        let tag = this.tag;
        let file = Arc::new(tenants_file(&self.tenants));
        self.after(0, Happening::Tell(tag, Event::TenantsReplaced(file)));
        self.connect(replica, 600 * MS);
    }

    /// L5 and the deadlines of L8 and L9, whatever the engines do.
    pub fn look_at_desks(&mut self) -> Verdict {
        for replica in 0..self.replicas.len() {
            let this = &self.replicas[replica];
            let (false, Some(engine)) = (this.paused_until > self.now_us, &this.engine) else {
                continue;
            };
            let now = self.now_of(replica);
            this.desk.deadlines(now)?;
            let true_one = this.desk.in_flight() + this.clumsy.swallowed;
            let shown = engine.overview(now).in_flight;
            // Within a turn not all is performed that was decided.
            Law::L5.check(shown == true_one || this.in_turn, || {
                format!("the overview shows {shown} attempts in flight: {true_one} are")
            })?;
        }
        Ok(())
    }
}
