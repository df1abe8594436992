//! Reading from Kafka: committed maps, log bounds, and records within the credit
//! of the engine, with latencies and repeated events.

use crate::laws::Verdict;
use crate::plan::{MS, SECOND};
use crate::reach::Way;
use crate::replica::{Reading, Tag};
use crate::sim_event::SimEvent;
use crate::world::World;
use ringback::model::message::{CommittedState, Credit, KafkaEvent};
use ringback::model::position::{Generation, NextOffset, Partition};

/// How many of the consumer's last events may be repeated.
const STALE_MAX: usize = 8;

/// How often a replica gets the bounds of its logs: often, or seldom in runs of
/// many hours.
const BOUNDS_US: [u64; 2] = [3 * SECOND, 60 * SECOND];

impl World {
    /// Reads the committed state of a partition for its new process. An open
    /// transaction hides it.
    pub fn read_committed(&mut self, tag: Tag, partition: Partition, generation: Generation) {
        if !self.reads(tag, partition, generation) {
            return;
        }
        let again = SimEvent::ReadCommitted(tag, partition, generation);
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            return self.retry_at(at, again);
        }
        if self.broker.has_pending_offsets(partition) {
            self.count("waits_for_pending");
            let late = self.chance.between(20 * MS, 50 * MS);
            return self.after(late, again);
        }
        let bounds = self.broker.bounds(partition);
        let found = CommittedState {
            committed: self.broker.committed(partition),
            log_start: bounds.start,
            log_end: bounds.end,
            high_watermark: bounds.high_watermark,
            topic_id: self.broker.topic_id(partition.topic),
        };
        let incarnation = self.broker.incarnation(partition.topic);
        if let Some(reading) = self.reading(tag, partition, generation) {
            reading.incarnation = Some(incarnation);
        }
        self.found(partition, &found);
        let event = KafkaEvent::CommittedState {
            generation,
            partition,
            found,
        };
        self.pass_consumer_event(tag.replica, event);
    }

    /// Queues an event behind the earlier events of the consumer.
    pub fn pass_consumer_event(&mut self, replica: usize, event: KafkaEvent) {
        let late = self.chance.between(20, 3 * MS);
        let this = &mut self.replicas[replica];
        this.channel_us = this.channel_us.max(self.now_us + late);
        let (at, tag) = (this.channel_us, this.tag);
        self.at(at, SimEvent::PassConsumerEvent(tag, event));
    }

    /// Starts to read a partition.
    pub fn start_fetch(&mut self, replica: usize, partition: Partition, from: NextOffset) {
        let bounds = self.broker.bounds(partition);
        let Some(reading) = self.replicas[replica].reading.get_mut(&partition) else {
            return;
        };
        let generation = reading.generation;
        if from < bounds.start || from > bounds.end {
            return self.out_of_range(replica, partition, generation);
        }
        reading.next = Some(from);
        self.schedule_fetches(partition);
    }

    fn out_of_range(&mut self, replica: usize, partition: Partition, generation: Generation) {
        self.count("out_of_range");
        let event = KafkaEvent::OutOfRange {
            generation,
            partition,
        };
        self.pass_consumer_event(replica, event);
    }

    /// Adds credit for records that the engine requests.
    pub fn add_credit(&mut self, replica: usize, partition: Partition, credit: Credit) {
        if let Some(reading) = self.replicas[replica].reading.get_mut(&partition) {
            reading.credit.add(credit);
            self.schedule_fetches(partition);
        }
    }

    /// Schedules fetches for every consumer that waits for records of this
    /// partition.
    pub fn schedule_fetches(&mut self, partition: Partition) {
        for replica in 0..self.replicas.len() {
            let this = &mut self.replicas[replica];
            let tag = this.tag;
            let Some(reading) = this.reading.get_mut(&partition) else {
                continue;
            };
            if reading.next.is_some() && !reading.credit.is_used_up() && !reading.ticking {
                reading.ticking = true;
                let generation = reading.generation;
                let late = self.chance.between(100, 5 * MS);
                self.after(late, SimEvent::Fetch(tag, partition, generation));
            }
        }
    }

    /// Passes some records in order, within the credit.
    pub fn fetch(&mut self, tag: Tag, partition: Partition, generation: Generation) -> Verdict {
        if self.reads(tag, partition, generation)
            && let Some(at) = self.unreachable(tag.replica, Way::Logs)
        {
            self.retry_at(at, SimEvent::Fetch(tag, partition, generation));
            return Ok(());
        }
        let incarnation = self.broker.incarnation(partition.topic);
        if let Some(reading) = self.reading(tag, partition, generation) {
            reading.ticking = false;
            // The broker does not have the topic's old id any more.
            if reading.incarnation != Some(incarnation) {
                return Ok(());
            }
        }
        self.pass_stale_event(tag)?;
        for _ in 0..self.chance.between(1, 20) {
            let Some(reading) = self.reading(tag, partition, generation).copied() else {
                return Ok(());
            };
            let Some(next) = reading.next.filter(|_| !reading.credit.is_used_up()) else {
                return Ok(());
            };
            let bounds = self.broker.bounds(partition);
            let record = self.broker.read(partition, next).cloned();
            let reading = self
                .reading(tag, partition, generation)
                .expect("it was there just now");
            if next < bounds.start {
                reading.next = None;
                self.out_of_range(tag.replica, partition, generation);
                return Ok(());
            }
            let event = match record {
                Some(record) => {
                    reading.next = Some(record.position.offset.next());
                    reading.credit.take(record.size());
                    KafkaEvent::Records(vec![(generation, record)])
                }
                None if reading.reported_end == Some(bounds.end) => return Ok(()),
                None => {
                    reading.next = Some(next.max(bounds.end));
                    reading.reported_end = Some(bounds.end);
                    KafkaEvent::ReachedEnd {
                        generation,
                        partition,
                        next: bounds.end,
                    }
                }
            };
            self.remember_event(tag.replica, &event);
            self.pass_event(tag.replica, tag.event(event))?;
        }
        self.schedule_fetches(partition);
        Ok(())
    }

    /// Remembers an event that may be repeated later.
    pub fn remember_event(&mut self, replica: usize, event: &KafkaEvent) {
        if self.rates.stale_event == 0 {
            return;
        }
        let past = &mut self.replicas[replica].past_events;
        past.push_back(event.clone());
        if past.len() > STALE_MAX {
            past.pop_front();
        }
    }

    /// Repeats an event of an older assignment (L8).
    fn pass_stale_event(&mut self, tag: Tag) -> Verdict {
        if !self.chance.permille(self.rates.stale_event)
            || !self.replicas[tag.replica].is_running(tag)
        {
            return Ok(());
        }
        let this = &self.replicas[tag.replica];
        let is_stale = |event: &&KafkaEvent| {
            let (generation, partition) = match event {
                KafkaEvent::Records(records) => match records.first() {
                    Some((generation, record)) => (generation, record.position.partition),
                    None => return false,
                },
                KafkaEvent::ReachedEnd {
                    generation,
                    partition,
                    ..
                }
                | KafkaEvent::CommittedState {
                    generation,
                    partition,
                    ..
                } => (generation, *partition),
                _ => return false,
            };
            let now = this.reading.get(&partition).map(|r| r.generation);
            now.is_some_and(|now| now != *generation)
        };
        match this.past_events.iter().find(is_stale).cloned() {
            Some(event) => {
                self.count("stale_event");
                self.pass_event(tag.replica, tag.event(event))
            }
            None => Ok(()),
        }
    }

    /// Passes the current log bounds of the partitions to each replica.
    pub fn pass_log_bounds(&mut self) -> Verdict {
        for replica in 0..self.replicas.len() {
            let this = &self.replicas[replica];
            let deaf = this.engine.is_none() || this.paused_until > self.now_us;
            if deaf || self.unreachable(replica, Way::Logs).is_some() {
                continue;
            }
            let partitions = this.reading.keys();
            let bounds = partitions.map(|p| self.broker.bounds(*p)).collect();
            let event = this.tag.event(KafkaEvent::LogBounds(bounds));
            self.pass_event(replica, event)?;
        }
        let often = usize::from(self.is_settling());
        self.after(BOUNDS_US[often], SimEvent::Bounds);
        Ok(())
    }

    fn reading(
        &mut self,
        tag: Tag,
        partition: Partition,
        generation: Generation,
    ) -> Option<&mut Reading> {
        if !self.reads(tag, partition, generation) {
            return None;
        }
        self.replicas[tag.replica].reading.get_mut(&partition)
    }
}
