//! The gauges that show the state of the engine. Names no metric. Runs on the
//! runner's thread, about once a second.

use super::metrics::{
    BROKER_SERIES_MAX, Metrics, PartitionLabel, Success, TENANT_SERIES_MAX, TenantState,
};
use crate::model::broker::WaitCause;
use crate::model::overview::{Overview, PartitionStatus};
use prometheus::core::{Atomic, GenericGaugeVec};
use std::collections::BTreeSet;

/// The number of tenants in the tenants file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TenantCounts {
    pub enabled: usize,
    pub disabled: usize,
}

/// The label values that have a series in a family now.
#[derive(Default)]
struct LabelValues(BTreeSet<Vec<String>>);

impl LabelValues {
    /// Sets these series and removes all others.
    fn show<P: Atomic>(
        &mut self,
        family: &GenericGaugeVec<P>,
        series: impl Iterator<Item = (Vec<String>, P::T)>,
    ) {
        let mut now = BTreeSet::new();
        for (labels, value) in series {
            family.with_label_values(&labels).set(value);
            now.insert(labels);
        }
        for gone in self.0.difference(&now) {
            family
                .remove_label_values(gone)
                .expect("each set series exists");
        }
        self.0 = now;
    }
}

/// The series that exist now in families whose labels change.
#[derive(Default)]
pub(super) struct ShownSeries {
    lag: LabelValues,
    oldest_unfinished_age: LabelValues,
    oldest_waiting_age: LabelValues,
    failing: LabelValues,
    first_failures: LabelValues,
    delivering: LabelValues,
    failing_since: LabelValues,
    limited: LabelValues,
    refusing: LabelValues,
    unreachable: LabelValues,
}

impl ShownSeries {
    /// Sets all gauges to this state. A tenant that both fails and is at its
    /// limit counts as failing.
    pub fn show(&mut self, metrics: &Metrics, overview: &Overview, counts: TenantCounts) {
        let to = &metrics.families;
        to.in_flight.set(number(overview.in_flight));
        to.in_flight_max.set(number(overview.in_flight_max));
        to.unfinished.set(number(overview.unfinished));
        to.assigned.set(number(overview.assigned));
        to.stopped.set(number(overview.stopped.len()));
        to.blocked.set(number(overview.blocked.len()));
        let foreign = overview.foreign.iter();
        let foreign = foreign.map(|member| member.partitions.len()).sum();
        to.foreign.set(number(foreign));
        to.tenants_refused.set(number(overview.tenants_refused));
        to.last_progress.set(seconds(overview.last_progress.0));
        let failing = overview.tenants_failing.min(counts.enabled);
        let limited = overview.tenants_limited.min(counts.enabled - failing);
        for state in TenantState::ALL {
            let tenants = match state {
                TenantState::Healthy => counts.enabled - failing - limited,
                TenantState::Limited => limited,
                TenantState::Failing => failing,
                TenantState::Disabled => counts.disabled,
            };
            to.tenants
                .with_label_values(&[state.name()])
                .set(number(tenants));
        }
        for success in Success::ALL {
            let tenants = match success {
                Success::Delivered => overview.attempted.delivered,
                Success::Failed => overview.attempted.failed,
            };
            to.tenants_attempted
                .with_label_values(&[success.name()])
                .set(number(tenants));
        }
        for cause in WaitCause::ALL {
            to.waiting
                .with_label_values(&[cause.name()])
                .set(i64::from(overview.waits_for_kafka == Some(cause)));
        }
        let mut partitions = [0; PartitionLabel::ALL.len()];
        for shown in &overview.partitions {
            partitions[label(shown.state) as usize] += 1;
        }
        for (label, partitions) in PartitionLabel::ALL.iter().zip(partitions) {
            to.partitions
                .with_label_values(&[label.name()])
                .set(partitions);
        }
        self.show_topics(metrics, overview);
        self.show_tenants(metrics, overview);
    }

    fn show_topics(&mut self, metrics: &Metrics, overview: &Overview) {
        let to = &metrics.families;
        let topics = overview
            .topics
            .iter()
            .map(|(topic, state)| (vec![metrics.names.name(*topic)], state));
        let lag = |lag: u64| i64::try_from(lag).unwrap_or(i64::MAX);
        let lags = topics.clone().map(|(name, state)| (name, lag(state.lag)));
        self.lag.show(&to.lag, lags);
        let ages = topics
            .clone()
            .map(|(name, state)| (name, state.oldest_waiting_age.as_secs_f64()));
        self.oldest_waiting_age.show(&to.oldest_waiting_age, ages);
        let ages = topics.map(|(name, state)| (name, state.oldest_unfinished_age.as_secs_f64()));
        self.oldest_unfinished_age
            .show(&to.oldest_unfinished_age, ages);
        let refused = overview.refusing.iter().map(|refused| {
            let topic = metrics.names.name(refused.topic);
            (vec![topic, refused.reason.name().to_owned()], 1)
        });
        self.refusing.show(&to.destination_refused, refused);
        let unreachable = overview.unreachable.iter().take(BROKER_SERIES_MAX);
        let brokers = unreachable.map(|silent| (vec![silent.broker.id.to_string()], 1));
        self.unreachable.show(&to.broker_unreachable, brokers);
    }

    fn show_tenants(&mut self, metrics: &Metrics, overview: &Overview) {
        let to = &metrics.families;
        let failing = overview.failing.iter().take(TENANT_SERIES_MAX);
        let each = failing
            .clone()
            .map(|failing| (vec![failing.tenant.to_string()], 1));
        self.failing.show(&to.tenant_failing, each);
        let first = failing.clone().map(|failing| {
            let failures = i64::try_from(failing.first_failures).unwrap_or(i64::MAX);
            (vec![failing.tenant.to_string()], failures)
        });
        self.first_failures.show(&to.tenant_first_failures, first);
        let delivering = overview.delivering.iter().take(TENANT_SERIES_MAX);
        let each = delivering.map(|tenant| (vec![tenant.to_string()], 1));
        self.delivering.show(&to.tenant_delivering, each);
        let since = failing.map(|failing| {
            let labels = vec![failing.tenant.to_string(), failing.class.name().to_owned()];
            (labels, seconds(failing.since.0))
        });
        self.failing_since.show(&to.tenant_failing_since, since);
        let limited = overview.limited.iter().take(TENANT_SERIES_MAX);
        let each = limited.map(|tenant| (vec![tenant.to_string()], 1));
        self.limited.show(&to.tenant_limited, each);
    }
}

fn label(status: PartitionStatus) -> PartitionLabel {
    match status {
        PartitionStatus::Adopting => PartitionLabel::Starting,
        PartitionStatus::Running | PartitionStatus::Leaving => PartitionLabel::Active,
        PartitionStatus::Stalled(..) => PartitionLabel::Stalled,
        PartitionStatus::Stopped(_) => PartitionLabel::Stopped,
    }
}

fn number(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::ErrorClass;
    use crate::model::broker::{Broker, BrokerId};
    use crate::model::destination::RefusalReason;
    use crate::model::overview::{
        FailingTenant, FirstAttempts, PartitionOverview, RefusedDestination, TopicOverview,
        UnreachableBroker, Verdicts,
    };
    use crate::model::position::{NextOffset, Topic, TopicNames};
    use crate::model::tenant::TenantId;
    use crate::model::time::UnixMillis;
    use std::time::Duration;

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t-{n}")).expect("valid")
    }

    fn failing(n: usize, class: ErrorClass) -> FailingTenant {
        FailingTenant::first(tenant(n), UnixMillis(2_500), class, "")
    }

    fn shown(number: i32, state: PartitionStatus) -> PartitionOverview {
        let topic = Topic::Source;
        PartitionOverview {
            partition: topic.partition(number),
            state,
            base: NextOffset(0),
            next: NextOffset(0),
            log_end: NextOffset(0),
            lag: 0,
            oldest_unfinished_age: Duration::ZERO,
        }
    }

    /// 60 failing tenants, 2 limited ones, one topic and four partitions.
    fn overview() -> Overview {
        let lag = TopicOverview {
            lag: 7,
            oldest_unfinished_age: Duration::from_millis(2_500),
            oldest_waiting_age: Duration::from_millis(1_500),
            next_due: None,
        };
        Overview {
            in_flight: 3,
            in_flight_max: 1_024,
            last_progress: UnixMillis(1_500),
            tenants_limited: 2,
            tenants_failing: 60,
            failing: (0..60).map(|n| failing(n, ErrorClass::Timeout)).collect(),
            limited: vec![tenant(3), tenant(4)],
            delivering: vec![tenant(5)],
            attempted: FirstAttempts {
                delivered: 30,
                failed: 60,
            },
            topics: [(Topic::Source, lag)].into(),
            refusing: vec![RefusedDestination {
                topic: Topic::DeadLetter,
                reason: RefusalReason::NotAuthorized,
                since: UnixMillis(0),
                waiting: 3,
            }],
            unreachable: vec![UnreachableBroker {
                broker: Broker {
                    id: BrokerId(2),
                    address: "kafka-2:9092".to_owned(),
                },
                partitions: 4,
                since: UnixMillis(0),
            }],
            partitions: vec![
                shown(0, PartitionStatus::Running),
                shown(1, PartitionStatus::Leaving),
                shown(2, PartitionStatus::Stalled("late", Duration::from_secs(31))),
                shown(3, PartitionStatus::Stopped("beyond the log")),
            ],
            ..Overview::default()
        }
    }

    fn metrics() -> Metrics {
        Metrics::new(
            TopicNames::new("call-ended"),
            &[],
            Duration::from_secs(5),
            "9.9.9",
            "2.12.1",
        )
    }

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render()).expect("text")
    }

    #[test]
    fn partitions_are_counted_by_state_and_the_pages_have_their_gauges() {
        let metrics = metrics();
        ShownSeries::default().show(&metrics, &overview(), TenantCounts::default());
        metrics.verdicts(Verdicts {
            live: true,
            healthy: false,
            ready: false,
        });
        for line in [
            "ringback_partitions{state=\"running\"} 2",
            "ringback_partitions{state=\"starting\"} 0",
            "ringback_partitions{state=\"stalled\"} 1",
            "ringback_partitions{state=\"stopped\"} 1",
            "ringback_live 1",
            "ringback_healthy 0",
            "ringback_ready 0",
        ] {
            assert!(text(&metrics).contains(&format!("\n{line}\n")), "{line}");
        }
    }

    #[test]
    fn an_overview_becomes_gauges_and_ended_states_disappear() {
        let metrics = metrics();
        let text = || text(&metrics);
        let series = |family: &str| text().matches(&format!("\n{family}{{")).count();
        let mut shown = ShownSeries::default();
        let mut overview = overview();
        let counts = TenantCounts {
            enabled: 100,
            disabled: 5,
        };
        shown.show(&metrics, &overview, counts);
        for line in [
            "ringback_in_flight 3",
            "ringback_in_flight_max 1024",
            "ringback_last_progress_timestamp_seconds 1.5",
            "ringback_lag_records{topic=\"call-ended\"} 7",
            "ringback_oldest_unfinished_age_seconds{topic=\"call-ended\"} 2.5",
            "ringback_oldest_waiting_age_seconds{topic=\"call-ended\"} 1.5",
            "ringback_tenant_first_attempts_failed{tenant=\"t-0\"} 0",
            "ringback_tenant_delivering{tenant=\"t-5\"} 1",
            "ringback_tenants{state=\"healthy\"} 38",
            "ringback_tenants{state=\"limited\"} 2",
            "ringback_tenants{state=\"failing\"} 60",
            "ringback_tenants{state=\"disabled\"} 5",
            "ringback_tenants_attempted{outcome=\"delivered\"} 30",
            "ringback_tenants_attempted{outcome=\"failed\"} 60",
            "ringback_tenant_failing{tenant=\"t-0\"} 1",
            "ringback_tenant_failing_since_timestamp_seconds{class=\"timeout\",tenant=\"t-0\"} 2.5",
            "ringback_tenant_limited{tenant=\"t-4\"} 1",
            "ringback_destination_refused{reason=\"not_authorized\",topic=\"call-ended.dead-letter\"} 1",
            "ringback_broker_unreachable{broker=\"2\"} 1",
        ] {
            assert!(text().contains(&format!("\n{line}\n")), "{line}");
        }
        let by_tenant = [
            "ringback_tenant_failing",
            "ringback_tenant_failing_since_timestamp_seconds",
        ];
        assert_eq!(by_tenant.map(series), [TENANT_SERIES_MAX; 2]);
        overview.failing = vec![failing(7, ErrorClass::Dns), failing(77, ErrorClass::Tls)];
        overview.limited.remove(0);
        overview.topics.clear();
        overview.refusing.clear();
        overview.unreachable.clear();
        shown.show(&metrics, &overview, counts);
        assert_eq!(
            by_tenant.map(series),
            [2; 2],
            "also after a change of class"
        );
        for line in [
            "ringback_tenant_failing{tenant=\"t-77\"} 1",
            "ringback_tenant_failing_since_timestamp_seconds{class=\"dns\",tenant=\"t-7\"} 2.5",
        ] {
            assert!(text().contains(&format!("\n{line}\n")), "{line}");
        }
        assert_eq!(series("ringback_tenant_limited"), 1);
        assert_eq!(series("ringback_lag_records"), 0);
        assert_eq!(series("ringback_destination_refused"), 0);
        assert_eq!(series("ringback_broker_unreachable"), 0);
    }
}
