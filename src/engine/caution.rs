//! After an unclean stop a partition begins with few attempts, so that a crash
//! loop charges few records: what is reserved when the process dies again is
//! charged as one attempt made.
//!
//! Arithmetic: one attempt until one has completed, or has outlived
//! [`LASTS`]; a dead tenant's must not hold its partition for longer. From then
//! on one more for each that completes, and twice as many every
//! [`DOUBLES`], so that tenants who take seconds to answer get their attempts
//! back soon too. So a life that ends early has charged at most one record a
//! partition more than it completed, times two for every [`DOUBLES`] that it
//! went on; from [`OVER`] on the process's own limits are what holds.

use crate::model::time::UnixMillis;
use std::time::Duration;

const LASTS: Duration = Duration::from_secs(1);
const DOUBLES: Duration = Duration::from_millis(250);
const OVER: usize = 256;

/// How careful a partition still is.
pub struct Caution {
    since: UnixMillis,
    completed: usize,
    /// When the first attempt completed.
    first_at: Option<UnixMillis>,
}

impl Caution {
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
                let doubled = now.since(from).as_millis() / DOUBLES.as_millis();
                let times = 1_usize << doubled.min(8);
                (1 + self.completed).saturating_mul(times)
            }
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.window(now) >= OVER
    }

    /// When the window grows though nothing completes.
    pub fn next(&self, now: UnixMillis) -> UnixMillis {
        match self.grows_from() {
            from if from > now => from,
            _ => now.plus(DOUBLES),
        }
    }

    fn grows_from(&self) -> UnixMillis {
        let lasts = self.since.plus(LASTS);
        self.first_at.map_or(lasts, |at| at.min(lasts))
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
        let mut caution = Caution::new(at(0));
        assert_eq!((caution.window(at(0)), caution.window(at(999))), (1, 1));
        for n in 1..=100 {
            caution.completed(at(5));
            assert_eq!(caution.window(at(5)), n + 1);
        }
        assert!(!caution.is_over(at(5)));
        (0..155).for_each(|_| caution.completed(at(5)));
        assert!(caution.is_over(at(5)));
    }

    #[test]
    fn attempts_that_last_end_it_too() {
        let caution = Caution::new(at(0));
        let windows = [1_000, 1_249, 1_250, 1_500, 2_000].map(|ms| caution.window(at(ms)));
        assert_eq!(windows, [1, 1, 2, 4, 16]);
        assert!(!caution.is_over(at(2_999)));
        assert!(caution.is_over(at(3_000)));
        assert_eq!(
            (caution.next(at(3)), caution.next(at(1_100))),
            (at(1_000), at(1_350))
        );
    }
}
