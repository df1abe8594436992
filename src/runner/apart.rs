//! The threads of the attempts to tenants that are not known to answer. Decides
//! nothing: which attempts those are, the engine says.

use super::spawn;
use crate::kafka::Job;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Twice the attempts that a tenant of whom nothing is known may have at once:
/// each may keep a thread at work.
const THREADS: usize = 16;

/// The threads of the attempts that are kept apart; they end when this is dropped.
pub struct Apart {
    runtime: Handle,
    _ends: oneshot::Sender<()>,
}

impl Apart {
    /// Starts them.
    ///
    /// Panics: where the system refuses them, as [`spawn`] does.
    pub fn begin() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("attempts apart")
            .enable_all()
            .build()
            .expect("the system gives the service its few threads");
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        let run = move || {
            // Nothing is ever sent: this waits for the other end to be dropped.
            runtime.block_on(ended).ok();
            runtime.shutdown_background();
        };
        spawn(Job {
            name: "apart",
            run: Box::new(run),
        });
        Self {
            runtime: handle,
            _ends: ends,
        }
    }

    /// Where such attempts are spawned.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
