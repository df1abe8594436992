//! Reads the flags of `replay` and `dead-letter redrive`. All mistakes are collected.

use super::stored;
use crate::cli::jobs::{JobArgs, RedriveArgs, ReplayArgs};
use crate::cli::output::OutputFormat;
use crate::cli::reading::FilterArgs;
use crate::commands::property_mistakes;
use crate::commands::reading::filters;
use crate::config::environment::read_lines;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::setting::Typed;
use crate::config::settings;
use crate::config::values;
use crate::jobs::files::Entries;
use crate::jobs::selection::JobSelection;
use crate::jobs::{JobKind, JobName};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::{Topic, TopicNames};
use crate::model::time::{Delay, UnixMillis};
use crate::search::Filter;
use crate::service::kafka_settings;
use std::path::{Path, PathBuf};

/// What the command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunMode {
    Start,
    DryRun,
    Resume,
}

/// A command line that was read.
pub struct Request {
    pub kind: JobKind,
    pub mode: RunMode,
    pub settings: KafkaSettings,
    /// The shortest delay of the settings.
    pub to: Delay,
    pub name: JobName,
    /// Empty for a resume.
    pub selection: JobSelection,
    pub entries: Entries,
    pub file: Option<PathBuf>,
    pub rate: Option<u64>,
    pub limit: Option<u64>,
    pub again: bool,
    pub format: OutputFormat,
}

/// The parts of a command line that differ between the commands.
struct Parts<'a> {
    kind: JobKind,
    typed: &'a Typed,
    filters: FilterArgs,
    job: &'a JobArgs,
    output: OutputFormat,
    file: Option<&'a PathBuf>,
}

/// Reads the command line of `replay`.
///
/// # Errors
/// Every mistake.
pub fn replay(args: &ReplayArgs, now: UnixMillis) -> Result<Request, Vec<Mistake>> {
    let select = &args.select;
    read(
        Parts {
            kind: JobKind::Replay,
            typed: &args.settings,
            filters: FilterArgs {
                tenant: select.tenant.clone(),
                id: select.id.clone(),
                since: select.since.clone(),
                until: select.until.clone(),
                ..FilterArgs::default()
            },
            job: &args.job,
            output: args.output.output,
            file: select.ids_file.as_ref(),
        },
        now,
    )
}

/// Reads the command line of `dead-letter redrive`.
///
/// # Errors
/// Every mistake.
pub fn redrive(args: &RedriveArgs, now: UnixMillis) -> Result<Request, Vec<Mistake>> {
    read(
        Parts {
            kind: JobKind::Redrive,
            typed: &args.settings,
            filters: args.filters.clone(),
            job: &args.job,
            output: args.output.output,
            file: args.from.as_ref(),
        },
        now,
    )
}

fn read(parts: Parts<'_>, now: UnixMillis) -> Result<Request, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let read = settings::read_jobs(parts.typed, property_mistakes);
    let settings = keep(&mut mistakes, read);
    let filter = keep(&mut mistakes, filters::read(&parts.filters, now));
    let job = parts.job;
    let mut number = |name: &str, text: &Option<String>, max: u64| {
        let number = text.as_ref().map(|text| values::number(text, 1..=max));
        mistakes.take(name, number.transpose()).flatten()
    };
    let rate = number("--rate", &job.rate, 1_000_000);
    let limit = number("--limit", &job.limit, 1_000_000_000);
    let name = mistakes.take("--job", name(parts.kind, job, now));
    let mode = match (&job.resume, job.dry_run) {
        (Some(_), _) => RunMode::Resume,
        (None, true) => RunMode::DryRun,
        (None, false) => RunMode::Start,
    };
    if let Some(filter) = &filter {
        check_selection(&mut mistakes, &parts, mode, filter);
    }
    let topics = settings.as_ref().map(|(cluster, ..)| &cluster.topics);
    let entries = entries(&mut mistakes, &parts, topics);
    let selection = filter.zip(entries.as_ref()).map(|(filter, entries)| {
        let file = entries.mark();
        JobSelection {
            file,
            ..stored(&filter)
        }
    });
    if let Some(selection) = &selection {
        mistakes.take("the selection", selection.check_length());
    }
    mistakes.unless_any(|| {
        let (cluster, group, schedule) = settings?;
        let to = *schedule.distinct_delays().first()?;
        Some(Request {
            kind: parts.kind,
            mode,
            settings: KafkaSettings {
                group,
                ..kafka_settings(&cluster, &schedule)
            },
            to,
            name: name?,
            selection: selection?,
            entries: entries?,
            file: parts.file.cloned(),
            rate,
            limit,
            again: job.again,
            format: parts.output,
        })
    })
}

/// Adds a mistake where a selection is missing, or is one too many.
fn check_selection(mistakes: &mut Mistakes, parts: &Parts<'_>, mode: RunMode, filter: &Filter) {
    let has_selection = *filter != Filter::default();
    if mode == RunMode::Resume && has_selection {
        let text = "a resumed job has its selection already: leave out the filters";
        mistakes.0.push(Mistake::new("--resume", text));
    }
    let is_named = has_selection || parts.file.is_some() || mode == RunMode::Resume;
    if parts.kind == JobKind::Replay && !is_named {
        let text = "select records: --tenant, --id, --ids-file, --since or --until";
        mistakes.0.push(Mistake::new("replay", text));
    }
}

/// Reads the file that names the records, if there is one.
fn entries(
    mistakes: &mut Mistakes,
    parts: &Parts<'_>,
    topics: Option<&TopicNames>,
) -> Option<Entries> {
    let Some(file) = parts.file else {
        return Some(Entries::None);
    };
    let (flag, entries) = match parts.kind {
        JobKind::Replay => ("--ids-file", ids(file)),
        JobKind::Redrive => ("--from", export(file, &topics?.name(Topic::DeadLetter))),
    };
    mistakes.take(flag, entries)
}

fn keep<T>(mistakes: &mut Mistakes, read: Result<T, Vec<Mistake>>) -> Option<T> {
    read.map_err(|more| mistakes.0.extend(more)).ok()
}

/// Returns the job's name: of `--resume`, of `--job`, or one with the time.
fn name(kind: JobKind, job: &JobArgs, now: UnixMillis) -> Result<JobName, String> {
    let resumed = job.resume.as_ref().map(Option::as_ref);
    let name = match (resumed, &job.job) {
        (Some(Some(resumed)), Some(job)) if resumed != job => {
            return Err(format!("'{job}' is not the job of --resume, '{resumed}'"));
        }
        (Some(None), None) => {
            return Err("name the job to resume: `--resume NAME`".to_owned());
        }
        (Some(Some(name)), _) | (_, Some(name)) => name.clone(),
        (None, None) => {
            let time = now.rfc3339();
            let digits: String = time.chars().filter(char::is_ascii_digit).collect();
            let (day, rest) = digits.split_at_checked(8).unwrap_or((&digits, ""));
            format!("{}-{day}-{rest}", kind.name())
        }
    };
    JobName::new(&name)
}

fn ids(file: &Path) -> Result<Entries, String> {
    let mut entries = Entries::default();
    read_lines(file, |number, line| entries.add_id(number, line))?;
    not_empty(entries, file)
}

fn export(file: &Path, topic: &str) -> Result<Entries, String> {
    let mut entries = Entries::default();
    read_lines(file, |number, line| entries.add_export(topic, number, line))?;
    not_empty(entries, file)
}

fn not_empty(entries: Entries, file: &Path) -> Result<Entries, String> {
    match entries {
        Entries::None => Err(format!("'{}' has no line", file.display())),
        entries => Ok(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(resume: Option<Option<&str>>, job: Option<&str>) -> JobArgs {
        let text = |text: &str| text.to_owned();
        JobArgs {
            dry_run: false,
            rate: None,
            limit: None,
            job: job.map(text),
            resume: resume.map(|name| name.map(text)),
            again: false,
        }
    }

    #[test]
    fn a_job_has_the_name_of_either_flag_or_of_the_time() {
        let now = UnixMillis(1_764_504_000_250);
        let read = |resume, named| {
            let name = name(JobKind::Replay, &job(resume, named), now);
            name.map(|name| name.as_str().to_owned())
        };
        assert_eq!(read(None, None).as_deref(), Ok("replay-20251130-120000250"));
        for (resume, named) in [
            (None, Some("a")),
            (Some(None), Some("a")),
            (Some(Some("a")), None),
            (Some(Some("a")), Some("a")),
        ] {
            assert_eq!(read(resume, named).as_deref(), Ok("a"));
        }
        assert!(read(Some(None), None).is_err());
        assert!(read(Some(Some("a")), Some("b")).is_err());
        assert!(read(None, Some("a b")).is_err());
    }
}
