//! What `/metrics` says after which calls.

use super::super::registry::MetricKind;
use super::*;

const TIMEOUT: Duration = Duration::from_millis(700);

fn metrics() -> Metrics {
    let delays = ["10s", "1m"].map(|text| text.parse().expect("valid"));
    Metrics::new(
        TopicNames::new("call-ended"),
        &delays,
        TIMEOUT,
        "9.9.9",
        "2.12.1",
    )
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
fn every_variant_has_its_own_series() {
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
    let failed = ErrorClass::ALL.len();
    says(
        &metrics,
        &format!("ringback_attempt_duration_seconds_count{{outcome=\"failed\"}} {failed}"),
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
fn an_attempt_that_times_out_is_within_narrow_bounds() {
    let metrics = metrics();
    let timeout = |duration| {
        let outcome = Outcome::Failed {
            class: ErrorClass::Timeout,
            status: None,
            retry_after: None,
            detail: String::new(),
        };
        metrics.attempt_ended(1, &outcome, duration);
    };
    timeout(TIMEOUT + Duration::from_millis(3));
    timeout(Duration::from_millis(5_003));
    for (bound, count) in [("0.7", 0), ("0.735", 1), ("5", 1), ("5.25", 2)] {
        says(
            &metrics,
            &format!(
                "ringback_attempt_duration_seconds_bucket{{outcome=\"failed\",le=\"{bound}\"}} {count}"
            ),
        );
    }
}

#[test]
fn latencies_of_odd_timestamps_have_series_of_their_own() {
    let metrics = metrics();
    for timestamp in OddTimestamp::ALL {
        metrics.first_attempt(Latency::Unknown(timestamp));
        metrics.delivered(Latency::Unknown(timestamp));
        let name = timestamp.name();
        says(
            &metrics,
            &format!("ringback_latencies_unknown_total{{timestamp=\"{name}\"}} 2"),
        );
    }
    metrics.delivered(Latency::Measured(Duration::from_millis(3)));
    says(&metrics, "ringback_first_attempt_latency_seconds_count 0");
    says(&metrics, "ringback_delivery_latency_seconds_count 1");
}

#[test]
fn versions_waits_and_the_process_are_there() {
    let metrics = metrics();
    metrics.delayed_attempt_started("10s".parse().expect("valid"), Duration::from_millis(4));
    metrics.delayed_attempt_started("90s".parse().expect("valid"), Duration::from_millis(4));
    metrics.tenants_reloaded(TenantsReload::Refused);
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

#[test]
fn every_family_is_as_its_row_says() {
    let metrics = metrics();
    let families = metrics.registry.gather();
    for row in DEFINITIONS {
        let is_histogram = row.kind == MetricKind::Histogram;
        assert_eq!(is_histogram, !row.buckets.is_empty(), "{}", row.name);
        let Some(family) = families.iter().find(|family| family.name() == row.name) else {
            assert!(!row.labels.is_empty(), "{} has no series", row.name);
            continue;
        };
        assert_eq!(family.help(), row.help);
        assert!(family.get_metric().len() <= row.series_max, "{}", row.name);
        for series in family.get_metric() {
            let mut labels = row.labels.to_vec();
            labels.sort_unstable();
            let found: Vec<&str> = series.get_label().iter().map(|l| l.name()).collect();
            assert_eq!(found, labels, "{}", row.name);
        }
    }
}
