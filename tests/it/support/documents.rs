//! The documents, and the commands that they tell an operator to run. Tests take
//! both from the files, so that a document that is out of date fails.

use super::broker::{self, Broker};
use super::workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The README.
pub const README: &str = "README.md";
/// The README in Chinese.
pub const README_ZH: &str = "deploy/README.zh.md";
/// The runbook.
pub const RUNBOOK: &str = "deploy/RUNBOOK.md";

/// The text of a document.
#[track_caller]
pub fn text(document: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{document}: {e}"))
}

/// Returns the anchor of a heading.
pub fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Returns the targets of all links of a document.
pub fn links(document: &str) -> Vec<String> {
    let text = text(document);
    let ends = text.split("](").skip(1);
    let link = |rest: &str| rest.split(')').next().map(str::to_owned);
    ends.filter_map(link).collect()
}

/// The text of a section.
#[track_caller]
pub fn section(document: &str, title: &str) -> String {
    let text = text(document);
    let (_, rest) = text
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("{document} has no section {title}"));
    rest.split("\n## ").next().unwrap_or(rest).to_owned()
}

/// The commands of a section's `sh` blocks, one per line.
#[track_caller]
pub fn commands(document: &str, title: &str) -> Vec<String> {
    let section = section(document, title);
    let mut commands = Vec::new();
    for block in section.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or(block);
        commands.extend(block.lines().map(str::to_owned));
    }
    assert!(!commands.is_empty(), "section {title} has no command");
    commands
}

/// The tables of a document: rows of cells, without heading and ruler.
#[track_caller]
pub fn tables(document: &str) -> Vec<Vec<Vec<String>>> {
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    let mut inside = false;
    for line in text(document).lines() {
        let Some(row) = line.strip_prefix("| ").or(line.strip_prefix("|-")) else {
            inside = false;
            continue;
        };
        if line.starts_with("|-") {
            inside = true;
            tables.push(Vec::new());
        } else if inside {
            let row = row.trim_end_matches('|');
            let cells = row.split(" |").map(|cell| cell.trim().to_owned());
            tables.last_mut().expect("inside one").push(cells.collect());
        }
    }
    tables
}

/// The result of a command.
pub struct Said {
    /// Standard output and standard error.
    pub text: String,
    pub succeeded: bool,
}

/// A shell in its own directory. Kafka's tools and ringback are on its path, as on
/// the machine of an operator.
pub struct Shell {
    pub path: PathBuf,
}

/// Kafka's tools and their classes.
const TOOLS: [(&str, &str); 4] = [
    ("kafka-consumer-groups.sh", broker::CONSUMER_GROUPS),
    (
        "kafka-console-consumer.sh",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    (
        "kafka-get-offsets.sh",
        "org.apache.kafka.tools.GetOffsetShell",
    ),
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
];

impl Shell {
    /// Creates the directory with the tools.
    pub fn new(name: &str) -> Self {
        let path = workspace::directory(name);
        for (tool, class) in TOOLS {
            put_tool(&path.join(tool), &broker::tool(class));
        }
        let ringback = Command::new(env!("CARGO_BIN_EXE_ringback"));
        put_tool(&path.join("ringback"), &ringback);
        Self { path }
    }

    /// Returns the command that runs these words.
    pub fn command(&self, words: &str) -> Command {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", words])
            .current_dir(&self.path)
            .env("PATH", format!("{}:{inherited}", self.path.display()));
        command
    }

    /// Runs a command of a document. The broker, group and topic of the test
    /// replace those of the document; `more` has further replacements.
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

/// Writes a script that runs `command` with more arguments.
fn put_tool(path: &Path, command: &Command) {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("the build directory is UTF-8")))
        .collect();
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
    fs::write(path, script).expect("the build directory is writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the test owns it");
}
