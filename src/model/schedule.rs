//! The retry schedule: which delay follows an attempt, which delay a diverted
//! record takes, and when a delayed record is due. Pure arithmetic, no state.

use super::time::{Delay, UnixMillis};
use std::time::Duration;

/// How far a record's own last-at may lie from its append time and still count.
const LAST_AT_TRUST: Duration = Duration::from_secs(5);

/// The delays between attempts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    attempts: u8,
    delays: Vec<Delay>,
    /// The distinct delays, shortest first. Diverts take them in this order.
    ladder: Vec<Delay>,
}

impl Schedule {
    /// A schedule.
    ///
    /// Panics: where there is no delay or no attempt; `config` has checked both.
    #[must_use]
    pub fn new(attempts: u8, delays: Vec<Delay>) -> Self {
        assert!(
            attempts > 0 && !delays.is_empty(),
            "a schedule has attempts and a delay"
        );
        let mut ladder = delays.clone();
        ladder.sort_unstable();
        ladder.dedup();
        Self {
            attempts,
            delays,
            ladder,
        }
    }

    /// Returns every distinct delay, shortest first.
    #[must_use]
    pub fn ladder(&self) -> &[Delay] {
        &self.ladder
    }

    /// Returns the shortest delay.
    #[must_use]
    pub fn shortest(&self) -> Delay {
        *self.ladder.first().expect("a schedule has a delay")
    }

    /// Returns the longest delay.
    #[must_use]
    pub fn longest(&self) -> Delay {
        *self.ladder.last().expect("a schedule has a delay")
    }

    /// Whether a further attempt follows this many.
    #[must_use]
    pub fn allows_after(&self, attempts_made: u8) -> bool {
        attempts_made < self.attempts
    }

    /// Returns the delay that follows this many attempts, at least one; the last
    /// delay repeats.
    #[must_use]
    pub fn after(&self, attempts_made: u8) -> Delay {
        let index = usize::from(attempts_made) - 1;
        let delay = self.delays.get(index).or(self.delays.last());
        *delay.expect("a schedule has a delay")
    }

    /// Returns the delay where the receiver asked for a wait. That wait never
    /// shortens a delay: the result is the scheduled delay, or the shortest one
    /// that is long enough, or else the longest.
    #[must_use]
    pub fn at_least(&self, scheduled: Delay, asked: Duration) -> Delay {
        if asked <= scheduled.duration() {
            return scheduled;
        }
        let enough = self.ladder.iter().find(|delay| delay.duration() >= asked);
        enough.copied().unwrap_or(self.longest())
    }

    /// Returns the delay of the next divert after this many.
    #[must_use]
    pub fn divert_after(&self, diverts: u32) -> Delay {
        let step = usize::try_from(diverts).unwrap_or(usize::MAX);
        self.ladder.get(step).copied().unwrap_or(self.longest())
    }
}

/// Returns when a record in a delay topic is due: its append time plus the delay.
/// Its last-at counts instead where that is later and lies near the append time. A
/// producer's clock that is far off must neither hurry nor hold a record.
#[must_use]
pub fn due(delay: Delay, appended_at: UnixMillis, last_at: Option<UnixMillis>) -> UnixMillis {
    let near = |at: &UnixMillis| at.since(appended_at) <= LAST_AT_TRUST;
    let from = last_at
        .filter(near)
        .map_or(appended_at, |at| at.max(appended_at));
    from.plus(delay.duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_follows_the_brokers_clock() {
        #[track_caller]
        fn check(appended: i64, last: Option<i64>, expected: i64) {
            let delay = "2s".parse().expect("valid");
            assert_eq!(
                due(delay, UnixMillis(appended), last.map(UnixMillis)),
                UnixMillis(expected)
            );
        }
        check(10_000, None, 12_000);
        check(10_000, Some(9_980), 12_000);
        check(10_000, Some(10_700), 12_700);
        check(10_000, Some(99_000), 12_000);
        check(10_000, Some(0), 12_000);
    }
}
