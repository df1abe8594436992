//! Offset writes and transactions on their way to Kafka and back: slow, refused,
//! lost, late, unanswered.

use crate::broker::{Ending, Origin, TransactionId, Written};
use crate::coordinator::{Credentials, Refusal};
use crate::laws::offsets::Writer;
use crate::laws::{Law, Verdict};
use crate::plan::{MS, SECOND};
use crate::reach::Way;
use crate::replica::{Request, Tag};
use crate::sim_event::SimEvent;
use crate::world::World;
use ringback::engine::event::Event;
use ringback::model::destination::Refusals;
use ringback::model::message::{KafkaEvent, MoveRequest, OpenTransaction, Snapshot, WriteId};
use ringback::model::position::{Generation, Partition};
use std::sync::Arc;
use std::time::Duration;

/// `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT_US: u64 = 10 * SECOND;

/// `socket.timeout.ms`: the maximum time until a request has an answer or fails.
const SOCKET_TIMEOUT_US: u64 = 11 * SECOND;

/// The answer to a transaction.
enum MoveAnswer {
    Moved,
    Refused(Refusals),
    TooLarge,
    NotStarted,
    Unsure,
}

/// A plain commit in transit.
#[derive(Clone, Debug)]
pub struct CommitInTransit {
    pub tag: Tag,
    pub request: Arc<Request>,
    /// Whether its sender gets the answer.
    pub answer: bool,
}

impl World {
    /// Returns a requested write with its writers and credentials.
    pub fn request(&self, replica: usize, write: WriteId, snapshots: Vec<Snapshot>) -> Request {
        let this = &self.replicas[replica];
        let incarnation = |s: &Snapshot| this.reading.get(&s.partition).and_then(|r| r.incarnation);
        Request {
            write,
            writers: snapshots
                .iter()
                .map(|s| self.writer(replica, s.partition))
                .collect(),
            incarnations: snapshots.iter().map(incarnation).collect(),
            snapshots,
            requested_at: self.now_of(replica),
            sent_us: self.now_us,
            records: Vec::new(),
            by: this.credentials,
        }
    }

    /// Returns the current writer of this partition.
    pub fn writer(&self, replica: usize, partition: Partition) -> Writer {
        let this = &self.replicas[replica];
        Writer {
            replica,
            process: this.tag.process,
            generation: this.checker.generation(partition).unwrap_or_default(),
        }
    }

    /// Sends a plain commit.
    pub fn commit(&mut self, replica: usize, write: WriteId, snapshots: Vec<Snapshot>) {
        let request = Arc::new(self.request(replica, write, snapshots));
        let this = &mut self.replicas[replica];
        let tag = this.tag;
        this.requests.push(Arc::clone(&request));
        let mut commit = CommitInTransit {
            tag,
            request,
            answer: true,
        };
        if self.chance.permille(self.rates.commit_unsure) {
            commit.answer = false;
            let late = self.chance.pick(&[MS, 60 * MS, SECOND]);
            let took = Duration::from_micros(late);
            let why = String::new();
            let event = KafkaEvent::CommitUnsure { write, took, why };
            self.after(late, SimEvent::PassEvent(tag, tag.event(event)));
            if self.chance.permille(600) {
                let late = self.chance.pick(&[MS, 100 * MS, 2 * SECOND, 12 * SECOND]);
                self.count("commit_arrives_late");
                self.after(late, SimEvent::CommitArrives(commit));
            }
            return;
        }
        let late = if self.chance.permille(self.rates.commit_slow) {
            self.chance.between(20 * MS, 2 * SECOND)
        } else {
            self.chance.between(100, 2 * MS)
        };
        self.after(late, SimEvent::CommitArrives(commit));
    }

    /// Handles a plain commit at the coordinator.
    pub fn commit_arrives(&mut self, mut commit: CommitInTransit) -> Verdict {
        let tag = commit.tag;
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            self.coordinator_unreachable(commit, at);
            return Ok(());
        }
        let this = &mut self.replicas[tag.replica];
        if this.blocked && this.is_current(tag) {
            this.queued.push(SimEvent::CommitArrives(commit));
            self.count("commit_queued");
            return Ok(());
        }
        let write = commit.request.write;
        let taken = self.may_commit(commit.request.by.as_ref());
        if taken.is_ok() {
            let order = self.broker.next_offset_write();
            self.write_offsets(&commit.request, order)?;
        }
        // The answer to a dropped consumer may still be on its way to the engine.
        commit.answer &= self.replicas[tag.replica].is_current(tag) || self.chance.permille(300);
        if commit.answer {
            let slow = self.chance.permille(self.rates.commit_slow);
            let late = if slow {
                self.chance.between(20 * MS, 1_500 * MS)
            } else {
                self.chance.between(100, MS)
            };
            let took = commit.request.took(self.now_us + late);
            let event = match taken {
                Ok(()) => KafkaEvent::Committed { write, took },
                Err(Refusal::FencedInstance) => {
                    let why = String::new();
                    KafkaEvent::CommitUnsure { write, took, why }
                }
                Err(_) => KafkaEvent::CommitRefused { write, took },
            };
            self.after(late, SimEvent::PassEvent(tag, tag.event(event)));
        }
        Ok(())
    }

    fn may_commit(&mut self, by: Option<&Credentials>) -> Result<(), Refusal> {
        let taken = by.map_or(Err(Refusal::UnknownMember), |by| {
            self.coordinator.may_commit(by, false)
        });
        match taken {
            Ok(()) => {}
            Err(Refusal::UnknownMember) => self.count("unknown_member"),
            Err(Refusal::FencedInstance) => self.count("fenced_instance"),
            Err(Refusal::IllegalGeneration) => self.count("illegal_generation"),
            Err(Refusal::RebalanceInProgress) => self.count("rebalance_in_progress"),
        }
        taken
    }

    /// The coordinator is unreachable before `at`: the commit is lost or arrives
    /// later. Its sender gives up or gets a late answer.
    fn coordinator_unreachable(&mut self, mut commit: CommitInTransit, at: u64) {
        let give_up = self
            .chance
            .pick(&[60 * MS, SECOND, 5 * SECOND, SOCKET_TIMEOUT_US]);
        let arrives = self.chance.permille(600);
        let late = at + self.chance.between(100, 50 * MS);
        let in_time = late < self.now_us + give_up;
        if commit.answer && !(arrives && in_time) {
            commit.answer = false;
            let write = commit.request.write;
            let took = commit.request.took(self.now_us + give_up);
            let why = String::new();
            let event = commit
                .tag
                .event(KafkaEvent::CommitUnsure { write, took, why });
            self.after(give_up, SimEvent::PassEvent(commit.tag, event));
        }
        if arrives {
            self.at(late, SimEvent::CommitArrives(commit));
        }
    }

    /// Runs a transaction.
    pub fn transact(&mut self, replica: usize, order: MoveRequest) {
        let mut request = self.request(replica, order.write, order.snapshots);
        request.records = order.records;
        request.by = self.replicas[replica].metadata(order.generation);
        let request = Arc::new(request);
        let this = &mut self.replicas[replica];
        this.requests.push(Arc::clone(&request));
        let tag = this.tag;
        let late = self.chance.between(MS, 5 * MS);
        self.after(late, SimEvent::TransactionBegins(tag, request));
    }

    fn answer_move(&mut self, tag: Tag, write: WriteId, answer: MoveAnswer) {
        let late = self.chance.between(200, 5 * MS);
        let requests = &self.replicas[tag.replica].requests;
        let request = requests.iter().find(|request| request.write == write);
        let took = request.map_or(Duration::ZERO, |request| request.took(self.now_us + late));
        let why = String::new();
        // The supervisor learns the transaction's end from the answer.
        if let MoveAnswer::Moved | MoveAnswer::Refused(_) | MoveAnswer::TooLarge = answer {
            self.replicas[tag.replica].open = OpenTransaction::Nothing;
        }
        let event = match answer {
            MoveAnswer::Moved => KafkaEvent::Moved {
                write,
                took,
                appended: None,
            },
            MoveAnswer::Refused(destinations) => KafkaEvent::MoveRefused {
                write,
                took,
                why,
                destinations,
            },
            MoveAnswer::TooLarge => KafkaEvent::MoveTooLarge { write, took },
            MoveAnswer::NotStarted => KafkaEvent::MoveNotStarted { write, why },
            MoveAnswer::Unsure => KafkaEvent::MoveUnsure { write, took, why },
        };
        // If the session is dropped now, the engine handles the answer before its end
        // or not at all.
        if self.chance.permille(500) {
            self.replicas[tag.replica].reported.push(event.clone());
        }
        self.after(late, SimEvent::PassEvent(tag, tag.event(event)));
    }

    /// Writes a transaction's records as pending.
    pub fn transaction_begins(&mut self, tag: Tag, request: Arc<Request>) {
        let this = &self.replicas[tag.replica];
        if !this.is_current(tag) {
            return;
        }
        if let Some(at) = self.unreachable(tag.replica, Way::Logs) {
            return self.retry_at(at, SimEvent::TransactionBegins(tag, request));
        }
        let (name, write) = (this.name, request.write);
        let Some(epoch) = this.epoch else {
            return self.answer_move(tag, write, MoveAnswer::NotStarted);
        };
        if !self.broker.is_epoch(name, epoch) {
            self.count("producer_fenced");
            return self.answer_move(tag, write, MoveAnswer::Unsure);
        }
        self.set_open(tag, OpenTransaction::Offsets);
        let now = self.broker_now();
        let id = self.broker.begin(name, epoch, &request, now);
        let scan = self.chance.below(self.plan.scan_us);
        let timeout = TRANSACTION_TIMEOUT_US + scan;
        self.after(timeout, SimEvent::TransactionTimesOut(id));
        let late = self.chance.between(MS, 10 * MS);
        self.after(late, SimEvent::OffsetsAdded(tag, request, id));
    }

    /// Makes a transaction's offsets pending, if the group accepts them.
    pub fn offsets_added(&mut self, tag: Tag, request: Arc<Request>, id: TransactionId) -> Verdict {
        if !self.replicas[tag.replica].is_current(tag) {
            return Ok(());
        }
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            self.retry_at(at, SimEvent::OffsetsAdded(tag, request, id));
            return Ok(());
        }
        let write = request.write;
        if !self.broker.is_open(id) {
            self.answer_move(tag, write, MoveAnswer::Unsure);
            return Ok(());
        }
        if self.broker.is_too_large(&request.records) {
            self.end_transaction(id, Ending::Abort)?;
            self.answer_move(tag, write, MoveAnswer::TooLarge);
            return Ok(());
        }
        let by = request.by.as_ref();
        let taken = by.is_some_and(|by| self.coordinator.may_commit(by, true).is_ok());
        if !taken || self.chance.permille(self.rates.move_refused) {
            self.end_transaction(id, Ending::Abort)?;
            self.answer_move(tag, write, MoveAnswer::Refused(Refusals::default()));
            return Ok(());
        }
        let refusals = self.refusals(&request);
        if !refusals.is_empty() {
            self.end_transaction(id, Ending::Abort)?;
            self.answer_move(tag, write, MoveAnswer::Refused(refusals));
            return Ok(());
        }
        self.broker.add_offsets(id);
        let topics = request.records.iter().map(|record| record.to);
        self.set_open(tag, OpenTransaction::Records(topics.collect()));
        let late = if self.chance.permille(self.rates.move_slow) {
            self.chance.between(50 * MS, 3 * SECOND)
        } else {
            self.chance.between(MS, 20 * MS)
        };
        self.after(late, SimEvent::TransactionEnds(tag, write, id));
        Ok(())
    }

    /// Commits the replica's transaction, if that is still possible.
    pub fn transaction_ends(&mut self, tag: Tag, write: WriteId, id: TransactionId) -> Verdict {
        if !self.replicas[tag.replica].is_current(tag) {
            return Ok(());
        }
        if let Some(at) = self.unreachable(tag.replica, Way::Coordinator) {
            self.retry_at(at, SimEvent::TransactionEnds(tag, write, id));
            return Ok(());
        }
        if !self.broker.is_open(id) {
            self.count("transaction_timed_out");
            self.answer_move(tag, write, MoveAnswer::Unsure);
            return Ok(());
        }
        if self.chance.permille(self.rates.move_unsure) {
            let ending = self.chance.pick(&[Ending::Commit, Ending::Abort]);
            if self.chance.permille(500) {
                self.end_transaction(id, ending)?;
            } else {
                self.broker.decide(id, ending);
            }
            self.answer_move(tag, write, MoveAnswer::Unsure);
            return Ok(());
        }
        self.end_transaction(id, Ending::Commit)?;
        self.answer_move(tag, write, MoveAnswer::Moved);
        Ok(())
    }

    /// Ends a transaction that timed out.
    pub fn transaction_times_out(&mut self, id: TransactionId) -> Verdict {
        let away = self.away_until(Way::Coordinator);
        if away > self.now_us {
            self.retry_at(away, SimEvent::TransactionTimesOut(id));
            return Ok(());
        }
        match self.broker.time_out(id) {
            Some(fate) => self.end_transaction(id, fate),
            None => Ok(()),
        }
    }

    /// Ends a transaction: its writes take effect or vanish.
    pub fn end_transaction(&mut self, id: TransactionId, ending: Ending) -> Verdict {
        let Some(written) = self.broker.end(id, ending) else {
            return Ok(());
        };
        let Written {
            copies,
            request,
            order,
            touched,
        } = written;
        if ending == Ending::Commit {
            for (moved, to, at) in &copies {
                Law::L1.check(self.is_copy(moved), || {
                    format!("the copy of {:?} has other bytes", moved.from)
                })?;
                self.residences.moved(moved, *to, *at)?;
            }
            self.write_offsets(&request, order)?;
        }
        for partition in touched {
            self.schedule_fetches(partition);
        }
        Ok(())
    }

    /// Makes offsets take effect, and checks L1 and L2 for each.
    fn write_offsets(&mut self, request: &Request, order: u64) -> Verdict {
        let writes = request.snapshots.iter().zip(&request.writers);
        for ((snapshot, by), incarnation) in writes.zip(&request.incarnations) {
            let partition = snapshot.partition;
            let topic = partition.topic;
            let stale = incarnation.is_some_and(|i| i != self.broker.incarnation(topic));
            let origin = match stale {
                true => Origin::FormerTopic,
                false => Origin::Service,
            };
            if !self.broker.commit(snapshot, order, origin) {
                continue;
            }
            if stale {
                self.count("commit_of_former_topic");
                continue;
            }
            let topic_id = self.broker.topic_id(topic);
            let end = self.broker.bounds(partition).end;
            self.offsets
                .committed(snapshot, topic_id.as_ref(), *by, &self.residences, end)?;
        }
        Ok(())
    }

    /// Grants the reservations of an acknowledged write.
    pub fn acknowledge(&mut self, replica: usize, event: &Event) {
        let Event::Kafka { session, event } = event else {
            return;
        };
        self.replicas[replica].note_told(*session, event);
        let (write, granted) = match event {
            KafkaEvent::Committed { write, .. } | KafkaEvent::Moved { write, .. } => (*write, true),
            KafkaEvent::CommitRefused { write, .. }
            | KafkaEvent::MoveNotStarted { write, .. }
            | KafkaEvent::CommitUnsure { write, .. }
            | KafkaEvent::MoveRefused { write, .. }
            | KafkaEvent::MoveTooLarge { write, .. }
            | KafkaEvent::MoveUnsure { write, .. } => (*write, false),
            _ => return,
        };
        let requests = &mut self.replicas[replica].requests;
        let Some(index) = requests.iter().position(|r| r.write == write) else {
            return;
        };
        let request = requests.swap_remove(index);
        // The engine grants nothing for an answer to a dropped session.
        let engine = &self.replicas[replica].engine;
        if granted && engine.as_ref().is_some_and(|e| e.is_current(*session)) {
            for (snapshot, by) in request.snapshots.iter().zip(&request.writers) {
                self.offsets
                    .acknowledged(snapshot, *by, request.requested_at);
            }
        }
    }

    /// Returns whether this consumer reads the partition for that assignment.
    pub fn reads(&self, tag: Tag, partition: Partition, generation: Generation) -> bool {
        let this = &self.replicas[tag.replica];
        let reading = this.reading.get(&partition);
        this.is_current(tag) && reading.is_some_and(|r| r.generation == generation)
    }
}
