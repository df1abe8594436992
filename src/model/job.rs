//! The state of a job as lists and metrics show it. Pure.

use super::named_enum::named_enum;

named_enum! {
    /// The state of a replay or redrive.
    pub enum JobStatus {
        /// It made progress within the last minute.
        Active = "running",
        /// It is not finished, and no process works on it.
        Stopped = "stopped",
        /// All selected records are copied, or as many as it was limited to.
        Complete = "finished",
        /// An operator has ended it.
        CalledOff = "cancelled",
        /// Another program has written or deleted offsets of its group.
        Damaged = "damaged",
    }
}

impl JobStatus {
    /// Returns whether the job can have another state later.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Complete | Self::CalledOff)
    }
}
