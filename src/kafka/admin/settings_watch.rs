//! Reads the settings of the delay and dead-letter topics again while the service runs:
//! an operator may change them at any time. Blocking. Runs on a thread of its own.

use super::{Admin, AdminCallError, least_in_sync, retention};
use crate::kafka::sessions::Sessions;
use crate::kafka::settings::KafkaSettings;
use crate::model::position::Topic;
use std::collections::BTreeSet;

/// The settings as they were read last.
#[derive(Default)]
pub struct SettingsWatch {
    /// Kept: a new client would connect and log in for each look.
    admin: Option<Admin>,
    /// What was wrong at the last look. Each is logged once.
    wrong: BTreeSet<String>,
}

impl SettingsWatch {
    /// Returns the topics whose settings lose records now. Tells the sessions how many
    /// replicas each topic wants in sync.
    ///
    /// # Errors
    /// The brokers do not answer, or refuse.
    pub fn look(
        &mut self,
        settings: &KafkaSettings,
        sessions: &Sessions,
    ) -> Result<BTreeSet<Topic>, AdminCallError> {
        let admin = match &self.admin {
            Some(admin) => admin,
            None => self.admin.insert(Admin::connect(settings)?),
        };
        let existing = admin.existing(settings)?;
        let needed = settings.needed_topics().into_iter();
        let needed = needed.filter(|t| *t != Topic::Source && existing.contains_key(t));
        let configs = admin.topic_settings(settings, &needed.collect::<Vec<_>>())?;
        *sessions.least_in_sync() = least_in_sync(&configs);
        let (mut losing, mut wrong) = (BTreeSet::new(), BTreeSet::new());
        for (topic, config) in &configs {
            let name = settings.topics.name(*topic);
            for text in retention::wrong(&name, *topic, config) {
                if !self.wrong.contains(&text) {
                    tracing::error!(
                        setting = text,
                        "moves wait: a topic would lose their records"
                    );
                }
                losing.insert(*topic);
                wrong.insert(text);
            }
        }
        self.wrong = wrong;
        Ok(losing)
    }
}
