//! The last events of a run, kept only while a failing seed runs again, and the
//! names of the counters.

use ringback::model::fact::Fact;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

/// The number of lines that are kept.
const LINES: usize = 40;

/// The maximum length of a line.
const TEXT_MAX: usize = 240;

/// The last lines; shared, so that they survive a panic.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Mutex<VecDeque<String>>>>, usize);

impl Trace {
    /// Returns a trace that keeps nothing.
    pub fn off() -> Self {
        Self(None, 0)
    }

    /// Returns a trace that keeps this many lines, or the default number.
    pub fn on(lines: Option<u64>) -> Self {
        let lines = lines.and_then(|lines| usize::try_from(lines).ok());
        Self(Some(Arc::default()), lines.unwrap_or(LINES))
    }

    /// Adds an event or an action.
    pub fn note(&self, step: u64, now_us: u64, replica: usize, what: &impl Debug) {
        let Some(lines) = &self.0 else {
            return;
        };
        let text = short(&format!("{what:?}"));
        if text.starts_with("LogBounds") {
            return;
        }
        let text: String = text.chars().take(TEXT_MAX).collect();
        let (s, ms) = (now_us / 1_000_000, now_us / 1_000 % 1_000);
        let mut lines = lines.lock().expect("no one panics while noting");
        if lines.len() == self.1 {
            lines.pop_front();
        }
        lines.push_back(format!("#{step} {s}.{ms:03} r{replica} {text}"));
    }

    /// Returns the number of the last step.
    pub fn last_step(&self) -> String {
        let lines = self.lines();
        let last = lines.lines().next_back().unwrap_or_default();
        last.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Returns the lines, oldest first.
    pub fn lines(&self) -> String {
        let Some(lines) = &self.0 else {
            return String::new();
        };
        let lines = lines.lock().expect("no one panics while noting");
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        all.join("\n")
    }
}

/// Returns the text with shorter names of partitions.
fn short(text: &str) -> String {
    let mut out = text
        .replace("topic: Source", "topic: source")
        .replace("topic: DeadLetter", "topic: dead-letter")
        .replace("topic: Delay(Delay { ms: ", "topic: delay-");
    for (long, brief) in [
        (" }), number: ", "/"),
        ("source, number: ", "source/"),
        ("dead-letter, number: ", "dead-letter/"),
        ("Partition { topic: ", ""),
        ("Position { partition: ", "("),
        ("NextOffset", ""),
        ("Generation", ""),
        ("WriteId", ""),
        ("Snapshot ", ""),
    ] {
        out = out.replace(long, brief);
    }
    out
}

/// Returns the counter of a fact.
pub fn name_of(fact: &Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::Disposed { disposition, .. } => disposition.name(),
        Fact::DeadLettered { reason, .. } => reason.name(),
        Fact::Readopting { reason } => reason.name(),
        Fact::InDoubt { .. } => "in_doubt",
        Fact::DestinationRefused { .. } => "destination_refused",
        Fact::WriteRefused => "write_refused",
        Fact::Revoked { .. } => "revoked",
        Fact::MetadataRejected { .. } => "metadata_rejected",
        Fact::OffsetSet { .. } => "offset_set",
        Fact::RecordsLost { .. } => "records_lost",
        Fact::PartitionStopped { .. } => "partition_stopped",
        _ => return None,
    })
}
