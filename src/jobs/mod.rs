//! Jobs: a replay sends records of the source topic again, a redrive sends dead
//! letters again. Both write copies to the shortest delay topic. The running service
//! delivers them with a new budget of attempts.
//!
//! Kafka is the only state. Each batch is one transaction: the copies, and the job's
//! position as offsets of the group `<group>.job.<name>`. The metadata of each offset
//! holds the partition's counts; that of the first partition holds the job, too. So a
//! job that is killed at any moment continues where its last transaction ended, and
//! each selected record is copied once.
//!
//! The `transactional.id` is the group's name. A process that resumes or cancels a job
//! fences the process that ran it.

pub mod batch;
pub mod copy;
pub mod files;
pub mod overlap;
mod pace;
pub mod plan;
pub mod run;
pub mod select;
pub mod selection;
pub mod state;
pub mod watch;

use crate::model::named_enum::named_enum;
use crate::model::position::Topic;

named_enum! {
    /// What a job does.
    pub enum JobKind {
        /// Copies records of the source topic.
        Replay = "replay",
        /// Copies dead letters.
        Redrive = "redrive",
    }
}

impl JobKind {
    /// Returns the topic that the job reads.
    #[must_use]
    pub const fn source(self) -> Topic {
        match self {
            Self::Replay => Topic::Source,
            Self::Redrive => Topic::DeadLetter,
        }
    }

    /// Returns the command that starts and resumes such a job.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Replay => "ringback replay",
            Self::Redrive => "ringback dead-letter redrive",
        }
    }
}

/// The name of a job: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JobName(String);

impl JobName {
    /// Checks a name.
    ///
    /// # Errors
    /// The name has another form.
    pub fn new(text: &str) -> Result<Self, String> {
        let is_formed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match (1..=64).contains(&text.len()) && text.bytes().all(is_formed) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "'{text}' is not a job's name: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'"
            )),
        }
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the group that holds the job's position. It is the job's
    /// `transactional.id`, too.
    #[must_use]
    pub fn group(&self, service: &str) -> String {
        format!("{}{}", group_prefix(service), self.0)
    }

    /// Returns the name of the job with this group, or `None` for another group.
    #[must_use]
    pub fn of_group(service: &str, group: &str) -> Option<Self> {
        Self::new(group.strip_prefix(&group_prefix(service))?).ok()
    }
}

/// Returns the start of the names of all groups of jobs.
#[must_use]
pub fn group_prefix(service: &str) -> String {
    format!("{service}.job.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_group_and_a_group_one_job() {
        let name = JobName::new("night-1").expect("a name");
        assert_eq!(name.group("ringback"), "ringback.job.night-1");
        assert_eq!(
            JobName::of_group("ringback", "ringback.job.night-1"),
            Some(name)
        );
        for other in [
            "ringback",
            "ringback.moves",
            "ringback.job.",
            "ringback.job.a b",
        ] {
            assert_eq!(JobName::of_group("ringback", other), None, "{other}");
        }
        for wrong in ["", "a/b", "ä", &"x".repeat(65)] {
            assert!(JobName::new(wrong).is_err(), "{wrong}");
        }
    }
}
