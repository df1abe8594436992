//! The thread that checks changed files of Kafka: the check makes a client, which takes
//! longer than a turn of the main loop may. Decides nothing.

use super::Runner;
use super::attempt_log::AttemptLogWriter;
use super::threads::spawn;
use crate::config::kafka_files::{KafkaFiles, KafkaFilesChange};
use crate::config::properties::pairs;
use crate::engine::event::Event;
use crate::kafka::Job;
use crate::model::time::UnixMillis;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{error, info};

/// The interval between two checks of the files.
const EACH: Duration = Duration::from_secs(1);

/// The changes that the thread reports. It ends when this is dropped.
pub struct KafkaFilesReloads {
    changes: mpsc::UnboundedReceiver<KafkaFilesChange>,
    _end: Sender<()>,
}

impl KafkaFilesReloads {
    /// Starts the thread, if there is a file.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(files: Option<KafkaFiles>) -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        let (end, ended) = channel();
        if let Some(files) = files.filter(|files| !files.is_empty()) {
            spawn(Job {
                name: "kafka-files",
                run: Box::new(move || watch(files, &sender, &ended)),
            });
        }
        Self { changes, _end: end }
    }

    /// Waits for the next change. Returns `None` where no file is watched.
    pub async fn next(&mut self) -> Option<KafkaFilesChange> {
        self.changes.recv().await
    }
}

impl Runner {
    /// Puts changed properties and certificates in force.
    pub(super) fn kafka_files_changed(&mut self, now: UnixMillis, change: KafkaFilesChange) {
        match change {
            KafkaFilesChange::Refused(mistakes) => {
                for mistake in mistakes {
                    let mistake = mistake.to_string();
                    error!(mistake, "a changed file of Kafka was refused");
                }
            }
            KafkaFilesChange::Renewed(properties) => {
                info!("changed files of Kafka are in force: restarting the Kafka session");
                self.service.kafka.replace_properties(pairs(&properties));
                self.attempt_log = AttemptLogWriter::start(&self.service);
                self.engine.handle(now, Event::KafkaSettingsChanged);
            }
        }
    }
}

fn watch(
    mut files: KafkaFiles,
    sender: &mpsc::UnboundedSender<KafkaFilesChange>,
    ended: &Receiver<()>,
) {
    while ended.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
        if let Some(change) = files.check() {
            // After the service has ended, the receiver is gone.
            let _ = sender.send(change);
        }
    }
}
