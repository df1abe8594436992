//! The thread that counts replays and redrives for the metrics. Nothing waits for it.
//! Decides nothing.

use super::threads::spawn;
use crate::clock::Clock;
use crate::jobs::watch::JobsWatch;
use crate::kafka::Job;
use crate::kafka::current::CurrentSettings;
use crate::kafka::settings::ClusterKind;
use crate::service::Service;
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
    /// Starts the thread. A cluster inside of the process has no jobs.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(service: &Service) -> Option<Self> {
        let (kafka, metrics) = (Arc::clone(&service.kafka), Arc::clone(&service.metrics));
        if kafka.get().kind != ClusterKind::Brokers {
            return None;
        }
        let clock = Arc::clone(&service.clock);
        let (end, ended) = channel();
        spawn(Job {
            name: "jobs",
            run: Box::new(move || count(&kafka, &metrics, &clock, &ended)),
        });
        Some(Self(end))
    }
}

fn count(kafka: &CurrentSettings, metrics: &Metrics, clock: &Clock, ended: &Receiver<()>) {
    let (mut jobs, mut settings) = (JobsWatch::default(), kafka.get());
    while ended.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
        if kafka.differ_from(&settings) {
            (jobs, settings) = (JobsWatch::default(), kafka.get());
        }
        match jobs.look(&settings, clock.now()) {
            Ok(states) => metrics.jobs(&states),
            // The last counts stay. Other metrics tell of the brokers.
            Err(error) => debug!(%error, "the jobs are not counted"),
        }
    }
}
