//! What the pages know of the service, as the runner last wrote it, and what
//! follows for health and readiness. Never asks anything of anyone.

use crate::model::fact::Overview;
use crate::model::position::TopicNames;
use crate::model::time::UnixMillis;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the loop may take for one turn. It wakes at least once a second, so
/// this is ten turns that did not come.
pub const HEALTHY_TURN_MAX: Duration = Duration::from_secs(10);

/// Where the service is between its start and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Not yet in the group.
    #[default]
    Starting,
    /// In the group.
    Running,
    /// Ending in order.
    Draining,
}

impl Phase {
    /// The name on the pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
        }
    }
}

/// The state of the service at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Where it is.
    pub phase: Phase,
    /// What it waits for, such as a broker or a topic; none where it works.
    pub waits_for: Option<String>,
    /// The engine's state.
    pub overview: Overview,
}

/// The state that the runner writes and the pages read.
pub struct Status {
    names: TopicNames,
    instance: String,
    snapshot: Mutex<Arc<Snapshot>>,
    turned_at: AtomicI64,
}

impl Status {
    /// The status of a service that starts now.
    #[must_use]
    pub fn new(names: TopicNames, instance: String, now: UnixMillis) -> Self {
        Self {
            names,
            instance,
            snapshot: Mutex::default(),
            turned_at: AtomicI64::new(now.0),
        }
    }

    /// The loop has come round; cheap enough for every turn.
    pub fn turned(&self, now: UnixMillis) {
        self.turned_at.store(now.0, Ordering::Relaxed);
    }

    /// Replaces what the pages show; about once a second.
    pub fn replace(&self, snapshot: Snapshot) {
        let new = Arc::new(snapshot);
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// What is shown now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the service makes progress; the reason where it does not. A
    /// broker that is away is no reason: a restart would not bring it back.
    pub fn health(&self, now: UnixMillis) -> Result<(), String> {
        let still = now.since(UnixMillis(self.turned_at.load(Ordering::Relaxed)));
        if still > HEALTHY_TURN_MAX {
            return Err(format!("the loop has not turned for {} s", still.as_secs()));
        }
        let snapshot = self.snapshot();
        let stopped = &snapshot.overview.stopped;
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
        let snapshot = self.snapshot();
        match (snapshot.phase, &snapshot.waits_for) {
            (Phase::Running, None) => Ok(()),
            (_, Some(reason)) => Err(reason.clone()),
            (phase @ (Phase::Starting | Phase::Draining), None) => Err(phase.name().to_owned()),
        }
    }

    /// The whole state as JSON. It names tenants: the port stays inside.
    #[must_use]
    pub fn json(&self, now: UnixMillis) -> Value {
        let snapshot = self.snapshot();
        let overview = &snapshot.overview;
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
            .map(|(tenant, since)| json!({"tenant": tenant.as_str(), "since": since.0}))
            .collect();
        json!({
            "instance": self.instance,
            "phase": snapshot.phase.name(),
            "healthy": self.health(now).is_ok(),
            "ready": self.readiness(now).is_ok(),
            "reason": self.readiness(now).err(),
            "last_turn": self.turned_at.load(Ordering::Relaxed),
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
