//! Plans a new job: its selection, bounds and limit as a state that nothing was
//! copied for. Reads bounds and commits nothing. Runs on the thread of a command.

use super::files::Entries;
use super::selection::JobSelection;
use super::state::{Descriptor, JobCounts, JobPhase, JobState, PartitionProgress};
use super::{JobKind, JobName, group_prefix};
use crate::kafka::job::{GroupList, JobCallError, JobGroup, Reads};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::{NextOffset, Partition};
use crate::model::time::UnixMillis;
use std::fmt;

/// What a new job shall do.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub kind: JobKind,
    pub selection: JobSelection,
    pub limit: Option<u64>,
    /// User and host.
    pub by: String,
    pub started: UnixMillis,
    /// This process.
    pub process: String,
}

/// A job cannot be planned.
#[derive(Debug)]
pub enum PlanError {
    Call(JobCallError),
    /// A topic that does not exist.
    Missing(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Missing(topic) => write!(
                f,
                "the topic '{topic}' does not exist, or this user may not DESCRIBE it: check --topic \
                 and --delays, or run `ringback topics create`"
            ),
        }
    }
}

impl std::error::Error for PlanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => std::error::Error::source(error),
            Self::Missing(_) => None,
        }
    }
}

impl From<JobCallError> for PlanError {
    fn from(error: JobCallError) -> Self {
        Self::Call(error)
    }
}

/// Returns the state of a new job, with its bounds as they are now.
///
/// # Errors
/// A topic is missing, or the brokers do not answer.
pub fn plan(
    settings: &KafkaSettings,
    new: &NewJob,
    entries: &Entries,
) -> Result<JobState, PlanError> {
    let group = JobGroup::connect(settings, &settings.group, Reads::Stable)?;
    let partitions = source_partitions(settings, &group, new.kind)?;
    let bounds = group.bounds(&partitions)?;
    let since = match new.selection.since {
        None => None,
        Some(since) => Some(group.offsets_at(&partitions, UnixMillis(since))?),
    };
    let progress = bounds.into_iter().map(|bound| {
        let partition = bound.partition;
        let mut from = match &since {
            None => bound.start,
            // No record is as late as that.
            Some(since) => since.get(&partition).copied().unwrap_or(bound.end),
        };
        let mut end = bound.end;
        let mut lost = 0;
        if let Entries::Positions(positions) = entries {
            let named = entries.bounds(partition.number);
            let (first, after) = named.unwrap_or((end.0, end.0));
            from = from.max(NextOffset(first));
            end = end.min(NextOffset(after));
            let gone = (partition.number, i64::MIN)..(partition.number, bound.start.0);
            lost = u64::try_from(positions.range(gone).count()).unwrap_or(u64::MAX);
        }
        let from = from.min(end);
        let counts = JobCounts {
            lost,
            ..JobCounts::default()
        };
        let progress = PartitionProgress {
            from,
            next: from,
            end,
            counts,
        };
        (partition, progress)
    });
    Ok(JobState {
        partitions: progress.collect(),
        job: Descriptor {
            kind: new.kind.name().to_owned(),
            selection: new.selection.clone(),
            limit: new.limit,
            by: new.by.clone(),
            started: new.started.0,
            progress: new.started.0,
            process: new.process.clone(),
            phase: JobPhase::Running,
            partitions: partitions.len(),
        },
    })
}

/// Returns the partitions that a job of this kind reads.
///
/// # Errors
/// The topic is missing, or the brokers do not answer.
pub fn source_partitions(
    settings: &KafkaSettings,
    group: &JobGroup,
    kind: JobKind,
) -> Result<Vec<Partition>, PlanError> {
    let partitions = group.partitions(kind.source())?;
    match partitions.is_empty() {
        true => Err(PlanError::Missing(settings.topics.name(kind.source()))),
        false => Ok(partitions),
    }
}

/// A job in Kafka: its name, and its state or why that cannot be read.
pub type FoundJob = (JobName, Result<JobState, String>);

/// Returns all jobs of the service's group, by name.
///
/// # Errors
/// The brokers do not answer, or refuse.
pub fn find(settings: &KafkaSettings) -> Result<Vec<FoundJob>, JobCallError> {
    let mut found = Vec::new();
    let groups = GroupList::connect(settings)?;
    for group in groups.with_prefix(&group_prefix(&settings.group))? {
        let Some(name) = JobName::of_group(&settings.group, &group) else {
            continue;
        };
        let state = read(settings, &name, Reads::Now)?;
        if let Some(state) = state.transpose() {
            found.push((name, state));
        }
    }
    Ok(found)
}

/// Returns the state of one job. `Ok(Err)` where another program changed it.
///
/// # Errors
/// The brokers do not answer, or refuse.
pub fn read(
    settings: &KafkaSettings,
    name: &JobName,
    reads: Reads,
) -> Result<Result<Option<JobState>, String>, JobCallError> {
    let group = JobGroup::connect(settings, &name.group(&settings.group), reads)?;
    for kind in JobKind::ALL {
        let partitions = group.partitions(kind.source())?;
        if partitions.is_empty() {
            continue;
        }
        let offsets = group.committed(&partitions)?;
        if !offsets.is_empty() {
            return Ok(JobState::read(&offsets));
        }
    }
    Ok(Ok(None))
}
