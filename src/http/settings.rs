//! The settings of attempts, and why no client can be made from them. Decides nothing.
//! Plain values; any thread may use them.

use super::address_guard::{AddressGuard, Networks, Resolves};
use super::names::Names;
use ipnet::IpNet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The share of the deadline for the name lookup. A lookup that times out ends as
/// `dns`, not as `timeout`: the owner of the zone must act, not of the receiver.
pub(super) const LOOKUP_SHARE: f64 = 0.9;

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

/// The clients cannot be made.
#[derive(Debug)]
pub enum HttpError {
    /// The proxy is not a URL. The text is not shown: it may hold a password.
    Proxy(reqwest::Error),
    /// The PEM text is broken.
    Certificates,
    /// The certificate to show, or its key, is wrong or missing.
    ClientCertificate(Option<rustls::Error>),
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
            Self::Certificates => f.write_str("the CA file is not valid PEM"),
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
            Self::Proxy(error) | Self::Client(error) => Some(error),
            Self::Tls(error) | Self::ClientCertificate(Some(error)) => Some(error),
            Self::Certificates | Self::ClientCertificate(None) | Self::NoCertificates => None,
        }
    }
}
