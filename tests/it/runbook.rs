//! deploy/RUNBOOK.md is true: its commands are run as they stand there, and
//! every message that an operator may see is in its list.

use crate::support::monitoring::{deploy, deployed};
use crate::support::readme::Shell;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::{broker, sample};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

const PAGES: &str = "ringback-0:9464";

/// Sections whose commands are for the time before ringback runs first, and
/// for when all replicas are stopped.
const BEFORE: &str = "First deployment on an old topic";
const STOPPED: &str = "Replay";
/// This one ends a replica.
const DRAIN: &str = "Drain";

/// Metrics without a series, or at 0, as long as nothing of the kind happens.
const NOTHING_IN_HEALTH: [&str; 2] = ["ringback_tenant_limited", "ringback_readoptions_total"];

/// A command and where it stands.
struct Step {
    section: String,
    command: String,
}

/// All commands of the runbook, in its order.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut section, mut inside) = (String::new(), false);
    for line in deployed("RUNBOOK.md").lines() {
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

/// The machine of an operator, with the log and the tenants file in the shell's
/// directory.
struct Desk<'s> {
    scene: &'s Scene<'static>,
    shell: Shell,
    done: BTreeSet<String>,
}

impl<'s> Desk<'s> {
    fn new(scene: &'s Scene<'static>) -> Self {
        Self {
            scene,
            shell: Shell::new("runbook-desk"),
            done: BTreeSet::new(),
        }
    }

    /// Runs the commands of these sections; one that stands in several, once.
    #[track_caller]
    fn run(&mut self, replica: Option<&Ringback>, chosen: impl Fn(&str) -> bool) {
        if let Some(replica) = replica {
            let log = self.shell.path.join("ringback-0.log");
            fs::write(log, replica.log()).expect("the build directory is writable");
            let tenants = self.shell.path.join("tenants.json");
            fs::copy(self.scene.tenants_file(), tenants).expect("both are ours");
        }
        let mut ran = 0;
        for step in steps().iter().filter(|step| chosen(&step.section)) {
            ran += 1;
            if self.done.insert(step.command.clone()) {
                self.step(replica, step);
            }
        }
        assert!(ran > 0, "a section has lost its commands");
    }

    #[track_caller]
    fn step(&self, replica: Option<&Ringback>, step: &Step) {
        let topic = &self.scene.topic;
        let mut command = step
            .command
            .replace("kafka-0:9092", self.scene.broker.address())
            .replace("--group ringback", &format!("--group {topic}"))
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
        let wrong = ["rror:", "xception", "not found", "No such file", "sage:"];
        assert!(!wrong.iter().any(|word| err.contains(word)), "{at}");
        let may_be_empty = NOTHING_IN_HEALTH.iter().any(|name| command.contains(name));
        if command.contains("/metrics") {
            assert!(may_be_empty || !out.is_empty(), "nothing printed: {at}");
        }
        // A grep of the log may find nothing; of which messages is checked below.
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
    scene.tenant(sample::EXAMPLE_TENANT, Behaviour::Always(503));
    scene.tenant("healthy", Behaviour::Ok);
    scene.publish("healthy", 5);
    scene.flush();
    let done = {
        let mut desk = Desk::new(&scene);
        desk.run(None, |section| section == BEFORE);
        desk.done
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
    let mut desk = Desk::new(&scene);
    desk.done = done;
    let last = [BEFORE, STOPPED, DRAIN];
    desk.run(Some(&replica), |section| !last.contains(&section));
    desk.run(Some(&replica), |section| section == DRAIN);
    let (code, log) = replica.ended();
    assert_eq!(code, 0, "a drained service exits 0");
    let end = log.lines().last().expect("it logs");
    assert!(end.contains("\"drained\""), "{end}");
    desk.run(None, |section| section == STOPPED);
}

/// A message with its level, as the list has it and as the sources have it.
type Message = (String, String);

fn listed() -> BTreeSet<Message> {
    let runbook = deployed("RUNBOOK.md");
    let (_, list) = runbook
        .split_once("\n## Log messages\n")
        .expect("the runbook lists the messages");
    let row = |line: &str| {
        let (level, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
        let (message, _) = rest.split_once("` | ")?;
        Some((level.to_owned(), message.to_owned()))
    };
    list.lines().filter_map(row).collect()
}

/// Every message from `info` on in a source: the last string of each macro.
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
    let mut said = BTreeSet::new();
    let sources = deploy("..").join("src");
    in_sources(&sources, &mut said);
    assert!(said.len() > 20, "the sources were not read");
    let listed = listed();
    let missing: Vec<_> = said.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the runbook: {missing:#?}");
    let gone: Vec<_> = listed.difference(&said).collect();
    assert!(gone.is_empty(), "no longer in the sources: {gone:#?}");

    for Step { section, command } in steps() {
        for (_, message) in command.match_indices("\"message\":\"").map(|(at, key)| {
            let rest = &command[at + key.len()..];
            let end = rest.find(['"', '\'']).unwrap_or(rest.len());
            (at, &rest[..end])
        }) {
            let listed = listed.iter().any(|(_, listed)| listed.starts_with(message));
            assert!(listed, "{section}: no message {message}");
        }
    }
}
