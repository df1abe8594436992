//! The ramp-up of a partition after an unclean stop: it starts with few attempts,
//! so a crash loop charges few records. Every reservation at the next crash is
//! charged as one attempt made. Never IO, never a clock. Runs on the runner's
//! thread.
//!
//! Arithmetic: the window is one attempt until one completes or [`FIRST_MAX`] is
//! over; a dead tenant must not hold its partition for longer. Then the window
//! grows by one for each completed attempt and doubles every [`DOUBLING`]. So
//! tenants that take seconds to answer get their attempts back soon too. A
//! process that crashes early charges at most one record a partition more than it
//! completed, times two for every [`DOUBLING`] of its run. From [`WINDOW_MAX`] on
//! the ramp-up is over and the process's own limits apply.

use crate::model::time::UnixMillis;
use std::time::Duration;

const FIRST_MAX: Duration = Duration::from_secs(1);
const DOUBLING: Duration = Duration::from_millis(250);
const WINDOW_MAX: usize = 256;

/// The ramp-up of one partition.
pub struct RampUp {
    since: UnixMillis,
    completed: usize,
    /// When the first attempt completed.
    first_at: Option<UnixMillis>,
}

impl RampUp {
    /// Returns the ramp-up of a partition that is adopted now.
    pub fn new(now: UnixMillis) -> Self {
        Self {
            since: now,
            completed: 0,
            first_at: None,
        }
    }

    /// Records that an attempt completed.
    pub fn completed(&mut self, now: UnixMillis) {
        self.completed += 1;
        self.first_at.get_or_insert(now);
    }

    /// Returns the maximum number of concurrent attempts of the partition.
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

    /// Returns whether the ramp-up is over.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        self.window(now) >= WINDOW_MAX
    }

    /// Returns when the window grows without a completed attempt.
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
    fn the_window_is_one_until_an_attempt_completes_then_grows_by_one_each() {
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
    fn the_window_grows_also_while_attempts_last() {
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
