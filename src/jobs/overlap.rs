//! Whether a new job may copy records that an earlier job has copied or will copy.
//! Pure.

use super::state::{JobPhase, JobState};

/// Returns whether both jobs may copy one record. A job that was cancelled before it
/// copied anything overlaps no other.
#[must_use]
pub fn overlaps(new: &JobState, earlier: &JobState) -> bool {
    let counts = earlier.counts();
    let copies_nothing = earlier.job.phase == JobPhase::Cancelled && counts.sent == 0;
    if copies_nothing || new.job.selection.is_disjoint(&earlier.job.selection) {
        return false;
    }
    new.partitions.iter().any(|(partition, new)| {
        earlier.partitions.get(partition).is_some_and(|read| {
            // A job that has ended copies nothing after what it has read.
            let end = match earlier.job.phase {
                JobPhase::Running => read.end,
                JobPhase::Finished | JobPhase::Cancelled => read.next,
            };
            new.from < end && read.from < new.end
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::state;
    use super::*;
    use crate::model::position::NextOffset;

    #[test]
    fn jobs_overlap_where_selection_and_offsets_meet() {
        let new = state(&[(0, 10), (5, 10)]);
        assert!(overlaps(&new, &new));
        assert!(!overlaps(&new, &state(&[(10, 20), (0, 5)])));
        assert!(overlaps(&new, &state(&[(10, 20), (0, 6)])));
        let tenant = |name: &str| {
            let mut job = state(&[(0, 10)]);
            job.job.selection.tenants = vec![name.to_owned()];
            job
        };
        assert!(overlaps(&new, &tenant("a")));
        assert!(!overlaps(&tenant("b"), &tenant("a")));
    }

    #[test]
    fn a_cancelled_job_that_copied_nothing_overlaps_none() {
        let new = state(&[(0, 10)]);
        let mut cancelled = state(&[(0, 10)]);
        cancelled.job.phase = JobPhase::Cancelled;
        assert!(!overlaps(&new, &cancelled));
        for read in cancelled.partitions.values_mut() {
            read.counts.sent = 1;
            read.next = NextOffset(1);
        }
        assert!(overlaps(&new, &cancelled));
        assert!(!overlaps(&state(&[(1, 10)]), &cancelled), "not read by it");
    }
}
