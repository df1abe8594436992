//! A name server under a script, on a loopback address of this process's own
//! (port 53, which resolv.conf cannot change). Every name is a zone of its own,
//! and holds for the names below it too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is answered to a query.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// These addresses of the family that was asked for, not to be kept.
    Addresses(&'static [&'static str]),
    /// Another name, and that one's address.
    Alias(&'static str),
    /// There is no such name.
    NoSuchName,
    /// The server cannot tell.
    Failure,
    /// Bytes that are no DNS message.
    Garbage,
    /// Nothing, ever.
    Silence,
}

/// What is answered to the queries for a name: for IPv4 one after the other,
/// the last again and again; for IPv6 always the same.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// To queries for IPv4.
    pub v4: &'static [Reply],
    /// To queries for IPv6.
    pub v6: Reply,
}

/// The server; it ends when dropped.
pub struct NameServer {
    ip: Ipv4Addr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Serves these zones; other names do not exist.
    pub fn start(zones: HashMap<&'static str, Zone>) -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 53, high, low.max(1));
        let socket = UdpSocket::bind((ip, 53))
            .unwrap_or_else(|e| panic!("binding {ip}:53, which takes root: {e}"));
        let each = Some(Duration::from_millis(100));
        socket.set_read_timeout(each).expect("the socket is open");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || serve(&socket, &zones, &stopped));
        Self {
            ip,
            stop,
            thread: Some(thread),
        }
    }

    /// What resolv.conf must say; `search.test` is the search domain.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\nsearch search.test\n", self.ip)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(socket: &UdpSocket, zones: &HashMap<&str, Zone>, stopped: &AtomicBool) {
    let mut asked_v4: HashMap<String, usize> = HashMap::new();
    let mut buffer = [0; 4096];
    while !stopped.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Some(query) = Query::read(&buffer[..length]) else {
            continue;
        };
        let above = || {
            query
                .name
                .split_once('.')
                .and_then(|(_, above)| zones.get(above))
        };
        let reply = match zones.get(query.name.as_str()).or_else(above) {
            None => Reply::NoSuchName,
            Some(zone) if query.kind == A => {
                let asked = asked_v4.entry(query.name.clone()).or_default();
                *asked += 1;
                zone.v4[(*asked - 1).min(zone.v4.len() - 1)]
            }
            Some(zone) => zone.v6,
        };
        answer(socket, from, &query, reply);
    }
}

const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;

/// The one question of a message.
struct Query<'a> {
    id: &'a [u8],
    question: &'a [u8],
    name: String,
    kind: u16,
}

impl<'a> Query<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = message.get(at..at + length)?;
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
            at += length;
        }
        let kind = message.get(at..at + 2)?;
        Some(Self {
            id: &message[..2],
            question: message.get(12..at + 4)?,
            name: labels.join("."),
            kind: u16::from_be_bytes([kind[0], kind[1]]),
        })
    }
}

fn answer(socket: &UdpSocket, to: SocketAddr, query: &Query<'_>, reply: Reply) {
    let records: Vec<(u16, Vec<u8>)> = match reply {
        Reply::Addresses(texts) => texts
            .iter()
            .filter_map(|t| address(t, query.kind))
            .collect(),
        Reply::Alias(text) => {
            // The alias's name is the one letter "a".
            let alias = (CNAME, vec![1, b'a', 0]);
            address(text, query.kind).map_or(vec![alias.clone()], |found| vec![alias, found])
        }
        Reply::NoSuchName | Reply::Failure => Vec::new(),
        Reply::Garbage => {
            socket.send_to(b"garbage", to).ok();
            return;
        }
        Reply::Silence => return,
    };
    let code = match reply {
        Reply::NoSuchName => 3,
        Reply::Failure => 2,
        _ => 0,
    };
    let mut message = query.id.to_vec();
    let count = u8::try_from(records.len()).expect("few records");
    message.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    message.extend(query.question);
    for (at, (kind, data)) in records.iter().enumerate() {
        match (reply, at) {
            (Reply::Alias(_), 1) => message.extend([1, b'a', 0]),
            // The question's name.
            _ => message.extend([0xc0, 12]),
        }
        message.extend(kind.to_be_bytes());
        // Class IN, to be kept for no time.
        message.extend([0, 1, 0, 0, 0, 0]);
        let length = u16::try_from(data.len()).expect("short data");
        message.extend(length.to_be_bytes());
        message.extend(data);
    }
    socket.send_to(&message, to).ok();
}

fn address(text: &str, kind: u16) -> Option<(u16, Vec<u8>)> {
    match text.parse().expect("an address") {
        IpAddr::V4(ip) if kind == A => Some((A, ip.octets().to_vec())),
        IpAddr::V6(ip) if kind == AAAA => Some((AAAA, ip.octets().to_vec())),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}
