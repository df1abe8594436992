//! Attempts against scripted receivers on loopback.

mod answers;
mod h2_receiver;
mod proxied;
mod renewed;
mod script;
mod unprocessed;

use self::answers::ended;
use self::script::{Script, receiver};
use super::*;
use crate::http::names::Names;
use crate::model::call::CallEnded;
use crate::model::message::Isolation;
use crate::model::position::{Offset, Topic};
use crate::model::tenant::Secret;
use bytes::Bytes;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

const TIMEOUT: Duration = Duration::from_millis(400);
const VALUE: &[u8] = br#"{"id":"c-1","tenantId":"t-1","secretField":"personal"}"#;

fn settings(proxy: Option<&str>, trust: Trust) -> HttpSettings {
    HttpSettings {
        timeout: TIMEOUT,
        version: "9.9.9",
        allow_networks: Vec::new(),
        deny_networks: Vec::new(),
        proxy: proxy.map(str::to_owned),
        trust,
        client_cert: None,
        reuse: ConnectionReuse::Reuse,
    }
}

fn callbacks(guard: AddressGuard) -> Arc<Callbacks> {
    callbacks_of(settings(None, Trust::Nothing), guard)
}

fn callbacks_of(settings: HttpSettings, guard: AddressGuard) -> Arc<Callbacks> {
    let names = Arc::new(Names::new(TIMEOUT));
    let callbacks = Callbacks::with_guard(settings, guard, names);
    Arc::new(callbacks.expect("nothing is needed from outside"))
}

/// Returns a guard that permits this host and resolves every name to these addresses.
fn loopback(answers: &[SocketAddr]) -> AddressGuard {
    let this_host = "127.0.0.0/8".parse().expect("a network");
    AddressGuard::with_answers(&[this_host], answers)
}

fn to(url: &str) -> AttemptRequest {
    let call = CallEnded::read(VALUE).expect("valid");
    let tenant = Tenant {
        id: call.tenant.clone(),
        url: Secret(url.to_owned()),
        secrets: Vec::new(),
        headers: vec![("x-team".to_owned(), Secret("blue".to_owned()))],
        max_in_flight: 64,
        timeout: None,
        enabled: true,
    };
    AttemptRequest {
        position: Topic::Source.partition(0).at(Offset(7)),
        tenant: Arc::new(tenant),
        call,
        value: Bytes::from_static(VALUE),
        attempt: 3,
        start_by: UnixMillis(i64::MAX),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        isolation: Isolation::Shared,
    }
}

async fn attempt(url: &str) -> Outcome {
    let callbacks = callbacks(loopback(&[]));
    callbacks
        .attempt(to(url), UnixMillis(1_700_000_000_999))
        .await
}

#[tokio::test]
async fn an_answer_before_the_request_is_a_failure() {
    let (address, _requests) = receiver(Script::Unasked("garbage\r\n\r\n")).await;
    let outcome = attempt(&format!("http://{address}/")).await;
    // Either class is right: the order of reading and writing is random.
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                class: ErrorClass::Protocol | ErrorClass::Reset,
                ..
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn no_connection_no_name_no_tls_each_has_its_class() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let refused = unused.local_addr().expect("bound");
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let never_accepts = deaf.local_addr().expect("bound");
    drop(unused);
    let outcome = attempt(&format!("http://{refused}/?token=1")).await;
    ended("refused", &outcome, None, Some(ErrorClass::Connect));
    let outcome = attempt(&format!("http://{never_accepts}/?token=1")).await;
    ended("never accepts", &outcome, None, Some(ErrorClass::Timeout));

    let (plain, _requests) = receiver(Script::Answer("HTTP/1.1 400 No\r\n\r\n")).await;
    let outcome = attempt(&format!("https://{plain}/?token=1")).await;
    // It waits for a request's end, which a TLS hello never has.
    ended(
        "tls to a deaf port",
        &outcome,
        None,
        Some(ErrorClass::Timeout),
    );
    let (plain, _requests) = receiver(Script::Unasked("HTTP/1.1 400 No\r\n\r\n")).await;
    let outcome = attempt(&format!("https://{plain}/?token=1")).await;
    ended("tls to a plain port", &outcome, None, Some(ErrorClass::Tls));
    let (closes, _requests) = receiver(Script::AnswerEarly("")).await;
    let outcome = attempt(&format!("https://{closes}/?token=1")).await;
    assert!(
        matches!(
            outcome,
            Outcome::Failed {
                class: ErrorClass::Tls | ErrorClass::Reset,
                ..
            }
        ),
        "{outcome:?}"
    );

    let nowhere = callbacks(loopback(&[]));
    let outcome = nowhere
        .attempt(to("http://no-such-name.invalid/?token=1"), UnixMillis(0))
        .await;
    ended("no such name", &outcome, None, Some(ErrorClass::Dns));
    let (address, _requests) = receiver(Script::Answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let private = callbacks(AddressGuard::with_answers(&[], &[address]));
    let url = format!("http://name.invalid:{}/?token=1", address.port());
    let outcome = private.attempt(to(&url), UnixMillis(0)).await;
    let refused = Some(ErrorClass::RefusedAddress);
    ended("a name with a private address", &outcome, None, refused);
    let somewhere = callbacks(loopback(&[address]));
    let url = format!("http://name.invalid:{}/", address.port());
    let outcome = somewhere.attempt(to(&url), UnixMillis(0)).await;
    ended("a name", &outcome, Some(200), None);
}

#[tokio::test]
async fn literal_addresses_that_are_not_public_are_refused_in_every_form() {
    let callbacks = callbacks(AddressGuard::with_answers(&[], &[]));
    let all = "127.0.0.1 127.1 127.0.0.1. 2130706433 0x7f000001 0x7f.1 0177.0.0.01 017700000001 \
        %31%32%37.0.0.1 \u{ff11}\u{ff12}\u{ff17}.0.0.1 \
        \u{2460}\u{2461}\u{2466}\u{3002}0\u{3002}0\u{3002}1 0 0x 10.65793 \
        169.254.169.254 0xa9fea9fe 192.168.0.1 [::1] [::] [0:0:0:0:0:0:0:1] \
        [::ffff:127.0.0.1] [::FFFF:7F00:1] [::127.0.0.1] [64:ff9b::a9fe:a9fe] \
        [2002:7f00:1::] [2001:0:1234::1] [fd00:ec2::254] [fe80::1] [ff02::1]";
    for host in all.split_whitespace() {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}/path?token=1");
            let outcome = callbacks.attempt(to(&url), UnixMillis(0)).await;
            ended(&url, &outcome, None, Some(ErrorClass::RefusedAddress));
        }
    }
    // Zone ids are no part of URLs.
    for host in ["[fe80::1%25eth0]", "[fe80::1%eth0]"] {
        assert!(Url::parse(&format!("http://{host}/")).is_err(), "{host}");
    }
}

#[tokio::test]
async fn the_request_is_as_the_interface_says() {
    let (address, mut requests) = receiver(Script::Answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    attempt(&format!("http://{address}/call?token=1")).await;
    requests.recv().await.expect("a connection");
    let request = requests.recv().await.expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("whole");
    let wrapped = format!(r#"{{"data":{}}}"#, String::from_utf8_lossy(VALUE));
    assert_eq!(body, wrapped);
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /call?token=1 HTTP/1.1");
    lines.sort_unstable();
    let length = format!("content-length: {}", body.len());
    let host = format!("host: {address}");
    assert_eq!(
        lines,
        [
            "accept: */*",
            length.as_str(),
            "content-type: application/json; charset=utf-8",
            host.as_str(),
            "ringback-attempt: 3",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "user-agent: ringback/9.9.9",
            "webhook-id: c-1",
            "webhook-timestamp: 1700000000",
            "x-team: blue",
        ]
    );
}

/// Returns how many connections ten attempts in sequence open.
async fn connections(script: Script, reuse: ConnectionReuse) -> usize {
    let settings = HttpSettings {
        reuse,
        ..settings(None, Trust::Nothing)
    };
    let callbacks = callbacks_of(settings, loopback(&[]));
    let (address, mut requests) = receiver(script).await;
    for _ in 0..10 {
        let request = to(&format!("http://{address}/"));
        let outcome = callbacks.attempt(request, UnixMillis(0)).await;
        ended("in a row", &outcome, Some(200), None);
    }
    let mut connections = 0;
    while let Ok(line) = requests.try_recv() {
        connections += usize::from(line.starts_with("connection "));
    }
    connections
}

#[tokio::test]
async fn connections_are_reused_after_a_short_body() {
    let empty = Script::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(connections(empty, ConnectionReuse::Reuse).await, 1);
    let short = Script::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(connections(short, ConnectionReuse::Reuse).await, 1);
    let chunked =
        Script::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    assert_eq!(connections(chunked, ConnectionReuse::Reuse).await, 1);
    let long = Script::Answer("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nok");
    assert_eq!(connections(long, ConnectionReuse::Reuse).await, 10);
}

#[tokio::test]
async fn without_reuse_each_attempt_has_its_own_connection() {
    let empty = Script::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(
        connections(empty, ConnectionReuse::CloseAfterAttempt).await,
        10
    );
}

#[tokio::test]
async fn a_closed_idle_connection_fails_no_attempt_and_causes_no_second_post() {
    const ATTEMPTS: usize = 60;
    let callbacks = callbacks(loopback(&[]));
    let closes = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (address, mut requests) = receiver(Script::AnswerAndClose(closes)).await;
    let mut delivered = 0;
    for number in 0..ATTEMPTS {
        let request = to(&format!("http://{address}/"));
        let outcome = callbacks.attempt(request, UnixMillis(0)).await;
        delivered += usize::from(outcome == Outcome::Delivered { status: 200 });
        if number % 2 == 0 {
            // The closing arrives in this time: the next attempt cannot fail.
            sleep(Duration::from_millis(5)).await;
            continue;
        }
        ended("after the closing", &outcome, Some(200), None);
    }
    drop(callbacks);
    let mut posts = 0;
    while let Ok(line) = requests.try_recv() {
        posts += usize::from(line.starts_with("POST "));
    }
    // A POST that met the closing was never read; none was answered twice.
    assert_eq!(posts, delivered);
    assert!(delivered >= ATTEMPTS / 2);
}

#[tokio::test]
async fn a_proxy_gets_every_url_without_a_private_literal_address() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (address, mut requests) = receiver(Script::Answer(answer)).await;
    let proxy = format!("http://proxy.test:{}/", address.port());
    let callbacks = Callbacks::new(settings(Some(&proxy), Trust::Nothing));
    let callbacks = Arc::new(callbacks.expect("nothing is needed from outside"));
    callbacks.look_names_up_in(b"", b"127.0.0.1 proxy.test\n");
    let outcome = callbacks
        .attempt(to("http://name.invalid/call"), UnixMillis(0))
        .await;
    ended("a name", &outcome, Some(200), None);
    requests.recv().await.expect("a connection");
    let request = requests.recv().await.expect("a request");
    assert!(request.starts_with("POST http://name.invalid/call HTTP/1.1"));
    for inside in ["http://127.0.0.1:1/", "https://10.0.0.1/", "http://[::1]/"] {
        let outcome = callbacks.attempt(to(inside), UnixMillis(0)).await;
        ended(inside, &outcome, None, Some(ErrorClass::RefusedAddress));
    }
    assert!(requests.try_recv().is_err(), "the proxy was asked");
}

#[tokio::test]
async fn a_slow_body_does_not_delay_the_outcome() {
    let slow = Script::SlowBody("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "ok");
    let (address, _requests) = receiver(slow).await;
    let start = Instant::now();
    let outcome = attempt(&format!("http://{address}/")).await;
    ended("slow body", &outcome, Some(200), None);
    assert!(start.elapsed() < BODY_WAIT_MAX + Duration::from_millis(100));
}

#[tokio::test]
async fn a_changed_tenant_is_prepared_again() {
    let callbacks = callbacks(loopback(&[]));
    let first = to("http://127.0.0.1:1/a");
    let second = to("http://127.0.0.1:1/b");
    for (request, path) in [
        (&first, "/a"),
        (&first, "/a"),
        (&second, "/b"),
        (&first, "/a"),
    ] {
        let prepared = callbacks.prepared(&request.tenant);
        let post = post(&prepared, request, UnixMillis(0)).expect("a url");
        assert_eq!(post.url.path(), path);
    }
    let prepared = callbacks.prepared.lock().expect("not poisoned");
    assert_eq!(prepared.len(), 1);
}

#[test]
fn invalid_settings_are_refused_without_their_text() {
    let bad_proxy = settings(Some("http://user:password@[bad/"), Trust::Nothing);
    let error = Callbacks::new(bad_proxy).expect_err("not a url");
    assert!(!format!("{error} {error:?}").contains("password"));
    let no_pem = settings(None, Trust::SystemAnd(b"hello".to_vec()));
    assert!(matches!(
        Callbacks::new(no_pem),
        Err(HttpError::NoCertificates)
    ));
}
