//! Tenants whose last attempt failed: for operators only, without an effect on
//! decisions. Never IO, never a clock. Runs on the runner's task.
//!
//! Another replica may make a tenant's next attempt, and then only that replica
//! sees its outcome. So an entry is forgotten some time after its record is due
//! again, at the latest an hour after the last failure. It is also forgotten with
//! the partition of its last record.
//!
//! Limit: at most one entry for each configured tenant, some 300 bytes each.

use crate::model::attempt::ErrorClass;
use crate::model::overview::FailingTenant;
use crate::model::position::Partition;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::collections::HashMap;
use std::time::Duration;

/// The maximum length of a remembered error text, in bytes.
const DETAIL_BYTES_MAX: usize = 200;
/// Longer than the wait of a due record for its tenant.
const REMEMBERED_MIN: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: Duration = Duration::from_secs(3_600);

/// A failed attempt.
#[derive(Clone, Copy)]
pub struct Failure<'a> {
    pub class: ErrorClass,
    pub status: Option<u16>,
    pub detail: &'a str,
    /// The partition of its record.
    pub partition: Partition,
    /// The delay before the record's next attempt.
    pub wait: Duration,
}

/// The failing tenants.
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
    /// Records that an attempt of this tenant succeeded.
    pub fn delivered(&mut self, tenant: &TenantId) {
        // Usually no tenant fails, and the lookup is not needed.
        if !self.tenants.is_empty() {
            self.tenants.remove(tenant);
        }
    }

    /// Records that an attempt of this tenant failed.
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

    /// Forgets tenants without a callback.
    pub fn retain(&mut self, mut has_callback: impl FnMut(&TenantId) -> bool) {
        self.tenants.retain(|tenant, _| has_callback(tenant));
    }

    /// Forgets tenants whose last record came from these revoked partitions.
    pub fn forget(&mut self, partitions: &[Partition]) {
        self.tenants
            .retain(|_, entry| !partitions.contains(&entry.partition));
    }

    /// Returns the number of failing tenants, and the `most` that have failed
    /// longest.
    #[must_use]
    pub fn worst(&self, most: usize, now: UnixMillis) -> (usize, Vec<FailingTenant>) {
        let entry = self.tenants.values().filter(|entry| entry.until > now);
        let mut all: Vec<&FailingTenant> = entry.map(|entry| &entry.shown).collect();
        all.sort_unstable_by(|a, b| (a.since, &a.tenant).cmp(&(b.since, &b.tenant)));
        (all.len(), all.into_iter().take(most).cloned().collect())
    }
}

/// Returns as many whole characters as fit in [`DETAIL_BYTES_MAX`].
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
    fn a_tenant_is_failing_from_its_first_failure_to_its_next_success() {
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
