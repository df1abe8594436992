//! Asks name servers, as the system's resolver does: in their order, and the next one
//! after an error (SERVFAIL, REFUSED, NOTIMP) or silence. "No such name" from a server
//! is final. One thing differs: a server that is silent for [`SILENCE_MAX`] is not
//! waited for alone. The next one is asked too, and an address that it has is taken.
//! Keeps no answers. Runs on the runtimes of attempts.
//!
//! Limit: a lookup has at most one query for each server and family in progress, so
//! six. Concurrent lookups of one name share their queries.

use super::Unresolved;
use super::cache::FAILURE_AGE_MAX;
use super::resolv_conf::{ResolvConf, ServerOrder, Transport};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long addresses of one family wait for the other family. Some zones never
/// answer queries for IPv6.
///
/// Source: RFC 8305, section 3.
const FAMILY_WAIT_MAX: Duration = Duration::from_millis(50);
/// A server is asked alone for this long.
const SILENCE_MAX: Duration = Duration::from_millis(300);
/// The parts of the time limit of a lookup that one server may take.
const PARTS: u32 = 3;

/// The name servers.
pub(super) struct NameServers {
    servers: Vec<TokioResolver>,
    timeout: Duration,
    rounds: u32,
    order: ServerOrder,
    next: AtomicUsize,
}

/// The answers to the queries for both families.
pub(super) struct Answer {
    pub found: Result<Vec<IpAddr>, Unresolved>,
    /// How long it may be kept.
    pub ttl: Duration,
}

impl NameServers {
    /// Returns the servers of resolv.conf, for lookups that take at most `limit`.
    pub fn new(conf: &ResolvConf, limit: Duration) -> Self {
        let timeout = conf.timeout.min(limit / PARTS);
        let options = |server: &SocketAddr| resolver(conf, *server, timeout);
        Self {
            servers: conf.servers.iter().map(options).collect(),
            timeout,
            rounds: conf.attempts,
            order: conf.order,
            next: AtomicUsize::new(0),
        }
    }

    /// Looks both families up at once.
    pub async fn addresses(&self, name: &Name) -> Answer {
        let mut ask_v4 = pin!(self.query(name, RecordType::A));
        let mut ask_v6 = pin!(self.query(name, RecordType::AAAA));
        let (mut v4, mut v6) = (None, None);
        while v4.is_none() || v6.is_none() {
            let some_found = matches!((&v4, &v6), (Some(Ok(_)), _) | (_, Some(Ok(_))));
            tokio::select! {
                answer = &mut ask_v4, if v4.is_none() => v4 = Some(answer),
                answer = &mut ask_v6, if v6.is_none() => v6 = Some(answer),
                () = sleep(FAMILY_WAIT_MAX), if some_found => break,
            }
        }
        both(v4, v6)
    }

    /// Asks all servers, some times.
    async fn query(&self, name: &Name, kind: RecordType) -> Result<Lookup, NetError> {
        let mut servers: Vec<&TokioResolver> = self.servers.iter().collect();
        if self.order == ServerOrder::Rotating {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % servers.len();
            servers.rotate_left(first);
        }
        let mut last = Err(NetError::NoConnections);
        for _ in 0..self.rounds {
            last = self.in_order(&servers, name, kind).await;
            if is_final(&last) {
                break;
            }
        }
        last
    }

    /// Asks the servers one after the other. The answer of a server counts once all
    /// before it have failed; an address counts at once.
    fn in_order<'a>(
        &'a self,
        servers: &'a [&'a TokioResolver],
        name: &'a Name,
        kind: RecordType,
    ) -> Pin<Box<dyn Future<Output = Result<Lookup, NetError>> + Send + 'a>> {
        Box::pin(async move {
            let Some((first, rest)) = servers.split_first() else {
                return Err(NetError::NoConnections);
            };
            let mut first = pin!(self.ask(first, name, kind));
            if rest.is_empty() {
                return first.await;
            }
            let mut rest = self.in_order(rest, name, kind);
            if let Ok(answer) = timeout(SILENCE_MAX, &mut first).await {
                return match is_final(&answer) {
                    true => answer,
                    false => rest.await,
                };
            }
            let mut later = None;
            loop {
                tokio::select! {
                    answer = &mut first => return match later {
                        _ if is_final(&answer) => answer,
                        Some(later) => later,
                        None => rest.await,
                    },
                    answer = &mut rest, if later.is_none() => match answer {
                        Ok(_) => return answer,
                        Err(_) => later = Some(answer),
                    },
                }
            }
        })
    }

    async fn ask(
        &self,
        server: &TokioResolver,
        name: &Name,
        kind: RecordType,
    ) -> Result<Lookup, NetError> {
        match timeout(self.timeout, server.lookup(name.clone(), kind)).await {
            Ok(answer) => answer,
            Err(_) => Err(NetError::Timeout),
        }
    }
}

/// Returns a resolver that asks this server alone, once, and keeps no answers.
fn resolver(conf: &ResolvConf, server: SocketAddr, timeout: Duration) -> TokioResolver {
    let mut config = match conf.transport {
        Transport::Udp => NameServerConfig::udp_and_tcp(server.ip()),
        Transport::Tcp => NameServerConfig::tcp(server.ip()),
    };
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.attempts = 0;
    options.edns0 = conf.edns;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .expect("a resolver without TLS needs nothing")
}

/// Returns whether no other server needs to be asked: the name exists or it does not.
fn is_final(answer: &Result<Lookup, NetError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => matches!(
            none.response_code,
            ResponseCode::NXDomain | ResponseCode::NoError
        ),
        Err(_) => false,
    }
}

/// Returns what both families' answers say together. A family without an answer is
/// `None`.
fn both(v4: Option<Result<Lookup, NetError>>, v6: Option<Result<Lookup, NetError>>) -> Answer {
    let lookups = [&v4, &v6].into_iter().flatten().flatten();
    let found: Vec<IpAddr> = lookups
        .flat_map(Lookup::answers)
        .filter_map(|record| record.data.ip_addr())
        .collect();
    let ttl = match found.is_empty() {
        true => ttl_of_none(&v4, &v6),
        false => ttl_of_addresses(&v4, &v6),
    };
    let found = match v4 {
        _ if !found.is_empty() => Ok(found),
        Some(Err(error)) => Err(Unresolved::of(&error)),
        Some(Ok(_)) | None => Err(Unresolved::NoAddress),
    };
    Answer { found, ttl }
}

type FamilyAnswer = Option<Result<Lookup, NetError>>;

/// Returns how long addresses may be kept. Without an answer for IPv4 they are not
/// kept: nearly every receiver has such an address.
fn ttl_of_addresses(v4: &FamilyAnswer, v6: &FamilyAnswer) -> Duration {
    let answered = |family: &FamilyAnswer| family.as_ref().is_some_and(is_final);
    let lookups = [v4, v6].into_iter().flatten().flatten();
    let records = lookups.flat_map(Lookup::answers);
    let seconds = records.map(|record| record.ttl).min().unwrap_or(0);
    let ttl = Duration::from_secs(seconds.into());
    match (answered(v4), answered(v6)) {
        (false, _) => Duration::ZERO,
        (true, false) => ttl.min(FAILURE_AGE_MAX),
        (true, true) => ttl,
    }
}

/// Returns how long it may be kept that there is no address.
fn ttl_of_none(v4: &FamilyAnswer, v6: &FamilyAnswer) -> Duration {
    let negative = |family: &FamilyAnswer| match family {
        Some(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => none.negative_ttl.unwrap_or(0),
        _ => 0,
    };
    Duration::from_secs(negative(v4).min(negative(v6)).into())
}
