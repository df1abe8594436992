//! What happened last, kept only while a failing seed is run once more; and
//! what is counted.

use ringback::model::fact::Fact;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

/// How many lines are kept.
const LINES: usize = 40;

/// The last lines; shared, so that they outlive a panic.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Mutex<VecDeque<String>>>>);

impl Trace {
    /// Keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Keeps the last lines.
    pub fn on() -> Self {
        Self(Some(Arc::default()))
    }

    /// Notes an event or an action.
    pub fn note(&self, step: u64, now_us: u64, replica: usize, what: &impl Debug) {
        let Some(lines) = &self.0 else {
            return;
        };
        let text: String = format!("{what:?}").chars().take(260).collect();
        let (s, ms) = (now_us / 1_000_000, now_us / 1_000 % 1_000);
        let mut lines = lines.lock().expect("no one panics while noting");
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(format!("#{step} {s}.{ms:03} r{replica} {text}"));
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> String {
        let Some(lines) = &self.0 else {
            return String::new();
        };
        let lines = lines.lock().expect("no one panics while noting");
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        all.join("\n")
    }
}

/// What a run is counted by.
pub fn name_of(fact: &Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::Disposed { disposition, .. } => disposition.name(),
        Fact::DeadLettered { reason, .. } => reason.name(),
        Fact::Readopting { reason } => reason.name(),
        Fact::InDoubt { .. } => "in_doubt",
        Fact::WriteRefused => "write_refused",
        Fact::Revoked { .. } => "revoked",
        Fact::MetadataRejected { .. } => "metadata_rejected",
        Fact::RecordsLost { .. } => "records_lost",
        Fact::PartitionStopped { .. } => "partition_stopped",
        _ => return None,
    })
}
