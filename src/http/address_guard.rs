//! The only place that decides which addresses callbacks may reach.
//! [`AddressGuard::permitted`] checks each address of a resolved name and each
//! literal address in a URL. Names are resolved only here, once for each
//! connection, and the connection goes to a checked address. So a name that changes
//! its answer gains nothing. Never sends anything. Runs on the runtimes of attempts.
//!
//! A reused connection leads to an address that was checked. The rules never change
//! within a process, so a second check would have the same result.
//!
//! Behind an egress proxy, the proxy resolves the names of callbacks. Only literal
//! addresses can be checked here, and the proxy must refuse the others. The only
//! resolved name is that of the proxy, which the operator chose.

use super::names::{Names, Unresolved};
use super::reachable;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The maximum number of addresses of a name that one attempt tries. The time to
/// connect is shared among them.
const ADDRESSES_MAX: usize = 6;

/// Resolves names, and refuses addresses that are not globally reachable.
#[derive(Clone)]
pub struct AddressGuard {
    networks: Arc<Networks>,
    lookup: Lookup,
    resolves: Resolves,
}

/// The networks that the operator has named.
#[derive(Debug, Default)]
pub struct Networks {
    /// Permitted although they are not public.
    pub allowed: Vec<IpNet>,
    /// Refused although they are public. They go before `allowed`.
    pub denied: Vec<IpNet>,
}

/// The names that a guard resolves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolves {
    /// The hosts of callback URLs.
    Receivers,
    /// The host of the egress proxy.
    Proxy,
}

/// The source of addresses.
#[derive(Clone)]
enum Lookup {
    /// The hosts file and DNS.
    Names(Arc<Names>),
    /// These addresses for every name. Without any, no name exists.
    #[cfg(test)]
    Fixed(Arc<[SocketAddr]>),
}

impl AddressGuard {
    /// Returns a guard that permits public addresses, except as these networks say.
    #[must_use]
    pub fn new(networks: Networks, names: Arc<Names>, resolves: Resolves) -> Self {
        Self {
            networks: Arc::new(networks),
            lookup: Lookup::Names(names),
            resolves,
        }
    }

    /// Returns a guard that resolves every name to these addresses.
    #[cfg(test)]
    pub(crate) fn with_answers(allowed: &[IpNet], addresses: &[SocketAddr]) -> Self {
        let networks = Networks {
            allowed: allowed.to_vec(),
            ..Networks::default()
        };
        Self {
            networks: Arc::new(networks),
            lookup: Lookup::Fixed(addresses.into()),
            resolves: Resolves::Receivers,
        }
    }

    /// Returns whether callbacks may reach this address.
    #[must_use]
    pub fn permitted(&self, address: IpAddr) -> bool {
        // The kernel treats an IPv4-mapped address as the IPv4 address.
        let address = address.to_canonical();
        let within = |networks: &[IpNet], address: IpAddr| {
            let mut networks = networks.iter();
            networks.any(|network| network.contains(&address))
        };
        let denied = &self.networks.denied;
        // A translator (NAT64) leads to the IPv4 address inside.
        let inside = reachable::embedded(address).map(IpAddr::V4);
        if within(denied, address) || inside.is_some_and(|inside| within(denied, inside)) {
            return false;
        }
        within(&self.networks.allowed, address) || reachable::is_global(address)
    }

    /// Returns whether the operator allows networks that are not public.
    #[must_use]
    pub fn allows_networks(&self) -> bool {
        !self.networks.allowed.is_empty()
    }

    /// Returns the permitted addresses of a name.
    ///
    /// Errors: [`DnsError`] where the name has no address, [`RefusedAddress`] where
    /// none of its addresses is permitted.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
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
        Ok(alternating(&found, |address| address.ip()))
    }

    async fn look_up(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        match &self.lookup {
            Lookup::Names(names) => {
                let found = names.look_up(name).await?;
                // The connector sets the port of the URL.
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
            }
            #[cfg(test)]
            Lookup::Fixed(addresses) => Ok(addresses.to_vec()),
        }
    }
}

/// Returns the first addresses, in alternating families. So either family is tried
/// also where the other has many addresses.
pub(super) fn alternating<A: Copy>(found: &[A], ip: impl Fn(A) -> IpAddr) -> Vec<A> {
    let of = |v4: bool| {
        let (all, ip) = (found.iter().copied(), &ip);
        all.filter(move |address| ip(*address).is_ipv4() == v4)
    };
    let (mut v4, mut v6) = (of(true), of(false));
    let mut chosen = Vec::new();
    while chosen.len() < ADDRESSES_MAX {
        let before = chosen.len();
        chosen.extend(v4.next());
        chosen.extend(v6.next());
        if chosen.len() == before {
            break;
        }
    }
    chosen.truncate(ADDRESSES_MAX);
    chosen
}

impl fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressGuard")
            .field("networks", &self.networks)
            .field("resolves", &self.resolves)
            .finish_non_exhaustive()
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A host name does not resolve.
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

/// All addresses of a host are refused.
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
            "the host '{}' has no address that callbacks may reach",
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
    fn allowed_networks_permit_their_addresses_and_no_others() {
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

    #[test]
    fn denied_networks_refuse_their_addresses_also_where_they_are_allowed() {
        #[track_caller]
        fn check(denied: &str, address: &str, expected: bool) {
            let mut guard = guard("127.0.0.0/8 10.0.0.0/8 64:ff9b::/96", &[]);
            let networks = Networks {
                allowed: guard.networks.allowed.clone(),
                denied: vec![denied.parse().expect("a network")],
            };
            guard.networks = Arc::new(networks);
            let permitted = guard.permitted(address.parse().expect("an address"));
            assert_eq!(permitted, expected, "{denied}: {address}");
        }
        check("8.8.8.0/24", "8.8.8.8", false);
        check("8.8.8.0/24", "::ffff:8.8.8.8", false);
        check("8.8.8.0/24", "64:ff9b::8.8.8.8", false);
        check("8.8.8.0/24", "8.8.4.4", true);
        check("8.8.8.0/24", "127.0.0.1", true);
        check("10.1.0.0/16", "10.1.2.3", false);
        check("10.1.0.0/16", "10.2.2.3", true);
        check("2606:4700::/32", "2606:4700::1", false);
        check("0.0.0.0/0", "2606:4700::1", true);
    }

    #[tokio::test]
    async fn only_the_permitted_addresses_of_a_name_are_connected_to() {
        let mixed = guard("10.0.0.0/8", &["192.168.0.1", "8.8.8.8", "10.0.0.1", "::1"]);
        let Ok(found) = mixed.addresses("mixed").await else {
            panic!("two are permitted");
        };
        let found: Vec<String> = found.iter().map(|a| a.ip().to_string()).collect();
        assert_eq!(found, ["8.8.8.8", "10.0.0.1"]);

        let inside = guard("", &["192.168.0.1", "fd00:ec2::254"]);
        let refused = inside.addresses("inside").await;
        let refused = refused.expect_err("a private address was permitted");
        assert!(refused.is::<RefusedAddress>());
        let text = refused.to_string();
        assert!(text.contains("inside") && !text.contains("192"), "{text}");
        let nothing = guard("", &[]).addresses("nothing").await;
        assert!(nothing.is_err_and(|error| error.is::<DnsError>()));
    }

    #[tokio::test]
    async fn six_addresses_of_a_name_are_tried_and_the_families_alternate() {
        let check = async |answers: &[&str], expected: &[&str]| {
            let found = guard("", answers).addresses("many").await;
            let found = found.expect("all are permitted");
            let found: Vec<String> = found.iter().map(|a| a.ip().to_string()).collect();
            assert_eq!(found, expected);
        };
        let v4 = ["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4", "8.8.8.5"];
        let v6 = ["2606:4700::1", "2606:4700::2"];
        check(&v6, &v6).await;
        check(
            &[&v4[..], &["8.8.8.6", "8.8.8.7"]].concat(),
            &[&v4[..], &["8.8.8.6"]].concat(),
        )
        .await;
        let mixed = [v4[0], v6[0], v4[1], v6[1], v4[2], v4[3]];
        check(&[&v4[..], &v6[..]].concat(), &mixed).await;
        check(
            &[&["10.0.0.1"], &v4[..1], &v6[..]].concat(),
            &[v4[0], v6[0], v6[1]],
        )
        .await;
    }

    #[tokio::test]
    async fn the_proxys_own_name_may_have_any_address() {
        let mut guard = guard("", &["10.0.0.1"]);
        guard.resolves = Resolves::Proxy;
        assert!(guard.addresses("proxy").await.is_ok());
        assert!(!guard.permitted("10.0.0.1".parse().expect("an address")));
    }
}
