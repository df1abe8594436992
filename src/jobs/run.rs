//! Runs a job: adopts its state from Kafka, then writes batch after batch. Every
//! unclear outcome ends in a new adoption, which is what a resume does, too. Runs on
//! the thread of a command.
//!
//! An adoption takes the `transactional.id`, which fences the earlier process and ends
//! its open transaction. Then it reads the committed offsets.

use super::batch::{CollectError, Collector, JobBatch, ReadSum};
use super::copy::Copier;
use super::pace::Pace;
use super::plan;
use super::select::Selector;
use super::state::{JobPhase, JobState};
use super::{JobKind, JobName};
use crate::clock::{self, Clock};
use crate::kafka::job::{JobCallError, JobGroup, JobReader, JobWriter, Reads, WriteError};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::{NextOffset, Partition};
use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::Duration;

/// The pause before the job is adopted again.
const ADOPT_AFTER: Duration = Duration::from_secs(1);
/// How long a fenced process waits until the other one has written its state.
const FENCED_WAIT: Duration = Duration::from_secs(2);
/// How long the job tries to continue without any progress.
const TRY_MAX: Duration = Duration::from_secs(120);
/// How often a cancel is tried.
const CANCELS_MAX: u32 = 10;
/// The pause while the rate allows no record.
const PACE_STEP: Duration = Duration::from_millis(10);

/// What a process does with a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adopt {
    /// Starts it with this state.
    New(Box<JobState>),
    Resume,
}

/// How a process has ended its work on a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobEnd {
    Finished(JobState),
    Cancelled(JobState),
    /// Another process runs the job now.
    TakenOver,
    /// A signal stopped this process between two batches.
    Stopped(JobState),
}

/// Why a job does not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobError {
    /// There is a job of this name already.
    Exists(Box<JobState>),
    NoSuchJob,
    /// The job was cancelled earlier.
    WasCancelled,
    /// The job is of another kind than the command.
    OtherKind(JobKind),
    /// The state in Kafka is not as a job has written it.
    Damaged(String),
    /// The topic has fewer records than the job has read: it was created again.
    Recreated(Partition),
    Failed(String),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(_) => f.write_str("there is a job of this name already"),
            Self::NoSuchJob => f.write_str("there is no job of this name"),
            Self::WasCancelled => f.write_str("the job was cancelled"),
            Self::OtherKind(kind) => write!(f, "the job is a {}", kind.name()),
            Self::Damaged(why) => write!(f, "the job's position is lost: {why}"),
            Self::Recreated(partition) => write!(
                f,
                "partition {} ends before the job's position: its topic was created again",
                partition.number
            ),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for JobError {}

/// Watches a job's progress.
pub trait Watch {
    /// Is called after each batch, with what the batch has read.
    fn progress(&mut self, state: &JobState, read: ReadSum);
    /// Is called when the job waits for Kafka.
    fn waiting(&mut self, why: &str);
    /// Returns whether the process should stop.
    fn stops(&mut self) -> bool;
}

/// A job and what it runs with.
pub struct JobRun<'a> {
    pub settings: &'a KafkaSettings,
    pub name: JobName,
    pub selector: &'a Selector,
    pub copier: &'a Copier,
    pub clock: &'a Clock,
    /// The name of this process.
    pub process: String,
    /// Records per second.
    pub rate: Option<u64>,
}

/// What this process has written.
pub struct Written {
    /// Copies by tenant.
    pub tenants: BTreeMap<String, u64>,
    /// When the last transaction was committed.
    last: Duration,
}

impl Written {
    /// Returns that nothing is written yet.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            tenants: BTreeMap::new(),
            last: clock::elapsed(),
        }
    }
}

/// Why the work on an adopted job ended early.
enum Broken {
    Fenced,
    /// To adopt the job again may help.
    Again(String),
    Final(JobError),
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Fenced => Self::Fenced,
            WriteError::TooLarge(topic) => Self::Final(JobError::Failed(format!(
                "a record is larger than max.message.bytes of the topic '{topic}' allows"
            ))),
            WriteError::Aborted(error) if !error.is_transient() => {
                Self::Final(JobError::Failed(error.to_string()))
            }
            error => Self::Again(error.to_string()),
        }
    }
}

impl JobRun<'_> {
    /// Runs the job to its end.
    ///
    /// # Errors
    /// The job cannot run, or not continue. What it has written stays.
    pub fn run(
        &self,
        mut adopt: Adopt,
        written: &mut Written,
        watch: &mut dyn Watch,
    ) -> Result<JobEnd, JobError> {
        loop {
            let broken = match self.attempt(&mut adopt, written, watch) {
                Ok(end) => return Ok(end),
                Err(broken) => broken,
            };
            let why = match broken {
                Broken::Final(error) => return Err(error),
                Broken::Fenced => match self.after_fence()? {
                    Some(end) => return Ok(end),
                    None => "Kafka ended a transaction that took too long".to_owned(),
                },
                Broken::Again(why) => why,
            };
            let silent = clock::elapsed().saturating_sub(written.last);
            if silent > TRY_MAX || watch.stops() {
                return Err(JobError::Failed(why));
            }
            watch.waiting(&why);
            thread::sleep(ADOPT_AFTER);
        }
    }

    fn attempt(
        &self,
        adopt: &mut Adopt,
        written: &mut Written,
        watch: &mut dyn Watch,
    ) -> Result<JobEnd, Broken> {
        let group = self.name.group(&self.settings.group);
        let writer = JobWriter::start(self.settings, &group, self.copier.kind.source())?;
        let mut state = self.adopted(adopt)?;
        if state.job.phase == JobPhase::Finished {
            return Ok(JobEnd::Finished(state));
        }
        state.job.process.clone_from(&self.process);
        let all: Vec<Partition> = match adopt {
            Adopt::New(_) => state.partitions.keys().copied().collect(),
            Adopt::Resume => Vec::new(),
        };
        let offsets = state.write(all, self.clock.now());
        writer.write(&[], &offsets)?;
        // The job exists now: after a fault it is resumed.
        *adopt = Adopt::Resume;
        written.last = clock::elapsed();
        self.write_batches(&writer, state, written, watch)
    }

    /// Returns the state that this process continues. Must run after the writer has
    /// taken the name.
    fn adopted(&self, adopt: &Adopt) -> Result<JobState, Broken> {
        let found = committed(self.settings, &self.name)?;
        let state = match (adopt, found) {
            (Adopt::New(state), None) => return Ok((**state).clone()),
            // This process may have written it, and not have seen the answer.
            (Adopt::New(_), Some(found)) if found.job.process != self.process => {
                return Err(Broken::Final(JobError::Exists(Box::new(found))));
            }
            (Adopt::Resume, None) => return Err(Broken::Final(JobError::NoSuchJob)),
            (_, Some(found)) => found,
        };
        if state.kind() != self.copier.kind {
            return Err(Broken::Final(JobError::OtherKind(state.kind())));
        }
        if state.job.phase == JobPhase::Cancelled {
            return Err(Broken::Final(JobError::WasCancelled));
        }
        Ok(state)
    }

    fn write_batches(
        &self,
        writer: &JobWriter,
        mut state: JobState,
        written: &mut Written,
        watch: &mut dyn Watch,
    ) -> Result<JobEnd, Broken> {
        let mut reader = self.reader(&state)?;
        let mut pace = Pace::start(self.rate, clock::elapsed());
        while state.turn().is_some() && state.remaining() > 0 {
            if watch.stops() {
                return Ok(JobEnd::Stopped(state));
            }
            let allowed = pace.allowed(clock::elapsed());
            if allowed == 0 {
                thread::sleep(PACE_STEP);
                continue;
            }
            let collector = Collector {
                reader: &reader,
                selector: self.selector,
            };
            let batch = collector.collect(&state, allowed).map_err(collect_broken)?;
            let (deleted, read) = (batch.deleted, batch.read);
            pace.count(u64::try_from(batch.records.len()).unwrap_or(u64::MAX));
            state = self.write(writer, batch, written)?;
            if let Some(partition) = deleted {
                self.skip_deleted(&mut state, partition)?;
                reader = self.reader(&state)?;
            }
            watch.progress(&state, read);
        }
        state.job.phase = JobPhase::Finished;
        let all: Vec<Partition> = state.partitions.keys().copied().collect();
        let offsets = state.write(all, self.clock.now());
        writer.write(&[], &offsets)?;
        Ok(JobEnd::Finished(state))
    }

    fn write(
        &self,
        writer: &JobWriter,
        batch: JobBatch,
        written: &mut Written,
    ) -> Result<JobState, Broken> {
        let mut state = batch.state;
        // The copies have the time of their write: the service compares it with the
        // broker's clock.
        let now = self.clock.now();
        let offsets = state.write(batch.changed, now);
        let records = batch.records.into_iter();
        let copies: Vec<_> = records
            .map(|record| self.copier.copy(record, now))
            .collect();
        writer.write(&copies, &offsets)?;
        written.last = clock::elapsed();
        for (tenant, count) in batch.tenants {
            *written.tenants.entry(tenant).or_default() += count;
        }
        Ok(state)
    }

    /// Starts to read what the state has not read yet.
    fn reader(&self, state: &JobState) -> Result<JobReader, Broken> {
        reader(self.settings, &self.name.group(&self.settings.group), state)
    }

    fn skip_deleted(&self, state: &mut JobState, partition: Partition) -> Result<(), Broken> {
        skip_deleted(self.settings, state, partition)
    }

    /// Returns how the job has ended for this process, or `None` when it may adopt the
    /// job again.
    fn after_fence(&self) -> Result<Option<JobEnd>, JobError> {
        thread::sleep(FENCED_WAIT);
        let read = plan::read(self.settings, &self.name, Reads::Now);
        let state = match read {
            Ok(Ok(Some(state))) => state,
            // The next adoption finds out more.
            Err(error) if error.is_transient() => return Ok(None),
            Err(error) => return Err(JobError::Failed(error.to_string())),
            Ok(Ok(None)) => return Ok(Some(JobEnd::TakenOver)),
            Ok(Err(why)) => return Err(JobError::Damaged(why)),
        };
        Ok(match state.job.phase {
            JobPhase::Cancelled => Some(JobEnd::Cancelled(state)),
            _ if state.job.process != self.process => Some(JobEnd::TakenOver),
            _ => None,
        })
    }
}

/// Returns the state after every transaction of the job has ended.
fn committed(settings: &KafkaSettings, name: &JobName) -> Result<Option<JobState>, Broken> {
    let read = plan::read(settings, name, Reads::Stable).map_err(call_broken)?;
    read.map_err(|why| Broken::Final(JobError::Damaged(why)))
}

/// Cancels a job. A process that runs it is fenced, and ends. Returns the job's end:
/// it may have finished before.
///
/// # Errors
/// There is no such job, or Kafka does not answer.
pub fn cancel(
    settings: &KafkaSettings,
    name: &JobName,
    clock: &Clock,
    process: &str,
) -> Result<JobEnd, JobError> {
    let mut left = CANCELS_MAX;
    loop {
        let why = match try_cancel(settings, name, clock, process) {
            Ok(end) => return Ok(end),
            Err(Broken::Final(error)) => return Err(error),
            Err(Broken::Again(why)) => why,
            Err(Broken::Fenced) => "another process takes the job again and again".to_owned(),
        };
        left -= 1;
        if left == 0 {
            return Err(JobError::Failed(why));
        }
        thread::sleep(ADOPT_AFTER);
    }
}

fn try_cancel(
    settings: &KafkaSettings,
    name: &JobName,
    clock: &Clock,
    process: &str,
) -> Result<JobEnd, Broken> {
    let missing = || Broken::Final(JobError::NoSuchJob);
    let read = plan::read(settings, name, Reads::Now).map_err(call_broken)?;
    let read = read.map_err(|why| Broken::Final(JobError::Damaged(why)))?;
    let topic = read.ok_or_else(missing)?.kind().source();
    let writer = JobWriter::start(settings, &name.group(&settings.group), topic)?;
    let mut state = committed(settings, name)?.ok_or_else(missing)?;
    if state.job.phase == JobPhase::Finished {
        return Ok(JobEnd::Finished(state));
    }
    state.job.phase = JobPhase::Cancelled;
    process.clone_into(&mut state.job.process);
    let offsets = state.write([], clock.now());
    writer.write(&[], &offsets)?;
    Ok(JobEnd::Cancelled(state))
}

fn collect_broken(error: CollectError) -> Broken {
    match &error {
        CollectError::Call(call) if !call.is_transient() => {
            Broken::Final(JobError::Failed(error.to_string()))
        }
        _ => Broken::Again(error.to_string()),
    }
}

fn call_broken(error: JobCallError) -> Broken {
    collect_broken(CollectError::Call(error))
}

fn reader(settings: &KafkaSettings, group: &str, state: &JobState) -> Result<JobReader, Broken> {
    let open = state.partitions.iter().filter(|(_, p)| p.next < p.end);
    let starts: Vec<(Partition, NextOffset)> = open.map(|(part, p)| (*part, p.next)).collect();
    JobReader::start(settings, group, &starts).map_err(call_broken)
}

/// Moves a partition on to the start of its log.
fn skip_deleted(
    settings: &KafkaSettings,
    state: &mut JobState,
    partition: Partition,
) -> Result<(), Broken> {
    let group = JobGroup::connect(settings, &settings.group, Reads::Stable).map_err(call_broken)?;
    let bounds = group.bounds(&[partition]).map_err(call_broken)?;
    let next = state.partitions.get(&partition).map(|p| p.next);
    for bound in bounds {
        if next.is_some_and(|next| bound.end < next) {
            return Err(Broken::Final(JobError::Recreated(partition)));
        }
        state.skip_deleted(partition, bound.start);
    }
    Ok(())
}

/// Counts what a job would copy, without writing: the state at its end, and the copies
/// by tenant.
///
/// # Errors
/// The topic cannot be read.
pub fn dry_run(
    settings: &KafkaSettings,
    mut state: JobState,
    selector: &Selector,
    watch: &mut dyn Watch,
) -> Result<(JobState, BTreeMap<String, u64>), JobError> {
    let failed = |broken| match broken {
        Broken::Final(error) => error,
        Broken::Again(why) => JobError::Failed(why),
        Broken::Fenced => JobError::Failed("fenced".to_owned()),
    };
    let mut tenants = BTreeMap::new();
    let mut reader = self::reader(settings, &settings.group, &state).map_err(failed)?;
    while state.turn().is_some() && state.remaining() > 0 && !watch.stops() {
        let collector = Collector {
            reader: &reader,
            selector,
        };
        let batch = collector.collect(&state, u64::MAX);
        let batch = batch.map_err(collect_broken).map_err(failed)?;
        state = batch.state;
        for (tenant, count) in batch.tenants {
            *tenants.entry(tenant).or_default() += count;
        }
        if let Some(partition) = batch.deleted {
            skip_deleted(settings, &mut state, partition).map_err(failed)?;
            reader = self::reader(settings, &settings.group, &state).map_err(failed)?;
        }
        watch.progress(&state, batch.read);
    }
    Ok((state, tenants))
}
