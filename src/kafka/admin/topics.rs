//! Plans and creates the topics that the settings need, for `topics list` and
//! `topics create`. Never changes a topic that exists. Blocking: runs on the
//! thread of a command.

use super::{
    Admin, AdminCallError, ConfigEntries, ExistingTopic, MESSAGE_BYTES_DEFAULT, REPLICATION_SAFE,
    number,
};
use crate::kafka::settings::{HEADER_BYTES_MAX, KafkaSettings};
use crate::model::position::Topic;
use rdkafka::admin::{NewTopic, TopicReplication};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// Maximum number of requests to the leader of a new partition. With the pause between
/// them this is 60 s, if the leader refuses at once. A busy cluster needs seconds for
/// hundreds of new partitions, so the number is for each of them.
const LEADER_REQUESTS_MAX: usize = 600;
const LEADER_TIMEOUT: Duration = Duration::from_secs(1);
const LEADER_RETRY_AFTER: Duration = Duration::from_millis(100);
/// Retention of a delay topic beyond its delay: a service that is down over a
/// long weekend loses nothing.
const DELAY_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// As far back as `find` searches unless it is told otherwise.
const ATTEMPT_LOG_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const TENANTS_COMPACTION_LAG: Duration = Duration::from_secs(7 * 24 * 3600);
/// The maximum of `max.message.bytes`. Kafka refuses a topic with more.
const MESSAGE_BYTES_LIMIT: usize = i32::MAX as usize;

/// The presence of a topic on the brokers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Exists,
    Missing,
}

/// A topic that the settings need: as it exists, or as it would be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPlan {
    pub name: String,
    pub presence: Presence,
    pub partitions: usize,
    pub replication: usize,
    /// Of an existing topic only those that matter to ringback.
    pub settings: Vec<(String, String)>,
}

/// The sizes that `topics create` was asked for. The others are as the source
/// topic's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewTopicSizes {
    pub partitions: Option<usize>,
    pub replication: Option<usize>,
}

/// The brokers' defaults for new topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BrokerDefaults {
    partitions: usize,
    replication: usize,
    message_bytes: usize,
}

impl BrokerDefaults {
    fn of(admin: &Admin) -> Result<Self, AdminCallError> {
        let configs = admin.broker_settings()?;
        Ok(Self {
            partitions: number(&configs, "num.partitions").unwrap_or(1),
            replication: number(&configs, "default.replication.factor").unwrap_or(1),
            message_bytes: number(&configs, "message.max.bytes").unwrap_or(MESSAGE_BYTES_DEFAULT),
        })
    }
}

/// The topics that only some settings need, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OptionalTopics {
    pub tenants: Option<String>,
    pub attempt_log: Option<String>,
}

/// Returns the topics that the settings need, each as it exists or as `topics
/// create` would create it.
///
/// # Errors
/// The brokers cannot be reached, or refuse to show their topics.
pub fn plan(
    settings: &KafkaSettings,
    sizes: NewTopicSizes,
    optional: OptionalTopics,
) -> Result<Vec<TopicPlan>, AdminCallError> {
    let admin = Admin::connect(settings)?;
    let existing = admin.existing(settings)?;
    let defaults = BrokerDefaults::of(&admin)?;
    let topics: Vec<Topic> = existing.keys().copied().collect();
    let configs = admin.topic_settings(settings, &topics)?;
    let mut plan = plan_topics(settings, sizes, &existing, &configs, defaults);
    // The source topic is the first one, planned or existing.
    let (partitions, replication) = (plan[0].partitions, plan[0].replication);
    let replication = sizes.replication.unwrap_or(replication);
    if let Some(name) = optional.attempt_log {
        let new = attempt_log_settings(replication);
        plan.push(plan_named(&admin, name, partitions, replication, new)?);
    }
    if let Some(name) = optional.tenants {
        let new = tenants_topic_settings(replication);
        // Each replica reads all of it, and the entries of a tenant stay in order.
        plan.push(plan_named(&admin, name, 1, replication, new)?);
    }
    Ok(plan)
}

/// Plans a topic that is no [`Topic`]: as it exists, or new with these sizes and
/// settings.
fn plan_named(
    admin: &Admin,
    name: String,
    partitions: usize,
    replication: usize,
    new: Vec<(String, String)>,
) -> Result<TopicPlan, AdminCallError> {
    if let Some(found) = admin.all_topics()?.get(&name) {
        let configs = admin.describe(std::slice::from_ref(&name))?;
        return Ok(TopicPlan {
            presence: Presence::Exists,
            partitions: found.partitions,
            replication: found.replication,
            settings: relevant(configs.get(&name)),
            name,
        });
    }
    Ok(TopicPlan {
        name,
        presence: Presence::Missing,
        partitions,
        replication,
        settings: new,
    })
}

fn attempt_log_settings(replication: usize) -> Vec<(String, String)> {
    let retention = ATTEMPT_LOG_RETENTION.as_millis().to_string();
    let mut settings = vec![
        ("cleanup.policy".to_owned(), "delete".to_owned()),
        ("retention.ms".to_owned(), retention),
    ];
    settings.extend(min_in_sync(replication));
    settings
}

/// Returns `min.insync.replicas`, where the replication allows it.
fn min_in_sync(replication: usize) -> Option<(String, String)> {
    let pair = ("min.insync.replicas".to_owned(), "2".to_owned());
    (replication >= REPLICATION_SAFE).then_some(pair)
}

fn tenants_topic_settings(replication: usize) -> Vec<(String, String)> {
    let mut settings = vec![
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        // For so long a wrong entry leaves the last good one in the topic.
        (
            "min.compaction.lag.ms".to_owned(),
            TENANTS_COMPACTION_LAG.as_millis().to_string(),
        ),
    ];
    settings.extend(min_in_sync(replication));
    settings
}

/// Creates the missing topics of a plan and returns their names, without those that
/// exist by now. Another process has created them, or the user may not see them.
///
/// Returns when each new partition has a leader that serves it, or after
/// [`LEADER_REQUESTS_MAX`]. An idempotent producer must not send before that. In
/// a measurement librdkafka reported 2 of 31,500 records as delivered that are in
/// no log, both within 40 ms of the first.
///
/// # Errors
/// The first topic that cannot be created, with the brokers' reason.
pub fn create(settings: &KafkaSettings, plan: &[TopicPlan]) -> Result<Vec<String>, AdminCallError> {
    let admin = Admin::connect(settings)?;
    let missing: Vec<&TopicPlan> = plan
        .iter()
        .filter(|topic| topic.presence == Presence::Missing)
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|topic| {
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let replication = i32::try_from(topic.replication).unwrap_or(i32::MAX);
            let replication = TopicReplication::Fixed(replication);
            let new = NewTopic::new(&topic.name, partitions, replication);
            let settings = topic.settings.iter();
            settings.fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let exist = admin.create(&new)?;
    let created: Vec<&TopicPlan> = missing
        .into_iter()
        .filter(|topic| !exist.contains(&topic.name))
        .collect();
    await_leaders(&admin, &created);
    Ok(created.iter().map(|topic| topic.name.clone()).collect())
}

/// Waits until the leader of each partition of these topics answers. Any error
/// counts as no leader yet.
fn await_leaders(admin: &Admin, topics: &[&TopicPlan]) {
    for topic in topics {
        for number in (0_i32..).take(topic.partitions) {
            let mut requests_left = LEADER_REQUESTS_MAX;
            while let Err(error) = admin.ask_leader(&topic.name, number, LEADER_TIMEOUT) {
                requests_left -= 1;
                if requests_left == 0 {
                    let topic = &topic.name;
                    tracing::warn!(topic, number, %error, "a new partition has no leader yet");
                    return;
                }
                thread::sleep(LEADER_RETRY_AFTER);
            }
        }
    }
}

fn plan_topics(
    settings: &KafkaSettings,
    sizes: NewTopicSizes,
    existing: &BTreeMap<Topic, ExistingTopic>,
    configs: &BTreeMap<Topic, ConfigEntries>,
    defaults: BrokerDefaults,
) -> Vec<TopicPlan> {
    let source = existing.get(&Topic::Source);
    let partitions = sizes
        .partitions
        .or(source.map(|s| s.partitions))
        .unwrap_or(defaults.partitions);
    let replication = sizes
        .replication
        .or(source.map(|s| s.replication))
        .unwrap_or(defaults.replication);
    let source_max = configs
        .get(&Topic::Source)
        .and_then(|config| number(config, "max.message.bytes"))
        .unwrap_or(defaults.message_bytes);
    // A record may come compressed into a topic that takes less than its size.
    let record_max = source_max.max(settings.record_bytes_max);
    let plan_one = |topic: Topic| {
        let name = settings.topics.name(topic);
        match existing.get(&topic) {
            Some(found) => TopicPlan {
                name,
                presence: Presence::Exists,
                partitions: found.partitions,
                replication: found.replication,
                settings: relevant(configs.get(&topic)),
            },
            None => TopicPlan {
                name,
                presence: Presence::Missing,
                partitions,
                replication,
                settings: new_topic_settings(topic, record_max, replication),
            },
        }
    };
    settings.needed_topics().into_iter().map(plan_one).collect()
}

/// Returns the settings of an existing topic that matter to ringback.
fn relevant(config: Option<&ConfigEntries>) -> Vec<(String, String)> {
    const RELEVANT: [&str; 6] = [
        "cleanup.policy",
        "retention.ms",
        "retention.bytes",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
    ];
    let Some(config) = config else {
        return Vec::new();
    };
    RELEVANT
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())))
        .collect()
}

fn new_topic_settings(
    topic: Topic,
    record_max: usize,
    replication: usize,
) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    let retention = match topic {
        Topic::Source => None,
        Topic::Delay(delay) => Some(delay.duration() + DELAY_RETENTION),
        Topic::DeadLetter => Some(DEAD_LETTER_RETENTION),
    };
    if let Some(retention) = retention {
        set("cleanup.policy", "delete".to_owned());
        set("retention.ms", retention.as_millis().to_string());
        // A broker's own `log.retention.bytes` would remove records that are not due.
        set("retention.bytes", "-1".to_owned());
        let max = (record_max + HEADER_BYTES_MAX).min(MESSAGE_BYTES_LIMIT);
        set("max.message.bytes", max.to_string());
    }
    if topic.delay().is_some() {
        set("message.timestamp.type", "LogAppendTime".to_owned());
    }
    settings.extend(min_in_sync(replication));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> KafkaSettings {
        KafkaSettings::of_a_test(&["10s", "1h"])
    }

    const DEFAULTS: BrokerDefaults = BrokerDefaults {
        partitions: 5,
        replication: 2,
        message_bytes: 1_000,
    };

    fn config(pairs: &[(&str, &str)]) -> ConfigEntries {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn missing_topics_are_planned_like_the_source() {
        let source = ExistingTopic {
            partitions: 12,
            replication: 3,
            leaderless: None,
        };
        let existing = BTreeMap::from([(Topic::Source, source)]);
        let configs = BTreeMap::from([(Topic::Source, config(&[("max.message.bytes", "2000")]))]);
        let plan = plan_topics(
            &settings(),
            NewTopicSizes::default(),
            &existing,
            &configs,
            DEFAULTS,
        );
        let names: Vec<&str> = plan.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["t", "t.delay.10s", "t.delay.1h", "t.dead-letter"]);
        assert_eq!(plan[0].presence, Presence::Exists);
        for topic in &plan[1..] {
            assert_eq!(topic.presence, Presence::Missing);
            assert_eq!((topic.partitions, topic.replication), (12, 3));
        }
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            plan[2].settings,
            [
                pair("cleanup.policy", "delete"),
                pair("retention.ms", "608400000"),
                pair("retention.bytes", "-1"),
                pair("max.message.bytes", "1114112"),
                pair("message.timestamp.type", "LogAppendTime"),
                pair("min.insync.replicas", "2"),
            ]
        );
        assert_eq!(plan[3].settings[1], pair("retention.ms", "2592000000"));
        assert_eq!(plan[3].settings[2], pair("retention.bytes", "-1"));
        assert!(
            !plan[3]
                .settings
                .iter()
                .any(|(k, _)| k.contains("timestamp"))
        );
    }

    #[test]
    fn a_new_topic_takes_no_larger_records_than_kafka_allows() {
        let max_of = |source_max| {
            let settings = new_topic_settings(Topic::DeadLetter, source_max, 1);
            let max = settings.into_iter().find(|(k, _)| k == "max.message.bytes");
            max.expect("a limit").1
        };
        assert_eq!(max_of(2_147_418_111), "2147483647");
        assert_eq!(max_of(2_147_418_112), "2147483647");
        assert_eq!(max_of(2_147_483_647), "2147483647");
    }

    #[test]
    fn requested_sizes_override_the_source_and_the_source_the_brokers() {
        let none = BTreeMap::new();
        let configs = BTreeMap::new();
        let plan = plan_topics(
            &settings(),
            NewTopicSizes::default(),
            &none,
            &configs,
            DEFAULTS,
        );
        assert_eq!((plan[0].partitions, plan[0].replication), (5, 2));
        assert!(plan[0].settings.is_empty());
        assert!(
            !plan[1]
                .settings
                .iter()
                .any(|(k, _)| k == "min.insync.replicas")
        );
        let sizes = NewTopicSizes {
            partitions: Some(7),
            replication: Some(1),
        };
        let plan = plan_topics(&settings(), sizes, &none, &configs, DEFAULTS);
        assert!(plan.iter().all(|p| (p.partitions, p.replication) == (7, 1)));
    }
}
