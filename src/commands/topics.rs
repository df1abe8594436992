//! `ringback topics list|create`: the topics that the settings need, on the
//! brokers or to be made. Never alters or deletes one.

use super::{Exit, fault, kafka_settings, print, property_mistakes, refuse};
use crate::cli::{CreateArgs, Topics};
use crate::config::mistake::Mistake;
use crate::config::settings;
use crate::kafka::admin::Error;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::topics::{self, Presence, TopicPlan, Wish};

/// The most partitions that `--partitions` allows, and replicas.
const PARTITIONS_MAX: usize = 10_000;
const REPLICAS_MAX: usize = 100;

/// Shows or makes them.
#[must_use]
pub fn run(args: &Topics) -> Exit {
    let (shared, create) = match args {
        Topics::List(shared) => (shared, None),
        Topics::Create(create) => (&create.settings, Some(create)),
    };
    let read = settings::read_topics(shared, property_mistakes);
    let wish = create.map_or(Ok(Wish::default()), wish);
    let (cluster, schedule, wish) = match (read, wish) {
        (Ok((cluster, schedule)), Ok(wish)) => (cluster, schedule, wish),
        (read, wish) => {
            let mut mistakes = read.err().unwrap_or_default();
            mistakes.extend(wish.err().unwrap_or_default());
            return refuse(&mistakes);
        }
    };
    let settings = kafka_settings(&cluster, &schedule);
    let done = match create {
        None => list(&settings),
        Some(create) => make(&settings, wish, create.dry_run),
    };
    done.unwrap_or_else(|error| fault(&error))
}

fn wish(args: &CreateArgs) -> Result<Wish, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut number = |name: &str, text: Option<&str>, max: usize| {
        let text = text?;
        let number = text.parse().ok().filter(|n| (1..=max).contains(n));
        if number.is_none() {
            let text = format!("'{text}' is not a whole number from 1 to {max}");
            mistakes.push(Mistake::new(name, text));
        }
        number
    };
    let partitions = number("--partitions", args.partitions.as_deref(), PARTITIONS_MAX);
    let replicas = args.replication_factor.as_deref();
    let replication = number("--replication-factor", replicas, REPLICAS_MAX);
    if mistakes.is_empty() {
        Ok(Wish {
            partitions,
            replication,
        })
    } else {
        Err(mistakes)
    }
}

fn list(settings: &KafkaSettings) -> Result<Exit, Error> {
    for topic in topics::plan(settings, Wish::default())? {
        let state = match topic.presence {
            Presence::Exists => "exists",
            Presence::Missing => "missing",
        };
        print(line(state, &topic));
    }
    Ok(Exit::Done)
}

fn make(settings: &KafkaSettings, wish: Wish, dry_run: bool) -> Result<Exit, Error> {
    let plan = topics::plan(settings, wish)?;
    let made = if dry_run {
        Vec::new()
    } else {
        topics::create(settings, &plan)?
    };
    for topic in &plan {
        let state = match topic.presence {
            Presence::Exists => "exists",
            Presence::Missing if dry_run => "would be made",
            Presence::Missing if made.contains(&topic.name) => "made",
            Presence::Missing => "missing",
        };
        print(line(state, topic));
    }
    Ok(Exit::Done)
}

/// `<name> <state>: 12 partitions, 3 replicas, retention.ms=…`
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
    use crate::model::position::Topic;

    #[test]
    fn a_topics_line_says_its_name_state_and_settings() {
        let topic = TopicPlan {
            topic: Topic::Source,
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
