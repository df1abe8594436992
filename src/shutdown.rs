//! Signals become a [`ShutdownPhase`]. The runner spawns the future and watches the
//! phase; nothing here ends anything. Runs as a task of the runner's runtime.

use std::fmt;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What the process is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ShutdownPhase {
    /// Nothing: work.
    Running,
    /// End in order, within the drain timeout.
    Draining,
    /// End at once.
    Closed,
}

impl ShutdownPhase {
    /// The phase after one more signal.
    #[must_use]
    pub const fn after_signal(self) -> Self {
        match self {
            Self::Running => Self::Draining,
            Self::Draining | Self::Closed => Self::Closed,
        }
    }
}

/// The signals could not be listened to.
#[derive(Debug)]
pub struct Error(io::Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot listen for SIGTERM and SIGINT")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Begins to listen for SIGTERM and SIGINT: the present phase, and the future
/// that moves it on, which ends with the second signal or when nobody watches.
/// To be called within the runtime; from then on the signals no longer end the
/// process by themselves.
///
/// Errors: the signals cannot be listened to.
pub fn listen() -> Result<
    (
        watch::Receiver<ShutdownPhase>,
        impl Future<Output = ()> + Send,
    ),
    Error,
> {
    let terminate = signal(SignalKind::terminate()).map_err(Error)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(Error)?;
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
