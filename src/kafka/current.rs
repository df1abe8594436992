//! The settings of Kafka that are in force. Changed files replace them while the
//! service runs. Each new client takes the last ones. Decides nothing. Used by all
//! threads.

use super::settings::KafkaSettings;
use std::sync::{Arc, PoisonError, RwLock};

/// The settings in force.
pub struct CurrentSettings(RwLock<Arc<KafkaSettings>>);

impl CurrentSettings {
    /// Returns a place with these settings.
    #[must_use]
    pub fn new(settings: KafkaSettings) -> Self {
        Self(RwLock::new(Arc::new(settings)))
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn get(&self) -> Arc<KafkaSettings> {
        // A replacement is one statement, so a panic leaves no half of it.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether other settings than these are in force.
    #[must_use]
    pub fn differ_from(&self, settings: &Arc<KafkaSettings>) -> bool {
        !Arc::ptr_eq(&self.get(), settings)
    }

    /// Replaces the user's properties.
    pub fn replace_properties(&self, properties: Vec<(String, String)>) {
        let new = KafkaSettings {
            properties,
            ..(*self.get()).clone()
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }
}
