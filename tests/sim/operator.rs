//! What operators, other programs and bad luck do to topics and committed
//! offsets, and what the checkers must know of it.

use crate::broker::Origin;
use crate::laws::map;
use crate::laws::residences::Gone;
use crate::plan::{Damage, Fault, MS, SECOND, Task};
use crate::world::{Happening, World};
use ringback::engine::event::Event;
use ringback::model::fact::ReadoptReason;
use ringback::model::message::{CommittedState, Snapshot};
use ringback::model::position::{NextOffset, Partition, Topic};

/// So far beyond a log's end that it does not grow up to there.
const FAR: i64 = 1_000_000;

/// Longer than the engine takes for certain that a group stood empty whose
/// offsets are gone; shorter than Kafka's least, a day.
const EMPTY_US: u64 = 2 * 3_600 * SECOND;

impl World {
    /// All replicas are drained and the group is empty: then the operator acts.
    pub fn maintain(&mut self, task: Task) {
        if self.maintenance.is_some() || self.is_settling() {
            return;
        }
        self.maintenance = Some(task);
        self.after(0, Happening::Maintain);
    }

    /// Waits for the empty group, acts, and starts the replicas again.
    pub fn maintenance_step(&mut self) {
        let Some(task) = self.maintenance else {
            return;
        };
        let mut running = false;
        for replica in 0..self.replicas.len() {
            let this = &mut self.replicas[replica];
            this.down_us = None;
            running |= this.engine.is_some();
            if this.engine.is_some() && !this.desk.is_draining() {
                let tag = this.tag;
                self.after(0, Happening::Tell(tag, Event::Drain));
            }
        }
        let idle = !running && self.coordinator.is_empty() && self.broker.is_quiet();
        if !idle {
            return self.after(500 * MS, Happening::Maintain);
        }
        self.act(task);
        let late = match task {
            // Kafka drops offsets of a group that has long been empty.
            Task::Expire => EMPTY_US,
            _ => self.chance.between(2 * SECOND, 5 * SECOND),
        };
        self.after(late, Happening::MaintenanceEnds);
    }

    /// The replicas start again.
    pub fn maintenance_ends(&mut self) {
        self.maintenance = None;
        for replica in 0..self.plan.replicas {
            let late = self.chance.below(SECOND);
            self.after(late, Happening::Up(replica));
        }
    }

    fn act(&mut self, task: Task) {
        match task {
            Task::ResetSource => {
                self.count("source_reset");
                for partition in self.broker.partitions(Topic::Source) {
                    let to = self.somewhere(partition);
                    self.broker.overwrite(partition, to, String::new());
                }
            }
            Task::ResetDelay => {
                if let Some(partition) = self.some_partition(true) {
                    self.count("delay_topic_reset");
                    let start = self.broker.bounds(partition).start;
                    self.broker.overwrite(partition, start, String::new());
                }
            }
            Task::ResetBeyondEnd => {
                for partition in self.broker.consumed() {
                    let bounds = self.broker.bounds(partition);
                    let base = self.broker.committed(partition).map(|(base, _)| base);
                    if base.is_some_and(|base| base > bounds.end) {
                        self.count("reset_beyond_end");
                        self.broker
                            .overwrite(partition, bounds.start, String::new());
                    }
                }
            }
            Task::Expire => {
                self.count("offsets_expired");
                for partition in self.broker.consumed() {
                    self.broker.forget(partition);
                }
            }
            Task::MakeAgain => self.make_again(),
            Task::Damage(damage) => {
                let partition = self.some_partition(false);
                if let Some(partition) = partition {
                    self.damage(partition, damage);
                }
            }
        }
    }

    /// Some partition that is consumed.
    fn some_partition(&mut self, of_delay: bool) -> Option<Partition> {
        let mut all = self.broker.consumed();
        all.retain(|p| !of_delay || p.topic != Topic::Source);
        (!all.is_empty()).then(|| all[self.chance.index(all.len())])
    }

    /// Some offset of a log, its ends more often than others.
    fn somewhere(&mut self, partition: Partition) -> NextOffset {
        let bounds = self.broker.bounds(partition);
        let length = u64::try_from(bounds.end.0 - bounds.start.0).expect("a log");
        let within = self.chance.below(length + 1);
        NextOffset(match self.chance.below(4) {
            0 | 1 => bounds.start.0,
            2 => bounds.end.0,
            _ => bounds.start.0 + within as i64,
        })
    }

    /// A committed map becomes something that it must not be taken for.
    pub fn damage(&mut self, partition: Partition, damage: Damage) {
        let Some((base, text)) = self.broker.committed(partition) else {
            return;
        };
        let bounds = self.broker.bounds(partition);
        let topic_id = self.broker.topic_id(partition.topic);
        let snapshot = Snapshot {
            partition,
            base,
            metadata: text.clone(),
        };
        let honest = map::decode(&snapshot, None).ok();
        let (base, text) = match damage {
            Damage::Foreign => (base, "host=worker-7;seen=12".to_owned()),
            Damage::Version => (base, text.replacen("rb2.", "rb3.", 1)),
            Damage::Checksum => (base, flip_last(&text)),
            Damage::OtherOffset if base > bounds.start => (NextOffset(base.0 - 1), text),
            Damage::OtherOffset => return,
            Damage::Cut => (base, text[..text.len() / 2].to_owned()),
            Damage::EndBeyond => {
                let Some(mut map) = honest else {
                    return;
                };
                // Of a topic that was made again the map may lie behind the log.
                map.end = NextOffset(bounds.end.0.max(map.end.0) + FAR);
                (base, map::encode(&map, topic_id.as_ref()))
            }
            Damage::BaseBeyondEnd => {
                let late = self.chance.between(5 * SECOND, 60 * SECOND);
                self.after(
                    late,
                    Happening::Fault(Fault::Maintain(Task::ResetBeyondEnd)),
                );
                (NextOffset(bounds.end.0 + FAR), text)
            }
        };
        self.count(damage.name());
        self.broker.overwrite(partition, base, text);
    }

    /// A new owner finds a partition: where its map is lost, the records of
    /// the source have new budgets, and copies in a delay topic may be too old.
    pub fn found(&mut self, partition: Partition, found: &CommittedState) {
        let origin = self.broker.origin(partition);
        let is_delay = partition.topic != Topic::Source;
        let base = found.committed.as_ref().map(|(base, _)| *base);
        match (origin, base) {
            (Some(Origin::Service), _) => {}
            // Of a former topic's offset nothing is to be believed.
            (Some(Origin::FormerTopic), _) | (None, _) => {
                let known = self.offsets.is_known(partition);
                if origin.is_none() && !known {
                    // What was deleted before anybody came is not known to be lost.
                    let start = found.log_start;
                    self.residences
                        .gone_before(partition, start, Gone::PassedOver);
                }
                if is_delay || known {
                    self.residences.replayed(partition, found.log_start);
                    self.offsets.forget(partition);
                }
            }
            (Some(Origin::Other), Some(base)) if base <= found.log_end => {
                self.residences.replayed(partition, base);
                self.offsets.reset(partition, base);
            }
            (Some(Origin::Other), _) => return,
        }
        self.residences
            .gone_before(partition, found.log_start, Gone::Deleted);
    }

    /// A topic is deleted and made again, with the service running or stopped.
    pub fn make_again(&mut self) {
        // Without ids nobody can tell the new topic from the old one.
        if !self.plan.topic_ids {
            return;
        }
        if !self.broker.is_quiet() {
            let again = Happening::Fault(Fault::MakeAgain);
            return self.after(20 * MS, again);
        }
        let Some(Partition { topic, .. }) = self.some_partition(false) else {
            return;
        };
        self.count("topic_made_again");
        for partition in self.broker.make_again(topic) {
            self.residences.deleted(partition);
            self.offsets.forget(partition);
        }
        for replica in 0..self.replicas.len() {
            let this = &self.replicas[replica];
            let tag = this.tag;
            let watches = this.reading.keys().any(|p| p.topic == topic);
            if watches {
                let reason = ReadoptReason::TopicRecreated;
                let late = self.chance.between(MS, 3 * SECOND);
                let event = Event::KafkaFault { reason };
                self.after(late, Happening::TellConsumer(tag, event));
            }
        }
    }

    /// A topic gets one partition more; the group learns of it in its time.
    pub fn grow(&mut self) {
        let Some(Partition { topic, .. }) = self.some_partition(false) else {
            return;
        };
        if self.broker.partitions(topic).len() < 5 {
            self.count("topic_grew");
            self.broker.grow(topic);
            let late = self.chance.below(5 * SECOND);
            self.after(late, Happening::Fault(Fault::Rebalance));
        }
    }

    /// Retention, or an operator, deletes the beginning of a log.
    pub fn delete_records(&mut self) {
        let Some(partition) = self.some_partition(false) else {
            return;
        };
        let start = self.somewhere(partition);
        if start > self.broker.bounds(partition).start {
            self.count("log_start_moved");
            self.broker.delete_before(partition, start);
            self.residences.gone_before(partition, start, Gone::Deleted);
        }
    }
}

fn flip_last(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(last) = text.pop() {
        text.push(if last == 'A' { 'Q' } else { 'A' });
    }
    text
}
