//! The metrics, and the only file that names one. Built once with a registry
//! of its own. Never logs. The runner's task counts, the admin thread renders.
//!
//! Series budget: 130 attempts, 13 dispositions and reasons, 6 readoptions;
//! per topic 2 gauges and a histogram; 50 failing tenants at most, 2 each, and
//! 50 limited ones; the histograms without labels 26 each. With five delays some 500 in all, however
//! many tenants there are.

use super::gauges::Shown;
use super::maker::Maker;
use crate::model::attempt::{ATTEMPTS_MAX, ErrorClass, Outcome};
use crate::model::disposition::{DeadLetterReason, Disposition};
use crate::model::fact::ReadoptReason;
use crate::model::position::TopicNames;
use crate::model::time::Delay;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};
use std::array;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// Waits of records, from 1 ms to 12 h.
const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
    5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0,
];
/// What ends within an attempt's deadline or a Kafka timeout.
const CALL_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0,
];
/// `delivered`, then every error class.
const OUTCOMES: usize = 1 + ErrorClass::ALL.len();
const ATTEMPTS: usize = ATTEMPTS_MAX as usize;
const ONCE: &str = "each name and label is valid and registered once";

/// How a reload of the tenants file ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// The new tenants are in force.
    Ok,
    /// The file was refused; the last good one stays.
    Refused,
}

/// Every metric, its labels already resolved where they come from an enum.
pub struct Metrics {
    registry: Registry,
    pub(super) names: TopicNames,
    deliveries: Deliveries,
    accounting: Accounting,
    pub(super) load: Load,
    pub(super) tenants: TenantStates,
    pub(super) shown: Mutex<Shown>,
}

/// Attempts and what became of records.
struct Deliveries {
    attempts: [[IntCounter; ATTEMPTS]; OUTCOMES],
    duration_delivered: Histogram,
    duration_failed: Histogram,
    dispositions: [IntCounter; Disposition::ALL.len()],
    dead_letters: [IntCounter; DeadLetterReason::ALL.len()],
    first_attempt_latency: Histogram,
    delivery_latency: Histogram,
    lateness: HistogramVec,
    lateness_by_delay: BTreeMap<Delay, Histogram>,
}

/// Commits, moves and what goes wrong with them.
struct Accounting {
    in_doubt: IntCounter,
    metadata_ratio: Gauge,
    metadata_rejected: IntCounter,
    lost_records: IntCounter,
    commit: Histogram,
    moves: Histogram,
    clock_skew: Gauge,
    rebalances: IntCounter,
    readoptions: [IntCounter; ReadoptReason::ALL.len()],
}

/// What the engine holds now.
pub(super) struct Load {
    pub(super) in_flight: IntGauge,
    pub(super) in_flight_max: IntGauge,
    pub(super) lag: IntGaugeVec,
    pub(super) oldest_unfinished_age: GaugeVec,
    pub(super) last_progress: Gauge,
    pub(super) unfinished: IntGauge,
    pub(super) assigned: IntGauge,
    pub(super) stopped: IntGauge,
}

/// Tenants and their file.
pub(super) struct TenantStates {
    pub(super) states: [IntGauge; 4],
    pub(super) attempted: [IntGauge; 2],
    pub(super) failing: IntGaugeVec,
    pub(super) failing_since: GaugeVec,
    pub(super) limited: IntGaugeVec,
    pub(super) reloads_ok: IntCounter,
    pub(super) reloads_refused: IntCounter,
    pub(super) last_reload_successful: IntGauge,
}

impl Metrics {
    /// All metrics at zero. `delays` are those of the schedule; a left-over
    /// topic's delay gets its series when it is first seen.
    #[must_use]
    pub fn new(names: TopicNames, delays: &[Delay], version: &str, librdkafka: &str) -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        build_info(&make, version, librdkafka);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect(ONCE);
        Self {
            deliveries: Deliveries::new(&make, delays),
            accounting: Accounting::new(&make),
            load: Load::new(&make),
            tenants: TenantStates::new(&make),
            shown: Mutex::default(),
            names,
            registry,
        }
    }

    /// An attempt ended.
    pub fn attempt_ended(&self, attempt: u8, outcome: &Outcome, duration: Duration) {
        let (at, histogram) = match outcome {
            Outcome::Delivered { .. } => (0, &self.deliveries.duration_delivered),
            Outcome::Failed { class, .. } => {
                (1 + *class as usize, &self.deliveries.duration_failed)
            }
        };
        histogram.observe(duration.as_secs_f64());
        let number = usize::from(attempt).clamp(1, ATTEMPTS);
        self.deliveries.attempts[at][number - 1].inc();
    }

    /// The first attempt of a record started this long after publication.
    pub fn first_attempt(&self, latency: Duration) {
        self.deliveries
            .first_attempt_latency
            .observe(latency.as_secs_f64());
    }

    /// A record was delivered this long after publication.
    pub fn delivered(&self, latency: Duration) {
        self.deliveries
            .delivery_latency
            .observe(latency.as_secs_f64());
    }

    /// A delayed attempt starts this long after it was due.
    pub fn delayed_attempt_started(&self, delay: Delay, lateness: Duration) {
        let seconds = lateness.as_secs_f64();
        match self.deliveries.lateness_by_delay.get(&delay) {
            Some(series) => series.observe(seconds),
            None => {
                let delay = delay.to_string();
                self.deliveries
                    .lateness
                    .with_label_values(&[delay])
                    .observe(seconds);
            }
        }
    }

    /// A residence ended.
    pub fn disposed(&self, disposition: Disposition) {
        self.deliveries.dispositions[disposition as usize].inc();
    }

    /// How many residences ended this way so far.
    #[must_use]
    pub fn disposed_so_far(&self, disposition: Disposition) -> u64 {
        self.deliveries.dispositions[disposition as usize].get()
    }

    /// A record became a dead letter.
    pub fn dead_lettered(&self, reason: DeadLetterReason) {
        self.deliveries.dead_letters[reason as usize].inc();
    }

    /// An attempt is charged without knowing how it ended.
    pub fn in_doubt(&self) {
        self.accounting.in_doubt.inc();
    }

    /// A commit was acknowledged.
    pub fn committed(&self, took: Duration, metadata_permille: u16) {
        self.accounting.commit.observe(took.as_secs_f64());
        self.accounting
            .metadata_ratio
            .set(f64::from(metadata_permille) / 1_000.0);
    }

    /// A transaction was acknowledged.
    pub fn moved(&self, took: Duration) {
        self.accounting.moves.observe(took.as_secs_f64());
    }

    /// A committed map could not be used.
    pub fn metadata_rejected(&self) {
        self.accounting.metadata_rejected.inc();
    }

    /// Offsets were gone before they were finished.
    pub fn records_lost(&self, offsets: u64) {
        self.accounting.lost_records.inc_by(offsets);
    }

    /// Partitions came or go.
    pub fn rebalanced(&self) {
        self.accounting.rebalances.inc();
    }

    /// The Kafka side is taken up again.
    pub fn readopting(&self, reason: ReadoptReason) {
        self.accounting.readoptions[reason as usize].inc();
    }

    /// Our clock minus the broker's.
    pub fn clock_skew(&self, ms: i64) {
        self.accounting.clock_skew.set(ms as f64 / 1_000.0);
    }

    /// The tenants file was read anew.
    pub fn tenants_reloaded(&self, reload: Reload) {
        match reload {
            Reload::Ok => self.tenants.reloads_ok.inc(),
            Reload::Refused => self.tenants.reloads_refused.inc(),
        }
        self.tenants
            .last_reload_successful
            .set((reload == Reload::Ok).into());
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail, and families are not empty");
        text
    }
}

impl Deliveries {
    fn new(make: &Maker<'_>, delays: &[Delay]) -> Self {
        let lateness = make.histograms(
            "ringback_delay_lateness_seconds",
            "Start of a delayed attempt minus when it was due.",
            LATENCY_BUCKETS,
            &["delay"],
        );
        let durations = make.histograms(
            "ringback_attempt_duration_seconds",
            "From the start of an attempt to its outcome.",
            CALL_BUCKETS,
            &["outcome"],
        );
        Self {
            attempts: attempts(make),
            duration_delivered: durations.with_label_values(&["delivered"]),
            duration_failed: durations.with_label_values(&["failed"]),
            dispositions: dispositions(make),
            dead_letters: dead_letters(make),
            first_attempt_latency: make.histogram(
                "ringback_first_attempt_latency_seconds",
                "From publication to the start of the first attempt.",
                LATENCY_BUCKETS,
            ),
            delivery_latency: make.histogram(
                "ringback_delivery_latency_seconds",
                "From publication to the 2xx.",
                LATENCY_BUCKETS,
            ),
            lateness_by_delay: delays
                .iter()
                .map(|delay| {
                    let series = lateness.with_label_values(&[delay.to_string()]);
                    (*delay, series)
                })
                .collect(),
            lateness,
        }
    }
}

impl Accounting {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            in_doubt: make.counter(
                "ringback_in_doubt_total",
                "Attempts charged without knowing how they ended.",
            ),
            metadata_ratio: make.gauge(
                "ringback_commit_metadata_ratio",
                "Used share of the largest commit metadata in the last commit.",
            ),
            metadata_rejected: make.counter(
                "ringback_commit_metadata_rejected_total",
                "Committed maps that could not be used.",
            ),
            lost_records: make.counter(
                "ringback_lost_records_total",
                "Offsets gone from the log before they were finished.",
            ),
            commit: make.histogram(
                "ringback_commit_seconds",
                "From an offset commit to its answer.",
                CALL_BUCKETS,
            ),
            moves: make.histogram(
                "ringback_move_seconds",
                "From the begin of a transaction to its answer.",
                CALL_BUCKETS,
            ),
            clock_skew: make.gauge(
                "ringback_clock_skew_seconds",
                "Our clock minus the broker's.",
            ),
            rebalances: make.counter(
                "ringback_rebalances_total",
                "Rebalance callbacks that brought or took partitions.",
            ),
            readoptions: readoptions(make),
        }
    }
}

impl Load {
    fn new(make: &Maker<'_>) -> Self {
        Self {
            in_flight: make.int_gauge("ringback_in_flight", "Attempts in flight."),
            in_flight_max: make.int_gauge("ringback_in_flight_max", "Their limit."),
            lag: make.int_gauges(
                "ringback_lag_records",
                "Records not yet disposed of; in a delay topic those that wait.",
                &["topic"],
            ),
            oldest_unfinished_age: make.gauges(
                "ringback_oldest_unfinished_age_seconds",
                "Age of the oldest unfinished record, in a delay topic since it was due.",
                &["topic"],
            ),
            last_progress: make.gauge(
                "ringback_last_progress_timestamp_seconds",
                "When a record was last disposed of, or nothing was left to do.",
            ),
            unfinished: make.int_gauge(
                "ringback_unfinished_records",
                "Records in hand or listed as unfinished.",
            ),
            assigned: make.int_gauge("ringback_assigned_partitions", "Partitions of ours."),
            stopped: make.int_gauge(
                "ringback_stopped_partitions",
                "Of those, stopped until an operator acts.",
            ),
        }
    }
}

impl TenantStates {
    fn new(make: &Maker<'_>) -> Self {
        let reloads = make.counters(
            "ringback_tenants_reloads_total",
            "Reloads of the tenants file.",
            &["result"],
        );
        let last_reload_successful = make.int_gauge(
            "ringback_tenants_last_reload_successful",
            "1 if the tenants in force are those of the file as it is now.",
        );
        last_reload_successful.set(1);
        Self {
            states: tenant_states(make),
            attempted: tenants_attempted(make),
            failing: make.int_gauges(
                "ringback_tenant_failing",
                "1 for a tenant whose last attempt failed; at most 50, the worst.",
                &["tenant"],
            ),
            failing_since: make.gauges(
                "ringback_tenant_failing_since_timestamp_seconds",
                "For the same tenants: since when, and why the last attempt failed.",
                &["tenant", "class"],
            ),
            limited: make.int_gauges(
                "ringback_tenant_limited",
                "1 for a tenant at its limit with records waiting; at most 50.",
                &["tenant"],
            ),
            reloads_ok: reloads.with_label_values(&["ok"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            last_reload_successful,
        }
    }
}

fn build_info(make: &Maker<'_>, version: &str, librdkafka: &str) {
    let info = make.int_gauges(
        "ringback_build_info",
        "1, with the versions of what runs.",
        &["version", "librdkafka"],
    );
    info.with_label_values(&[version, librdkafka]).set(1);
}

fn attempts(make: &Maker<'_>) -> [[IntCounter; ATTEMPTS]; OUTCOMES] {
    let family = make.counters(
        "ringback_attempts_total",
        "Attempts that ended.",
        &["outcome", "attempt"],
    );
    array::from_fn(|at| {
        let outcome = match at.checked_sub(1) {
            None => "delivered",
            Some(class) => ErrorClass::ALL[class].name(),
        };
        array::from_fn(|index| {
            let number = (index + 1).to_string();
            family.with_label_values(&[outcome, number.as_str()])
        })
    })
}

fn dispositions(make: &Maker<'_>) -> [IntCounter; Disposition::ALL.len()] {
    let family = make.counters(
        "ringback_dispositions_total",
        "What ended the residences of records.",
        &["disposition"],
    );
    Disposition::ALL.map(|d| family.with_label_values(&[d.name()]))
}

fn dead_letters(make: &Maker<'_>) -> [IntCounter; DeadLetterReason::ALL.len()] {
    let family = make.counters(
        "ringback_dead_letters_total",
        "Records that became dead letters.",
        &["reason"],
    );
    DeadLetterReason::ALL.map(|reason| family.with_label_values(&[reason.name()]))
}

fn readoptions(make: &Maker<'_>) -> [IntCounter; ReadoptReason::ALL.len()] {
    let family = make.counters(
        "ringback_readoptions_total",
        "How often the Kafka side was taken up again.",
        &["reason"],
    );
    ReadoptReason::ALL.map(|reason| family.with_label_values(&[reason.name()]))
}

fn tenant_states(make: &Maker<'_>) -> [IntGauge; 4] {
    let family = make.int_gauges("ringback_tenants", "Tenants by their state.", &["state"]);
    ["healthy", "limited", "failing", "disabled"].map(|state| family.with_label_values(&[state]))
}

fn tenants_attempted(make: &Maker<'_>) -> [IntGauge; 2] {
    let family = make.int_gauges(
        "ringback_tenants_attempted",
        "Tenants with a first attempt in the last 5 min, by how the last of these ended.",
        &["outcome"],
    );
    ["delivered", "failed"].map(|outcome| family.with_label_values(&[outcome]))
}

#[cfg(test)]
mod tests;
