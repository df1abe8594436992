//! Every way to answer, or not to answer, has one outcome.

use super::script::{Script, read_request, receiver};
use super::*;

/// Checks that an attempt ended with this status and class.
#[track_caller]
pub fn ended(name: &str, outcome: &Outcome, status: Option<u16>, class: Option<ErrorClass>) {
    match (outcome, class) {
        (Outcome::Delivered { status: is }, None) => assert_eq!(Some(*is), status, "{name}"),
        (
            Outcome::Failed {
                class: is,
                status: is_status,
                detail,
                ..
            },
            Some(expected),
        ) => {
            assert_eq!((*is, *is_status), (expected, status), "{name}: {detail}");
            for private in ["token", "personal", "blue", "garbage"] {
                assert!(!detail.contains(private), "{name}: {detail}");
            }
        }
        _ => panic!("{name}: {outcome:?}, expected {status:?} {class:?}"),
    }
}

#[tokio::test]
async fn every_way_to_answer_has_one_outcome() {
    use ErrorClass::{Http3xx, Http4xx, Http5xx, Http429, Protocol, Reset, Timeout};
    use Script::*;
    let cases: &[(&str, Script, Option<u16>, Option<ErrorClass>)] = &[
        (
            "200",
            Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            Some(200),
            None,
        ),
        (
            "204",
            Answer("HTTP/1.1 204 No Content\r\n\r\n"),
            Some(204),
            None,
        ),
        (
            "200, body is garbage",
            Answer("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage"),
            Some(200),
            None,
        ),
        (
            "200, says it failed",
            Answer("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"code\":500 }"),
            Some(200),
            None,
        ),
        (
            "503",
            Answer("HTTP/1.1 503 No\r\ncontent-length: 7\r\n\r\ngarbage"),
            Some(503),
            Some(Http5xx),
        ),
        (
            "404",
            Answer("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"),
            Some(404),
            Some(Http4xx),
        ),
        (
            "429",
            Answer("HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n"),
            Some(429),
            Some(Http429),
        ),
        (
            "301",
            Answer("HTTP/1.1 301 Moved\r\nlocation: /new?token=1\r\ncontent-length: 0\r\n\r\n"),
            Some(301),
            Some(Http3xx),
        ),
        (
            "307",
            Answer("HTTP/1.1 307 Moved\r\nlocation: /new\r\ncontent-length: 0\r\n\r\n"),
            Some(307),
            Some(Http3xx),
        ),
        (
            "302 to no url",
            Answer("HTTP/1.1 302 F\r\nlocation: http://[token\r\ncontent-length: 0\r\n\r\n"),
            Some(302),
            Some(Http3xx),
        ),
        (
            "302 to no host",
            Answer("HTTP/1.1 302 F\r\nlocation: mailto:a?token\r\ncontent-length: 0\r\n\r\n"),
            Some(302),
            Some(Http3xx),
        ),
        (
            "304",
            Answer("HTTP/1.1 304 Not Modified\r\n\r\n"),
            Some(304),
            Some(Http3xx),
        ),
        (
            "103, then 200",
            Answer("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            Some(200),
            None,
        ),
        (
            "100, then 500",
            Answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
            Some(500),
            Some(Http5xx),
        ),
        (
            "101",
            Answer("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
            Some(101),
            Some(Protocol),
        ),
        (
            "103 and no more",
            AnswerAndClose("HTTP/1.1 103 Early Hints\r\n\r\n"),
            None,
            Some(Reset),
        ),
        (
            "600",
            Answer("HTTP/1.1 600 What\r\ncontent-length: 0\r\n\r\n"),
            Some(600),
            Some(Protocol),
        ),
        (
            "999",
            Answer("HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n"),
            Some(999),
            Some(Protocol),
        ),
        (
            "status 42",
            Answer("HTTP/1.1 42 What\r\ncontent-length: 0\r\n\r\n"),
            None,
            Some(Protocol),
        ),
        (
            "garbage",
            Answer("garbage garbage garbage\r\n\r\n"),
            None,
            Some(Protocol),
        ),
        (
            "HTTP/0.9",
            AnswerAndClose("<html>garbage</html>"),
            None,
            Some(Protocol),
        ),
        (
            "http/2 in clear text",
            Answer("HTTP/2.0 200 OK\r\n\r\n"),
            None,
            Some(Protocol),
        ),
        (
            "bad header",
            Answer("HTTP/1.1 200 OK\r\ngarbage garbage\r\n\r\n"),
            None,
            Some(Protocol),
        ),
        (
            "two lengths",
            Answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            None,
            Some(Protocol),
        ),
        (
            "length too long",
            AnswerAndClose("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nab"),
            Some(200),
            None,
        ),
        (
            "length too short",
            Answer("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabcdef"),
            Some(200),
            None,
        ),
        (
            "HTTP/1.0 with no length",
            AnswerAndClose("HTTP/1.0 200 OK\r\n\r\nabc"),
            Some(200),
            None,
        ),
        (
            "broken chunks",
            Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            Some(200),
            None,
        ),
        (
            "early 413",
            AnswerEarly("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            Some(413),
            Some(Http4xx),
        ),
        (
            "early 200",
            AnswerEarly("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            Some(200),
            None,
        ),
        ("closes at once", Close, None, Some(Reset)),
        ("reads and closes", ReadAndClose, None, Some(Reset)),
        (
            "half a head, then closes",
            AnswerAndClose("HTTP/1.1 200 OK\r\ncont"),
            None,
            Some(Reset),
        ),
        (
            "half a head, then resets",
            WriteAndReset("HTTP/1.1 200 OK\r\ncont"),
            None,
            Some(Reset),
        ),
        ("resets", WriteAndReset(""), None, Some(Reset)),
        ("hangs after accept", Hang, None, Some(Timeout)),
        (
            "slow head",
            Slowly("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            None,
            Some(Timeout),
        ),
        (
            "endless 1xx",
            Slowly("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 100 C\r\n\r\n"),
            None,
            Some(Timeout),
        ),
    ];
    for &(name, script, status, class) in cases {
        let (address, _requests) = receiver(script).await;
        let start = Instant::now();
        let outcome = attempt(&format!("http://{address}/path?token=1")).await;
        ended(name, &outcome, status, class);
        assert!(
            start.elapsed() < TIMEOUT + Duration::from_millis(150),
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_final_status_has_its_class_on_the_wire() {
    let callbacks = callbacks(loopback(&[]));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        for status in 200..=999 {
            read_request(&mut stream).await.expect("a request");
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("open");
        }
    });
    for status in 200..=999 {
        let outcome = callbacks.attempt(to(&url), UnixMillis(0)).await;
        let expected = ErrorClass::of_status(status);
        ended("status", &outcome, Some(status), expected);
    }
}
