//! What lies outside the service: the platform that publishes, the tenants'
//! receivers, the operators who change the tenants file.

use crate::laws::offsets::Start;
use crate::laws::{Law, Verdict};
use crate::plan::{SECOND, tenants_file};
use crate::receivers;
use crate::replica::Tag;
use crate::world::{Happening, World};
use ringback::engine::event::Event;
use ringback::model::attempt::{Ended, Outcome};
use ringback::model::position::Position;
use ringback::model::write::AttemptOrder;
use std::sync::Arc;
use std::time::Duration;

impl World {
    /// L3 and L4 where the engine decides; the POST itself may start later.
    pub fn order_attempt(&mut self, replica: usize, order: AttemptOrder) -> Verdict {
        let position = order.position;
        let start = Start {
            position,
            attempt: order.attempt,
            attempts_max: self.plan.settings.attempts,
            by: self.writer(replica, position.partition),
            at: self.now_of(replica),
            start_by: order.start_by,
            broker_at: self.broker_now(),
            skew_max: Duration::from_millis(self.replicas[replica].skew_ms.unsigned_abs()),
        };
        self.offsets.started(&start, &self.residences)?;
        let residence = self.residences.get(position).expect("started found it");
        let tenant = self.replicas[replica].tenants.callback(&order.call.tenant);
        let same = residence.call.as_ref() == Some(&order.call)
            && tenant == Some(&order.tenant)
            && self.broker.record(position).and_then(|r| r.value.as_ref()) == Some(&order.value);
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
    pub fn start(&mut self, tag: Tag, order: &AttemptOrder) -> Verdict {
        if !self.replicas[tag.replica].lives(tag) {
            return Ok(());
        }
        let position = order.position;
        let now = self.now_of(tag.replica);
        if now > order.start_by {
            self.after(0, Happening::Tell(tag, Event::AttemptExpired { position }));
            return Ok(());
        }
        let published = self.residences.get(position).map(|r| r.published);
        let before = published.and_then(|p| self.residences.posts().get(&p).copied());
        self.residences.posted(position, order.attempt)?;
        let name = order.tenant.id.as_str();
        let plan = self.tenants.iter().find(|t| t.name == name);
        let manner = plan.expect("a tenant of the file").manner;
        let (us, outcome) =
            receivers::answer(manner, before.unwrap_or(0), self.now_us, &mut self.chance);
        let ended = Ended {
            outcome,
            started_at: now,
            duration: Duration::from_micros(us),
        };
        self.after(us, Happening::Answered(tag, position, ended));
        Ok(())
    }

    /// The receiver has answered, or the deadline has passed.
    pub fn answered(&mut self, tag: Tag, position: Position, ended: Ended) {
        if matches!(ended.outcome, Outcome::Delivered { .. }) {
            self.residences.delivered(position);
        }
        self.after(
            0,
            Happening::Tell(tag, Event::AttemptFinished { position, ended }),
        );
    }

    /// The call platform publishes; some records are nonsense.
    pub fn publish(&mut self, number: u64) {
        let tenant = match self.chance.below(30) {
            0 => "unknown".to_owned(),
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
        let key = format!("k{}", self.chance.below(50));
        let at = self.broker_now();
        let value = value.map(bytes::Bytes::from);
        let record = self.broker.publish(key.as_bytes(), value, Vec::new(), at);
        self.residences.published(&record);
        self.poke(record.position.partition);
    }

    /// The tenants file changes, and every process sees it in its time.
    pub fn change_tenants(&mut self) {
        let index = self.chance.index(self.tenants.len());
        if self.chance.permille(500) {
            self.tenants[index].enabled = !self.tenants[index].enabled;
        } else {
            self.tenants[index].max_in_flight = self.chance.pick(&[1, 2, 32]);
        }
        let file = Arc::new(tenants_file(&self.tenants));
        for replica in 0..self.replicas.len() {
            let tag = self.replicas[replica].tag;
            let late = self.chance.below(2 * SECOND);
            let event = Event::TenantsReplaced(Arc::clone(&file));
            self.after(late, Happening::Tell(tag, event));
        }
    }
}
