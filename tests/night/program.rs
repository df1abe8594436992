//! `tests/night/run`: one fault for each of several stacks, and what someone on call
//! sees of it. The letters of the stacks do not tell the faults. Exits 1 where a fault
//! has no firing alert, 2 on wrong arguments.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;

mod arguments;
mod bundle;
mod fault;
mod kafkas;
mod load;
mod panels;
mod servers;
mod stack;

use arguments::{Arguments, HELP};
use fault::{Fault, KafkaKind};
use kafkas::Kafka;
use load::Load;
use panels::{Frame, clock};
use stack::{Replica, Stack};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use support::monitoring::Monitoring;
use support::{wait, workspace};

/// No answer of the monitoring needs a younger look.
const LOOK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut typed: Vec<String> = std::env::args().skip(1).collect();
    // Added by cargo.
    typed.retain(|argument| argument != "--bench");
    let names = Fault::ALL.map(Fault::name).join(", ");
    if typed.iter().any(|argument| argument == "--help") {
        println!("{HELP} {names}");
        return ExitCode::SUCCESS;
    }
    match Arguments::parse(&typed) {
        Ok(arguments) => Night::start(arguments).run(),
        Err(mistake) => {
            eprintln!("{mistake}\n{HELP} {names}");
            ExitCode::from(2)
        }
    }
}

/// All stacks and what watches them.
struct Night {
    arguments: Arguments,
    stacks: Vec<Stack>,
    monitoring: Monitoring,
    load: Load,
    directory: PathBuf,
    key: String,
    /// Faults without an alert, and alerts without a fault.
    wrong: Vec<String>,
}

impl Night {
    fn start(arguments: Arguments) -> Self {
        let directory = workspace::target().join("night");
        fs::remove_dir_all(&directory).ok();
        fs::create_dir_all(&directory).expect("the build directory is writable");
        let mut faults = arguments.faults.clone();
        let chance = RandomState::new();
        faults.sort_by_key(|fault| chance.hash_one(fault.name()));
        let mut kafkas: Vec<(KafkaKind, Kafka)> = Vec::new();
        let mut stacks = Vec::new();
        for (letter, fault) in ('a'..).zip(faults) {
            let kind = fault.kafka();
            let at = kafkas.iter().position(|(other, _)| *other == kind);
            let at = at.unwrap_or_else(|| {
                eprintln!("starting a Kafka");
                kafkas.push((kind, Kafka::start(kind)));
                kafkas.len() - 1
            });
            stacks.push(Stack::start(fault, letter, &kafkas[at].1));
        }
        eprintln!("{} stacks start", stacks.len());
        for stack in &stacks {
            wait::until("all replicas to be ready", || {
                stack.replicas.iter().all(Replica::is_ready)
            });
        }
        let load = Load::start(&stacks);
        let jobs: String = stacks.iter().map(jobs).collect();
        let files = workspace::directory("night-monitoring");
        Self {
            monitoring: Monitoring::start_with(&files, &jobs, arguments.faster),
            arguments,
            stacks,
            load,
            directory,
            key: String::new(),
            wrong: Vec::new(),
        }
    }

    fn run(mut self) -> ExitCode {
        let begin = SystemTime::now();
        eprintln!("all run; the faults come in {:?}", self.arguments.before);
        self.pass(self.arguments.before);
        let broken = Instant::now();
        for stack in &mut self.stacks {
            // Its cluster loses one broker with the other stack's fault.
            if stack.fault != Fault::AllBrokersDown {
                stack.inject();
            }
        }
        eprintln!(
            "the faults are there; the end comes in {:?}",
            self.arguments.after
        );
        self.pass((self.arguments.after / 2).saturating_sub(broken.elapsed()));
        self.write(begin, |fault| fault == Fault::OneBrokerDown);
        for stack in &mut self.stacks {
            if stack.fault == Fault::AllBrokersDown {
                stack.inject();
            }
        }
        self.pass(self.arguments.after.saturating_sub(broken.elapsed()));
        self.write(begin, |fault| fault != Fault::OneBrokerDown);
        let key = self.directory.join("key.txt");
        fs::write(key, &self.key).expect("the build directory is writable");
        println!("{}", self.directory.display());
        for wrong in &self.wrong {
            println!("{wrong}");
        }
        drop(self.load);
        match self.wrong.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }

    /// Lets time pass.
    fn pass(&mut self, span: Duration) {
        let started = Instant::now();
        while started.elapsed() < span {
            std::thread::sleep(LOOK);
            self.stacks.iter_mut().for_each(Stack::tick);
        }
    }

    /// Writes the bundles of the stacks with these faults.
    fn write(&mut self, begin: SystemTime, wanted: fn(Fault) -> bool) {
        for stack in self.stacks.iter().filter(|stack| wanted(stack.fault)) {
            let job = stack.job();
            let frame = Frame {
                monitoring: &self.monitoring,
                job: &job,
                from: seconds(begin),
                to: seconds(SystemTime::now()),
                faster: self.arguments.faster,
            };
            let directory = self.directory.join(stack.letter.to_string());
            let firing = bundle::write(stack, &frame, &directory);
            let (letter, name) = (stack.letter, stack.fault.name());
            let at = stack
                .broken_at
                .map_or("never".to_owned(), |at| clock(seconds(at)));
            let done = stack.fault.done();
            writeln!(
                self.key,
                "{letter}: {name}, at {at}: {done}; alerts {firing:?}"
            )
            .expect("strings take all");
            self.wrong.extend(judge(stack.fault, &firing));
        }
    }
}

/// A fault needs an alert, and no fault needs none. The other two brokers do the work
/// of one that is down.
fn judge(fault: Fault, firing: &BTreeSet<String>) -> Option<String> {
    match (fault, firing.is_empty()) {
        (Fault::OneBrokerDown, _) | (Fault::Nothing, true) => None,
        (Fault::Nothing, false) => Some(format!("without a fault: {firing:?}")),
        (_, true) => Some(format!("{}: no alert fires", fault.name())),
        (_, false) => None,
    }
}

/// The job of a stack for prometheus.yml. Its instances have the names of pods.
fn jobs(stack: &Stack) -> String {
    let mut jobs = format!("  - job_name: {}\n    static_configs:\n", stack.job());
    for Replica { name, port, .. } in &stack.replicas {
        writeln!(
            jobs,
            "      - targets: ['127.0.0.1:{port}']\n        \
             labels: {{namespace: callbacks, instance: '{name}:9464'}}"
        )
        .expect("strings take all");
    }
    jobs
}

fn seconds(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}
