//! The thread that reads the settings of topics again and again, so that no record is
//! moved to a topic that would lose it. Decides nothing.

use super::threads::spawn;
use crate::engine::event::Event;
use crate::kafka::admin::settings_watch::SettingsWatch;
use crate::kafka::current::CurrentSettings;
use crate::kafka::settings::ClusterKind;
use crate::kafka::{Job, Sessions};
use crate::service::Service;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::debug;

/// The interval between two looks. The start checks the same settings.
const EACH: Duration = Duration::from_secs(10);

/// The thread. It ends when this is dropped.
pub struct TopicSettings(#[allow(dead_code, reason = "its drop ends the thread")] Sender<()>);

impl TopicSettings {
    /// Starts the thread. It sends an event after each look. A cluster inside of the
    /// process has no topic settings.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(
        service: &Service,
        sessions: &Arc<Sessions>,
        events: UnboundedSender<Event>,
    ) -> Option<Self> {
        let sessions = Arc::clone(sessions);
        let kafka = Arc::clone(&service.kafka);
        if kafka.get().kind != ClusterKind::Brokers {
            return None;
        }
        let (end, ended) = channel();
        spawn(Job {
            name: "topic-settings",
            run: Box::new(move || watch(&kafka, &sessions, &events, &ended)),
        });
        Some(Self(end))
    }
}

fn watch(
    kafka: &CurrentSettings,
    sessions: &Sessions,
    events: &UnboundedSender<Event>,
    ended: &Receiver<()>,
) {
    let (mut topics, mut settings) = (SettingsWatch::default(), kafka.get());
    while ended.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
        if kafka.differ_from(&settings) {
            (topics, settings) = (SettingsWatch::default(), kafka.get());
        }
        match topics.look(&settings, sessions) {
            // After the service has ended, the receiver is gone.
            Ok(losing) => drop(events.send(Event::TopicSettings { losing })),
            // Without the right to read them, the start has warned already.
            Err(error) => debug!(%error, "topic settings are not read"),
        }
    }
}
