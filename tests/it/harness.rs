//! The tests' own tools show what they should: a ledger that cannot see a
//! breach would let every other test pass.

use crate::support::broker::Broker;
use crate::support::dead_letters::FoundRecord;
use crate::support::ledger::Ledger;
use crate::support::proxy::{Api, Fate, Proxy, Wanted, Way};
use crate::support::publisher::Publisher;
use crate::support::receiver::{Behaviour, Keep, Post, Posts, Receiver};
use crate::support::{dead_letters, http, sample, wait};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(200);

fn post(at: Instant, attempt: u8, status: u16, body: &[u8]) -> Post {
    Post {
        at,
        at_us: 0,
        tenant: "t".to_owned(),
        attempt,
        status: Some(status),
        sum: (body.len(), crc32fast::hash(body)),
        bytes: None,
    }
}

#[test]
fn the_ledger_sees_every_kind_of_breach() {
    let start = Instant::now();
    let at = |n: u32| start + DELAY * n;
    let mut ledger = Ledger::default();
    ledger.publish("a", "t", b"body");
    let check =
        |posts: Vec<Post>| ledger.account(&Posts::from([("a".to_owned(), posts)]), &[], DELAY);

    check(vec![
        post(at(0), 1, 503, b"body"),
        post(at(1), 2, 200, b"body"),
    ])
    .assert_exact();
    assert_eq!(check(vec![]).lost, ["a"]);
    assert_eq!(check(vec![post(at(0), 1, 503, b"body")]).lost, ["a"]);
    assert_eq!(check(vec![post(at(0), 1, 200, b"badly")]).altered, ["a"]);
    let eleven: Vec<Post> = (0..11).map(|n| post(at(n), 1, 503, b"body")).collect();
    let account = check(eleven);
    assert_eq!(
        (account.over_ten, account.out_of_order),
        (vec!["a".to_owned()], vec!["a".to_owned()])
    );
    let early = at(1) - Duration::from_millis(1);
    let account = check(vec![
        post(at(0), 1, 200, b"body"),
        post(early, 2, 200, b"body"),
    ]);
    assert_eq!((account.early.len(), account.after_success.len()), (1, 1));

    let dead = FoundRecord {
        at_ms: 0,
        key: None,
        value: Some(sample::record("b", "t")),
        headers: Vec::new(),
    };
    assert!(!ledger.settled(&Posts::new(), std::slice::from_ref(&dead)));
    ledger.publish("b", "t", b"");
    let none = Posts::from([("a".to_owned(), vec![post(at(0), 1, 200, b"body")])]);
    assert!(ledger.settled(&none, &[dead]));
}

fn exchange(stream: &mut TcpStream, tenant: &str, id: &str) -> Option<u16> {
    let request = format!(
        "POST /t/{tenant} HTTP/1.1\r\nhost: x\r\nWebhook-Id: {id}\r\nringback-attempt: 1\r\ncontent-length: 4\r\n\r\nbody"
    );
    stream
        .write_all(request.as_bytes())
        .expect("it is connected");
    let mut answer = [0; 1_024];
    let length = stream.read(&mut answer).ok()?;
    let text = std::str::from_utf8(&answer[..length]).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_receiver_does_as_its_script_says() {
    let receiver = Receiver::start(Keep::All);
    receiver.behave("fails", Behaviour::FailFirst(2));
    receiver.behave("closes", Behaviour::Close);
    let mut stream = TcpStream::connect(("127.0.0.1", receiver.port())).expect("it listens");
    let mut say = |tenant: &str, id: &str| exchange(&mut stream, tenant, id);
    assert_eq!(say("ok", "1"), Some(200));
    assert_eq!(
        [(); 3].map(|()| say("fails", "2")),
        [Some(503), Some(503), Some(200)]
    );
    assert_eq!(say("closes", "3"), None);
    assert_eq!(
        (
            receiver.count(),
            receiver.successes(),
            receiver.connections()
        ),
        (5, 2, 1)
    );
    let posts = receiver.posts_of("2");
    assert_eq!(
        posts.iter().map(Post::succeeded).collect::<Vec<_>>(),
        [false, false, true]
    );
    assert_eq!(
        posts[0].bytes.as_ref().map(|(_, body)| body.as_slice()),
        Some(&b"body"[..])
    );
    assert_eq!(posts[0].header("webhook-id"), Some("2"));
    assert_eq!(
        http::get(receiver.port(), "/elsewhere").map(|(s, _)| s),
        Some(200)
    );
    assert_eq!(receiver.strays(), 1);
}

#[test]
fn the_broker_serves_and_keeps_headers_and_null_values() {
    let broker = Broker::shared();
    broker.create_topic("harness", 2, &[]);
    let publisher = Publisher::new(broker);
    publisher.send("harness", Some(b"k"), None, &[("x", "1"), ("x", "2")]);
    publisher.send("harness", None, Some(b"v"), &[]);
    publisher.flush();
    let found = dead_letters::read(broker, "harness");
    let nothing = found
        .iter()
        .find(|f| f.value.is_none())
        .expect("the null value");
    assert_eq!(nothing.headers.len(), 2);
    assert_eq!(found.len(), 2);
    assert!(broker.consumer_groups(&["--list"]).lines().count() < 1_000);
}

#[test]
fn a_broker_comes_back_with_its_data() {
    let broker = Broker::prepare("own-broker");
    broker.start();
    let publisher = Publisher::new(&broker);
    broker.kill();
    broker.start();
    publisher.send("warm-up", None, Some(b"after"), &[]);
    publisher.flush();
    wait::until("both records", || {
        dead_letters::read(&broker, "warm-up").len() == 2
    });
}

#[test]
fn a_proxy_holds_loses_and_cuts_what_it_is_told_and_nothing_else() {
    let broker = Broker::shared();
    broker.create_topic("proxied", 1, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    let publisher = Publisher::at(&proxy.address());
    let send = |value: &[u8]| publisher.send("proxied", None, Some(value), &[]);
    let found = || -> Vec<Option<Vec<u8>>> {
        let found = dead_letters::read(broker, "proxied");
        found.into_iter().map(|f| f.value).collect()
    };
    let values = |all: &[&[u8]]| -> Vec<_> { all.iter().map(|v| Some(v.to_vec())).collect() };

    send(b"passes");
    publisher.flush();
    assert!(proxy.seen(Way::Answer, Api::PRODUCE) > 0, "it came past us");
    let held = proxy.trap(
        Fate::Hold,
        Wanted::request(&[Api::PRODUCE]).holding(b"held"),
    );
    send(b"held");
    held.until_caught();
    assert_eq!(found(), values(&[b"passes"]));
    held.release();
    publisher.flush();
    assert_eq!(found(), values(&[b"passes", b"held"]));

    // A request that is carried out and not answered is sent and carried out again.
    let cut = proxy.trap(Fate::Cut, Wanted::answer(&[Api::PRODUCE]).after(1));
    send(b"after");
    publisher.flush();
    assert_eq!(cut.caught(), 0);
    send(b"cut");
    publisher.flush();
    assert_eq!(cut.caught(), 1);
    assert_eq!(found(), values(&[b"passes", b"held", b"after", b"cut"]));

    proxy.cut();
    send(b"mended");
    wait::stays("cut off", Duration::from_millis(300), || found().len() == 4);
    proxy.mend();
    publisher.flush();
    assert_eq!(found().len(), 5);
}
