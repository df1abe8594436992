//! The tenants of a load: how their receivers answer, and what became of their records.

use ringback::model::attempt::{ErrorClass, Outcome};
use ringback::model::tenant::{Secret, Tenant, TenantId};
use std::time::Duration;

/// A receiver's answer to one attempt: its delay and its status, `None` for no
/// answer.
pub type Answer = (Duration, Option<u16>);

/// The deadline of an attempt.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A tenant and its receiver.
pub struct LoadTenant {
    pub max_in_flight: u32,
    /// Returns the answer for a time in milliseconds since the start and the
    /// tenant's attempts in flight, this one included.
    pub answers: Box<dyn FnMut(i64, usize) -> Answer>,
}

impl LoadTenant {
    /// Returns a tenant whose receiver always gives the same answer.
    pub fn steady(ms: u64, status: Option<u16>) -> Self {
        Self {
            max_in_flight: 64,
            answers: Box::new(move |_, _| (Duration::from_millis(ms), status)),
        }
    }
}

/// The results of one tenant's records.
#[derive(Clone, Default, Debug)]
pub struct TenantResult {
    pub published: usize,
    pub attempts: usize,
    pub delivered: usize,
    pub diverted: usize,
    pub delayed: usize,
    pub dead_lettered: usize,
    /// The times from publication to the start of the first attempt.
    pub waits_ms: Vec<i64>,
    /// The longest time from the hand-over of a due record to its attempt.
    pub longest_in_lane_ms: i64,
    pub in_flight: usize,
    pub in_flight_most: usize,
}

impl TenantResult {
    /// Returns the number of written copies of records.
    pub fn writes(&self) -> usize {
        self.diverted + self.delayed + self.dead_lettered
    }

    /// Returns the wait at this quantile.
    pub fn wait_ms(&self, share: f64) -> i64 {
        let mut waits = self.waits_ms.clone();
        waits.sort_unstable();
        let at = (waits.len() as f64 * share) as usize;
        waits[at.min(waits.len() - 1)]
    }
}

/// Returns the outcome of an attempt with this status.
pub fn outcome(status: Option<u16>) -> Outcome {
    let class = match status {
        Some(status) => match ErrorClass::of_status(status) {
            None => return Outcome::Delivered { status },
            Some(class) => class,
        },
        None => ErrorClass::Timeout,
    };
    Outcome::Failed {
        class,
        status,
        retry_after: None,
        detail: String::new(),
    }
}

/// Returns the entry of a tenant in the tenants file.
pub fn tenant((number, tenant): (usize, &LoadTenant)) -> Tenant {
    Tenant {
        id: TenantId::new(&format!("t{number}")).expect("a short name"),
        url: Secret(format!("http://t{number}.invalid/")),
        secrets: Vec::new(),
        headers: Vec::new(),
        max_in_flight: tenant.max_in_flight,
        timeout: None,
        enabled: true,
    }
}
