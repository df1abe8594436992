//! One move: a transaction that writes records to their next residence and
//! completes the old one. Decides nothing. Runs on the mover's thread.
//!
//! Once commit was called, only commit is called again until it answers: the
//! marker may have been written and the answer lost, so that an abort or a
//! second try would fork the record into two budgets.

use super::KafkaEvent;
use super::board::Seat;
use super::calls::{Calls, Stop, fenced, transaction_error};
use super::convert::{self, CommitAnswer};
use super::ffi::{self, TransactionError};
use super::life::Shared;
use super::mover::{BREATH, CALL, Seated, serve};
use crate::model::message::{MoveRequest, OpenTransaction};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, Producer as _};
use std::thread;
use std::time::Duration;

/// How long offsets may be tried for before the transaction is aborted.
const OFFSETS_MAX: Duration = Duration::from_secs(8);

/// One move.
pub struct Transaction<'a> {
    calls: Calls<'a>,
    order: &'a MoveRequest,
    began: Duration,
}

impl<'a> Transaction<'a> {
    pub fn new(shared: &'a Shared, producer: &'a Seated<'a>, order: &'a MoveRequest) -> Self {
        let calls = Calls { shared, producer };
        Self {
            calls,
            order,
            began: shared.now(),
        }
    }

    /// Its report; `None` when the life ends.
    pub fn run(&self) -> Option<KafkaEvent> {
        let write = self.order.write;
        let metadata = self.calls.shared.group_metadata(self.order.generation);
        if metadata.is_none() && !self.order.snapshots.is_empty() {
            let why = "its generation is long over".to_owned();
            return Some(self.refused(why));
        }
        let filled = match self.calls.begin() {
            Ok(()) => self.fill(metadata.as_deref()),
            Err(stop) => return self.stopped(stop),
        };
        let why = match filled {
            Ok(()) => return self.commit(),
            Err(stop @ (Stop::Refused(_) | Stop::TooLarge)) => stop,
            Err(stop) => return self.stopped(stop),
        };
        match self.calls.abort() {
            Ok(()) => {
                let shared = self.calls.shared;
                if !shared.across.was_troubled() && shared.left_open() != OpenTransaction::Offsets {
                    shared.leave_open(OpenTransaction::Nothing);
                }
                Some(match why {
                    Stop::Refused(why) => self.refused(why),
                    _ => KafkaEvent::MoveTooLarge {
                        write,
                        took: self.took(),
                        open: shared.left_open(),
                    },
                })
            }
            Err(stop) => self.stopped(stop),
        }
    }

    fn refused(&self, why: String) -> KafkaEvent {
        KafkaEvent::MoveRefused {
            write: self.order.write,
            took: self.took(),
            why,
            open: self.calls.shared.left_open(),
        }
    }

    fn took(&self) -> Duration {
        self.calls.shared.now().saturating_sub(self.began)
    }

    /// The report of what cannot be aborted.
    fn stopped(&self, stop: Stop) -> Option<KafkaEvent> {
        match stop {
            Stop::Fatal(why, code) => Some(self.fatal(&why, code)),
            Stop::Refused(why) => Some(self.fatal(&why, None)),
            Stop::TooLarge => Some(self.fatal("too large", None)),
            Stop::LifeEnds => None,
        }
    }

    /// The offsets come first: they are taken only once the transaction before
    /// has its markers everywhere. So what is left open from here on is of this
    /// one, and not of one that was committed.
    fn fill(&self, metadata: Option<&ConsumerGroupMetadata>) -> Result<(), Stop> {
        if let Some(metadata) = metadata
            && !self.order.snapshots.is_empty()
        {
            self.send_offsets(metadata)?;
            let topics = self.order.records.iter().map(|record| record.to);
            self.calls
                .shared
                .leave_open(OpenTransaction::Records(topics.collect()));
            self.calls.go_on()?;
        }
        self.calls.produce_all(|| self.produce())
    }

    fn produce(&self) -> Result<(), Stop> {
        for record in &self.order.records {
            let topic = self.calls.shared.settings.topics.name(record.to);
            let mut wire = BaseRecord::<[u8], [u8]>::to(&topic);
            wire = wire.headers(convert::headers(&record.headers));
            if let Some(key) = &record.key {
                wire = wire.key(&key[..]);
            }
            if let Some(value) = &record.value {
                wire = wire.payload(&value[..]);
            }
            self.calls.send(wire)?;
        }
        Ok(())
    }

    fn send_offsets(&self, metadata: &ConsumerGroupMetadata) -> Result<(), Stop> {
        let offsets = convert::snapshots(&self.calls.shared.settings.topics, &self.order.snapshots)
            .map_err(|error| Stop::Refused(error.to_string()))?;
        let until = self.calls.shared.now() + OFFSETS_MAX;
        // They may be taken although that is never heard.
        let mut unsure = false;
        self.calls.shared.leave_open(OpenTransaction::Offsets);
        loop {
            self.calls.go_on()?;
            self.calls.begin_offsets();
            let sent = self
                .calls
                .producer
                .send_offsets_to_transaction(&offsets, metadata, CALL);
            let Err(error) = sent else {
                return Ok(());
            };
            let again = transaction_error(&error)
                .is_some_and(|a| a.is_retriable() && !a.txn_requires_abort() && !a.is_fatal());
            let answer = error.rdkafka_error_code().map(convert::commit_answer);
            unsure |= answer != Some(CommitAnswer::Refused);
            if !again || self.calls.shared.now() >= until {
                if !unsure {
                    self.calls.shared.leave_open(OpenTransaction::Nothing);
                }
                return Err(error.into());
            }
            thread::sleep(BREATH);
        }
    }

    /// Once it was called, only this is called again until it answers: the
    /// marker may have been written and the answer lost. An answer that asks
    /// for an abort proves nothing either: librdkafka gives it also when the
    /// transaction failed locally while the request to commit was under way,
    /// and an abort that only bumps the epoch succeeds after a commit too.
    fn commit(&self) -> Option<KafkaEvent> {
        let write = self.order.write;
        loop {
            if !self.calls.shared.is_alive() {
                return None;
            }
            let client = self.calls.producer.client().native_ptr();
            self.seat().begin("commit_transaction", CALL);
            let answer = match ffi::commit_transaction(client, CALL) {
                Ok(()) => {
                    self.seat().answered();
                    self.calls.shared.leave_open(OpenTransaction::Nothing);
                    return Some(KafkaEvent::Moved {
                        write,
                        took: self.took(),
                    });
                }
                Err(answer) => answer,
            };
            match commit_step(&answer) {
                CommitStep::Again => {
                    serve(self.calls.producer);
                    thread::sleep(BREATH);
                    self.calls
                        .shared
                        .unreachable(format!("a move cannot be committed: {}", answer.text));
                }
                CommitStep::Unsure => return Some(self.fatal(&answer.text, Some(answer.code))),
            }
        }
    }

    fn fatal(&self, why: &str, code: Option<RDKafkaErrorCode>) -> KafkaEvent {
        let underlying = self
            .calls
            .producer
            .client()
            .fatal_error()
            .map(|(code, _)| code);
        fenced(self.calls.shared, underlying.or(code));
        KafkaEvent::MoveUnsure {
            write: self.order.write,
            took: self.took(),
            why: why.to_owned(),
        }
    }

    fn seat(&self) -> &Seat {
        self.calls.producer.seat
    }
}

/// What follows an answer to `commit_transaction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CommitStep {
    Again,
    Unsure,
}

fn commit_step(answer: &TransactionError) -> CommitStep {
    match answer.retriable && !answer.fatal && !answer.abortable {
        true => CommitStep::Again,
        false => CommitStep::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_called_again_or_unsure_and_never_aborted() {
        for (retriable, abortable, fatal, step) in [
            (true, false, false, CommitStep::Again),
            (false, true, false, CommitStep::Unsure),
            (false, false, true, CommitStep::Unsure),
            (true, true, false, CommitStep::Unsure),
            (false, false, false, CommitStep::Unsure),
        ] {
            let answer = TransactionError {
                code: RDKafkaErrorCode::OperationTimedOut,
                retriable,
                abortable,
                fatal,
                text: String::new(),
            };
            assert_eq!(commit_step(&answer), step, "{answer:?}");
        }
    }
}
