//! The tenants of the demo: how each behaves, and which records it gets. Plain
//! values, no IO. Runs on the main thread.

use crate::commands::publish::records::{Outgoing, Samples};
use crate::model::named_enum::named_enum;
use crate::model::tenant::{MAX_IN_FLIGHT_DEFAULT, Secret, Tenant, TenantId, Tenants};
use std::net::SocketAddr;
use std::time::Duration;

/// The slow tenant's time for an answer.
pub const SLOW_ANSWER: Duration = Duration::from_millis(150);
/// The failing tenant answers 503 for this time, from its first POST on.
pub const FAILING_FOR: Duration = Duration::from_secs(5);

named_enum! {
    /// A tenant of the demo, in the order of the summary. The name is also the path
    /// of its callback.
    pub enum Role {
        /// Answers 200 at once.
        Healthy = "healthy",
        /// Answers 200 after [`SLOW_ANSWER`].
        Slow = "slow",
        /// Answers 503 for [`FAILING_FOR`], then 200.
        Failing = "failing",
        /// Accepts connections and never answers.
        Dead = "dead",
        /// Has no callback configured.
        NoCallback = "no-callback",
    }
}

impl Role {
    /// Returns its behaviour in a few words.
    #[must_use]
    pub const fn does(self) -> &'static str {
        match self {
            Self::Healthy => "answers at once",
            Self::Slow => "answers after 150 ms",
            Self::Failing => "answers 503 for 5 s, then recovers",
            Self::Dead => "accepts and never answers",
            Self::NoCallback => "has configured no callback",
        }
    }

    /// Returns the number of its records.
    #[must_use]
    pub const fn records(self) -> u64 {
        match self {
            Self::Healthy => 317,
            Self::Slow => 80,
            Self::Failing => 80,
            // Attempts are one at a time, each with its timeout and a pause: 30 of
            // them fit into the demo's minute.
            Self::Dead => 3,
            Self::NoCallback => 20,
        }
    }

    fn tenant_id(self) -> TenantId {
        TenantId::new(self.name()).expect("the names are visible ASCII")
    }
}

/// Returns the tenants with a callback, all at one receiver.
#[must_use]
pub fn configured(receiver: SocketAddr) -> Tenants {
    let with_callback = Role::ALL
        .into_iter()
        .filter(|role| *role != Role::NoCallback);
    with_callback
        .map(|role| Tenant {
            id: role.tenant_id(),
            url: Secret(format!("http://{receiver}/{}", role.name())),
            secrets: Vec::new(),
            headers: Vec::new(),
            max_in_flight: MAX_IN_FLIGHT_DEFAULT,
            timeout: None,
            enabled: true,
        })
        .collect()
}

/// Returns all records in publishing order. Each tenant's records are spread
/// evenly over the whole.
#[must_use]
pub fn records() -> Vec<(Role, Outgoing)> {
    let mut placed = Vec::new();
    for role in Role::ALL {
        let samples = Samples::new(vec![role.tenant_id()], role.records());
        // Place in the publishing order, in thousandths.
        let places = (0..role.records()).map(|n| n * 1_000 / role.records());
        placed.extend(places.zip(samples).map(|(at, sample)| (at, role, sample)));
    }
    placed.sort_by_key(|(at, role, _)| (*at, *role));
    placed
        .into_iter()
        .map(|(_, role, out)| (role, out))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::call::CallEnded;

    #[test]
    fn every_record_has_its_tenant_and_a_unique_id() {
        let records = records();
        let all: u64 = Role::ALL.into_iter().map(Role::records).sum();
        let mut ids = std::collections::HashSet::new();
        for (role, outgoing) in &records {
            let call = CallEnded::read(&outgoing.value).expect("a sample is valid");
            assert_eq!(call.tenant.as_str(), role.name());
            ids.insert(call.id);
        }
        assert_eq!((records.len() as u64, ids.len() as u64), (all, all));
        assert!(records[..50].iter().any(|(role, _)| *role == Role::Dead));
    }
}
