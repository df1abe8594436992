//! Laws across settings, each a named function. No IO.

use super::mistake::Warning;
use crate::model::position::{Topic, TopicNames};
use crate::model::time::{Delay, DurationText};
use std::time::Duration;

/// The longest name of a topic.
///
/// Source: Kafka, `org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`.
const TOPIC_NAME_MAX: usize = 249;

/// How many waits `attempts` can use. One attempt has no wait after it, but a
/// full lane still diverts, so there is always one delay topic.
pub fn delays_max(attempts: u8) -> usize {
    usize::from(attempts).saturating_sub(1).max(1)
}

/// A wait that no attempt can follow is a mistake in one of the two settings.
pub fn each_delay_has_an_attempt_after_it(delays: &[Delay], attempts: u8) -> Result<(), String> {
    let max = delays_max(attempts);
    if delays.len() <= max {
        return Ok(());
    }
    Err(format!(
        "{} waits for --attempts {attempts}: at most {max}",
        delays.len()
    ))
}

/// The names that are made from the source topic's must be legal too.
pub fn derived_topic_names_fit(topics: &TopicNames, delays: &[Delay]) -> Result<(), String> {
    let all = delays
        .iter()
        .map(|delay| Topic::Delay(*delay))
        .chain([Topic::Source, Topic::DeadLetter]);
    let longest = all.map(|topic| topics.name(topic)).max_by_key(String::len);
    match longest {
        Some(name) if name.len() > TOPIC_NAME_MAX => Err(format!(
            "'{name}' would have {} characters: a topic name has at most {TOPIC_NAME_MAX}",
            name.len()
        )),
        _ => Ok(()),
    }
}

/// What is in flight when a drain begins should have time to end, or it is in
/// doubt for the next owner. Allowed, because it is safe.
pub fn a_drain_outlasts_an_attempt(drain: Duration, timeout: Duration) -> Option<Warning> {
    (drain <= timeout).then(|| {
        Warning(format!(
            "--drain-timeout {} is not longer than --timeout {}: attempts that are in flight when the process is asked to end may be charged without having ended",
            DurationText(drain),
            DurationText(timeout)
        ))
    })
}
