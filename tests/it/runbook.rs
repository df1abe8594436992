//! The commands of deploy/RUNBOOK.md run as they are written, and its list has
//! every log message from `info` on.

use crate::support::documents::{self, RUNBOOK, Shell};
use crate::support::monitoring::deploy;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::{broker, sample};
use ringback::exit::{self, Exit};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

const PAGES: &str = "ringback-0:9464";

/// This section runs before ringback starts for the first time.
const BEFORE: &str = "First deployment on an old topic";
/// This section runs while all replicas are stopped.
const STOPPED: &str = "Replay";
/// This section runs when there is a job.
const JOBS: &str = "RingbackJobStopped";
/// This section ends a replica.
const DRAIN: &str = "Drain";

/// Metrics without a series, or at 0, in a healthy system.
const EMPTY_IN_HEALTH: [&str; 2] = ["ringback_tenant_limited", "ringback_readoptions_total"];

/// A command and its section.
struct Step {
    section: String,
    command: String,
}

/// Returns all commands of the runbook, in its order.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut section, mut inside) = (String::new(), false);
    for line in documents::text(RUNBOOK).lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => steps.push(Step {
                section: section.clone(),
                command: line.to_owned(),
            }),
            _ => {
                if let Some(heading) = line.strip_prefix("## ").or(line.strip_prefix("### ")) {
                    section = heading.to_owned();
                }
            }
        }
    }
    steps
}

/// The machine of an operator. The log and the tenants file are in the directory of
/// the shell.
struct Operator<'s> {
    scene: &'s Scene<'static>,
    shell: Shell,
    done: BTreeSet<String>,
}

impl<'s> Operator<'s> {
    fn new(scene: &'s Scene<'static>) -> Self {
        Self {
            scene,
            shell: Shell::new("runbook-operator"),
            done: BTreeSet::new(),
        }
    }

    /// Runs the commands of the chosen sections. A command of several sections
    /// runs once.
    #[track_caller]
    fn run(&mut self, replica: Option<&Ringback>, chosen: impl Fn(&str) -> bool) {
        if let Some(replica) = replica {
            let log = self.shell.path.join("ringback-0.log");
            fs::write(log, replica.log()).expect("the build directory is writable");
            let tenants = self.shell.path.join("tenants.json");
            fs::copy(self.scene.tenants_file(), tenants).expect("the test owns both files");
        }
        let mut ran = 0;
        for step in steps().iter().filter(|step| chosen(&step.section)) {
            ran += 1;
            if self.done.insert(step.command.clone()) {
                self.step(replica, step);
            }
        }
        assert!(ran > 0, "no command in the chosen sections");
    }

    #[track_caller]
    fn step(&self, replica: Option<&Ringback>, step: &Step) {
        let topic = &self.scene.topic;
        let mut command = step
            .command
            .replace("kafka-0:9092", self.scene.broker.address())
            .replace("--group ringback", &format!("--group {topic}"))
            .replace(
                "call-ended.delay.10s",
                &self.scene.delay_topic(self.scene.plan.delays),
            )
            .replace("call-ended", topic);
        if let Some(replica) = replica {
            command = command.replace(PAGES, &format!("127.0.0.1:{}", replica.port()));
        }
        let mut shell = self.shell.command(&command);
        shell
            .env("RINGBACK_BROKERS", self.scene.broker.address())
            .env("RINGBACK_GROUP", topic)
            .env("RINGBACK_TOPIC", topic)
            .env("RINGBACK_DELAYS", self.scene.plan.delays)
            .env("RINGBACK_ATTEMPTS", self.scene.plan.attempts.to_string())
            .env("RINGBACK_TENANTS", self.scene.tenants_file())
            .env("RINGBACK_ALLOW_NETWORKS", "127.0.0.0/8");
        if let Some(replica) = replica {
            shell.env("PID", replica.pid().to_string());
        }
        let done = shell.output().expect("every system has sh");
        let out = String::from_utf8_lossy(&done.stdout);
        let err = String::from_utf8_lossy(&done.stderr);
        let at = format!("{}: {command}\n{out}{err}", step.section);
        assert!(!out.contains("whsec_"), "a secret is printed: {at}");
        let wrong = ["rror:", "xception", "not found", "No such file", "sage:"];
        assert!(!wrong.iter().any(|word| err.contains(word)), "{at}");
        let may_be_empty = EMPTY_IN_HEALTH.iter().any(|name| command.contains(name));
        if command.contains("/metrics") {
            assert!(may_be_empty || !out.is_empty(), "nothing printed: {at}");
        }
        // A grep of the log may find nothing. The other test checks its message.
        let greps = may_be_empty || command.contains("ringback-0.log");
        assert!(done.status.success() || greps && out.is_empty(), "{at}");
    }
}

#[test]
fn every_command_of_the_runbook_runs_against_the_running_system() {
    let plan = Plan {
        partitions: 1,
        delays: "500ms",
        delay_min: Duration::from_millis(500),
        attempts: 2,
    };
    let mut scene = Scene::bare(broker::Broker::shared(), "runbook", plan);
    let topic = scene.topic.clone();
    scene.broker.create_topic(&topic, 1, &[]);
    let signed = json!({ "secrets": ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] });
    scene.tenant_with(sample::EXAMPLE_TENANT, Behaviour::Always(503), &signed);
    scene.tenant("healthy", Behaviour::Ok);
    scene.publish("healthy", 5);
    scene.flush();
    let done = {
        let mut operator = Operator::new(&scene);
        operator.run(None, |section| section == BEFORE);
        operator.done
    };

    let replica = scene.run("ringback-0");
    scene.publish_record(sample::EXAMPLE_ID, sample::EXAMPLE_TENANT);
    scene.publish("healthy", 5);
    replica.until("a dead letter, and the healthy records", |metrics| {
        metrics.disposed("dead_lettered") == 1 && metrics.disposed("delivered") >= 5
    });
    assert_eq!(
        scene.receiver.successes(),
        5,
        "the old records are not sent"
    );
    // A reload, and one that is refused.
    scene.write_tenants_text("{}");
    replica.until("the refusal", |metrics| {
        metrics.count("ringback_tenants_last_reload_successful", &[]) == 0
    });
    scene.write_tenants();
    replica.until("the reload", |metrics| {
        metrics.count("ringback_tenants_last_reload_successful", &[]) == 1
    });
    let mut operator = Operator::new(&scene);
    operator.done = done;
    let last = [BEFORE, STOPPED, JOBS, DRAIN];
    operator.run(Some(&replica), |section| !last.contains(&section));
    operator.run(Some(&replica), |section| section == JOBS);
    operator.run(Some(&replica), |section| section == DRAIN);
    let (code, log) = replica.ended();
    assert_eq!(code, 0, "a drained service exits 0");
    let end = log.lines().last().expect("it logs");
    assert!(end.contains("\"drained\""), "{end}");
    operator.run(None, |section| section == STOPPED);
}

#[test]
fn the_section_on_silence_has_every_exit_code_of_the_service() {
    let text = documents::text(RUNBOOK);
    let (_, section) = text.split_once("### RingbackNoData\n").expect("it exists");
    let (section, _) = section.split_once("\n### ").expect("others follow");
    for (exit, meaning) in exit::TABLE
        .iter()
        .filter(|(e, _)| *e != Exit::NothingMatched)
    {
        let code = format!(" {}: ", exit.code());
        assert!(section.contains(&code), "{code}: {meaning}");
    }
}

/// A level and a message.
type Message = (String, String);

/// Returns the messages in the list of the runbook.
fn listed() -> BTreeSet<Message> {
    let list = documents::section(RUNBOOK, "Log messages");
    let row = |line: &str| {
        let (level, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
        let (message, _) = rest.split_once("` | ")?;
        Some((level.to_owned(), message.to_owned()))
    };
    list.lines().filter_map(row).collect()
}

/// Collects the messages from `info` on in a source: the last string of each macro.
fn messages(source: &str, into: &mut BTreeSet<Message>) {
    for level in ["error", "warn", "info"] {
        for (at, found) in source.match_indices(&format!("{level}!(")) {
            let (mut depth, mut string, mut escaped) = (1, None, false);
            let mut last = "";
            let body = &source[at + found.len()..];
            for (at, c) in body.char_indices() {
                match (c, string) {
                    ('\\', Some(_)) if !escaped => {
                        escaped = true;
                        continue;
                    }
                    ('"', Some(start)) if !escaped => {
                        last = &body[start..at];
                        string = None;
                    }
                    ('"', None) => string = Some(at + 1),
                    ('(', None) => depth += 1,
                    (')', None) => depth -= 1,
                    _ => {}
                }
                escaped = false;
                if depth == 0 {
                    break;
                }
            }
            into.insert((level.to_owned(), last.to_owned()));
        }
    }
}

fn in_sources(folder: &Path, into: &mut BTreeSet<Message>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            in_sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            messages(&fs::read_to_string(path).expect("text"), into);
        }
    }
}

#[test]
fn every_message_that_an_operator_may_see_is_in_the_list() {
    let mut logged = BTreeSet::new();
    let sources = deploy("..").join("src");
    in_sources(&sources, &mut logged);
    assert!(logged.len() > 20, "the sources were not read");
    let listed = listed();
    let missing: Vec<_> = logged.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the runbook: {missing:#?}");
    let gone: Vec<_> = listed.difference(&logged).collect();
    assert!(gone.is_empty(), "no longer in the sources: {gone:#?}");

    for Step { section, command } in steps() {
        for (_, message) in command.match_indices("\"message\":\"").map(|(at, key)| {
            let rest = &command[at + key.len()..];
            let end = rest.find(['"', '\'']).unwrap_or(rest.len());
            (at, &rest[..end])
        }) {
            let mut listed = listed.iter();
            let found = listed.any(|(_, text)| text.starts_with(message));
            assert!(found, "{section}: no message {message}");
        }
    }
}
