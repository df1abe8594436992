//! Finds a Kafka call that hangs although the brokers answer others: librdkafka
//! can hang in its transactional calls (librdkafka#4420, #5456, #5511), and a
//! hung thread cannot be ended. So the process is, which is safe by design.
//!
//! Two threads for all lives: `kafka-watch` looks at the board and waits for
//! nothing; `kafka-probe` asks the brokers with a client of its own while
//! something is suspect.

use super::Sessions;
use super::board::LOOK_EVERY;
use super::context::AskingContext;
use super::ffi;
use super::settings::KafkaSettings;
use crate::model::position::Topic;
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// Between two questions to the brokers.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For each answer.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// A look that comes so late shows that the process was stopped meanwhile.
const STOPPED: Duration = Duration::from_secs(5);
/// The process may end in its usual way for this long.
const END_MAX: Duration = Duration::from_secs(2);

/// Looks at the board until the service has ended, or something is hung: says
/// what, and ends the process with this exit code where nobody else does.
pub fn watch(across: &Weak<Sessions>, tell: impl FnOnce(), exit_code: u8) {
    let mut before = None;
    let hung = loop {
        thread::sleep(LOOK_EVERY);
        let Some(across) = across.upgrade() else {
            return;
        };
        // The group may have taken a process for dead that was stopped.
        let now = across.now();
        if before
            .replace(now)
            .is_some_and(|at| now.saturating_sub(at) > STOPPED)
        {
            across.trouble();
        }
        if let Some(hung) = across.board.look() {
            break hung;
        }
    };
    tracing::error!("{hung}: the process ends, and is safe to start again at once");
    tell();
    thread::sleep(END_MAX);
    ffi::end_process(exit_code);
}

/// Asks the brokers for as long as something is suspect, until the service has
/// ended. May hang itself: then other calls' answers alone decide.
pub fn probe(settings: &KafkaSettings, across: &Weak<Sessions>) {
    let mut asking: Option<BaseConsumer<AskingContext>> = None;
    loop {
        thread::sleep(PROBE_EVERY);
        let Some(board) = across.upgrade().map(|across| Arc::clone(&across.board)) else {
            return;
        };
        if !board.is_suspect() {
            asking = None;
            continue;
        }
        if asking.is_none() {
            let config = settings.probe_config();
            asking = BaseConsumer::from_config_and_context(&config, AskingContext).ok();
        }
        let Some(client) = &asking else {
            continue;
        };
        if client.fetch_metadata(None, PROBE_LIMIT).is_ok() {
            board.answered();
        }
        if coordinator_answers(client, &settings.topics.name(Topic::Source)) {
            board.coordinator_answered();
        }
    }
}

/// Asks the group's coordinator what is committed for the topic's first partition.
fn coordinator_answers(client: &BaseConsumer<AskingContext>, topic: &str) -> bool {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let answer = client.committed_offsets(asked, PROBE_LIMIT);
    answer.is_ok_and(|list| list.elements().iter().all(|e| e.error().is_ok()))
}
