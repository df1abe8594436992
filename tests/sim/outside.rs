//! The world outside the service: the call platform that publishes, the tenants'
//! receivers, the operators who change the tenants file.

use crate::laws::offsets::Start;
use crate::laws::residences::{Posted, number_of};
use crate::laws::{Law, Verdict};
use crate::plan::{SECOND, tenants_file};
use crate::receivers;
use crate::refusing::WARM_UP_US;
use crate::replica::Tag;
use crate::sim_event::SimEvent;
use crate::world::{Published, World};
use bytes::Bytes;
use ringback::engine::event::Event;
use ringback::model::attempt::{AttemptResult, Outcome};
use ringback::model::message::AttemptRequest;
use ringback::model::position::{Position, Topic};
use ringback::model::record::MovedRecord;
use std::sync::Arc;
use std::time::Duration;

/// The length of the kept beginning of a too large dead letter.
const CUT_BYTES: usize = 16 << 10;

impl World {
    /// Checks L3 and L4 when the engine requests an attempt; the POST may start
    /// later.
    pub fn order_attempt(&mut self, replica: usize, order: AttemptRequest) -> Verdict {
        let position = order.position;
        let this = &self.replicas[replica];
        let reading = this.reading.get(&position.partition);
        let incarnation = self.broker.incarnation(position.partition.topic);
        // A record of a topic that was deleted after the read is still sent.
        let former = reading.is_some_and(|r| r.incarnation != Some(incarnation));
        let number = number_of_call(&order)
            .ok_or_else(|| Law::L3.breach(format!("{:?} was never published", order.call)))?;
        let start = Start {
            position,
            attempt: order.attempt,
            attempts_max: self.plan.settings.attempts,
            by: self.writer(replica, position.partition),
            start_by: order.start_by,
            broker_at: self.broker_now(),
            skew_max: Duration::from_millis(this.skew_ms.unsigned_abs()),
        };
        if !former {
            self.offsets.started(&start, &self.residences)?;
            let residence = self.residences.get(position).expect("started found it");
            let same = residence.number == number && residence.call.as_ref() == Some(&order.call);
            Law::L3.check(same, || format!("the attempt is not of {position:?}"))?;
        }
        let tenant = this.tenants.callback(&order.call.tenant);
        let value = self.published.get(number as usize).map(|p| &p.value);
        let same = tenant == Some(&order.tenant) && value == Some(&Some(order.value.clone()));
        Law::L3.check(same, || {
            format!("the attempt from {position:?} is not of that record and tenant")
        })?;
        let tag = self.replicas[replica].tag;
        if self.chance.permille(self.rates.start_late) {
            let late = self.chance.below(3 * SECOND);
            self.after(late, SimEvent::StartPost(tag, Box::new(order)));
            return Ok(());
        }
        self.start(tag, &order)
    }

    /// Starts the POST, unless the lease is over.
    pub fn start(&mut self, tag: Tag, order: &AttemptRequest) -> Verdict {
        if !self.replicas[tag.replica].is_running(tag) {
            return Ok(());
        }
        let position = order.position;
        let now = self.now_of(tag.replica);
        if now > order.start_by {
            self.count("lease_over");
            self.after(
                0,
                SimEvent::PassEvent(tag, Event::AttemptExpired { position }),
            );
            return Ok(());
        }
        let before = self.residences.posts_of(position);
        let number = number_of_call(order).expect("it was ordered");
        let posted = self.residences.posted(position, number, order.attempt)?;
        let name = order.tenant.id.as_str();
        let plan = self.tenants.iter().find(|t| t.name == name);
        let behaviour = plan.expect("a tenant of the file").behaviour;
        let (us, outcome) = receivers::answer(behaviour, before, self.now_us, &mut self.chance);
        let ended = AttemptResult {
            outcome,
            started_at: now,
            duration: Duration::from_micros(us),
        };
        self.after(us, SimEvent::Answered(tag, posted, position, ended));
        Ok(())
    }

    /// Handles the receiver's answer, or the deadline of the attempt.
    pub fn answered(&mut self, tag: Tag, posted: Posted, position: Position, ended: AttemptResult) {
        if matches!(ended.outcome, Outcome::Delivered { .. }) {
            self.residences.delivered(posted);
            let published = self.published.get(posted.number() as usize);
            let published = published.filter(|p| p.at_us >= WARM_UP_US);
            let took_us = published.map_or(0, |p| self.now_us - p.at_us);
            self.slowest_us = self.slowest_us.max(took_us);
        }
        let event = Event::AttemptFinished { position, ended };
        self.after(0, SimEvent::PassEvent(tag, event));
    }

    /// Publishes a record; some records are invalid.
    pub fn publish(&mut self) {
        let number = self.published.len() as u64;
        let tenant = match self.chance.below(30) {
            0 => "unknown".to_owned(),
            _ if self.chance.permille(self.plan.flood_share) => self.tenants[0].name.clone(),
            _ => self.tenants[self.chance.index(self.tenants.len())]
                .name
                .clone(),
        };
        let filler = "x".repeat(match self.chance.below(20) {
            0 => 3_500,
            1 => 5_000,
            _ => 20,
        });
        let value = match self.chance.below(40) {
            0 => None,
            1 => Some("no object".to_owned()),
            2 => Some(format!("{{\"id\":\"r{number}\"}}")),
            _ => Some(format!(
                "{{\"data\":{{\"id\":\"r{number}\",\"tenantId\":\"{tenant}\",\"x\":\"{filler}\"}}}}"
            )),
        };
        let key = format!("k{}-{number}", self.chance.below(50));
        let at = self.broker_now();
        let value = value.map(Bytes::from);
        let record = self.broker.publish(key.as_bytes(), value.clone(), at);
        let key = record.key.clone();
        let at_us = self.now_us;
        self.published.push(Published { key, value, at_us });
        self.residences.published(&record, number);
        self.schedule_fetches(record.position.partition);
    }

    /// Returns whether a moved record has its published key and value, or the
    /// beginning of a value that is too large to keep.
    pub fn is_copy(&self, moved: &MovedRecord) -> bool {
        let number = number_of(moved.key.as_deref());
        let Some(whole) = number.and_then(|number| self.published.get(number as usize)) else {
            return false;
        };
        let cut = match (&whole.value, &moved.value) {
            (Some(whole), Some(cut)) => cut.len() >= CUT_BYTES && whole.starts_with(cut),
            _ => false,
        };
        let same = whole.value == moved.value;
        whole.key == moved.key && (same || (cut && moved.to == Topic::DeadLetter))
    }

    /// Changes the tenants file; every process notices later.
    pub fn change_tenants(&mut self) {
        let index = self.chance.index(self.tenants.len());
        let tenant = &mut self.tenants[index];
        let what = match self.chance.below(4) {
            0 => {
                tenant.enabled = !tenant.enabled;
                "tenant_switched"
            }
            1 => {
                tenant.listed = !tenant.listed;
                "tenant_removed_or_listed"
            }
            _ => {
                tenant.max_in_flight = self.chance.pick(&[1, 2, 32]);
                "tenant_limit_changed"
            }
        };
        self.count(what);
        let file = Arc::new(tenants_file(&self.tenants));
        for replica in 0..self.replicas.len() {
            let tag = self.replicas[replica].tag;
            let late = self.chance.below(2 * SECOND);
            let event = Event::TenantsReplaced(Arc::clone(&file));
            self.after(late, SimEvent::PassEvent(tag, event));
        }
    }
}

fn number_of_call(order: &AttemptRequest) -> Option<u64> {
    order.call.id.as_str().strip_prefix('r')?.parse().ok()
}
