//! Watches the states of all jobs of the service's group, for the metrics. Reads
//! offsets and commits nothing. Runs on a thread of the service.
//!
//! A job that has ended never changes: it is read once. So each look costs one list of
//! the groups, and a few requests for each open job.

use super::plan;
use super::{JobName, group_prefix};
use crate::kafka::job::{GroupList, JobCallError, Reads};
use crate::kafka::settings::KafkaSettings;
use crate::model::job::JobStatus;
use crate::model::time::UnixMillis;
use std::collections::BTreeMap;

/// The jobs at the last look.
#[derive(Default)]
pub struct JobsWatch {
    seen: BTreeMap<JobName, JobStatus>,
    /// Kept: a new client would connect and log in for each look.
    groups: Option<GroupList>,
}

impl JobsWatch {
    /// Returns the states of all jobs now.
    ///
    /// # Errors
    /// The brokers do not answer, or refuse.
    pub fn look(
        &mut self,
        settings: &KafkaSettings,
        now: UnixMillis,
    ) -> Result<Vec<JobStatus>, JobCallError> {
        let groups = match &self.groups {
            Some(groups) => groups,
            None => self.groups.insert(GroupList::connect(settings)?),
        };
        let mut found = BTreeMap::new();
        for group in groups.with_prefix(&group_prefix(&settings.group))? {
            let Some(name) = JobName::of_group(&settings.group, &group) else {
                continue;
            };
            let ended = self.seen.get(&name).filter(|status| !status.is_open());
            let status = match ended {
                Some(status) => Some(*status),
                None => match plan::read(settings, &name, Reads::Now)? {
                    Ok(state) => state.map(|state| state.status(now)),
                    Err(_) => Some(JobStatus::Damaged),
                },
            };
            if let Some(status) = status {
                found.insert(name, status);
            }
        }
        self.seen = found;
        Ok(self.seen.values().copied().collect())
    }
}
