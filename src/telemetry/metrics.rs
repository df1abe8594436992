//! The metrics: one row for each family, and the methods that count. The only
//! file that names a metric. Never logs. The runner's thread counts, the thread of
//! the operators' pages renders.
//!
//! Series budget: each row states the maximum number of its label combinations.
//! A histogram has three more series than buckets for each of them. With five
//! delays there are some 600 series in total, however many tenants there are.

use super::registry::{Family, MetricDefinition};
use crate::model::attempt::{ATTEMPTS_MAX, ErrorClass, Outcome};
use crate::model::attempt_log::LogDropReason;
use crate::model::broker::WaitCause;
use crate::model::disposition::{DeadLetterReason, Disposition};
use crate::model::fact::{Latency, OddTimestamp, ReadoptReason};
use crate::model::job::JobStatus;
use crate::model::named_enum::named_enum;
use crate::model::overview::Verdicts;
use crate::model::position::TopicNames;
use crate::model::time::Delay;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry, TextEncoder,
};
use std::array;
use std::collections::BTreeMap;
use std::time::Duration;

/// Waiting times of records, from 1 ms to 12 h.
const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
    5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0,
];
/// Durations of calls that end within the deadline of an attempt or a Kafka timeout.
/// An attempt that times out after 5 s ends a little later, so 5.25 is a bound.
const CALL_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 5.25, 10.0,
];
const NO_BUCKETS: &[f64] = &[];
/// The family whose bounds depend on the settings.
const ATTEMPT_DURATION: &str = "ringback_attempt_duration_seconds";
/// An attempt that times out ends within this share of its limit after it.
const TIMEOUT_SLACK: f64 = 1.05;

/// `delivered` and every error class.
const OUTCOMES: usize = 1 + ErrorClass::ALL.len();
const ATTEMPTS: usize = ATTEMPTS_MAX as usize;
/// The maximum number of delays in the settings. Topics of earlier settings may
/// add to them.
const DELAYS_MAX: usize = 9;
/// The source topic, the delay topics and the dead letters.
const TOPICS_MAX: usize = DELAYS_MAX + 2;
/// The maximum number of tenants that a gauge names.
pub(super) const TENANT_SERIES_MAX: usize = 50;
/// The maximum number of brokers with a series.
pub(super) const BROKER_SERIES_MAX: usize = 50;

named_enum! {
    /// The label `outcome` where the class of the failure does not matter.
    pub(super) enum Success {
        Delivered = "delivered",
        Failed = "failed",
    }
}

named_enum! {
    /// The label `state` of `ringback_tenants`.
    pub(super) enum TenantState {
        Healthy = "healthy",
        Limited = "limited",
        Failing = "failing",
        Disabled = "disabled",
    }
}

named_enum! {
    /// The label `state` of `ringback_partitions`.
    pub(super) enum PartitionLabel {
        /// Running, or leaving.
        Active = "running",
        Starting = "starting",
        Stalled = "stalled",
        Stopped = "stopped",
    }
}

named_enum! {
    /// The result of a reload of the tenants file.
    pub enum TenantsReload {
        /// The tenants of the file are in force.
        Ok = "ok",
        /// The file has mistakes; the last good tenants stay in force.
        Refused = "refused",
    }
}

/// Makes the struct of all families and the list of their definitions from rows
/// `field: type = name, labels, series_max, help, buckets (of histograms);`.
macro_rules! families {
    ($($field:ident: $Type:ident =
        $name:literal, $labels:expr, $series_max:expr, $help:literal $(, $buckets:ident)?;)+
    ) => {
        /// One field for each family, in the order of [`DEFINITIONS`].
        pub(super) struct Families {
            $(pub(super) $field: $Type,)+
        }

        /// The definitions of all families, except those of the prometheus crate.
        pub const DEFINITIONS: &[MetricDefinition] = &[
            $(MetricDefinition {
                name: $name,
                kind: <$Type as Family>::KIND,
                labels: $labels,
                buckets: [$($buckets,)? NO_BUCKETS][0],
                series_max: $series_max,
                help: $help,
            }),+
        ];

        impl Families {
            fn register(registry: &Registry, attempt_bounds: &[f64]) -> Self {
                let mut rows = DEFINITIONS.iter();
                let mut next = || rows.next().expect("one definition for each field");
                Self {
                    $($field: {
                        let row = next();
                        let is_attempts = row.name == ATTEMPT_DURATION;
                        let more = if is_attempts { attempt_bounds } else { NO_BUCKETS };
                        <$Type as Family>::register(registry, row, more)
                    },)+
                }
            }
        }
    };
}

families! {
    attempts: IntCounterVec = "ringback_attempts_total", &["outcome", "attempt"], OUTCOMES * ATTEMPTS,
        "Ended attempts, by their outcome and by the number of the attempt.";
    attempt_duration: HistogramVec = "ringback_attempt_duration_seconds", &["outcome"], 2,
        "Duration of attempts, from the start to the outcome.", CALL_BUCKETS;
    dispositions: IntCounterVec = "ringback_dispositions_total", &["disposition"], Disposition::ALL.len(),
        "Records that left their position, by disposition.";
    dead_letters: IntCounterVec = "ringback_dead_letters_total", &["reason"], DeadLetterReason::ALL.len(),
        "Records that became dead letters, by reason.";
    first_attempt_latency: Histogram = "ringback_first_attempt_latency_seconds", &[], 1,
        "Time from the publication of a record to the start of its first attempt.", LATENCY_BUCKETS;
    delivery_latency: Histogram = "ringback_delivery_latency_seconds", &[], 1,
        "Time from the publication of a record to its 2xx answer.", LATENCY_BUCKETS;
    latencies_unknown: IntCounterVec = "ringback_latencies_unknown_total", &["timestamp"], OddTimestamp::ALL.len(),
        "Latencies that are not in the histograms, because the record's timestamp is no time of publication.";
    delay_lateness: HistogramVec = "ringback_delay_lateness_seconds", &["delay"], DELAYS_MAX,
        "Start of a delayed attempt minus its due time.", LATENCY_BUCKETS;

    in_doubt: IntCounter = "ringback_in_doubt_total", &[], 1,
        "Attempts that were charged although their outcome is unknown.";
    commit_metadata_ratio: Gauge = "ringback_commit_metadata_ratio", &[], 1,
        "Largest offset map of the last commit, as a share of the allowed size.";
    commit_metadata_rejected: IntCounter = "ringback_commit_metadata_rejected_total", &[], 1,
        "Committed offset maps that could not be used.";
    offsets_set: IntCounter = "ringback_offsets_set_total", &[], 1,
        "Committed offsets that another program has set, found at an assignment.";
    lost_records: IntCounter = "ringback_lost_records_total", &[], 1,
        "Offsets that were deleted from the log before they were finished.";
    commit_seconds: Histogram = "ringback_commit_seconds", &[], 1,
        "Time from an offset commit to its answer.", CALL_BUCKETS;
    move_seconds: Histogram = "ringback_move_seconds", &[], 1,
        "Time from the start of a transaction to its answer.", CALL_BUCKETS;
    clock_skew: Gauge = "ringback_clock_skew_seconds", &[], 1,
        "Clock of this replica minus the clock of the broker.";
    rebalances: IntCounter = "ringback_rebalances_total", &[], 1,
        "Rebalances that assigned or revoked partitions.";
    readoptions: IntCounterVec = "ringback_readoptions_total", &["reason"], ReadoptReason::ALL.len(),
        "Restarts of the Kafka session, by reason.";

    in_flight: IntGauge = "ringback_in_flight", &[], 1,
        "Attempts in progress.";
    in_flight_max: IntGauge = "ringback_in_flight_max", &[], 1,
        "Limit of ringback_in_flight.";
    lag: IntGaugeVec = "ringback_lag_records", &["topic"], TOPICS_MAX,
        "Records without a disposition; in a delay topic, records that wait.";
    oldest_unfinished_age: GaugeVec = "ringback_oldest_unfinished_age_seconds", &["topic"], TOPICS_MAX,
        "Age of the oldest unfinished record, from its publication; in a delay topic, from its due time.";
    oldest_waiting_age: GaugeVec = "ringback_oldest_waiting_age_seconds", &["topic"], TOPICS_MAX,
        "Age of the oldest record that waits although its tenant could have one more attempt, from the same time.";
    last_progress: Gauge = "ringback_last_progress_timestamp_seconds", &[], 1,
        "Unix time of the last disposition, or of the last check that found no unfinished record.";
    unfinished: IntGauge = "ringback_unfinished_records", &[], 1,
        "Unfinished records in memory and in the offset maps.";
    assigned: IntGauge = "ringback_assigned_partitions", &[], 1,
        "Partitions that are assigned to this replica.";
    stopped: IntGauge = "ringback_stopped_partitions", &[], 1,
        "Assigned partitions that are stopped until an operator acts.";
    blocked: IntGauge = "ringback_blocked_partitions", &[], 1,
        "Assigned partitions that an open transaction of another producer has held back for 30 s.";
    foreign: IntGauge = "ringback_foreign_partitions", &[], 1,
        "Partitions that another program in the consumer group has, so that ringback does not.";
    partitions: IntGaugeVec = "ringback_partitions", &["state"], PartitionLabel::ALL.len(),
        "Assigned partitions, by state; a stalled one waits for an overdue answer of Kafka.";
    live: IntGauge = "ringback_live", &[], 1,
        "1 while /livez answers 200, else 0.";
    healthy: IntGauge = "ringback_healthy", &[], 1,
        "1 while /healthz answers 200, else 0.";
    ready: IntGauge = "ringback_ready", &[], 1,
        "1 while /readyz answers 200, else 0.";

    waiting: IntGaugeVec = "ringback_waiting_for_kafka", &["cause"], WaitCause::ALL.len(),
        "1 for the cause for which this replica waits for Kafka and delivers nothing, else 0.";

    destination_refused: IntGaugeVec = "ringback_destination_refused", &["topic", "reason"], TOPICS_MAX,
        "1 for each topic that refuses moved records, with the reason.";

    broker_unreachable: IntGaugeVec = "ringback_broker_unreachable", &["broker"], BROKER_SERIES_MAX,
        "1 for each broker that leads partitions and has not answered this replica for 30 s; at most 50.";

    attempt_log_dropped: IntCounterVec = "ringback_attempt_log_dropped_total", &["reason"], LogDropReason::ALL.len(),
        "Attempts that are missing in the attempt log, by reason.";

    tenants: IntGaugeVec = "ringback_tenants", &["state"], TenantState::ALL.len(),
        "Tenants, by state.";
    tenants_attempted: IntGaugeVec = "ringback_tenants_attempted", &["outcome"], Success::ALL.len(),
        "Tenants with a first attempt in the last 5 min, by the outcome of the latest of them.";
    tenant_failing: IntGaugeVec = "ringback_tenant_failing", &["tenant"], TENANT_SERIES_MAX,
        "1 for each tenant whose last attempt failed; at most the 50 that fail longest.";
    tenant_failing_since: GaugeVec = "ringback_tenant_failing_since_timestamp_seconds", &["tenant", "class"],
        TENANT_SERIES_MAX,
        "Unix time since which the tenant fails, with the class of its last failure.";
    tenant_first_failures: IntGaugeVec = "ringback_tenant_first_attempts_failed", &["tenant"], TENANT_SERIES_MAX,
        "First attempts of a failing tenant that failed since its last success here, if the last of them is recent.";
    tenant_delivering: IntGaugeVec = "ringback_tenant_delivering", &["tenant"], TENANT_SERIES_MAX,
        "1 for each tenant with a recent failure of which a first attempt was delivered in the last 2 min; at most 50.";
    tenant_limited: IntGaugeVec = "ringback_tenant_limited", &["tenant"], TENANT_SERIES_MAX,
        "1 for each tenant at its limit with records waiting; at most 50.";
    tenants_refused: IntGauge = "ringback_tenants_refused", &[], 1,
        "Tenants whose last entry in the tenants topic is refused.";
    tenants_reloads: IntCounterVec = "ringback_tenants_reloads_total", &["result"], TenantsReload::ALL.len(),
        "Reloads of the tenants, by result.";
    tenants_last_reload: IntGauge = "ringback_tenants_last_reload_successful", &[], 1,
        "1 if the present tenants of the files or the topic are in force, else 0.";

    jobs: IntGaugeVec = "ringback_jobs", &["state"], JobStatus::ALL.len(),
        "Replays and redrives of this group, by state; a stopped one is not finished, and no process works on it.";

    build_info: IntGaugeVec = "ringback_build_info", &["version", "librdkafka"], 1,
        "1, with the versions of ringback and librdkafka as labels.";
}

/// All metrics. Series whose labels come from an enum exist from the start.
pub struct Metrics {
    registry: Registry,
    pub(super) names: TopicNames,
    pub(super) families: Families,
    attempts: [[IntCounter; ATTEMPTS]; OUTCOMES],
    durations: [Histogram; Success::ALL.len()],
    dispositions: [IntCounter; Disposition::ALL.len()],
    dead_letters: [IntCounter; DeadLetterReason::ALL.len()],
    readoptions: [IntCounter; ReadoptReason::ALL.len()],
    reloads: [IntCounter; TenantsReload::ALL.len()],
    latencies_unknown: [IntCounter; OddTimestamp::ALL.len()],
    log_drops: [IntCounter; LogDropReason::ALL.len()],
    lateness: BTreeMap<Delay, Histogram>,
}

impl Metrics {
    /// Returns all metrics at zero. `delays` are those of the schedule. The delay
    /// of a topic of earlier settings gets its series at its first attempt.
    /// `timeout` is that of attempts: their histogram gets bounds around it.
    #[must_use]
    pub fn new(
        names: TopicNames,
        delays: &[Delay],
        timeout: Duration,
        version: &str,
        librdkafka: &str,
    ) -> Self {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("it is registered once");
        let of = Families::register(&registry, &around(timeout));
        of.build_info
            .with_label_values(&[version, librdkafka])
            .set(1);
        of.tenants_last_reload.set(1);
        for status in JobStatus::ALL {
            of.jobs.with_label_values(&[status.name()]).set(0);
        }
        let lateness = |delay: &Delay| {
            let label = [delay.to_string()];
            (*delay, of.delay_lateness.with_label_values(&label))
        };
        Self {
            attempts: attempts(&of.attempts),
            durations: Success::ALL.map(|s| of.attempt_duration.with_label_values(&[s.name()])),
            dispositions: Disposition::ALL.map(|d| of.dispositions.with_label_values(&[d.name()])),
            dead_letters: DeadLetterReason::ALL
                .map(|r| of.dead_letters.with_label_values(&[r.name()])),
            readoptions: ReadoptReason::ALL.map(|r| of.readoptions.with_label_values(&[r.name()])),
            reloads: TenantsReload::ALL.map(|r| of.tenants_reloads.with_label_values(&[r.name()])),
            latencies_unknown: OddTimestamp::ALL
                .map(|t| of.latencies_unknown.with_label_values(&[t.name()])),
            log_drops: LogDropReason::ALL
                .map(|r| of.attempt_log_dropped.with_label_values(&[r.name()])),
            lateness: delays.iter().map(lateness).collect(),
            families: of,
            names,
            registry,
        }
    }

    /// Counts an ended attempt. `attempt` is 1 to 10.
    pub fn attempt_ended(&self, attempt: u8, outcome: &Outcome, duration: Duration) {
        let (index, success) = match outcome {
            Outcome::Delivered { .. } => (0, Success::Delivered),
            Outcome::Failed { class, .. } => (1 + *class as usize, Success::Failed),
        };
        self.durations[success as usize].observe(duration.as_secs_f64());
        let number = usize::from(attempt).clamp(1, ATTEMPTS);
        self.attempts[index][number - 1].inc();
    }

    /// Records the time from publication to the start of a first attempt.
    pub fn first_attempt(&self, latency: Latency) {
        self.latency(&self.families.first_attempt_latency, latency);
    }

    /// Records the time from publication to the 2xx answer.
    pub fn delivered(&self, latency: Latency) {
        self.latency(&self.families.delivery_latency, latency);
    }

    fn latency(&self, of: &Histogram, latency: Latency) {
        match latency {
            Latency::Measured(latency) => of.observe(latency.as_secs_f64()),
            Latency::Unknown(timestamp) => self.latencies_unknown[timestamp as usize].inc(),
        }
    }

    /// Records how long after its due time a delayed attempt started.
    pub fn delayed_attempt_started(&self, delay: Delay, lateness: Duration) {
        let seconds = lateness.as_secs_f64();
        match self.lateness.get(&delay) {
            Some(series) => series.observe(seconds),
            None => self
                .families
                .delay_lateness
                .with_label_values(&[delay.to_string()])
                .observe(seconds),
        }
    }

    /// Counts a record that left its position.
    pub fn disposed(&self, disposition: Disposition) {
        self.dispositions[disposition as usize].inc();
    }

    /// Returns how many records have left their position in this way.
    #[must_use]
    pub fn disposed_so_far(&self, disposition: Disposition) -> u64 {
        self.dispositions[disposition as usize].get()
    }

    /// Counts a dead letter.
    pub fn dead_lettered(&self, reason: DeadLetterReason) {
        self.dead_letters[reason as usize].inc();
    }

    /// Counts an attempt that is charged although its outcome is unknown.
    pub fn in_doubt(&self) {
        self.families.in_doubt.inc();
    }

    /// Records an acknowledged commit.
    pub fn committed(&self, took: Duration, metadata_permille: u16) {
        self.families.commit_seconds.observe(took.as_secs_f64());
        let ratio = f64::from(metadata_permille) / 1_000.0;
        self.families.commit_metadata_ratio.set(ratio);
    }

    /// Records an acknowledged transaction.
    pub fn moved(&self, took: Duration) {
        self.families.move_seconds.observe(took.as_secs_f64());
    }

    /// Counts a committed offset map that cannot be used.
    pub fn metadata_rejected(&self) {
        self.families.commit_metadata_rejected.inc();
    }

    /// Counts a committed offset that another program has set.
    pub fn offset_set(&self) {
        self.families.offsets_set.inc();
    }

    /// Counts offsets that were deleted before they were finished.
    pub fn records_lost(&self, offsets: u64) {
        self.families.lost_records.inc_by(offsets);
    }

    /// Counts a rebalance that assigned or revoked partitions.
    pub fn rebalanced(&self) {
        self.families.rebalances.inc();
    }

    /// Counts a restart of the Kafka session.
    pub fn readopting(&self, reason: ReadoptReason) {
        self.readoptions[reason as usize].inc();
    }

    /// Counts an attempt that is missing in the attempt log.
    pub fn attempt_not_logged(&self, reason: LogDropReason) {
        self.log_drops[reason as usize].inc();
    }

    /// Records our clock minus the broker's clock.
    pub fn clock_skew(&self, ms: i64) {
        self.families.clock_skew.set(ms as f64 / 1_000.0);
    }

    /// Counts a reload of the tenants file.
    pub fn tenants_reloaded(&self, result: TenantsReload) {
        self.reloads[result as usize].inc();
        let successful = result == TenantsReload::Ok;
        self.families.tenants_last_reload.set(successful.into());
    }

    /// Shows the number of jobs in each state.
    pub fn jobs(&self, jobs: &[JobStatus]) {
        for status in JobStatus::ALL {
            let count = jobs.iter().filter(|job| **job == status).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let series = self.families.jobs.with_label_values(&[status.name()]);
            series.set(count);
        }
    }

    /// Shows what the pages about health say.
    pub fn verdicts(&self, verdicts: Verdicts) {
        let of = &self.families;
        of.live.set(verdicts.live.into());
        of.healthy.set(verdicts.healthy.into());
        of.ready.set(verdicts.ready.into());
    }

    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and families are not empty");
        text
    }
}

/// Returns bounds between which attempts end that time out, in seconds.
fn around(timeout: Duration) -> [f64; 2] {
    let seconds = timeout.as_secs_f64();
    // Rounded, so that a bound is printed without the noise of the multiplication.
    let rounded = |seconds: f64| (seconds * 10_000.0).round() / 10_000.0;
    [rounded(seconds), rounded(seconds * TIMEOUT_SLACK)]
}

/// Returns the series of all outcomes and attempt numbers; `delivered` is first.
fn attempts(family: &IntCounterVec) -> [[IntCounter; ATTEMPTS]; OUTCOMES] {
    array::from_fn(|index| {
        let outcome = match index.checked_sub(1) {
            None => Success::Delivered.name(),
            Some(class) => ErrorClass::ALL[class].name(),
        };
        array::from_fn(|index| {
            let number = (index + 1).to_string();
            family.with_label_values(&[outcome, number.as_str()])
        })
    })
}

#[cfg(test)]
mod tests;
