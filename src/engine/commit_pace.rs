//! How much may be uncommitted, and how many attempts may be reserved ahead. Both
//! follow the rate of deliveries and the time of a commit, so that throughput does not
//! depend on the distance to Kafka. Never a clock. Runs on the runner's thread.
//!
//! Arithmetic: one commit is outstanding at a time. When it is acknowledged, the D
//! records that it reserved start. The next commit holds the D deliveries of those that
//! started before, and reserves as many more. So 2 D to 3 D records are uncommitted or
//! have just started. No rate can do with fewer: they are repeated if the process dies
//! then. A limit of exactly 3 D would never grow. With [`GROWTH`] D, the next commit
//! reserves 2 D. D grows until something else bounds the rate. At 14,000/s, commits of
//! 12 ms have D = 168: a limit of 672.
//!
//! Start slots hold the reserved and the just started records: 2 D. With Kafka far away
//! there are [`SLOTS_GROWTH`] D more than beside it. There, D counts as if each commit
//! were as fast as the fastest one of the last seconds. A commit takes longer while this
//! process is busy, and more attempts would make it busier. Beside Kafka, 128 slots
//! suffice for more than one core can do.
//!
//! A low rate needs none of this: at 400/s, D is 1 with commits of 2 ms and 16 with
//! commits of 40 ms. There the constants count.
//!
//! | Kafka | uncommitted deliveries | start slots taken |
//! |---|---|---|
//! | near | the larger one of 128 and 4 D | 128 |
//! | far | the same | 128 and 3 D |
//! | slow | the larger one of 64 and 4 D | the same, at most 64 or 4 D with the uncommitted deliveries |

use super::fairness::START_SLOTS;
use crate::model::time::UnixMillis;
use std::time::Duration;

/// No further record is reserved while this many deliveries are uncommitted. At
/// 25,000/s, more than one core can do, commits of 2 ms leave 50 deliveries in the
/// write and 50 that wait for the next.
const UNCOMMITTED: usize = 128;
/// The same, together with attempts that have just started, while Kafka is slow.
const SLOW_UNCOMMITTED: usize = 64;
/// Kafka is slow where the last transaction or commit took longer.
pub const MOVE_SLOW: Duration = Duration::from_millis(100);
const COMMIT_SLOW: Duration = Duration::from_millis(20);
/// The limit of uncommitted deliveries, in deliveries for each commit.
const GROWTH: usize = 4;
/// The start slots that are added with Kafka far away, in deliveries for each commit.
const SLOTS_GROWTH: usize = 3;
/// Kafka is far where the fastest commit took longer.
const FAR: Duration = Duration::from_millis(3);
/// The fastest commit is that of this time or of the same time before it.
const FASTEST_OF: Duration = Duration::from_secs(1);

/// The pace of commits and deliveries.
#[derive(Default)]
pub struct CommitPace {
    /// Deliveries since the last acknowledged commit.
    delivered: usize,
    /// Deliveries for each of the last two commits.
    for_commit: [usize; 2],
    commit_took: Duration,
    pub move_took: Duration,
    window_start: UnixMillis,
    /// The fastest commit of this window and of the one before.
    fastest: [Option<Duration>; 2],
}

impl CommitPace {
    /// Notes a delivery.
    pub fn delivered(&mut self) {
        self.delivered += 1;
    }

    /// Notes an acknowledged commit.
    pub fn committed(&mut self, took: Duration, now: UnixMillis) {
        self.for_commit = [std::mem::take(&mut self.delivered), self.for_commit[0]];
        self.commit_took = took;
        if now.since(self.window_start) >= FASTEST_OF {
            self.window_start = now;
            self.fastest = [None, self.fastest[0]];
        }
        let fastest = self.fastest[0].map_or(took, |fastest| fastest.min(took));
        self.fastest[0] = Some(fastest);
    }

    /// Returns the deliveries for each commit.
    fn for_each_commit(&self) -> usize {
        self.for_commit[0].max(self.for_commit[1])
    }

    /// Returns whether Kafka is so slow that uncommitted deliveries add up meanwhile.
    fn is_slow(&self) -> bool {
        self.move_took >= MOVE_SLOW || self.commit_took >= COMMIT_SLOW
    }

    /// Returns the limit of uncommitted deliveries, at most `in_flight_max`.
    pub fn uncommitted_max(&self, in_flight_max: usize) -> usize {
        let least = match self.is_slow() {
            true => SLOW_UNCOMMITTED,
            false => UNCOMMITTED,
        };
        least.max(self.needed().min(in_flight_max))
    }

    /// Returns what the rate of deliveries needs.
    fn needed(&self) -> usize {
        GROWTH * self.for_each_commit()
    }

    /// Returns how many start slots may be taken with this many uncommitted
    /// deliveries, at most `in_flight_max`.
    pub fn starts_max(&self, uncommitted: usize, in_flight_max: usize) -> usize {
        let fastest = self.fastest.into_iter().flatten().min().unwrap_or_default();
        let took_us = self.commit_took.as_micros().max(1);
        let added = (SLOTS_GROWTH * self.for_each_commit()) as u128 * fastest.as_micros() / took_us;
        let slots = match fastest > FAR {
            true => (START_SLOTS + added as usize).min(START_SLOTS.max(in_flight_max)),
            false => START_SLOTS,
        };
        match self.is_slow() {
            true => {
                let max = SLOW_UNCOMMITTED.max(self.needed());
                slots.min(max.saturating_sub(uncommitted))
            }
            false => slots,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_FLIGHT: usize = 1_024;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Returns the pace after 100 commits that take this long, and the rate of
    /// deliveries. It is as high as the limits allow, up to `rate_max` a second.
    fn paced(commit: Duration, rate_max: u128) -> (CommitPace, u128) {
        let mut pace = CommitPace::default();
        let (mut now, mut delivered, mut started) = (UnixMillis(0), 0, 0);
        for _ in 0..100 {
            now = now.plus(commit);
            pace.committed(commit, now);
            // The records that this commit reserved start; those that started before
            // were delivered, and are in the next commit.
            let reserved = match delivered < pace.uncommitted_max(IN_FLIGHT) {
                true => pace
                    .starts_max(delivered, IN_FLIGHT)
                    .saturating_sub(started),
                false => 0,
            };
            delivered = started;
            started = reserved.min((rate_max * commit.as_micros() / 1_000_000) as usize);
            for _ in 0..delivered {
                pace.delivered();
            }
        }
        let rate = delivered as u128 * 1_000_000 / commit.as_micros();
        (pace, rate)
    }

    #[test]
    fn the_rate_does_not_depend_on_the_time_of_a_commit() {
        for took in [1, 2, 5, 12, 22] {
            let (_, rate) = paced(ms(took), 14_000);
            assert!(rate >= 13_900, "{rate}/s with commits of {took} ms");
        }
        let (_, rate) = paced(ms(500), 1_000);
        assert!(rate >= 990, "{rate}/s with commits of 500 ms");
    }

    #[test]
    fn a_low_rate_leaves_no_more_uncommitted_than_the_constants() {
        for took in [1, 5, 19, 20, 40] {
            let (pace, _) = paced(ms(took), 400);
            let max = pace.uncommitted_max(IN_FLIGHT);
            let slow = took >= 20;
            assert_eq!(max, if slow { 64 } else { 128 }, "commits of {took} ms");
        }
    }

    #[test]
    fn a_busy_process_that_makes_commits_slower_starts_no_more_attempts() {
        let mut pace = CommitPace::default();
        for at in 0..100 {
            for _ in 0..200 {
                pace.delivered();
            }
            let took = if at % 10 == 0 { ms(2) } else { ms(12) };
            pace.committed(took, UnixMillis(at * 12));
        }
        assert_eq!(pace.starts_max(0, IN_FLIGHT), START_SLOTS);
    }

    #[test]
    fn nothing_exceeds_the_limit_of_the_process() {
        let (pace, _) = paced(ms(500), 100_000);
        assert_eq!(pace.uncommitted_max(IN_FLIGHT), IN_FLIGHT);
        assert_eq!(pace.starts_max(0, IN_FLIGHT), IN_FLIGHT);
    }
}
