//! The state of the service as the runner last wrote it, and the rules of health
//! and readiness. Never asks the service anything. The runner's task writes, the
//! thread of the operators' pages reads.

use crate::model::named_enum::named_enum;
use crate::model::overview::Overview;
use crate::model::position::{Partition, TopicNames};
use crate::model::time::UnixMillis;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum duration of one turn of the runner's loop. The loop wakes at least
/// once a second, so ten turns are missing by then.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(10);

/// How long the brokers may stay silent while the service is ready. They are
/// asked every second, with a second to answer.
const SILENT_MAX: Duration = Duration::from_secs(5);

named_enum! {
    /// The state of the service between its start and its end.
    pub(super) enum ServiceState {
        /// Not yet in the consumer group.
        Starting = "starting",
        /// In the group, with or without partitions.
        Running = "running",
        /// Restarting the Kafka session: not in the group.
        Readopting = "readopting",
        /// Shutting down.
        Draining = "draining",
    }
}

/// The state at one moment.
#[derive(Clone)]
pub(super) struct StatusSnapshot {
    pub(super) state: ServiceState,
    /// What the service waits for, such as a broker or a topic.
    waits_for: Option<Arc<str>>,
    pub(super) overview: Arc<Overview>,
    /// When the runner's loop last completed a turn.
    pub(super) turned_at: UnixMillis,
    /// When the brokers last answered where the logs end.
    answered_at: UnixMillis,
}

/// Facts that do not change while the service runs.
pub struct About {
    pub names: TopicNames,
    /// The name of this replica.
    pub instance: String,
    /// The consumer group.
    pub group: String,
    pub version: &'static str,
    pub started_at: UnixMillis,
}

/// The state that the runner writes and the pages read. The lock is held only to
/// replace or copy a few words.
pub struct Status {
    pub(super) about: About,
    snapshot: Mutex<StatusSnapshot>,
}

impl Status {
    /// Returns the status of a service that starts now.
    #[must_use]
    pub fn new(about: About) -> Self {
        let snapshot = StatusSnapshot {
            state: ServiceState::Starting,
            waits_for: None,
            overview: Arc::default(),
            turned_at: about.started_at,
            answered_at: about.started_at,
        };
        Self {
            about,
            snapshot: Mutex::new(snapshot),
        }
    }

    /// Records a turn of the runner's loop and the state of the engine.
    pub fn turned(&self, now: UnixMillis, overview: Overview) {
        let overview = Arc::new(overview);
        let mut snapshot = self.lock();
        snapshot.turned_at = now;
        snapshot.overview = overview;
    }

    /// Records that the service cannot continue until something outside changes.
    pub fn waiting(&self, why: String) {
        self.lock().waits_for = Some(why.into());
    }

    /// Records that the brokers answered and the service need not wait.
    pub fn answered(&self, now: UnixMillis) {
        let mut snapshot = self.lock();
        snapshot.waits_for = None;
        snapshot.answered_at = now;
    }

    /// Records an assignment, which may be empty.
    pub fn assigned(&self, now: UnixMillis) {
        self.answered(now);
        let mut snapshot = self.lock();
        if snapshot.state != ServiceState::Draining {
            snapshot.state = ServiceState::Running;
        }
    }

    /// Records a restart of the Kafka session.
    pub fn readopting(&self) {
        let mut snapshot = self.lock();
        if snapshot.state == ServiceState::Running {
            snapshot.state = ServiceState::Readopting;
        }
    }

    /// Records that the service shuts down.
    pub fn draining(&self) {
        self.lock().state = ServiceState::Draining;
    }

    fn lock(&self) -> MutexGuard<'_, StatusSnapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> StatusSnapshot {
        self.lock().clone()
    }

    /// Checks that the service makes progress. An unreachable broker is no fault
    /// here: a restart of the service would not help.
    ///
    /// Errors: the reason, for operators.
    pub fn health(&self, now: UnixMillis) -> Result<(), String> {
        let snapshot = self.snapshot();
        let stuck = now.since(snapshot.turned_at);
        if stuck > HEALTHY_TURN_MAX {
            return Err(format!("the loop has not turned for {} s", stuck.as_secs()));
        }
        let place = |partition: &Partition| {
            let topic = self.about.names.name(partition.topic);
            format!("{topic}/{}", partition.number)
        };
        let (stopped, stalled) = (&snapshot.overview.stopped, &snapshot.overview.stalled);
        if let Some((partition, why)) = stopped.first() {
            let (count, place) = (stopped.len(), place(partition));
            return Err(format!("partitions stopped: {count}; {place}: {why}"));
        }
        if let Some((partition, why, span)) = stalled.first() {
            let (count, place) = (stalled.len(), place(partition));
            let seconds = span.as_secs();
            return Err(format!(
                "partitions without progress: {count}; {place}: {why}, for {seconds} s while the \
                 brokers answered"
            ));
        }
        Ok(())
    }

    /// Checks that the service delivers now.
    ///
    /// Errors: the reason, for operators.
    pub fn readiness(&self, now: UnixMillis) -> Result<(), String> {
        self.health(now)?;
        let snapshot = self.snapshot();
        if let Some(reason) = snapshot.waits_for {
            return Err(reason.as_ref().to_owned());
        }
        let silent = now.since(snapshot.answered_at);
        match snapshot.state {
            ServiceState::Starting => Err("starting: not in the consumer group yet".to_owned()),
            ServiceState::Readopting => {
                Err("restarting the Kafka session: not in the consumer group yet".to_owned())
            }
            ServiceState::Draining => Err("draining".to_owned()),
            ServiceState::Running if snapshot.overview.assigned > 0 && silent > SILENT_MAX => {
                let seconds = silent.as_secs();
                Err(format!("the brokers have not answered for {seconds} s"))
            }
            ServiceState::Running => Ok(()),
        }
    }
}
