//! The thread that loads changed tenants: parsing many takes longer than a turn of
//! the main loop may. Decides nothing.

use super::spawn;
use crate::config::watch::{ReloadResult, TenantsWatch};
use crate::kafka::Job;
use crate::model::tenant::Tenants;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TryRecvError};

/// The interval between two checks of the file.
const EACH: Duration = Duration::from_millis(500);

/// The tenants in force, and the results of reloads. The thread ends when this is
/// dropped.
pub struct TenantsReloads {
    in_force: Arc<Tenants>,
    orders: std::sync::mpsc::Sender<ReadAgain>,
    results: mpsc::UnboundedReceiver<ReloadResult>,
}

/// The order to read the file although it has not changed.
struct ReadAgain;

impl TenantsReloads {
    /// Starts the thread.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(mut watch: TenantsWatch) -> Self {
        let in_force = Arc::clone(watch.in_force());
        let (sender, results) = mpsc::unbounded_channel();
        let (orders, ordered) = std::sync::mpsc::channel();
        let run = move || {
            loop {
                match ordered.recv_timeout(EACH) {
                    Ok(ReadAgain) => {
                        // One read answers all orders before it.
                        ordered.try_iter().for_each(drop);
                        watch.read_again();
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if let Some(result) = watch.check() {
                    // After the service has ended, the receiver is gone.
                    let _ = sender.send(result);
                }
            }
        };
        spawn(Job {
            name: "tenants",
            run: Box::new(run),
        });
        Self {
            in_force,
            orders,
            results,
        }
    }

    /// Orders the thread to read the file and to report its content, changed or not.
    pub fn read_again(&self) {
        // The thread ends only when this is dropped.
        let _ = self.orders.send(ReadAgain);
    }

    /// Returns the tenants in force.
    pub fn in_force(&self) -> &Arc<Tenants> {
        &self.in_force
    }

    /// Returns the result of a reload since the last call. Never waits.
    ///
    /// Panics: where the thread has ended. No change would come into force any more.
    pub fn next(&mut self) -> Option<ReloadResult> {
        let result = match self.results.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => panic!("the thread of the tenants has ended"),
        };
        if let ReloadResult::Ok(new) = &result {
            self.in_force = Arc::clone(new);
        }
        Some(result)
    }
}
