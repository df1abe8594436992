//! The shell for operators: pages over HTTP, on a thread with a runtime of its
//! own, so that scrapes never disturb deliveries. Shows state, never changes it.
//!
//! Limits: 64 connections, each for one request and at most 10 s, with a head of
//! at most 16 KiB within 5 s. A further connection closes the oldest one, which
//! has had at least 250 ms for a page that takes a few. So a probe of `/livez`
//! does not wait for slow readers.

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
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};

const CONNECTIONS_MAX: usize = 64;
/// The time of a connection before another one may replace it.
const CONNECTION_TIME_MIN: Duration = Duration::from_millis(250);
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after a failed accept; most likely no file descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the address. `[::]` stands for all addresses of both families, and for those
/// of IPv4 on a host without IPv6.
///
/// Errors: it is not `host:port`, or the port cannot be bound.
pub fn bind(listen: &str) -> Result<TcpListener, AdminError> {
    let wrong = |source| AdminError::Bind {
        listen: listen.to_owned(),
        source,
    };
    let addresses: Vec<SocketAddr> = listen.to_socket_addrs().map_err(wrong)?.collect();
    let bound = TcpListener::bind(addresses.as_slice());
    let listener = match bound {
        Err(error) if lacks_ipv6(&error) => {
            let ipv4 = addresses.iter().copied().filter_map(of_ipv4);
            let ipv4: Vec<SocketAddr> = ipv4.collect();
            match ipv4.is_empty() {
                true => Err(error),
                false => TcpListener::bind(ipv4.as_slice()),
            }
        }
        bound => bound,
    }
    .map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    Ok(listener)
}

/// Returns whether this is the error of a host without IPv6.
fn lacks_ipv6(error: &io::Error) -> bool {
    let code = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(code)
}

/// Returns the address of IPv4 that stands for all addresses, if this is that of IPv6.
fn of_ipv4(address: SocketAddr) -> Option<SocketAddr> {
    let all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    all.then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// Returns the function that serves the pages until `shutdown` is sent or
/// dropped. It blocks its thread.
///
/// Errors (of that function): the runtime or the listener cannot be used.
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
                // Sent or dropped: both end the pages.
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
        // The time comes from the timer, because only clock.rs reads clocks.
        let until = sleep(CONNECTION_TIME_MIN).deadline();
        connections.push_back((until, connection));
    }
}

/// The operators' pages cannot be served.
#[derive(Debug)]
pub enum AdminError {
    Bind { listen: String, source: io::Error },
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
