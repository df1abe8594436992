//! Lookups with scripted name servers, on loopback.

use super::*;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UdpSocket;

/// Long enough for a busy machine: no answer here depends on it.
const LIMIT: Duration = Duration::from_secs(20);
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;
const TYPE_A: u16 = 1;

/// What a name server answers.
#[derive(Clone, Copy)]
enum Reply {
    /// This IPv4 address for each name, and no IPv6 address.
    Address([u8; 4]),
    /// The same for names of two labels. Others do not exist.
    TwoLabels([u8; 4]),
    Code(u8),
    Silence,
}

struct Server {
    address: SocketAddr,
    queries: Arc<AtomicUsize>,
}

async fn server(reply: Reply) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let address = socket.local_addr().expect("bound");
    let queries = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&queries);
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            counting.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = answer(reply, &query[..length]) {
                socket.send_to(&answer, from).await.expect("loopback");
            }
        }
    });
    Server { address, queries }
}

/// Returns the message that answers a query.
///
/// Source: RFC 1035, section 4.1.
fn answer(reply: Reply, query: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = 0;
    while query[at] > 0 {
        at += 1 + usize::from(query[at]);
        labels += 1;
    }
    let question = &query[12..at + 5];
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let (code, address) = match reply {
        Reply::Silence => return None,
        Reply::Code(code) => (code, None),
        Reply::TwoLabels(_) if labels != 2 => (NXDOMAIN, None),
        Reply::Address(ip) | Reply::TwoLabels(ip) => (0, (kind == TYPE_A).then_some(ip)),
    };
    let mut message = query[..2].to_vec();
    let answers = u8::from(address.is_some());
    message.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    message.extend(question);
    if let Some(ip) = address {
        // The name of the question, type A, class IN, a minute, four bytes.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(ip);
    }
    Some(message)
}

/// Returns a resolver that asks these servers with these further lines of resolv.conf.
fn names(servers: &[&Server], lines: &str) -> Names {
    let mut conf = ResolvConf::read(lines.as_bytes());
    conf.servers = servers.iter().map(|server| server.address).collect();
    let names = Names::new(LIMIT);
    names.use_sources(Sources::new(conf, b"", LIMIT));
    names
}

fn is(ip: [u8; 4]) -> Found {
    Ok(vec![IpAddr::from(ip)])
}

const ONE: [u8; 4] = [192, 0, 2, 1];
const TWO: [u8; 4] = [192, 0, 2, 2];

#[tokio::test]
async fn the_next_server_is_asked_after_an_error_or_silence() {
    for first in [
        Reply::Code(SERVFAIL),
        Reply::Code(REFUSED),
        Reply::Code(NOTIMP),
        Reply::Silence,
    ] {
        let (bad, good) = (server(first).await, server(Reply::Address(ONE)).await);
        for _ in 0..3 {
            let names = names(&[&bad, &good], "options attempts:0 timeout:0\n");
            assert_eq!(names.look_up("a.test").await, is(ONE));
        }
        assert!(bad.queries.load(Ordering::SeqCst) > 0);
    }
}

#[tokio::test]
async fn no_such_name_counts_from_the_first_server_that_answers() {
    let none = server(Reply::Code(NXDOMAIN)).await;
    let good = server(Reply::Address(ONE)).await;
    let broken = server(Reply::Code(SERVFAIL)).await;
    for (servers, expected) in [
        (vec![&none, &good], Err(Unresolved::NoSuchName)),
        (vec![&good, &none], is(ONE)),
        (vec![&broken, &none, &good], Err(Unresolved::NoSuchName)),
        (vec![&broken, &broken], Err(Unresolved::Failed)),
    ] {
        for _ in 0..3 {
            assert_eq!(names(&servers, "").look_up("a.test").await, expected);
        }
    }
}

#[tokio::test]
async fn no_such_name_from_a_later_server_waits_for_a_silent_one() {
    let (silent, none) = (
        server(Reply::Silence).await,
        server(Reply::Code(NXDOMAIN)).await,
    );
    let names = names(&[&silent, &none], "options timeout:1\n");
    let found = names.look_up("a.test").await;
    assert_eq!(found, Err(Unresolved::NoSuchName));
}

#[tokio::test]
async fn servers_that_rotate_share_the_queries() {
    let (one, two) = (
        server(Reply::Address(ONE)).await,
        server(Reply::Address(TWO)).await,
    );
    let listed = names(&[&one, &two], "");
    let rotating = names(&[&one, &two], "options rotate\n");
    for number in 0..10 {
        let name = format!("n{number}.test");
        assert_eq!(listed.look_up(&name).await, is(ONE));
        assert!(rotating.look_up(&name).await.is_ok());
    }
    // Each lookup is a query for either family.
    assert_eq!(two.queries.load(Ordering::SeqCst), 10);
    assert_eq!(one.queries.load(Ordering::SeqCst), 30);
}

#[tokio::test]
async fn search_domains_are_tried_and_invalid_ones_are_passed_over() {
    let two_labels = server(Reply::TwoLabels(ONE)).await;
    let long = "x".repeat(64);
    let search = format!("search bad..test {long}.test one.two.three test\n");
    let names = names(&[&two_labels], &search);
    assert_eq!(names.look_up("a").await, is(ONE));
    assert_eq!(names.look_up("a.b").await, is(ONE));
    let found = names.look_up("a.b.c").await;
    assert_eq!(found, Err(Unresolved::NoSuchName));
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time() {
    let good = server(Reply::Address(ONE)).await;
    let names = names(&[&good], "");
    for _ in 0..5 {
        assert_eq!(names.look_up("a.test").await, is(ONE));
    }
    assert_eq!(good.queries.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_both_families_are_returned() {
    let names = Names::new(Duration::from_millis(200));
    let hosts = b"# local\n192.0.2.1 One two # three\n2001:db8::1 one\nnonsense\n\n192.0.2.2 one\n";
    names.look_in(b"nameserver 127.0.0.1\nsearch example.invalid\n", hosts);
    #[track_caller]
    fn check(found: Result<Vec<IpAddr>, Unresolved>, expected: &[&str]) {
        let expected: Vec<IpAddr> = expected.iter().map(|a| a.parse().expect("valid")).collect();
        assert_eq!(found, Ok(expected));
    }
    let one = ["192.0.2.1", "192.0.2.2", "2001:db8::1"];
    check(names.look_up("one").await, &one);
    check(names.look_up("ONE.").await, &one);
    check(names.look_up("two").await, &["192.0.2.1"]);
    let long = "x".repeat(64);
    assert_eq!(names.look_up(&long).await, Err(Unresolved::NotAName));
}
