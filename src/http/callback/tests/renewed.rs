//! Connections are renewed, and the old ones are closed.

use super::answers::ended;
use super::h2_receiver::{H2Receiver, H2Script};
use super::script::read_request;
use super::*;
use crate::http::pool::{AGE_MAX, REQUESTS_MAX};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections of a receiver.
#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    closed: AtomicUsize,
}

/// Starts a receiver that gives each request this answer. Returns its address, and
/// counts its connections.
async fn counting(answer: &'static str) -> (SocketAddr, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let counts = Arc::<Counts>::default();
    let counting = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counting.opened.fetch_add(1, Ordering::SeqCst);
            let counts = Arc::clone(&counting);
            tokio::spawn(async move {
                while read_request(&mut stream).await.is_some() {
                    let (Ok(()) | Err(_)) = stream.write_all(answer.as_bytes()).await;
                }
                counts.closed.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, counts)
}

async fn until(what: &str, met: impl Fn() -> bool) {
    let started = Instant::now();
    while !met() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_connection_is_closed_after_its_requests() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (address, counts) = counting(ok).await;
    let callbacks = callbacks(loopback(&[]));
    for _ in 0..=REQUESTS_MAX {
        let request = to(&format!("http://{address}/"));
        let outcome = callbacks.attempt(request, UnixMillis(0)).await;
        ended("one of many", &outcome, Some(200), None);
    }
    assert_eq!(counts.opened.load(Ordering::SeqCst), 2);
    until("the first to close", || {
        counts.closed.load(Ordering::SeqCst) == 1
    })
    .await;
}

#[tokio::test]
async fn an_http_2_connection_is_closed_before_a_receiver_with_that_limit_closes_it() {
    let receiver = H2Receiver::start(H2Script::GoAwayAfter(REQUESTS_MAX + 1)).await;
    let settings = HttpSettings {
        timeout: Duration::from_secs(20),
        ..settings(None, receiver.trust.clone())
    };
    let callbacks = callbacks_of(settings, loopback(&[]));
    for _ in 0..=REQUESTS_MAX {
        let request = receiver.attempt_of("c-1");
        let outcome = callbacks.attempt(request, UnixMillis(0)).await;
        ended("one of many", &outcome, Some(200), None);
    }
    let seen = receiver.seen.lock().expect("no panic");
    assert_eq!((seen.connections, seen.unprocessed), (2, 0));
}

#[tokio::test]
async fn after_a_server_error_a_new_connection_is_opened() {
    let broken = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
    let (address, counts) = counting(broken).await;
    let callbacks = callbacks(loopback(&[]));
    let started = Instant::now();
    while counts.opened.load(Ordering::SeqCst) < 2 {
        assert!(started.elapsed() < AGE_MAX / 2, "no new connection");
        let request = to(&format!("http://{address}/"));
        let outcome = callbacks.attempt(request, UnixMillis(0)).await;
        ended("broken", &outcome, Some(503), Some(ErrorClass::Http5xx));
        sleep(Duration::from_millis(50)).await;
    }
    until("the first to close", || {
        counts.closed.load(Ordering::SeqCst) >= 1
    })
    .await;
}

#[tokio::test]
async fn new_certificates_close_the_connections_that_no_attempt_uses() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (address, counts) = counting(ok).await;
    let callbacks = callbacks(loopback(&[]));
    for expected in [1, 2] {
        let request = to(&format!("http://{address}/"));
        let outcome = callbacks.attempt(request, UnixMillis(0)).await;
        ended("a callback", &outcome, Some(200), None);
        assert_eq!(counts.opened.load(Ordering::SeqCst), expected);
        callbacks.renew_certificates(None, None).expect("no files");
        until("it to close", || {
            counts.closed.load(Ordering::SeqCst) == expected
        })
        .await;
    }
}
