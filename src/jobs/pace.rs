//! The rate of a job. Pure: the time comes in as an argument.

use std::time::Duration;

/// A batch has the records of this part of a second, so that they go out evenly.
const BATCHES_PER_SECOND: u64 = 10;

/// Allows so many records per second. Time that was not used is lost after a second.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Option<u64>,
    since: Duration,
    sent: u64,
}

impl Pace {
    /// Starts at this moment of a monotonic clock. Without a rate, all is allowed.
    pub fn start(rate: Option<u64>, now: Duration) -> Self {
        Self {
            rate,
            since: now,
            sent: 0,
        }
    }

    /// Returns how many records the next batch may have. Zero: wait.
    pub fn allowed(&mut self, now: Duration) -> u64 {
        let Some(rate) = self.rate else {
            return u64::MAX;
        };
        let elapsed = now.saturating_sub(self.since).as_millis();
        let due = u64::try_from(elapsed * u128::from(rate) / 1_000).unwrap_or(u64::MAX);
        let allowed = due.saturating_sub(self.sent);
        if allowed > rate {
            (self.since, self.sent) = (now, 0);
            return rate;
        }
        match allowed >= rate.div_ceil(BATCHES_PER_SECOND) {
            true => allowed,
            false => 0,
        }
    }

    /// Counts sent records.
    pub fn count(&mut self, sent: u64) {
        self.sent += sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_over_seconds_and_is_not_made_up_after_a_pause() {
        for rate in [1, 7, 1_000] {
            let mut pace = Pace::start(Some(rate), Duration::ZERO);
            let mut sent = 0;
            for ms in 0..10_000 {
                let allowed = pace.allowed(Duration::from_millis(ms));
                pace.count(allowed);
                sent += allowed;
            }
            assert!(
                (rate * 10 - rate.div_ceil(5) - 1..=rate * 10).contains(&sent),
                "{sent}"
            );
            let after_a_pause = pace.allowed(Duration::from_secs(100));
            assert_eq!(after_a_pause, rate);
        }
        assert_eq!(
            Pace::start(None, Duration::ZERO).allowed(Duration::ZERO),
            u64::MAX
        );
    }
}
