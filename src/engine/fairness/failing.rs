//! Tenants whose last attempt failed: for operators, decides nothing.
//!
//! A tenant's next attempt may be another replica's, which then knows better:
//! so one that fails is forgotten some time after the record should have been
//! tried again, an hour after its last failure at the latest, or with the
//! partition that its last record came from.
//!
//! Limit: one entry for each configured tenant at most, some 300 bytes each.

use crate::model::attempt::ErrorClass;
use crate::model::overview::FailingTenant;
use crate::model::position::Partition;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::collections::HashMap;
use std::time::Duration;

/// The longest text of an error that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 200;
/// Longer than a record that is due waits for its tenant.
const REMEMBERED_MIN: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: Duration = Duration::from_secs(3_600);

/// A failed attempt.
#[derive(Clone, Copy)]
pub struct Failure<'a> {
    pub class: ErrorClass,
    pub status: Option<u16>,
    pub detail: &'a str,
    /// Where its record came from.
    pub partition: Partition,
    /// How long the record waits now.
    pub wait: Duration,
}

#[derive(Default)]
pub struct Failing {
    tenants: HashMap<TenantId, Entry>,
}

struct Entry {
    shown: FailingTenant,
    partition: Partition,
    until: UnixMillis,
}

impl Failing {
    /// An attempt of this tenant succeeded.
    pub fn delivered(&mut self, tenant: &TenantId) {
        // Nearly always nobody fails, and then no name need be looked up.
        if !self.tenants.is_empty() {
            self.tenants.remove(tenant);
        }
    }

    /// An attempt of this tenant failed.
    pub fn failed(&mut self, tenant: &TenantId, now: UnixMillis, failure: Failure<'_>) {
        let detail = beginning(failure.detail);
        let until = now.plus((failure.wait + REMEMBERED_MIN).min(REMEMBERED_MAX));
        match self.tenants.get_mut(tenant).filter(|e| e.until > now) {
            Some(entry) => {
                entry.partition = failure.partition;
                entry.until = entry.until.max(until);
                let shown = &mut entry.shown;
                shown.last_at = now;
                shown.class = failure.class;
                shown.status = failure.status;
                shown.failures += 1;
                if shown.detail != detail {
                    detail.clone_into(&mut shown.detail);
                }
            }
            None => {
                let (class, status) = (failure.class, failure.status);
                let shown = FailingTenant {
                    status,
                    ..FailingTenant::first(tenant.clone(), now, class, detail)
                };
                let entry = Entry {
                    shown,
                    partition: failure.partition,
                    until,
                };
                self.tenants.insert(tenant.clone(), entry);
            }
        }
    }

    /// Forgets tenants that have no callback any more.
    pub fn retain(&mut self, mut has_callback: impl FnMut(&TenantId) -> bool) {
        self.tenants.retain(|tenant, _| has_callback(tenant));
    }

    /// These partitions are another replica's now.
    pub fn forget(&mut self, partitions: &[Partition]) {
        self.tenants
            .retain(|_, entry| !partitions.contains(&entry.partition));
    }

    /// How many fail, and those that have failed longest, at most so many.
    #[must_use]
    pub fn worst(&self, most: usize, now: UnixMillis) -> (usize, Vec<FailingTenant>) {
        let entry = self.tenants.values().filter(|entry| entry.until > now);
        let mut all: Vec<&FailingTenant> = entry.map(|entry| &entry.shown).collect();
        all.sort_unstable_by(|a, b| (a.since, &a.tenant).cmp(&(b.since, &b.tenant)));
        (all.len(), all.into_iter().take(most).cloned().collect())
    }
}

/// As many whole characters as fit in [`DETAIL_BYTES_MAX`].
fn beginning(text: &str) -> &str {
    let cut = (0..=text.len().min(DETAIL_BYTES_MAX))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..cut.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::Topic;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("valid tenant id")
    }

    fn partition(number: i32) -> Partition {
        let topic = Topic::Source;
        Partition { topic, number }
    }

    fn failure(class: ErrorClass, detail: &str) -> Failure<'_> {
        Failure {
            class,
            status: None,
            detail,
            partition: partition(0),
            wait: Duration::from_secs(10),
        }
    }

    fn names(failing: &Failing, now: UnixMillis) -> Vec<String> {
        let (count, worst) = failing.worst(9, now);
        assert_eq!(count, worst.len());
        worst.iter().map(|f| f.tenant.as_str().to_owned()).collect()
    }

    #[test]
    fn a_tenant_fails_from_its_first_failure_to_its_next_success() {
        let mut failing = Failing::default();
        let (a, b) = (tenant("a"), tenant("b"));
        let now = UnixMillis(9);
        failing.failed(&b, UnixMillis(5), failure(ErrorClass::Timeout, "no answer"));
        failing.failed(&a, UnixMillis(5), failure(ErrorClass::Dns, "no name"));
        let mut unavailable = failure(ErrorClass::Http5xx, "503");
        unavailable.status = Some(503);
        failing.failed(&a, now, unavailable);
        let (count, worst) = failing.worst(1, now);
        assert_eq!((count, worst.len()), (2, 1));
        let first = FailingTenant::first(a.clone(), UnixMillis(5), ErrorClass::Http5xx, "503");
        let expected = FailingTenant {
            status: Some(503),
            last_at: now,
            failures: 2,
            ..first
        };
        assert_eq!(worst[0], expected);

        failing.delivered(&a);
        assert_eq!(names(&failing, now), ["b"]);
        failing.retain(|tenant| *tenant != b);
        assert!(names(&failing, now).is_empty());
    }

    #[test]
    fn entries_that_another_replica_may_update_are_forgotten() {
        let mut failing = Failing::default();
        let (a, b) = (tenant("a"), tenant("b"));
        let now = UnixMillis(0);
        failing.failed(&a, now, failure(ErrorClass::Dns, ""));
        let mut long = failure(ErrorClass::Dns, "");
        (long.partition, long.wait) = (partition(1), Duration::from_secs(21_600));
        failing.failed(&b, now, long);
        let tried_again = now.plus(Duration::from_secs(10) + REMEMBERED_MIN);
        assert_eq!(names(&failing, UnixMillis(tried_again.0 - 1)), ["a", "b"]);
        assert_eq!(names(&failing, tried_again), ["b"]);
        assert!(names(&failing, now.plus(REMEMBERED_MAX)).is_empty());

        failing.failed(&a, tried_again, failure(ErrorClass::Dns, ""));
        let (_, worst) = failing.worst(9, tried_again);
        assert_eq!(worst[1].since, tried_again, "a new failure");
        failing.forget(&[partition(1)]);
        assert_eq!(names(&failing, tried_again), ["a"]);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let mut failing = Failing::default();
        let long = "话".repeat(99);
        failing.failed(&tenant("a"), UnixMillis(5), failure(ErrorClass::Dns, &long));
        let (_, worst) = failing.worst(1, UnixMillis(5));
        assert_eq!(worst[0].detail, "话".repeat(66));
    }
}
