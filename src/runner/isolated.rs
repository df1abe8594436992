//! The threads of isolated attempts: those to tenants that have not answered yet, and
//! to tenants whose attempts end without an answer. Decides nothing; the engine says
//! which attempts are isolated.

use super::threads::spawn;
use crate::kafka::Job;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Twice the attempts that an untried tenant may have at once: each may keep a
/// thread busy.
const THREADS: usize = 16;

/// The threads of isolated attempts. They end when this is dropped.
pub struct IsolatedThreads {
    runtime: Handle,
    _ends: oneshot::Sender<()>,
}

impl IsolatedThreads {
    /// Starts the threads.
    ///
    /// Panics: where the system refuses them, as [`spawn`] does.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("isolated")
            .enable_all()
            .build()
            .expect("the system gives the service its few threads");
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        let run = move || {
            // The sender never sends: this waits until it is dropped.
            runtime.block_on(ended).ok();
            runtime.shutdown_background();
        };
        spawn(Job {
            name: "isolated",
            run: Box::new(run),
        });
        Self {
            runtime: handle,
            _ends: ends,
        }
    }

    /// Returns the runtime for isolated attempts.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
