//! The shell for Kafka: carries out what it is asked, reports what happens, and
//! decides nothing. A [`Session`] is one consumer with one transactional producer;
//! after an unclear outcome it is dropped and a new one started under the same
//! names, which is crash recovery inside the process.
//!
//! Threads of a life, spawned by the runner: `consumer` owns the consumer and
//! polls it; `committer` waits for offset commits; `mover` makes the
//! transactional calls, which may hang; `reader` reads committed maps and log
//! bounds, which may wait for another's transaction. Each has a seat on the
//! board, which the watchdog looks at.

pub mod admin;
mod board;
mod calls;
pub mod check;
mod clearing;
mod committer;
mod consumer;
mod context;
mod convert;
mod ffi;
mod life;
mod mover;
pub mod publish;
mod quiet;
mod reader;
pub mod settings;
pub mod topics;
mod transaction;
mod unowned;
mod wake;
mod watchdog;

use crate::model::message::OpenTransaction;
pub use crate::model::message::{KafkaEvent, KafkaRequest};
use crate::model::position::Generation;
use board::Board;
pub use ffi::end_process;
use life::{Senders, Shared};
use quiet::Quiet;
use settings::KafkaSettings;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What lives of one process share.
pub struct Sessions {
    board: Arc<Board>,
    lives: AtomicU64,
    generations: AtomicU64,
    quiet: Quiet,
    now: fn() -> Duration,
    /// The topics' settings were found good: a later life need not ask again.
    topics_fit: AtomicBool,
    /// When the brokers last did not answer us in time, in ms; never: 0.
    troubled_ms: AtomicU64,
    /// When our name in the group was taken. At most one for each life of a
    /// second, so 60.
    fenced_at: Mutex<VecDeque<Duration>>,
    /// What transactions may have left open.
    left_open: Mutex<OpenTransaction>,
}

/// How long after trouble with the brokers a fence may be our own doing: what
/// was sent before can arrive after the member joined anew under its name.
const TROUBLE: Duration = Duration::from_secs(60);
/// So many times within that it may be our own doing. Two processes of one name
/// take it from each other every second or two.
const FENCES_OF_OURS: usize = 3;

impl Sessions {
    /// Nothing happened yet. `now` is a monotonic clock.
    #[must_use]
    pub fn new(now: fn() -> Duration) -> Self {
        Self {
            board: Arc::new(Board::new(now)),
            lives: AtomicU64::new(0),
            generations: AtomicU64::new(0),
            quiet: Quiet::default(),
            now,
            topics_fit: AtomicBool::new(false),
            troubled_ms: AtomicU64::new(0),
            fenced_at: Mutex::default(),
            // A predecessor may have died in the middle of a transaction.
            left_open: Mutex::new(OpenTransaction::Offsets),
        }
    }

    /// Lives that were dropped and whose threads have not all ended yet.
    #[must_use]
    pub fn lives_left_behind(&self) -> usize {
        self.board.lives_left_behind()
    }

    /// A number that no other life had.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A generation that no other life had.
    pub(crate) fn next_generation(&self) -> Generation {
        Generation(self.generations.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Monotonic time.
    pub(crate) fn now(&self) -> Duration {
        (self.now)()
    }

    /// Notes that the brokers did not answer in time, or took us for dead.
    pub(crate) fn trouble(&self) {
        let ms = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        self.troubled_ms.store(ms.max(1), Ordering::Release);
    }

    /// Notes that our name in the group was taken; whether another process must
    /// have done it.
    pub(crate) fn is_namesake(&self) -> bool {
        let now = self.now();
        let mut fenced = self
            .fenced_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        fenced.push_back(now);
        fenced.retain(|at| now.saturating_sub(*at) < TROUBLE);
        fenced.len() > FENCES_OF_OURS || !self.was_troubled()
    }

    /// See [`Shared::left_open`].
    pub(crate) fn left_open(&self) -> MutexGuard<'_, OpenTransaction> {
        let left = self.left_open.lock();
        left.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was trouble with the brokers not long ago.
    pub(crate) fn was_troubled(&self) -> bool {
        let ms = self.troubled_ms.load(Ordering::Acquire);
        ms > 0 && self.now().saturating_sub(Duration::from_millis(ms)) < TROUBLE
    }

    /// Whether a kind of line may be said again, and how many were not.
    pub(crate) fn pass(&self, kind: &str) -> Option<u64> {
        self.quiet.pass(kind, self.now())
    }
}

/// One consumer with one producer. Dropping it ends the life without leaving
/// the group and without waiting; its reports cease.
pub struct Session {
    shared: Arc<Shared>,
}

impl Session {
    /// Asks for something. Never blocks.
    pub fn request(&self, request: KafkaRequest) {
        self.shared.request(request);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.abandon();
        self.shared.across.board.leave_behind(self.shared.life);
    }
}

/// A thread that the runner is to spawn.
pub struct Job {
    /// The thread's name.
    pub name: &'static str,
    /// What it runs.
    pub run: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Starts a life: returns at once; the jobs connect.
pub fn start(
    settings: Arc<KafkaSettings>,
    across: Arc<Sessions>,
    reports: impl Fn(KafkaEvent) + Send + Sync + 'static,
) -> (Session, Vec<Job>) {
    let (committer, to_commit) = channel();
    let (mover, to_move) = channel();
    let (reader, to_read) = channel();
    let senders = Senders {
        committer,
        mover,
        reader,
    };
    let shared = Arc::new(Shared::new(settings, across, senders, Box::new(reports)));
    let of = || Arc::clone(&shared);
    let (consuming, committing, moving, reading) = (of(), of(), of(), of());
    let seat = |name| shared.across.board.seat(shared.life, name);
    let seats = ["kafka-consumer", "kafka-commit", "kafka-move", "kafka-read"].map(seat);
    let [consumes, commits, moves, reads] = seats;
    // A seat is left after the thread's last use of the life, whose clients end
    // with the last of its threads.
    let jobs = vec![
        job("kafka-consumer", move || {
            consumer::run(consuming, &consumes);
        }),
        job("kafka-commit", move || {
            committer::run(committing, &to_commit, &commits);
        }),
        job("kafka-move", move || mover::run(moving, &to_move, &moves)),
        job("kafka-read", move || reader::run(reading, &to_read, &reads)),
    ];
    (Session { shared }, jobs)
}

/// The watchdog over all lives: ends with the last use of `across`. Where a call
/// hangs, one line says so, `tell` is called, and the process ends with this code
/// 2 s later at the latest, whatever its threads do.
pub fn watch(
    settings: Arc<KafkaSettings>,
    across: &Arc<Sessions>,
    exit_code: u8,
    tell: impl FnOnce() + Send + 'static,
) -> Vec<Job> {
    let (watched, asked) = (Arc::downgrade(across), Arc::downgrade(across));
    vec![
        job("kafka-watch", move || {
            watchdog::watch(&watched, tell, exit_code);
        }),
        job("kafka-probe", move || watchdog::probe(&settings, &asked)),
    ]
}

fn job(name: &'static str, run: impl FnOnce() + Send + 'static) -> Job {
    Job {
        name,
        run: Box::new(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOW_MS: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn trouble_is_remembered_for_a_minute() {
        let across = Sessions::new(|| Duration::from_millis(NOW_MS.load(Ordering::Relaxed)));
        assert!(!across.was_troubled());
        across.trouble();
        assert!(across.was_troubled());
        NOW_MS.store(59_000, Ordering::Relaxed);
        assert!(across.was_troubled());
        NOW_MS.store(60_002, Ordering::Relaxed);
        assert!(!across.was_troubled());
    }

    #[test]
    fn a_fence_is_a_namesakes_unless_trouble_explains_it_and_the_fourth_always_is() {
        let calm = Sessions::new(|| Duration::ZERO);
        assert!(calm.is_namesake());
        let troubled = Sessions::new(|| Duration::ZERO);
        troubled.trouble();
        assert_eq!(
            [(); 4].map(|()| troubled.is_namesake()),
            [false, false, false, true]
        );
    }
}
