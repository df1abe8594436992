//! Actions of operators and other programs, and damage to topics and committed
//! offsets. Notes for the checkers what they must expect.

use crate::broker::Origin;
use crate::chance::Chance;
use crate::laws::map;
use crate::laws::residences::Gone;
use crate::plan::{Damage, Fault, MS, SECOND, Task};
use crate::refusing::refusals;
use crate::sim_event::SimEvent;
use crate::world::World;
use ringback::engine::event::Event;
use ringback::model::message::{CommittedState, KafkaEvent, Snapshot};
use ringback::model::position::{NextOffset, Partition, Topic};

/// A distance beyond a log's end that its growth never reaches.
const FAR: i64 = 1_000_000;

/// Long enough for the engine to be certain that expired offsets mean an empty
/// group; shorter than Kafka's minimum of a day.
const EMPTY_US: u64 = 2 * 3_600 * SECOND;

/// Returns refusals, and changes of Kafka's files. They have a chance of their own, so
/// that the rest of each seed's plan stays the same.
pub fn more_faults(chance: &Chance, replicas: usize, end_us: u64) -> Vec<(u64, Fault)> {
    let mut faults = refusals(&mut chance.clone(), end_us);
    faults.extend(new_settings(&mut chance.clone(), replicas, end_us));
    faults
}

/// Returns changes of Kafka's files: up to four in a third of all runs.
fn new_settings(chance: &mut Chance, replicas: usize, end_us: u64) -> Vec<(u64, Fault)> {
    let times = match chance.permille(333) {
        true => chance.between(1, 5),
        false => 0,
    };
    let mut change = || {
        let replica = chance.index(replicas);
        (chance.below(end_us), Fault::NewSettings { replica })
    };
    (0..times).map(|_| change()).collect()
}

impl World {
    /// Drains all replicas; the operator acts once the group is empty.
    pub fn maintain(&mut self, task: Task) {
        if self.maintenance.is_some() || self.is_settling() {
            return;
        }
        self.maintenance = Some(task);
        self.after(0, SimEvent::Maintain);
    }

    /// Waits for an empty group, performs the task, and schedules the restart.
    pub fn maintenance_step(&mut self) {
        let Some(task) = self.maintenance else {
            return;
        };
        let mut running = false;
        for replica in 0..self.replicas.len() {
            let this = &mut self.replicas[replica];
            this.down_us = None;
            running |= this.engine.is_some();
            if this.engine.is_some() && !this.checker.is_draining() {
                let tag = this.tag;
                self.after(0, SimEvent::PassEvent(tag, Event::Drain));
            }
        }
        let idle = !running && self.coordinator.is_empty() && self.broker.has_no_open_transaction();
        if !idle {
            return self.after(500 * MS, SimEvent::Maintain);
        }
        self.act(task);
        let late = match task {
            // Kafka drops the offsets of a group that was empty for long.
            Task::Expire => EMPTY_US,
            _ => self.chance.between(2 * SECOND, 5 * SECOND),
        };
        self.after(late, SimEvent::MaintenanceEnds);
    }

    /// Starts the replicas again.
    pub fn maintenance_ends(&mut self) {
        self.maintenance = None;
        for replica in 0..self.plan.replicas {
            let late = self.chance.below(SECOND);
            self.after(late, SimEvent::StartProcess(replica));
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

    /// Returns a random consumed partition.
    fn some_partition(&mut self, of_delay: bool) -> Option<Partition> {
        let mut all = self.broker.consumed();
        all.retain(|p| !of_delay || p.topic != Topic::Source);
        (!all.is_empty()).then(|| all[self.chance.index(all.len())])
    }

    /// Returns a random offset of a log, its ends more often than others.
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

    /// Damages a committed map; the engine must not accept it.
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
                // After the topic was recreated the map may lie beyond the log.
                map.end = NextOffset(bounds.end.0.max(map.end.0) + FAR);
                (base, map::encode(&map, topic_id.as_ref()))
            }
            Damage::BaseBeyondEnd => {
                let late = self.chance.between(5 * SECOND, 60 * SECOND);
                self.after(late, SimEvent::Fault(Fault::Maintain(Task::ResetBeyondEnd)));
                (NextOffset(bounds.end.0 + FAR), text)
            }
        };
        self.count(damage.name());
        self.broker.overwrite(partition, base, text);
    }

    /// Notes the committed state that a new process reads. If the map is lost,
    /// source records get new budgets, and copies in a delay topic may be too
    /// old.
    pub fn found(&mut self, partition: Partition, found: &CommittedState) {
        let origin = self.broker.origin(partition);
        let is_delay = partition.topic != Topic::Source;
        let base = found.committed.as_ref().map(|(base, _)| *base);
        match (origin, base) {
            (Some(Origin::Service), _) => {}
            // An offset of an earlier topic of this name counts for nothing.
            (Some(Origin::FormerTopic), _) | (None, _) => {
                let had_commit = self.offsets.has_commit(partition);
                if origin.is_none() && !had_commit {
                    // Records deleted before the first commit do not count as
                    // lost.
                    let start = found.log_start;
                    self.residences
                        .gone_before(partition, start, Gone::PassedOver);
                }
                if is_delay || had_commit {
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

    /// Recreates a topic, with the service running or stopped.
    pub fn make_again(&mut self) {
        // Without topic ids the new topic looks like the old one.
        if !self.plan.topic_ids {
            return;
        }
        if !self.broker.has_no_open_transaction() {
            let again = SimEvent::Fault(Fault::MakeAgain);
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
                let late = self.chance.between(MS, 3 * SECOND);
                let event = KafkaEvent::TopicRecreated { topic };
                self.after(late, SimEvent::PassConsumerEvent(tag, event));
            }
        }
    }

    /// Adds a partition to a topic; the group notices later.
    pub fn grow(&mut self) {
        let Some(Partition { topic, .. }) = self.some_partition(false) else {
            return;
        };
        if self.broker.partitions(topic).len() < 5 {
            self.count("topic_grew");
            self.broker.grow(topic);
            let late = self.chance.below(5 * SECOND);
            self.after(late, SimEvent::Fault(Fault::Rebalance));
        }
    }

    /// Deletes the beginning of a log, as retention or an operator does.
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
