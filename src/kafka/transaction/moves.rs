//! One move: a transaction that writes records to their next residences and
//! commits the snapshots of the old ones. Decides nothing. Runs on the
//! transaction thread.
//!
//! After the first call of `commit_transaction`, only that call is repeated until
//! it answers. Kafka ends a transaction in each partition by a marker: commit or
//! abort. The commit marker may be written although the answer was lost. To move the
//! record once more would make two copies of it, each with its own ten attempts.

use super::producer::{AppendTime, RETRY_AFTER, Stop, TimedProducer, transaction_error};
use super::refusals;
use crate::kafka::client::convert::{self, CommitAnswer};
use crate::kafka::client::ffi::TransactionError;
use crate::kafka::leaders::Choice;
use crate::kafka::session_state::SessionState;
use crate::model::destination::{RefusalReason, Refusals};
use crate::model::message::{Appended, KafkaEvent, MovePurpose, MoveRequest, OpenTransaction};
use crate::model::position::Topic;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

/// How long offsets are tried before the transaction is aborted.
const OFFSETS_MAX: Duration = Duration::from_secs(8);
/// The same while the coordinator still ends the transaction before. As a rule, that
/// takes some 20 ms. It takes until a replica comes back where a partition of that
/// transaction has lost too many. Meanwhile its partitions must not wait in transactions.
const BUSY_MAX: Duration = Duration::from_secs(2);
/// The interval between two tries after that. Each takes some 0.2 s.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The end of a move.
pub struct Ended {
    pub event: KafkaEvent,
    pub after: AfterMove,
}

/// What a move needs before its event is reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AfterMove {
    /// Nothing: its transaction has ended.
    Keep,
    /// A new producer, which ends its transaction.
    Renew,
}

/// One move.
pub struct Move<'a> {
    producer: &'a TimedProducer<'a>,
    state: &'a SessionState,
    request: &'a MoveRequest,
    /// The partitions to which its records can be moved, by topic.
    choices: BTreeMap<Topic, Choice>,
    /// Why the topic of a probe can take no record, as the brokers were just asked.
    looked_up: Option<RefusalReason>,
    started: Duration,
}

impl<'a> Move<'a> {
    /// Returns a move that starts now.
    pub fn new(producer: &'a TimedProducer<'a>, request: &'a MoveRequest) -> Self {
        let state = producer.state;
        let started = state.now();
        let topics: BTreeSet<Topic> = request.records.iter().map(|record| record.to).collect();
        let looked_up = match (request.purpose, topics.first()) {
            _ if producer.is_busy() => None,
            (MovePurpose::Probe, Some(topic)) => refusals::look_up(producer, *topic).ok().flatten(),
            _ => {
                refusals::look_at_risky(producer, &topics);
                None
            }
        };
        let (unclosed, leaders) = (state.sessions.unclosed(), state.leaders());
        let choice = |topic| (topic, leaders.choice(topic, &unclosed, state.now()));
        Self {
            producer,
            state,
            request,
            choices: topics.into_iter().map(choice).collect(),
            looked_up,
            started,
        }
    }

    /// Runs the transaction and returns its event, or `None` when the session
    /// ends. `member` is the group metadata of the request's generation.
    pub fn run(&self, member: Option<&ConsumerGroupMetadata>) -> Option<Ended> {
        let mut after = AfterMove::Keep;
        let event = self.run_until(member, &mut after)?;
        Some(Ended { event, after })
    }

    fn run_until(
        &self,
        member: Option<&ConsumerGroupMetadata>,
        after: &mut AfterMove,
    ) -> Option<KafkaEvent> {
        let write = self.request.write;
        let Some(member) = member else {
            let why = "its generation is too old".to_owned();
            return Some(KafkaEvent::MoveNotStarted { write, why });
        };
        if self.producer.is_busy() {
            let why = "the transaction before has not ended".to_owned();
            return Some(KafkaEvent::MoveNotStarted { write, why });
        }
        if let Some(refused) = self.refused_before() {
            return Some(refused);
        }
        let mut stop = match self.producer.begin().and_then(|()| self.fill(member)) {
            Ok(appended) => return self.commit(appended),
            Err(stop) => stop,
        };
        let must_abort = !matches!(stop, Stop::Fatal(..) | Stop::SessionEnded);
        if must_abort && let Err(failed) = self.producer.abort() {
            match failed {
                // The commit was not requested, so only an abort can end it.
                Stop::Stuck => *after = AfterMove::Renew,
                failed => stop = failed,
            }
        }
        let took = self.took();
        match stop {
            Stop::Refused(why) => Some(self.refused(Refusals::default(), why)),
            Stop::Destinations(refusals, why) => Some(self.refused(refusals, why)),
            // `fill` has looked for the destinations.
            Stop::NotDelivered(reports) => {
                Some(self.refused(Refusals::default(), format!("{reports:?}")))
            }
            Stop::TooLarge => Some(KafkaEvent::MoveTooLarge { write, took }),
            // An abort alone stops so, and is handled above.
            Stop::Stuck => Some(self.refused(Refusals::default(), "it is stuck".to_owned())),
            Stop::Fatal(why, code) => Some(self.unsure(why, code)),
            Stop::SessionEnded => None,
        }
    }

    fn refused(&self, destinations: Refusals, why: String) -> KafkaEvent {
        KafkaEvent::MoveRefused {
            write: self.request.write,
            took: self.took(),
            why,
            destinations,
        }
    }

    /// Returns the answer to a move of which a topic cannot take a record. A transaction
    /// would hold its partitions until a timeout, or could not even be aborted.
    fn refused_before(&self) -> Option<KafkaEvent> {
        let reason = |choice: &Choice| match choice {
            Choice::None(reason) => Some(*reason),
            Choice::All | Choice::Some(_) => None,
        };
        let choices = self.choices.iter();
        let refused = choices.filter_map(|(topic, choice)| Some((*topic, reason(choice)?)));
        let mut refused: BTreeMap<Topic, RefusalReason> = refused.collect();
        if let (true, Some(reason)) = (refused.is_empty(), self.looked_up) {
            let (topic, choice) = self.choices.first_key_value()?;
            // Its other partitions can take the record.
            if reason == RefusalReason::NoLeader && matches!(choice, Choice::Some(_)) {
                return None;
            }
            refused.insert(*topic, reason);
        }
        if refused.is_empty() {
            return None;
        }
        let refusals = Refusals {
            refused,
            ..Refusals::default()
        };
        Some(self.refused(refusals, "the topic cannot take records".to_owned()))
    }

    fn took(&self) -> Duration {
        self.state.now().saturating_sub(self.started)
    }

    fn report_open(&self, open: OpenTransaction) {
        self.state.report(KafkaEvent::OpenTransaction(open));
    }

    /// Adds the offsets first, then the records. Kafka accepts offsets only after
    /// the transaction before is complete. So from then on only this one can be open.
    fn fill(&self, member: &ConsumerGroupMetadata) -> Result<Option<AppendTime>, Stop> {
        let offsets = convert::snapshots(&self.state.settings.topics, &self.request.snapshots)
            .map_err(|error| Stop::Refused(error.to_string()))?;
        self.send_offsets(&offsets, member)?;
        let topics = self.request.records.iter().map(|record| record.to);
        self.report_open(OpenTransaction::Records(topics.collect()));
        self.producer.check_alive()?;
        let produced = self.producer.produce(|| self.send_records());
        let Err(Stop::NotDelivered(reports)) = produced else {
            return produced;
        };
        // A failed transaction answers each call with its error. A good one accepts
        // the same offsets once more, and is aborted.
        let transaction_error = || {
            let answer = self.producer.send_offsets(&offsets, member);
            answer.err()?.rdkafka_error_code()
        };
        let refusals = refusals::find(self.producer, self.request, &reports, transaction_error);
        Err(Stop::Destinations(refusals, format!("{reports:?}")))
    }

    /// Sends the records. librdkafka chooses the partitions by the keys. While leaders
    /// are silent, partitions of the others are chosen: a record to a silent leader
    /// would hold up and abort the whole transaction.
    fn send_records(&self) -> Result<(), Stop> {
        for (index, record) in self.request.records.iter().enumerate() {
            let topic = self.state.settings.topics.name(record.to);
            let mut wire = BaseRecord::<[u8], [u8]>::to(&topic);
            if let Some(Choice::Some(partitions)) = self.choices.get(&record.to) {
                wire = wire.partition(partitions[index % partitions.len()]);
            }
            wire = wire.headers(convert::headers(&record.headers));
            if let Some(key) = &record.key {
                wire = wire.key(&key[..]);
            }
            if let Some(value) = &record.value {
                wire = wire.payload(&value[..]);
            }
            self.producer.send(wire)?;
        }
        Ok(())
    }

    fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        member: &ConsumerGroupMetadata,
    ) -> Result<(), Stop> {
        let (started, busy_until) = (self.state.now(), &self.producer.busy_until);
        let busy_max = match busy_until.get() {
            Duration::ZERO => BUSY_MAX,
            _ => Duration::ZERO,
        };
        // The broker may accept the offsets although no answer says so.
        let mut maybe_accepted = false;
        self.report_open(OpenTransaction::Offsets);
        loop {
            self.producer.check_alive()?;
            let Err(error) = self.producer.send_offsets(offsets, member) else {
                busy_until.set(Duration::ZERO);
                return Ok(());
            };
            let retriable = transaction_error(&error)
                .is_some_and(|a| a.is_retriable() && !a.txn_requires_abort() && !a.is_fatal());
            let answer = error.rdkafka_error_code().map(convert::commit_answer);
            maybe_accepted |= answer != Some(CommitAnswer::Refused);
            let is_busy =
                error.rdkafka_error_code() == Some(RDKafkaErrorCode::ConcurrentTransactions);
            let limit = if is_busy { busy_max } else { OFFSETS_MAX };
            let now = self.state.now();
            if !retriable || now >= started + limit {
                if is_busy {
                    if busy_max == BUSY_MAX {
                        self.producer.warn_not_ended();
                    }
                    busy_until.set(now + BUSY_RETRY);
                }
                if !maybe_accepted {
                    self.report_open(OpenTransaction::Nothing);
                }
                return Err(error.into());
            }
            thread::sleep(RETRY_AFTER);
        }
    }

    /// Commits, and repeats only the commit until it answers. An answer that asks
    /// for an abort proves nothing. librdkafka also gives it when the transaction
    /// failed locally while the request to commit was in progress. An abort would prove
    /// nothing either. librdkafka may only request a new producer epoch for it, and
    /// Kafka grants one after a commit too.
    fn commit(&self, appended: Option<AppendTime>) -> Option<KafkaEvent> {
        while self.state.is_alive() {
            let Err(answer) = self.producer.commit() else {
                let now = self.state.now();
                return Some(KafkaEvent::Moved {
                    write: self.request.write,
                    took: self.took(),
                    appended: appended.map(|AppendTime { at, middle }| Appended {
                        at,
                        ago: now.saturating_sub(middle),
                    }),
                });
            };
            match after_commit(&answer) {
                AfterCommit::Repeat => {
                    self.producer.serve();
                    thread::sleep(RETRY_AFTER);
                    self.state
                        .unreachable(format!("a move cannot be committed: {}", answer.text));
                }
                AfterCommit::Unsure => return Some(self.unsure(answer.text, Some(answer.code))),
            }
        }
        None
    }

    fn unsure(&self, why: String, code: Option<RDKafkaErrorCode>) -> KafkaEvent {
        let fatal = self.producer.client().fatal_error();
        self.producer
            .report_fenced(fatal.map(|(fatal, _)| fatal).or(code));
        KafkaEvent::MoveUnsure {
            write: self.request.write,
            took: self.took(),
            why,
        }
    }
}

/// The step after a failed `commit_transaction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AfterCommit {
    Repeat,
    Unsure,
}

fn after_commit(answer: &TransactionError) -> AfterCommit {
    match answer.retriable && !answer.fatal && !answer.abortable {
        true => AfterCommit::Repeat,
        false => AfterCommit::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_commit_is_repeated_or_unsure_and_never_aborted() {
        for (retriable, abortable, fatal, step) in [
            (true, false, false, AfterCommit::Repeat),
            (false, true, false, AfterCommit::Unsure),
            (false, false, true, AfterCommit::Unsure),
            (true, true, false, AfterCommit::Unsure),
            (false, false, false, AfterCommit::Unsure),
        ] {
            let answer = TransactionError {
                code: RDKafkaErrorCode::OperationTimedOut,
                retriable,
                abortable,
                fatal,
                text: String::new(),
            };
            assert_eq!(after_commit(&answer), step, "{answer:?}");
        }
    }
}
