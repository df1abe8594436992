//! Attempts through an egress proxy: its own failures have a class of their own.

use super::answers::ended;
use super::script::{Script, receiver};
use super::*;
use crate::http::settings::ConnectionReuse;

const LONG: Duration = Duration::from_secs(20);

fn through(proxy: &str) -> Arc<Callbacks> {
    let settings = HttpSettings {
        timeout: LONG,
        reuse: ConnectionReuse::Reuse,
        ..settings(Some(proxy), Trust::Nothing)
    };
    let callbacks = Callbacks::new(settings).expect("nothing is needed from outside");
    callbacks.look_names_up_in(b"", b"127.0.0.1 proxy.test\n");
    Arc::new(callbacks)
}

/// Makes two attempts to this URL through a proxy that does this, and checks the end.
async fn check(script: Script, url: &str, status: Option<u16>, class: ErrorClass) {
    let (address, _requests) = receiver(script).await;
    let callbacks = through(&format!("http://proxy.test:{}/", address.port()));
    for _ in 0..2 {
        let outcome = callbacks.attempt(to(url), UnixMillis(0)).await;
        ended(url, &outcome, status, Some(class));
    }
}

const TUNNELED: &str = "https://name.invalid/?token=1";
const FORWARDED: &str = "http://name.invalid/?token=1";

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_told_from_a_receiver_that_it_cannot_reach() {
    use ErrorClass::{Connect, Proxy};
    for (head, class) in [
        ("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n", Proxy),
        ("HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n", Proxy),
        ("HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n", Proxy),
        ("HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n", Connect),
        ("HTTP/1.1 504 X\r\ncontent-length: 0\r\n\r\n", Connect),
        ("", Proxy),
    ] {
        check(Script::AnswerEarly(head), TUNNELED, None, class).await;
    }
}

#[tokio::test]
async fn a_receiver_behind_an_open_tunnel_is_told_from_the_proxy() {
    let open = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 No\r\n\r\n";
    let (address, _requests) = receiver(Script::AnswerEarly(open)).await;
    let callbacks = through(&format!("http://proxy.test:{}/", address.port()));
    let outcome = callbacks.attempt(to(TUNNELED), UnixMillis(0)).await;
    // The closing may arrive as a reset.
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
}

#[tokio::test]
async fn a_proxy_that_wants_credentials_for_a_plain_request_is_told_from_a_receiver() {
    use ErrorClass::{Http4xx, Http5xx, Proxy};
    for (head, status, class) in [
        ("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n", 407, Proxy),
        (
            "HTTP/1.1 401 X\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
            401,
            Proxy,
        ),
        ("HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n", 401, Http4xx),
        ("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", 503, Http5xx),
    ] {
        check(Script::Answer(head), FORWARDED, Some(status), class).await;
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_no_fault_of_a_receiver() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let refused = unused.local_addr().expect("bound").port();
    drop(unused);
    for proxy in [
        format!("http://proxy.test:{refused}/"),
        "http://no-such-proxy.invalid:3128/".to_owned(),
    ] {
        let callbacks = through(&proxy);
        for url in [TUNNELED, FORWARDED] {
            let outcome = callbacks.attempt(to(url), UnixMillis(0)).await;
            ended(url, &outcome, None, Some(ErrorClass::Proxy));
        }
    }
}

#[tokio::test]
async fn a_407_of_a_receiver_without_a_proxy_is_the_receivers() {
    let answer = "HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n";
    let (address, _requests) = receiver(Script::Answer(answer)).await;
    let outcome = attempt(&format!("http://{address}/")).await;
    ended("no proxy", &outcome, Some(407), Some(ErrorClass::Http4xx));
}
