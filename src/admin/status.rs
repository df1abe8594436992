//! What the pages know of the service, as the runner last wrote it, and what
//! follows for health and readiness. Never asks anything of anyone.

use crate::model::fact::Overview;
use crate::model::position::TopicNames;
use crate::model::time::UnixMillis;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the loop may take for one turn. It wakes at least once a second, so
/// this is ten turns that did not come.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(10);

/// Where the service is between its start and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not yet in the group.
    Starting,
    /// The group has given partitions at least once.
    Joined,
    /// Ending in order.
    Draining,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Joined => "running",
            Self::Draining => "draining",
        }
    }
}

/// The state at one moment.
#[derive(Clone)]
struct Shown {
    stage: Stage,
    /// What it waits for, such as a broker or a topic; none where it works.
    waits_for: Option<Arc<str>>,
    overview: Arc<Overview>,
    turned_at: UnixMillis,
}

/// The state that the runner writes and the pages read. The lock is held for
/// as long as it takes to replace or copy a few words.
pub struct Status {
    names: TopicNames,
    instance: String,
    shown: Mutex<Shown>,
}

impl Status {
    /// The status of a service that starts now.
    #[must_use]
    pub fn new(names: TopicNames, instance: String, now: UnixMillis) -> Self {
        let shown = Shown {
            stage: Stage::Starting,
            waits_for: None,
            overview: Arc::default(),
            turned_at: now,
        };
        Self {
            names,
            instance,
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
    pub fn answered(&self) {
        self.lock().waits_for = None;
    }

    /// The group has given partitions, maybe none.
    pub fn assigned(&self) {
        let mut shown = self.lock();
        shown.waits_for = None;
        if shown.stage == Stage::Starting {
            shown.stage = Stage::Joined;
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
        let stopped = &shown.overview.stopped;
        let Some((partition, why)) = stopped.first() else {
            return Ok(());
        };
        let (topic, number) = (self.names.name(partition.topic), partition.number);
        let count = stopped.len();
        Err(format!(
            "partitions stopped: {count}; {topic}/{number}: {why}"
        ))
    }

    /// Whether the service delivers now; the reason where it does not.
    pub fn readiness(&self, now: UnixMillis) -> Result<(), String> {
        self.health(now)?;
        let shown = self.shown();
        match (shown.stage, shown.waits_for) {
            (Stage::Joined, None) => Ok(()),
            (_, Some(reason)) => Err(reason.as_ref().to_owned()),
            (stage @ (Stage::Starting | Stage::Draining), None) => Err(stage.name().to_owned()),
        }
    }

    /// The whole state as JSON. It names tenants: the port stays inside.
    #[must_use]
    pub fn json(&self, now: UnixMillis) -> Value {
        let shown = self.shown();
        let overview = &shown.overview;
        let topics: serde_json::Map<String, Value> = overview
            .topics
            .iter()
            .map(|(topic, state)| {
                let age_ms = state.oldest_unfinished_age.as_millis();
                let age_ms = u64::try_from(age_ms).unwrap_or(u64::MAX);
                let shown = json!({"lag": state.lag, "oldest_unfinished_age_ms": age_ms});
                (self.names.name(*topic), shown)
            })
            .collect();
        let stopped: Vec<Value> = overview
            .stopped
            .iter()
            .map(|(partition, why)| {
                let topic = self.names.name(partition.topic);
                json!({"topic": topic, "partition": partition.number, "why": why})
            })
            .collect();
        let failing: Vec<Value> = overview
            .failing
            .iter()
            .map(|failing| {
                json!({
                    "tenant": failing.tenant.as_str(),
                    "since": failing.since.0,
                    "class": failing.class.name(),
                })
            })
            .collect();
        json!({
            "instance": self.instance,
            "phase": shown.stage.name(),
            "healthy": self.health(now).is_ok(),
            "ready": self.readiness(now).is_ok(),
            "reason": self.readiness(now).err(),
            "last_turn": shown.turned_at.0,
            "last_progress": overview.last_progress.0,
            "in_flight": overview.in_flight,
            "in_flight_max": overview.in_flight_max,
            "unfinished": overview.unfinished,
            "partitions": {
                "assigned": overview.assigned,
                "adopting": overview.adopting,
                "stopped": stopped,
            },
            "topics": topics,
            "tenants": {
                "limited": overview.tenants_limited,
                "failing": overview.tenants_failing,
                "worst": failing,
            },
        })
    }
}
