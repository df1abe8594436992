//! Spawns the threads of the service, and remembers the first one that panicked.
//! Decides nothing.

use crate::kafka::Job;
use std::sync::OnceLock;
use std::thread;

/// The first thread that panicked. Its work stops for good: a restart heals that.
static PANICKED: OnceLock<&'static str> = OnceLock::new();

/// Spawns a thread for a job of a shell.
///
/// Panics: where the system refuses a thread; there is no service without it.
pub fn spawn(job: Job) {
    let Job { name, run } = job;
    let thread = thread::Builder::new().name(name.to_owned());
    thread
        .spawn(move || {
            let guard = PanicGuard { name };
            run();
            drop(guard);
        })
        .expect("the system gives the service its few threads");
}

/// Returns the name of the first thread that panicked, if one did.
#[must_use]
pub fn panicked() -> Option<&'static str> {
    PANICKED.get().copied()
}

struct PanicGuard {
    name: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            // Only the first one counts.
            let _ = PANICKED.set(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn job(name: &'static str, run: impl FnOnce() + Send + 'static) -> Job {
        let run = Box::new(run);
        Job { name, run }
    }

    #[test]
    fn a_thread_that_panics_is_remembered_and_one_that_returns_is_not() {
        let (returned, wait) = mpsc::channel();
        spawn(job("returns", move || returned.send(()).expect("open")));
        wait.recv().expect("it returns");
        // A wrong record of the thread that returned would stay the first one.
        spawn(job("panics", || panic!("on purpose")));
        while panicked().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(panicked(), Some("panics"));
    }
}
