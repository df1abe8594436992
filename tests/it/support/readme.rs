//! The commands that README tells an operator to run, taken from the page
//! itself, so that it cannot rot.

use super::broker::{self, Broker};
use super::workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The text of a section.
#[track_caller]
pub fn section(title: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).expect("the repository has a README");
    let heading = format!("\n## {title}\n");
    let (_, rest) = readme
        .split_once(&heading)
        .unwrap_or_else(|| panic!("README has no section {title}"));
    rest.split("\n## ").next().unwrap_or(rest).to_owned()
}

/// The commands of a section's `sh` blocks, each in one line.
#[track_caller]
pub fn commands(title: &str) -> Vec<String> {
    let section = section(title);
    let mut commands = Vec::new();
    for block in section.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or(block);
        let joined = block.replace("\\\n", " ");
        let lines = joined.lines().map(str::trim).filter(|l| !l.is_empty());
        commands.extend(lines.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    assert!(!commands.is_empty(), "section {title} has no command");
    commands
}

/// What an operator's shell prints for a command, with its exit code.
pub struct Said {
    /// Both outputs.
    pub text: String,
    /// Whether it exited 0.
    pub succeeded: bool,
}

/// A shell in a directory of its own that has Kafka's tools and ringback on its
/// path, as the machine of an operator has.
pub struct Shell {
    /// The directory.
    pub path: PathBuf,
}

/// Kafka's tools, and what they run.
const TOOLS: [(&str, &str); 3] = [
    ("kafka-consumer-groups.sh", broker::CONSUMER_GROUPS),
    (
        "kafka-console-consumer.sh",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    (
        "kafka-get-offsets.sh",
        "org.apache.kafka.tools.GetOffsetShell",
    ),
];

impl Shell {
    /// In a directory of this name.
    pub fn new(name: &str) -> Self {
        let path = workspace::directory(name);
        for (tool, class) in TOOLS {
            put_tool(&path.join(tool), &broker::tool(class));
        }
        let ringback = Command::new(env!("CARGO_BIN_EXE_ringback"));
        put_tool(&path.join("ringback"), &ringback);
        Self { path }
    }

    /// A command in its words.
    pub fn command(&self, words: &str) -> Command {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", words])
            .current_dir(&self.path)
            .env("PATH", format!("{}:{inherited}", self.path.display()));
        command
    }

    /// Runs a command of README with this test's broker, group and topic in
    /// place of README's, and further words replaced.
    pub fn run(&self, command: &str, broker: &Broker, topic: &str, more: &[(&str, &str)]) -> Said {
        let mut command = command
            .replace("kafka-0:9092", broker.address())
            .replace("--group ringback", &format!("--group {topic}"))
            .replace("--topic call-ended", &format!("--topic {topic}"));
        for (from, to) in more {
            command = command.replace(from, to);
        }
        let done = self.command(&command).output();
        let done = done.expect("every system has sh");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            text: text(&done.stdout) + &text(&done.stderr),
            succeeded: done.status.success(),
        }
    }
}

/// Puts a script there that runs this with further arguments.
fn put_tool(path: &Path, command: &Command) {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("the build directory is UTF-8")))
        .collect();
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
    fs::write(path, script).expect("the build directory is writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
