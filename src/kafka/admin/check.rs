//! Checks brokers, topics and their settings, for `check-config --connect` and
//! for the start of a session. Never changes anything. Blocking: runs on the
//! thread of a command, or on `kafka-move`.

use super::{
    Admin, AdminCallError, ConfigEntries, ExistingTopic, LEAST_IN_SYNC, MESSAGE_BYTES_DEFAULT,
    REPLICATION_SAFE, least_in_sync, number, retention, rights,
};
use crate::kafka::settings::{HEADER_BYTES_MAX, KafkaSettings};
use crate::model::message::METADATA_UNITS_MAX;
use crate::model::position::Topic;
use std::collections::BTreeMap;

/// Kafka's internal topics that the delivery guarantees depend on.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// The result of one check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckVerdict {
    Ok,
    /// The service runs, but with less safety.
    Warning,
    /// The service does not start.
    Wrong,
}

/// One line of the check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub verdict: CheckVerdict,
    /// The fact and, unless it is as it should be, what to do.
    pub text: String,
}

impl Finding {
    /// Returns a line.
    pub fn new(verdict: CheckVerdict, text: impl Into<String>) -> Self {
        Self {
            verdict,
            text: text.into(),
        }
    }
}

/// Checks brokers, topics and their settings for `check-config --connect`.
/// Unreachable brokers are one of the findings.
#[must_use]
pub fn check(settings: &KafkaSettings) -> Vec<Finding> {
    match check_connected(settings) {
        Ok(lines) => lines,
        Err(error) => vec![Finding::new(CheckVerdict::Wrong, error.to_string())],
    }
}

fn check_connected(settings: &KafkaSettings) -> Result<Vec<Finding>, AdminCallError> {
    let admin = Admin::connect(settings)?;
    let all = admin.all_topics()?;
    let mut lines = vec![Finding::new(
        CheckVerdict::Ok,
        format!("brokers reached at {}", settings.brokers),
    )];
    let mut present = Vec::new();
    for topic in settings.needed_topics() {
        let name = settings.topics.name(topic);
        if all.contains_key(&name) {
            present.push(topic);
        } else {
            let text = format!(
                "topic '{name}' does not exist, or this user may not DESCRIBE it: run `ringback \
                 topics create`"
            );
            lines.push(Finding::new(CheckVerdict::Wrong, text));
        }
    }
    let missing = rights::missing(&admin, settings, &present).into_iter();
    let missing = missing.chain(rights::missing_of_group(&admin, settings));
    lines.extend(missing.map(|t| Finding::new(CheckVerdict::Wrong, t)));
    let configs = match admin.topic_settings(settings, &present) {
        Err(error) if error.is_denied() => {
            lines.push(not_checked(&error));
            present.clear();
            BTreeMap::new()
        }
        configs => configs?,
    };
    let wrong = wrong_topic_settings(settings, &configs).into_iter();
    let wrong = wrong.chain(wrong_broker_setting(&admin.broker_settings()?));
    lines.extend(wrong.map(|t| Finding::new(CheckVerdict::Wrong, t)));
    for (topic, config) in &configs {
        let warning = retention::warning(&settings.topics.name(*topic), *topic, config);
        lines.extend(warning.map(|t| Finding::new(CheckVerdict::Warning, t)));
    }
    let warnings = size_warnings(settings, &configs).into_iter();
    lines.extend(warnings.map(|t| Finding::new(CheckVerdict::Warning, t)));
    let names: Vec<String> = present
        .iter()
        .map(|topic| settings.topics.name(*topic))
        .chain(INTERNAL.map(str::to_owned))
        .collect();
    for name in names {
        // Kafka creates its internal topics on first use.
        let Some(existing) = all.get(&name) else {
            continue;
        };
        match admin.describe(std::slice::from_ref(&name)) {
            Err(error) if error.is_denied() => lines.push(not_checked(&error)),
            configs => {
                let config = configs?.remove(&name).unwrap_or_default();
                lines.extend(durability(&name, existing, &config));
            }
        }
    }
    Ok(lines)
}

/// Returns the warning about settings that the user may not read.
fn not_checked(error: &AdminCallError) -> Finding {
    let text = format!("topic settings are not checked: {error}");
    Finding::new(CheckVerdict::Warning, text)
}

/// Returns the topic settings that the service cannot run with.
fn wrong_topic_settings(
    settings: &KafkaSettings,
    configs: &BTreeMap<Topic, ConfigEntries>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let source = configs.get(&Topic::Source);
    let source_max = source.and_then(|config| number(config, "max.message.bytes"));
    // A record above --record-max-bytes is cut before it is moved.
    let needed = source_max
        .unwrap_or(MESSAGE_BYTES_DEFAULT)
        .min(settings.record_bytes_max)
        + HEADER_BYTES_MAX;
    for (topic, config) in configs {
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
                 record with ringback's headers: set it to {needed} or more",
                max.unwrap_or_default()
            ));
        }
        wrong.extend(retention::wrong(&name, *topic, config));
    }
    wrong
}

/// Returns warnings about delay topics that refuse the largest records. The source
/// topic's limit counts compressed bytes. So it may take records that are larger.
fn size_warnings(
    settings: &KafkaSettings,
    configs: &BTreeMap<Topic, ConfigEntries>,
) -> Vec<String> {
    let needed = settings.record_bytes_max + HEADER_BYTES_MAX;
    let delays = configs.iter().filter(|(topic, _)| topic.delay().is_some());
    let small = delays.filter_map(|(topic, config)| {
        let max = number(config, "max.message.bytes").filter(|max| *max < needed)?;
        Some(format!(
            "topic '{}' has max.message.bytes={max}: a larger record that comes compressed is \
             attempted once, and is then a dead letter. Set it to {needed} or more, or lower \
             --record-max-bytes",
            settings.topics.name(*topic)
        ))
    });
    small.collect()
}

/// Returns the broker setting that the service cannot run with. Offset maps that
/// are too long for it would be refused, and no commit would succeed.
fn wrong_broker_setting(config: &ConfigEntries) -> Option<String> {
    let max = number(config, "offset.metadata.max.bytes")?;
    (max < METADATA_UNITS_MAX).then(|| {
        format!(
            "the brokers have offset.metadata.max.bytes={max}, too small for the offset \
             maps: set it to {METADATA_UNITS_MAX}, Kafka's default, or more"
        )
    })
}

/// Returns why this topic cannot hold tenants, if it cannot: only a compacted topic
/// keeps the last entry of each tenant.
pub(in crate::kafka) fn tenants_topic(
    admin: &Admin,
    name: &str,
) -> Result<Option<String>, AdminCallError> {
    let configs = admin.describe(&[name.to_owned()])?;
    let policy = configs.get(name).and_then(|c| c.get("cleanup.policy"));
    Ok(policy.filter(|policy| *policy != "compact").map(|policy| {
        format!(
            "the tenants topic '{name}' has cleanup.policy={policy}, so tenants would be \
             deleted: set it to compact"
        )
    }))
}

/// The topic of the attempt log, if it exists.
enum AttemptLogTopic {
    MayNotWrite,
    /// Its cleanup policy.
    Policy(String),
}

/// Checks the topic of the attempt log, for `check-config --connect`. All that is
/// wrong is a warning: the service runs without the log.
#[must_use]
pub fn attempt_log(settings: &KafkaSettings) -> Finding {
    let name = settings.topics.attempts();
    let policy = Admin::connect(settings).and_then(|admin| {
        if !admin.all_topics()?.contains_key(&name) {
            return Ok(None);
        }
        if !rights::may_write(&admin, &name) {
            return Ok(Some(AttemptLogTopic::MayNotWrite));
        }
        let configs = admin.describe(std::slice::from_ref(&name))?;
        let policy = configs.get(&name).and_then(|c| c.get("cleanup.policy"));
        let policy = policy.cloned().unwrap_or_default();
        Ok(Some(AttemptLogTopic::Policy(policy)))
    });
    match policy {
        Ok(None) => Finding::new(
            CheckVerdict::Warning,
            format!(
                "the topic of the attempt log '{name}' does not exist, or this user may not DESCRIBE \
                 it, so no attempt is logged: run `ringback topics create --attempt-log`"
            ),
        ),
        Ok(Some(AttemptLogTopic::MayNotWrite)) => Finding::new(
            CheckVerdict::Warning,
            format!(
                "no right to write to the topic '{name}' of the attempt log, so no attempt is \
                 logged: allow WRITE on the topic"
            ),
        ),
        Ok(Some(AttemptLogTopic::Policy(policy))) if policy.contains("compact") => Finding::new(
            CheckVerdict::Warning,
            format!(
                "the topic of the attempt log '{name}' has cleanup.policy={policy}, so only the \
                 last attempt of a record is kept: set it to delete"
            ),
        ),
        Ok(Some(AttemptLogTopic::Policy(_))) => Finding::new(
            CheckVerdict::Ok,
            format!("topic '{name}' of the attempt log exists"),
        ),
        Err(error) => Finding::new(
            CheckVerdict::Warning,
            format!("the topic of the attempt log '{name}' is not checked: {error}"),
        ),
    }
}

/// Returns warnings about a topic that may lose acknowledged records in a
/// fail-over.
fn durability(name: &str, existing: &ExistingTopic, config: &ConfigEntries) -> Vec<Finding> {
    let mut lines = Vec::new();
    let mut warn = |text: String| lines.push(Finding::new(CheckVerdict::Warning, text));
    if existing.replication < REPLICATION_SAFE {
        warn(format!(
            "topic '{name}' has replication factor {}: 3 survives the loss of a broker",
            existing.replication
        ));
    }
    let in_sync = number(config, LEAST_IN_SYNC).unwrap_or(1);
    if in_sync < 2 {
        warn(format!(
            "topic '{name}' has min.insync.replicas={in_sync}: with 2, a fail-over loses no \
             acknowledged record"
        ));
    }
    if config
        .get("unclean.leader.election.enable")
        .is_some_and(|v| v == "true")
    {
        warn(format!(
            "topic '{name}' allows unclean leader election, which loses acknowledged records: \
             set unclean.leader.election.enable=false"
        ));
    }
    if lines.is_empty() {
        let text = format!("topic '{name}' is replicated safely");
        lines.push(Finding::new(CheckVerdict::Ok, text));
    }
    lines
}

/// The result of the check at the start of the service.
pub(in crate::kafka) struct StartCheck {
    /// The settings of brokers and topics that the service cannot run with, each with
    /// what to do. None where this user may not read them.
    pub wrong: Option<Vec<String>>,
    /// The rights that the service waits for, each with what to grant.
    pub missing: Vec<String>,
    /// How many replicas each topic wants in sync.
    pub least_in_sync: BTreeMap<Topic, usize>,
    /// Dropping it takes 100 ms, which a starting service spends later.
    pub admin: Admin,
}

/// Checks settings and rights for the start of the service.
///
/// # Errors
/// The settings cannot be read.
pub(in crate::kafka) fn check_start(
    settings: &KafkaSettings,
    topics: &[Topic],
) -> Result<StartCheck, AdminCallError> {
    let admin = Admin::connect(settings)?;
    let missing = rights::missing(&admin, settings, topics);
    let mut least = BTreeMap::new();
    let wrong = match admin.topic_settings(settings, topics) {
        Err(error) if error.is_denied() => {
            tracing::warn!(%error, "topic settings are not checked: not allowed to read them");
            None
        }
        configs => {
            let configs = configs?;
            least = least_in_sync(&configs);
            for warning in size_warnings(settings, &configs) {
                tracing::warn!(warning, "a topic setting is too small");
            }
            let mut wrong = wrong_topic_settings(settings, &configs);
            wrong.extend(wrong_broker_setting(&admin.broker_settings()?));
            Some(wrong)
        }
    };
    Ok(StartCheck {
        wrong,
        missing,
        least_in_sync: least,
        admin,
    })
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

    fn config(pairs: &[(&str, &str)]) -> ConfigEntries {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn wrong_timestamp_types_and_small_limits_are_named() {
        #[track_caller]
        fn check(topic: Topic, pairs: &[(&str, &str)], wrong: usize) {
            let configs = BTreeMap::from([
                (Topic::Source, config(&[("max.message.bytes", "1000")])),
                (topic, config(pairs)),
            ]);
            assert_eq!(
                wrong_topic_settings(&settings(), &configs).len(),
                wrong,
                "{pairs:?}"
            );
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
    fn a_delay_topic_that_refuses_the_largest_records_is_warned_about() {
        let needed = (1 << 20) + HEADER_BYTES_MAX;
        let warned = |topic: Topic, max: usize| {
            let max = max.to_string();
            let configs = BTreeMap::from([(topic, config(&[("max.message.bytes", &max)]))]);
            size_warnings(&settings(), &configs)
        };
        let waits = Topic::Delay(delay("10s"));
        assert!(warned(waits, needed).is_empty());
        assert!(warned(Topic::DeadLetter, 1_000).is_empty(), "it is cut");
        let warnings = warned(waits, needed - 1);
        assert!(warnings[0].contains(&needed.to_string()), "{warnings:?}");
    }

    #[test]
    fn a_metadata_limit_that_is_too_small_is_named_and_an_unreadable_one_is_not() {
        let is_wrong = |pairs: &[(&str, &str)]| wrong_broker_setting(&config(pairs)).is_some();
        assert!(!is_wrong(&[]));
        assert!(!is_wrong(&[("offset.metadata.max.bytes", "4096")]));
        assert!(is_wrong(&[("offset.metadata.max.bytes", "4095")]));
    }

    #[test]
    fn topics_that_may_lose_records_in_a_fail_over_are_warned_about() {
        #[track_caller]
        fn check(replication: usize, pairs: &[(&str, &str)], warnings: usize) {
            let existing = ExistingTopic {
                partitions: 1,
                replication,
                leaderless: None,
            };
            let lines = durability("t", &existing, &config(pairs));
            let found = lines
                .iter()
                .filter(|l| l.verdict == CheckVerdict::Warning)
                .count();
            assert_eq!(found, warnings, "{lines:?}");
            assert_eq!(
                lines.iter().any(|l| l.verdict == CheckVerdict::Ok),
                warnings == 0
            );
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
