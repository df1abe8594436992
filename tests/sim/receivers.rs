//! The tenants' receivers: the duration and the outcome of an attempt, as the
//! HTTP shell reports it.

use crate::chance::Chance;
use crate::plan::{Behaviour, MS, SECOND};
use ringback::model::attempt::{ErrorClass, Outcome};
use std::time::Duration;

/// The deadline of an attempt.
pub const TIMEOUT_US: u64 = 5 * SECOND;

/// Returns the duration of an attempt in microseconds, and its outcome.
pub fn answer(
    behaviour: Behaviour,
    posts_before: u32,
    now_us: u64,
    chance: &mut Chance,
) -> (u64, Outcome) {
    let quick = chance.between(200, 50 * MS);
    match behaviour {
        Behaviour::Good => (quick, status(200)),
        Behaviour::Slow => (chance.between(SECOND / 2, 4_900 * MS), status(204)),
        Behaviour::Dead => (TIMEOUT_US, failed(ErrorClass::Timeout)),
        Behaviour::FailsFirst(times) if posts_before < times => (quick, status(503)),
        Behaviour::FailsFirst(_) => (quick, status(200)),
        Behaviour::Flapping { turn_us } if (now_us / turn_us).is_multiple_of(2) => {
            (quick, status(201))
        }
        Behaviour::Flapping { .. } => (TIMEOUT_US, failed(ErrorClass::Timeout)),
        Behaviour::Throttles if posts_before % 3 == 2 => (quick, status(200)),
        Behaviour::Throttles => {
            let asked = chance.pick(&[None, Some(0), Some(1), Some(30), Some(100_000)]);
            (quick, throttled(chance.pick(&[429, 503]), asked))
        }
        Behaviour::Refuses => (chance.between(50, 500), failed(ErrorClass::Connect)),
        Behaviour::Moody => match chance.below(6) {
            0 => (quick, status(500)),
            1 => (quick, status(429)),
            2 => (quick, status(301)),
            3 => (TIMEOUT_US, failed(ErrorClass::Timeout)),
            4 => {
                let took = chance.between(MS, 3 * SECOND);
                let class = match took.is_multiple_of(2) {
                    true => ErrorClass::Reset,
                    false => ErrorClass::Proxy,
                };
                (took, failed(class))
            }
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
