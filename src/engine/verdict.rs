//! Judgements over one record: which delay follows, when it is due, and what a
//! failed attempt, a charge or a full lane makes of it.

use crate::model::attempt::{ErrorClass, Outcome};
use crate::model::disposition::{DeadLetterReason, Disposition};
use crate::model::headers::History;
use crate::model::position::Topic;
use crate::model::time::{Delay, UnixMillis};
use std::time::Duration;

/// How far a record's own last-at may lie from its append time and still count.
const LAST_AT_TRUST: Duration = Duration::from_secs(5);

/// The waits between attempts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    attempts: u8,
    delays: Vec<Delay>,
    /// The distinct delays, shortest first: what diverts go through.
    ladder: Vec<Delay>,
}

/// Where a record goes from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Wait, then the next attempt.
    Delay(Delay),
    /// The lane was full: wait, no attempt spent.
    Divert(Delay),
    /// End.
    DeadLetter(DeadLetterReason),
}

impl Verdict {
    /// The topic that the record moves to.
    #[must_use]
    pub fn topic(self) -> Topic {
        match self {
            Self::Delay(delay) | Self::Divert(delay) => Topic::Delay(delay),
            Self::DeadLetter(_) => Topic::DeadLetter,
        }
    }

    /// What it is called once it is done.
    #[must_use]
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Delay(_) => Disposition::Delayed,
            Self::Divert(_) => Disposition::Diverted,
            Self::DeadLetter(_) => Disposition::DeadLettered,
        }
    }
}

impl Schedule {
    /// A schedule. Panics where there is no delay or no attempt; `config` has checked both.
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

    /// Every distinct delay, shortest first.
    #[must_use]
    pub fn ladder(&self) -> &[Delay] {
        &self.ladder
    }

    /// The shortest delay.
    #[must_use]
    pub fn shortest(&self) -> Delay {
        *self.ladder.first().expect("a schedule has a delay")
    }

    /// Whether a record with this history may be tried again, or why not.
    pub fn may_try(&self, history: &History) -> Result<(), DeadLetterReason> {
        if history.attempts_made < self.attempts {
            return Ok(());
        }
        Err(match history.confirmed {
            0 => DeadLetterReason::AttemptsUnconfirmed,
            _ => DeadLetterReason::AttemptsExhausted,
        })
    }

    /// Judges an attempt that was started and failed.
    pub fn failed(
        &self,
        history: &mut History,
        outcome: &Outcome,
        started_at: UnixMillis,
        now: UnixMillis,
    ) -> Verdict {
        let mut asked = None;
        if let Outcome::Failed {
            class,
            status,
            retry_after,
            ..
        } = outcome
        {
            history.error = Some(*class);
            history.status = status.or(history.status);
            asked = *retry_after;
        }
        history.confirmed += 1;
        match (self.charge(history, started_at, now), asked) {
            (Verdict::Delay(delay), Some(asked)) => Verdict::Delay(self.at_least(delay, asked)),
            (verdict, _) => verdict,
        }
    }

    /// What a receiver asks for never shortens a wait: the scheduled delay, or
    /// the shortest one that is long enough, or else the longest.
    fn at_least(&self, scheduled: Delay, asked: Duration) -> Delay {
        if asked <= scheduled.duration() {
            return scheduled;
        }
        let enough = self.ladder.iter().find(|delay| delay.duration() >= asked);
        *enough
            .or(self.ladder.last())
            .expect("a schedule has a delay")
    }

    /// Judges a reserved record of which nobody knows whether it was sent.
    pub fn in_doubt(&self, history: &mut History, now: UnixMillis) -> Verdict {
        history.error = Some(ErrorClass::InDoubt);
        self.charge(history, now, now)
    }

    fn charge(&self, history: &mut History, started_at: UnixMillis, now: UnixMillis) -> Verdict {
        history.attempts_made += 1;
        history.first_at.get_or_insert(started_at);
        history.last_at = Some(now);
        if let Err(reason) = self.may_try(history) {
            return Verdict::DeadLetter(reason);
        }
        let after = usize::from(history.attempts_made) - 1;
        let delay = self.delays.get(after).or(self.delays.last());
        Verdict::Delay(*delay.expect("a schedule has a delay"))
    }

    /// Judges a record whose lane is full.
    pub fn divert(&self, history: &mut History, now: UnixMillis) -> Verdict {
        let step = usize::try_from(history.diverts).unwrap_or(usize::MAX);
        let delay = self.ladder.get(step).or(self.ladder.last());
        let delay = *delay.expect("a schedule has a delay");
        self.divert_to(delay, history, now)
    }

    /// Judges a record that cannot be tried for others' sake: it waits shortly.
    pub fn divert_shortly(&self, history: &mut History, now: UnixMillis) -> Verdict {
        self.divert_to(self.shortest(), history, now)
    }

    fn divert_to(&self, delay: Delay, history: &mut History, now: UnixMillis) -> Verdict {
        history.diverts = history.diverts.saturating_add(1);
        history.last_at = Some(now);
        Verdict::Divert(delay)
    }
}

/// When a record in a delay topic is due: its append time plus the delay, or
/// its last-at plus the delay where that is later and lies near the append
/// time. A producer's clock far off must neither hurry nor hold a record.
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

    fn delays(text: &str) -> Vec<Delay> {
        text.split(',')
            .map(|d| d.parse().expect("valid delay"))
            .collect()
    }

    fn fresh() -> History {
        History::new("call-ended/0/0".to_owned(), UnixMillis(0))
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            class: ErrorClass::Http5xx,
            status: Some(503),
            retry_after: None,
            detail: String::new(),
        }
    }

    #[test]
    fn ten_failures_walk_the_schedule_and_end() {
        let schedule = Schedule::new(10, delays("10s,10s,1m,1m,10m,10m,1h,1h,6h"));
        let mut history = fresh();
        for expected in ["10s", "10s", "1m", "1m", "10m", "10m", "1h", "1h", "6h"] {
            assert_eq!(schedule.may_try(&history), Ok(()));
            let verdict = schedule.failed(&mut history, &failed(), UnixMillis(1), UnixMillis(2));
            assert_eq!(verdict, Verdict::Delay(expected.parse().expect("valid")));
        }
        let last = schedule.failed(&mut history, &failed(), UnixMillis(1), UnixMillis(2));
        assert_eq!(
            last,
            Verdict::DeadLetter(DeadLetterReason::AttemptsExhausted)
        );
        assert_eq!(
            (history.attempts_made, history.confirmed, history.status),
            (10, 10, Some(503))
        );
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_and_never_for_less() {
        #[track_caller]
        fn check(asked: u64, expected: &str) {
            let schedule = Schedule::new(10, delays("10s,10s,1m,10m"));
            let outcome = Outcome::Failed {
                class: ErrorClass::Http429,
                status: Some(429),
                retry_after: Some(Duration::from_secs(asked)),
                detail: String::new(),
            };
            let verdict = schedule.failed(&mut fresh(), &outcome, UnixMillis(0), UnixMillis(0));
            assert_eq!(verdict, Verdict::Delay(expected.parse().expect("valid")));
        }
        check(0, "10s");
        check(10, "10s");
        check(11, "1m");
        check(60, "1m");
        check(601, "10m");
        check(u64::MAX, "10m");
    }

    #[test]
    fn one_delay_repeats_up_to_the_last_attempt() {
        let schedule = Schedule::new(3, delays("200ms"));
        let mut history = fresh();
        let mut judge = || schedule.failed(&mut history, &failed(), UnixMillis(0), UnixMillis(0));
        let delay = Verdict::Delay("200ms".parse().expect("valid"));
        assert_eq!(
            [judge(), judge(), judge()],
            [
                delay,
                delay,
                Verdict::DeadLetter(DeadLetterReason::AttemptsExhausted)
            ]
        );
    }

    #[test]
    fn charges_alone_end_unconfirmed() {
        let schedule = Schedule::new(2, delays("1s"));
        let mut history = fresh();
        schedule.in_doubt(&mut history, UnixMillis(0));
        let last = schedule.in_doubt(&mut history, UnixMillis(0));
        assert_eq!(
            last,
            Verdict::DeadLetter(DeadLetterReason::AttemptsUnconfirmed)
        );
        assert_eq!((history.attempts_made, history.confirmed), (2, 0));
    }

    #[test]
    fn each_further_divert_waits_one_delay_longer_and_spends_nothing() {
        let schedule = Schedule::new(10, delays("1m,10s,1m,1h"));
        let mut history = fresh();
        for expected in ["10s", "1m", "1h", "1h"] {
            let verdict = schedule.divert(&mut history, UnixMillis(0));
            assert_eq!(verdict, Verdict::Divert(expected.parse().expect("valid")));
        }
        assert_eq!((history.attempts_made, history.diverts), (0, 4));
    }

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
