//! Looks up host names: the hosts file, then DNS as resolv.conf says. Knows
//! nothing of which addresses are permitted. Runs on the attempts' runtime.
//!
//! DNS is spoken here, and not asked of the system's `getaddrinfo`, because
//! that blocks a thread for as long as a name server stays silent (10 s and
//! more for each name): a tenant with many names that hang would hold every
//! thread that there may be, and the others would wait for one. Here a name
//! that hangs costs two UDP sockets for each name server, at most two of these
//! at once, for at most [`Names`]' limit, and nobody waits for it but its own
//! attempts. What is lost is the rest of nsswitch.conf (mDNS, LDAP).
//!
//! Limits: 8,192 answers are kept, as long as they may be and at most 5
//! minutes, failures at most 10 s, so that a corrected zone is seen soon. The
//! queries for one name are shared by all who ask.

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
/// Queries that are sent, one after the other, within the limit of a lookup.
const TRIES: u32 = 3;
/// How long one family's addresses wait for the other's: some zones never
/// answer for IPv6.
///
/// Source: RFC 8305, section 3.
const FAMILY_WAIT_MAX: Duration = Duration::from_millis(50);

/// The lookups of one process.
pub struct Names {
    limit: Duration,
    sources: Mutex<Arc<Sources>>,
}

/// Where addresses come from.
struct Sources {
    hosts: Hosts,
    dns: TokioResolver,
}

impl Names {
    /// Lookups that take at most `limit`, without a hosts file and with a name
    /// server on this host until [`Names::look_in`] is called.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let sources = Sources::read(limit, b"", b"");
        Self {
            limit,
            sources: Mutex::new(Arc::new(sources)),
        }
    }

    /// Follows the content of resolv.conf and the hosts file from now on; what
    /// was learned before is forgotten.
    pub fn look_in(&self, resolv_conf: &[u8], hosts: &[u8]) {
        let new = Arc::new(Sources::read(self.limit, resolv_conf, hosts));
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// The addresses of a name, IPv4 first: nearly every receiver has one, and
    /// where only IPv6 leads out the connector goes on at once.
    ///
    /// Errors: why there is none.
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
        // They are looked into here, before any search domain is asked for.
        options.use_hosts_file = ResolveHosts::Never;
        let dns = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .expect("a resolver without TLS needs nothing");
        let mut listed = Hosts::default();
        // Lines that are no text end the reading; those before them count.
        let (Ok(()) | Err(_)) = listed.read_hosts_conf(hosts);
        Self { hosts: listed, dns }
    }

    /// The addresses that the hosts file has.
    fn listed(&self, name: &Name) -> Vec<IpAddr> {
        let of = |kind| {
            let query = Query::query(name.to_lowercase(), kind);
            self.hosts.lookup_static_host(&query)
        };
        let found = [of(RecordType::A), of(RecordType::AAAA)];
        found.iter().flatten().flat_map(addresses).collect()
    }
}

/// What the system's resolver too does without a usable resolv.conf.
fn local_server() -> ResolverConfig {
    let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    lookup.answers().iter().filter_map(|r| r.data.ip_addr())
}

/// Asks for both families at once.
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

/// Why a name gave no address. Without any word of the name servers, which are
/// the operator's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    /// The text cannot be a host name.
    NotAName,
    /// There is no such name.
    NoSuchName,
    /// The name has no address.
    NoAddress,
    /// No name server answered in time.
    NoAnswer,
    /// The name servers answered that they cannot tell.
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
            Self::NotAName => "it cannot be a host name",
            Self::NoSuchName => "there is no such name",
            Self::NoAddress => "it has no address",
            Self::NoAnswer => "no name server answered in time",
            Self::Failed => "its name servers fail",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_is_asked_first_and_its_families_are_joined() {
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
