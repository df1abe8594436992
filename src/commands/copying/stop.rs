//! Whether a signal asks the process to stop. Without this, a signal would end it in
//! the middle of a transaction, which holds readers of the delay topic up until Kafka
//! aborts it.

use crate::shutdown::{self, ShutdownPhase};
use std::error::Error;
use std::pin::Pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long signals are looked for.
const LOOK: Duration = Duration::from_millis(1);

/// The signals of this process.
pub struct StopSignal {
    runtime: Runtime,
    phase: watch::Receiver<ShutdownPhase>,
    follow: Pin<Box<dyn Future<Output = ()>>>,
}

impl StopSignal {
    /// Installs the handlers. From then on, the signals do not end the process by
    /// themselves.
    ///
    /// # Errors
    /// They cannot be installed.
    pub fn listen() -> Result<Self, Box<dyn Error>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (phase, follow) = {
            let _guard = runtime.enter();
            shutdown::listen()?
        };
        Ok(Self {
            runtime,
            phase,
            follow: Box::pin(follow),
        })
    }

    /// Returns whether a signal has come.
    pub fn has_come(&mut self) -> bool {
        if *self.phase.borrow() == ShutdownPhase::Running {
            let follow = self.follow.as_mut();
            // It ends only after the second signal.
            let _still_following = self.runtime.block_on(async { timeout(LOOK, follow).await });
        }
        *self.phase.borrow() != ShutdownPhase::Running
    }
}
