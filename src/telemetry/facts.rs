//! Each fact becomes metrics and log lines in one match. Never a body, a
//! header's value or a URL. Runs on the runner's task.

use super::gauges::TenantCounts;
use super::log_limit::LogLimit;
use super::metrics::{Metrics, Reload};
use crate::model::attempt::{AttemptResult, ErrorClass, Outcome};
use crate::model::call::RecordId;
use crate::model::fact::Fact;
use crate::model::overview::Overview;
use crate::model::position::{Partition, Position, TopicNames};
use crate::model::tenant::{TenantId, Tenants};
use crate::model::time::UnixMillis;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{debug, error, info, warn};

/// Clocks are assumed to be nearer than this to the broker's.
const SKEW_MS_MAX: u64 = 1_000;
/// Mistakes of a refused tenants file that get lines of their own.
const MISTAKE_LINES_MAX: usize = 20;

/// Turns facts into metrics and log lines.
pub struct Telemetry {
    metrics: Arc<Metrics>,
    names: TopicNames,
    limit: Mutex<LogLimit>,
}

impl Telemetry {
    /// Telemetry over these metrics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, names: TopicNames) -> Self {
        Self {
            metrics,
            names,
            limit: Mutex::default(),
        }
    }

    /// Takes a fact.
    pub fn observe(&self, now: UnixMillis, fact: &Fact) {
        match fact {
            Fact::AttemptEnded {
                tenant,
                record,
                position,
                attempt,
                ended,
                first_attempt_latency,
                delivery_latency,
            } => {
                let metrics = &self.metrics;
                metrics.attempt_ended(*attempt, &ended.outcome, ended.duration);
                if let Some(latency) = first_attempt_latency {
                    metrics.first_attempt(*latency);
                }
                if let Some(latency) = delivery_latency {
                    metrics.delivered(*latency);
                }
                self.log_attempt(now, tenant, record, position, *attempt, ended);
            }
            Fact::DelayedAttemptStarted { delay, lateness } => {
                self.metrics.delayed_attempt_started(*delay, *lateness);
            }
            Fact::Disposed { disposition, .. } => self.metrics.disposed(*disposition),
            Fact::DeadLettered {
                reason,
                position,
                record,
            } => {
                self.metrics.dead_lettered(*reason);
                if self.limit().dead_letter_line(now) {
                    let Place(topic, partition, offset) = self.place(position);
                    let record = record.as_ref().map(RecordId::as_str);
                    let reason = reason.name();
                    warn!(record, reason, topic, partition, offset, "dead letter");
                }
            }
            Fact::InDoubt { position } => {
                self.metrics.in_doubt();
                let Place(topic, partition, offset) = self.place(position);
                debug!(topic, partition, offset, "in doubt: one attempt is charged");
            }
            Fact::Committed {
                took,
                metadata_permille,
            } => self.metrics.committed(*took, *metadata_permille),
            Fact::MovesWritten { took, .. } => self.metrics.moved(*took),
            Fact::ClockSkew { ms } => {
                self.metrics.clock_skew(*ms);
                self.log_skew(now, *ms);
            }
            Fact::Readopting { reason } => {
                self.metrics.readopting(*reason);
                warn!(reason = reason.name(), "taking the kafka side up again");
            }
            Fact::WriteRefused => debug!("a write was refused for a rebalance: decided again"),
            Fact::Draining => info!("draining: no new attempt starts"),
            Fact::MetadataRejected { .. }
            | Fact::RecordsLost { .. }
            | Fact::PartitionStopped { .. }
            | Fact::Assigned { .. }
            | Fact::Revoked { .. }
            | Fact::Adopted { .. } => self.observe_partitions(fact),
        }
    }

    /// What concerns partitions; each is rare.
    fn observe_partitions(&self, fact: &Fact) {
        match fact {
            Fact::MetadataRejected { partition, why } => {
                self.metrics.metadata_rejected();
                let (topic, number) = self.partition(partition);
                warn!(
                    topic,
                    partition = number,
                    why,
                    "the committed map cannot be used: replaying from the committed offset"
                );
            }
            Fact::RecordsLost { partition, offsets } => {
                self.metrics.records_lost(*offsets);
                let (topic, number) = self.partition(partition);
                error!(
                    topic,
                    partition = number,
                    offsets,
                    "records were gone from the log before they were finished"
                );
            }
            Fact::PartitionStopped { partition, why } => {
                let (topic, number) = self.partition(partition);
                error!(topic, partition = number, why, "a partition has stopped");
            }
            Fact::Assigned { partitions } => {
                self.metrics.rebalanced();
                info!(partitions, "partitions assigned");
            }
            Fact::Revoked { partitions } => {
                self.metrics.rebalanced();
                info!(partitions, "partitions revoked");
            }
            Fact::Adopted {
                partition,
                unfinished,
                in_doubt,
            } => {
                let (topic, number) = self.partition(partition);
                if *in_doubt > 0 {
                    info!(
                        topic,
                        partition = number,
                        unfinished,
                        in_doubt,
                        "adopted after an unclean stop"
                    );
                } else {
                    debug!(topic, partition = number, unfinished, "adopted");
                }
            }
            _ => unreachable!("only facts about partitions are handed on"),
        }
    }

    /// The present state becomes gauges; called about once a second, which is
    /// also when lines that were left out are told.
    pub fn overview(&self, overview: &Overview, tenants: &Tenants) {
        let enabled = tenants.iter().filter(|tenant| tenant.enabled).count();
        let counts = TenantCounts {
            enabled,
            disabled: tenants.len() - enabled,
        };
        self.metrics.overview(overview, counts);
        let left_out = self.limit().take_left_out();
        if left_out > 0 {
            info!(lines = left_out, "log lines were left out");
        }
    }

    /// The tenants file was read anew and is in force.
    pub fn tenants_reloaded(&self, tenants: usize) {
        self.metrics.tenants_reloaded(Reload::Ok);
        info!(tenants, "the tenants file was reloaded");
    }

    /// The tenants file has mistakes; the last good one stays in force.
    pub fn tenants_refused(&self, mistakes: &[String]) {
        self.metrics.tenants_reloaded(Reload::Refused);
        for mistake in mistakes.iter().take(MISTAKE_LINES_MAX) {
            error!(mistake, "the tenants file was refused");
        }
        let more = mistakes.len().saturating_sub(MISTAKE_LINES_MAX);
        if more > 0 {
            error!(more, "the tenants file was refused for further mistakes");
        }
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, LogLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_attempt(
        &self,
        now: UnixMillis,
        tenant: &TenantId,
        record: &RecordId,
        position: &Position,
        attempt: u8,
        ended: &AttemptResult,
    ) {
        let Outcome::Failed {
            class,
            status,
            detail,
            ..
        } = &ended.outcome
        else {
            return;
        };
        let Some(left_out) = self.limit().tenant_line(now, tenant) else {
            return;
        };
        let Place(topic, partition, offset) = self.place(position);
        info!(
            record = record.as_str(),
            tenant = tenant.as_str(),
            attempt,
            class = ErrorClass::name(*class),
            status,
            duration_ms = u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
            topic,
            partition,
            offset,
            detail,
            advice = class.advice_on(*status),
            left_out,
            "attempt failed"
        );
    }

    fn log_skew(&self, now: UnixMillis, ms: i64) {
        if ms.unsigned_abs() > SKEW_MS_MAX && self.limit().skew_line(now) {
            warn!(ms, "our clock is not the broker's: check NTP on both");
        }
    }

    fn partition(&self, partition: &Partition) -> (String, i32) {
        (self.names.name(partition.topic), partition.number)
    }

    fn place(&self, position: &Position) -> Place {
        let (topic, number) = self.partition(&position.partition);
        Place(topic, number, position.offset.0)
    }
}

/// Topic, partition and offset as log fields.
struct Place(String, i32, i64);
