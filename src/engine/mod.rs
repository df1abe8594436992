//! Decisions: takes events and the time, returns actions. Never async, IO,
//! clocks, randomness, logging or locks. Runs on the runner's task.

pub mod event;

use crate::model::fact::Overview;
use crate::model::time::UnixMillis;
use event::{Action, EngineSettings, Event};

/// The state machine.
pub struct Engine {
    #[expect(dead_code)]
    settings: EngineSettings,
}

impl Engine {
    /// An engine that owns nothing yet.
    #[must_use]
    pub fn new(settings: EngineSettings) -> Self {
        Self { settings }
    }

    /// Takes an event. Never blocks, never fails; `now` never goes back.
    pub fn handle(&mut self, _now: UnixMillis, _event: Event) {}

    /// The next thing to do, if there is one.
    pub fn next_action(&mut self) -> Option<Action> {
        None
    }

    /// When to call `handle` with [`Event::Wake`] if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<UnixMillis> {
        None
    }

    /// The present state, for gauges and pages.
    #[must_use]
    pub fn overview(&self, _now: UnixMillis) -> Overview {
        Overview::default()
    }
}
