//! Child processes that never outlive the tests. Each is killed when its handle is
//! dropped. If the tests themselves are killed, a shell that waits for the end of
//! its standard input kills them.

use super::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

/// A child process with its log.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it; both its outputs are appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = OpenOptions::new().create(true).append(true).open(log);
        let out = out.expect("the log's directory exists");
        let err = out.try_clone().expect("a file can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("starting {name}: {e}"));
        REAPER.watch(child.id());
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            ended: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log exists")).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("the process was not waited for");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                REAPER.forget(self.pid());
            }
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// Panics: when it has not ended after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {} (log: {})", self.name, self.log.display());
        wait::until_some(&what, limit, || self.ended())
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            self.wait(wait::PATIENCE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines = log.lines().rev().filter(|line| !is_of_a_record(line));
            let tail: Vec<&str> = lines.take(25).collect();
            let (name, log) = (&self.name, self.log.display());
            eprintln!("--- end of {name}'s log, without failed attempts ({log}):");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
        if self.ended.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
            REAPER.forget(self.pid());
        }
    }
}

/// A line of ringback's log about a single record, of which there are many.
fn is_of_a_record(line: &str) -> bool {
    line.contains("\"attempt failed\"") || line.contains("\"log lines were left out\"")
}

/// The shell that ends what the tests could not.
struct Reaper {
    shell: Mutex<Child>,
}

static REAPER: LazyLock<Reaper> = LazyLock::new(|| {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        live=' '
        while read -r what pid; do
            case $what in
                watch) live="$live$pid " ;;
                forget) live="${live%% $pid *} ${live#* $pid }" ;;
            esac
        done
        for pid in $live; do kill -9 "$pid" 2>/dev/null; done
    "#;
    let shell = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Reaper {
        shell: Mutex::new(shell.expect("every system has sh")),
    }
});

impl Reaper {
    fn watch(&self, pid: u32) {
        self.tell("watch", pid);
    }

    fn forget(&self, pid: u32) {
        self.tell("forget", pid);
    }

    fn tell(&self, what: &str, pid: u32) {
        let mut shell = self.shell.lock().expect("no holder panics");
        let input = shell.stdin.as_mut().expect("standard input is piped");
        writeln!(input, "{what} {pid}").expect("the shell reads until we end");
    }
}

/// The most memory that a process had, in KiB.
pub fn resident_max_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    peak.and_then(|kib| kib.parse().ok())
        .expect("Linux reports it")
}

/// How many sockets a process has open.
pub fn sockets(pid: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let is_socket = |path: &std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    targets.filter(is_socket).count()
}
