//! Verdicts on one record: what follows a failed attempt, a charge without an
//! attempt, or a full lane. The delays come from the schedule. Pure.

use super::fairness::{Divert, Ladder};
use crate::model::attempt::{AttemptResult, ErrorClass, Outcome};
use crate::model::disposition::{DeadLetterReason, Disposition};
use crate::model::headers::History;
use crate::model::position::Topic;
use crate::model::schedule::Schedule;
use crate::model::time::{Delay, UnixMillis};

/// Where a record goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To a delay topic, then the next attempt.
    Delay(Delay),
    /// To a delay topic because it cannot wait in its lane. No attempt is spent.
    Divert(Delay),
    DeadLetter(DeadLetterReason),
}

impl Verdict {
    /// Returns the topic that the record moves to.
    pub fn topic(self) -> Topic {
        match self {
            Self::Delay(delay) | Self::Divert(delay) => Topic::Delay(delay),
            Self::DeadLetter(_) => Topic::DeadLetter,
        }
    }

    /// Returns the disposition to report once the move is committed.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Delay(_) => Disposition::Delayed,
            Self::Divert(_) => Disposition::Diverted,
            Self::DeadLetter(_) => Disposition::DeadLettered,
        }
    }
}

/// Whether a record with this history may be tried again, or why not.
pub fn may_try(schedule: &Schedule, history: &History) -> Result<(), DeadLetterReason> {
    if schedule.allows_after(history.attempts_made) {
        return Ok(());
    }
    Err(match history.confirmed {
        0 => DeadLetterReason::AttemptsUnconfirmed,
        _ => DeadLetterReason::AttemptsExhausted,
    })
}

/// Returns the verdict after an attempt that was started and failed.
pub fn failed(
    schedule: &Schedule,
    history: &mut History,
    result: &AttemptResult,
    now: UnixMillis,
) -> Verdict {
    let mut asked = None;
    if let Outcome::Failed {
        class,
        status,
        retry_after,
        ..
    } = &result.outcome
    {
        history.error = Some(*class);
        history.status = status.or(history.status);
        asked = *retry_after;
    }
    history.confirmed += 1;
    match (charge(schedule, history, result.started_at, now), asked) {
        (Verdict::Delay(delay), Some(asked)) => Verdict::Delay(schedule.at_least(delay, asked)),
        (verdict, _) => verdict,
    }
}

/// Returns the verdict on a reserved record that may or may not have been sent.
pub fn in_doubt(schedule: &Schedule, history: &mut History, now: UnixMillis) -> Verdict {
    history.error = Some(ErrorClass::InDoubt);
    charge(schedule, history, now, now)
}

fn charge(
    schedule: &Schedule,
    history: &mut History,
    started_at: UnixMillis,
    now: UnixMillis,
) -> Verdict {
    history.attempts_made += 1;
    history.first_at.get_or_insert(started_at);
    history.last_at = Some(now);
    match may_try(schedule, history) {
        Ok(()) => Verdict::Delay(schedule.after(history.attempts_made)),
        Err(reason) => Verdict::DeadLetter(reason),
    }
}

/// Returns the verdict on a record that cannot wait in its lane. It goes to the
/// shortest delay that is at least its estimated wait there.
pub fn divert(
    schedule: &Schedule,
    history: &mut History,
    divert: Divert,
    now: UnixMillis,
) -> Verdict {
    let delay = match divert.ladder {
        Ladder::Climbs => schedule.divert_after(history.diverts),
        Ladder::Stays => schedule.shortest(),
    };
    history.diverts = match divert.ladder {
        Ladder::Climbs => history.diverts.saturating_add(1),
        // A record in a delay topic has an attempt or a divert.
        Ladder::Stays => history.diverts.max(1),
    };
    history.last_at = Some(now);
    Verdict::Divert(schedule.at_least(delay, divert.wait))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn delays(text: &str) -> Vec<Delay> {
        text.split(',')
            .map(|d| d.parse().expect("valid delay"))
            .collect()
    }

    fn history() -> History {
        History::new("call-ended/0/0".to_owned(), UnixMillis(0))
    }

    fn failure(class: ErrorClass, status: u16, retry_after: Option<u64>) -> AttemptResult {
        let outcome = Outcome::Failed {
            class,
            status: Some(status),
            retry_after: retry_after.map(Duration::from_secs),
            detail: String::new(),
        };
        AttemptResult {
            outcome,
            started_at: UnixMillis(1),
            duration: Duration::ZERO,
        }
    }

    fn fail(schedule: &Schedule, history: &mut History) -> Verdict {
        let result = failure(ErrorClass::Http5xx, 503, None);
        failed(schedule, history, &result, UnixMillis(2))
    }

    #[test]
    fn ten_failures_walk_the_schedule_and_end() {
        let schedule = Schedule::new(10, delays("10s,10s,1m,1m,10m,10m,1h,1h,6h"));
        let mut history = history();
        for expected in ["10s", "10s", "1m", "1m", "10m", "10m", "1h", "1h", "6h"] {
            assert_eq!(may_try(&schedule, &history), Ok(()));
            let verdict = fail(&schedule, &mut history);
            assert_eq!(verdict, Verdict::Delay(expected.parse().expect("valid")));
        }
        let last = fail(&schedule, &mut history);
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
            let result = failure(ErrorClass::Http429, 429, Some(asked));
            let verdict = failed(&schedule, &mut history(), &result, UnixMillis(2));
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
        let mut history = history();
        let mut judge = || fail(&schedule, &mut history);
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
        let mut history = history();
        in_doubt(&schedule, &mut history, UnixMillis(0));
        let last = in_doubt(&schedule, &mut history, UnixMillis(0));
        assert_eq!(
            last,
            Verdict::DeadLetter(DeadLetterReason::AttemptsUnconfirmed)
        );
        assert_eq!((history.attempts_made, history.confirmed), (2, 0));
    }

    #[test]
    fn each_further_divert_waits_one_delay_longer_and_spends_nothing() {
        let schedule = Schedule::new(10, delays("1m,10s,1m,1h"));
        let mut history = history();
        for expected in ["10s", "1m", "1h", "1h"] {
            let verdict = divert(&schedule, &mut history, climbs(0), UnixMillis(0));
            assert_eq!(verdict, Verdict::Divert(expected.parse().expect("valid")));
        }
        assert_eq!((history.attempts_made, history.diverts), (0, 4));
    }

    fn climbs(wait_s: u64) -> Divert {
        let (ladder, wait) = (Ladder::Climbs, Duration::from_secs(wait_s));
        Divert { ladder, wait }
    }

    #[test]
    fn diverts_for_want_of_a_probe_do_not_lengthen_later_ones() {
        let schedule = Schedule::new(10, delays("10s,1m,1h"));
        let mut history = history();
        let now = UnixMillis(0);
        let stays = |wait_s| Divert {
            ladder: Ladder::Stays,
            ..climbs(wait_s)
        };
        let to = |delay: &str| Verdict::Divert(delay.parse().expect("valid"));
        for _ in 0..9 {
            let verdict = divert(&schedule, &mut history, stays(0), now);
            assert_eq!(verdict, to("10s"));
        }
        assert_eq!(history.diverts, 1);
        let verdict = divert(&schedule, &mut history, climbs(0), now);
        assert_eq!(verdict, to("1m"));
        divert(&schedule, &mut history, stays(0), now);
        assert_eq!(history.diverts, 2);
    }

    #[test]
    fn a_diverted_record_stays_away_for_at_least_its_estimated_wait() {
        let schedule = Schedule::new(10, delays("10s,1m,1h"));
        for (wait_s, expected) in [(9, "10s"), (10, "10s"), (11, "1m"), (7_200, "1h")] {
            let verdict = divert(&schedule, &mut history(), climbs(wait_s), UnixMillis(0));
            let expected = Verdict::Divert(expected.parse().expect("valid"));
            assert_eq!(verdict, expected, "{wait_s} s");
        }
    }
}
