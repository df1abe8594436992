//! The program under test as a process.

use super::http;
use super::metrics::Metrics;
use super::process::Process;
use super::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The default of `--drain-timeout`, and a little for a busy machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(13);

/// The demo, the slowest of the commands, promises to end within 60 s.
const COMMAND_LIMIT: Duration = Duration::from_secs(100);

/// The program with these arguments, without settings from the environment.
pub fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGBACK_") {
            command.env_remove(name);
        }
    }
    // None of them has any effect.
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    command.args(arguments);
    command
}

/// The same, started by another program, which gets it as its last arguments.
fn command_in(wrapper: &[String], arguments: &[String]) -> Command {
    let plain = command(arguments);
    let Some((first, rest)) = wrapper.split_first() else {
        return plain;
    };
    let mut wrapped = Command::new(first);
    wrapped
        .args(rest)
        .arg(plain.get_program())
        .args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Runs a command of the program to its end.
#[track_caller]
pub fn output(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    let child = command(&arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (told, hear) = mpsc::channel();
    std::thread::spawn(move || told.send(child.wait_with_output()).ok());
    let Ok(done) = hear.recv_timeout(COMMAND_LIMIT) else {
        kill_process(pid.expect("a process id"), Signal::KILL).ok();
        panic!("{arguments:?} does not end");
    };
    done.expect("its output can be read")
}

/// A running service.
pub struct Ringback {
    process: Process,
    port: u16,
    /// When it was started.
    pub started: Instant,
}

impl Ringback {
    /// Starts it; `--listen` is added.
    pub fn start(name: &str, arguments: &[String], port: u16, log: &Path) -> Self {
        Self::start_in(&[], name, arguments, port, log)
    }

    /// The same, started by another program that becomes it.
    pub fn start_in(
        wrapper: &[String],
        name: &str,
        arguments: &[String],
        port: u16,
        log: &Path,
    ) -> Self {
        let listen = ["--listen".to_owned(), format!("127.0.0.1:{port}")];
        let mut command = command_in(wrapper, &[arguments, &listen].concat());
        let started = Instant::now();
        Self {
            process: Process::start(name, &mut command, log),
            port,
            started,
        }
    }

    /// Waits until `/readyz` says so.
    #[track_caller]
    pub fn ready(mut self) -> Self {
        wait::until("/readyz to answer 200", || {
            let ended = self.process.ended();
            assert!(ended.is_none(), "it ended before it was ready: {ended:?}");
            self.page("/readyz") == Some(200)
        });
        self
    }

    /// The status of a page, or `None` where nothing answers.
    pub fn page(&self, path: &str) -> Option<u16> {
        http::get(self.port, path).map(|(status, _)| status)
    }

    /// What a page says; empty where nothing answers.
    pub fn says(&self, path: &str) -> String {
        http::get(self.port, path).map_or_else(String::new, |(_, text)| text)
    }

    /// The metrics as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let (status, text) = http::get(self.port, "/metrics").expect("/metrics answers");
        assert_eq!(status, 200, "/metrics");
        Metrics::parse(&text)
    }

    /// Waits until the metrics say so.
    #[track_caller]
    pub fn until(&self, what: &str, mut look: impl FnMut(&Metrics) -> bool) {
        wait::until(what, || look(&self.metrics()));
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[allow(dead_code, reason = "the benchmark reads its use of the CPU")]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How it ended, if it has.
    pub fn over(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The same, and keeps the handle.
    pub fn kill_now(&mut self) {
        self.process.kill();
    }

    /// Asks it to drain with SIGTERM, and returns how long that took.
    ///
    /// Panics: when it does not exit 0 in time.
    #[track_caller]
    pub fn drain(mut self) -> Duration {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        let status = self.process.wait(DRAIN_LIMIT);
        assert_eq!(status.code(), Some(0), "a drained service exits 0");
        asked.elapsed()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end by itself; returns the exit code and what it logged.
    #[track_caller]
    pub fn ended(mut self) -> (i32, String) {
        let status = self.process.wait(PATIENCE);
        let code = status.code().expect("it ends without a signal");
        (code, self.log())
    }
}
