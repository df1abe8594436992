//! `ringback jobs`: lists replays and redrives, and cancels one. Runs on the main
//! thread.

use super::reading::output::{Columns, Output};
use super::{Exit, fault, reading, refuse};
use crate::cli::jobs::{Jobs, JobsCancelArgs, JobsListArgs};
use crate::cli::output::OutputFormat;
use crate::clock::Clock;
use crate::config::environment::operator;
use crate::config::mistake::{Mistake, Mistakes};
use crate::jobs::JobName;
use crate::jobs::plan::{self, FoundJob};
use crate::jobs::run::{self, JobEnd, JobError};
use crate::jobs::state::{JobPhase, JobState};
use crate::kafka::job::Reads;
use crate::kafka::settings::KafkaSettings;
use crate::model::job::JobStatus;
use crate::model::time::UnixMillis;
use serde_json::json;

const COLUMNS: Columns = Columns(&[
    ("JOB", 26),
    ("KIND", 7),
    ("STATE", 9),
    ("READ", 4),
    ("SELECTED", 8),
    ("COPIED", 8),
    ("REFUSED", 7),
    ("LOST", 6),
    ("BY", 20),
    ("STARTED", 24),
    ("PROGRESS", 24),
    ("SELECTION", 9),
]);

/// Runs one of the commands.
#[must_use]
pub fn run(command: &Jobs) -> Exit {
    match command {
        Jobs::List(args) => list(args),
        Jobs::Cancel(args) => cancel(args),
    }
}

fn list(args: &JobsListArgs) -> Exit {
    let format = args.output.output;
    let settings = match reading::settings(&args.settings) {
        Ok(settings) => settings,
        Err(mistakes) => return refuse(&mistakes),
    };
    let jobs = match plan::find(&settings) {
        Ok(jobs) => jobs,
        Err(error) => return fault(&error),
    };
    let now = Clock::start().now();
    let mut output = Output::new(format);
    if format == OutputFormat::Table && !jobs.is_empty() {
        output.line(COLUMNS.heads());
    }
    for job in &jobs {
        match format {
            OutputFormat::Table => output.line(COLUMNS.row(cells(job, now))),
            OutputFormat::Json => output.json(&object(job, now)),
        }
    }
    match jobs.is_empty() {
        true => Exit::NothingMatched,
        false => Exit::Done,
    }
}

fn percent(state: &JobState) -> u64 {
    let (read, all) = state.share();
    match all {
        0 => 100,
        all => read.saturating_mul(100) / all,
    }
}

fn cells((name, state): &FoundJob, now: UnixMillis) -> Vec<String> {
    let name = name.as_str().to_owned();
    let state = match state {
        Ok(state) => state,
        Err(why) => {
            return vec![
                name,
                "-".to_owned(),
                JobStatus::Damaged.name().to_owned(),
                why.clone(),
            ];
        }
    };
    let counts = state.counts();
    let time = |ms: i64| UnixMillis(ms).rfc3339();
    let job = &state.job;
    let limit = job.limit.map(|limit| format!(", at most {limit}"));
    let selection = job.selection.describe(UnixMillis::rfc3339);
    vec![
        name,
        job.kind.clone(),
        state.status(now).name().to_owned(),
        format!("{}%", percent(state)),
        counts.selected.to_string(),
        counts.sent.to_string(),
        counts.refused().to_string(),
        counts.lost.to_string(),
        job.by.clone(),
        time(job.started),
        time(job.progress),
        format!("{selection}{}", limit.unwrap_or_default()),
    ]
}

fn object((name, state): &FoundJob, now: UnixMillis) -> serde_json::Value {
    let name = name.as_str();
    let state = match state {
        Ok(state) => state,
        Err(why) => return json!({ "job": name, "state": JobStatus::Damaged.name(), "why": why }),
    };
    let counts = state.counts();
    let (read, all) = state.share();
    let time = |ms: i64| UnixMillis(ms).rfc3339();
    json!({
        "job": name,
        "kind": state.job.kind,
        "state": state.status(now).name(),
        "offsets": all,
        "offsetsRead": read,
        "selected": counts.selected,
        "sent": counts.sent,
        "refused": counts.refused,
        "lost": counts.lost,
        "limit": state.job.limit,
        "by": state.job.by,
        "started": time(state.job.started),
        "progress": time(state.job.progress),
        "selection": state.job.selection,
    })
}

fn cancel(args: &JobsCancelArgs) -> Exit {
    let mut mistakes = Mistakes::default();
    let name = mistakes.take("NAME", JobName::new(&args.name));
    let settings = reading::settings(&args.settings);
    let settings = settings.map_err(|more| mistakes.0.extend(more)).ok();
    let (settings, name) = match mistakes.unless_any(|| settings.zip(name)) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    match cancel_job(&settings, &name) {
        Ok(exit) => exit,
        Err(error) => fault(&error),
    }
}

fn cancel_job(settings: &KafkaSettings, name: &JobName) -> Result<Exit, JobError> {
    let refused = |text: String| Ok(refuse(&[Mistake::new(name.as_str(), text)]));
    let read = plan::read(settings, name, Reads::Now);
    let read = read.map_err(|error| JobError::Failed(error.to_string()))?;
    let state = match read.map_err(JobError::Damaged)? {
        Some(state) => state,
        None => {
            return refused("there is no job of this name: see `ringback jobs list`".to_owned());
        }
    };
    match state.job.phase {
        JobPhase::Finished => return refused("the job is finished already".to_owned()),
        JobPhase::Cancelled => return refused("the job is cancelled already".to_owned()),
        JobPhase::Running => {}
    }
    let clock = Clock::start();
    let process = format!("{}/{}/{}", operator(), std::process::id(), clock.now());
    match run::cancel(settings, name, &clock, &process)? {
        JobEnd::Cancelled(state) => {
            let counts = state.counts();
            let (name, sent, percent) = (name.as_str(), counts.sent, percent(&state));
            super::print(format_args!(
                "cancelled {name}: {sent} copied, {percent} % read; the copies stay in the delay topic"
            ));
            Ok(Exit::Done)
        }
        _ => refused("the job has finished meanwhile".to_owned()),
    }
}
