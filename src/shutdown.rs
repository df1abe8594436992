//! Turns signals into a [`ShutdownPhase`] and into orders to reload. The runner spawns
//! the futures, watches the phase and the orders. Never ends or reloads anything
//! itself. Runs as tasks on the main thread's runtime.

use std::fmt;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

const NEVER_ENDS: &str = "a listener's stream never ends";

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
        f.write_str("cannot listen for signals")
    }
}

impl std::error::Error for SignalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Installs handlers for SIGTERM, SIGINT and SIGQUIT. Returns the phase, and the future that
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
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ];
    let [terminate, interrupt, quit] = kinds.map(|kind| signal(kind).map_err(SignalError));
    let (sender, receiver) = watch::channel(ShutdownPhase::Running);
    Ok((receiver, follow([terminate?, interrupt?, quit?], sender)))
}

async fn follow(signals: [Signal; 3], phase: watch::Sender<ShutdownPhase>) {
    let [mut terminate, mut interrupt, mut quit] = signals;
    while *phase.borrow() != ShutdownPhase::Closed {
        tokio::select! {
            received = terminate.recv() => received.expect(NEVER_ENDS),
            received = interrupt.recv() => received.expect(NEVER_ENDS),
            received = quit.recv() => received.expect(NEVER_ENDS),
            () = phase.closed() => return,
        }
        phase.send_modify(|phase| *phase = phase.after_signal());
    }
}

/// Installs handlers for SIGHUP, which orders a reload, and for SIGUSR1 and SIGUSR2,
/// which have no effect but a log line. Returns the number of orders, and the future
/// that counts them. Otherwise as [`listen`].
///
/// Errors: the handlers cannot be installed.
pub fn listen_for_reloads()
-> Result<(watch::Receiver<u64>, impl Future<Output = ()> + Send), SignalError> {
    let kinds = [
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let [hangup, user1, user2] = kinds.map(|kind| signal(kind).map_err(SignalError));
    let (sender, receiver) = watch::channel(0);
    Ok((receiver, count(hangup?, [user1?, user2?], sender)))
}

async fn count(mut hangup: Signal, users: [Signal; 2], orders: watch::Sender<u64>) {
    let [mut user1, mut user2] = users;
    loop {
        let without_effect = tokio::select! {
            received = hangup.recv() => {
                received.expect(NEVER_ENDS);
                orders.send_modify(|orders| *orders += 1);
                continue;
            }
            received = user1.recv() => received.map(|()| "SIGUSR1"),
            received = user2.recv() => received.map(|()| "SIGUSR2"),
            () = orders.closed() => return,
        };
        let signal = without_effect.expect(NEVER_ENDS);
        info!(signal, "this signal has no effect");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    #[test]
    fn the_first_signal_drains_the_second_closes_and_others_do_neither() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut phase, follow) = listen().unwrap();
            let follow = tokio::spawn(follow);
            let (mut orders, count) = listen_for_reloads().unwrap();
            tokio::spawn(count);
            for name in ["-USR1", "-USR2", "-HUP"] {
                let kill = Command::new("kill")
                    .args([name, &id().to_string()])
                    .status();
                assert!(kill.unwrap().success());
            }
            orders.changed().await.unwrap();
            assert_eq!(*orders.borrow(), 1, "only SIGHUP orders a reload");
            assert_eq!(*phase.borrow(), ShutdownPhase::Running);
            for (name, expected) in [
                ("-QUIT", ShutdownPhase::Draining),
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
