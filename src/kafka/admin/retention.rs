//! Decides whether Kafka keeps the records of a topic for as long as ringback
//! needs them. Asks nothing and changes nothing. Runs on the caller's thread.

use super::ConfigEntries;
use crate::model::position::Topic;
use std::time::Duration;

/// The minimum retention of a delay topic beyond its delay: a service that is down
/// for a day loses nothing.
const SPARE: Duration = Duration::from_secs(24 * 3600);

/// Returns the settings of a topic by which Kafka removes or refuses records that
/// ringback still needs, each with what to do.
pub(super) fn wrong(name: &str, topic: Topic, config: &ConfigEntries) -> Vec<String> {
    let mut wrong = Vec::new();
    if topic == Topic::Source {
        return wrong;
    }
    if let Some(policy) = config.get("cleanup.policy")
        && policy.split(',').any(|part| part.trim() == "compact")
    {
        wrong.push(format!(
            "topic '{name}' has cleanup.policy={policy}: Kafka then removes records with the \
             same key and refuses records without one. Set it to delete"
        ));
    }
    let Some(delay) = topic.delay() else {
        return wrong;
    };
    let needed = (delay.duration() + SPARE).as_millis();
    if let Some(retention) = limit(config, "retention.ms")
        && u128::from(retention) < needed
    {
        wrong.push(format!(
            "delay topic '{name}' has retention.ms={retention}: Kafka may remove records that \
             are not due yet. Set it to {needed} or more, the delay and a day"
        ));
    }
    if let Some(bytes) = limit(config, "retention.bytes") {
        wrong.push(format!(
            "delay topic '{name}' has retention.bytes={bytes}: Kafka may remove records that \
             are not due yet. Set it to -1"
        ));
    }
    wrong
}

/// Returns a warning about a dead-letter topic that forgets by size.
pub(super) fn warning(name: &str, topic: Topic, config: &ConfigEntries) -> Option<String> {
    let bytes = limit(config, "retention.bytes").filter(|_| topic == Topic::DeadLetter)?;
    Some(format!(
        "dead-letter topic '{name}' has retention.bytes={bytes}: many dead letters at once \
         remove older ones. Set it to -1"
    ))
}

/// Returns a limit. A negative number means none.
fn limit(config: &ConfigEntries, key: &str) -> Option<u64> {
    config.get(key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(topic: Topic, key: &str, value: &str, told: &[&str]) {
        let config = ConfigEntries::from([(key.to_owned(), value.to_owned())]);
        let wrong = wrong("t", topic, &config);
        assert_eq!(
            wrong.is_empty(),
            told.is_empty(),
            "{key}={value}: {wrong:?}"
        );
        for text in told {
            assert!(wrong[0].contains(text), "'{text}' is not in: {}", wrong[0]);
        }
    }

    #[test]
    fn settings_by_which_a_delayed_record_is_lost_are_named() {
        let delay = Topic::Delay("10s".parse().expect("a valid delay"));
        let compacted = &["'t'", "cleanup.policy=compact", "delete"][..];
        check(delay, "cleanup.policy", "delete", &[]);
        check(delay, "cleanup.policy", "compact", compacted);
        check(
            delay,
            "cleanup.policy",
            "delete,compact",
            &["delete,compact"],
        );
        check(delay, "retention.ms", "-1", &[]);
        check(delay, "retention.ms", "86410000", &[]);
        let short = &["'t'", "retention.ms=86409999", "86410000"][..];
        check(delay, "retention.ms", "86409999", short);
        check(delay, "retention.bytes", "-1", &[]);
        check(
            delay,
            "retention.bytes",
            "1000",
            &["retention.bytes=1000", "-1"],
        );
    }

    #[test]
    fn dead_letters_may_expire_but_not_be_compacted() {
        let compacted = &["cleanup.policy=compact"][..];
        check(Topic::DeadLetter, "cleanup.policy", "compact", compacted);
        check(Topic::DeadLetter, "retention.ms", "1000", &[]);
        check(Topic::DeadLetter, "retention.bytes", "1000", &[]);
        let config = ConfigEntries::from([("retention.bytes".to_owned(), "1000".to_owned())]);
        assert!(warning("t", Topic::DeadLetter, &config).is_some());
        assert!(warning("t", Topic::Source, &config).is_none());
        check(Topic::Source, "cleanup.policy", "compact", &[]);
        check(Topic::Source, "retention.ms", "1", &[]);
    }
}
