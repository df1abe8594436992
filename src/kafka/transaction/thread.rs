//! The transaction thread: finds the topics, starts a producer, then runs one
//! move at a time. Decides nothing about records.

use super::clearing;
use super::moves::{AfterMove, Move};
use super::producer::{RETRY_AFTER, Stop, TimedProducer, transaction_error};
use super::topics;
use crate::kafka::call_monitor::CallTimer;
use crate::kafka::group::metadata::GroupMetadata;
use crate::kafka::inbox::{ConsumerInbox, ToConsumer, ToTransaction};
use crate::kafka::session_state::SessionState;
use crate::model::message::{
    BrokerHealth, KafkaEvent, MoveRequest, OpenTransaction, ProducerStart, SessionStart,
};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The limits of `init_transactions` for the first producers of a session.
const FIRST_INIT_LIMITS: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(1_000),
];
/// The limit of each later call: shorter than the lease of a reservation.
const INIT_LIMIT: Duration = Duration::from_secs(1);
/// The coordinator ends the last transaction within this time, unless a partition of it
/// has too few replicas in sync.
const ENDS_MAX: Duration = Duration::from_secs(5);
/// The limit of a call after that, and the pause between two. Moves that come during a
/// call hold their partitions; those that come in the pause are refused at once.
const ENDS_LIMIT: Duration = Duration::from_millis(300);
const ENDS_PAUSE: Duration = Duration::from_secs(2);
/// The pause before a new producer is made.
const NEW_PRODUCER_AFTER: Duration = Duration::from_secs(1);
/// While no move is requested, the producer's log lines are served this often.
const IDLE: Duration = Duration::from_millis(100);

/// State that the transaction thread needs of its session.
pub struct TransactionShared {
    pub state: Arc<SessionState>,
    pub consumer: Arc<ConsumerInbox>,
    pub metadata: Arc<GroupMetadata>,
}

/// Connects, then runs moves until the session ends.
pub fn run(
    shared: &TransactionShared,
    start: SessionStart,
    requests: &Receiver<ToTransaction>,
    timer: &CallTimer,
) {
    let state = &shared.state;
    let Some(first) = TimedProducer::make(state, timer) else {
        return;
    };
    let Some(found) = topics::find(&first, start.topics) else {
        return;
    };
    // The consumer joins the group while the producer starts. Joining fences an
    // earlier process of this name, which might still add to its transaction.
    // Committed offsets in that transaction cannot be read before it has ended;
    // all others can.
    let subscribe = ToConsumer::Subscribe {
        topics: found.subscription,
        partitions: found.partitions,
    };
    shared.consumer.send(subscribe);
    drop(found.admin);
    let mut start = start.producer;
    if state.had_broker_fault() {
        // It came after the start was decided, while the topics were looked for.
        start.brokers = BrokerHealth::RecentFault;
    }
    let Some(mut producer) = connect(first, &start, requests) else {
        return;
    };
    loop {
        if clearing::can_close(state) {
            match renew(producer, &after_fault(OpenTransaction::Nothing), requests) {
                Some(made) => producer = made,
                None => return,
            }
        }
        timer.start("wait for moves", IDLE);
        let request = match requests.recv_timeout(IDLE) {
            Ok(ToTransaction::Move(request)) => request,
            Ok(ToTransaction::RenewProducer(start)) => {
                match renew(producer, &start, requests) {
                    Some(made) => producer = made,
                    None => return,
                }
                continue;
            }
            Ok(ToTransaction::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                producer.serve();
                continue;
            }
        };
        let Some((made, event)) = run_move(shared, producer, &request, requests) else {
            return;
        };
        producer = made;
        let unsure = matches!(event, KafkaEvent::MoveUnsure { .. });
        state.report(event);
        if unsure {
            // The runner drops this session. A new producer of this session
            // would fence the producer of the next session.
            return wait_for_end(requests, timer);
        }
    }
}

/// Runs a move. Returns its event and the producer that is used from now on, or `None`
/// when the session ends.
fn run_move<'a>(
    shared: &TransactionShared,
    producer: TimedProducer<'a>,
    request: &MoveRequest,
    requests: &Receiver<ToTransaction>,
) -> Option<(TimedProducer<'a>, KafkaEvent)> {
    let metadata = shared.metadata.get(request.generation);
    let ended = Move::new(&producer, request).run(metadata.as_deref())?;
    let producer = match ended.after {
        AfterMove::Keep => producer,
        AfterMove::Renew => {
            let topics = request.records.iter().map(|record| record.to);
            let clear = OpenTransaction::Records(topics.collect());
            renew(producer, &after_fault(clear), requests)?
        }
    };
    Some((producer, ended.event))
}

fn after_fault(clear: OpenTransaction) -> ProducerStart {
    ProducerStart {
        clear,
        brokers: BrokerHealth::RecentFault,
    }
}

/// Replaces the producer.
fn renew<'a>(
    producer: TimedProducer<'a>,
    start: &ProducerStart,
    requests: &Receiver<ToTransaction>,
) -> Option<TimedProducer<'a>> {
    let (state, timer) = (producer.state, producer.timer);
    drop(producer);
    connect(TimedProducer::make(state, timer)?, start, requests)
}

fn wait_for_end(requests: &Receiver<ToTransaction>, timer: &CallTimer) {
    loop {
        timer.start("wait for the session's end", IDLE);
        match requests.recv_timeout(IDLE) {
            Ok(ToTransaction::End) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Returns a producer with initialised transactions, after it has cleared an open
/// transaction. Returns `None` when the session ends first.
///
/// librdkafka requests its producer id at once, and then every 500 ms. The
/// coordinator refuses while it ends the earlier transaction, which takes some
/// 100 ms. So each of the first producers gets little time: the next producer's
/// first request comes sooner than this producer's second one. Measured with
/// kill -9 in the middle of a transaction: the first POST then comes 0.3 to 0.5 s
/// after the restart. With one producer it comes after 0.6 to 1.1 s.
fn connect<'a>(
    first: TimedProducer<'a>,
    start: &ProducerStart,
    requests: &Receiver<ToTransaction>,
) -> Option<TimedProducer<'a>> {
    let (state, timer) = (first.state, first.timer);
    // A dropped producer may still send its request, and fence the next one.
    // While the brokers are slow, that could repeat without end.
    let first_limits = match start.brokers {
        BrokerHealth::RecentFault => &[][..],
        BrokerHealth::Good => &FIRST_INIT_LIMITS[..],
    };
    let mut limits = first_limits.iter().copied();
    let mut producer = first;
    while state.is_alive() {
        match initialise(&producer, limits.next(), requests) {
            Initialised::Yes => match clear(&producer, &start.clear) {
                Cleared::Yes => return Some(producer),
                Cleared::Slowly => {
                    return refuse_pending(state, requests).then_some(producer);
                }
                Cleared::No => thread::sleep(NEW_PRODUCER_AFTER),
            },
            Initialised::TooSlow => {}
            Initialised::No => thread::sleep(NEW_PRODUCER_AFTER),
        }
        if !refuse_pending(state, requests) {
            return None;
        }
        drop(producer);
        producer = TimedProducer::make(state, timer)?;
    }
    None
}

/// Refuses pending moves: their reservations would lose their lease while they
/// wait. Returns whether the session continues.
fn refuse_pending(state: &SessionState, requests: &Receiver<ToTransaction>) -> bool {
    for request in requests.try_iter() {
        match request {
            ToTransaction::Move(MoveRequest { write, .. }) => {
                let why = "transactions are not initialised yet".to_owned();
                state.report(KafkaEvent::MoveNotStarted { write, why });
            }
            // The producer is new already.
            ToTransaction::RenewProducer(_) => {}
            ToTransaction::End => return false,
        }
    }
    true
}

/// Refuses all moves that come in this time. Returns whether the session continues.
fn refuse_for(pause: Duration, state: &SessionState, requests: &Receiver<ToTransaction>) -> bool {
    let until = state.now() + pause;
    loop {
        if !refuse_pending(state, requests) || !state.is_alive() {
            return false;
        }
        thread::sleep(RETRY_AFTER);
        if state.now() >= until {
            return true;
        }
    }
}

enum Initialised {
    Yes,
    /// Not within the limit: another producer may be faster.
    TooSlow,
    /// The producer cannot be used.
    No,
}

/// Initialises transactions within the limit. Without a limit, repeats the call
/// until it answers.
fn initialise(
    producer: &TimedProducer<'_>,
    limit: Option<Duration>,
    requests: &Receiver<ToTransaction>,
) -> Initialised {
    let state = producer.state;
    let (started, mut told) = (state.now(), false);
    while state.is_alive() {
        let longest = if told { ENDS_LIMIT } else { INIT_LIMIT };
        let Err(error) = producer.init(limit.unwrap_or(longest)) else {
            return Initialised::Yes;
        };
        match transaction_error(&error) {
            Some(answer) if answer.is_retriable() => {
                if limit.is_some() {
                    return Initialised::TooSlow;
                }
                // The coordinator answers: it still ends this name's last transaction.
                let code = error.rdkafka_error_code();
                let ends = told || code == Some(Code::ConcurrentTransactions);
                if !ends {
                    state.unreachable(format!("transactions cannot be initialised: {answer}"));
                } else if !told && state.now() >= started + ENDS_MAX {
                    told = true;
                    producer.warn_not_ended();
                }
                let pause = if told { ENDS_PAUSE } else { RETRY_AFTER };
                if !refuse_for(pause, state, requests) {
                    return Initialised::No;
                }
            }
            _ => {
                let code = error.rdkafka_error_code();
                producer.report_fenced(code);
                let mut why = format!("transactions cannot be initialised: {error}");
                if code == Some(Code::TransactionalIdAuthorizationFailed) {
                    let id = state.settings.transactional_id();
                    why += &format!(": allow WRITE on the transactional id '{id}'");
                }
                state.waiting(why);
                return Initialised::No;
            }
        }
    }
    Initialised::No
}

/// The result of clearing an open transaction.
enum Cleared {
    Yes,
    /// The reservations of pending moves have lost their lease.
    Slowly,
    No,
}

fn clear(producer: &TimedProducer<'_>, open: &OpenTransaction) -> Cleared {
    let state = producer.state;
    let started = state.now();
    let why = match clearing::clear(producer, open) {
        Ok(()) if state.now().saturating_sub(started) < INIT_LIMIT => return Cleared::Yes,
        Ok(()) => return Cleared::Slowly,
        Err(Stop::SessionEnded) => return Cleared::No,
        Err(Stop::TooLarge) => "a record without a value is too large".to_owned(),
        Err(Stop::Stuck) => "a leader does not answer".to_owned(),
        Err(Stop::Refused(why) | Stop::Destinations(_, why)) => why,
        Err(Stop::NotDelivered(reports)) => format!("records were not delivered: {reports:?}"),
        Err(Stop::Fatal(why, code)) => {
            producer.report_fenced(code);
            why
        }
    };
    state.waiting(format!("an open transaction cannot be ended yet: {why}"));
    Cleared::No
}
