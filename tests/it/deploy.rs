//! The files in deploy/ and the compose file: the programs that read them accept
//! them, and they fit the program that they run.

mod compose;
#[cfg(target_arch = "x86_64")]
mod helm;
mod image;
mod kubernetes;
mod systemd;

use crate::support::workspace;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Returns a path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Returns the folder of the tools that tests/prepare has fetched.
fn tools() -> PathBuf {
    let tools = workspace::target().join("deploy-tools");
    assert!(
        tools.is_dir(),
        "{} is missing: tests/run fetches it",
        tools.display()
    );
    tools
}

/// Returns a fetched program with its libraries' path.
fn tool(name: &str) -> Command {
    let mut command = Command::new(tools().join("python/bin").join(name));
    command.env("PYTHONPATH", tools().join("python"));
    command
}

/// Runs a command to its end with this input.
fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().expect("its output can be read")
}

/// Returns the output of a command, which must succeed.
#[track_caller]
pub fn stdout_of(command: &mut Command, input: &str) -> String {
    let done = run(command, input);
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {out}\n{error}");
    out
}

/// Returns the documents of a YAML text.
fn documents(yaml: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut python = Command::new("python3");
    python.args(["-c", script]);
    python.env("PYTHONPATH", tools().join("python"));
    let json = stdout_of(&mut python, yaml);
    serde_json::from_str(&json).expect("it prints JSON")
}

/// Returns the strings of a list.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

/// Returns the value at this path, which must exist.
#[track_caller]
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value
        .pointer(pointer)
        .unwrap_or_else(|| panic!("no {pointer} in {value}"))
}
