//! The thread that loads changed certificates: a new client takes longer to make
//! than a turn of the main loop may. Decides nothing.

use super::threads::spawn;
use crate::config::certificates::{CertificateFiles, CertificatesChange};
use crate::http::callback::Callbacks;
use crate::kafka::Job;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tracing::{error, info};

/// The interval between two checks of the files.
const EACH: Duration = Duration::from_secs(1);

/// The thread. It ends when this is dropped.
pub struct CertificateReloads(#[allow(dead_code, reason = "its drop ends the thread")] Sender<()>);

impl CertificateReloads {
    /// Starts the thread, if there is a file.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(files: CertificateFiles, callbacks: Vec<Arc<Callbacks>>) -> Self {
        let (end, ended) = channel();
        if !files.is_empty() {
            spawn(Job {
                name: "certificates",
                run: Box::new(move || watch(files, &callbacks, &ended)),
            });
        }
        Self(end)
    }
}

fn watch(mut files: CertificateFiles, callbacks: &[Arc<Callbacks>], ended: &Receiver<()>) {
    while ended.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
        if let Some(change) = files.check() {
            apply(&change, callbacks);
        }
    }
}

fn apply(change: &CertificatesChange, callbacks: &[Arc<Callbacks>]) {
    for mistake in &change.mistakes {
        let mistake = mistake.to_string();
        error!(mistake, "a file of certificates was refused");
    }
    let Some(certificates) = &change.renewed else {
        return;
    };
    for callbacks in callbacks {
        let (ca, client) = (certificates.ca.as_deref(), certificates.client.as_deref());
        if let Err(error) = callbacks.renew_certificates(ca, client) {
            error!(%error, "changed certificates cannot be used");
            return;
        }
    }
    info!("changed certificates are in force for new connections");
}
