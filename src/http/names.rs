//! Resolves host names: the hosts file first, then DNS by resolv.conf. Never
//! decides which addresses are permitted. Runs on the runtimes of attempts.
//!
//! The system's `getaddrinfo` is not used: it blocks a thread while a name server
//! is silent, 10 s and more for each name. A tenant with many such names would
//! block all threads, and other tenants would wait. Here such a name costs at
//! most four UDP sockets (two name servers, two families) until the time limit of
//! [`Names`]. Only its own attempts wait for it. Other sources of
//! nsswitch.conf (mDNS, LDAP) are not supported.
//!
//! Limits: 8,192 answers are cached, for their TTL and at most 5 minutes. Failures
//! are cached for at most 10 s, so that a corrected zone is soon used. Concurrent
//! lookups of one name share their queries.

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const ANSWERS_MAX: u64 = 8_192;
const ANSWER_AGE_MAX: Duration = Duration::from_secs(5 * 60);
const FAILURE_AGE_MAX: Duration = Duration::from_secs(10);
/// The number of queries in sequence within the time limit of a lookup.
const TRIES: u32 = 3;
/// How long addresses of one family wait for the other family. Some zones never
/// answer queries for IPv6.
///
/// Source: RFC 8305, section 3.
const FAMILY_WAIT_MAX: Duration = Duration::from_millis(50);

/// The resolver of the process.
pub struct Names {
    limit: Duration,
    sources: Mutex<Arc<Sources>>,
}

/// The sources of addresses.
struct Sources {
    hosts: Hosts,
    dns: TokioResolver,
}

impl Names {
    /// Returns a resolver whose lookups take at most `limit`. Until
    /// [`Names::look_in`] it has no hosts file and asks a name server on this host.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let sources = Sources::read(limit, b"", b"");
        Self {
            limit,
            sources: Mutex::new(Arc::new(sources)),
        }
    }

    /// Uses these contents of resolv.conf and the hosts file from now on, and drops
    /// the cache.
    pub fn look_in(&self, resolv_conf: &[u8], hosts: &[u8]) {
        let new = Arc::new(Sources::read(self.limit, resolv_conf, hosts));
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Returns the addresses of a name, IPv4 first: nearly every receiver has one.
    /// Where only IPv6 has a route, the connector tries it at once.
    ///
    /// Errors: the reason why there is no address.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let name = Name::from_str_relaxed(name).map_err(|_| Unresolved::NotAName)?;
        let sources = Arc::clone(&self.sources.lock().unwrap_or_else(PoisonError::into_inner));
        let listed = sources.listed(&name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        match timeout(self.limit, ask(&sources.dns, &name)).await {
            Ok(found) => found,
            Err(_) => Err(Unresolved::NoAnswer),
        }
    }
}

impl Sources {
    fn read(limit: Duration, resolv_conf: &[u8], hosts: &[u8]) -> Self {
        let (config, mut options) = system_conf::parse_resolv_conf(resolv_conf)
            .unwrap_or_else(|_| (local_server(), ResolverOpts::default()));
        options.timeout = options.timeout.min(limit / TRIES);
        options.attempts = options.attempts.max(TRIES as usize);
        options.cache_size = ANSWERS_MAX;
        options.positive_max_ttl = Some(ANSWER_AGE_MAX);
        options.negative_max_ttl = Some(FAILURE_AGE_MAX);
        // `look_up` reads the hosts file, before any search domain is queried.
        options.use_hosts_file = ResolveHosts::Never;
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .expect("a resolver without TLS needs nothing");
        let mut listed = Hosts::default();
        // A line that is not UTF-8 ends the reading. Earlier lines are used.
        let (Ok(()) | Err(_)) = listed.read_hosts_conf(hosts);
        Self { hosts: listed, dns }
    }

    /// Returns the addresses of a name in the hosts file.
    fn listed(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| {
            let query = Query::query(name.to_lowercase(), kind);
            self.hosts.lookup_static_host(&query)
        };
        let found = [of(RecordType::A), of(RecordType::AAAA)];
        found.iter().flatten().flat_map(addresses).collect()
    }
}

/// Returns what the system's resolver also uses without a valid resolv.conf.
fn local_server() -> ResolverConfig {
    let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    lookup.answers().iter().filter_map(|r| r.data.ip_addr())
}

/// Queries both families at once.
async fn ask(dns: &TokioResolver, name: &Name) -> Result<Vec<IpAddr>, Unresolved> {
    let mut ask_v4 = pin!(dns.ipv4_lookup(name.clone()));
    let mut ask_v6 = pin!(dns.ipv6_lookup(name.clone()));
    let (mut v4, mut v6) = (None, None);
    while v4.is_none() || v6.is_none() {
        let some_found = matches!((&v4, &v6), (Some(Ok(_)), _) | (_, Some(Ok(_))));
        tokio::select! {
            found = &mut ask_v4, if v4.is_none() => v4 = Some(found),
            found = &mut ask_v6, if v6.is_none() => v6 = Some(found),
            () = sleep(FAMILY_WAIT_MAX), if some_found => break,
        }
    }
    let found = [&v4, &v6].into_iter().flatten().flatten();
    let found: Vec<IpAddr> = found.flat_map(addresses).collect();
    match v4 {
        _ if !found.is_empty() => Ok(found),
        Some(Err(error)) => Err(Unresolved::of(&error)),
        _ => Err(Unresolved::NoAddress),
    }
}

/// The reason why a name has no address. It never names a name server: those
/// belong to the operator, not to the tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    NotAName,
    NoSuchName,
    NoAddress,
    /// No name server answered within the time limit.
    NoAnswer,
    /// The name servers answered with an error.
    Failed,
}

impl Unresolved {
    fn of(error: &NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Self::NoSuchName,
                ResponseCode::NoError => Self::NoAddress,
                _ => Self::Failed,
            },
            NetError::Timeout | NetError::Io(_) | NetError::NoConnections | NetError::Busy => {
                Self::NoAnswer
            }
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAName => "it is not a valid host name",
            Self::NoSuchName => "there is no such name",
            Self::NoAddress => "it has no address",
            Self::NoAnswer => "no name server answered in time",
            Self::Failed => "its name servers answer with an error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_comes_first_and_both_families_are_returned() {
        let names = Names::new(Duration::from_millis(200));
        let hosts =
            b"# local\n192.0.2.1 One two # three\n2001:db8::1 one\nnonsense\n\n192.0.2.2 one\n";
        names.look_in(b"nameserver 127.0.0.1\nsearch example.invalid\n", hosts);
        #[track_caller]
        fn check(found: Result<Vec<IpAddr>, Unresolved>, expected: &[&str]) {
            let expected: Vec<IpAddr> =
                expected.iter().map(|a| a.parse().expect("valid")).collect();
            assert_eq!(found, Ok(expected));
        }
        let one = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
        check(names.look_up("one").await, &one);
        check(names.look_up("ONE.").await, &one);
        check(names.look_up("two").await, &["192.0.2.1"]);
        let long = "x".repeat(64);
        assert_eq!(names.look_up(&long).await, Err(Unresolved::NotAName));
    }
}
