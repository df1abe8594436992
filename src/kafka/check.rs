//! Judges brokers, topics and their settings: for `check-config --connect` and
//! the start of a life. Blocking; runs on the thread of a command or on the
//! mover. Never changes anything.

use super::admin::{
    Admin, Config, Error, Existing, MESSAGE_BYTES_DEFAULT, REPLICATION_SAFE, number,
};
use super::settings::{HEADER_BYTES_MAX, KafkaSettings};
use crate::model::message::METADATA_UNITS_MAX;
use crate::model::position::Topic;
use std::collections::BTreeMap;

/// Topics of Kafka's own that our promises rest on.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// How a line of a check is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// As it should be.
    Fine,
    /// The service runs, with less safety.
    Warning,
    /// The service does not run so.
    Wrong,
}

/// One thing that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// How it is.
    pub level: Level,
    /// What was found and, where it is not fine, what to do.
    pub text: String,
}

impl Checked {
    fn new(level: Level, text: impl Into<String>) -> Self {
        Self {
            level,
            text: text.into(),
        }
    }
}

/// Checks brokers, topics and their settings for `check-config --connect`.
/// Brokers that cannot be reached are a line like the others.
#[must_use]
pub fn check(settings: &KafkaSettings) -> Vec<Checked> {
    match check_connected(settings) {
        Ok(lines) => lines,
        Err(error) => vec![Checked::new(Level::Wrong, error.to_string())],
    }
}

fn check_connected(settings: &KafkaSettings) -> Result<Vec<Checked>, Error> {
    let admin = Admin::connect(settings)?;
    let all = admin.all_topics()?;
    let mut lines = vec![Checked::new(
        Level::Fine,
        format!("brokers reached at {}", settings.brokers),
    )];
    let mut ours = Vec::new();
    for topic in settings.needed_topics() {
        let name = settings.topics.name(topic);
        if all.contains_key(&name) {
            ours.push(topic);
        } else {
            let text = format!("topic '{name}' does not exist: run `ringback topics create`");
            lines.push(Checked::new(Level::Wrong, text));
        }
    }
    let known = admin.topic_settings(settings, &ours)?;
    let wrong = judge_topics(settings, &known).into_iter();
    let wrong = wrong.chain(judge_broker(&admin.broker_settings()?));
    lines.extend(wrong.map(|t| Checked::new(Level::Wrong, t)));
    let names: Vec<String> = ours
        .iter()
        .map(|topic| settings.topics.name(*topic))
        .chain(INTERNAL.map(str::to_owned))
        .collect();
    for name in names {
        // The internal topics are made when they are first used.
        let Some(existing) = all.get(&name) else {
            continue;
        };
        let config = admin.describe(std::slice::from_ref(&name))?;
        let config = config.get(&name).cloned().unwrap_or_default();
        lines.extend(judge_durability(&name, existing, &config));
    }
    Ok(lines)
}

/// What the settings of our topics must be for the service to run.
fn judge_topics(settings: &KafkaSettings, known: &BTreeMap<Topic, Config>) -> Vec<String> {
    let mut wrong = Vec::new();
    let source = known.get(&Topic::Source);
    let source_max = source.and_then(|config| number(config, "max.message.bytes"));
    // What is larger than --record-max-bytes is cut before it is moved.
    let needed = source_max
        .unwrap_or(MESSAGE_BYTES_DEFAULT)
        .min(settings.record_bytes_max)
        + HEADER_BYTES_MAX;
    for (topic, config) in known {
        let name = settings.topics.name(*topic);
        let kind = config.get("message.timestamp.type");
        if topic.delay().is_some() && kind.is_some_and(|kind| kind != "LogAppendTime") {
            wrong.push(format!(
                "delay topic '{name}' has message.timestamp.type={}, so due times cannot be \
                 trusted: set it to LogAppendTime",
                kind.map_or("", String::as_str)
            ));
        }
        let max = number(config, "max.message.bytes");
        if *topic != Topic::Source && max.is_some_and(|max| max < needed) {
            wrong.push(format!(
                "topic '{name}' has max.message.bytes={}, too small for the source's largest \
                 record with our headers: set it to {needed} or more",
                max.unwrap_or_default()
            ));
        }
    }
    wrong
}

/// What the brokers' own settings must be: maps that are refused for their
/// length could not be written, and nothing would go on.
fn judge_broker(config: &Config) -> Option<String> {
    let max = number(config, "offset.metadata.max.bytes")?;
    (max < METADATA_UNITS_MAX).then(|| {
        format!(
            "the brokers have offset.metadata.max.bytes={max}, too small for what is committed \
             with an offset: set it to {METADATA_UNITS_MAX}, Kafka's default, or more"
        )
    })
}

/// Where a fail-over could forget what was acknowledged.
fn judge_durability(name: &str, existing: &Existing, config: &Config) -> Vec<Checked> {
    let mut lines = Vec::new();
    let mut warn = |text: String| lines.push(Checked::new(Level::Warning, text));
    if existing.replication < REPLICATION_SAFE {
        warn(format!(
            "topic '{name}' has replication factor {}: 3 survives the loss of a broker",
            existing.replication
        ));
    }
    let in_sync = number(config, "min.insync.replicas").unwrap_or(1);
    if in_sync < 2 {
        warn(format!(
            "topic '{name}' has min.insync.replicas={in_sync}: with 2, a fail-over forgets \
             nothing that was acknowledged"
        ));
    }
    if config
        .get("unclean.leader.election.enable")
        .is_some_and(|v| v == "true")
    {
        warn(format!(
            "topic '{name}' allows unclean leader election, which forgets acknowledged records: \
             set unclean.leader.election.enable=false"
        ));
    }
    if lines.is_empty() {
        let text = format!("topic '{name}' is replicated safely");
        lines.push(Checked::new(Level::Fine, text));
    }
    lines
}

/// What is wrong with the brokers' and the topics' settings, each with what to do; nothing, if
/// the service may run with them. The client comes back as well: its end takes
/// 100 ms, which a starting service spends later.
///
/// Errors: the settings cannot be read.
pub(super) fn wrong_topics(
    settings: &KafkaSettings,
    topics: &[Topic],
) -> Result<(Vec<String>, Admin), Error> {
    let admin = Admin::connect(settings)?;
    let known = admin.topic_settings(settings, topics)?;
    let mut wrong = judge_topics(settings, &known);
    wrong.extend(judge_broker(&admin.broker_settings()?));
    Ok((wrong, admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> KafkaSettings {
        KafkaSettings::of_a_test(&["10s"])
    }

    fn delay(text: &str) -> crate::model::time::Delay {
        text.parse().expect("a valid delay")
    }

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn wrong_timestamp_types_and_small_limits_are_named() {
        #[track_caller]
        fn check(topic: Topic, pairs: &[(&str, &str)], wrong: usize) {
            let known = BTreeMap::from([
                (Topic::Source, config(&[("max.message.bytes", "1000")])),
                (topic, config(pairs)),
            ]);
            assert_eq!(judge_topics(&settings(), &known).len(), wrong, "{pairs:?}");
        }
        let waits = Topic::Delay(delay("10s"));
        check(waits, &[("message.timestamp.type", "LogAppendTime")], 0);
        check(waits, &[("message.timestamp.type", "CreateTime")], 1);
        check(
            Topic::DeadLetter,
            &[("message.timestamp.type", "CreateTime")],
            0,
        );
        check(waits, &[("max.message.bytes", "66536")], 0);
        check(waits, &[("max.message.bytes", "66535")], 1);
        check(Topic::DeadLetter, &[("max.message.bytes", "66535")], 1);
    }

    #[test]
    fn a_limit_for_metadata_that_is_too_small_is_named_and_an_unknown_one_is_not() {
        let judge = |pairs: &[(&str, &str)]| judge_broker(&config(pairs)).is_some();
        assert!(!judge(&[]));
        assert!(!judge(&[("offset.metadata.max.bytes", "4096")]));
        assert!(judge(&[("offset.metadata.max.bytes", "4095")]));
    }

    #[test]
    fn what_a_fail_over_could_forget_is_warned_about() {
        #[track_caller]
        fn check(replication: usize, pairs: &[(&str, &str)], warnings: usize) {
            let existing = Existing {
                partitions: 1,
                replication,
                leaderless: None,
            };
            let lines = judge_durability("t", &existing, &config(pairs));
            let found = lines.iter().filter(|l| l.level == Level::Warning).count();
            assert_eq!(found, warnings, "{lines:?}");
            assert_eq!(lines.iter().any(|l| l.level == Level::Fine), warnings == 0);
        }
        check(3, &[("min.insync.replicas", "2")], 0);
        check(3, &[("min.insync.replicas", "1")], 1);
        check(1, &[], 2);
        check(
            3,
            &[
                ("min.insync.replicas", "2"),
                ("unclean.leader.election.enable", "true"),
            ],
            1,
        );
    }
}
