//! Writes each ended attempt to the attempt log, where the settings ask for it. A
//! log that cannot be written never stops the service. Runs on the runner's thread.

use super::threads::spawn;
use crate::clock;
use crate::config::values::AttemptLogSetting;
use crate::kafka::attempt_log::AttemptLog;
use crate::model::attempt_log::{AttemptEntry, LogDropReason};
use crate::model::fact::Fact;
use crate::service::Service;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tracing::error;

/// The end of the service waits so long for the last entries.
const FINISH_LIMIT: Duration = Duration::from_secs(1);

/// The attempt log of this replica.
pub struct AttemptLogWriter {
    log: Option<AttemptLog>,
    metrics: Arc<Metrics>,
    instance: String,
}

impl AttemptLogWriter {
    /// Starts the log and its thread, if the settings ask for it.
    pub fn start(service: &Service) -> Option<Self> {
        if service.attempt_log == AttemptLogSetting::Off {
            return None;
        }
        let (kafka, metrics) = (service.kafka.get(), Arc::clone(&service.metrics));
        let on_drop = move |reason| metrics.attempt_not_logged(reason);
        let log = match AttemptLog::open(&kafka, clock::elapsed, on_drop) {
            Ok((log, job)) => {
                spawn(job);
                Some(log)
            }
            Err(error) => {
                error!(%error, "the attempt log cannot start; deliveries go on");
                None
            }
        };
        Some(Self {
            log,
            metrics: Arc::clone(&service.metrics),
            instance: kafka.instance.clone(),
        })
    }

    /// Writes the entry of an ended attempt. Never waits.
    pub fn observe(&self, fact: &Fact) {
        let Some(entry) = AttemptEntry::of(fact, &self.instance) else {
            return;
        };
        match (&self.log, serde_json::to_vec(&entry)) {
            (Some(log), Ok(value)) => log.write(entry.record_id, &value),
            _ => self.metrics.attempt_not_logged(LogDropReason::Refused),
        }
    }

    /// Waits a moment until the last entries are written.
    pub fn finish(self) {
        if let Some(log) = self.log {
            log.finish(FINISH_LIMIT);
        }
    }
}
