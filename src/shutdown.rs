//! Turns signals into a [`ShutdownPhase`]. The runner spawns the future and watches
//! the phase. Never ends anything itself. Runs as a task on the runner's runtime.

use std::fmt;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The requested state of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ShutdownPhase {
    Running,
    /// End within the drain timeout, after the attempts in progress.
    Draining,
    /// End at once.
    Closed,
}

impl ShutdownPhase {
    /// Returns the phase after one more signal.
    #[must_use]
    pub const fn after_signal(self) -> Self {
        match self {
            Self::Running => Self::Draining,
            Self::Draining | Self::Closed => Self::Closed,
        }
    }
}

/// The signal handlers cannot be installed.
#[derive(Debug)]
pub struct SignalError(io::Error);

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot listen for SIGTERM and SIGINT")
    }
}

impl std::error::Error for SignalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Installs handlers for SIGTERM and SIGINT. Returns the phase, and the future that
/// changes it. The future ends with the second signal, or without a receiver of the
/// phase. Must be called within the runtime. From then on, the signals do not end
/// the process by themselves.
///
/// Errors: the handlers cannot be installed.
pub fn listen() -> Result<
    (
        watch::Receiver<ShutdownPhase>,
        impl Future<Output = ()> + Send,
    ),
    SignalError,
> {
    let terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
    let (sender, receiver) = watch::channel(ShutdownPhase::Running);
    Ok((receiver, follow(terminate, interrupt, sender)))
}

async fn follow(mut terminate: Signal, mut interrupt: Signal, phase: watch::Sender<ShutdownPhase>) {
    while *phase.borrow() != ShutdownPhase::Closed {
        tokio::select! {
            received = terminate.recv() => received.expect("a listener's stream never ends"),
            received = interrupt.recv() => received.expect("a listener's stream never ends"),
            () = phase.closed() => return,
        }
        phase.send_modify(|phase| *phase = phase.after_signal());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    #[test]
    fn the_first_signal_drains_and_the_second_closes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut phase, follow) = listen().unwrap();
            let follow = tokio::spawn(follow);
            assert_eq!(*phase.borrow(), ShutdownPhase::Running);
            for (name, expected) in [
                ("-TERM", ShutdownPhase::Draining),
                ("-INT", ShutdownPhase::Closed),
            ] {
                let kill = Command::new("kill")
                    .args([name, &id().to_string()])
                    .status();
                assert!(kill.unwrap().success());
                phase.changed().await.unwrap();
                assert_eq!(*phase.borrow_and_update(), expected);
            }
            follow.await.unwrap();
        });
    }
}
