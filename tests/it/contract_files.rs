//! The contract as data. The files of `deploy/contract` and the tables of the
//! guides equal the program's output. Public validators accept them. Clients that a
//! public generator makes from them parse a callback.

use crate::deploy::{repository, stdout_of as output};
use crate::support::sample::EXAMPLE;
use crate::support::{ringback, workspace};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Returns what `ringback contract` prints.
fn printed(arguments: &[&str]) -> String {
    let done = ringback::output(&[&["contract"], arguments].concat());
    assert_eq!(done.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(done.stdout).expect("it prints UTF-8")
}

/// Returns a script of `tests/it/verifiers`, to be run by Node.
fn node(script: &str) -> Command {
    let modules = workspace::target().join("verifiers/node_modules");
    let has_all = modules.join("quicktype-core").is_dir();
    assert!(
        has_all,
        "{} lacks packages: tests/run fetches them",
        modules.display()
    );
    let mut command = Command::new("node");
    command.arg(repository("tests/it/verifiers").join(script));
    command.env("NODE_PATH", modules);
    command
}

#[test]
fn the_files_equal_the_programs_output() {
    for (arguments, path) in [
        (
            &["json-schema"][..],
            "deploy/contract/call-ended.schema.json",
        ),
        (&["openapi"], "deploy/contract/openapi.yaml"),
        (&["markdown", "--lang", "zh"], "deploy/tenant-guide.zh.md"),
        (&["markdown", "--lang", "en"], "deploy/tenant-guide.en.md"),
    ] {
        let printed = printed(arguments);
        let file = fs::read_to_string(repository(path)).expect("a file");
        let is_same = file == printed || arguments.len() > 1 && file.contains(&printed);
        assert!(is_same, "{path} must hold:\n{printed}");
    }
    let wrong = ringback::output(&["contract", "markdown", "--lang", "fr"]);
    assert_eq!(wrong.status.code(), Some(2));
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("--lang: 'fr' is not one of zh, en"), "{text}");
}

#[test]
fn public_validators_accept_the_files_and_the_schema_takes_what_the_contract_allows() {
    let example: Value = serde_json::from_slice(EXAMPLE).expect("JSON");
    let with = |change: fn(&mut Value)| {
        let mut body = example.clone();
        change(&mut body["data"]);
        body
    };
    let lines = [
        (example.clone(), true),
        // An unlisted value, an unlisted field, an empty one, and a missing one.
        (with(|data| data["callType"] = json!(77)), true),
        (with(|data| data["more"] = json!({})), true),
        (with(|data| data["staffName"] = Value::Null), true),
        (
            json!({"data": {"id": "a", "tenantId": "t", "taskId": i64::MAX}}),
            true,
        ),
        (with(|data| data["id"] = json!("")), false),
        (
            with(|data| data["createTime"] = json!("1605318636358")),
            false,
        ),
        (json!({"data": {"id": "a"}}), false),
        (example["data"].clone(), false),
    ];
    let input: String = lines.iter().map(|(body, _)| format!("{body}\n")).collect();
    let mut validate = node("validate.js");
    for file in ["call-ended.schema.json", "openapi.yaml"] {
        validate.arg(repository("deploy/contract").join(file));
    }
    let verdicts = output(&mut validate, &input);
    let expected: String = lines.iter().map(|(_, fits)| format!("{fits}\n")).collect();
    assert_eq!(verdicts, expected + "3.1\n");
}

#[test]
fn a_public_validator_accepts_the_schema_of_the_attempt_log() {
    let path = repository("deploy/contract/attempt.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
    let example = &schema["examples"][0];
    let with = |name: &str, value: Value| {
        let mut entry = example.clone();
        entry[name] = value;
        entry
    };
    let more = with("added", json!(true));
    let (eleventh, unknown) = (with("attempt", json!(11)), with("outcome", json!("ok")));
    let input = format!("{example}\n{more}\n{eleventh}\n{unknown}\n");
    let verdicts = output(node("validate.js").arg(path), &input);
    assert_eq!(verdicts, "true\ntrue\nfalse\nfalse\n");
}

#[test]
fn generated_clients_of_typescript_and_java_parse_a_callback() {
    let directory = workspace::directory("contract-clients");
    let mut clients = node("clients.js");
    clients.arg(repository("deploy/contract/call-ended.schema.json"));
    output(clients.arg(&directory), "");

    let body = directory.join("body.json");
    let mut example: Value = serde_json::from_slice(EXAMPLE).expect("JSON");
    example["data"]["taskId"] = json!(9_007_199_254_740_995_i64);
    fs::write(&body, example.to_string()).expect("a writable directory");

    let script = "const { Convert } = require('./CallEnded.js');
        const call = Convert.toCallEnded(require('fs').readFileSync('body.json', 'utf8')).data;
        console.log(call.id, call.communicateEndTime)";
    let mut node = Command::new("node");
    let text = output(node.current_dir(&directory).args(["-e", script]), "");
    assert_eq!(text, "0605589a-c1f7-47a5-b75c-3e639e1b928a 1606188571000\n");

    let libraries = workspace::target().join("kafka/libs/*");
    let path = format!("{}:{}", directory.display(), libraries.display());
    let mut java = Command::new("java");
    java.current_dir(&directory).args(["-cp", &path]);
    java.arg(repository("tests/it/verifiers/Parse.java"))
        .arg(&body);
    let mut compiler = Command::new("javac");
    compiler
        .current_dir(&directory)
        .args(["-cp", &path, "-d", "."]);
    output(
        compiler.args(["client/CallEnded.java", "client/Data.java"]),
        "",
    );
    let text = output(&mut java, "");
    let exact = "0605589a-c1f7-47a5-b75c-3e639e1b928a 9007199254740995 1606188571000\n";
    assert_eq!(text, exact);
}
