//! The state of a job as its group's offsets hold it, and the order in which a job
//! reads partitions. Pure.
//!
//! The metadata of each partition's offset is a small JSON object. The job itself is in
//! the metadata of its lowest partition. Each transaction writes that one, so it tells
//! when the job last made progress.

use super::JobKind;
use super::selection::JobSelection;
use crate::model::job::JobStatus;
use crate::model::message::Snapshot;
use crate::model::position::{NextOffset, Partition};
use crate::model::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The version of the state. A state with another one is not read.
const VERSION: u32 = 1;

/// A running job makes progress every few seconds.
const PROGRESS_MAX: Duration = Duration::from_secs(60);

/// A job takes this many selected records from a partition, then from the next one.
/// So all partitions advance together, in an order that depends on the state alone.
const TURN: u64 = 100;

/// The end of a job, or that it has none yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobPhase {
    Running,
    Finished,
    Cancelled,
}

/// The job itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Descriptor {
    pub kind: String,
    pub selection: JobSelection,
    /// The most records that are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// User and host that started it.
    pub by: String,
    /// Epoch ms.
    pub started: i64,
    /// When the last transaction was written, epoch ms.
    pub progress: i64,
    /// The process that wrote last.
    pub process: String,
    pub phase: JobPhase,
    /// Partitions of the job. A missing one shows that offsets were deleted.
    pub partitions: usize,
}

/// The counts of records of one partition, or of all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JobCounts {
    /// Selected by the job: copied or refused.
    #[serde(default)]
    pub selected: u64,
    /// Copied to the delay topic.
    #[serde(default)]
    pub sent: u64,
    /// Offsets that retention deleted before they were read.
    #[serde(default)]
    pub lost: u64,
    /// Selected records that cannot be delivered, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

impl JobCounts {
    fn add(&mut self, other: &Self) {
        self.selected += other.selected;
        self.sent += other.sent;
        self.lost += other.lost;
        for (reason, count) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
    }

    /// Returns the number of refused records.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// One partition's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Metadata {
    v: u32,
    /// The committed offset once more. A reset by hand changes only one of both.
    at: i64,
    from: i64,
    end: i64,
    counts: JobCounts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<Descriptor>,
}

/// How far a job is in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionProgress {
    /// Where the job started.
    pub from: NextOffset,
    /// The next offset that the job reads.
    pub next: NextOffset,
    /// The job reads no record from here on.
    pub end: NextOffset,
    pub counts: JobCounts,
}

/// The whole state of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobState {
    pub job: Descriptor,
    /// Not empty.
    pub partitions: BTreeMap<Partition, PartitionProgress>,
}

impl JobState {
    /// Reads the state from the group's offsets. `None` if there are none.
    ///
    /// # Errors
    /// Another program has written or deleted offsets of the group.
    pub fn read(offsets: &[Snapshot]) -> Result<Option<Self>, String> {
        let mut partitions = BTreeMap::new();
        let mut job = None;
        for offset in offsets {
            let number = offset.partition.number;
            let read: Option<Metadata> = serde_json::from_str(&offset.metadata).ok();
            let read = read.filter(|read| read.v == VERSION && read.at == offset.base.0);
            let Some(read) = read else {
                return Err(format!(
                    "the offset {} of partition {number} was not written by a job of this version",
                    offset.base
                ));
            };
            job = job.or(read.job);
            let progress = PartitionProgress {
                from: NextOffset(read.from),
                next: offset.base,
                end: NextOffset(read.end),
                counts: read.counts,
            };
            partitions.insert(offset.partition, progress);
        }
        let Some(job) = job else {
            return match partitions.is_empty() {
                true => Ok(None),
                false => Err("the offset of its first partition was deleted".to_owned()),
            };
        };
        let (found, expected) = (partitions.len(), job.partitions);
        if found != expected || JobKind::from_name(&job.kind).is_none() {
            return Err(format!(
                "it has offsets of {found} partitions, and should have {expected}"
            ));
        }
        Ok(Some(Self { job, partitions }))
    }

    /// Returns the kind of the job.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        JobKind::from_name(&self.job.kind).expect("a state is read or made with a kind")
    }

    /// Returns the state of the job at this moment.
    #[must_use]
    pub fn status(&self, now: UnixMillis) -> JobStatus {
        let silent = now.since(UnixMillis(self.job.progress));
        match self.job.phase {
            JobPhase::Finished => JobStatus::Complete,
            JobPhase::Cancelled => JobStatus::CalledOff,
            // It can be resumed.
            JobPhase::Running if silent > PROGRESS_MAX => JobStatus::Stopped,
            JobPhase::Running => JobStatus::Active,
        }
    }

    /// Returns the offsets of these partitions, and of the lowest one, for a
    /// transaction at this moment.
    pub fn write(
        &mut self,
        changed: impl IntoIterator<Item = Partition>,
        at: UnixMillis,
    ) -> Vec<Snapshot> {
        self.job.progress = at.0;
        let first = self.partitions.keys().next().copied();
        let mut changed: Vec<Partition> = changed.into_iter().chain(first).collect();
        changed.sort_unstable();
        changed.dedup();
        let snapshot = |partition: Partition| {
            let progress = self.partitions.get(&partition)?;
            let metadata = Metadata {
                v: VERSION,
                at: progress.next.0,
                from: progress.from.0,
                end: progress.end.0,
                counts: progress.counts.clone(),
                job: (Some(partition) == first).then(|| self.job.clone()),
            };
            Some(Snapshot {
                partition,
                base: progress.next,
                metadata: serde_json::to_string(&metadata).expect("numbers and texts"),
            })
        };
        changed.into_iter().filter_map(snapshot).collect()
    }

    /// Returns the counts of all partitions.
    #[must_use]
    pub fn counts(&self) -> JobCounts {
        let mut sum = JobCounts::default();
        for progress in self.partitions.values() {
            sum.add(&progress.counts);
        }
        sum
    }

    /// Returns how many more records may be copied.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        let limit = self.job.limit.unwrap_or(u64::MAX);
        limit.saturating_sub(self.counts().sent)
    }

    /// Returns the partition that is read next, and how many records may be selected
    /// before the next turn. `None` at the end of the job.
    #[must_use]
    pub fn turn(&self) -> Option<(Partition, u64)> {
        let open = self.partitions.iter().filter(|(_, p)| p.next < p.end);
        let (partition, progress) =
            open.min_by_key(|(partition, p)| (p.counts.selected / TURN, **partition))?;
        Some((*partition, TURN - progress.counts.selected % TURN))
    }

    /// Returns the read offsets and all offsets of the job.
    #[must_use]
    pub fn share(&self) -> (u64, u64) {
        let distance = |from: NextOffset, to: NextOffset| u64::try_from(to.0 - from.0).unwrap_or(0);
        self.partitions.values().fold((0, 0), |(read, all), p| {
            (
                read + distance(p.from, p.next),
                all + distance(p.from, p.end),
            )
        })
    }

    /// Moves a partition on to the start of its log, and counts the deleted offsets.
    pub fn skip_deleted(&mut self, partition: Partition, log_start: NextOffset) {
        if let Some(progress) = self.partitions.get_mut(&partition) {
            let to = log_start.min(progress.end);
            if to > progress.next {
                progress.counts.lost += u64::try_from(to.0 - progress.next.0).unwrap_or(0);
                progress.next = to;
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::position::Topic;

    pub fn at(number: i32) -> Partition {
        Topic::Source.partition(number)
    }

    /// Returns a job over partitions 0 and following, each with this start and end.
    pub fn state(bounds: &[(i64, i64)]) -> JobState {
        let partitions = (0..).zip(bounds).map(|(number, (from, end))| {
            let progress = PartitionProgress {
                from: NextOffset(*from),
                next: NextOffset(*from),
                end: NextOffset(*end),
                counts: JobCounts::default(),
            };
            (at(number), progress)
        });
        JobState {
            job: Descriptor {
                kind: JobKind::Replay.name().to_owned(),
                selection: JobSelection::default(),
                limit: None,
                by: "ops@host".to_owned(),
                started: 1,
                progress: 1,
                process: "p".to_owned(),
                phase: JobPhase::Running,
                partitions: bounds.len(),
            },
            partitions: partitions.collect(),
        }
    }

    #[test]
    fn a_state_reads_back_from_its_offsets() {
        let mut state = state(&[(0, 10), (5, 7)]);
        let all: Vec<Partition> = state.partitions.keys().copied().collect();
        let mut offsets = state.write(all, UnixMillis(9));
        assert_eq!(JobState::read(&offsets), Ok(Some(state.clone())));
        let progress = state.partitions.get_mut(&at(1)).expect("there is one");
        progress.next = NextOffset(6);
        progress.counts.sent = 1;
        let changed = state.write([at(1)], UnixMillis(10));
        assert_eq!(
            changed.len(),
            2,
            "the job's own partition is always written"
        );
        offsets = changed;
        assert_eq!(JobState::read(&offsets), Ok(Some(state)));
        assert_eq!(JobState::read(&[]), Ok(None));
    }

    #[test]
    fn a_job_without_progress_for_a_minute_is_stopped_unless_it_has_ended() {
        let mut state = state(&[(0, 10)]);
        state.job.progress = 1_000;
        for (phase, at, status) in [
            (JobPhase::Running, 1_000, JobStatus::Active),
            (JobPhase::Running, 61_000, JobStatus::Active),
            (JobPhase::Running, 61_001, JobStatus::Stopped),
            (JobPhase::Finished, 99_000, JobStatus::Complete),
            (JobPhase::Cancelled, 99_000, JobStatus::CalledOff),
        ] {
            state.job.phase = phase;
            assert_eq!(state.status(UnixMillis(at)), status, "{phase:?} at {at}");
        }
    }

    #[test]
    fn offsets_that_another_program_changed_are_refused() {
        let mut state = state(&[(0, 10), (5, 7)]);
        let all: Vec<Partition> = state.partitions.keys().copied().collect();
        let good = state.write(all, UnixMillis(9));
        let mut reset = good.clone();
        reset[1].metadata = String::new();
        let mut moved = good.clone();
        moved[1].base = NextOffset(6);
        for wrong in [&reset, &moved, &good[1..].to_vec(), &good[..1].to_vec()] {
            assert!(JobState::read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_full_state_fits_into_the_metadata() {
        let mut state = state(&[(i64::MAX - 2, i64::MAX - 1)]);
        let id = "x".repeat(70);
        state.job.selection.ids = vec![id; 40];
        state.job.selection.check_length().expect("it fits");
        state.job.by = "x".repeat(100);
        state.job.process = "x".repeat(100);
        state.job.limit = Some(u64::MAX);
        (state.job.started, state.job.progress) = (i64::MAX, i64::MAX);
        let progress = state.partitions.get_mut(&at(0)).expect("there is one");
        let reasons = crate::model::disposition::DeadLetterReason::ALL;
        progress.counts = JobCounts {
            selected: u64::MAX,
            sent: u64::MAX,
            lost: u64::MAX,
            refused: reasons.map(|r| (r.name().to_owned(), u64::MAX)).into(),
        };
        let offsets = state.write([], UnixMillis(i64::MAX));
        let length = offsets[0].metadata.encode_utf16().count();
        assert!(length <= 4_096, "{length}");
    }

    #[test]
    fn partitions_take_turns_that_depend_on_the_counts_alone() {
        let mut state = state(&[(0, 1_000), (0, 150), (3, 3)]);
        let mut order = Vec::new();
        while let Some((partition, max)) = state.turn() {
            order.push((partition.number, max));
            let progress = state.partitions.get_mut(&partition).expect("a turn's");
            let left = u64::try_from(progress.end.0 - progress.next.0).expect("positive");
            // A transaction may end within a turn.
            let taken = max.min(left).min(60);
            progress.next = NextOffset(progress.next.0 + i64::try_from(taken).expect("small"));
            progress.counts.selected += taken;
        }
        assert_eq!(
            order[..6],
            [(0, 100), (0, 40), (1, 100), (1, 40), (0, 100), (0, 40)]
        );
        assert_eq!(order[6], (1, 100));
        assert!(order[7..].iter().all(|(number, _)| *number == 0));
    }

    #[test]
    fn deleted_offsets_are_counted_up_to_the_end() {
        let mut state = state(&[(0, 10)]);
        state.skip_deleted(at(0), NextOffset(4));
        assert_eq!((state.counts().lost, state.share()), (4, (4, 10)));
        state.skip_deleted(at(0), NextOffset(2));
        state.skip_deleted(at(0), NextOffset(99));
        assert_eq!((state.counts().lost, state.turn()), (10, None));
    }
}
