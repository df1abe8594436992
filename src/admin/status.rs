//! What the pages know of the service, as the runner last wrote it, and what
//! follows for health and readiness. Never asks anything of anyone.

use super::view::View;
use crate::model::overview::Overview;
use crate::model::position::{Partition, TopicNames};
use crate::model::time::UnixMillis;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the loop may take for one turn. It wakes at least once a second, so
/// this is ten turns that did not come.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(10);

/// How long the brokers may owe an answer before the service is not ready:
/// they are asked every second, with a second to answer.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// Where the service is between its start and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Not yet in the group.
    Starting,
    /// In the group, which has given partitions, maybe none.
    Joined,
    /// Taking the Kafka side up again: not in the group.
    Readopting,
    /// Ending in order.
    Draining,
}

impl Stage {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Joined => "running",
            Self::Readopting => "readopting",
            Self::Draining => "draining",
        }
    }
}

/// The state at one moment.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) stage: Stage,
    /// What it waits for, such as a broker or a topic; none where it works.
    waits_for: Option<Arc<str>>,
    pub(super) overview: Arc<Overview>,
    pub(super) turned_at: UnixMillis,
    /// When the brokers last told where our logs end.
    answered_at: UnixMillis,
}

/// What does not change while the service runs.
pub struct About {
    /// How topics are called.
    pub names: TopicNames,
    /// This replica's name.
    pub instance: String,
    /// The consumer group.
    pub group: String,
    /// Ours.
    pub version: &'static str,
    /// When the service started.
    pub started_at: UnixMillis,
}

/// The state that the runner writes and the pages read. The lock is held for
/// as long as it takes to replace or copy a few words.
pub struct Status {
    about: About,
    shown: Mutex<Shown>,
}

impl Status {
    /// The status of a service that starts now.
    #[must_use]
    pub fn new(about: About) -> Self {
        let shown = Shown {
            stage: Stage::Starting,
            waits_for: None,
            overview: Arc::default(),
            turned_at: about.started_at,
            answered_at: about.started_at,
        };
        Self {
            about,
            shown: Mutex::new(shown),
        }
    }

    /// The loop has come round, and this is the engine's state.
    pub fn turned(&self, now: UnixMillis, overview: Overview) {
        let overview = Arc::new(overview);
        let mut shown = self.lock();
        shown.turned_at = now;
        shown.overview = overview;
    }

    /// The service cannot go on before something outside it changes.
    pub fn waiting(&self, why: String) {
        self.lock().waits_for = Some(why.into());
    }

    /// The service has what it waited for.
    pub fn answered(&self, now: UnixMillis) {
        let mut shown = self.lock();
        shown.waits_for = None;
        shown.answered_at = now;
    }

    /// The group has given partitions, maybe none.
    pub fn assigned(&self, now: UnixMillis) {
        self.answered(now);
        let mut shown = self.lock();
        if matches!(shown.stage, Stage::Starting | Stage::Readopting) {
            shown.stage = Stage::Joined;
        }
    }

    /// The Kafka side is taken up again.
    pub fn readopting(&self) {
        let mut shown = self.lock();
        if shown.stage == Stage::Joined {
            shown.stage = Stage::Readopting;
        }
    }

    /// The service ends in order.
    pub fn draining(&self) {
        self.lock().stage = Stage::Draining;
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> Shown {
        self.lock().clone()
    }

    /// Whether the service makes progress; the reason where it does not. A
    /// broker that is away is no reason: a restart would not bring it back.
    pub fn health(&self, now: UnixMillis) -> Result<(), String> {
        let shown = self.shown();
        let still = now.since(shown.turned_at);
        if still > HEALTHY_TURN_MAX {
            return Err(format!("the loop has not turned for {} s", still.as_secs()));
        }
        let place = |partition: &Partition| {
            let topic = self.about.names.name(partition.topic);
            format!("{topic}/{}", partition.number)
        };
        let (stopped, stalled) = (&shown.overview.stopped, &shown.overview.stalled);
        if let Some((partition, why)) = stopped.first() {
            let (count, place) = (stopped.len(), place(partition));
            return Err(format!("partitions stopped: {count}; {place}: {why}"));
        }
        if let Some((partition, why, span)) = stalled.first() {
            let (count, place) = (stalled.len(), place(partition));
            let seconds = span.as_secs();
            return Err(format!(
                "partitions without progress: {count}; {place}: {why}, for {seconds} s in which \
                 the brokers answered"
            ));
        }
        Ok(())
    }

    /// Whether the service delivers now; the reason where it does not.
    pub fn readiness(&self, now: UnixMillis) -> Result<(), String> {
        self.health(now)?;
        let shown = self.shown();
        if let Some(reason) = shown.waits_for {
            return Err(reason.as_ref().to_owned());
        }
        let silent = now.since(shown.answered_at);
        match shown.stage {
            Stage::Starting => Err("starting: not in the consumer group yet".to_owned()),
            Stage::Readopting => {
                Err("taking the Kafka side up again: not in the consumer group yet".to_owned())
            }
            Stage::Draining => Err("draining".to_owned()),
            Stage::Joined if shown.overview.assigned > 0 && silent > SILENT_MAX => {
                let seconds = silent.as_secs();
                Err(format!("the brokers have not answered for {seconds} s"))
            }
            Stage::Joined => Ok(()),
        }
    }

    /// What the pages show.
    pub(super) fn view<T>(&self, now: UnixMillis, show: impl FnOnce(&View<'_>) -> T) -> T {
        let shown = self.shown();
        let (health, readiness) = (self.health(now), self.readiness(now));
        show(&View::new(&self.about, &shown, health, readiness, now))
    }
}
