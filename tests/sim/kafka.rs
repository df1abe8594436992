//! What Kafka and the shell around it do for a replica: reading, commits and
//! transactions, with their latencies and failures.

use crate::broker::{Ending, TransactionId, Written};
use crate::laws::offsets::Writer;
use crate::laws::{Law, Verdict};
use crate::plan::{MS, SECOND};
use crate::replica::{Member, Reading, Request, Tag};
use crate::world::{Happening, World};
use ringback::engine::event::Event;
use ringback::model::position::{Generation, NextOffset, Partition};
use ringback::model::write::{Found, Snapshot};
use std::sync::Arc;

/// `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT_US: u64 = 10 * SECOND;

/// How many of the consumer's last events may come again.
const STALE_MAX: usize = 8;

impl World {
    /// Reads the committed state of a partition for its new owner; what an
    /// open transaction holds cannot be read yet.
    pub fn find(&mut self, tag: Tag, partition: Partition, generation: Generation) {
        if !self.reads(tag, partition, generation) {
            return;
        }
        if self.broker.has_pending_offsets(partition) {
            let again = self.chance.between(20 * MS, 50 * MS);
            return self.after(again, Happening::Find(tag, partition, generation));
        }
        let bounds = self.broker.bounds(partition);
        let found = Found {
            committed: self.broker.committed(partition),
            log_start: bounds.start,
            log_end: bounds.end,
            topic_id: self.broker.topic_id(partition.topic),
        };
        let event = Event::Found {
            generation,
            partition,
            found,
        };
        self.tell_consumer(tag.replica, event);
    }

    /// Puts an event behind what the consumer told before.
    pub fn tell_consumer(&mut self, replica: usize, event: Event) {
        let late = self.chance.between(20, 3 * MS);
        let this = &mut self.replicas[replica];
        this.channel_us = this.channel_us.max(self.now_us + late);
        let (at, tag) = (this.channel_us, this.tag);
        self.at(at, Happening::TellConsumer(tag, event));
    }

    /// The engine begins to read.
    pub fn start_fetch(&mut self, replica: usize, partition: Partition, from: NextOffset) {
        let bounds = self.broker.bounds(partition);
        let Some(reading) = self.replicas[replica].reading.get_mut(&partition) else {
            return;
        };
        let generation = reading.generation;
        if from < bounds.start || from > bounds.end {
            let event = Event::OutOfRange {
                generation,
                partition,
            };
            return self.tell_consumer(replica, event);
        }
        reading.next = Some(from);
        self.poke(partition);
    }

    /// The engine asks for records.
    pub fn ask(&mut self, replica: usize, partition: Partition, records: usize) {
        if let Some(reading) = self.replicas[replica].reading.get_mut(&partition) {
            reading.credits += records;
            self.poke(partition);
        }
    }

    /// There may be something to read: whoever waits for it gets it soon.
    pub fn poke(&mut self, partition: Partition) {
        for replica in 0..self.replicas.len() {
            let this = &mut self.replicas[replica];
            let tag = this.tag;
            let Some(reading) = this.reading.get_mut(&partition) else {
                continue;
            };
            if reading.next.is_some() && reading.credits > 0 && !reading.ticking {
                reading.ticking = true;
                let generation = reading.generation;
                let late = self.chance.between(100, 5 * MS);
                self.after(late, Happening::Fetch(tag, partition, generation));
            }
        }
    }

    /// Hands over some records, in order, as far as the credit goes.
    pub fn fetch(&mut self, tag: Tag, partition: Partition, generation: Generation) -> Verdict {
        if let Some(reading) = self.reading(tag, partition, generation) {
            reading.ticking = false;
        }
        self.tell_stale(tag)?;
        for _ in 0..self.chance.between(1, 20) {
            let Some(reading) = self.reading(tag, partition, generation).copied() else {
                return Ok(());
            };
            let Some(next) = reading.next.filter(|_| reading.credits > 0) else {
                return Ok(());
            };
            let record = self.broker.read(partition, next).cloned();
            let end = self.broker.bounds(partition).end;
            let reading = self
                .reading(tag, partition, generation)
                .expect("it was there just now");
            let event = match record {
                Some(record) => {
                    reading.next = Some(record.position.offset.next());
                    reading.credits -= 1;
                    Event::Record { generation, record }
                }
                None if reading.end_told == Some(end) => return Ok(()),
                None => {
                    reading.next = Some(next.max(end));
                    reading.end_told = Some(end);
                    Event::ReachedEnd {
                        generation,
                        partition,
                        next: end,
                    }
                }
            };
            let told = &mut self.replicas[tag.replica].told;
            told.push_back(event.clone());
            if told.len() > STALE_MAX {
                told.pop_front();
            }
            self.tell(tag.replica, event)?;
        }
        self.poke(partition);
        Ok(())
    }

    /// Something that an older assignment brought comes once more (L8).
    fn tell_stale(&mut self, tag: Tag) -> Verdict {
        if !self.chance.permille(self.rates.stale_event) || !self.replicas[tag.replica].lives(tag) {
            return Ok(());
        }
        let this = &self.replicas[tag.replica];
        let is_stale = |event: &&Event| {
            let (generation, partition) = match event {
                Event::Record { generation, record } => (generation, record.position.partition),
                Event::ReachedEnd {
                    generation,
                    partition,
                    ..
                }
                | Event::Found {
                    generation,
                    partition,
                    ..
                } => (generation, *partition),
                _ => return false,
            };
            let now = this.reading.get(&partition).map(|r| r.generation);
            now.is_some_and(|now| now != *generation)
        };
        match this.told.iter().find(is_stale).cloned() {
            Some(event) => self.tell(tag.replica, event),
            None => Ok(()),
        }
    }

    /// Where the logs of a replica's partitions begin and end now.
    pub fn tell_bounds(&mut self) -> Verdict {
        for replica in 0..self.replicas.len() {
            let this = &self.replicas[replica];
            if this.engine.is_none() || this.paused_until > self.now_us {
                continue;
            }
            let partitions = this.reading.keys();
            let bounds = partitions.map(|p| self.broker.bounds(*p)).collect();
            self.tell(replica, Event::LogBounds(bounds))?;
        }
        self.after(3 * SECOND, Happening::Bounds);
        Ok(())
    }

    /// Sends a plain commit.
    pub fn commit(&mut self, replica: usize, request: Request) {
        let this = &mut self.replicas[replica];
        // What a member sends that the group has given up is refused, whenever
        // it arrives.
        let fence = (this.member == Member::In).then_some(this.fence);
        let tag = this.tag;
        let request = Arc::new(request);
        this.requests.push(Arc::clone(&request));
        let landing = |answer| Happening::Landing {
            tag,
            fence,
            request: Arc::clone(&request),
            answer,
        };
        if self.chance.permille(self.rates.commit_unsure) {
            if self.chance.permille(600) {
                let late = self.chance.pick(&[MS, 100 * MS, 2 * SECOND]);
                self.after(late, landing(false));
            }
            let told = self.chance.pick(&[MS, 60 * MS, SECOND]);
            let write = request.write;
            return self.after(told, Happening::Tell(tag, Event::WriteUnsure { write }));
        }
        let late = if self.chance.permille(self.rates.commit_slow) {
            self.chance.between(20 * MS, 2 * SECOND)
        } else {
            self.chance.between(100, 2 * MS)
        };
        self.after(late, landing(true));
    }

    /// A plain commit reaches the coordinator.
    pub fn landing(
        &mut self,
        tag: Tag,
        fence: Option<u32>,
        request: &Request,
        answer: bool,
    ) -> Verdict {
        let this = &self.replicas[tag.replica];
        let fenced = fence != Some(this.fence);
        let rebalancing = this.tag == tag && this.rebalancing && self.chance.permille(600);
        let write = request.write;
        let refused = fenced || rebalancing;
        if !refused {
            self.write_offsets(&request.snapshots, &request.writers)?;
        }
        // What a consumer that was dropped would have heard may still be on
        // its way to the engine.
        let heard = self.replicas[tag.replica].is_current(tag) || self.chance.permille(300);
        if answer && heard {
            let slow = self.chance.permille(self.rates.commit_slow);
            let late = if slow {
                self.chance.between(20 * MS, 1_500 * MS)
            } else {
                self.chance.between(100, MS)
            };
            let event = match (refused, late > SECOND) {
                (true, _) => Event::CommitRefused { write },
                (false, true) => Event::WriteUnsure { write },
                (false, false) => Event::Committed { write },
            };
            self.after(late, Happening::Tell(tag, event));
        }
        Ok(())
    }

    /// Runs a transaction.
    pub fn transact(&mut self, replica: usize, request: Request) {
        let request = Arc::new(request);
        let this = &mut self.replicas[replica];
        this.requests.push(Arc::clone(&request));
        let tag = this.tag;
        let late = self.chance.between(MS, 8 * MS);
        self.after(late, Happening::TransactionBegins(tag, request));
    }

    /// Its records and offsets are written, pending.
    pub fn transaction_begins(&mut self, tag: Tag, request: Arc<Request>) {
        if !self.replicas[tag.replica].is_current(tag) {
            return;
        }
        let now = self.broker_now();
        let id = self.broker.begin(&request, now);
        self.replicas[tag.replica].transaction = Some(id);
        let scan = self.chance.below(self.plan.scan_us);
        let timeout = TRANSACTION_TIMEOUT_US + scan;
        self.after(timeout, Happening::TransactionTimesOut(id));
        let late = if self.chance.permille(self.rates.move_slow) {
            self.chance.between(50 * MS, 3 * SECOND)
        } else {
            self.chance.between(2 * MS, 30 * MS)
        };
        self.after(late, Happening::TransactionEnds(tag, request, id));
    }

    /// The replica ends its transaction, or tries to.
    pub fn transaction_ends(&mut self, tag: Tag, request: &Request, id: TransactionId) -> Verdict {
        let this = &self.replicas[tag.replica];
        if !this.is_current(tag) {
            return Ok(());
        }
        let write = request.write;
        let stale = request.generation != Generation(this.generation);
        let rebalancing = this.rebalancing && self.chance.permille(600);
        let refused = stale || rebalancing || this.member != Member::In;
        let gone = self.broker.transaction(id).is_none();
        let event = if gone {
            Event::WriteUnsure { write }
        } else if self.broker.is_too_large(&request.records) {
            self.end_transaction(tag.replica, id, Ending::Abort)?;
            Event::MoveTooLarge { write }
        } else if refused || self.chance.permille(self.rates.move_refused) {
            self.end_transaction(tag.replica, id, Ending::Abort)?;
            Event::MoveRefused { write }
        } else if self.chance.permille(self.rates.move_unsure) {
            let ending = self.chance.pick(&[Ending::Commit, Ending::Abort]);
            if self.chance.permille(500) {
                self.end_transaction(tag.replica, id, ending)?;
            } else if let Some(transaction) = self.broker.transaction(id) {
                transaction.fate = ending;
            }
            Event::WriteUnsure { write }
        } else {
            self.end_transaction(tag.replica, id, Ending::Commit)?;
            Event::Moved { write }
        };
        let late = self.chance.between(200, 5 * MS);
        self.after(late, Happening::Tell(tag, event));
        Ok(())
    }

    /// The coordinator ends what nobody ended.
    pub fn transaction_times_out(&mut self, id: TransactionId) -> Verdict {
        let Some(fate) = self.broker.transaction(id).map(|t| t.fate) else {
            return Ok(());
        };
        let holder = self.replicas.iter().position(|r| r.transaction == Some(id));
        match holder {
            Some(replica) => self.end_transaction(replica, id, fate),
            None => Ok(()),
        }
    }

    /// `init_transactions`: what this replica left open ends.
    pub fn end_left_open(&mut self, replica: usize) -> Verdict {
        let Some(id) = self.replicas[replica].transaction else {
            return Ok(());
        };
        let Some(fate) = self.broker.transaction(id).map(|t| t.fate) else {
            return Ok(());
        };
        self.end_transaction(replica, id, fate)
    }

    fn end_transaction(&mut self, replica: usize, id: TransactionId, ending: Ending) -> Verdict {
        self.replicas[replica].transaction = None;
        let Some(written) = self.broker.end(id, ending) else {
            return Ok(());
        };
        let Written {
            copies,
            request,
            touched,
        } = written;
        if ending == Ending::Commit {
            for (moved, to, at) in &copies {
                Law::L1.check(self.broker.is_copy(moved), || {
                    format!("the copy of {:?} is not its bytes", moved.from)
                })?;
                self.residences.moved(moved, *to, *at)?;
            }
            self.write_offsets(&request.snapshots, &request.writers)?;
        }
        for partition in touched {
            self.poke(partition);
        }
        Ok(())
    }

    /// Offsets take effect; L1 and L2 are asked of each.
    fn write_offsets(&mut self, snapshots: &[Snapshot], writers: &[Writer]) -> Verdict {
        for (snapshot, by) in snapshots.iter().zip(writers) {
            let partition = snapshot.partition;
            let topic_id = self.broker.topic_id(partition.topic);
            let end = self.broker.bounds(partition).end;
            self.offsets
                .committed(snapshot, topic_id.as_ref(), *by, &self.residences, end)?;
            self.broker.commit(snapshot);
        }
        Ok(())
    }

    fn reads(&self, tag: Tag, partition: Partition, generation: Generation) -> bool {
        let this = &self.replicas[tag.replica];
        let reading = this.reading.get(&partition);
        this.is_current(tag) && reading.is_some_and(|r| r.generation == generation)
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
