//! The HTTP clients of attempts, and their settings. A change of certificates makes
//! new clients. Sends nothing. Runs on the main thread at the start, and on the thread
//! `certificates` afterwards.

use super::address_guard::{AddressGuard, Networks, Resolves};
use super::names::Names;
use ipnet::IpNet;
use reqwest::Client;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
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
/// The certificates that TLS trusts.
#[derive(Clone)]
pub enum Trust {
    /// The certificates of the system.
    System,
    /// The certificates of the system and those in this PEM text.
    SystemAnd(Vec<u8>),
    /// No certificate: every callback by https fails. The demo sends none, and so
    /// also runs where no certificates are installed.
    Nothing,
}

/// Whether a later attempt may use the connection of an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionReuse {
    Reuse,
    CloseAfterAttempt,
}

/// The settings of attempts; checked by `config`.
#[derive(Clone)]
pub struct HttpSettings {
    /// The deadline of an attempt. A tenant may have a shorter one.
    pub timeout: Duration,
    /// The version of ringback, for `user-agent`.
    pub version: &'static str,
    /// Networks that callbacks may reach although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Networks that callbacks must not reach although they are public.
    pub deny_networks: Vec<IpNet>,
    /// The egress proxy, which resolves the names of callbacks itself.
    pub proxy: Option<String>,
    pub trust: Trust,
    /// PEM with the certificate that callbacks show and its key.
    pub client_cert: Option<Vec<u8>>,
    pub reuse: ConnectionReuse,
}

impl HttpSettings {
    /// Returns the guard of attempts, with this resolver.
    #[must_use]
    pub fn guard(&self, names: Arc<Names>) -> AddressGuard {
        let resolves = match self.proxy {
            Some(_) => Resolves::Proxy,
            None => Resolves::Receivers,
        };
        let networks = Networks {
            allowed: self.allow_networks.clone(),
            denied: self.deny_networks.clone(),
        };
        AddressGuard::new(networks, names, resolves)
    }
}

/// The clients of one set of certificates.
pub(super) struct Clients {
    /// Leaves connections open; `None` with [`ConnectionReuse::CloseAfterAttempt`].
    pub reusing: Option<Client>,
    /// Closes each connection after its attempt.
    pub closing: Client,
}

impl Clients {
    /// Makes the clients; opens no connection.
    pub fn new(settings: &HttpSettings, guard: &AddressGuard) -> Result<Self, HttpError> {
        let reusing = match settings.reuse {
            ConnectionReuse::Reuse => Some(client(settings, guard.clone(), HOST_IDLE_MAX)?),
            ConnectionReuse::CloseAfterAttempt => None,
        };
        Ok(Self {
            reusing,
            closing: client(settings, guard.clone(), 0)?,
        })
    }
}

/// Makes a client with this maximum of idle connections to one host.
fn client(
    settings: &HttpSettings,
    guard: AddressGuard,
    idle_max: usize,
) -> Result<Client, HttpError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let ring = rustls::crypto::ring::default_provider();
        // Another thread may have installed the same provider first.
        let (Ok(()) | Err(_)) = ring.install_default();
    }
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
        .dns_resolver(guard);
    if let Some(proxy) = &settings.proxy {
        let proxy = reqwest::Proxy::all(proxy).map_err(|e| HttpError::Proxy(e.without_url()))?;
        builder = builder.proxy(proxy);
    }
    builder = match &settings.trust {
        Trust::System => builder,
        Trust::SystemAnd(pem) => {
            let further =
                reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Certificates)?;
            if further.is_empty() {
                return Err(HttpError::NoCertificates);
            }
            builder.tls_certs_merge(further)
        }
        Trust::Nothing => builder.tls_certs_only([]),
    };
    if let Some(pem) = &settings.client_cert {
        let identity = reqwest::Identity::from_pem(pem).map_err(HttpError::ClientCertificate)?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(HttpError::Client)
}

/// The clients cannot be made.
#[derive(Debug)]
pub enum HttpError {
    /// The proxy is not a URL. The text is not shown: it may hold a password.
    Proxy(reqwest::Error),
    Certificates(reqwest::Error),
    /// The certificate to show, or its key, is wrong.
    ClientCertificate(reqwest::Error),
    /// The PEM text has no certificate.
    NoCertificates,
    /// TLS or the client cannot be set up.
    Client(reqwest::Error),
    Tls(rustls::Error),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(_) => f.write_str("the egress proxy is not a valid URL"),
            Self::Certificates(_) => f.write_str("the CA file is not valid PEM"),
            Self::ClientCertificate(_) => {
                f.write_str("the client certificate has no certificate with a key in PEM")
            }
            Self::NoCertificates => f.write_str("the CA file contains no certificate"),
            Self::Client(_) | Self::Tls(_) => f.write_str(
                "the HTTP client cannot be set up: check that trusted certificates are installed (package ca-certificates)",
            ),
        }
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Proxy(error)
            | Self::Certificates(error)
            | Self::ClientCertificate(error)
            | Self::Client(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::NoCertificates => None,
        }
    }
}
