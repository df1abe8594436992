//! What each thread of the Kafka side is doing, and for how long, so that one
//! that does not come back is found. Finds it; never ends anything. Written by
//! the threads of all lives, looked at by the watchdog.
//!
//! A thread is charged only for time in which the brokers answer others, so an
//! outage of any length charges nothing, and what waits for the group's
//! coordinator only for time in which that one does; and for at most
//! [`LOOK_EVERY`] at each look, so that a process that was stopped finds nothing
//! hung when it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What any call, also one that should not wait at all, gets beyond its own limit.
pub const SLACK: Duration = Duration::from_secs(15);
/// The own limit of closing a client: librdkafka waits for what is under way on
/// the network, which ends with the socket timeout, and for name look-ups.
pub const CLOSE: Duration = Duration::from_secs(30);
/// The own limit of a client that should answer every second: after this, and
/// the slack, in which the brokers answer others, it is of no more use.
pub const CLIENT_MAX: Duration = Duration::from_secs(30);
/// How long an answer shows that the brokers answer: log bounds come every
/// second, the probe's answers too.
const FRESH: Duration = Duration::from_secs(3);
/// What a thread does for longer than this is asked about: do the brokers
/// answer others?
const SUSPECT: Duration = Duration::from_secs(4);

/// All seats.
pub struct Board {
    now: fn() -> Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seats: BTreeMap<u64, Held>,
    last_seat: u64,
    answered: Option<Duration>,
    coordinator_answered: Option<Duration>,
    looked: Duration,
}

struct Held {
    life: u64,
    thread: &'static str,
    doing: &'static str,
    since: Duration,
    bound: Duration,
    charged: Duration,
    /// It waits for the group's coordinator.
    for_coordinator: bool,
    left_behind: bool,
    /// It stands for a client and not for a thread: nothing of it can hang.
    is_client: bool,
}

/// A thread that does not come back although the brokers answer others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hung {
    /// The thread's name.
    pub thread: &'static str,
    /// What it is doing.
    pub doing: &'static str,
    /// For how long by the clock.
    pub lasted: Duration,
    /// What it was allowed of the time in which the brokers answer.
    pub bound: Duration,
    /// Its life was given up already.
    pub left_behind: bool,
}

impl fmt::Display for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (thread, doing) = (self.thread, self.doing);
        let (lasted, bound) = (self.lasted.as_secs(), self.bound.as_secs());
        write!(
            f,
            "thread {thread} has not come back from '{doing}' for {lasted} s, although the brokers \
             answered others for more than the {bound} s that it may take"
        )
    }
}

impl Board {
    /// A board without seats.
    pub fn new(now: fn() -> Duration) -> Self {
        Self {
            now,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a thread of this life, from before the thread is spawned.
    pub fn seat(self: &Arc<Self>, life: u64, thread: &'static str) -> Seat {
        self.take(life, thread, false)
    }

    /// A seat for a client of this life, which owes answers. It is never hung:
    /// who asks it looks at [`Seat::is_overdue`].
    pub fn client(self: &Arc<Self>, life: u64, client: &'static str) -> Seat {
        self.take(life, client, true)
    }

    fn take(self: &Arc<Self>, life: u64, thread: &'static str, is_client: bool) -> Seat {
        let now = (self.now)();
        let mut state = self.lock();
        state.last_seat += 1;
        let id = state.last_seat;
        let held = Held {
            life,
            thread,
            doing: "start",
            since: now,
            bound: SLACK,
            charged: Duration::ZERO,
            for_coordinator: false,
            left_behind: false,
            is_client,
        };
        state.seats.insert(id, held);
        Seat {
            board: Arc::clone(self),
            id,
        }
    }

    /// The brokers have answered somebody just now.
    pub fn answered(&self) {
        let now = (self.now)();
        self.lock().answered = Some(now);
    }

    /// The group's coordinator has answered somebody just now.
    pub fn coordinator_answered(&self) {
        let now = (self.now)();
        self.lock().coordinator_answered = Some(now);
    }

    /// This life was given up: its threads are to end.
    pub fn leave_behind(&self, life: u64) {
        let mut state = self.lock();
        for held in state.seats.values_mut().filter(|held| held.life == life) {
            held.left_behind = true;
        }
    }

    /// Lives that were given up and whose threads have not all ended.
    pub fn lives_left_behind(&self) -> usize {
        let state = self.lock();
        let left = state.seats.values().filter(|held| held.left_behind);
        left.map(|held| held.life).collect::<BTreeSet<u64>>().len()
    }

    /// Whether something takes long enough to ask whether the brokers answer.
    pub fn is_suspect(&self) -> bool {
        let now = (self.now)();
        let state = self.lock();
        let mut seats = state.seats.values();
        seats.any(|held| now.saturating_sub(held.since) >= SUSPECT)
    }

    /// Charges the time since the last look, and returns a seat that has used
    /// up what it may take. To be called every [`LOOK_EVERY`].
    pub fn look(&self) -> Option<Hung> {
        let now = (self.now)();
        let mut state = self.lock();
        let passed = now.saturating_sub(state.looked).min(LOOK_EVERY);
        state.looked = now;
        let is_fresh = |answered: Option<Duration>| {
            answered.is_some_and(|answered| now.saturating_sub(answered) <= FRESH)
        };
        if !is_fresh(state.answered) {
            return None;
        }
        let coordinated = is_fresh(state.coordinator_answered);
        let mut hung = None;
        for held in state.seats.values_mut() {
            if held.for_coordinator && !coordinated {
                continue;
            }
            held.charged += passed;
            if held.charged > held.bound && !held.is_client {
                hung.get_or_insert(Hung {
                    thread: held.thread,
                    doing: held.doing,
                    lasted: now.saturating_sub(held.since),
                    bound: held.bound,
                    left_behind: held.left_behind,
                });
            }
        }
        hung
    }
}

/// A thread's place on the board, until it is dropped.
pub struct Seat {
    board: Arc<Board>,
    id: u64,
}

impl Seat {
    /// The thread begins something that ends within `own_limit` by itself.
    pub fn begin(&self, doing: &'static str, own_limit: Duration) {
        self.hold(doing, own_limit, false);
    }

    /// It begins something that ends within `own_limit` by itself once the
    /// group's coordinator answers.
    pub fn begin_for_coordinator(&self, doing: &'static str, own_limit: Duration) {
        self.hold(doing, own_limit, true);
    }

    fn hold(&self, doing: &'static str, own_limit: Duration, for_coordinator: bool) {
        let now = (self.board.now)();
        let mut state = self.board.lock();
        if let Some(held) = state.seats.get_mut(&self.id) {
            held.doing = doing;
            held.since = now;
            held.bound = own_limit + SLACK;
            held.charged = Duration::ZERO;
            held.for_coordinator = for_coordinator;
        }
    }

    /// Whether what was begun has used up its time.
    pub fn is_overdue(&self) -> bool {
        let state = self.board.lock();
        let held = state.seats.get(&self.id);
        held.is_some_and(|held| held.charged > held.bound)
    }

    /// The brokers have answered this thread.
    pub fn answered(&self) {
        self.board.answered();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.board.lock().seats.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    const CALL: Duration = Duration::from_secs(5);

    fn board() -> Arc<Board> {
        NOW.set(Duration::from_secs(1_000));
        Arc::new(Board::new(|| NOW.get()))
    }

    /// Looks for this long; what is found hung first, and after how long.
    fn watch(board: &Board, span: Duration, answering: bool) -> Option<(Hung, Duration)> {
        let began = NOW.get();
        while NOW.get() - began < span {
            NOW.set(NOW.get() + LOOK_EVERY);
            if answering {
                board.answered();
            }
            if let Some(hung) = board.look() {
                return Some((hung, NOW.get() - began));
            }
        }
        None
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_call_that_does_not_return_is_found_once_the_brokers_answer_others() {
        let board = board();
        let (moving, polling) = (board.seat(1, "kafka-move"), board.seat(1, "kafka-consumer"));
        moving.begin("commit_transaction", CALL);
        polling.begin("poll", HOUR);
        let (hung, after) = watch(&board, HOUR, true).expect("hung");
        assert_eq!(
            (hung.thread, hung.doing),
            ("kafka-move", "commit_transaction")
        );
        assert!(after > CALL + SLACK && after < CALL + SLACK + 2 * LOOK_EVERY);
        assert_eq!(hung.lasted, after);
    }

    #[test]
    fn an_outage_of_any_length_finds_nothing_and_what_hangs_is_found_after_it() {
        let board = board();
        let seat = board.seat(1, "kafka-move");
        seat.begin("commit_transaction", CALL);
        assert!(watch(&board, Duration::from_secs(10), true).is_none());
        assert!(watch(&board, 100 * HOUR, false).is_none());
        let (_, after) = watch(&board, HOUR, true).expect("hung");
        assert!(
            after < CALL + SLACK,
            "what was charged before the outage counts"
        );
    }

    #[test]
    fn what_waits_for_the_coordinator_is_charged_only_while_that_one_answers() {
        let board = board();
        let seat = board.seat(1, "kafka-move");
        seat.begin_for_coordinator("send_offsets_to_transaction", CALL);
        assert!(watch(&board, HOUR, true).is_none());
        let began = NOW.get();
        let hung = loop {
            board.coordinator_answered();
            if let Some((hung, _)) = watch(&board, LOOK_EVERY, true) {
                break hung;
            }
        };
        assert_eq!(hung.doing, "send_offsets_to_transaction");
        assert!(NOW.get() - began > CALL + SLACK);
        // What follows in the same seat waits for any broker.
        seat.begin("commit_transaction", CALL);
        assert!(watch(&board, HOUR, true).is_some());
    }

    #[test]
    fn calls_that_return_are_never_hung() {
        let board = board();
        let seat = board.seat(1, "kafka-move");
        for _ in 0..100 {
            seat.begin("commit_transaction", CALL);
            assert!(watch(&board, CALL + SLACK, true).is_none());
        }
        drop(seat);
        assert!(watch(&board, HOUR, true).is_none());
    }

    #[test]
    fn a_process_that_was_stopped_is_not_charged_for_it() {
        let board = board();
        let seat = board.seat(1, "kafka-consumer");
        seat.begin("poll", Duration::ZERO);
        assert!(watch(&board, Duration::from_secs(5), true).is_none());
        NOW.set(NOW.get() + HOUR);
        assert!(watch(&board, Duration::from_secs(9), true).is_none());
    }

    #[test]
    fn lives_left_behind_are_counted_until_their_threads_end() {
        let board = board();
        let seats = [1, 1, 2, 3].map(|life| board.seat(life, "kafka-move"));
        assert_eq!(board.lives_left_behind(), 0);
        board.leave_behind(1);
        board.leave_behind(2);
        assert_eq!(board.lives_left_behind(), 2);
        let [first, second, third, _fourth] = seats;
        drop(first);
        assert_eq!(board.lives_left_behind(), 2);
        drop((second, third));
        assert_eq!(board.lives_left_behind(), 0);
    }

    #[test]
    fn a_client_that_owes_an_answer_is_overdue_and_never_hung() {
        let board = board();
        let client = board.client(1, "consumer");
        client.begin("answer", CALL);
        assert!(watch(&board, CALL + SLACK, true).is_none());
        assert!(!client.is_overdue());
        assert!(watch(&board, HOUR, true).is_none());
        assert!(client.is_overdue());
        client.begin("answer", CALL);
        assert!(!client.is_overdue());
    }

    #[test]
    fn only_what_takes_long_is_worth_a_question_to_the_brokers() {
        let board = board();
        let seat = board.seat(1, "kafka-read");
        assert!(!board.is_suspect());
        NOW.set(NOW.get() + SUSPECT);
        assert!(board.is_suspect());
        seat.begin("log bounds", Duration::ZERO);
        assert!(!board.is_suspect());
    }
}
