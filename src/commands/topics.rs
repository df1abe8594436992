//! `ringback topics list` and `topics create`: shows or creates the topics that
//! the settings need. Never alters or deletes a topic. Runs on the main thread.

use super::{Exit, fault, print, property_mistakes, refuse};
use crate::cli::{CreateArgs, Topics};
use crate::config::mistake::{Mistake, Mistakes, both};
use crate::config::settings;
use crate::config::values::{self, AttemptLogSetting, TenantsPlace};
use crate::kafka::admin::AdminCallError;
use crate::kafka::admin::topics::{self, NewTopicSizes, OptionalTopics, Presence, TopicPlan};
use crate::kafka::settings::KafkaSettings;
use crate::service::kafka_settings;

/// Lists or creates the topics.
#[must_use]
pub fn run(args: &Topics) -> Exit {
    let (shared, create) = match args {
        Topics::List(shared) => (shared, None),
        Topics::Create(create) => (&create.settings, Some(create)),
    };
    let read = settings::read_topics(shared, property_mistakes);
    let sizes = create.map_or(Ok(NewTopicSizes::default()), sizes);
    let (read, sizes) = match both(read, sizes) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    let settings = kafka_settings(&read.cluster, &read.schedule);
    let on = read.attempt_log == AttemptLogSetting::On;
    let optional = OptionalTopics {
        attempt_log: on.then(|| settings.topics.attempts()),
        tenants: match read.tenants {
            TenantsPlace::Topic(name) => Some(name),
            TenantsPlace::Files(_) => None,
        },
    };
    let plan = topics::plan(&settings, sizes, optional);
    let done = plan.and_then(|plan| match create {
        None => Ok(list(&plan)),
        Some(create) => self::create(&settings, &plan, create.dry_run),
    });
    done.unwrap_or_else(|error| fault(&error))
}

fn sizes(args: &CreateArgs) -> Result<NewTopicSizes, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let mut number = |name: &str, text: &Option<String>, max: usize| {
        let number = text.as_ref().map(|text| values::number(text, 1..=max));
        mistakes.take(name, number.transpose()).flatten()
    };
    let sizes = NewTopicSizes {
        partitions: number("--partitions", &args.partitions, 10_000),
        replication: number("--replication-factor", &args.replication_factor, 100),
    };
    mistakes.unless_any(|| Some(sizes))
}

fn list(plan: &[TopicPlan]) -> Exit {
    for topic in plan {
        let state = match topic.presence {
            Presence::Exists => "exists",
            Presence::Missing => "missing",
        };
        print(line(state, topic));
    }
    Exit::Done
}

fn create(
    settings: &KafkaSettings,
    plan: &[TopicPlan],
    dry_run: bool,
) -> Result<Exit, AdminCallError> {
    let created = if dry_run {
        Vec::new()
    } else {
        topics::create(settings, plan)?
    };
    for topic in plan {
        let state = match topic.presence {
            Presence::Exists => "exists",
            Presence::Missing if dry_run => "would be created",
            Presence::Missing if created.contains(&topic.name) => "created",
            Presence::Missing => {
                let name = &topic.name;
                print(format_args!(
                    "{name} exists, although the brokers did not list it: another process has \
                     created it, or this user may not DESCRIBE it"
                ));
                continue;
            }
        };
        print(line(state, topic));
    }
    Ok(Exit::Done)
}

/// Returns `<name> <state>: 12 partitions, 3 replicas, retention.ms=…`
fn line(state: &str, topic: &TopicPlan) -> String {
    let counted = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    let mut parts = vec![
        counted(topic.partitions, "partition"),
        counted(topic.replication, "replica"),
    ];
    parts.extend(
        topic
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}")),
    );
    format!("{} {state}: {}", topic.name, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topics_line_has_its_name_state_and_settings() {
        let topic = TopicPlan {
            name: "t".to_owned(),
            presence: Presence::Exists,
            partitions: 12,
            replication: 1,
            settings: vec![("retention.ms".to_owned(), "5".to_owned())],
        };
        let expected = "t exists: 12 partitions, 1 replica, retention.ms=5";
        assert_eq!(line("exists", &topic), expected);
    }
}
