//! The shell for operators: pages over HTTP, on a thread with a runtime of its
//! own, so that scrapes never disturb deliveries. Shows state, changes none.
//!
//! Limits: 64 connections, each for one request and at most 10 s, with a head
//! of at most 16 KiB within 5 s. Where one more comes, the oldest is cut once
//! it has had a quarter of a second, which a page's milliseconds fit in: a
//! probe of `/healthz` must not wait behind readers that are slow.

mod page;
mod pages;
mod status;
mod view;

pub use pages::Pages;
pub use status::{About, Status};

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

const CONNECTIONS_MAX: usize = 64;
/// What every connection gets before it may be cut for another.
const CONNECTION_TIME_MIN: Duration = Duration::from_millis(250);
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes the port.
///
/// Errors: not `host:port`, or the port cannot be had.
pub fn bind(listen: &str) -> Result<TcpListener, AdminError> {
    let wrong = |source| AdminError::Bind {
        listen: listen.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = listen.to_socket_addrs().map_err(wrong)?.collect();
    let listener = TcpListener::bind(addresses.as_slice()).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    Ok(listener)
}

/// What serves the pages until `shutdown` is sent or dropped; it needs a thread
/// of its own.
///
/// Errors (of what is returned): the runtime or the listener cannot be used.
pub fn serve(
    listener: TcpListener,
    pages: Pages,
    shutdown: oneshot::Receiver<()>,
) -> impl FnOnce() -> Result<(), AdminError> + Send {
    move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminError::Runtime)?;
        runtime.block_on(async {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(AdminError::Runtime)?;
            tokio::select! {
                () = accept(listener, pages) => {}
                // Dropped or sent: both mean the end.
                _ = shutdown => {}
            }
            Ok(())
        })
    }
}

async fn accept(listener: tokio::net::TcpListener, pages: Pages) {
    let router = pages.router();
    let mut connections: VecDeque<(Instant, JoinHandle<()>)> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a connection to the operators' pages could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        connections.retain(|(_, connection)| !connection.is_finished());
        if connections.len() >= CONNECTIONS_MAX
            && let Some((until, mut oldest)) = connections.pop_front()
            && timeout_at(until, &mut oldest).await.is_err()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(async move {
            match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a connection to the operators' pages failed"),
                Err(_) => debug!("a connection to the operators' pages was too slow"),
            }
        });
        // The timer tells the time: only clock.rs reads clocks.
        let until = sleep(CONNECTION_TIME_MIN).deadline();
        connections.push_back((until, connection));
    }
}

/// Why operators' pages cannot be served.
#[derive(Debug)]
pub enum AdminError {
    /// The port.
    Bind {
        /// As it was written.
        listen: String,
        /// Why.
        source: io::Error,
    },
    /// The runtime, or the listener in it.
    Runtime(io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { listen, .. } => write!(f, "cannot listen on '{listen}'"),
            Self::Runtime(_) => f.write_str("cannot serve the operators' pages"),
        }
    }
}

impl Error for AdminError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Runtime(source) => Some(source),
        }
    }
}

#[cfg(test)]
mod tests;
