//! Tenants whose last attempt failed, and those of them that still deliver: for operators only, without an effect on
//! decisions. Never IO, never a clock. Runs on the runner's thread.
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
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// The maximum length of a remembered error text, in bytes.
const DETAIL_BYTES_MAX: usize = 200;
/// Longer than the wait of a due record for its tenant.
const REMEMBERED_MIN: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: Duration = Duration::from_secs(3_600);
/// Failed first attempts count this long after the last of them. After it, retries
/// alone do not show that the tenant is down.
const FIRST_FAILURES_COUNT_FOR: Duration = Duration::from_secs(1_800);
/// A delivered first attempt shows this long that the tenant is not down. Longer
/// than the time between two scrapes of the metrics.
const DELIVERING_FOR: Duration = Duration::from_secs(120);

/// A failed attempt.
#[derive(Clone, Copy)]
pub struct Failure<'a> {
    pub class: ErrorClass,
    pub status: Option<u16>,
    pub detail: &'a str,
    /// The partition of its record.
    pub partition: Partition,
    /// Whether it was the record's first attempt.
    pub first: bool,
    /// The delay before the record's next attempt.
    pub wait: Duration,
}

/// The failing tenants.
#[derive(Default)]
pub struct Failing {
    tenants: HashMap<TenantId, Entry>,
}

struct Entry {
    /// None after a success.
    shown: Option<FailingTenant>,
    partition: Partition,
    until: UnixMillis,
    first_failed_at: Option<UnixMillis>,
    first_delivered_at: Option<UnixMillis>,
}

impl Failing {
    /// Records that an attempt of this tenant succeeded; `first` as in [`Failure`].
    pub fn delivered(&mut self, tenant: &TenantId, first: bool, now: UnixMillis) {
        // Usually no tenant fails, and the lookup is not needed.
        if !self.tenants.is_empty()
            && let Some(entry) = self.tenants.get_mut(tenant)
        {
            entry.shown = None;
            if first {
                entry.first_delivered_at = Some(now);
            }
        }
    }

    /// Records that an attempt of this tenant failed.
    pub fn failed(&mut self, tenant: &TenantId, now: UnixMillis, failure: Failure<'_>) {
        let detail = beginning(failure.detail);
        let until = now.plus((failure.wait + REMEMBERED_MIN).min(REMEMBERED_MAX));
        let entry = self.tenants.entry(tenant.clone()).or_insert(Entry {
            shown: None,
            partition: failure.partition,
            until,
            first_failed_at: None,
            first_delivered_at: None,
        });
        let expired = entry.until <= now;
        entry.partition = failure.partition;
        entry.until = entry.until.max(until);
        let (class, status) = (failure.class, failure.status);
        let shown = entry.shown.take().filter(|_| !expired);
        let mut shown = match shown {
            Some(mut shown) => {
                shown.failures += 1;
                shown
            }
            None => FailingTenant::first(tenant.clone(), now, class, detail),
        };
        (shown.last_at, shown.class, shown.status) = (now, class, status);
        if shown.detail != detail {
            detail.clone_into(&mut shown.detail);
        }
        if failure.first {
            if !is_recent(entry.first_failed_at, FIRST_FAILURES_COUNT_FOR, now) {
                shown.first_failures = 0;
            }
            shown.first_failures += 1;
            entry.first_failed_at = Some(now);
        }
        entry.shown = Some(shown);
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

    /// Returns the number of failing tenants, and `most` of them. Those with failed
    /// first attempts come first, and of these the tenants that fail longest.
    pub fn worst(&self, most: usize, now: UnixMillis) -> (usize, Vec<FailingTenant>) {
        let shown = |entry: &'_ Entry| {
            let recent = is_recent(entry.first_failed_at, FIRST_FAILURES_COUNT_FOR, now);
            let first_failures = entry.shown.as_ref()?.first_failures;
            Some(if recent { first_failures } else { 0 })
        };
        let current = self.tenants.values().filter(|entry| entry.until > now);
        let failing = current.filter_map(|entry| Some((shown(entry)?, entry.shown.as_ref()?)));
        let mut all: Vec<(u64, &FailingTenant)> = failing.collect();
        all.sort_unstable_by_key(|(first, shown)| (*first == 0, shown.since, &shown.tenant));
        let worst = all.iter().take(most);
        let worst = worst.map(|(first_failures, shown)| FailingTenant {
            first_failures: *first_failures,
            ..(*shown).clone()
        });
        (all.len(), worst.collect())
    }

    /// Returns tenants with a remembered failure of which a first attempt was
    /// delivered just now, at most this many; the latest come first.
    pub fn delivering(&self, most: usize, now: UnixMillis) -> Vec<TenantId> {
        let recent = |entry: &Entry| {
            entry.until > now && is_recent(entry.first_delivered_at, DELIVERING_FOR, now)
        };
        let all = self.tenants.iter().filter(|(_, entry)| recent(entry));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|(id, entry)| (Reverse(entry.first_delivered_at), *id));
        all.iter().take(most).map(|(id, _)| (*id).clone()).collect()
    }
}

fn is_recent(at: Option<UnixMillis>, span: Duration, now: UnixMillis) -> bool {
    at.is_some_and(|at| now.since(at) < span)
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
        Topic::Source.partition(number)
    }

    fn failure(class: ErrorClass, detail: &str) -> Failure<'_> {
        Failure {
            class,
            status: None,
            detail,
            partition: partition(0),
            first: false,
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

        failing.delivered(&a, false, now);
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
    fn first_attempts_tell_a_dead_tenant_from_one_record_that_it_never_accepts() {
        let mut failing = Failing::default();
        let (dead, poison) = (tenant("dead"), tenant("a"));
        let first = Failure {
            first: true,
            wait: REMEMBERED_MAX,
            ..failure(ErrorClass::Http5xx, "500")
        };
        let retry = Failure {
            first: false,
            ..first
        };
        let count = |failing: &Failing, now| {
            let (_, worst) = failing.worst(9, now);
            let each = worst
                .iter()
                .map(|f| (f.tenant.to_string(), f.first_failures));
            each.collect::<Vec<_>>()
        };
        let now = UnixMillis(5);
        failing.failed(&poison, now, first);
        failing.failed(&poison, now, retry);
        failing.delivered(&poison, true, now);
        failing.failed(&poison, now, retry);
        for _ in 0..3 {
            failing.failed(&dead, now, first);
            failing.failed(&dead, now, retry);
        }
        let expected = [("dead".to_owned(), 3), ("a".to_owned(), 0)];
        assert_eq!(count(&failing, now), expected, "the dead one comes first");
        assert_eq!(failing.delivering(9, now), std::slice::from_ref(&poison));
        assert!(failing.delivering(9, now.plus(DELIVERING_FOR)).is_empty());

        let later = now.plus(FIRST_FAILURES_COUNT_FOR);
        let expected = [("a".to_owned(), 0), ("dead".to_owned(), 0)];
        assert_eq!(count(&failing, later), expected, "no first attempt lately");
        failing.failed(&dead, later, first);
        assert_eq!(count(&failing, later)[0], ("dead".to_owned(), 1));
        failing.delivered(&dead, false, later);
        assert_eq!(count(&failing, later).len(), 1);
        assert!(failing.delivering(9, later).is_empty(), "it was a retry");
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
