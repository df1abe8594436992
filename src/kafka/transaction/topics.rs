//! Finds the topics of a session before it subscribes, and checks their settings.
//! Creates and changes nothing. Runs on the transaction thread.

use super::producer::{CALL_MAX, TimedProducer};
use crate::kafka::admin::check::{self, StartCheck};
use crate::kafka::admin::{self, Admin};
use crate::kafka::call_monitor::CLIENT_MAX;
use crate::model::message::{KafkaEvent, TopicCheck};
use crate::model::position::Topic;
use std::thread;
use std::time::Duration;

/// The pause before topics are listed again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The topics of a session.
pub struct FoundTopics {
    /// Names of the source and delay topics, also of those that an older schedule
    /// left over.
    pub subscription: Vec<String>,
    /// The number of their partitions.
    pub partitions: usize,
    /// Closing this client takes time: drop it after the group is joined.
    pub admin: Option<Admin>,
}

/// Waits until all needed topics exist. After an earlier session of this process it
/// waits for the source topic only: others were deleted since. They are subscribed to
/// all the same, and read once they exist again. Until then they refuse records. Returns
/// `None` when the session ends first, or must not continue.
pub fn find(producer: &TimedProducer<'_>, check: TopicCheck) -> Option<FoundTopics> {
    let (state, settings) = (producer.state, &producer.state.settings);
    let client = state.sessions.calls.client();
    client.start("list topics", CLIENT_MAX);
    while state.is_alive() {
        producer.timer.start("list topics", CALL_MAX + RETRY_AFTER);
        producer.serve();
        let existing = admin::existing(settings, producer.client(), CALL_MAX);
        let listed = existing.is_ok();
        let why = match existing {
            Err(error) => format!("topics cannot be listed: {error}"),
            Ok(existing) => {
                client.start("list topics", CLIENT_MAX);
                let mut topics: Vec<Topic> = existing.keys().copied().collect();
                let needed = settings.needed_topics().into_iter();
                let mut missing: Vec<Topic> = needed.filter(|t| !topics.contains(t)).collect();
                if check == TopicCheck::Done && existing.contains_key(&Topic::Source) {
                    topics.append(&mut missing);
                }
                let missing: Vec<String> =
                    missing.iter().map(|t| settings.topics.name(*t)).collect();
                match missing.is_empty() {
                    false => format!(
                        "topics do not exist, or this user may not DESCRIBE them: {}",
                        missing.join(", ")
                    ),
                    true => match check_settings(producer, check, &topics) {
                        Checked::Good(admin) => {
                            let read = topics.iter().filter(|t| **t != Topic::DeadLetter);
                            let found = read.clone().filter_map(|topic| existing.get(topic));
                            return Some(FoundTopics {
                                partitions: found.map(|topic| topic.partitions).sum(),
                                subscription: read.map(|t| settings.topics.name(*t)).collect(),
                                admin,
                            });
                        }
                        Checked::Wrong => return None,
                        Checked::NotYet(why) => why,
                    },
                }
            }
        };
        if client.is_overdue() {
            let why = "the producer's client does not answer, although the brokers do";
            state.consumer_fault(why.to_owned());
            return None;
        }
        match listed {
            true => state.waiting(why),
            false => state.unreachable(why),
        }
        thread::sleep(RETRY_AFTER);
    }
    None
}

enum Checked {
    Good(Option<Admin>),
    /// The session has reported wrong settings.
    Wrong,
    NotYet(String),
}

fn check_settings(producer: &TimedProducer<'_>, check: TopicCheck, topics: &[Topic]) -> Checked {
    let state = producer.state;
    if state.settings.is_embedded() || check == TopicCheck::Done {
        return Checked::Good(None);
    }
    producer.timer.start("read topic settings", admin::TIMEOUT);
    match check::check_start(&state.settings, topics) {
        Ok(StartCheck {
            wrong: Some(wrong), ..
        }) if !wrong.is_empty() => {
            let why = wrong.join("; ");
            state.report(KafkaEvent::WrongSettings { why });
            Checked::Wrong
        }
        Ok(StartCheck { missing, .. }) if !missing.is_empty() => {
            Checked::NotYet(missing.join("; "))
        }
        Ok(found) => {
            state
                .sessions
                .least_in_sync()
                .clone_from(&found.least_in_sync);
            if found.wrong.is_some() {
                state.report(KafkaEvent::TopicsAccepted);
            }
            Checked::Good(Some(found.admin))
        }
        Err(error) => Checked::NotYet(format!("topic settings cannot be read: {error}")),
    }
}
