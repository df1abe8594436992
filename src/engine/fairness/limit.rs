//! How many attempts one tenant may have at once: TCP's additive increase and
//! multiplicative decrease. Knows one tenant's outcomes and nothing else, no
//! clock either: a window is a round of answers.
//!
//! Arithmetic: a limit of n at an answer time of t takes n/t records a second.
//! [`START`] is 8: 160/s at 50 ms, and what a hanging tenant holds at first.
//! A window is as many successes as the limit allows at once, so about one
//! answer time. A window that used the limit up raises it by one; until the
//! first halving, which shows where the limit lies, it doubles it (slow start),
//! for at +1 a tenant that answers in 100 ms would take 5.6 s from 8 to 64 and
//! have its burst diverted meanwhile. Below [`START`] any window raises it: a
//! tenant of little traffic never uses a limit up, and one failure a day must
//! not bring it to the floor for good. A timeout, 429 or 5xx halves it, once
//! for each round: what had started before the last halving tells of the limit
//! before it, so that eight timeouts of one stall make 8 a 4 and not a 1. From
//! 8 to the floor takes 3 rounds, 15 s of hanging; from 64, 30 s.
//!
//! A tenant that says 429 means a rate, which attempts at once do not bound: one
//! at a time that is answered in 20 ms are still 50/s. So a 429 that halves also
//! asks for a pause of [`PACE_MIN`], doubled by each further one up to
//! [`PACE_MAX`], halved again by each [`EASE_AFTER`] successes, and as long as
//! there is one the limit does not rise. A tenant that takes 8/s and says 429 to
//! the rest so gets one attempt too many for each 8, a move each, instead of 40.
//!
//! Only outcomes count. Vector, from whom the windows are, also takes a longer
//! answer time for back pressure, which a receiver with its own bad moments
//! pays for; it ends windows by the clock, so that answers to one burst which
//! come late halve twice; and it adapts nothing before a first success.

use crate::model::attempt::ErrorClass;
use std::time::Duration;

/// Where a tenant begins of whom nothing is known.
pub const START: usize = 8;

/// An attempt that fails later than this holds a slot as one that hangs does.
const QUICK: Duration = Duration::from_secs(1);

/// The pauses that 429 asks for.
const PACE_MIN: Duration = Duration::from_millis(50);
const PACE_MAX: Duration = Duration::from_secs(1);
/// So many successes halve the pause.
const EASE_AFTER: usize = 8;

/// What a tenant is like, by how its last attempt ended: what a slot for its
/// next one is likely to cost. Whatever is answered at once costs little, a
/// refusal too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TenantStatus {
    /// Delivered, or failed at once.
    Answering,
    /// None has ended yet.
    Untried,
    /// Failed after a long wait: as good as dead.
    Hanging,
}

impl TenantStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Answering, Self::Untried, Self::Hanging];
}

/// The halvings before an attempt began, by which its outcome is heard or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round(u32);

/// One tenant's limit.
#[derive(Debug)]
pub struct Limit {
    now: usize,
    ceiling: usize,
    status: TenantStatus,
    round: Round,
    /// Successes to go in this window.
    to_go: usize,
    /// Whether it was reached in this window.
    used_up: bool,
    /// The pause that the last 429 asked for, as eased since; zero is none.
    pace: Duration,
    /// Successes to go until it is halved.
    to_ease: usize,
}

/// Whether a failure of this class says that fewer attempts at once would be
/// better: the others are answered at once, however many there are.
#[must_use]
pub const fn tells_overload(class: ErrorClass) -> bool {
    matches!(
        class,
        ErrorClass::Timeout | ErrorClass::Http429 | ErrorClass::Http5xx
    )
}

impl Limit {
    /// The limit of a tenant of whom nothing is known but its `maxInFlight`.
    #[must_use]
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

    /// The tenant's settings may have changed.
    pub fn set_ceiling(&mut self, ceiling: usize) {
        self.ceiling = ceiling.max(1);
        self.now = self.now.min(self.ceiling);
        self.to_go = self.to_go.min(self.now);
    }

    /// Whether one more attempt may begin beside so many.
    #[must_use]
    pub fn allows(&self, active: usize) -> bool {
        active < self.now
    }

    /// Whether nothing answers at one attempt at a time.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.now == 1 && self.status == TenantStatus::Hanging
    }

    /// What the tenant is like.
    #[must_use]
    pub fn status(&self) -> TenantStatus {
        self.status
    }

    /// The round in which an attempt begins now.
    #[must_use]
    pub fn round(&self) -> Round {
        self.round
    }

    /// So many attempts are under way or about to be.
    pub fn saw_active(&mut self, active: usize) {
        self.used_up |= active >= self.now;
    }

    /// An attempt that began in this round was delivered.
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

    /// An attempt that began in this round failed after so long. How long the
    /// tenant asks to be left alone.
    pub fn failed(&mut self, round: Round, class: ErrorClass, after: Duration) -> Duration {
        self.status = match after < QUICK && class != ErrorClass::Timeout {
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

    /// Whether pauses are asked for.
    #[must_use]
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

    /// One window in which so many at once are seen, and all goes well.
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
    fn it_doubles_until_the_first_failure_and_rises_by_one_from_then_on() {
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
        assert_eq!(limit.now, 4, "they began before the failures");
        let mut seen = Vec::new();
        for _ in 0..3 {
            overload(&mut limit);
            seen.push(limit.now);
        }
        assert_eq!(seen, [2, 1, 1]);
    }

    #[test]
    fn the_last_attempt_says_what_a_tenant_is_like() {
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
    fn what_is_not_used_rises_to_the_start_and_no_further() {
        let mut limit = Limit::new(64);
        (0..5).for_each(|_| overload(&mut limit));
        for _ in 0..100 {
            window(&mut limit, 0);
        }
        assert_eq!(limit.now, START);
    }

    #[test]
    fn what_is_answered_at_once_says_nothing_about_the_limit() {
        for class in ErrorClass::ALL {
            let mut limit = Limit::new(64);
            limit.failed(limit.round, class, QUICK);
            let halves = ["timeout", "http_429", "http_5xx"].contains(&class.name());
            assert_eq!(limit.now, if halves { 4 } else { 8 }, "{class:?}");
        }
    }

    #[test]
    fn a_429_asks_for_a_pause_that_grows_and_is_eased_by_successes() {
        let mut limit = Limit::new(64);
        let heard = |limit: &mut Limit| {
            limit
                .failed(limit.round, ErrorClass::Http429, QUICK)
                .as_millis()
        };
        let first = limit.round;
        let asked: Vec<u128> = (0..6).map(|_| heard(&mut limit)).collect();
        assert_eq!(asked, [50, 100, 200, 400, 800, 1_000]);
        let late = limit.failed(first, ErrorClass::Http429, QUICK);
        assert_eq!(late, Duration::ZERO, "of a burst that was heard");
        for _ in 0..EASE_AFTER {
            assert_eq!(limit.now, 1, "it does not rise");
            limit.delivered(limit.round);
        }
        assert_eq!(heard(&mut limit), 1_000, "twice the half");
        for _ in 0..5 * EASE_AFTER {
            limit.delivered(limit.round);
        }
        assert_eq!(limit.now, 1);
        limit.delivered(limit.round);
        assert_eq!(limit.now, 2, "nothing is asked any more, and it rises");
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
        /// The oracle counts answers: no step may raise the limit by more than
        /// the successes since it last changed, and none but an overload of its
        /// own round lowers it, then to its half.
        #[test]
        fn it_moves_only_as_answers_allow(ceiling in 1_usize..100, steps in prop::collection::vec((0_u8..4, 0_u32..3, 0_usize..100), 1..400)) {
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
