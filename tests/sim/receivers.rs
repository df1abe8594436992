//! The tenants' receivers: how long an attempt takes and how it ends, as the
//! HTTP shell would tell it.

use crate::chance::Chance;
use crate::plan::{MS, Manner, SECOND};
use ringback::model::attempt::{ErrorClass, Outcome};
use std::time::Duration;

/// The shell's deadline for one attempt.
pub const TIMEOUT_US: u64 = 5 * SECOND;

/// How one attempt goes: after so many microseconds, this.
pub fn answer(
    manner: Manner,
    posts_before: u32,
    now_us: u64,
    chance: &mut Chance,
) -> (u64, Outcome) {
    let quick = chance.between(200, 50 * MS);
    match manner {
        Manner::Good => (quick, status(200)),
        Manner::Slow => (chance.between(SECOND / 2, 4_900 * MS), status(204)),
        Manner::Dead => (TIMEOUT_US, failed(ErrorClass::Timeout)),
        Manner::FailsFirst(times) if posts_before < times => (quick, status(503)),
        Manner::FailsFirst(_) => (quick, status(200)),
        Manner::Flapping { turn_us } if (now_us / turn_us).is_multiple_of(2) => {
            (quick, status(201))
        }
        Manner::Flapping { .. } => (TIMEOUT_US, failed(ErrorClass::Timeout)),
        Manner::Throttles if posts_before % 3 == 2 => (quick, status(200)),
        Manner::Throttles => {
            let asked = chance.pick(&[None, Some(0), Some(1), Some(30), Some(100_000)]);
            (quick, throttled(chance.pick(&[429, 503]), asked))
        }
        Manner::Refuses => (chance.between(50, 500), failed(ErrorClass::Connect)),
        Manner::Moody => match chance.below(6) {
            0 => (quick, status(500)),
            1 => (quick, status(429)),
            2 => (quick, status(301)),
            3 => (TIMEOUT_US, failed(ErrorClass::Timeout)),
            4 => (chance.between(MS, 3 * SECOND), failed(ErrorClass::Reset)),
            _ => (quick, status(202)),
        },
    }
}

fn status(status: u16) -> Outcome {
    match ErrorClass::of_status(status) {
        None => Outcome::Delivered { status },
        Some(class) => Outcome::Failed {
            class,
            status: Some(status),
            retry_after: None,
            detail: String::new(),
        },
    }
}

fn throttled(code: u16, asked_s: Option<u64>) -> Outcome {
    match status(code) {
        Outcome::Failed {
            class,
            status,
            detail,
            ..
        } => Outcome::Failed {
            class,
            status,
            retry_after: asked_s.map(Duration::from_secs),
            detail,
        },
        delivered => delivered,
    }
}

fn failed(class: ErrorClass) -> Outcome {
    Outcome::Failed {
        class,
        status: None,
        retry_after: None,
        detail: String::new(),
    }
}
