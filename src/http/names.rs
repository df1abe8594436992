//! Resolves host names: the hosts file first, then DNS by resolv.conf. Never
//! decides which addresses are permitted. Runs on the runtimes of attempts.
//!
//! The system's `getaddrinfo` is not used: it blocks a thread while a name server
//! is silent, 10 s and more for each name. A tenant with many such names would
//! block all threads, and other tenants would wait. Here such a name costs at
//! most six UDP sockets (three name servers, two families) until the time limit of
//! [`Names`]. Only its own attempts wait for it. Other sources of
//! nsswitch.conf (mDNS, LDAP) are not supported.

mod cache;
mod resolv_conf;
mod servers;

use crate::clock;
use cache::{Cache, Found};
use hickory_resolver::Hosts;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use resolv_conf::ResolvConf;
use servers::NameServers;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// The resolver of the process.
pub struct Names {
    limit: Duration,
    sources: Mutex<Arc<Sources>>,
}

/// The sources of addresses.
struct Sources {
    hosts: Hosts,
    conf: ResolvConf,
    servers: NameServers,
    cache: Mutex<Cache>,
}

impl Names {
    /// Returns a resolver whose lookups take at most `limit`. Until
    /// [`Names::look_in`] it has no hosts file and asks a name server on this host.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        let sources = Sources::new(ResolvConf::read(b""), b"", limit);
        Self {
            limit,
            sources: Mutex::new(Arc::new(sources)),
        }
    }

    /// Uses these contents of resolv.conf and the hosts file from now on, and drops
    /// the cache.
    pub fn look_in(&self, resolv_conf: &[u8], hosts: &[u8]) {
        let conf = ResolvConf::read(resolv_conf);
        self.use_sources(Sources::new(conf, hosts, self.limit));
    }

    fn use_sources(&self, new: Sources) {
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    /// Returns the addresses of a name, IPv4 first: nearly every receiver has one.
    ///
    /// Errors: the reason why there is no address.
    pub async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let name = Name::from_str_relaxed(name).map_err(|_| Unresolved::NotAName)?;
        let sources = Arc::clone(&self.sources.lock().unwrap_or_else(PoisonError::into_inner));
        let listed = sources.listed(&name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        if let Some(kept) = sources.cache().get(&name, clock::elapsed()) {
            return kept;
        }
        match timeout(self.limit, sources.ask(&name)).await {
            Ok(found) => found,
            Err(_) => Err(Unresolved::NoAnswer),
        }
    }
}

impl Sources {
    fn new(conf: ResolvConf, hosts: &[u8], limit: Duration) -> Self {
        let mut listed = Hosts::default();
        // A line that is not UTF-8 ends the reading. Earlier lines are used.
        let (Ok(()) | Err(_)) = listed.read_hosts_conf(hosts);
        Self {
            hosts: listed,
            servers: NameServers::new(&conf, limit),
            conf,
            cache: Mutex::default(),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Asks the name servers for the name, and for those below the search domains.
    async fn ask(&self, name: &Name) -> Found {
        let mut failure = Err(Unresolved::NoSuchName);
        // Failures are kept as long as the shortest-lived of them.
        let mut ttl = Duration::MAX;
        for candidate in self.conf.candidates(name) {
            let answer = self.servers.addresses(&candidate).await;
            ttl = ttl.min(answer.ttl);
            match answer.found {
                Ok(_) => {
                    self.keep(name, &answer.found, answer.ttl);
                    return answer.found;
                }
                // The servers are silent for other names, too.
                Err(Unresolved::NoAnswer) => return answer.found,
                // What the name's own zone says is of use to its owner.
                Err(_) if candidate.num_labels() == name.num_labels() => failure = answer.found,
                Err(_) => {}
            }
        }
        self.keep(name, &failure, ttl);
        failure
    }

    fn keep(&self, name: &Name, found: &Found, ttl: Duration) {
        self.cache().put(name, found, ttl, clock::elapsed());
    }
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    lookup.answers().iter().filter_map(|r| r.data.ip_addr())
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
mod tests;
