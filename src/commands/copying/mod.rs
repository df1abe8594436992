//! `ringback replay` and `ringback dead-letter redrive`: start or resume a job, or
//! count what it would copy. [`crate::jobs`] does the work. Runs on the main thread.

mod request;
mod show;
mod stop;

use super::reading::output::Output;
use super::{Exit, fault, refuse, say};
use crate::cli::jobs::{RedriveArgs, ReplayArgs};
use crate::clock::Clock;
use crate::config::environment::operator;
use crate::config::mistake::Mistake;
use crate::jobs::copy::Copier;
use crate::jobs::overlap::overlaps;
use crate::jobs::plan::{self, FoundJob, NewJob, PlanError};
use crate::jobs::run::{self, Adopt, JobEnd, JobError, JobRun, Written};
use crate::jobs::select::Selector;
use crate::jobs::selection::JobSelection;
use crate::jobs::state::{JobPhase, JobState};
use crate::jobs::{JobKind, JobName};
use crate::kafka::job::{JobGroup, Reads};
use crate::model::position::Topic;
use crate::model::time::UnixMillis;
use request::{Request, RunMode};
use show::Show;
use std::collections::BTreeMap;
use std::io;

/// Runs a replay.
#[must_use]
pub fn replay(args: &ReplayArgs) -> Exit {
    let clock = Clock::start();
    match request::replay(args, clock.now()) {
        Ok(request) => copy(&request, &clock),
        Err(mistakes) => refuse(&mistakes),
    }
}

/// Runs a redrive.
#[must_use]
pub fn redrive(args: &RedriveArgs) -> Exit {
    let clock = Clock::start();
    match request::redrive(args, clock.now()) {
        Ok(request) => copy(&request, &clock),
        Err(mistakes) => refuse(&mistakes),
    }
}

fn copy(request: &Request, clock: &Clock) -> Exit {
    match prepare(request, clock) {
        Ok(Preparation::Ready(ready)) => ready.carry_out(clock),
        Ok(Preparation::Ended(exit)) => exit,
        Err(error) => fault(&error),
    }
}

/// Says a line on standard error.
fn note(text: &str) {
    say(&mut io::stderr(), &format!("ringback: {text}\n"));
}

/// Refuses a command line for this reason.
fn wrong(flag: &str, text: String) -> Preparation<'static> {
    Preparation::Ended(refuse(&[Mistake::new(flag, text)]))
}

enum Preparation<'a> {
    Ready(Box<Ready<'a>>),
    Ended(Exit),
}

/// A job that may start or continue.
struct Ready<'a> {
    request: &'a Request,
    name: JobName,
    adopt: Adopt,
    selector: Selector,
    copier: Copier,
    process: String,
}

fn prepare<'a>(request: &'a Request, clock: &Clock) -> Result<Preparation<'a>, PlanError> {
    let settings = &request.settings;
    let target = Topic::Delay(request.to);
    let group = JobGroup::connect(settings, &settings.group, Reads::Now)?;
    if group.partitions(target)?.is_empty() {
        return Err(PlanError::Missing(settings.topics.name(target)));
    }
    let by = operator();
    let process = format!("{by}/{}/{}", std::process::id(), clock.now());
    let (adopt, selection) = match request.mode {
        RunMode::Resume => match resumed(request)? {
            Ok(state) => (Adopt::Resume, state.job.selection),
            Err(ended) => return Ok(ended),
        },
        RunMode::Start | RunMode::DryRun => {
            let new = NewJob {
                kind: request.kind,
                selection: request.selection.clone(),
                limit: request.limit,
                by,
                started: clock.now(),
                process: process.clone(),
            };
            plan::source_partitions(settings, &group, request.kind)?;
            let found = plan::find(settings)?;
            let state = plan::plan(settings, &new, &request.entries)?;
            if let Some(ended) = refused_start(request, &state, &found) {
                return Ok(ended);
            }
            (Adopt::New(Box::new(state)), new.selection)
        }
    };
    let place = (request.kind, &settings.topics);
    let max = settings.record_bytes_max;
    let selector = Selector::new(&selection, request.entries.clone(), place, max);
    let selector = match selector {
        Ok(selector) => selector,
        Err(why) => return Ok(wrong("--resume", why)),
    };
    Ok(Preparation::Ready(Box::new(Ready {
        request,
        name: request.name.clone(),
        adopt,
        selector,
        copier: Copier {
            names: settings.topics.clone(),
            kind: request.kind,
            job: request.name.clone(),
            to: request.to,
        },
        process,
    })))
}

/// Returns why a new job must not start: its name is taken, or it overlaps another one.
fn refused_start(
    request: &Request,
    state: &JobState,
    found: &[FoundJob],
) -> Option<Preparation<'static>> {
    let name = request.name.as_str();
    if let Some((_, existing)) = found.iter().find(|(found, _)| *found == request.name)
        && request.mode == RunMode::Start
    {
        let command = existing
            .as_ref()
            .map_or(request.kind, JobState::kind)
            .command();
        let text = format!(
            "there is a job '{name}' already: continue it with `{command} --resume {name}`, or \
             choose another name"
        );
        return Some(wrong("--job", text));
    }
    let same_kind = found.iter().filter_map(|(name, earlier)| {
        let earlier = earlier.as_ref().ok()?;
        (earlier.kind() == request.kind && overlaps(state, earlier)).then_some((name, earlier))
    });
    let overlapping: Vec<_> = same_kind.collect();
    for (name, earlier) in &overlapping {
        let (name, started) = (name.as_str(), show::time(earlier.job.started));
        let sent = earlier.counts().sent;
        note(&format!(
            "this selects records that the job '{name}' selects too ({}; started {started} by {}, \
             {sent} sent)",
            earlier.job.selection.describe(UnixMillis::rfc3339),
            earlier.job.by
        ));
    }
    let names: Vec<&str> = overlapping.iter().map(|(name, _)| name.as_str()).collect();
    let is_refused = !names.is_empty() && !request.again && request.mode == RunMode::Start;
    is_refused.then(|| {
        let names = names.join("', '");
        let text = format!("add it to send records of the job '{names}' once more");
        wrong("--again", text)
    })
}

/// Returns the state of the job that is resumed, or how the command ends without it.
fn resumed(request: &Request) -> Result<Result<JobState, Preparation<'static>>, PlanError> {
    let name = request.name.as_str();
    let state = match plan::read(&request.settings, &request.name, Reads::Now)? {
        Ok(Some(state)) => state,
        Ok(None) => {
            let text = format!("there is no job '{name}': see `ringback jobs list`");
            return Ok(Err(wrong("--resume", text)));
        }
        Err(why) => return Ok(Err(Preparation::Ended(fault(&show::damaged(request, why))))),
    };
    let refused = |text: String| Ok(Err(wrong("--resume", text)));
    let kind = state.kind();
    if kind != request.kind {
        let command = kind.command();
        return refused(format!(
            "the job '{name}' is a {}: run `{command} --resume {name}`",
            kind.name()
        ));
    }
    if state.job.phase == JobPhase::Cancelled {
        return refused(format!("the job '{name}' was cancelled: start another one"));
    }
    if state.job.phase == JobPhase::Finished {
        note(&format!("the job '{name}' is finished already"));
        let mut output = Output::new(request.format);
        show::summary(&mut output, request, &state, &BTreeMap::new());
        return Ok(Err(Preparation::Ended(Exit::Done)));
    }
    if state.job.selection.file != request.entries.mark() {
        let text = match (&state.job.selection.file, request.kind) {
            (None, _) => "the job has no file".to_owned(),
            (Some(_), JobKind::Replay) => "name the job's own file with --ids-file".to_owned(),
            (Some(_), JobKind::Redrive) => "name the job's own file with --from".to_owned(),
        };
        return refused(format!("the file is not that of the job '{name}': {text}"));
    }
    Ok(Ok(state))
}

impl Ready<'_> {
    fn carry_out(&self, clock: &Clock) -> Exit {
        let Ok(mut show) = Show::start() else {
            let error = JobError::Failed("cannot listen for signals".to_owned());
            return fault(&error);
        };
        match (&self.adopt, self.request.mode) {
            (Adopt::New(state), RunMode::DryRun) => self.count(state, show),
            (adopt, _) => self.run(adopt.clone(), clock, &mut show),
        }
    }

    fn count(&self, state: &JobState, mut show: Show) -> Exit {
        let settings = &self.request.settings;
        let state = state.clone();
        let counted = run::dry_run(settings, state, &self.selector, &mut show);
        let is_stopped = show.finish();
        match counted {
            Ok(_) if is_stopped => fault(&JobError::Failed("stopped".to_owned())),
            Ok((state, tenants)) => self.end(&state, &tenants),
            Err(error) => fault(&error),
        }
    }

    fn run(&self, adopt: Adopt, clock: &Clock, show: &mut Show) -> Exit {
        let name = self.name.as_str();
        let to = self
            .request
            .settings
            .topics
            .name(Topic::Delay(self.request.to));
        note(&format!(
            "job '{name}' copies to {to}; continue it with {}",
            show::resume(self.request)
        ));
        let job = JobRun {
            settings: &self.request.settings,
            name: self.name.clone(),
            selector: &self.selector,
            copier: &self.copier,
            clock,
            process: self.process.clone(),
            rate: self.request.rate,
        };
        let mut written = Written::nothing();
        let ended = job.run(adopt, &mut written, show);
        let tenants = written.tenants;
        show.finish();
        match ended {
            Ok(JobEnd::Finished(state)) => self.end(&state, &tenants),
            Ok(JobEnd::Cancelled(state)) => {
                let mut output = Output::new(self.request.format);
                show::summary(&mut output, self.request, &state, &tenants);
                fault(&JobError::WasCancelled)
            }
            Ok(JobEnd::TakenOver) => {
                let text = format!("another process runs the job '{name}' now");
                fault(&JobError::Failed(text))
            }
            Ok(JobEnd::Stopped(state)) => {
                let mut output = Output::new(self.request.format);
                show::summary(&mut output, self.request, &state, &tenants);
                let text = format!("stopped: continue with {}", show::resume(self.request));
                fault(&JobError::Failed(text))
            }
            Err(JobError::Damaged(why)) => fault(&show::damaged(self.request, why)),
            Err(error @ (JobError::Exists(_) | JobError::OtherKind(_))) => {
                refuse(&[Mistake::new("--job", error.to_string())])
            }
            Err(error) => {
                let exit = fault(&error);
                note(&format!("continue with {}", show::resume(self.request)));
                exit
            }
        }
    }

    fn end(&self, state: &JobState, tenants: &BTreeMap<String, u64>) -> Exit {
        let mut output = Output::new(self.request.format);
        show::summary(&mut output, self.request, state, tenants);
        match state.counts().selected {
            0 => Exit::NothingMatched,
            _ => Exit::Done,
        }
    }
}

/// Returns a selection as a job's state holds it.
fn stored(filter: &crate::search::Filter) -> JobSelection {
    let mut ids: Vec<String> = filter.ids.iter().cloned().collect();
    ids.sort();
    let mut origins: Vec<String> = filter.origins.iter().cloned().collect();
    origins.sort();
    JobSelection {
        tenants: filter.tenants.iter().map(ToString::to_string).collect(),
        ids,
        since: filter.since.map(|at| at.0),
        until: filter.until.map(|at| at.0),
        reasons: filter.reasons.iter().map(|r| r.name().to_owned()).collect(),
        errors: filter.errors.iter().map(|e| e.name().to_owned()).collect(),
        statuses: filter.statuses.clone(),
        origins,
        file: None,
    }
}
