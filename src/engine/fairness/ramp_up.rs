//! After an unclean stop a partition begins with few attempts, so that a crash
//! loop charges few records: what is reserved when the process dies again is
//! charged as one attempt made.
//!
//! Arithmetic: one attempt until one has completed, or has outlived
//! [`FIRST_MAX`]; a dead tenant's must not hold its partition for longer. From then
//! on one more for each that completes, and twice as many every
//! [`DOUBLING`], so that tenants who take seconds to answer get their attempts
//! back soon too. So a life that ends early has charged at most one record a
//! partition more than it completed, times two for every [`DOUBLING`] that it
//! went on; from [`WINDOW_MAX`] on the process's own limits are what holds.

use crate::model::time::UnixMillis;
use std::time::Duration;

const FIRST_MAX: Duration = Duration::from_secs(1);
const DOUBLING: Duration = Duration::from_millis(250);
const WINDOW_MAX: usize = 256;

/// How careful a partition still is.
pub struct RampUp {
    since: UnixMillis,
    completed: usize,
    /// When the first attempt completed.
    first_at: Option<UnixMillis>,
}

impl RampUp {
    /// Adopted now, after an unclean stop.
    pub fn new(now: UnixMillis) -> Self {
        Self {
            since: now,
            completed: 0,
            first_at: None,
        }
    }

    /// An attempt has completed.
    pub fn completed(&mut self, now: UnixMillis) {
        self.completed += 1;
        self.first_at.get_or_insert(now);
    }

    /// How many attempts the partition may have at once.
    pub fn window(&self, now: UnixMillis) -> usize {
        match self.grows_from() {
            from if from > now => 1,
            from => {
                let doubled = now.since(from).as_millis() / DOUBLING.as_millis();
                let times = 1_usize << doubled.min(8);
                (1 + self.completed).saturating_mul(times)
            }
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.window(now) >= WINDOW_MAX
    }

    /// When the window grows though nothing completes.
    pub fn next(&self, now: UnixMillis) -> UnixMillis {
        match self.grows_from() {
            from if from > now => from,
            _ => now.plus(DOUBLING),
        }
    }

    fn grows_from(&self) -> UnixMillis {
        let latest = self.since.plus(FIRST_MAX);
        self.first_at.map_or(latest, |at| at.min(latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> UnixMillis {
        UnixMillis(0).plus(Duration::from_millis(ms))
    }

    #[test]
    fn one_attempt_until_one_has_completed_then_one_more_for_each() {
        let mut ramp_up = RampUp::new(at(0));
        assert_eq!((ramp_up.window(at(0)), ramp_up.window(at(999))), (1, 1));
        for n in 1..=100 {
            ramp_up.completed(at(5));
            assert_eq!(ramp_up.window(at(5)), n + 1);
        }
        assert!(!ramp_up.is_over(at(5)));
        (0..155).for_each(|_| ramp_up.completed(at(5)));
        assert!(ramp_up.is_over(at(5)));
    }

    #[test]
    fn attempts_that_last_end_it_too() {
        let ramp_up = RampUp::new(at(0));
        let windows = [1_000, 1_249, 1_250, 1_500, 2_000].map(|ms| ramp_up.window(at(ms)));
        assert_eq!(windows, [1, 1, 2, 4, 16]);
        assert!(!ramp_up.is_over(at(2_999)));
        assert!(ramp_up.is_over(at(3_000)));
        assert_eq!(
            (ramp_up.next(at(3)), ramp_up.next(at(1_100))),
            (at(1_000), at(1_350))
        );
    }
}
