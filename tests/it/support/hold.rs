//! Holds one thread of a process for as long as a test wants, as a call that hangs
//! would. It uses ptrace, so that the program under test is unmodified and its
//! other threads go on.

use super::wait;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that is held until this is dropped or the process ends.
pub struct Hold {
    release: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Hold {
    /// Holds the threads of this name, once there are any.
    #[track_caller]
    pub fn threads(pid: u32, name: &str) -> Vec<Self> {
        let what = format!("threads {name} of process {pid}");
        wait::until_some(&what, wait::PATIENCE, || {
            let threads = threads_named(pid, name).into_iter();
            let held: Vec<Self> = threads.filter_map(Self::thread).collect();
            (!held.is_empty()).then_some(held)
        })
    }

    /// Returns `None` where the thread has ended meanwhile.
    fn thread(thread: Pid) -> Option<Self> {
        let (release, released) = channel();
        let (told, held) = channel();
        // Only the thread that holds may let go.
        let tracer = std::thread::spawn(move || trace(thread, &told, &released));
        match held.recv_timeout(wait::PATIENCE) {
            Ok(()) => Some(Self {
                release: Some(release),
                tracer: Some(tracer),
            }),
            Err(RecvTimeoutError::Disconnected) => {
                tracer
                    .join()
                    .expect("a thread of our own child can be held");
                None
            }
            Err(RecvTimeoutError::Timeout) => panic!("a thread is not held"),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            let ended = tracer.join();
            assert!(ended.is_ok() || std::thread::panicking(), "holding failed");
        }
    }
}

/// The threads of a process that have this name now.
pub fn threads_named(pid: u32, name: &str) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let named = tasks.flatten().filter(|task| {
        // A thread may end while we look.
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        comm.trim_end() == name
    });
    named
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

fn trace(thread: Pid, told: &Sender<()>, released: &Receiver<()>) {
    const OWN: WaitPidFlag = WaitPidFlag::__WALL;
    match ptrace::seize(thread, ptrace::Options::empty()) {
        // It has ended since it was listed.
        Err(Errno::ESRCH) => return,
        seized => seized.expect("our own child may be traced"),
    }
    ptrace::interrupt(thread).expect("a traced thread can be interrupted");
    let stopped = waitpid(thread, Some(OWN)).expect("a traced thread can be waited for");
    assert!(
        matches!(
            stopped,
            WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)
        ),
        "{stopped:?}"
    );
    told.send(()).expect("the test waits");
    while let Err(RecvTimeoutError::Timeout) = released.recv_timeout(Duration::from_millis(20)) {
        // A thread that is killed is gone only once its tracer knows, and its
        // process only after that.
        match waitpid(thread, Some(OWN | WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) | Err(_) => return,
        }
    }
    // Gone where the process has ended meanwhile.
    ptrace::detach(thread, None).ok();
}
