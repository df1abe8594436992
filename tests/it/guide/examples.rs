//! The guides' programs as tenants of a running service, and the guides' shell
//! lines.

use super::{GUIDES, Guide};
use crate::support::process::Process;
use crate::support::receiver::{Behaviour, Post};
use crate::support::scene::{Plan, Scene};
use crate::support::{http, ports, wait, workspace};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A language of the guides' receivers: its fence, its program, its file, and the
/// variable and folder of the official library, if it needs one.
struct Language {
    fence: &'static str,
    program: &'static str,
    file: &'static str,
    library: Option<(&'static str, &'static str)>,
}

const LANGUAGES: [Language; 3] = [
    Language {
        fence: "python",
        program: "python3",
        file: "receiver.py",
        library: Some(("PYTHONPATH", "python")),
    },
    Language {
        fence: "javascript",
        program: "node",
        file: "receiver.js",
        library: Some(("NODE_PATH", "node_modules")),
    },
    Language {
        fence: "java",
        program: "java",
        file: "Receiver.java",
        library: None,
    },
];

/// A running receiver of a guide.
struct Example {
    tenant: String,
    port: u16,
    process: Process,
}

impl Example {
    fn start(guide: &Guide, language: &Language, secrets: &str) -> Self {
        let blocks = guide.blocks(language.fence);
        assert_eq!(blocks.len(), 1, "{}: {}", guide.name, language.fence);
        let tenant = format!("{}-{}", &guide.name[..15], language.fence);
        let directory = workspace::directory(&format!("guide-{tenant}"));
        let file = directory.join(language.file);
        fs::write(&file, blocks[0]).expect("the build directory is writable");
        let port = ports::free();
        let mut command = Command::new(language.program);
        command.arg(&file).env("PORT", port.to_string());
        command.env("CALLBACK_SECRETS", secrets);
        if let Some((variable, library)) = language.library {
            let path = workspace::target().join("verifiers").join(library);
            assert!(
                path.is_dir(),
                "{} is missing: tests/run fetches it",
                path.display()
            );
            command.env(variable, path);
        }
        let process = Process::start(&tenant, &mut command, &directory.join("log"));
        Self {
            tenant,
            port,
            process,
        }
    }

    /// Sends a request. Returns the status of the answer.
    fn send(&self, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let mut head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("it reads");
        stream.write_all(body).expect("it reads");
        let mut answer = String::new();
        stream
            .set_read_timeout(Some(wait::PATIENCE))
            .expect("a socket");
        stream
            .read_to_string(&mut answer)
            .expect("it answers and closes");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
        status.unwrap_or_else(|| panic!("{}: {answer}", self.tenant))
    }
}

/// Returns the signed headers of a received POST, one of them replaced.
fn headers<'p>(post: &'p Post, other: Option<(&str, &'p str)>) -> Vec<(&'static str, &'p str)> {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let value = |name| match other {
        Some((replaced, value)) if replaced == name => value,
        _ => post.header(name).expect("a signed request"),
    };
    names.into_iter().map(|name| (name, value(name))).collect()
}

/// Starts the receivers of both guides, each as a tenant.
fn start_examples(scene: &mut Scene<'_>) -> Vec<Example> {
    let mut examples = Vec::new();
    // The first guide's receivers still have the old secret.
    for (guide, secrets) in GUIDES.iter().zip([OLD.to_owned(), format!("{NEW},{OLD}")]) {
        for language in &LANGUAGES {
            let example = Example::start(guide, language, &secrets);
            let url = format!("http://127.0.0.1:{}/call-ended", example.port);
            let more = json!({ "url": url, "secrets": [NEW, OLD] });
            scene.tenant_with(&example.tenant, Behaviour::Ok, &more);
            examples.push(example);
        }
    }
    for example in &examples {
        let what = format!("{} to listen", example.tenant);
        wait::until(&what, || {
            TcpStream::connect(("127.0.0.1", example.port)).is_ok()
        });
    }
    examples
}

#[test]
fn the_receivers_accept_signed_callbacks_and_refuse_tampered_ones() {
    let mut scene = Scene::new("guide", Plan::default());
    let examples = start_examples(&mut scene);
    let secrets = json!({ "secrets": [NEW, OLD] });
    scene.tenant_with("watched", Behaviour::Ok, &secrets);
    let ringback = scene.run("a");
    for example in &examples {
        scene.publish_record(&format!("call-of-{}", example.tenant), &example.tenant);
    }
    scene.publish_record("watched-call", "watched");
    ringback.until("every delivery", |metrics| {
        metrics.disposed("delivered") == 1 + examples.len() as u64
    });
    assert_eq!(
        ringback.metrics().disposed("delayed"),
        0,
        "each at the first attempt"
    );

    let post = &scene.receiver.posts_of("watched-call")[0];
    let (_, body) = post.bytes.as_ref().expect("the body is kept");
    let mut tampered = body.clone();
    let at = tampered
        .iter()
        .position(|byte| *byte == b'5')
        .expect("a digit");
    tampered[at] = b'6';
    let timestamp: u64 = post
        .header("webhook-timestamp")
        .and_then(|t| t.parse().ok())
        .expect("a number");
    let later = (timestamp + 1).to_string();
    for example in &examples {
        check_example(example, post, &tampered, &later);
    }
    ringback.drain();
}

/// Checks a receiver's answers to a post, to its repeat, and to changed ones.
fn check_example(example: &Example, post: &Post, tampered: &[u8], later: &str) {
    let (_, body) = post.bytes.as_ref().expect("the body is kept");
    let tenant = &example.tenant;
    let send = |other, body: &[u8]| example.send(&headers(post, other), body);
    assert_eq!(send(None, body), 204, "{tenant}: as it was sent");
    assert_eq!(send(None, body), 204, "{tenant}: a repeat");
    assert_eq!(send(None, tampered), 401, "{tenant}: another body");
    assert_eq!(
        send(Some(("webhook-timestamp", later)), body),
        401,
        "{tenant}: another time"
    );
    assert_eq!(
        send(Some(("webhook-id", "other")), body),
        401,
        "{tenant}: another id"
    );
    assert_eq!(
        send(Some(("webhook-signature", "v1,x")), body),
        401,
        "{tenant}"
    );
    assert_eq!(example.send(&[], body), 401, "{tenant}: not signed");
    assert_eq!(
        example.send(&headers(post, None)[..2], body),
        401,
        "{tenant}: not signed"
    );
    let log = example.process.log();
    let received = |id: &str| log.matches(&format!("received {id}")).count();
    assert_eq!(
        received("watched-call"),
        1,
        "{tenant}: the repeat is dropped"
    );
    assert_eq!(received(&format!("call-of-{tenant}")), 1, "{tenant}");
}

/// Returns a line of shell. The built program is first in its path, and `port`
/// replaces the guides' port.
fn shell(text: &str, port: u16) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_ringback"));
    let folder = program.parent().expect("the program is in a folder");
    let path = std::env::var("PATH").expect("there is a path");
    let mut command = Command::new("sh");
    command.args(["-e", "-c", &text.replace("8080", &port.to_string())]);
    command.env("PATH", format!("{}:{path}", folder.display()));
    command
}

#[track_caller]
fn stdout_of(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("there is a shell");
    let error = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {error}");
    String::from_utf8(stdout).expect("text")
}

/// Starts `ringback receive` by a line of a guide.
fn receive(line: &str, name: &str) -> (Process, u16) {
    let port = ports::free();
    let log = workspace::directory("guide-shell").join(name);
    let line = format!("exec {line} --listen 127.0.0.1:{port}");
    let process = Process::start(name, &mut shell(&line, port), &log);
    wait::until("the receiver to listen", || http::get(port, "/").is_some());
    (process, port)
}

#[test]
fn the_shell_lines_work() {
    for guide in GUIDES.iter() {
        let blocks = guide.blocks("sh");
        let [secret, lines, signed] = blocks.as_slice() else {
            panic!("{}: {} shell blocks", guide.name, blocks.len());
        };
        for (number, line) in lines.lines().enumerate() {
            let name = format!("{}-{number}", guide.name);
            let (process, port) = receive(line, &name);
            if line.contains("--secret") {
                // With the guide's secret, which is the default of its lines.
                let answer = stdout_of(shell(signed, port));
                // Nothing listens where the guide's line forwards to.
                let forwards = line.contains("--forward");
                assert!(forwards || answer.starts_with("HTTP/1.1 200"), "{answer}");
                let log = process.log();
                let verified = "webhook-signature      verified";
                assert!(log.contains(verified), "{log}");
            }
        }
        let new_secret = stdout_of(shell(secret, 0));
        let new_secret = new_secret.trim();
        let (process, port) = receive(
            &format!("ringback receive --secret {new_secret}"),
            guide.name,
        );
        let mut command = shell(signed, port);
        command.env("SECRET", new_secret);
        stdout_of(command);
        // The same, with a body that is changed after signing.
        let tampered = signed.replace("--data-binary \"$body\"", "--data-binary \"$body \"");
        let mut command = shell(&tampered, port);
        command.env("SECRET", new_secret);
        stdout_of(command);
        let log = process.log();
        assert_eq!(log.matches("  verified\n").count(), 1, "{log}");
        assert_eq!(
            log.matches("NOT VERIFIED: wrong secret").count(),
            1,
            "{log}"
        );
    }
}
