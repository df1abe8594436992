//! The last overview, which the runner writes and the pages read. Decides only
//! whether a restart would help: the runner's loop has stopped, or a thread panicked.
//! Never asks the service anything. The runner's thread writes, the thread of the
//! operators' pages reads.

use crate::model::overview::{
    Overview, RefusedDestination, ServiceState, UnreachableBroker, Verdicts,
};
use crate::model::position::{Partition, TopicNames};
use crate::model::time::UnixMillis;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The maximum number of partitions that are named.
const NAMED_MAX: usize = 5;

/// The maximum duration of one turn of the runner's loop. The loop wakes at least
/// once a second, so ten turns are missing by then.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(10);

/// Facts that do not change while the service runs.
pub struct About {
    pub names: TopicNames,
    pub instance: String,
    pub group: String,
    pub version: &'static str,
    pub started_at: UnixMillis,
}

/// The state that the runner writes and the pages read.
pub struct Status {
    pub(super) about: About,
    overview: watch::Sender<Arc<Overview>>,
}

impl Status {
    /// Returns the status of a service that starts now.
    #[must_use]
    pub fn new(about: About) -> Self {
        let overview = Overview {
            at: about.started_at,
            readiness: ServiceState::Starting.fault().map(str::to_owned),
            ..Overview::default()
        };
        Self {
            about,
            overview: watch::Sender::new(Arc::new(overview)),
        }
    }

    /// Shows the state of the engine after a turn of the runner's loop.
    pub fn show(&self, overview: Overview) {
        self.overview.send_replace(Arc::new(overview));
    }

    pub(super) fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview.borrow())
    }

    /// Checks that all threads of the service work. Only faults that a restart heals
    /// count here. The watchdog ends a process whose Kafka call hangs.
    ///
    /// Errors: the reason, for operators.
    pub fn liveness(&self, now: UnixMillis) -> Result<(), String> {
        let overview = self.overview();
        let stuck = now.since(overview.at);
        if stuck > HEALTHY_TURN_MAX {
            return Err(format!("the loop has not turned for {} s", stuck.as_secs()));
        }
        match overview.panicked {
            Some(thread) => Err(format!("thread '{thread}' has panicked")),
            None => Ok(()),
        }
    }

    /// Checks that the service makes progress.
    ///
    /// Errors: the reason, for operators.
    pub fn health(&self, now: UnixMillis) -> Result<(), String> {
        self.liveness(now)?;
        self.overview().health.clone().map_or(Ok(()), Err)
    }

    /// Returns a line for each broker that does not answer, for each destination that
    /// refuses records, and for each program that holds partitions. It is no fault of
    /// this process: a restart would not help.
    pub fn remarks(&self, now: UnixMillis) -> String {
        let overview = self.overview();
        let unreachable = |silent: &UnreachableBroker| {
            let (broker, seconds) = (&silent.broker, now.since(silent.since).as_secs());
            format!(
                "broker {} ({}) has not answered for {seconds} s; {} partitions wait for it\n",
                broker.id, broker.address, silent.partitions
            )
        };
        let line = |refused: &RefusedDestination| {
            let topic = self.about.names.name(refused.topic);
            let RefusedDestination {
                reason, waiting, ..
            } = refused;
            format!(
                "topic {topic} refuses records ({}): {}; {waiting} records wait for it\n",
                reason.name(),
                reason.advice()
            )
        };
        let brokers = overview.unreachable.iter().map(unreachable);
        let lines = brokers.chain(overview.refusing.iter().map(line));
        lines.chain(self.others(&overview, now)).collect()
    }

    /// Returns a line for each partition that another producer's transaction holds back,
    /// and for each member of another program.
    fn others(&self, overview: &Overview, now: UnixMillis) -> Vec<String> {
        let names = &self.about.names;
        let blocked = overview.blocked.iter().map(|blocked| {
            let (topic, number) = (
                names.name(blocked.partition.topic),
                blocked.partition.number,
            );
            format!(
                "partition {topic}/{number}: an open transaction of another producer has held back \
                 offset {} and all behind it for {} s\n",
                blocked.offset.0,
                now.since(blocked.since).as_secs()
            )
        });
        let foreign = overview.foreign.iter().map(|one| {
            format!(
                "another program in the group has {} partitions ({}): member {}, client {}, host {}\n",
                one.partitions.len(),
                places(names, &one.partitions),
                one.member,
                one.client,
                one.host
            )
        });
        blocked.chain(foreign).collect()
    }

    /// Checks that the service delivers now.
    ///
    /// Errors: the reason, for operators.
    pub fn readiness(&self, now: UnixMillis) -> Result<(), String> {
        self.health(now)?;
        self.overview().readiness.clone().map_or(Ok(()), Err)
    }

    /// Returns what the pages say now.
    #[must_use]
    pub fn verdicts(&self, now: UnixMillis) -> Verdicts {
        Verdicts {
            live: self.liveness(now).is_ok(),
            healthy: self.health(now).is_ok(),
            ready: self.readiness(now).is_ok(),
        }
    }
}

/// Returns the first of these partitions by name.
pub(super) fn places(names: &TopicNames, partitions: &[Partition]) -> String {
    let first = partitions.iter().take(NAMED_MAX);
    let mut places: Vec<String> = first
        .map(|partition| format!("{}/{}", names.name(partition.topic), partition.number))
        .collect();
    if partitions.len() > NAMED_MAX {
        places.push("…".to_owned());
    }
    places.join(", ")
}
