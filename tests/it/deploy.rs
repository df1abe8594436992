//! What lies in deploy/ and the compose file: taken by the programs that read
//! them, and true of the program that they run.

mod compose;
mod image;
mod kubernetes;

use crate::support::workspace;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A place in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The tools that tests/prepare has fetched.
fn tools() -> PathBuf {
    let tools = workspace::target().join("deploy-tools");
    assert!(
        tools.is_dir(),
        "{} is missing: tests/run fetches it",
        tools.display()
    );
    tools
}

/// A fetched program, which finds its libraries.
fn tool(name: &str) -> Command {
    let mut command = Command::new(tools().join("python/bin").join(name));
    command.env("PYTHONPATH", tools().join("python"));
    command
}

/// Runs a command with this input to its end.
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

/// What a command prints; it must succeed.
#[track_caller]
fn told(command: &mut Command, input: &str) -> String {
    let done = run(command, input);
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {out}\n{error}");
    out
}

/// The documents of a YAML text.
fn documents(yaml: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut python = Command::new("python3");
    python.args(["-c", script]);
    python.env("PYTHONPATH", tools().join("python"));
    let json = told(&mut python, yaml);
    serde_json::from_str(&json).expect("it prints JSON")
}

/// The strings of a list.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

/// The one at this path; it must be there.
#[track_caller]
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value
        .pointer(pointer)
        .unwrap_or_else(|| panic!("no {pointer} in {value}"))
}
