//! The topics that the settings need, as they are or as they would be made, and
//! making those that are missing: for `topics list|create`.
//! Blocking; runs on the thread of a command.

use super::admin::{
    Admin, Config, Error, Existing, MESSAGE_BYTES_DEFAULT, REPLICATION_SAFE, number,
};
use super::settings::{HEADER_BYTES_MAX, KafkaSettings};
use crate::model::position::Topic;
use rdkafka::admin::{NewTopic, TopicReplication};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// The leaders of new partitions are asked so often in all until they serve
/// them, each time for so long and so much later: 10 s where they refuse at once.
const SERVED_TRIES: usize = 100;
const SERVED_TIMEOUT: Duration = Duration::from_secs(1);
const SERVED_AGAIN: Duration = Duration::from_millis(100);
/// How long a delay topic keeps records beyond its delay: a stop over a long
/// weekend loses nothing.
const KEPT_BEYOND: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long dead letters are kept.
const DEAD_LETTERS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far a topic of ours exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// On the brokers.
    Exists,
    /// To be made.
    Missing,
}

/// A topic that the settings need, as it is or as it would be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPlan {
    /// Its part.
    pub topic: Topic,
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub presence: Presence,
    /// Its partitions, or how many it would get.
    pub partitions: usize,
    /// Its replication factor, or what it would get.
    pub replication: usize,
    /// With which settings it would be made; those of an existing one as far as
    /// they matter here.
    pub settings: Vec<(String, String)>,
}

/// What `topics create` was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// Partitions of topics to be made; like the source's if not given.
    pub partitions: Option<usize>,
    /// Their replication factor; like the source's if not given.
    pub replication: Option<usize>,
}

/// What the brokers give to topics that are made without saying more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BrokerDefaults {
    partitions: usize,
    replication: usize,
    message_bytes: usize,
}

impl BrokerDefaults {
    fn of(admin: &Admin) -> Result<Self, Error> {
        let known = admin.broker_settings()?;
        Ok(Self {
            partitions: number(&known, "num.partitions").unwrap_or(1),
            replication: number(&known, "default.replication.factor").unwrap_or(1),
            message_bytes: number(&known, "message.max.bytes").unwrap_or(MESSAGE_BYTES_DEFAULT),
        })
    }
}

/// The topics that the settings need, with what `topics create` would do.
///
/// Errors: the brokers cannot be reached, or refuse to show their topics.
pub fn plan(settings: &KafkaSettings, wish: Wish) -> Result<Vec<TopicPlan>, Error> {
    let admin = Admin::connect(settings)?;
    let existing = admin.existing(settings)?;
    let defaults = BrokerDefaults::of(&admin)?;
    let topics: Vec<Topic> = existing.keys().copied().collect();
    let known = admin.topic_settings(settings, &topics)?;
    Ok(plan_topics(settings, wish, &existing, &known, defaults))
}

/// Makes those topics of a plan that are missing; returns their names. A topic
/// that somebody else made meanwhile counts as there. Returns when each new
/// partition is served, or after [`SERVED_TRIES`]: of what an idempotent producer
/// sent before, librdkafka was seen to report records as delivered that are in
/// no log (2 of 31,500, both within 40 ms of the first).
///
/// Errors: the first topic that cannot be made, with the brokers' reason.
pub fn create(settings: &KafkaSettings, plan: &[TopicPlan]) -> Result<Vec<String>, Error> {
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
    admin.make(&new)?;
    until_served(&admin, &missing);
    Ok(missing.iter().map(|topic| topic.name.clone()).collect())
}

/// Waits until the leader of each partition of these topics answers; any error
/// counts as not yet.
fn until_served(admin: &Admin, topics: &[&TopicPlan]) {
    let mut tries = SERVED_TRIES;
    for topic in topics {
        for number in (0_i32..).take(topic.partitions) {
            while let Err(error) = admin.ask_leader(&topic.name, number, SERVED_TIMEOUT) {
                tries -= 1;
                if tries == 0 {
                    let topic = &topic.name;
                    tracing::warn!(topic, number, %error, "a new partition is not served yet");
                    return;
                }
                thread::sleep(SERVED_AGAIN);
            }
        }
    }
}

fn plan_topics(
    settings: &KafkaSettings,
    wish: Wish,
    existing: &BTreeMap<Topic, Existing>,
    known: &BTreeMap<Topic, Config>,
    defaults: BrokerDefaults,
) -> Vec<TopicPlan> {
    let source = existing.get(&Topic::Source);
    let partitions = wish
        .partitions
        .or(source.map(|s| s.partitions))
        .unwrap_or(defaults.partitions);
    let replication = wish
        .replication
        .or(source.map(|s| s.replication))
        .unwrap_or(defaults.replication);
    let source_max = known
        .get(&Topic::Source)
        .and_then(|config| number(config, "max.message.bytes"))
        .unwrap_or(defaults.message_bytes);
    let plan_one = |topic: Topic| {
        let name = settings.topics.name(topic);
        match existing.get(&topic) {
            Some(found) => TopicPlan {
                topic,
                name,
                presence: Presence::Exists,
                partitions: found.partitions,
                replication: found.replication,
                settings: shown(known.get(&topic)),
            },
            None => TopicPlan {
                topic,
                name,
                presence: Presence::Missing,
                partitions,
                replication,
                settings: new_topic_settings(topic, source_max, replication),
            },
        }
    };
    settings.needed_topics().into_iter().map(plan_one).collect()
}

/// Settings that matter here, of a topic that exists.
fn shown(config: Option<&Config>) -> Vec<(String, String)> {
    const SHOWN: [&str; 5] = [
        "cleanup.policy",
        "retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
    ];
    let Some(config) = config else {
        return Vec::new();
    };
    SHOWN
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())))
        .collect()
}

fn new_topic_settings(
    topic: Topic,
    source_max: usize,
    replication: usize,
) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    let kept = match topic {
        Topic::Source => None,
        Topic::Delay(delay) => Some(delay.duration() + KEPT_BEYOND),
        Topic::DeadLetter => Some(DEAD_LETTERS_KEPT),
    };
    if let Some(kept) = kept {
        set("cleanup.policy", "delete".to_owned());
        set("retention.ms", kept.as_millis().to_string());
        let max = source_max + HEADER_BYTES_MAX;
        set("max.message.bytes", max.to_string());
    }
    if topic.delay().is_some() {
        set("message.timestamp.type", "LogAppendTime".to_owned());
    }
    if replication >= REPLICATION_SAFE {
        set("min.insync.replicas", "2".to_owned());
    }
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

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn missing_topics_are_planned_like_the_source() {
        let source = Existing {
            partitions: 12,
            replication: 3,
            leaderless: None,
        };
        let existing = BTreeMap::from([(Topic::Source, source)]);
        let known = BTreeMap::from([(Topic::Source, config(&[("max.message.bytes", "2000")]))]);
        let plan = plan_topics(&settings(), Wish::default(), &existing, &known, DEFAULTS);
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
                pair("max.message.bytes", "67536"),
                pair("message.timestamp.type", "LogAppendTime"),
                pair("min.insync.replicas", "2"),
            ]
        );
        assert_eq!(plan[3].settings[1], pair("retention.ms", "2592000000"));
        assert!(
            !plan[3]
                .settings
                .iter()
                .any(|(k, _)| k.contains("timestamp"))
        );
    }

    #[test]
    fn a_wish_wins_over_the_source_and_the_source_over_the_brokers() {
        let none = BTreeMap::new();
        let known = BTreeMap::new();
        let plan = plan_topics(&settings(), Wish::default(), &none, &known, DEFAULTS);
        assert_eq!((plan[0].partitions, plan[0].replication), (5, 2));
        assert!(plan[0].settings.is_empty());
        assert!(
            !plan[1]
                .settings
                .iter()
                .any(|(k, _)| k == "min.insync.replicas")
        );
        let wish = Wish {
            partitions: Some(7),
            replication: Some(1),
        };
        let plan = plan_topics(&settings(), wish, &none, &known, DEFAULTS);
        assert!(plan.iter().all(|p| (p.partitions, p.replication) == (7, 1)));
    }
}
