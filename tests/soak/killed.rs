//! A job that is killed with SIGKILL at random moments and resumed, and what a reader
//! of committed records then finds in the delay topic.

use crate::support::jobs::{copies, counts, jobs, run as command, start};
use crate::support::scene::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// A job and its kills.
pub struct Killed<'a> {
    /// The command with its selection.
    pub words: &'a [&'a str],
    pub job: &'a str,
    /// Copies per second, so that the kills fall into the job.
    pub rate: u64,
    pub kills: u64,
    /// Each kill comes at a random moment up to this time after the start.
    pub after_max: Duration,
}

/// What was counted before, said by the job, and found after.
#[derive(Debug)]
pub struct Report {
    /// Of the dry run.
    pub counted: u64,
    pub counted_by_tenant: BTreeMap<String, u64>,
    /// As `jobs list` says.
    pub sent: u64,
    /// Copies of this job in the delay topic.
    pub copies: usize,
    /// Of them, distinct records that were copied.
    pub distinct: usize,
    pub copies_by_tenant: BTreeMap<String, u64>,
    /// Kills that met a job which had not finished.
    pub kills_inside: u64,
    /// Processes that were started.
    pub starts: u64,
    pub took: Duration,
}

/// Counts, runs, kills and resumes the job until it has finished.
pub fn run(scene: &Scene<'_>, killed: &Killed<'_>) -> Report {
    let json = ["--output", "json"];
    let dry = command(scene, &[killed.words, &["--dry-run"], &json].concat());
    let (counted_by_tenant, sum) = counts(dry.exits(0));
    let started = Instant::now();
    let rate = killed.rate.to_string();
    let paced = ["--rate", &rate];
    let first = [killed.words, &["--job", killed.job], &paced].concat();
    let kind: Vec<&str> = killed
        .words
        .iter()
        .copied()
        .take_while(|w| !w.starts_with("--"))
        .collect();
    let resume = [&kind[..], &["--resume", killed.job]].concat();
    let chance = RandomState::new();
    let (mut kills_inside, mut starts) = (0, 0);
    for kill in 0..killed.kills {
        let words = match is_listed(scene, killed.job) {
            true => [&resume[..], &paced].concat(),
            false => first.clone(),
        };
        let mut process = start(scene, &words);
        starts += 1;
        let most = u64::try_from(killed.after_max.as_millis()).expect("seconds");
        // Any moment must do: no state is waited for.
        std::thread::sleep(Duration::from_millis(chance.hash_one(kill) % most));
        kills_inside += u64::from(process.ended().is_none());
        process.kill();
    }
    let words = match is_listed(scene, killed.job) {
        true => resume,
        false => [killed.words, &["--job", killed.job]].concat(),
    };
    command(scene, &words).exits(0);
    let took = started.elapsed();
    let listed = jobs(scene, &["list", "--output", "json"]).exits(0).json();
    let listed = listed.iter().find(|job| job["job"] == killed.job);
    let listed = listed.expect("the job is listed");
    assert_eq!(listed["state"], "finished");
    let found = copies(scene);
    let found: Vec<_> = found
        .iter()
        .filter(|copy| copy.header("ringback-job") == killed.job)
        .collect();
    let from = found
        .iter()
        .map(|copy| copy.header("ringback-replayed-from"));
    let mut copies_by_tenant = BTreeMap::new();
    for copy in &found {
        let value = copy.value.as_deref().expect("copies have values");
        let call = ringback::model::call::CallEnded::read(value).expect("it was readable");
        *copies_by_tenant.entry(call.tenant.to_string()).or_default() += 1;
    }
    Report {
        counted: sum["sent"].as_u64().expect("a count"),
        counted_by_tenant,
        sent: listed["sent"].as_u64().expect("a count"),
        copies: found.len(),
        distinct: from.collect::<BTreeSet<_>>().len(),
        copies_by_tenant,
        kills_inside,
        starts: starts + 1,
        took,
    }
}

/// Returns whether the job exists. It may have been killed before it did.
fn is_listed(scene: &Scene<'_>, job: &str) -> bool {
    let listed = jobs(scene, &["list", "--output", "json"]);
    listed.json().iter().any(|line| line["job"] == job)
}
