//! The limit of concurrent attempts of one tenant: TCP's additive increase and
//! multiplicative decrease. It sees the outcomes of one tenant only and has no
//! clock: a window is a round of answers. Never IO. Runs on the runner's thread.
//!
//! Arithmetic: a limit of n at an answer time of t takes n/t records a second.
//! [`START`] is 8: 160/s at 50 ms, and the attempts of a hanging tenant at first.
//! A window is as many successes as the limit allows at once, so about one answer
//! time. A window that reached the limit raises it by one. Before the first
//! halving it doubles the limit instead (slow start). With steps of one, a tenant
//! that answers in 100 ms would take 5.6 s from 8 to 64. Its burst would be
//! diverted meanwhile. Below [`START`] every window raises the limit. A tenant
//! with little traffic never reaches its limit, and one failure a day must not
//! keep it at the floor.
//!
//! A timeout, 429 or 5xx halves the limit, once for each round. An attempt that
//! started before the last halving shows the limit before it. So eight timeouts
//! of one stall turn 8 into 4, not into 1. From 8 to the floor takes 3 rounds, 15
//! s of hanging; from 64 it takes 30 s.
//!
//! A 429 concerns a rate, which a limit of concurrent attempts does not bound:
//! one at a time, answered in 20 ms, is still 50/s. So a 429 that halves also
//! demands a pause of [`PACE_MIN`]. Each further one doubles the pause up to
//! [`PACE_MAX`], and each [`EASE_AFTER`] successes halve it. The limit does not
//! rise while there is a pause. A tenant that takes 8/s and answers 429 to the
//! rest gets one surplus attempt for each 8, with one move each, instead of 40.
//!
//! Only outcomes count. Vector, the source of the windows, also reacts to a
//! longer answer time. A receiver with slow moments of its own would pay for
//! that. Vector ends windows by the clock, so late answers to one burst halve
//! twice. It also adapts nothing before the first success.

use crate::model::attempt::ErrorClass;
use std::time::Duration;

/// The limit of an untried tenant.
pub const START: usize = 8;

/// An attempt that fails later than this occupies a slot like a hanging one.
const QUICK: Duration = Duration::from_secs(1);

/// The shortest and the longest pause after a 429.
const PACE_MIN: Duration = Duration::from_millis(50);
const PACE_MAX: Duration = Duration::from_secs(1);
/// This many successes halve the pause.
const EASE_AFTER: usize = 8;

/// The status of a tenant by its last attempt: the likely cost of a slot for the
/// next one. An immediate answer costs little, even a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TenantStatus {
    /// Delivered, or failed at once.
    Answering,
    /// No attempt ended yet.
    Untried,
    /// Failed after a long wait.
    Hanging,
}

impl TenantStatus {
    /// All statuses.
    pub const ALL: [Self; 3] = [Self::Answering, Self::Untried, Self::Hanging];
}

/// The number of halvings before an attempt started. It decides whether the
/// outcome counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round(u32);

/// One tenant's limit.
#[derive(Debug)]
pub struct Limit {
    now: usize,
    ceiling: usize,
    status: TenantStatus,
    round: Round,
    /// Missing successes of this window.
    to_go: usize,
    /// Whether this window reached the limit.
    used_up: bool,
    /// The current pause after a 429; zero without one.
    pace: Duration,
    /// Missing successes before the pause is halved.
    to_ease: usize,
}

/// Returns whether a failure of this class indicates too many concurrent
/// attempts. The other classes fail at once, whatever their number.
pub const fn tells_overload(class: ErrorClass) -> bool {
    matches!(
        class,
        ErrorClass::Timeout | ErrorClass::Http429 | ErrorClass::Http5xx
    )
}

impl Limit {
    /// Returns the limit of an untried tenant; `ceiling` is its `maxInFlight`.
    pub fn new(ceiling: usize) -> Self {
        let now = START.min(ceiling).max(1);
        Self {
            now,
            ceiling: ceiling.max(1),
            status: TenantStatus::Untried,
            round: Round::default(),
            to_go: now,
            used_up: false,
            pace: Duration::ZERO,
            to_ease: EASE_AFTER,
        }
    }

    /// Sets the ceiling from the tenant's settings.
    pub fn set_ceiling(&mut self, ceiling: usize) {
        self.ceiling = ceiling.max(1);
        self.now = self.now.min(self.ceiling);
        self.to_go = self.to_go.min(self.now);
    }

    /// Returns whether one more attempt may start beside `active` ones.
    pub fn allows(&self, active: usize) -> bool {
        active < self.now
    }

    /// Returns whether the tenant hangs even with one attempt at a time.
    pub fn is_dead(&self) -> bool {
        self.now == 1 && self.status == TenantStatus::Hanging
    }

    /// Returns the tenant's status.
    pub fn status(&self) -> TenantStatus {
        self.status
    }

    /// Returns the round of an attempt that starts now.
    pub fn round(&self) -> Round {
        self.round
    }

    /// Records the number of attempts in progress or reserved.
    pub fn saw_active(&mut self, active: usize) {
        self.used_up |= active >= self.now;
    }

    /// Records that an attempt of `round` was delivered.
    pub fn delivered(&mut self, round: Round) {
        self.status = TenantStatus::Answering;
        if round != self.round {
            return;
        }
        if self.is_paced() {
            self.ease();
            return;
        }
        self.to_go -= 1;
        if self.to_go > 0 {
            return;
        }
        let slow_start = self.round == Round::default();
        let more = match (self.used_up, slow_start) {
            (true, true) => self.now,
            (true, false) => 1,
            (false, _) => usize::from(self.now < START),
        };
        self.open_window((self.now + more).min(self.ceiling));
    }

    /// Records that an attempt of `round` failed after `elapsed`. Returns the
    /// pause before the next attempt (429 only), else zero.
    pub fn failed(&mut self, round: Round, class: ErrorClass, elapsed: Duration) -> Duration {
        self.status = match elapsed < QUICK && class != ErrorClass::Timeout {
            true => TenantStatus::Answering,
            false => TenantStatus::Hanging,
        };
        if round != self.round || !tells_overload(class) {
            return Duration::ZERO;
        }
        self.round = Round(self.round.0.wrapping_add(1).max(1));
        self.open_window((self.now / 2).max(1));
        if class != ErrorClass::Http429 {
            return Duration::ZERO;
        }
        self.pace = (self.pace * 2).clamp(PACE_MIN, PACE_MAX);
        self.to_ease = EASE_AFTER;
        self.pace
    }

    /// Returns this time divided by the limit.
    pub fn share_of(&self, time: Duration) -> Duration {
        time / u32::try_from(self.now).unwrap_or(u32::MAX)
    }

    /// Returns the pause after a 429, or zero.
    pub fn pace(&self) -> Duration {
        self.pace
    }

    /// Returns whether a 429 demands pauses.
    pub fn is_paced(&self) -> bool {
        !self.pace.is_zero()
    }

    fn ease(&mut self) {
        self.to_ease -= 1;
        if self.to_ease == 0 {
            self.to_ease = EASE_AFTER;
            self.pace = match self.pace / 2 {
                less if less < PACE_MIN => Duration::ZERO,
                less => less,
            };
        }
    }

    fn open_window(&mut self, limit: usize) {
        self.now = limit;
        self.to_go = limit;
        self.used_up = false;
        assert!(
            (1..=self.ceiling).contains(&self.now),
            "L5: a limit between its floor and its ceiling"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs one window with this many active attempts, all delivered.
    fn window(limit: &mut Limit, active: usize) {
        limit.saw_active(active);
        for _ in 0..limit.now {
            limit.delivered(limit.round);
        }
    }

    fn overload(limit: &mut Limit) {
        limit.failed(limit.round, ErrorClass::Timeout, QUICK);
    }

    #[test]
    fn the_limit_doubles_until_the_first_failure_and_rises_by_one_from_then_on() {
        let mut limit = Limit::new(64);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(limit.now);
            window(&mut limit, 64);
        }
        assert_eq!(seen, [8, 16, 32, 64]);
        assert_eq!(limit.now, 64, "the ceiling");
        overload(&mut limit);
        assert_eq!(limit.now, 32);
        window(&mut limit, 64);
        assert_eq!(limit.now, 33);
    }

    #[test]
    fn a_burst_of_failures_halves_once() {
        let mut limit = Limit::new(64);
        let round = limit.round();
        for _ in 0..8 {
            limit.failed(round, ErrorClass::Timeout, QUICK);
        }
        assert_eq!(limit.now, 4);
        for _ in 0..100 {
            limit.delivered(round);
        }
        assert_eq!(limit.now, 4, "they started before the failures");
        let mut seen = Vec::new();
        for _ in 0..3 {
            overload(&mut limit);
            seen.push(limit.now);
        }
        assert_eq!(seen, [2, 1, 1]);
    }

    #[test]
    fn the_last_attempt_decides_the_status() {
        let quick = Duration::from_millis(20);
        let mut limit = Limit::new(64);
        assert_eq!(limit.status(), TenantStatus::Untried);
        limit.failed(limit.round, ErrorClass::Timeout, Duration::from_secs(5));
        assert_eq!(limit.status(), TenantStatus::Hanging);
        limit.failed(limit.round, ErrorClass::Http5xx, quick);
        assert_eq!(limit.status(), TenantStatus::Answering);
        limit.failed(limit.round, ErrorClass::Connect, Duration::from_secs(3));
        assert_eq!(limit.status(), TenantStatus::Hanging);
        limit.delivered(limit.round);
        assert_eq!(limit.status(), TenantStatus::Answering);
    }

    #[test]
    fn an_unused_limit_rises_to_the_start_and_no_further() {
        let mut limit = Limit::new(64);
        (0..5).for_each(|_| overload(&mut limit));
        for _ in 0..100 {
            window(&mut limit, 0);
        }
        assert_eq!(limit.now, START);
    }

    #[test]
    fn failures_that_come_at_once_do_not_change_the_limit() {
        for class in ErrorClass::ALL {
            let mut limit = Limit::new(64);
            limit.failed(limit.round, class, QUICK);
            let halves = ["timeout", "http_429", "http_5xx"].contains(&class.name());
            assert_eq!(limit.now, if halves { 4 } else { 8 }, "{class:?}");
        }
    }

    #[test]
    fn a_429_demands_a_pause_that_grows_and_that_successes_shorten() {
        let mut limit = Limit::new(64);
        let pause_ms = |limit: &mut Limit| {
            limit
                .failed(limit.round, ErrorClass::Http429, QUICK)
                .as_millis()
        };
        let first = limit.round;
        let pauses: Vec<u128> = (0..6).map(|_| pause_ms(&mut limit)).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000]);
        let late = limit.failed(first, ErrorClass::Http429, QUICK);
        assert_eq!(late, Duration::ZERO, "same burst");
        for _ in 0..EASE_AFTER {
            assert_eq!(limit.now, 1, "it does not rise");
            limit.delivered(limit.round);
        }
        assert_eq!(pause_ms(&mut limit), 1_000, "twice the half");
        for _ in 0..5 * EASE_AFTER {
            limit.delivered(limit.round);
        }
        assert_eq!(limit.now, 1);
        limit.delivered(limit.round);
        assert_eq!(limit.now, 2, "the pause is over, so the limit rises");
    }

    #[test]
    fn a_lower_ceiling_holds_at_once() {
        let mut limit = Limit::new(64);
        window(&mut limit, 64);
        limit.set_ceiling(3);
        assert!(limit.allows(2) && !limit.allows(3));
        limit.set_ceiling(64);
        assert_eq!(limit.now, 3);
        assert_eq!(Limit::new(1).now, 1);
    }

    proptest! {
        /// The oracle counts answers. No step raises the limit by more than the
        /// successes since its last change. Only an overload of the current round
        /// lowers it, to its half.
        #[test]
        fn the_limit_changes_only_as_answers_allow(ceiling in 1_usize..100, steps in prop::collection::vec((0_u8..4, 0_u32..3, 0_usize..100), 1..400)) {
            let mut limit = Limit::new(ceiling);
            let mut rounds = vec![limit.round()];
            let mut successes = 0;
            for (kind, ago, active) in steps {
                let before = limit.now;
                let at = rounds.len().saturating_sub(1 + ago as usize);
                let (round, current) = (rounds[at], at + 1 == rounds.len());
                match kind {
                    0 => limit.saw_active(active),
                    1 => _ = limit.failed(round, ErrorClass::Http5xx, QUICK),
                    2 => _ = limit.failed(round, ErrorClass::Http4xx, QUICK),
                    _ => {
                        successes += usize::from(current);
                        limit.delivered(round);
                    }
                }
                prop_assert!((1..=ceiling).contains(&limit.now));
                let halved = kind == 1 && current;
                prop_assert_eq!(limit.round() != *rounds.last().expect("one at least"), halved);
                if halved {
                    prop_assert_eq!(limit.now, (before / 2).max(1));
                    rounds.push(limit.round());
                } else {
                    prop_assert!(limit.now >= before && limit.now - before <= successes);
                }
                if halved || limit.now > before {
                    successes = 0;
                }
            }
        }
    }
}
