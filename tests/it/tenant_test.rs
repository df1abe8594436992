//! `ringback tenant test` against receivers that are each broken in another way:
//! it says the cause that a person would name, and one advice.

use crate::hostile::receivers::Step::{Again, Drip, Hang, ReadAll, Write};
use crate::hostile::receivers::{self, Script, Step};
use crate::support::receiver::{Behaviour, Keep, Receiver};
use crate::support::ringback;
use crate::support::tls::Authority;
use crate::support::tls::Shows::{Expired, OtherName, Right, SelfSigned};
use crate::support::workspace;
use ::ringback::http::signature::{Keys, Signed};
use ::ringback::model::tenant::Secret;
use ::ringback::model::time::UnixMillis;
use serde_json::{Value, json};
use std::path::Path;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A receiver that is broken in one way.
struct Broken {
    name: &'static str,
    /// `{port}` becomes the receiver's.
    url: &'static str,
    script: Script,
    /// More arguments.
    more: &'static [&'static str],
    class: &'static str,
    /// A part of the cause, and of the advice.
    cause: &'static str,
    advice: &'static str,
}

const HTTP: &str = "http://127.0.0.1:{port}/hook/path-token?token=query-token";
const HTTPS: &str = "https://127.0.0.1:{port}/hook/path-token?token=query-token";
const LOCAL: &[&str] = &["--allow-networks", "127.0.0.1/32"];
/// For receivers that hang: the test waits for this long.
const SHORT: &[&str] = &["--allow-networks", "127.0.0.1/32", "--timeout", "2s"];

/// A receiver that answers so over http.
const fn answers(
    name: &'static str,
    steps: &'static [Step],
    class: &'static str,
    cause: &'static str,
    advice: &'static str,
) -> Broken {
    Broken {
        name,
        url: HTTP,
        script: Script::Plain(steps),
        more: LOCAL,
        class,
        cause,
        advice,
    }
}

const BROKEN: &[Broken] = &[
    Broken {
        name: "a name that does not resolve",
        url: "https://gone.invalid/hook",
        script: Script::NotListening,
        more: LOCAL,
        class: "dns",
        cause: "'gone.invalid' does not resolve: there is no such name",
        advice: "DNS zone",
    },
    Broken {
        name: "a name with a private address",
        url: "https://localhost:{port}/hook",
        script: Script::NotListening,
        more: &[],
        class: "refused_address",
        cause: "no address that callbacks may reach",
        advice: "reachable from the internet",
    },
    Broken {
        name: "nothing listens",
        url: HTTPS,
        script: Script::NotListening,
        more: LOCAL,
        class: "connect",
        cause: "the connection was refused",
        advice: "check host, port and firewall",
    },
    Broken {
        name: "accepts and never answers TLS",
        url: HTTPS,
        script: Script::Plain(&[Hang]),
        more: SHORT,
        class: "timeout",
        cause: "the TLS handshake got no answer within 2s",
        advice: "serve TLS",
    },
    Broken {
        name: "an expired certificate",
        url: HTTPS,
        script: Script::Tls(Expired, &[]),
        more: LOCAL,
        class: "tls",
        cause: "the certificate expired on 2020-01-01T00:00:00Z",
        advice: "valid certificate",
    },
    Broken {
        name: "a certificate for another name",
        url: HTTPS,
        script: Script::Tls(OtherName, &[]),
        more: LOCAL,
        class: "tls",
        cause: "the certificate is for another host name",
        advice: "for the URL's host name",
    },
    Broken {
        name: "a self-signed certificate",
        url: HTTPS,
        script: Script::Tls(SelfSigned, &[]),
        more: LOCAL,
        class: "tls",
        cause: "is not trusted: it is self-signed",
        advice: "whole chain",
    },
    Broken {
        name: "plain http where the URL has https",
        url: HTTPS,
        script: Script::Plain(&[Write("HTTP/1.1 400 No\r\n\r\n"), Hang]),
        more: LOCAL,
        class: "tls",
        cause: "the port does not speak TLS",
        advice: "serve TLS",
    },
    Broken {
        name: "TLS where the URL has http",
        url: HTTP,
        script: Script::Tls(Right, &[ReadAll]),
        more: LOCAL,
        class: "",
        cause: "the port speaks TLS, and the URL has http",
        advice: "configure the callback URL with https",
    },
    Broken {
        name: "accepts and never answers",
        url: HTTP,
        script: Script::Plain(&[ReadAll, Hang]),
        more: SHORT,
        class: "timeout",
        cause: "the request was sent, and no answer came within 2s",
        advice: "work on it after answering",
    },
    Broken {
        name: "closes after the request",
        url: HTTPS,
        script: Script::Tls(Right, &[ReadAll]),
        more: LOCAL,
        class: "reset",
        cause: "the connection was closed before an answer",
        advice: "look for crashes",
    },
    answers(
        "redirects",
        &[
            ReadAll,
            Write(
                "HTTP/1.1 301 X\r\nlocation: https://new.example:8443/path-token?a=query-token\r\ncontent-length: 0\r\n\r\n",
            ),
            Again,
        ],
        "http_3xx",
        "answered 301 to https://new.example:8443",
        "configure the final URL",
    ),
    answers(
        "refuses access",
        &[
            ReadAll,
            Write("HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        "http_4xx",
        "answered 401",
        "the secret",
    ),
    answers(
        "does not have the path",
        &[
            ReadAll,
            Write("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        "http_4xx",
        "answered 404",
        "check the path",
    ),
    answers(
        "limits the rate",
        &[
            ReadAll,
            Write("HTTP/1.1 429 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        "http_429",
        "answered 429",
        "lower maxInFlight",
    ),
    answers(
        "fails",
        &[
            ReadAll,
            Write("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        "http_5xx",
        "answered 503",
        "its own logs",
    ),
    answers(
        "speaks no http",
        &[ReadAll, Write("garbage garbage\r\n\r\n"), Hang],
        "protocol",
        "not valid HTTP",
        "check what listens",
    ),
];

/// Runs `ringback tenant test --output FORMAT` with these arguments.
fn test(format: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let head = ["tenant", "test", "--output", format];
    let done = ringback::output(&[&head[..], arguments].concat());
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    let text = String::from_utf8(done.stdout).expect("UTF-8");
    assert!(!text.is_empty(), "{arguments:?}: {error}");
    (done.status.code(), text)
}

/// Writes the authority's certificate, for `--ca-file`.
fn ca_file(authority: &Authority, name: &str) -> String {
    let path = workspace::directory(name).join("ca.pem");
    std::fs::write(&path, authority.pem()).expect("the build directory is writable");
    path.to_str()
        .expect("the build directory is UTF-8")
        .to_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

#[test]
fn each_broken_receiver_has_the_cause_that_a_person_would_name() {
    let authority = Authority::new();
    let ca = ca_file(&authority, "tenant-test-broken");
    let runtime = runtime();
    let trap = "127.0.0.1:1".parse().expect("an address");
    let mut wrong = Vec::new();
    for broken in BROKEN {
        let playing = runtime.block_on(receivers::play(broken.script, &authority, trap));
        let url = broken
            .url
            .replace("{port}", &playing.address.port().to_string());
        let arguments = [&["--url", &url, "--ca-file", &ca], broken.more].concat();
        let (code, text) = test("table", &arguments);
        let has = |name: &str, part: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.is_some_and(|line| line.contains(part))
        };
        let told = code == Some(1)
            && has("result:", broken.class)
            && has("cause:", broken.cause)
            && has("advice:", broken.advice)
            && !["path-token", "query-token"]
                .iter()
                .any(|token| text.contains(token));
        if !told {
            wrong.push(format!("{}: {code:?}\n{text}", broken.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_of_the_egress_proxy_is_told_as_ours() {
    const REFUSES: &[Step] = &[
        ReadAll,
        Write("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n"),
        Again,
    ];
    let authority = Authority::new();
    let runtime = runtime();
    let trap = "127.0.0.1:1".parse().expect("an address");
    let script = Script::Plain(REFUSES);
    let playing = runtime.block_on(receivers::play(script, &authority, trap));
    let proxy = format!("http://user:proxy-password@{}", playing.address);
    for url in ["https://example.com/hook", "http://example.com/hook"] {
        let (code, text) = test("table", &["--url", url, "--proxy", &proxy]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("result: failed (proxy)\ncause:  the egress proxy answered 407"),
            "{text}"
        );
        assert!(
            text.contains("check the egress proxy, its credentials"),
            "{text}"
        );
        assert!(!text.contains("proxy-password"), "{text}");
    }
}

#[test]
fn a_receiver_with_a_slow_body_is_delivered_to() {
    const SLOW: &[Step] = &[
        ReadAll,
        Write("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n"),
        Drip("aaaaaaaaaaaaaaaaaaaa"),
    ];
    let authority = Authority::new();
    let ca = ca_file(&authority, "tenant-test-slow");
    let runtime = runtime();
    let trap = "127.0.0.1:1".parse().expect("an address");
    let script = Script::Tls(Right, SLOW);
    let playing = runtime.block_on(receivers::play(script, &authority, trap));
    let url = HTTPS.replace("{port}", &playing.address.port().to_string());
    let arguments = [&["--url", &url, "--ca-file", &ca], LOCAL].concat();
    let (code, text) = test("json", &arguments);
    assert_eq!(code, Some(0), "{text}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&report["status"], &report["delivered"]),
        (&json!(200), &json!(true))
    );
    let tls = &report["steps"]["tls"];
    assert_eq!(tls["version"], "TLSv1_3", "{text}");
    assert_eq!(
        tls["certificates"][0]["names"],
        json!(["127.0.0.1"]),
        "{text}"
    );
    assert_eq!(
        report["steps"]["connect"][0]["address"],
        playing.address.to_string()
    );
}

/// Writes a tenants file with the tenant `t` at this URL.
fn tenants_file(name: &str, url: &str) -> std::path::PathBuf {
    let path = workspace::directory(name).join("tenants.json");
    let headers = json!({ "x-team": "header-value" });
    let tenants = json!({ "t": { "url": url, "secrets": [SECRET], "headers": headers } });
    std::fs::write(&path, tenants.to_string()).expect("the build directory is writable");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the build directory is UTF-8")
}

#[test]
fn the_sample_is_signed_and_marked_and_has_the_tenants_headers() {
    let receiver = Receiver::start(Keep::All);
    receiver.behave("t", Behaviour::Ok);
    let file = tenants_file("tenant-test-sample", &receiver.url("t"));
    let (code, told) = test("table", &[&["t", "--tenants", text(&file)], LOCAL].concat());
    assert_eq!(code, Some(0), "{told}");
    for secret in [SECRET, "header-value"] {
        assert!(!told.contains(secret), "{told}");
    }
    let posts: Vec<_> = receiver.posts().into_values().flatten().collect();
    assert_eq!(posts.len(), 1, "one POST");
    let post = &posts[0];
    assert_eq!(post.header("ringback-test"), Some("1"));
    assert_eq!(post.header("x-team"), Some("header-value"));
    let (_, body) = post.bytes.as_ref().expect("posts are kept");
    let signed = Signed {
        id: post.header("webhook-id"),
        timestamp: post.header("webhook-timestamp"),
        signature: post.header("webhook-signature"),
    };
    let seconds = post.at_us / 1_000;
    let now = UnixMillis(i64::try_from(seconds).expect("a time of this age"));
    let keys = Keys::read(&[Secret(SECRET.to_owned())]).expect("a secret");
    assert_eq!(keys.verify(&signed, body, now), Ok(()));
}

#[test]
fn a_url_is_tried_with_the_secret_of_a_file_before_it_is_configured() {
    let receiver = Receiver::start(Keep::All);
    receiver.behave("new", Behaviour::Ok);
    let url = receiver.url("new");
    let secrets = workspace::directory("tenant-test-url").join("secret");
    std::fs::write(&secrets, format!("{SECRET}\n")).expect("the build directory is writable");
    let arguments = ["--url", &url, "--secret-file", text(&secrets)];
    let (code, told) = test("table", &[&arguments[..], LOCAL].concat());
    assert_eq!(code, Some(0), "{told}");
    let posts: Vec<_> = receiver.posts().into_values().flatten().collect();
    assert!(posts[0].header("webhook-signature").is_some());
    for wrong in [
        &["--url", "ftp://x/"][..],
        &["--secret-file", "/nonexistent"],
        &[],
    ] {
        let done = ringback::output(&[&["tenant", "test"], wrong].concat());
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
    }
}
