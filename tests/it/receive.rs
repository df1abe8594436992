//! `ringback receive`, as the tenant of a running service, and against requests
//! that no service sends.

use crate::support::process::Process;
use crate::support::receiver::Behaviour;
use crate::support::sample::{EXAMPLE, EXAMPLE_ID, EXAMPLE_TENANT, PHONE_NUMBER};
use crate::support::scene::{Plan, Scene};
use crate::support::{http, ports, ringback, wait, workspace};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A running `ringback receive`. Its two outputs go to files.
struct Tenant {
    process: Process,
    port: u16,
    shown: PathBuf,
}

impl Tenant {
    fn start(name: &str, arguments: &[&str], secret: Option<&str>) -> Self {
        let port = ports::free();
        let directory = workspace::directory(name);
        let shown = directory.join("stdout");
        let listen = format!("127.0.0.1:{port}");
        let all = [&["receive", "--listen", &listen], arguments].concat();
        let all: Vec<String> = all.iter().map(|&a| a.to_owned()).collect();
        // The shell separates the two outputs, and becomes the program.
        let mut command = Command::new("sh");
        let program = ringback::command(&all);
        let script = r#"exec "$0" "$@" >"$SHOWN""#;
        command.args(["-c", script]).arg(program.get_program());
        command.args(program.get_args()).env("SHOWN", &shown);
        if let Some(secret) = secret {
            command.env("RINGBACK_SECRET", secret);
        }
        let process = Process::start(name, &mut command, &directory.join("stderr"));
        let tenant = Self {
            process,
            port,
            shown,
        };
        wait::until("the receiver to listen", || http::get(port, "/").is_some());
        tenant
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.shown).expect("it prints UTF-8")
    }

    /// Returns its whole JSON lines so far.
    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        whole.map(|l| serde_json::from_str(l).expect(l)).collect()
    }

    #[track_caller]
    fn lines_of(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} callbacks shown");
        wait::until_some(&what, wait::PATIENCE, || {
            let lines = self.lines();
            (lines.len() >= count).then_some(lines)
        })
    }

    fn settings(&self) -> Value {
        let url = format!("http://127.0.0.1:{}/call-ended", self.port);
        json!({ "url": url, "secrets": [SECRET] })
    }

    /// Sends bytes. Returns the status of the answer, if there is one.
    fn send(&self, bytes: &[u8]) -> Option<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(bytes).expect("it reads");
        let mut answer = String::new();
        stream
            .set_read_timeout(Some(wait::PATIENCE))
            .expect("a socket");
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    fn post(&self, body: &[u8]) -> Option<u16> {
        let length = body.len();
        let head = format!(
            "POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    /// Ends it. Returns its last line on standard error.
    #[track_caller]
    fn end(mut self) -> String {
        self.process.signal(Signal::TERM);
        let status = self.process.wait(wait::PATIENCE);
        assert_eq!(status.code(), Some(0));
        let log = self.process.log();
        log.lines().last().unwrap_or_default().to_owned()
    }
}

#[test]
fn each_attempt_is_one_line_verified_and_counted() {
    let tenant = Tenant::start(
        "receive-lines",
        &["--format", "json", "--answer", "503"],
        Some(SECRET),
    );
    let plan = Plan {
        attempts: 3,
        ..Plan::default()
    };
    let mut scene = Scene::new("receive", plan);
    scene.tenant_with(EXAMPLE_TENANT, Behaviour::Ok, &tenant.settings());
    let ringback = scene.run("a");
    scene.send(&scene.topic, None, Some(EXAMPLE), &[]);
    scene.dead_letters_of(1);

    let lines = tenant.lines_of(3);
    assert_eq!(lines.len(), 3);
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["id"], EXAMPLE_ID);
        assert_eq!(
            (&line["attempt"], &line["seen"]),
            (&json!(number), &json!(number))
        );
        assert_eq!(
            (&line["signature"], &line["answer"]),
            (&json!("verified"), &json!(503))
        );
        assert_eq!(
            (&line["problem"], &line["answeredBefore"]),
            (&Value::Null, &json!(false))
        );
        assert_eq!(line["bytes"], EXAMPLE.len());
        assert_eq!(
            line["body"]["data"].as_object().map(|data| data.len()),
            Some(31)
        );
    }
    ringback.drain();
    let last = tenant.end();
    assert!(
        last.ends_with("3 callbacks, 2 of them seen before, 3 verified"),
        "{last}"
    );
}

#[test]
fn a_wrong_secret_is_reported_and_no_secret_is_printed() {
    let wrong = Tenant::start("receive-wrong", &[], Some(OTHER));
    let mut scene = Scene::new("receive-wrong", Plan::default());
    scene.tenant_with(EXAMPLE_TENANT, Behaviour::Ok, &wrong.settings());
    let ringback = scene.run("a");
    scene.send(&scene.topic, None, Some(EXAMPLE), &[]);
    ringback.until("the delivery", |metrics| metrics.disposed("delivered") == 1);
    let text = wrong.text();
    for part in [
        "NOT VERIFIED: wrong secret",
        PHONE_NUMBER,
        "话后时间",
        "after-call work",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(!text.contains("whsec_") && !wrong.process.log().contains("whsec_"));
    ringback.drain();
    wrong.end();
}

#[test]
fn a_sender_that_does_not_wait_is_reported() {
    let silent = Tenant::start("receive-silent", &["--silent"], None);
    let mut scene = Scene::new("receive-silent", Plan::default());
    scene.tenant_with(EXAMPLE_TENANT, Behaviour::Ok, &silent.settings());
    let ringback = scene.start("a", &["--timeout", "300ms"]).ready();
    scene.send(&scene.topic, None, Some(EXAMPLE), &[]);
    let hung_up = format!("{EXAMPLE_ID}: the sender hung up after");
    wait::until("the sender to hang up twice", || {
        silent.process.log().matches(&hung_up).count() >= 2
    });
    assert!(
        silent
            .text()
            .contains("signed, not verified: give --secret")
    );
    ringback.kill();
    silent.end();
}

#[test]
fn bodies_that_are_no_callback_are_shown_and_answered() {
    let tenant = Tenant::start("receive-garbage", &["--format", "json"], None);
    let large = vec![b'x'; 10_000_000];
    let huge = vec![b' '; 17 * 1024 * 1024];
    for (body, status, shown) in [
        (&b""[..], 200, "empty"),
        (b"\x1b[2J\x1b]0;taken\x07", 200, "not JSON"),
        (b"{\"data\":\"\xff\xfe\"}", 200, "not JSON"),
        (b"[{\"data\":{}}]", 200, "not a callback"),
        (&large, 200, "not JSON"),
        (&huge, 413, "above 16 MiB"),
        (EXAMPLE, 200, ""),
    ] {
        let before = tenant.lines().len();
        let answered = tenant.post(body);
        let line = tenant.lines_of(before + 1).pop().expect("one more");
        let problem = line["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(shown) && problem.is_empty() == shown.is_empty());
        // The rest of a too large body is not read, which may look like a reset.
        if status != 413 {
            assert_eq!((answered, &line["answer"]), (Some(status), &json!(status)));
            assert_eq!(line["bytes"], body.len());
        }
    }
    assert!(!tenant.text().contains('\u{1b}'));
    assert_eq!(
        tenant.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n"),
        Some(400)
    );
    wait::until("the notice", || {
        tenant.process.log().contains("what came is not HTTP")
    });
    assert_eq!(
        tenant.send(b"PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        Some(405)
    );

    // Slow, and cut off in the middle.
    let before = tenant.lines().len();
    let slow = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{\"d";
    assert_eq!(tenant.send(slow), Some(408));
    let mut cut = TcpStream::connect(("127.0.0.1", tenant.port)).expect("it listens");
    cut.write_all(slow).expect("it reads");
    cut.shutdown(Shutdown::Both).expect("a socket");
    let lines = tenant.lines_of(before + 2);
    for (line, expected) in lines[before..]
        .iter()
        .zip(["no end of the body", "cut off"])
    {
        let problem = line["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(expected), "{line}");
    }
    tenant.end();
}

#[test]
fn it_ends_when_its_output_has_no_reader() {
    let port = ports::free();
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["receive", "--listen", &listen].map(str::to_owned);
    let mut child = ringback::command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    wait::until("the receiver to listen", || http::get(port, "/").is_some());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .expect("it reads");
    let status = wait::until_some("its end", Duration::from_secs(20), || {
        child.try_wait().expect("a child can be waited for")
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_verifies_reaches_the_local_program_as_it_came_and_nothing_else_does() {
    let scene = Scene::new("receive-forward", Plan::default());
    let url = scene.receiver.url("local");
    let arguments = ["--format", "json", "--forward", &url];
    let tenant = Tenant::start("receive-forward", &arguments, Some(SECRET));
    let mut scene = scene;
    scene.tenant_with(EXAMPLE_TENANT, Behaviour::Ok, &tenant.settings());
    scene.receiver.behave("local", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.send(&scene.topic, None, Some(EXAMPLE), &[]);
    ringback.until("the delivery", |metrics| metrics.disposed("delivered") == 1);
    assert_eq!(tenant.post(EXAMPLE), Some(401));
    ringback.drain();

    let posts = scene.receiver.posts_of(EXAMPLE_ID);
    assert_eq!(posts.len(), 2, "what is not signed is not forwarded");
    for (post, attempt) in posts.iter().zip(["1", "2"]) {
        assert_eq!(
            post.bytes.as_ref().map(|(_, body)| &body[..]),
            Some(EXAMPLE)
        );
        assert_eq!(post.header("ringback-attempt"), Some(attempt));
        assert!(post.header("webhook-signature").is_some());
    }
    let lines = tenant.lines_of(3);
    let answers: Vec<_> = lines.iter().map(|line| line["answer"].as_u64()).collect();
    assert_eq!(answers, [Some(503), Some(200), Some(401)]);
    tenant.end();
}
