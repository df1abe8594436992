//! Signed callbacks, verified by the official libraries of other languages.

use crate::support::receiver::{Behaviour, Post};
use crate::support::scene::{Plan, Scene};
use crate::support::{wait, workspace};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl+Q8p0tE7";

/// Returns an official library's verdict on each request, one line each.
fn verified(program: &str, script: &str, path: (&str, &str), requests: &[Value]) -> Vec<String> {
    let verifiers = workspace::target().join("verifiers");
    let library = verifiers.join(path.1);
    assert!(
        library.is_dir(),
        "{} is missing: tests/run fetches it",
        library.display()
    );
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/verifiers");
    let mut child = Command::new(program)
        .arg(here.join(script))
        .env(path.0, library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
    let mut input = child.stdin.take().expect("it is piped");
    for request in requests {
        writeln!(input, "{request}").expect("it reads all");
    }
    drop(input);
    let done = child.wait_with_output().expect("its output can be read");
    assert!(done.status.success(), "{program}: {}", done.status);
    let text = String::from_utf8(done.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

fn request(post: &Post, secret: &str) -> Value {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<_, _> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(post.header(name))))
        .collect();
    let (_, body) = post.bytes.as_ref().expect("the body is kept");
    let body = std::str::from_utf8(body).expect("records are text");
    json!({ "secret": secret, "headers": headers, "body": body })
}

#[test]
fn official_libraries_verify_every_attempt_with_the_old_and_the_new_secret() {
    let plan = Plan {
        // More than 1 s, so that the second attempt has a different timestamp.
        delays: "1100ms",
        ..Plan::default()
    };
    let mut scene = Scene::new("signatures", plan);
    let secrets = json!({ "secrets": [NEW, OLD] });
    scene.tenant_with("signed", Behaviour::FailFirst(1), &secrets);
    scene.tenant("unsigned", Behaviour::Ok);
    let ringback = scene.run("a");
    scene.publish_record("call-1", "signed");
    scene.publish_record("call-2", "unsigned");
    scene.until_delivered();

    let posts = scene.receiver.posts_of("call-1");
    assert_eq!(posts.len(), 2);
    let header = |at: usize, name| posts[at].header(name).expect("a signed request").to_owned();
    for name in ["webhook-timestamp", "webhook-signature"] {
        assert_ne!(header(0, name), header(1, name), "{name} is the attempt's");
    }
    assert_eq!(header(0, "webhook-id"), header(1, "webhook-id"));

    let mut requests = Vec::new();
    for post in &posts {
        requests.extend([NEW, OLD, OTHER].map(|secret| request(post, secret)));
    }
    let mut changed = request(&posts[0], NEW);
    changed["body"] = json!(format!("{} ", changed["body"].as_str().expect("text")));
    requests.push(changed);
    let refused = "WebhookVerificationError";
    let expected = [
        "signed", "signed", refused, "signed", "signed", refused, refused,
    ];
    let python = ("PYTHONPATH", "python");
    assert_eq!(
        verified("python3", "verify.py", python, &requests),
        expected
    );
    let node = ("NODE_PATH", "node_modules");
    assert_eq!(verified("node", "verify.js", node, &requests), expected);

    let unsigned = wait::until_some("the POST", wait::PATIENCE, || {
        scene.receiver.posts_of("call-2").pop()
    });
    assert_eq!(unsigned.header("webhook-signature"), None);
    let log = ringback.log();
    for secret in [NEW, OLD] {
        assert!(
            !log.contains(&secret["whsec_".len()..]),
            "a secret in the log"
        );
    }
    ringback.drain();
}
