//! What `/metrics` says after which calls.

use super::*;
use crate::model::overview::{FailingTenant, FirstAttempts, Overview, TopicOverview};
use crate::model::position::Topic;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use crate::telemetry::gauges::{NAMED_MAX, TenantCounts};

fn metrics() -> Metrics {
    let delays = ["10s", "1m"].map(|text| text.parse().expect("valid"));
    Metrics::new(TopicNames::new("call-ended"), &delays, "9.9.9", "2.12.1")
}

#[track_caller]
fn says(metrics: &Metrics, line: &str) {
    let text = String::from_utf8(metrics.render()).expect("text");
    let found = text.lines().any(|is| is == line);
    let family = line.split(['{', ' ']).next().expect("a name");
    let near: Vec<&str> = text.lines().filter(|is| is.starts_with(family)).collect();
    assert!(found, "no line '{line}' in {near:#?}");
}

#[test]
fn every_enum_has_its_own_series() {
    // An index that is not the enum's would count under another's name.
    let metrics = metrics();
    for class in ErrorClass::ALL {
        let outcome = Outcome::Failed {
            class,
            status: None,
            retry_after: None,
            detail: String::new(),
        };
        metrics.attempt_ended(2, &outcome, Duration::from_millis(3));
        let name = class.name();
        says(
            &metrics,
            &format!("ringback_attempts_total{{attempt=\"2\",outcome=\"{name}\"}} 1"),
        );
    }
    metrics.attempt_ended(10, &Outcome::Delivered { status: 200 }, Duration::ZERO);
    says(
        &metrics,
        "ringback_attempts_total{attempt=\"10\",outcome=\"delivered\"} 1",
    );
    says(
        &metrics,
        "ringback_attempt_duration_seconds_count{outcome=\"failed\"} 12",
    );
    for disposition in Disposition::ALL {
        metrics.disposed(disposition);
        let name = disposition.name();
        says(
            &metrics,
            &format!("ringback_dispositions_total{{disposition=\"{name}\"}} 1"),
        );
    }
    for reason in DeadLetterReason::ALL {
        metrics.dead_lettered(reason);
        let name = reason.name();
        says(
            &metrics,
            &format!("ringback_dead_letters_total{{reason=\"{name}\"}} 1"),
        );
    }
    for reason in ReadoptReason::ALL {
        metrics.readopting(reason);
        let name = reason.name();
        says(
            &metrics,
            &format!("ringback_readoptions_total{{reason=\"{name}\"}} 1"),
        );
    }
}

#[test]
fn an_overview_becomes_gauges_and_what_is_over_disappears() {
    let metrics = metrics();
    let tenant = |n: usize| TenantId::new(&format!("t-{n}")).expect("valid");
    let failing = |n, class| FailingTenant::first(tenant(n), UnixMillis(2_500), class, "");
    let mut overview = Overview {
        in_flight: 3,
        in_flight_max: 1_024,
        last_progress: UnixMillis(1_500),
        tenants_limited: 2,
        tenants_failing: 60,
        failing: (0..60).map(|n| failing(n, ErrorClass::Timeout)).collect(),
        limited: vec![tenant(3), tenant(4)],
        attempted: FirstAttempts {
            delivered: 30,
            failed: 60,
        },
        ..Overview::default()
    };
    let lag = TopicOverview {
        lag: 7,
        oldest_unfinished_age: Duration::from_millis(2_500),
        next_due: None,
    };
    overview.topics.insert(Topic::Source, lag);
    let counts = TenantCounts {
        enabled: 100,
        disabled: 5,
    };
    metrics.overview(&overview, counts);
    for line in [
        "ringback_in_flight 3",
        "ringback_in_flight_max 1024",
        "ringback_last_progress_timestamp_seconds 1.5",
        "ringback_lag_records{topic=\"call-ended\"} 7",
        "ringback_oldest_unfinished_age_seconds{topic=\"call-ended\"} 2.5",
        "ringback_tenants{state=\"healthy\"} 38",
        "ringback_tenants{state=\"limited\"} 2",
        "ringback_tenants{state=\"failing\"} 60",
        "ringback_tenants{state=\"disabled\"} 5",
        "ringback_tenants_attempted{outcome=\"delivered\"} 30",
        "ringback_tenants_attempted{outcome=\"failed\"} 60",
        "ringback_tenant_failing{tenant=\"t-0\"} 1",
        "ringback_tenant_failing_since_timestamp_seconds{class=\"timeout\",tenant=\"t-0\"} 2.5",
        "ringback_tenant_limited{tenant=\"t-4\"} 1",
    ] {
        says(&metrics, line);
    }
    let series = |family: &str| {
        let text = String::from_utf8(metrics.render()).expect("text");
        text.matches(&format!("{family}{{")).count()
    };
    let by_tenant = [
        "ringback_tenant_failing",
        "ringback_tenant_failing_since_timestamp_seconds",
    ];
    assert_eq!(by_tenant.map(series), [NAMED_MAX; 2]);
    overview.failing = vec![failing(7, ErrorClass::Dns), failing(77, ErrorClass::Tls)];
    overview.limited.remove(0);
    overview.topics.clear();
    metrics.overview(&overview, counts);
    assert_eq!(
        by_tenant.map(series),
        [2; 2],
        "also where the class changed"
    );
    for line in [
        "ringback_tenant_failing{tenant=\"t-77\"} 1",
        "ringback_tenant_failing_since_timestamp_seconds{class=\"dns\",tenant=\"t-7\"} 2.5",
    ] {
        says(&metrics, line);
    }
    assert_eq!(series("ringback_tenant_limited"), 1);
    assert_eq!(series("ringback_lag_records"), 0);
}

#[test]
fn versions_waits_and_the_process_are_there() {
    let metrics = metrics();
    metrics.delayed_attempt_started("10s".parse().expect("valid"), Duration::from_millis(4));
    metrics.delayed_attempt_started("90s".parse().expect("valid"), Duration::from_millis(4));
    metrics.tenants_reloaded(Reload::Refused);
    metrics.clock_skew(-1_500);
    for line in [
        "ringback_build_info{librdkafka=\"2.12.1\",version=\"9.9.9\"} 1",
        "ringback_delay_lateness_seconds_count{delay=\"10s\"} 1",
        "ringback_delay_lateness_seconds_count{delay=\"1m\"} 0",
        "ringback_delay_lateness_seconds_count{delay=\"90s\"} 1",
        "ringback_delay_lateness_seconds_bucket{delay=\"10s\",le=\"43200\"} 1",
        "ringback_tenants_reloads_total{result=\"refused\"} 1",
        "ringback_tenants_last_reload_successful 0",
        "ringback_clock_skew_seconds -1.5",
    ] {
        says(&metrics, line);
    }
    let text = String::from_utf8(metrics.render()).expect("text");
    assert!(text.contains("\nprocess_resident_memory_bytes "));
}
