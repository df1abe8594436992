//! What lies outside the service: the platform that publishes, the tenants'
//! receivers, the operators who change the tenants file.

use crate::laws::offsets::Start;
use crate::laws::residences::{Posted, number_of};
use crate::laws::{Law, Verdict};
use crate::plan::{SECOND, tenants_file};
use crate::receivers;
use crate::replica::Tag;
use crate::world::{Happening, Published, World};
use bytes::Bytes;
use ringback::engine::event::Event;
use ringback::model::attempt::{AttemptResult, Outcome};
use ringback::model::message::AttemptRequest;
use ringback::model::position::{Position, Topic};
use ringback::model::record::MovedRecord;
use std::sync::Arc;
use std::time::Duration;

/// What is kept of a dead letter that is too large.
const CUT_BYTES: usize = 64 << 10;

impl World {
    /// L3 and L4 where the engine decides; the POST itself may start later.
    pub fn order_attempt(&mut self, replica: usize, order: AttemptRequest) -> Verdict {
        let position = order.position;
        let this = &self.replicas[replica];
        let reading = this.reading.get(&position.partition);
        let incarnation = self.broker.incarnation(position.partition.topic);
        // What was read of a topic that was deleted since is sent all the same.
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
            self.after(late, Happening::Start(tag, Box::new(order)));
            return Ok(());
        }
        self.start(tag, &order)
    }

    /// The shell starts the POST, unless the lease is over.
    pub fn start(&mut self, tag: Tag, order: &AttemptRequest) -> Verdict {
        if !self.replicas[tag.replica].lives(tag) {
            return Ok(());
        }
        let position = order.position;
        let now = self.now_of(tag.replica);
        if now > order.start_by {
            self.count("lease_over");
            self.after(0, Happening::Tell(tag, Event::AttemptExpired { position }));
            return Ok(());
        }
        let before = self.residences.posts_of(position);
        let number = number_of_call(order).expect("it was ordered");
        let posted = self.residences.posted(position, number, order.attempt)?;
        let name = order.tenant.id.as_str();
        let plan = self.tenants.iter().find(|t| t.name == name);
        let manner = plan.expect("a tenant of the file").manner;
        let (us, outcome) = receivers::answer(manner, before, self.now_us, &mut self.chance);
        let ended = AttemptResult {
            outcome,
            started_at: now,
            duration: Duration::from_micros(us),
        };
        self.after(us, Happening::Answered(tag, posted, position, ended));
        Ok(())
    }

    /// The receiver has answered, or the deadline has passed.
    pub fn answered(&mut self, tag: Tag, posted: Posted, position: Position, ended: AttemptResult) {
        if matches!(ended.outcome, Outcome::Delivered { .. }) {
            self.residences.delivered(posted);
        }
        let event = Event::AttemptFinished { position, ended };
        self.after(0, Happening::Tell(tag, event));
    }

    /// The call platform publishes; some records are nonsense.
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
        self.published.push(Published { key, value });
        self.residences.published(&record, number);
        self.poke(record.position.partition);
    }

    /// Whether a moved record has the key and the value that it was published
    /// with, or the beginning of a value that is too large to keep.
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

    /// The tenants file changes, and every process sees it in its time.
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
            self.after(late, Happening::Tell(tag, event));
        }
    }
}

fn number_of_call(order: &AttemptRequest) -> Option<u64> {
    order.call.id.as_str().strip_prefix('r')?.parse().ok()
}
