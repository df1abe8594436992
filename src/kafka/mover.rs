//! The transactional calls: finds the topics, then runs one move at a time.
//! Decides nothing. Runs on a thread of its own, because librdkafka can hang
//! there (librdkafka#5456, #5511).
//!
//! Once commit was called, only commit is called again until it answers: the
//! marker may have been written and the answer lost, so that an abort or a
//! second try would fork the record into two budgets.

use super::admin::{self, Admin};
use super::board::{CLIENT_MAX, CLOSE, Seat};
use super::context::{MoveContext, Producer};
use super::ffi::{self, TransactionError};
use super::life::{ConsumerNote, MoverNote, Shared};
use super::{Report, check, convert};
use crate::model::position::Topic;
use crate::model::write::MoveOrder;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// For one call of librdkafka; what has not answered by then is called again.
const CALL: Duration = Duration::from_secs(5);
/// What the first producers of a life get for `init_transactions`.
const FIRST_CALLS: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(1_000),
];
/// What each further call gets: shorter than the lease of a reservation.
const LATER_CALLS: Duration = Duration::from_secs(1);
/// `message.timeout.ms`, which librdkafka takes from the transaction's timeout.
const MESSAGE_MAX: Duration = Duration::from_secs(10);
/// Between two tries of what cannot be done yet.
const PAUSE: Duration = Duration::from_secs(1);
/// While nothing is to be moved, the producer's log lines are served this often.
const IDLE: Duration = Duration::from_millis(100);
/// After a transaction slower than this, the next one has a new producer: an
/// offset commit delayed in the network could otherwise join it.
const SLOW: Duration = Duration::from_secs(2);
/// Between two calls of what is to be called again.
const BREATH: Duration = Duration::from_millis(20);
/// How long offsets may be tried for before the transaction is aborted.
const OFFSETS_MAX: Duration = Duration::from_secs(8);

/// A producer whose calls, its end among them, stand on the board.
struct Seated<'a> {
    producer: Producer,
    seat: &'a Seat,
}

impl Deref for Seated<'_> {
    type Target = Producer;

    fn deref(&self) -> &Producer {
        &self.producer
    }
}

impl Drop for Seated<'_> {
    /// The producer itself is dropped after this.
    fn drop(&mut self) {
        self.seat.begin("close", CLOSE);
    }
}

/// Connects, then moves what it is given until the life ends.
pub fn run(shared: Arc<Shared>, notes: &Receiver<MoverNote>, seat: &Seat) {
    move_all(&shared, notes, seat);
    // All clients of this thread were closed; the consumer's last use may end here.
    seat.begin("close", CLOSE);
    drop(shared);
}

fn move_all(shared: &Arc<Shared>, notes: &Receiver<MoverNote>, seat: &Seat) {
    let Some(first) = make(shared, seat) else {
        return;
    };
    let Some((topics, admin)) = find_topics(shared, &first) else {
        return;
    };
    // The group is joined meanwhile. Joining fences what the predecessor might
    // still add to its transaction; the committed offsets of the partitions
    // that are in it cannot be read before it has ended, the others' can.
    shared.note(ConsumerNote::Subscribe(topics));
    drop(admin);
    let Some(mut producer) = connect(shared, first, notes) else {
        return;
    };
    loop {
        seat.begin("wait for moves", IDLE);
        let order = match notes.recv_timeout(IDLE) {
            Ok(MoverNote::Move(order)) => order,
            Ok(MoverNote::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                serve(&producer);
                continue;
            }
        };
        let began = shared.now();
        let Some(report) = Transaction::new(shared, &producer, &order).run() else {
            return;
        };
        shared.report(report);
        if shared.now().saturating_sub(began) > SLOW {
            drop(producer);
            let made = make(shared, seat).and_then(|made| connect(shared, made, notes));
            match made {
                Some(made) => producer = made,
                None => return,
            }
        }
    }
}

/// A producer with its transactions initialised, which completes or ends what a
/// predecessor left open. `None` when the life ends before.
///
/// librdkafka asks for its producer id at once and then every 500 ms; the
/// coordinator refuses while it ends the predecessor's transaction; its answer
/// takes some 100 ms then. So the first few producers get little time each: the
/// next one's first request comes sooner than this one's second (measured, kill
/// -9 in the middle of a transaction: first POST 0.3 to 0.5 s after the restart
/// instead of 0.6 to 1.1).
fn connect<'a>(
    shared: &Arc<Shared>,
    first: Seated<'a>,
    notes: &Receiver<MoverNote>,
) -> Option<Seated<'a>> {
    let seat = first.seat;
    // A producer that was given up may still ask, and fence the one after it:
    // where the brokers are slow, that must not go on and on.
    let first_calls = match shared.across.was_troubled() {
        true => &[][..],
        false => &FIRST_CALLS[..],
    };
    let mut limits = first_calls.iter().copied();
    let mut producer = first;
    while shared.is_alive() {
        match initialise(shared, &producer, limits.next(), notes) {
            Initialised::Yes => return Some(producer),
            Initialised::TooSlow => {}
            Initialised::No => thread::sleep(PAUSE),
        }
        if !refuse_waiting(shared, notes) {
            return None;
        }
        drop(producer);
        producer = make(shared, seat)?;
    }
    None
}

/// A producer that cannot be used for transactions yet.
fn make<'a>(shared: &Arc<Shared>, seat: &'a Seat) -> Option<Seated<'a>> {
    seat.begin("make a producer", Duration::ZERO);
    let context = MoveContext::new(Arc::clone(shared));
    let config = shared.settings.producer_config();
    match BaseProducer::from_config_and_context(&config, context) {
        Ok(producer) => Some(Seated { producer, seat }),
        Err(error) => {
            let why = format!("cannot make a producer: {error}");
            shared.report(Report::WrongSettings { why });
            None
        }
    }
}

/// Refuses moves that came too early: the reservations in them would lose their
/// lease while they wait. Returns whether the life goes on.
fn refuse_waiting(shared: &Shared, notes: &Receiver<MoverNote>) -> bool {
    for note in notes.try_iter() {
        match note {
            MoverNote::Move(MoveOrder { write, .. }) => {
                let why = "transactions are not initialised yet".to_owned();
                shared.report(Report::MoveRefused { write, why });
            }
            MoverNote::End => return false,
        }
    }
    true
}

/// Whether a producer can be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Initialised {
    Yes,
    /// Not within the limit: another one may be faster.
    TooSlow,
    /// It is of no use.
    No,
}

/// Initialises transactions, within the limit or, where there is none, for as
/// long as it takes.
fn initialise(
    shared: &Shared,
    producer: &Seated<'_>,
    limit: Option<Duration>,
    notes: &Receiver<MoverNote>,
) -> Initialised {
    let limit_of_call = limit.unwrap_or(LATER_CALLS);
    while shared.is_alive() {
        producer.seat.begin("init_transactions", limit_of_call);
        let Err(error) = producer.init_transactions(limit_of_call) else {
            producer.seat.answered();
            return Initialised::Yes;
        };
        serve(producer);
        match transaction_error(&error) {
            Some(answer) if answer.is_retriable() => {
                if limit.is_some() {
                    return Initialised::TooSlow;
                }
                shared.unreachable(format!("transactions cannot be initialised: {answer}"));
                if !refuse_waiting(shared, notes) {
                    return Initialised::No;
                }
                thread::sleep(BREATH);
            }
            _ => {
                fenced(shared, error.rdkafka_error_code());
                shared.waiting(format!("transactions cannot be initialised: {error}"));
                return Initialised::No;
            }
        }
    }
    Initialised::No
}

/// The names to subscribe to: source and delay topics, also those that an older
/// schedule left over. Waits until all that are needed exist. `None` when the
/// life ends before, or must not go on.
fn find_topics(shared: &Shared, producer: &Seated<'_>) -> Option<(Vec<String>, Option<Admin>)> {
    let settings = &shared.settings;
    let client = shared.across.board.client(shared.life, "producer");
    client.begin("list topics", CLIENT_MAX);
    while shared.is_alive() {
        producer.seat.begin("list topics", CALL + PAUSE);
        serve(producer);
        let found = admin::existing(settings, producer.client(), CALL);
        let why = match found {
            Err(error) => format!("topics cannot be listed: {error}"),
            Ok(existing) => {
                client.begin("list topics", CLIENT_MAX);
                let missing: Vec<String> = settings
                    .needed_topics()
                    .into_iter()
                    .filter(|topic| !existing.contains_key(topic))
                    .map(|topic| settings.topics.name(topic))
                    .collect();
                let topics: Vec<Topic> = existing.keys().copied().collect();
                match missing.is_empty() {
                    false => format!("topics do not exist: {}", missing.join(", ")),
                    true => match topics_fit(shared, producer.seat, &topics) {
                        Fit::Yes(admin) => return Some((subscription(shared, &topics), admin)),
                        Fit::No => return None,
                        Fit::NotKnown(why) => why,
                    },
                }
            }
        };
        if client.is_overdue() {
            let why = "the producer's client answers nothing although the brokers do";
            shared.consumer_fault(why.to_owned());
            return None;
        }
        shared.waiting(why);
        thread::sleep(PAUSE);
    }
    None
}

fn subscription(shared: &Shared, topics: &[Topic]) -> Vec<String> {
    let read = topics.iter().filter(|topic| **topic != Topic::DeadLetter);
    read.map(|topic| shared.settings.topics.name(*topic))
        .collect()
}

enum Fit {
    Yes(Option<Admin>),
    No,
    NotKnown(String),
}

fn topics_fit(shared: &Shared, seat: &Seat, topics: &[Topic]) -> Fit {
    let found_good = &shared.across.topics_fit;
    if shared.settings.embedded || found_good.load(Ordering::Acquire) {
        return Fit::Yes(None);
    }
    seat.begin("read topic settings", admin::TIMEOUT);
    match check::wrong_topics(&shared.settings, topics) {
        Ok((wrong, admin)) if wrong.is_empty() => {
            found_good.store(true, Ordering::Release);
            Fit::Yes(Some(admin))
        }
        Ok((wrong, _)) => {
            shared.report(Report::WrongSettings {
                why: wrong.join("; "),
            });
            Fit::No
        }
        Err(error) if error.is_denied() => {
            tracing::warn!(%error, "topic settings are not checked: not allowed to read them");
            Fit::Yes(None)
        }
        Err(error) => Fit::NotKnown(format!("topic settings cannot be read: {error}")),
    }
}

/// Serves log lines and errors that wait in the producer's queue.
fn serve(producer: &Seated<'_>) {
    producer.poll(Duration::ZERO);
    for _ in 0..1_000 {
        if producer.in_flight_count() == 0 {
            return;
        }
        producer.poll(Duration::ZERO);
    }
}

fn transaction_error(error: &KafkaError) -> Option<&RDKafkaError> {
    match error {
        KafkaError::Transaction(answer) => Some(answer),
        _ => None,
    }
}

fn fenced(shared: &Shared, code: Option<RDKafkaErrorCode>) {
    if code.is_some_and(convert::is_producer_fenced) {
        shared.report(Report::ProducerFenced);
    }
}

/// Why a transaction does not go on to its commit.
enum Stop {
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

/// One transaction.
struct Transaction<'a> {
    shared: &'a Shared,
    producer: &'a Seated<'a>,
    order: &'a MoveOrder,
}

impl<'a> Transaction<'a> {
    fn new(shared: &'a Shared, producer: &'a Seated<'a>, order: &'a MoveOrder) -> Self {
        Self {
            shared,
            producer,
            order,
        }
    }

    /// Its report; `None` when the life ends.
    fn run(&self) -> Option<Report> {
        let write = self.order.write;
        let metadata = self.shared.group_metadata(self.order.generation);
        if metadata.is_none() && !self.order.snapshots.is_empty() {
            let why = "its generation is long over".to_owned();
            return Some(Report::MoveRefused { write, why });
        }
        self.seat().begin("begin_transaction", Duration::ZERO);
        if let Err(error) = self.producer.begin_transaction() {
            return Some(self.fatal(&error.to_string(), error.rdkafka_error_code()));
        }
        match self.fill(metadata.as_deref()) {
            Ok(()) => self.commit(),
            Err(Stop::Fatal(why, code)) => Some(self.fatal(&why, code)),
            Err(Stop::LifeEnds) => None,
            Err(Stop::Refused(why)) => self.abort(Report::MoveRefused { write, why }),
            Err(Stop::TooLarge) => self.abort(Report::MoveTooLarge { write }),
        }
    }

    fn fill(&self, metadata: Option<&ConsumerGroupMetadata>) -> Result<(), Stop> {
        self.seat().begin("produce", MESSAGE_MAX);
        let produced = self.produce();
        // Also before an abort: it would wait for reports that nobody takes.
        let drained = self.drain();
        let failed = self.producer.context().take_failed();
        produced?;
        drained?;
        if let Some(code) = failed {
            return Err(Stop::from(KafkaError::MessageProduction(code)));
        }
        match metadata {
            Some(metadata) if !self.order.snapshots.is_empty() => self.send_offsets(metadata),
            _ => Ok(()),
        }
    }

    fn produce(&self) -> Result<(), Stop> {
        for record in &self.order.records {
            let topic = self.shared.settings.topics.name(record.to);
            let mut wire = BaseRecord::<[u8], [u8]>::to(&topic);
            wire = wire.headers(convert::headers(&record.headers));
            if let Some(key) = &record.key {
                wire = wire.key(&key[..]);
            }
            if let Some(value) = &record.value {
                wire = wire.payload(&value[..]);
            }
            while let Err((error, back)) = self.producer.send(wire) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                self.go_on()?;
                self.producer.poll(Duration::from_millis(1));
                wire = back;
            }
        }
        Ok(())
    }

    /// Takes all delivery reports; commit waits 100 ms for each that is left.
    fn drain(&self) -> Result<(), Stop> {
        while self.producer.in_flight_count() > 0 {
            self.go_on()?;
            self.producer.poll(Duration::from_millis(1));
        }
        Ok(())
    }

    fn send_offsets(&self, metadata: &ConsumerGroupMetadata) -> Result<(), Stop> {
        let offsets = convert::snapshots(&self.shared.settings.topics, &self.order.snapshots)
            .map_err(|error| Stop::Refused(error.to_string()))?;
        let until = self.shared.now() + OFFSETS_MAX;
        loop {
            self.go_on()?;
            self.seat().begin("send_offsets_to_transaction", CALL);
            let sent = self
                .producer
                .send_offsets_to_transaction(&offsets, metadata, CALL);
            let Err(error) = sent else {
                return Ok(());
            };
            let again = transaction_error(&error)
                .is_some_and(|a| a.is_retriable() && !a.txn_requires_abort() && !a.is_fatal());
            if !again || self.shared.now() >= until {
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
    fn commit(&self) -> Option<Report> {
        let write = self.order.write;
        loop {
            if !self.shared.is_alive() {
                return None;
            }
            let client = self.producer.client().native_ptr();
            self.seat().begin("commit_transaction", CALL);
            let answer = match ffi::commit_transaction(client, CALL) {
                Ok(()) => {
                    self.seat().answered();
                    return Some(Report::Moved { write });
                }
                Err(answer) => answer,
            };
            match commit_step(&answer) {
                CommitStep::Again => {
                    serve(self.producer);
                    thread::sleep(BREATH);
                    self.shared
                        .unreachable(format!("a move cannot be committed: {}", answer.text));
                }
                CommitStep::Unsure => return Some(self.fatal(&answer.text, Some(answer.code))),
            }
        }
    }

    /// Aborts; then reports why. `None` when the life ends.
    fn abort(&self, why: Report) -> Option<Report> {
        loop {
            if !self.shared.is_alive() {
                return None;
            }
            self.seat().begin("abort_transaction", CALL);
            let error = match self.producer.abort_transaction(CALL) {
                Ok(()) => {
                    serve(self.producer);
                    // Reports of what the abort itself took back.
                    self.producer.context().take_failed();
                    return Some(why);
                }
                Err(error) => error,
            };
            serve(self.producer);
            if !transaction_error(&error).is_some_and(RDKafkaError::is_retriable) {
                return Some(self.fatal(&error.to_string(), error.rdkafka_error_code()));
            }
            thread::sleep(BREATH);
            self.shared
                .unreachable(format!("a move cannot be aborted: {error}"));
        }
    }

    fn fatal(&self, why: &str, code: Option<RDKafkaErrorCode>) -> Report {
        let underlying = self.producer.client().fatal_error().map(|(code, _)| code);
        fenced(self.shared, underlying.or(code));
        Report::MoveUnsure {
            write: self.order.write,
            why: why.to_owned(),
        }
    }

    fn seat(&self) -> &Seat {
        self.producer.seat
    }

    fn go_on(&self) -> Result<(), Stop> {
        match self.shared.is_alive() {
            true => Ok(()),
            false => Err(Stop::LifeEnds),
        }
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
