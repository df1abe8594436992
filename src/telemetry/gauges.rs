//! The engine's present state as gauges. Names no metric. Runs on the runner's
//! task, about once a second.

use super::metrics::Metrics;
use crate::model::attempt::ErrorClass;
use crate::model::overview::Overview;
use crate::model::position::Topic;
use crate::model::tenant::TenantId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

/// Tenants that are named at a time as failing, and as limited.
pub(super) const NAMED_MAX: usize = 50;
const SHOWN: &str = "what was shown has series";

/// The tenants of the file, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TenantCounts {
    /// With a callback that is switched on.
    pub enabled: usize,
    /// Switched off.
    pub disabled: usize,
}

/// The labels that have series now, so that those no longer true are removed.
#[derive(Default)]
pub(super) struct Shown {
    topics: BTreeSet<Topic>,
    failing: BTreeMap<TenantId, ErrorClass>,
    limited: BTreeSet<TenantId>,
}

impl Metrics {
    /// The engine's present state. A tenant that is both failing and at its
    /// limit counts as failing.
    pub fn overview(&self, overview: &Overview, tenants: TenantCounts) {
        self.load.in_flight.set(count(overview.in_flight));
        self.load.in_flight_max.set(count(overview.in_flight_max));
        self.load.unfinished.set(count(overview.unfinished));
        self.load.assigned.set(count(overview.assigned));
        self.load.stopped.set(count(overview.stopped.len()));
        self.load
            .last_progress
            .set(overview.last_progress.0 as f64 / 1_000.0);
        let failing = overview.tenants_failing.min(tenants.enabled);
        let limited = overview.tenants_limited.min(tenants.enabled - failing);
        let healthy = tenants.enabled - failing - limited;
        let counts = [healthy, limited, failing, tenants.disabled];
        for (gauge, number) in self.tenants.states.iter().zip(counts) {
            gauge.set(count(number));
        }
        let attempted = [overview.attempted.delivered, overview.attempted.failed];
        for (gauge, number) in self.tenants.attempted.iter().zip(attempted) {
            gauge.set(count(number));
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.show_topics(overview, &mut shown.topics);
        self.show_failing(overview, &mut shown.failing);
        self.show_limited(overview, &mut shown.limited);
    }

    fn show_topics(&self, overview: &Overview, shown: &mut BTreeSet<Topic>) {
        for (topic, state) in &overview.topics {
            let name = [self.names.name(*topic)];
            let lag = i64::try_from(state.lag).unwrap_or(i64::MAX);
            self.load.lag.with_label_values(&name).set(lag);
            self.load
                .oldest_unfinished_age
                .with_label_values(&name)
                .set(state.oldest_unfinished_age.as_secs_f64());
            shown.insert(*topic);
        }
        shown.retain(|topic| {
            let stays = overview.topics.contains_key(topic);
            if !stays {
                let name = [self.names.name(*topic)];
                self.load.lag.remove_label_values(&name).expect(SHOWN);
                self.load
                    .oldest_unfinished_age
                    .remove_label_values(&name)
                    .expect(SHOWN);
            }
            stays
        });
    }

    fn show_failing(&self, overview: &Overview, shown: &mut BTreeMap<TenantId, ErrorClass>) {
        let mut now = BTreeMap::new();
        for failing in overview.failing.iter().take(NAMED_MAX) {
            let (tenant, class) = (failing.tenant.as_str(), failing.class.name());
            self.tenants.failing.with_label_values(&[tenant]).set(1);
            self.tenants
                .failing_since
                .with_label_values(&[tenant, class])
                .set(failing.since.0 as f64 / 1_000.0);
            now.insert(failing.tenant.clone(), failing.class);
        }
        for (tenant, class) in shown.iter() {
            let still = now.get(tenant);
            let (tenant, name) = (tenant.as_str(), class.name());
            if still.is_none() {
                let failing = &self.tenants.failing;
                failing.remove_label_values(&[tenant]).expect(SHOWN);
            }
            if still != Some(class) {
                let since = &self.tenants.failing_since;
                since.remove_label_values(&[tenant, name]).expect(SHOWN);
            }
        }
        *shown = now;
    }

    fn show_limited(&self, overview: &Overview, shown: &mut BTreeSet<TenantId>) {
        let limited = &self.tenants.limited;
        let now: BTreeSet<TenantId> = overview.limited.iter().take(NAMED_MAX).cloned().collect();
        for gone in shown.difference(&now) {
            limited.remove_label_values(&[gone.as_str()]).expect(SHOWN);
        }
        for tenant in &now {
            limited.with_label_values(&[tenant.as_str()]).set(1);
        }
        *shown = now;
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
