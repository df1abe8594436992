//! The results of one tenant under load.

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
