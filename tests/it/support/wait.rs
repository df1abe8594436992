//! Waiting for a state. Nothing in the tests sleeps for a time and hopes.

use std::panic;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a state may take that is normally reached in seconds: far more
/// than it needs, so that a busy machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A look often asks a process for all its metrics: more looks would cost the tests
/// beside this one their processor.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see.
///
/// Panics: when there is nothing after `limit`.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Looks until it is so, for [`PATIENCE`] at most.
#[track_caller]
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    until_some(what, PATIENCE, || look().then_some(()));
}

/// Checks that it stays so for this long: for what must not happen.
#[track_caller]
pub fn stays(what: &str, span: Duration, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while started.elapsed() < span {
        assert!(look(), "no longer so after {:?}: {what}", started.elapsed());
        thread::sleep(LOOK_EVERY);
    }
}

/// Makes a call of librdkafka that has no limit of its own, in another thread. Returns
/// its answer, or nothing when it has not returned after [`PATIENCE`].
///
/// Panics: when the call panics.
pub fn answer<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, answered) = mpsc::channel();
    let caller = thread::spawn(move || answer.send(call()).is_ok());
    match answered.recv_timeout(PATIENCE) {
        Ok(value) => Some(value),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            panic::resume_unwind(caller.join().expect_err("it sent no answer"))
        }
    }
}
