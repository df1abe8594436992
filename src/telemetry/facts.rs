//! Turns facts into metrics and log lines. Never shows a body, the value of a
//! header or a URL. Runs on the runner's thread.

use super::gauges::{ShownSeries, TenantCounts};
use super::log_limit::LogLimit;
use super::metrics::{Metrics, TenantsReload};
use super::skips::SkipCounts;
use crate::model::attempt::{AttemptResult, ErrorClass, Outcome};
use crate::model::broker::SilentBroker;
use crate::model::call::RecordId;
use crate::model::destination::RefusalReason;
use crate::model::disposition::Disposition;
use crate::model::fact::Fact;
use crate::model::message::ForeignMember;
use crate::model::overview::Overview;
use crate::model::position::{NextOffset, Partition, Position, Topic, TopicNames};
use crate::model::tenant::{TenantId, Tenants};
use crate::model::time::UnixMillis;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{debug, error, info, warn};

/// A larger difference between our clock and the broker's is logged.
const SKEW_MS_MAX: u64 = 1_000;
/// Mistakes of a refused tenants file that have a line of their own.
const MISTAKE_LINES_MAX: usize = 20;

/// Turns facts into metrics and log lines.
pub struct Telemetry {
    metrics: Arc<Metrics>,
    names: TopicNames,
    limit: Mutex<LogLimit>,
    shown: Mutex<ShownSeries>,
    skips: Mutex<SkipCounts>,
}

impl Telemetry {
    /// Returns telemetry that counts in these metrics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, names: TopicNames) -> Self {
        Self {
            metrics,
            names,
            limit: Mutex::default(),
            shown: Mutex::default(),
            skips: Mutex::default(),
        }
    }

    /// Counts and logs a fact.
    pub fn observe(&self, now: UnixMillis, fact: &Fact) {
        self.count(fact);
        if let Fact::Disposed { disposition, .. } = fact {
            let mut skips = self.skips();
            match disposition {
                Disposition::Skipped => skips.skipped(now),
                _ => skips.disposed(),
            }
        }
        self.log(now, fact);
    }

    fn count(&self, fact: &Fact) {
        let metrics = &self.metrics;
        match fact {
            Fact::AttemptEnded {
                attempt,
                ended,
                first_attempt_latency,
                delivery_latency,
                ..
            } => {
                metrics.attempt_ended(*attempt, &ended.outcome, ended.duration);
                if let Some(latency) = first_attempt_latency {
                    metrics.first_attempt(*latency);
                }
                if let Some(latency) = delivery_latency {
                    metrics.delivered(*latency);
                }
            }
            Fact::DelayedAttemptStarted { delay, lateness } => {
                metrics.delayed_attempt_started(*delay, *lateness);
            }
            Fact::Disposed { disposition, .. } => metrics.disposed(*disposition),
            Fact::DeadLettered { reason, .. } => metrics.dead_lettered(*reason),
            Fact::InDoubt { .. } => metrics.in_doubt(),
            Fact::Committed {
                took,
                metadata_permille,
            } => metrics.committed(*took, *metadata_permille),
            Fact::MovesWritten { took, .. } => metrics.moved(*took),
            Fact::ClockSkew { ms } => metrics.clock_skew(*ms),
            Fact::Readopting { reason } => metrics.readopting(*reason),
            Fact::MetadataRejected { .. } => metrics.metadata_rejected(),
            Fact::OffsetSet { .. } => metrics.offset_set(),
            Fact::RecordsLost { offsets, .. } => metrics.records_lost(*offsets),
            Fact::Assigned { .. } | Fact::Revoked { .. } => metrics.rebalanced(),
            Fact::WriteRefused
            | Fact::DestinationRefused { .. }
            | Fact::DestinationAccepted { .. }
            | Fact::BrokerUnreachable(_)
            | Fact::BrokerAnswers { .. }
            | Fact::PartitionBlocked { .. }
            | Fact::PartitionUnblocked { .. }
            | Fact::ForeignMember(_)
            | Fact::ForeignMemberLeft { .. }
            | Fact::PartitionStopped { .. }
            | Fact::Adopted { .. }
            | Fact::Draining => {}
        }
    }

    fn log(&self, now: UnixMillis, fact: &Fact) {
        match fact {
            Fact::AttemptEnded {
                tenant,
                record,
                position,
                attempt,
                ended,
                ..
            } => self.log_attempt(now, tenant, record, position, *attempt, ended),
            Fact::DeadLettered {
                reason,
                position,
                record,
            } => {
                if self.limit().dead_letter_line(now) {
                    let NamedPlace(topic, partition, offset) = self.place(position);
                    let record = record.as_ref().map(RecordId::as_str);
                    let reason = reason.name();
                    warn!(record, reason, topic, partition, offset, "dead letter");
                }
            }
            Fact::InDoubt { position } => {
                let NamedPlace(topic, partition, offset) = self.place(position);
                debug!(topic, partition, offset, "in doubt: one attempt is charged");
            }
            Fact::ClockSkew { ms } => {
                if ms.unsigned_abs() > SKEW_MS_MAX && self.limit().skew_line(now) {
                    warn!(ms, "our clock is not the broker's: check NTP on both");
                }
            }
            Fact::Readopting { reason } => {
                warn!(reason = reason.name(), "restarting the Kafka session");
            }
            Fact::WriteRefused => debug!("a rebalance refused a write: it is decided again"),
            Fact::DestinationRefused { topic, reason } => {
                self.log_refused(now, *topic, *reason);
            }
            Fact::DestinationAccepted { topic } => self.log_accepted(*topic),
            Fact::BrokerUnreachable(_) | Fact::BrokerAnswers { .. } => log_broker(fact),
            Fact::PartitionBlocked { .. } | Fact::PartitionUnblocked { .. } => {
                self.log_blocked(fact)
            }
            Fact::ForeignMember(_) | Fact::ForeignMemberLeft { .. } => log_foreign(fact),
            Fact::Draining => info!("draining: no new attempt starts"),
            Fact::MetadataRejected { partition, why } => self.log_rejected(partition, why),
            Fact::OffsetSet { partition, offset } => self.log_offset_set(partition, *offset),
            Fact::RecordsLost { partition, offsets } => self.log_lost(partition, *offsets),
            Fact::PartitionStopped { partition, why } => self.log_stopped(partition, why),
            Fact::Assigned { partitions } => info!(partitions, "partitions assigned"),
            Fact::Revoked { partitions } => info!(partitions, "partitions revoked"),
            Fact::Adopted {
                partition,
                unfinished,
                in_doubt,
            } => self.log_adopted(partition, *unfinished, *in_doubt),
            Fact::DelayedAttemptStarted { .. }
            | Fact::Disposed { .. }
            | Fact::Committed { .. }
            | Fact::MovesWritten { .. } => {}
        }
    }

    /// Shows the state of the engine in gauges, and logs how many lines were left
    /// out and which share of the records was skipped. The runner calls it about once a
    /// second.
    pub fn overview(&self, now: UnixMillis, overview: &Overview, tenants: &Tenants) {
        let enabled = tenants.enabled();
        let counts = TenantCounts {
            enabled,
            disabled: tenants.len() - enabled,
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.show(&self.metrics, overview, counts);
        let left_out = self.limit().take_left_out();
        if left_out > 0 {
            info!(lines = left_out, "log lines were left out");
        }
        if let Some(share) = self.skips().line(now) {
            warn!(
                skipped = share.skipped,
                percent = share.percent(),
                tenants = tenants.len(),
                enabled,
                "records were skipped for good: their tenants are not listed or not enabled"
            );
        }
    }

    /// Reports that the new tenants are in force.
    pub fn tenants_reloaded(&self, tenants: usize) {
        self.metrics.tenants_reloaded(TenantsReload::Ok);
        info!(tenants, "the tenants file was reloaded");
    }

    /// Reports that the tenants file has mistakes; the last good one stays in force.
    pub fn tenants_refused(&self, mistakes: &[String]) {
        self.metrics.tenants_reloaded(TenantsReload::Refused);
        for mistake in mistakes.iter().take(MISTAKE_LINES_MAX) {
            error!(mistake, "the tenants file was refused");
        }
        let more = mistakes.len().saturating_sub(MISTAKE_LINES_MAX);
        if more > 0 {
            error!(more, "the tenants file was refused for further mistakes");
        }
    }

    /// Reports that the tenants topic was read to its end, or has new entries.
    /// `refused` is the number of tenants whose last entry is refused.
    pub fn tenants_topic_read(&self, changed: usize, tenants: usize, refused: usize) {
        self.metrics.tenants_reloaded(match refused {
            0 => TenantsReload::Ok,
            _ => TenantsReload::Refused,
        });
        info!(
            changed,
            tenants, refused, "the entries of the tenants topic are in force"
        );
    }

    /// Reports mistakes in entries of the tenants topic. The last good entries of
    /// these tenants stay in force.
    pub fn tenant_entries_refused(&self, mistakes: &[String]) {
        for mistake in mistakes.iter().take(MISTAKE_LINES_MAX) {
            error!(mistake, "an entry of the tenants topic was refused");
        }
        let more = mistakes.len().saturating_sub(MISTAKE_LINES_MAX);
        if more > 0 {
            error!(
                more,
                "entries of the tenants topic were refused for further mistakes"
            );
        }
    }

    fn skips(&self) -> std::sync::MutexGuard<'_, SkipCounts> {
        self.skips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, LogLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_refused(&self, now: UnixMillis, topic: Topic, reason: RefusalReason) {
        if self.limit().refused_line(now, topic) {
            let topic = self.names.name(topic);
            let (reason, advice) = (reason.name(), reason.advice());
            error!(
                topic,
                reason, advice, "a topic refuses records: they wait, all others go on"
            );
        }
    }

    fn log_accepted(&self, topic: Topic) {
        if self.limit().accepted_line(topic) {
            let topic = self.names.name(topic);
            info!(topic, "the topic accepts records again");
        }
    }

    fn log_rejected(&self, partition: &Partition, why: &str) {
        let (topic, partition) = self.partition(partition);
        warn!(
            topic,
            partition, why, "the committed map cannot be used: replaying from the committed offset"
        );
    }

    fn log_offset_set(&self, partition: &Partition, NextOffset(offset): NextOffset) {
        let (topic, partition) = self.partition(partition);
        warn!(
            topic,
            partition,
            offset,
            "another program has set the committed offset: reading goes on from there"
        );
    }

    fn log_lost(&self, partition: &Partition, offsets: u64) {
        let (topic, partition) = self.partition(partition);
        error!(
            topic,
            partition, offsets, "records were gone from the log before they were finished"
        );
    }

    fn log_adopted(&self, partition: &Partition, unfinished: usize, in_doubt: usize) {
        let (topic, partition) = self.partition(partition);
        if in_doubt > 0 {
            info!(
                topic,
                partition, unfinished, in_doubt, "adopted after an unclean stop"
            );
        } else {
            debug!(topic, partition, unfinished, "adopted");
        }
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
        let NamedPlace(topic, partition, offset) = self.place(position);
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

    fn partition(&self, partition: &Partition) -> (String, i32) {
        (self.names.name(partition.topic), partition.number)
    }

    fn log_stopped(&self, partition: &Partition, why: &str) {
        let (topic, partition) = self.partition(partition);
        error!(topic, partition, why, "a partition has stopped");
    }

    fn log_blocked(&self, fact: &Fact) {
        if let Fact::PartitionBlocked { partition, offset } = fact {
            let ((topic, partition), offset) = (self.partition(partition), offset.0);
            warn!(
                topic,
                partition, offset, "an open transaction of another producer holds a partition back"
            );
        }
        if let Fact::PartitionUnblocked { partition } = fact {
            let (topic, partition) = self.partition(partition);
            info!(
                topic,
                partition, "the transaction that held a partition back has ended"
            );
        }
    }

    fn place(&self, position: &Position) -> NamedPlace {
        let (topic, number) = self.partition(&position.partition);
        NamedPlace(topic, number, position.offset.0)
    }
}

/// The topic, partition and offset of a record, as log fields.
struct NamedPlace(String, i32, i64);

fn log_foreign(fact: &Fact) {
    if let Fact::ForeignMember(ForeignMember {
        member,
        client,
        host,
        partitions,
    }) = fact
    {
        let partitions = partitions.len();
        warn!(
            member,
            client,
            host,
            partitions,
            "another program in the consumer group has partitions: their records are not sent"
        );
    }
    if let Fact::ForeignMemberLeft { member } = fact {
        info!(member, "the other program has no partitions any more");
    }
}

fn log_broker(fact: &Fact) {
    if let Fact::BrokerAnswers { broker } = fact {
        let (broker, address) = (broker.id.0, &broker.address);
        info!(broker, address, "the broker answers again");
    }
    if let Fact::BrokerUnreachable(SilentBroker { broker, partitions }) = fact {
        let (broker, address) = (broker.id.0, &broker.address);
        error!(
            broker,
            address, partitions, "a broker does not answer: the partitions that it leads wait"
        );
    }
}
