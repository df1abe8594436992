//! Reads resolv.conf as the system's resolver does: a line or an option that it would
//! not understand changes nothing else. Looks nothing up. Pure; runs where the file
//! is read.

use hickory_resolver::proto::rr::Name;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const DNS_PORT: u16 = 53;
/// Source: resolv.conf(5), `nameserver` (MAXNS).
const SERVERS_MAX: usize = 3;
/// Source: resolv.conf(5), `ndots`.
const NDOTS_MAX: u32 = 15;
/// Source: resolv.conf(5), `timeout`, `attempts`. For 0 the system waits one second.
/// With 0 attempts it asks no server. No operator means that, so one is made.
const TIMEOUT_SECONDS: (u32, u32) = (1, 30);
const ATTEMPTS: (u32, u32) = (1, 5);

/// The settings of resolv.conf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ResolvConf {
    /// The name servers, in the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    pub search: Vec<Name>,
    ndots: usize,
    /// How long one server may take.
    pub timeout: Duration,
    /// How often all servers are asked.
    pub attempts: u32,
    pub order: ServerOrder,
    pub transport: Transport,
    pub edns: bool,
}

/// The server that is asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ServerOrder {
    AsListed,
    /// Each query starts with the next server.
    Rotating,
}

/// The transport of queries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    /// TCP only for long answers.
    Udp,
    Tcp,
}

impl ResolvConf {
    /// Returns the settings in this text.
    pub fn read(text: &[u8]) -> Self {
        // Each mistake concerns one line or option.
        let (read, _) = resolv_conf::Config::parse_with_errors(text);
        let servers = read.nameservers.iter().take(SERVERS_MAX);
        let mut servers: Vec<IpAddr> = servers.map(IpAddr::from).collect();
        if servers.is_empty() {
            servers.push(Ipv4Addr::LOCALHOST.into());
        }
        let mut search: Vec<&String> = read.get_last_search_or_domain().collect();
        let domain = read.get_system_domain();
        if search.is_empty() {
            search.extend(&domain);
        }
        let search = search.into_iter().filter_map(|text| domain_name(text));
        let within = |(least, most): (u32, u32), value: u32| value.clamp(least, most);
        Self {
            servers: servers
                .into_iter()
                .map(|ip| SocketAddr::new(ip, DNS_PORT))
                .collect(),
            search: search.collect(),
            ndots: read.ndots.min(NDOTS_MAX) as usize,
            timeout: Duration::from_secs(within(TIMEOUT_SECONDS, read.timeout).into()),
            attempts: within(ATTEMPTS, read.attempts),
            order: match read.rotate {
                true => ServerOrder::Rotating,
                false => ServerOrder::AsListed,
            },
            transport: match read.use_vc {
                true => Transport::Tcp,
                false => Transport::Udp,
            },
            edns: read.edns0,
        }
    }

    /// Returns the names that a host name may stand for, in the order in which they
    /// are looked up.
    pub fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut as_it_is = name.clone();
        as_it_is.set_fqdn(true);
        if name.is_fqdn() {
            return vec![as_it_is];
        }
        let mut all = Vec::new();
        for domain in &self.search {
            // A name that is too long does not exist.
            all.extend(name.clone().append_domain(domain));
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        match dots >= self.ndots || name.is_localhost() {
            true => all.insert(0, as_it_is),
            false => all.push(as_it_is),
        }
        all
    }
}

/// Returns a search domain; `None` where it is not one, which the system finds nothing
/// with.
fn domain_name(text: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(text).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_at_their_ends_are_read_as_the_system_reads_them() {
        #[track_caller]
        fn check(options: &str, timeout_s: u64, attempts: u32) {
            let text = format!("nameserver 192.0.2.1\noptions {options}\n");
            let read = ResolvConf::read(text.as_bytes());
            let found = (read.timeout.as_secs(), read.attempts);
            assert_eq!(found, (timeout_s, attempts), "{options}");
            assert_eq!(read.servers.len(), 1, "{options}");
        }
        check("", 5, 2);
        check("timeout:0", 1, 2);
        check("attempts:0", 5, 1);
        check("timeout:0 attempts:0", 1, 1);
        check("timeout:99 attempts:99", 30, 5);
        check("timeout:x attempts:3", 5, 3);
        check("no-such-option timeout:2", 2, 2);
    }

    #[test]
    fn three_servers_count_and_without_one_this_host_is_asked() {
        let of = |text: &str| ResolvConf::read(text.as_bytes()).servers;
        let texts: Vec<String> = of(
            "nameserver 192.0.2.1\nnameserver nonsense\nnameserver 2001:db8::1\n\
             nameserver 192.0.2.3\nnameserver 192.0.2.4\n",
        )
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(texts, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
        for text in ["", "search a.test\n", "\u{0}\n"] {
            assert_eq!(of(text)[0].to_string(), "127.0.0.1:53", "{text}");
        }
        let rotates = ResolvConf::read(b"options rotate\n").order;
        assert_eq!(rotates, ServerOrder::Rotating);
    }

    #[test]
    fn a_name_stands_for_itself_and_for_names_below_the_search_domains() {
        #[track_caller]
        fn check(conf: &str, name: &str, expected: &[&str]) {
            let read = ResolvConf::read(conf.as_bytes());
            let name = Name::from_str_relaxed(name).expect("a name");
            let found = read.candidates(&name);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{conf}");
        }
        let two = "search one.test two.test\n";
        check(two, "a.test.", &["a.test."]);
        check(two, "a.b", &["a.b.", "a.b.one.test.", "a.b.two.test."]);
        check(two, "a", &["a.one.test.", "a.two.test.", "a."]);
        let dots = "search one.test\noptions ndots:3\n";
        check(dots, "a.b.c", &["a.b.c.one.test.", "a.b.c."]);
        let long = "x".repeat(64);
        let invalid = format!("search bad..test {long}.test -- good.test .\n");
        check(&invalid, "a.b", &["a.b.", "a.b.good.test."]);
    }
}
