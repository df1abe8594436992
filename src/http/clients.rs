//! The HTTP clients of attempts. Each bundle of connections to a
//! host (see `pool`) has a client of its own, so that all of its connections can be
//! closed. A change of certificates makes new clients. Sends nothing. Runs where
//! attempts run, and on the thread `certificates`.

use super::address_guard::AddressGuard;
use super::settings::{HttpError, HttpSettings};
use super::tls::TlsSettings;
use reqwest::Client;
use rustls::ClientConfig;
use std::time::Duration;

/// An idle connection is closed after this time. Receivers close theirs later.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(4);
/// The maximum number of idle connections to one host. No host has more attempts
/// in progress at once.
const HOST_IDLE_MAX: usize = 256;
const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// A peer that is silent for this long is gone. Without that limit a dead HTTP/2
/// connection would fail every later attempt.
const PEER_SILENT_MAX: Duration = Duration::from_secs(5);
/// The clients of one set of certificates.
pub(super) struct Clients {
    settings: HttpSettings,
    guard: AddressGuard,
    tls: ClientConfig,
    /// Closes each connection after its attempt.
    pub closing: Client,
}

impl Clients {
    /// Makes the client that closes its connections; opens none. Takes milliseconds.
    pub fn new(settings: &HttpSettings, guard: &AddressGuard) -> Result<Self, HttpError> {
        let tls = TlsSettings::new(settings)?.config;
        Ok(Self {
            closing: client(settings, guard.clone(), tls.clone(), 0)?,
            settings: settings.clone(),
            guard: guard.clone(),
            tls,
        })
    }

    /// Makes a client that leaves connections open; opens none. Takes microseconds.
    pub fn reusing(&self) -> Client {
        let made = client(
            &self.settings,
            self.guard.clone(),
            self.tls.clone(),
            HOST_IDLE_MAX,
        );
        // It is made as that one was, and so cannot fail.
        made.unwrap_or_else(|_| self.closing.clone())
    }
}

/// Makes a client with this maximum of idle connections to one host.
fn client(
    settings: &HttpSettings,
    guard: AddressGuard,
    tls: ClientConfig,
    idle_max: usize,
) -> Result<Client, HttpError> {
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tcp_nodelay(true)
        // Also limits connections whose attempt does not need them any more.
        .connect_timeout(settings.timeout)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(idle_max)
        .tcp_user_timeout(PEER_SILENT_MAX)
        .http2_keep_alive_interval(PEER_SILENT_MAX)
        .http2_keep_alive_timeout(PEER_SILENT_MAX)
        .http2_initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .dns_resolver(guard)
        .tls_backend_preconfigured(tls);
    if let Some(proxy) = &settings.proxy {
        let proxy = reqwest::Proxy::all(proxy).map_err(|e| HttpError::Proxy(e.without_url()))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(HttpError::Client)
}
