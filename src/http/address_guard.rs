//! The one place that decides which addresses callbacks may reach. Every
//! address that a name resolves to passes through [`AddressGuard::permitted`],
//! and so does a literal address in a URL, which no resolver sees. What it has
//! checked is what is connected to: names are resolved here and nowhere else,
//! once for each connection, so a name that changes its answer gains nothing.
//! Runs on the attempts' runtime.
//!
//! A connection that is kept and used again is one whose address was checked;
//! what is permitted never changes within a process, so checking it again would
//! say the same, whatever its name has come to lead to meanwhile.
//!
//! Behind an egress proxy the proxy resolves the callbacks' names: only literal
//! addresses can be judged here, and the proxy must refuse the rest. The one
//! name that is still looked up is the proxy's own, which the operator chose.

use super::names::{Names, Unresolved};
use super::reachable;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Resolves names and refuses addresses that are not globally reachable.
#[derive(Clone)]
pub struct AddressGuard {
    /// Networks that are permitted all the same.
    allowed: Arc<[IpNet]>,
    lookup: Lookup,
    resolves: Resolves,
}

/// Whose names it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolves {
    /// The callbacks'.
    Receivers,
    /// The egress proxy's.
    Proxy,
}

/// Where answers come from.
#[derive(Clone)]
enum Lookup {
    /// The hosts file and DNS.
    Names(Arc<Names>),
    /// These addresses for every name; none means that no name exists.
    #[cfg(test)]
    Fixed(Arc<[SocketAddr]>),
}

impl AddressGuard {
    /// A guard that permits these networks beside all that is public.
    #[must_use]
    pub fn new(allowed: &[IpNet], names: Arc<Names>, resolves: Resolves) -> Self {
        Self {
            allowed: allowed.into(),
            lookup: Lookup::Names(names),
            resolves,
        }
    }

    /// A guard whose every name has these addresses.
    #[cfg(test)]
    pub(crate) fn with_answers(allowed: &[IpNet], addresses: &[SocketAddr]) -> Self {
        Self {
            allowed: allowed.into(),
            lookup: Lookup::Fixed(addresses.into()),
            resolves: Resolves::Receivers,
        }
    }

    /// Whether callbacks may reach this address.
    #[must_use]
    pub fn permitted(&self, address: IpAddr) -> bool {
        // What the kernel makes of an IPv4-mapped address.
        let address = address.to_canonical();
        self.allowed
            .iter()
            .any(|network| network.contains(&address))
            || reachable::is_global(address)
    }

    /// The addresses of a name that callbacks may reach.
    ///
    /// Errors: [`DnsError`] where there is none at all, [`RefusedAddress`]
    /// where none of them is permitted.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, GuardError> {
        let found = match self.look_up(name).await {
            Ok(found) if found.is_empty() => Err(Unresolved::NoAddress),
            looked_up => looked_up,
        };
        let mut found = found.map_err(|why| DnsError::new(name, why))?;
        if self.resolves == Resolves::Receivers {
            found.retain(|address| self.permitted(address.ip()));
        }
        if found.is_empty() {
            return Err(RefusedAddress::new(name).into());
        }
        Ok(found)
    }

    async fn look_up(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        match &self.lookup {
            Lookup::Names(names) => {
                let found = names.look_up(name).await?;
                // The port is the URL's; the connector puts it in.
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
            }
            #[cfg(test)]
            Lookup::Fixed(addresses) => Ok(addresses.to_vec()),
        }
    }
}

impl fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressGuard")
            .field("allowed", &self.allowed)
            .field("resolves", &self.resolves)
            .finish_non_exhaustive()
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
    why: Unresolved,
}

impl DnsError {
    pub(crate) fn new(name: &str, why: Unresolved) -> Self {
        Self {
            name: name.into(),
            why,
        }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, why) = (&self.name, self.why);
        write!(f, "the host name '{name}' does not resolve: {why}")
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &str, answers: &[&str]) -> AddressGuard {
        let allowed: Vec<IpNet> = allowed
            .split_whitespace()
            .map(|network| network.parse().expect("a network"))
            .collect();
        let answers: Vec<SocketAddr> = answers
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().expect("an address"), 0))
            .collect();
        AddressGuard::with_answers(&allowed, &answers)
    }

    #[test]
    fn networks_open_what_is_not_public_and_nothing_beside_it() {
        #[track_caller]
        fn check(allowed: &str, address: &str, expected: bool) {
            let address = address.parse().expect("an address");
            assert_eq!(
                guard(allowed, &[]).permitted(address),
                expected,
                "{allowed}: {address}"
            );
        }
        check("", "127.0.0.1", false);
        check("127.0.0.0/8", "127.0.0.1", true);
        check("127.0.0.0/8", "::ffff:127.0.0.1", true);
        check("127.0.0.0/8", "::1", false);
        check("127.0.0.0/8", "10.0.0.1", false);
        check("127.0.0.0/8", "8.8.8.8", true);
        check("10.0.0.0/8 fd00::/8", "fd00::1", true);
        // Another network behind a translator may use the same numbers.
        check("10.0.0.0/8", "64:ff9b::10.0.0.1", false);
        check("10.0.0.0/8", "2002:a00:1::", false);
        check("64:ff9b::/96", "64:ff9b::10.0.0.1", true);
    }

    #[tokio::test]
    async fn of_a_names_addresses_only_the_permitted_are_connected_to() {
        let mixed = guard("10.0.0.0/8", &["192.168.0.1", "8.8.8.8", "10.0.0.1", "::1"]);
        let found = mixed
            .addresses("mixed")
            .await
            .ok()
            .expect("two are permitted");
        let found: Vec<String> = found.iter().map(|a| a.ip().to_string()).collect();
        assert_eq!(found, ["8.8.8.8", "10.0.0.1"]);

        let inside = guard("", &["192.168.0.1", "fd00:ec2::254"]);
        let Err(GuardError::Refused(refused)) = inside.addresses("inside").await else {
            panic!("a private address was permitted");
        };
        let text = refused.to_string();
        assert!(text.contains("inside") && !text.contains("192"), "{text}");
        let nothing = guard("", &[]).addresses("nothing").await;
        assert!(matches!(nothing, Err(GuardError::Dns(_))));
    }

    #[tokio::test]
    async fn the_proxys_own_name_may_lead_anywhere() {
        let mut guard = guard("", &["10.0.0.1"]);
        guard.resolves = Resolves::Proxy;
        assert!(guard.addresses("proxy").await.is_ok());
        assert!(!guard.permitted("10.0.0.1".parse().expect("an address")));
    }
}
