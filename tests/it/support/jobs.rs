//! The commands about jobs, for the broker, topic and group of a scene.

use super::dead_letters::{self, FoundRecord};
use super::process::Process;
use super::ringback;
use super::scene::Scene;
use serde_json::Value;
use std::collections::BTreeMap;

/// A command that has ended.
pub struct Done {
    pub code: Option<i32>,
    pub output: String,
    pub error: String,
}

impl Done {
    /// Checks the exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        let (output, error) = (&self.output, &self.error);
        assert_eq!(self.code, Some(code), "{output}\n{error}");
        self
    }

    /// Returns its lines, which are JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let lines = self.output.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }
}

/// Returns the copies in the scene's delay topic.
pub fn copies(scene: &Scene<'_>) -> Vec<FoundRecord> {
    dead_letters::read(scene.broker, &scene.delay_topic(scene.plan.delays))
}

/// Returns the counts by tenant that a command printed as JSON, and its last line.
pub fn counts(done: &Done) -> (BTreeMap<String, u64>, Value) {
    let mut lines = done.json();
    let sum = lines.pop().expect("a line with the sums");
    let by_tenant = lines.iter().map(|line| {
        let tenant = line["tenant"].as_str().expect("a tenant").to_owned();
        (tenant, line["records"].as_u64().expect("a count"))
    });
    (by_tenant.collect(), sum)
}

fn arguments(scene: &Scene<'_>, words: &[&str]) -> Vec<String> {
    let places = [
        "--brokers",
        scene.broker.address(),
        "--topic",
        &scene.topic,
        "--group",
        &scene.topic,
    ];
    let delays = ["--delays", scene.plan.delays, "--attempts", "2"];
    let mut all = [words, &places[..]].concat();
    if words.first() != Some(&"jobs") {
        all.extend(delays);
    }
    all.into_iter().map(str::to_owned).collect()
}

/// Runs a command.
pub fn run(scene: &Scene<'_>, words: &[&str]) -> Done {
    let all = arguments(scene, words);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let done = ringback::output(&all);
    Done {
        code: done.status.code(),
        output: String::from_utf8_lossy(&done.stdout).into_owned(),
        error: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// Runs `replay`.
pub fn replay(scene: &Scene<'_>, more: &[&str]) -> Done {
    run(scene, &[&["replay"], more].concat())
}

/// Runs `dead-letter redrive`.
pub fn redrive(scene: &Scene<'_>, more: &[&str]) -> Done {
    run(scene, &[&["dead-letter", "redrive"], more].concat())
}

/// Runs a command about jobs.
pub fn jobs(scene: &Scene<'_>, more: &[&str]) -> Done {
    run(scene, &[&["jobs"], more].concat())
}

/// Starts a command that goes on.
pub fn start(scene: &Scene<'_>, words: &[&str]) -> Process {
    let log = scene.file("job.log", "");
    let mut command = ringback::command(&arguments(scene, words));
    Process::start(words[0], &mut command, &log)
}
