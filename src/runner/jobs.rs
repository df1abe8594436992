//! The thread that counts replays and redrives for the metrics. Nothing waits for it.
//! Decides nothing.

use super::threads::spawn;
use crate::clock::Clock;
use crate::jobs::watch::JobsWatch;
use crate::kafka::Job;
use crate::kafka::settings::KafkaSettings;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tracing::debug;

/// The interval between two looks. A job counts as stopped after a minute.
const EACH: Duration = Duration::from_secs(15);

/// The thread. It ends when this is dropped.
pub struct JobCounts(#[allow(dead_code, reason = "its drop ends the thread")] Sender<()>);

impl JobCounts {
    /// Starts the thread.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(kafka: Arc<KafkaSettings>, metrics: Arc<Metrics>, clock: Arc<Clock>) -> Self {
        let (end, ended) = channel();
        spawn(Job {
            name: "jobs",
            run: Box::new(move || count(&kafka, &metrics, &clock, &ended)),
        });
        Self(end)
    }
}

fn count(kafka: &KafkaSettings, metrics: &Metrics, clock: &Clock, ended: &Receiver<()>) {
    let mut jobs = JobsWatch::default();
    while ended.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
        match jobs.look(kafka, clock.now()) {
            Ok(states) => metrics.jobs(&states),
            // The last counts stay. Other metrics tell of the brokers.
            Err(error) => debug!(%error, "the jobs are not counted"),
        }
    }
}
