//! Tenants whose last attempt failed: for operators, decides nothing.
//!
//! Limit: one entry for each configured tenant at most, some 300 bytes each.

use crate::model::attempt::ErrorClass;
use crate::model::fact::FailingTenant;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::collections::HashMap;

/// The longest text of an error that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 200;

#[derive(Default)]
pub struct Failing {
    tenants: HashMap<TenantId, FailingTenant>,
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
    pub fn failed(&mut self, tenant: &TenantId, now: UnixMillis, class: ErrorClass, detail: &str) {
        let detail = beginning(detail);
        match self.tenants.get_mut(tenant) {
            Some(failing) => {
                failing.last_at = now;
                failing.class = class;
                failing.failures += 1;
                if failing.detail != detail {
                    detail.clone_into(&mut failing.detail);
                }
            }
            None => {
                let failing = FailingTenant::first(tenant.clone(), now, class, detail);
                self.tenants.insert(tenant.clone(), failing);
            }
        }
    }

    /// Forgets tenants that have no callback any more.
    pub fn retain(&mut self, mut has_callback: impl FnMut(&TenantId) -> bool) {
        self.tenants.retain(|tenant, _| has_callback(tenant));
    }

    /// How many fail.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Those that have failed longest, at most so many.
    #[must_use]
    pub fn worst(&self, most: usize) -> Vec<FailingTenant> {
        let mut all: Vec<&FailingTenant> = self.tenants.values().collect();
        all.sort_unstable_by(|a, b| (a.since, &a.tenant).cmp(&(b.since, &b.tenant)));
        all.into_iter().take(most).cloned().collect()
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

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("valid tenant id")
    }

    #[test]
    fn a_tenant_fails_from_its_first_failure_to_its_next_success() {
        let mut failing = Failing::default();
        let (a, b) = (tenant("a"), tenant("b"));
        failing.failed(&b, UnixMillis(5), ErrorClass::Timeout, "no answer");
        failing.failed(&a, UnixMillis(5), ErrorClass::Dns, "no name");
        failing.failed(&a, UnixMillis(9), ErrorClass::Http5xx, "503");
        let worst = failing.worst(9);
        assert_eq!(worst[0].tenant, a);
        assert_eq!(worst[0].since, UnixMillis(5));
        assert_eq!(worst[0].last_at, UnixMillis(9));
        assert_eq!(
            (worst[0].class, worst[0].failures),
            (ErrorClass::Http5xx, 2)
        );
        assert_eq!(worst[0].detail, "503");
        assert_eq!((failing.worst(1).len(), failing.len()), (1, 2));

        failing.delivered(&a);
        failing.retain(|tenant| *tenant != b);
        assert_eq!(failing.worst(9), []);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let mut failing = Failing::default();
        failing.failed(
            &tenant("a"),
            UnixMillis(5),
            ErrorClass::Dns,
            &"话".repeat(99),
        );
        assert_eq!(failing.worst(1)[0].detail, "话".repeat(66));
    }
}
