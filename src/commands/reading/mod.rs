//! What the commands that read topics share: filters, output, progress, and one
//! pass over topics. Never decides what a record means. Runs on the main thread.

pub mod filters;
pub mod output;
pub mod pass;
pub mod progress;
pub mod record_json;

use super::property_mistakes;
use crate::config::mistake::Mistake;
use crate::config::setting::Typed;
use crate::config::settings::{self, Schedule};
use crate::kafka::settings::KafkaSettings;
use crate::service::kafka_settings;

/// Reads the settings of a command that reads topics.
///
/// # Errors
/// Every mistake.
pub fn settings(typed: &Typed) -> Result<KafkaSettings, Vec<Mistake>> {
    let (cluster, group) = settings::read_group(typed, property_mistakes)?;
    // Nothing is produced or created, so no schedule counts.
    let schedule = Schedule {
        attempts: 1,
        delays: Vec::new(),
        record_bytes_max: 0,
    };
    Ok(KafkaSettings {
        group,
        ..kafka_settings(&cluster, &schedule)
    })
}
