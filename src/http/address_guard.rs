//! The one place that decides which addresses callbacks may reach. Every
//! address that a name resolves to passes through [`AddressGuard::permitted`],
//! and so does a literal address in a URL, which no resolver sees. What it has
//! checked is what is connected to: names are resolved here and nowhere else.
//! Runs on the attempts' runtime; the lookup itself on its blocking threads.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Resolves names and refuses addresses. At present it permits all of them;
/// the rules for addresses that are not public belong here.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    lookup: Lookup,
}

/// Where answers come from.
#[derive(Clone, Debug, Default)]
enum Lookup {
    /// The system's resolver, with its hosts file and search list.
    #[default]
    System,
    /// These addresses for every name; none means that no name exists.
    #[cfg(test)]
    Fixed(Arc<[SocketAddr]>),
}

impl AddressGuard {
    /// A guard whose every name has these addresses.
    #[cfg(test)]
    pub(crate) fn with_answers(addresses: &[SocketAddr]) -> Self {
        Self {
            lookup: Lookup::Fixed(addresses.into()),
        }
    }

    /// Whether callbacks may reach this address.
    #[must_use]
    pub fn permitted(&self, _address: IpAddr) -> bool {
        true
    }

    /// The addresses of a name that callbacks may reach.
    ///
    /// Errors: [`DnsError`] where there is none at all, [`RefusedAddress`]
    /// where none of them is permitted.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, GuardError> {
        let found = self
            .look_up(name)
            .await
            .map_err(|source| DnsError::new(name, Some(source)))?;
        if found.is_empty() {
            return Err(DnsError::new(name, None).into());
        }
        let permitted: Vec<SocketAddr> = found
            .into_iter()
            .filter(|address| self.permitted(address.ip()))
            .collect();
        if permitted.is_empty() {
            return Err(RefusedAddress::new(name).into());
        }
        Ok(permitted)
    }

    async fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        match &self.lookup {
            // The port is the URL's; the connector puts it in.
            Lookup::System => Ok(tokio::net::lookup_host((name, 0)).await?.collect()),
            #[cfg(test)]
            Lookup::Fixed(addresses) => Ok(addresses.to_vec()),
        }
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            match guard.addresses(name.as_str()).await {
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(GuardError::Dns(error)) => Err(error.into()),
                Err(GuardError::Refused(error)) => Err(error.into()),
            }
        })
    }
}

/// Why a name gave no address.
enum GuardError {
    Dns(DnsError),
    Refused(RefusedAddress),
}

impl From<DnsError> for GuardError {
    fn from(error: DnsError) -> Self {
        Self::Dns(error)
    }
}

impl From<RefusedAddress> for GuardError {
    fn from(error: RefusedAddress) -> Self {
        Self::Refused(error)
    }
}

/// A host name did not resolve.
#[derive(Clone, Debug)]
pub struct DnsError {
    name: Arc<str>,
    source: Option<Arc<io::Error>>,
}

impl DnsError {
    pub(crate) fn new(name: &str, source: Option<io::Error>) -> Self {
        Self {
            name: name.into(),
            source: source.map(Arc::new),
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host name '{}' does not resolve", self.name)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => f.write_str(": it has no address"),
        }
    }
}

// No `source()`: the io::Error of a lookup says nothing that the class of the
// outcome could rest on, and is already in the text.
impl Error for DnsError {}

/// A host leads to addresses that callbacks may not reach.
#[derive(Clone, Debug)]
pub struct RefusedAddress {
    host: Arc<str>,
}

impl RefusedAddress {
    pub(crate) fn new(host: &str) -> Self {
        Self { host: host.into() }
    }
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the host '{}' leads to no address that callbacks may reach",
            self.host
        )
    }
}

impl Error for RefusedAddress {}
