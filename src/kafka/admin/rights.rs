//! The rights that `run` needs and the user of ringback does not have, each with what
//! to grant. The brokers tell them before anything is read or written. Changes nothing.
//! Blocking: runs on the thread of a command, or on `kafka-move`.
//!
//! The group is asked for by `check-config` only: where a broker goes meanwhile,
//! librdkafka may end the process with a failed assertion (confluentinc/librdkafka#4605).
//! A group that may not be read is seen when the replica joins it.
//!
//! Not told: the right to the transactional id. Only taking the id shows it, and that
//! fences a replica that has it.

use super::Admin;
use crate::kafka::client::rights::{self, Allowed, Operation};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::Topic;
use std::collections::BTreeMap;
use std::time::Duration;

/// The limit of each of two questions. Without an answer, nothing is missing: what is
/// refused later says so.
const ASK_MAX: Duration = Duration::from_secs(3);

/// Returns the missing rights to these topics, each with what to grant.
pub fn missing(admin: &Admin, settings: &KafkaSettings, topics: &[Topic]) -> Vec<String> {
    let client = admin.client.inner();
    let names: Vec<String> = topics.iter().map(|t| settings.topics.name(*t)).collect();
    let told = rights::of_topics(client, &names, ASK_MAX);
    missing_of_topics(settings, topics, &told)
}

/// Returns the missing right to the group, with what to grant.
pub fn missing_of_group(admin: &Admin, settings: &KafkaSettings) -> Option<String> {
    let group = &settings.group;
    let allowed = rights::of_group(admin.client.inner(), group, ASK_MAX)?;
    (!allowed.contains(&Operation::Read))
        .then(|| format!("no right to read the group '{group}': allow READ on the group"))
}

/// Returns whether this user may write to a topic; true if the brokers do not tell it.
pub fn may_write(admin: &Admin, name: &str) -> bool {
    let names = [name.to_owned()];
    let told = rights::of_topics(admin.client.inner(), &names, ASK_MAX);
    let allowed = told.get(name);
    allowed.is_none_or(|allowed| allowed.contains(&Operation::Write))
}

fn missing_of_topics(
    settings: &KafkaSettings,
    topics: &[Topic],
    told: &BTreeMap<String, Allowed>,
) -> Vec<String> {
    let needed = settings.needed_topics();
    let mut missing = Vec::new();
    for topic in topics {
        let name = settings.topics.name(*topic);
        let Some(allowed) = told.get(&name) else {
            continue;
        };
        let mut need = |operation: Operation, verb: &str, grant: &str| {
            if !allowed.contains(&operation) {
                missing.push(format!(
                    "no right to {verb} the topic '{name}': allow {grant} on the topic"
                ));
            }
        };
        if *topic != Topic::DeadLetter {
            need(Operation::Read, "read", "READ");
        }
        // No record is moved to a delay topic of an older schedule.
        if *topic != Topic::Source && needed.contains(topic) {
            need(Operation::Write, "write to", "WRITE");
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_needs_the_rights_of_its_use_and_untold_ones_are_not_missing() {
        #[track_caller]
        fn check(topic: Topic, allowed: Option<&[Operation]>, missing: &[&str]) {
            let settings = KafkaSettings::of_a_test(&["10s"]);
            let told = allowed.map(|all| (settings.topics.name(topic), all.iter().copied()));
            let told = told.into_iter().map(|(name, all)| (name, all.collect()));
            let found = missing_of_topics(&settings, &[topic], &told.collect());
            let grants = found.iter().map(|text| text.split("allow ").nth(1));
            let grants: Vec<&str> = grants.flatten().collect();
            assert_eq!(grants, missing, "{topic:?}");
        }
        use Operation::{Read, Write};
        let (read, write) = ("READ on the topic", "WRITE on the topic");
        let delay = |text: &str| Topic::Delay(text.parse().expect("valid"));
        check(Topic::Source, Some(&[]), &[read]);
        check(Topic::Source, Some(&[Read]), &[]);
        check(delay("10s"), Some(&[]), &[read, write]);
        check(delay("10s"), Some(&[Read, Write]), &[]);
        check(delay("1h"), Some(&[Read]), &[]);
        check(Topic::DeadLetter, Some(&[]), &[write]);
        check(Topic::DeadLetter, None, &[]);
    }
}
