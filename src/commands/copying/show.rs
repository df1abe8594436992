//! What `replay` and `dead-letter redrive` print: progress on standard error, counts
//! on standard output.

use super::note;
use super::request::{Request, RunMode};
use super::stop::StopSignal;
use crate::cli::output::OutputFormat;
use crate::commands::reading::output::{Columns, Output};
use crate::commands::reading::progress::ProgressShow;
use crate::jobs::JobKind;
use crate::jobs::batch::ReadSum;
use crate::jobs::run::{JobError, Watch};
use crate::jobs::state::{JobCounts, JobState};
use crate::kafka::scan::ScanProgress;
use crate::model::position::Topic;
use crate::model::time::UnixMillis;
use serde_json::json;
use std::collections::BTreeMap;
use std::error::Error;

/// The columns of the counts by tenant.
const TENANTS: Columns = Columns(&[("TENANT", 40), ("RECORDS", 7)]);

/// Shows a job's progress.
pub struct Show {
    shown: Option<ProgressShow>,
    last: ScanProgress,
    more: String,
    stop: StopSignal,
}

impl Show {
    /// Shows nothing yet, and listens for signals.
    ///
    /// # Errors
    /// The handlers of signals cannot be installed.
    pub fn start() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            shown: Some(ProgressShow::start()),
            last: ScanProgress::default(),
            more: String::new(),
            stop: StopSignal::listen()?,
        })
    }

    /// Ends the progress. Returns whether a signal has come.
    pub fn finish(&mut self) -> bool {
        if let Some(shown) = self.shown.take() {
            shown.finish(self.last, &self.more);
        }
        self.stop.has_come()
    }
}

impl Watch for Show {
    fn progress(&mut self, state: &JobState, read: ReadSum) {
        let (offsets, offsets_total) = state.share();
        self.last = ScanProgress {
            offsets,
            offsets_total,
            records: self.last.records + read.records,
            bytes: self.last.bytes + read.bytes,
        };
        self.more = format!(", {} selected", state.counts().selected);
        if let Some(shown) = &mut self.shown {
            shown.show(self.last, &self.more);
        }
    }

    fn waiting(&mut self, why: &str) {
        note(&format!("waiting for Kafka: {why}"));
    }

    fn stops(&mut self) -> bool {
        self.stop.has_come()
    }
}

/// Returns the command that continues the job of a request.
pub fn resume(request: &Request) -> String {
    let file = match (&request.file, request.kind) {
        (None, _) => String::new(),
        (Some(file), JobKind::Replay) => format!(" --ids-file {}", file.display()),
        (Some(file), JobKind::Redrive) => format!(" --from {}", file.display()),
    };
    let (command, name) = (request.kind.command(), request.name.as_str());
    format!("`{command} --resume {name}{file}`")
}

/// Returns the error about a job whose offsets another program has changed.
pub fn damaged(request: &Request, why: String) -> JobError {
    let group = request.name.group(&request.settings.group);
    JobError::Damaged(format!(
        "{why}; the offsets of the group '{group}' were reset or deleted by hand, or have expired. \
         Delete the group, and start a job with --since after the last copied record"
    ))
}

/// Returns a time of a job's state for people.
pub fn time(ms: i64) -> String {
    UnixMillis(ms).rfc3339()
}

/// Prints the copies of this process by tenant, and the counts of the whole job.
pub fn summary(
    output: &mut Output,
    request: &Request,
    state: &JobState,
    tenants: &BTreeMap<String, u64>,
) {
    let counts = state.counts();
    let is_dry_run = request.mode == RunMode::DryRun;
    let to = request.settings.topics.name(Topic::Delay(request.to));
    if output.format() == OutputFormat::Json {
        for (tenant, records) in tenants {
            output.json(&json!({ "tenant": tenant, "records": records }));
        }
        let job = match is_dry_run {
            true => None,
            false => Some(request.name.as_str()),
        };
        output.json(&json!({
            "job": job,
            "dryRun": is_dry_run,
            "selected": counts.selected,
            "sent": counts.sent,
            "refused": counts.refused,
            "lost": counts.lost,
            "to": to,
        }));
        return;
    }
    if !tenants.is_empty() {
        output.line(TENANTS.heads());
        for (tenant, records) in tenants {
            output.line(TENANTS.row([tenant.clone(), records.to_string()]));
        }
    }
    let copied = match is_dry_run {
        true => format!("{} would be copied to {to}", counts.sent),
        false => format!("{} copied to {to}", counts.sent),
    };
    output.line(format_args!("{} selected, {copied}", counts.selected));
    refused_and_lost(output, &counts);
}

fn refused_and_lost(output: &mut Output, counts: &JobCounts) {
    if !counts.refused.is_empty() {
        let reasons = counts.refused.iter();
        let reasons: Vec<String> = reasons.map(|(name, n)| format!("{n} {name}")).collect();
        let reasons = reasons.join(", ");
        output.line(format_args!(
            "{} not copied, because they cannot be delivered: {reasons}",
            counts.refused()
        ));
    }
    if counts.lost > 0 {
        let lost = counts.lost;
        output.line(format_args!(
            "{lost} offsets were deleted by retention before they were read"
        ));
    }
}
