//! Rules across settings: one named function each. Never does IO.

use super::mistake::Warning;
use super::values::{TOPIC_NAME_MAX, TenantsPlace};
use crate::model::position::{Topic, TopicNames};
use crate::model::time::{Delay, DurationText};
use std::time::Duration;

/// Returns how many delays `attempts` can use. A single attempt has no delay
/// after it, but a full lane still diverts. So there is always one delay topic.
pub fn delays_max(attempts: u8) -> usize {
    usize::from(attempts).saturating_sub(1).max(1)
}

/// Checks that an attempt can follow each delay.
pub fn each_delay_has_an_attempt_after_it(delays: &[Delay], attempts: u8) -> Result<(), String> {
    let max = delays_max(attempts);
    if delays.len() <= max {
        return Ok(());
    }
    Err(format!(
        "{} delays, but --attempts {attempts} allows at most {max}",
        delays.len()
    ))
}

/// Checks the length of all topic names that are made from the source topic's.
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

/// Checks that the tenants topic is none of the topics with records.
pub fn the_tenants_topic_has_no_records(
    topics: &TopicNames,
    tenants: &TenantsPlace,
) -> Result<(), String> {
    match tenants {
        TenantsPlace::Topic(name) if topics.topic(name).is_some() => Err(format!(
            "'{name}' is a topic with records: tenants need one of their own"
        )),
        _ => Ok(()),
    }
}

/// Warns of a drain that is shorter than an attempt. Attempts in flight may then
/// be in doubt for the next owner of their partition. That is safe, so allowed.
pub fn a_drain_outlasts_an_attempt(drain: Duration, timeout: Duration) -> Option<Warning> {
    (drain <= timeout).then(|| {
        Warning(format!(
            "--drain-timeout {} is not longer than --timeout {}: attempts in flight at a shutdown may be charged although they have not ended",
            DurationText(drain),
            DurationText(timeout)
        ))
    })
}
