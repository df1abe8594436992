//! The transactional calls: finds the topics, then runs one move at a time.
//! Decides nothing. Runs on a thread of its own, because librdkafka can hang
//! there (librdkafka#5456, #5511).

use super::admin::{self, Admin};
use super::board::{CLIENT_MAX, CLOSE, Seat};
use super::calls::{Calls, Stop, fenced, transaction_error};
use super::clearing;
use super::context::{MoveContext, Producer};
use super::life::{ConsumerNote, MoverNote, Shared};
use super::transaction::Transaction;
use super::{KafkaEvent, check};
use crate::model::message::{MoveRequest, OpenTransaction};
use crate::model::position::Topic;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::producer::{BaseProducer, Producer as _};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// For one call of librdkafka; what has not answered by then is called again.
pub const CALL: Duration = Duration::from_secs(5);
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
/// Between two tries of what cannot be done yet.
const PAUSE: Duration = Duration::from_secs(1);
/// While nothing is to be moved, the producer's log lines are served this often.
const IDLE: Duration = Duration::from_millis(100);
/// After a transaction slower than this, the next one has a new producer: an
/// offset commit delayed in the network could otherwise join it. So has the one
/// after an abort that may have left something open, for a new producer begins by
/// clearing that away.
const SLOW: Duration = Duration::from_secs(2);
/// Between two calls of what is to be called again.
pub const BREATH: Duration = Duration::from_millis(20);

/// A producer whose calls, its end among them, stand on the board.
pub struct Seated<'a> {
    producer: Producer,
    pub seat: &'a Seat,
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
        let unsure = matches!(report, KafkaEvent::MoveUnsure { .. });
        shared.report(report);
        if unsure {
            // The life is given up for it. A producer made in it would fence
            // the next life's.
            return until_end(notes, seat);
        }
        let slow = shared.now().saturating_sub(began) > SLOW;
        if slow || shared.left_open() != OpenTransaction::Nothing {
            drop(producer);
            let made = make(shared, seat).and_then(|made| connect(shared, made, notes));
            match made {
                Some(made) => producer = made,
                None => return,
            }
        }
    }
}

/// Waits for the life to be given up.
fn until_end(notes: &Receiver<MoverNote>, seat: &Seat) {
    loop {
        seat.begin("wait for the life's end", IDLE);
        match notes.recv_timeout(IDLE) {
            Ok(MoverNote::End) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(MoverNote::Move(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// A producer with its transactions initialised, which completes or ends what a
/// predecessor left open, and cleared. `None` when the life ends before.
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
            Initialised::Yes => match clear(shared, &producer) {
                Cleared::Yes => return Some(producer),
                Cleared::Slowly if refuse_waiting(shared, notes) => return Some(producer),
                Cleared::Slowly => return None,
                Cleared::No => thread::sleep(PAUSE),
            },
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
            shared.report(KafkaEvent::WrongSettings { why });
            None
        }
    }
}

/// Refuses moves that came too early: the reservations in them would lose their
/// lease while they wait. Returns whether the life goes on.
fn refuse_waiting(shared: &Shared, notes: &Receiver<MoverNote>) -> bool {
    for note in notes.try_iter() {
        match note {
            MoverNote::Move(MoveRequest { write, .. }) => {
                let why = "transactions are not initialised yet".to_owned();
                shared.report(KafkaEvent::MoveRefused {
                    write,
                    took: Duration::ZERO,
                    why,
                    open: OpenTransaction::Nothing,
                });
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

/// Whether what an earlier transaction left open was ended.
enum Cleared {
    Yes,
    /// The reservations in moves that wait have lost their lease.
    Slowly,
    No,
}

fn clear(shared: &Shared, producer: &Seated<'_>) -> Cleared {
    let open = shared.left_open();
    let began = shared.now();
    let why = match clearing::clear(Calls { shared, producer }, &open) {
        Ok(()) if shared.now().saturating_sub(began) < LATER_CALLS => return Cleared::Yes,
        Ok(()) => return Cleared::Slowly,
        Err(Stop::LifeEnds) => return Cleared::No,
        Err(Stop::TooLarge) => "a record without a value is too large".to_owned(),
        Err(Stop::Refused(why)) => why,
        Err(Stop::Fatal(why, code)) => {
            fenced(shared, code);
            why
        }
    };
    shared.waiting(format!(
        "what an earlier transaction left open cannot be cleared away: {why}"
    ));
    Cleared::No
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
            shared.report(KafkaEvent::WrongSettings {
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
pub fn serve(producer: &Seated<'_>) {
    producer.poll(Duration::ZERO);
    for _ in 0..1_000 {
        if producer.in_flight_count() == 0 {
            return;
        }
        producer.poll(Duration::ZERO);
    }
}
