//! What all transactions of a life do, and why one ends early. Decides nothing.
//! Runs on the mover's thread.

use super::KafkaEvent;
use super::convert;
use super::life::Shared;
use super::mover::{BREATH, CALL, Seated, serve};
use super::settings::TRANSACTION_SOCKET;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use std::thread;
use std::time::Duration;

/// `message.timeout.ms`, which librdkafka takes from the transaction's timeout.
const MESSAGE_MAX: Duration = Duration::from_secs(10);

/// What one call that adds offsets may take while the group's coordinator answers:
/// its own limit bounds only the first of its requests; finding the coordinator
/// and the offsets themselves may each meet a frozen broker, and what waits for a
/// connection to go does so for as long.
const OFFSETS_CALL: Duration = CALL.saturating_add(TRANSACTION_SOCKET.saturating_mul(3));

/// librdkafka's answer, where the error is one of a transactional call.
pub fn transaction_error(error: &KafkaError) -> Option<&RDKafkaError> {
    match error {
        KafkaError::Transaction(answer) => Some(answer),
        _ => None,
    }
}

/// Reports that another took the producer's id, where the code says so.
pub fn fenced(shared: &Shared, code: Option<RDKafkaErrorCode>) {
    if code.is_some_and(convert::is_producer_fenced) {
        shared.report(KafkaEvent::ProducerFenced);
    }
}

/// Why a transaction does not go on to its commit.
pub enum Stop {
    /// Abort: a rebalance, or something else that is over with the abort.
    Refused(String),
    /// Abort: something in it is too large.
    TooLarge,
    /// The producer is of no further use.
    Fatal(String, Option<RDKafkaErrorCode>),
    /// The life ends.
    LifeEnds,
}

impl From<KafkaError> for Stop {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        match transaction_error(&error) {
            Some(answer) if answer.is_fatal() => Self::Fatal(error.to_string(), code),
            _ if code.is_some_and(convert::is_too_large) => Self::TooLarge,
            _ if code == Some(RDKafkaErrorCode::Fatal) => Self::Fatal(error.to_string(), code),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// What every transaction does.
#[derive(Clone, Copy)]
pub struct Calls<'a> {
    /// The life.
    pub shared: &'a Shared,
    /// Its producer.
    pub producer: &'a Seated<'a>,
}

impl Calls<'_> {
    /// Begins one. Errors: the producer is of no further use.
    pub fn begin(&self) -> Result<(), Stop> {
        let seat = self.producer.seat;
        seat.begin("begin_transaction", Duration::ZERO);
        self.producer
            .begin_transaction()
            .map_err(|error| Stop::Fatal(error.to_string(), error.rdkafka_error_code()))
    }

    /// Offsets are added next, with one call that gets [`CALL`].
    pub fn begin_offsets(&self) {
        self.producer
            .seat
            .begin_for_coordinator("send_offsets_to_transaction", OFFSETS_CALL);
    }

    /// Hands a record to the producer. Errors: those of librdkafka, but for a
    /// full queue, which is waited for.
    pub fn send(&self, mut wire: BaseRecord<'_, [u8], [u8]>) -> Result<(), Stop> {
        while let Err((error, back)) = self.producer.send(wire) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            self.go_on()?;
            self.producer.poll(Duration::from_millis(1));
            wire = back;
        }
        Ok(())
    }

    /// Sends what `send` sends and takes all delivery reports: commit waits
    /// 100 ms for each that is left, and an abort for those that nobody takes.
    pub fn produce_all(&self, send: impl FnOnce() -> Result<(), Stop>) -> Result<(), Stop> {
        self.producer.seat.begin("produce", MESSAGE_MAX);
        let sent = send();
        let drained = self.take_reports();
        let failed = self.producer.context().take_failed();
        sent?;
        drained?;
        match failed {
            Some(code) => Err(Stop::from(KafkaError::MessageProduction(code))),
            None => Ok(()),
        }
    }

    fn take_reports(&self) -> Result<(), Stop> {
        while self.producer.in_flight_count() > 0 {
            self.go_on()?;
            self.producer.poll(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Aborts. Errors: the producer is of no further use, or the life ends.
    pub fn abort(&self) -> Result<(), Stop> {
        loop {
            self.go_on()?;
            self.producer.seat.begin("abort_transaction", CALL);
            let aborted = self.producer.abort_transaction(CALL);
            serve(self.producer);
            let Err(error) = aborted else {
                // Reports of what the abort itself took back.
                self.producer.context().take_failed();
                return Ok(());
            };
            if !transaction_error(&error).is_some_and(RDKafkaError::is_retriable) {
                return Err(Stop::Fatal(error.to_string(), error.rdkafka_error_code()));
            }
            thread::sleep(BREATH);
            self.shared
                .unreachable(format!("a transaction cannot be aborted: {error}"));
        }
    }

    /// Errors: the life ends.
    pub fn go_on(&self) -> Result<(), Stop> {
        match self.shared.is_alive() {
            true => Ok(()),
            false => Err(Stop::LifeEnds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_before_the_commit_ends_in_an_abort_unless_it_says_more() {
        let stop = |code| Stop::from(KafkaError::MessageProduction(code));
        assert!(matches!(
            stop(RDKafkaErrorCode::MessageSizeTooLarge),
            Stop::TooLarge
        ));
        assert!(matches!(
            stop(RDKafkaErrorCode::MessageTimedOut),
            Stop::Refused(_)
        ));
        assert!(matches!(
            stop(RDKafkaErrorCode::Fatal),
            Stop::Fatal(_, Some(RDKafkaErrorCode::Fatal))
        ));
    }
}
