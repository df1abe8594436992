//! One Kafka session: one consumer with one transactional producer. Passes each
//! request on to the thread that serves it, and decides nothing. After an unclear
//! outcome the runner drops the session and starts a new one under the same
//! names: crash recovery inside the process.

use super::call_monitor::CallTimer;
use super::client::ffi;
use super::current::CurrentSettings;
use super::group::{self, GroupShared};
use super::inbox::{ConsumerInbox, Senders, ToCommitter, ToConsumer, ToReader, ToTransaction};
use super::session_state::SessionState;
use super::sessions::Sessions;
use super::settings::KafkaSettings;
use super::transaction::{self, TransactionShared};
use super::watchdog::{self, WatchdogEvent};
use crate::model::message::{KafkaEvent, KafkaRequest, SessionStart};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::channel;

pub use ffi::end_process;

/// One consumer with one producer. Dropping it ends the session without leaving
/// the group and without waiting. It then reports only broker faults and its end.
pub struct Session {
    state: Arc<SessionState>,
    consumer: Arc<ConsumerInbox>,
    senders: Senders,
}

impl Session {
    /// Passes a request on to the thread that serves it. Never blocks.
    pub fn request(&self, request: KafkaRequest) {
        let (state, senders) = (&self.state, &self.senders);
        match request {
            KafkaRequest::Consumer(request) => self.consumer.send(ToConsumer::Request(request)),
            KafkaRequest::Commit(request) => {
                state.check_sent(senders.committer.send(ToCommitter::Commit(request)));
            }
            KafkaRequest::Move(request) => {
                state.check_sent(senders.transaction.send(ToTransaction::Move(request)));
            }
            KafkaRequest::RenewProducer(start) => {
                state.check_sent(
                    senders
                        .transaction
                        .send(ToTransaction::RenewProducer(start)),
                );
            }
            KafkaRequest::FindUnassigned => {
                state.check_sent(senders.reader.send(ToReader::FindUnassigned));
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.state.end();
        self.senders.end();
        self.consumer.waker.wake();
    }
}

/// A thread that the runner must spawn.
pub struct Job {
    /// The thread's name.
    pub name: &'static str,
    pub run: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Reports that the session has ended, when its last thread drops this.
struct EndReport(Arc<dyn Fn(KafkaEvent) + Send + Sync>);

impl Drop for EndReport {
    fn drop(&mut self) {
        (self.0)(KafkaEvent::SessionEnded);
    }
}

/// Starts a session and returns at once. The session connects in its jobs.
pub fn start(
    settings: Arc<KafkaSettings>,
    sessions: Arc<Sessions>,
    start: SessionStart,
    events: impl Fn(KafkaEvent) + Send + Sync + 'static,
) -> (Session, Vec<Job>) {
    let events: Arc<dyn Fn(KafkaEvent) + Send + Sync> = Arc::new(events);
    let end = Arc::new(EndReport(Arc::clone(&events)));
    let (committer, to_commit) = channel();
    let (transaction, to_move) = channel();
    let (reader, to_read) = channel();
    let senders = Senders {
        committer,
        transaction,
        reader,
    };
    let state = Arc::new(SessionState::new(settings, sessions, events));
    let consumer = Arc::new(ConsumerInbox::default());
    let shared = Arc::new(GroupShared::new(
        Arc::clone(&state),
        Arc::clone(&consumer),
        senders.clone(),
    ));
    let moving = TransactionShared {
        state: Arc::clone(&state),
        consumer: Arc::clone(&consumer),
        metadata: Arc::clone(&shared.metadata),
    };
    let (consuming, committing, reading) = (Arc::clone(&shared), Arc::clone(&shared), shared);
    let calls = &state.sessions.calls;
    let job = |name, run: Box<dyn FnOnce(&CallTimer) + Send>| {
        let (timer, end) = (calls.thread(name), Arc::clone(&end));
        job(name, move || {
            // Drops all that the thread holds, then its timer, then its part of
            // the session's end.
            run(&timer);
            drop(timer);
            drop(end);
        })
    };
    let jobs = vec![
        job(
            "kafka-consumer",
            Box::new(move |timer| group::consumer::run(&consuming, timer)),
        ),
        job(
            "kafka-commit",
            Box::new(move |timer| group::committer::run(&committing, &to_commit, timer)),
        ),
        job(
            "kafka-move",
            Box::new(move |timer| transaction::thread::run(&moving, start, &to_move, timer)),
        ),
        job(
            "kafka-read",
            Box::new(move |timer| group::reader::run(&reading, &to_read, timer)),
        ),
    ];
    let session = Session {
        state,
        consumer,
        senders,
    };
    (session, jobs)
}

/// Returns the jobs of the watchdog over all sessions. They end after the last
/// use of `sessions`. When a call hangs, the watchdog logs and reports it. The
/// process then ends with this code within 2 s, whatever its threads do.
pub fn watch(
    settings: Arc<CurrentSettings>,
    sessions: &Arc<Sessions>,
    exit_code: u8,
    report: impl Fn(WatchdogEvent) + Send + 'static,
) -> Vec<Job> {
    let (watched, probed) = (Arc::downgrade(sessions), Arc::downgrade(sessions));
    vec![
        job("kafka-watch", move || {
            watchdog::watch(&watched, report, exit_code);
        }),
        job("kafka-probe", move || watchdog::probe(&settings, &probed)),
    ]
}

fn job(name: &'static str, run: impl FnOnce() + Send + 'static) -> Job {
    Job {
        name,
        run: Box::new(run),
    }
}
