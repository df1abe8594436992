//! The table of hostile receivers: the name of each, its script, and how its
//! attempts must end.

use super::receivers::Step::{
    Again, Bytes, Drip, Hang, ReadAll, ReadByte, ReadPreface, ReadStream, Reset, Write,
};
use super::receivers::{H2, Script, Step};
use crate::support::dns::Reply::{Addresses, Alias, Failure, Garbage, NoSuchName, Silence};
use crate::support::dns::Zone;
use crate::support::tls::Shows::{self, Expired, OtherName, Right, SelfSigned};
use h2::Reason;

/// One hostile receiver.
pub struct Case {
    /// Its name, and its tenant's.
    pub name: &'static str,
    /// The callback URL; `{port}` becomes the receiver's, `{trap}` that of a
    /// listener on an address that is not permitted.
    pub url: &'static str,
    pub script: Script,
    /// The expected classes, or `delivered`. There is more than one class where the
    /// kernel decides which of two events the service sees first.
    pub ends: &'static [&'static str],
}

const HTTP: &str = "http://127.0.0.1:{port}/hook?token=hunter2";
const HTTPS: &str = "https://127.0.0.1:{port}/hook?token=hunter2";

const OK: Step = Write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
const SERVE: Script = Script::Plain(&[ReadAll, OK, Again]);

const DELIVERED: &[&str] = &["delivered"];
const TIMEOUT: &[&str] = &["timeout"];
const RESET: &[&str] = &["reset"];
const PROTOCOL: &[&str] = &["protocol"];
const TLS: &[&str] = &["tls"];
const DNS: &[&str] = &["dns"];
const REFUSED: &[&str] = &["refused_address"];
const HTTP_3XX: &[&str] = &["http_3xx"];
const HTTP_4XX: &[&str] = &["http_4xx"];
const HTTP_5XX: &[&str] = &["http_5xx"];

const fn case(
    name: &'static str,
    url: &'static str,
    script: Script,
    ends: &'static [&'static str],
) -> Case {
    Case {
        name,
        url,
        script,
        ends,
    }
}

impl Case {
    /// Returns the maximum number of requests of one attempt. A receiver that says
    /// that it has not processed one gets it again, three times at most.
    pub fn requests_max(&self) -> usize {
        match self.name {
            "h2 refuses every stream" | "h2 goes away unseen" => 4,
            _ => 1,
        }
    }
}

/// A case over TCP.
const fn tcp(name: &'static str, steps: &'static [Step], ends: &'static [&'static str]) -> Case {
    case(name, HTTP, Script::Plain(steps), ends)
}

/// A case over TLS with HTTP/1.1.
const fn tls(
    name: &'static str,
    shows: Shows,
    steps: &'static [Step],
    ends: &'static [&'static str],
) -> Case {
    case(name, HTTPS, Script::Tls(shows, steps), ends)
}

/// A case with an HTTP/2 server.
const fn h2(name: &'static str, how: H2, ends: &'static [&'static str]) -> Case {
    case(name, HTTPS, Script::H2(how), ends)
}

/// A case at an address that is not permitted, or at a name that resolves to one.
const fn refused(name: &'static str, url: &'static str) -> Case {
    case(name, url, Script::NotListening, REFUSED)
}

mod tcp;
use tcp::{BODIES, BROKEN, HEADS, REDIRECTS, SLOW};

/// All cases.
pub const CASES: &[&[Case]] = &[
    SLOW, BROKEN, HEADS, BODIES, REDIRECTS, IN_TLS, HTTP_2, ADDRESSES, NAMES,
];

const IN_TLS: &[Case] = &[
    tls("tls that is right", Right, &[ReadAll, OK, Again], DELIVERED),
    tls(
        "tls, certificate of another name",
        OtherName,
        &[ReadAll, OK, Again],
        TLS,
    ),
    tls(
        "tls, certificate has expired",
        Expired,
        &[ReadAll, OK, Again],
        TLS,
    ),
    tls(
        "tls, certificate of its own",
        SelfSigned,
        &[ReadAll, OK, Again],
        TLS,
    ),
    tls("tls, then never answers", Right, &[ReadAll, Hang], TIMEOUT),
    tls("tls, then closes", Right, &[ReadAll], RESET),
    tls("tls, then resets", Right, &[ReadAll, Reset], RESET),
    tls(
        "tls, then closes at once each time",
        Right,
        &[ReadAll, OK],
        DELIVERED,
    ),
    case("tls that stalls", HTTPS, Script::Plain(&[Hang]), TIMEOUT),
    case(
        "tls at one byte a second",
        HTTPS,
        Script::Plain(&[Drip("\u{16}\u{3}\u{3}\0zzzzzzz")]),
        TIMEOUT,
    ),
    case(
        "tls that closes in the handshake",
        HTTPS,
        Script::Plain(&[ReadByte]),
        &["tls", "reset"],
    ),
    case(
        "tls that resets in the handshake",
        HTTPS,
        Script::Plain(&[ReadByte, Reset]),
        RESET,
    ),
    case(
        "plain http where tls should be",
        HTTPS,
        Script::Plain(&[Write("HTTP/1.1 400 No\r\n\r\n"), Hang]),
        TLS,
    ),
    case(
        "a tls alert at once",
        HTTPS,
        Script::Plain(&[ReadByte, Bytes(&[21, 3, 3, 0, 2, 2, 40]), Hang]),
        TLS,
    ),
];

/// SETTINGS, and a GOAWAY without an error that has seen no stream.
const GO_AWAY_UNSEEN: &[u8] = &[
    0, 0, 0, 4, 0, 0, 0, 0, 0, //
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

const HTTP_2: &[Case] = &[
    h2("h2 that is right", H2::Answer, DELIVERED),
    h2(
        "h2 refuses every stream",
        H2::ResetStream(Reason::REFUSED_STREAM),
        RESET,
    ),
    h2(
        "h2 resets every stream",
        H2::ResetStream(Reason::INTERNAL_ERROR),
        RESET,
    ),
    h2(
        "h2 resets for a client's fault",
        H2::ResetStream(Reason::PROTOCOL_ERROR),
        PROTOCOL,
    ),
    h2(
        "h2 wants http/1.1",
        H2::ResetStream(Reason::HTTP_1_1_REQUIRED),
        PROTOCOL,
    ),
    h2("h2 goes away", H2::GoAway(Reason::NO_ERROR), RESET),
    h2(
        "h2 goes away for calm",
        H2::GoAway(Reason::ENHANCE_YOUR_CALM),
        RESET,
    ),
    h2("h2 never answers", H2::Hang, TIMEOUT),
    h2("h2 takes no body", H2::NoWindow, TIMEOUT),
    h2("h2 opens no stream", H2::NoStreams, &["timeout", "reset"]),
    case(
        "h2 goes away unseen",
        HTTPS,
        Script::H2Bytes(&[ReadPreface, Bytes(GO_AWAY_UNSEEN), ReadStream, Hang]),
        RESET,
    ),
    case(
        "h2 that closes",
        HTTPS,
        Script::H2Bytes(&[ReadPreface, ReadStream]),
        RESET,
    ),
    case(
        "h2 that is http/1.1",
        HTTPS,
        Script::H2Bytes(&[ReadPreface, OK, ReadStream, Hang]),
        &["protocol", "reset"],
    ),
    case(
        "h2 that is silent",
        HTTPS,
        Script::H2Bytes(&[Hang]),
        TIMEOUT,
    ),
];

const ADDRESSES: &[Case] = &[
    refused("a literal address inside", "http://127.0.0.2:{trap}/"),
    refused("a literal address as a number", "http://2130706434:{trap}/"),
    refused(
        "a literal address in hex and octal",
        "http://0x7f.0.0.02:{trap}/",
    ),
    refused("a mapped address", "http://[::ffff:127.0.0.2]:{trap}/"),
    refused("a compatible address", "http://[::127.0.0.2]:{trap}/"),
    refused("a translated address", "http://[64:ff9b::7f00:2]:{trap}/"),
    refused("a 6to4 address", "http://[2002:7f00:2::]:{trap}/"),
    refused("loopback of ipv6", "http://[::1]:{trap}/"),
    refused("any address", "http://0.0.0.0:{trap}/"),
    refused(
        "the metadata of clouds",
        "http://169.254.169.254/latest/meta-data/",
    ),
    refused(
        "the metadata of clouds, ipv6",
        "http://[fd00:ec2::254]/latest/meta-data/",
    ),
    refused("a private address, https", "https://10.0.0.1/"),
];

const NAMES: &[Case] = &[
    case(
        "a name that is right",
        "http://right.test:{port}/",
        SERVE,
        DELIVERED,
    ),
    case(
        "a short name of a search domain",
        "http://short:{port}/",
        SERVE,
        DELIVERED,
    ),
    case(
        "a name without an answer for ipv6",
        "http://only-ipv4.test:{port}/",
        SERVE,
        DELIVERED,
    ),
    case(
        "a name that leads in and out",
        "http://mixed.test:{port}/",
        SERVE,
        DELIVERED,
    ),
    case(
        "a name that turns inside",
        "http://turns.test:{port}/",
        Script::Plain(&[
            ReadAll,
            Write("HTTP/1.1 500 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
        ]),
        REFUSED,
    ),
    refused("a name that leads inside", "http://inside.test:{trap}/"),
    refused("a name with a mapped address", "http://mapped.test:{trap}/"),
    refused("an alias that leads inside", "http://alias.test:{trap}/"),
    case(
        "a name that does not exist",
        "http://missing.test/",
        Script::NotListening,
        DNS,
    ),
    case(
        "a name without an address",
        "http://empty.test/",
        Script::NotListening,
        DNS,
    ),
    case(
        "a name whose servers fail",
        "http://fails.test/",
        Script::NotListening,
        DNS,
    ),
    case(
        "a name that hangs",
        "http://hangs.test/",
        Script::NotListening,
        DNS,
    ),
    case(
        "another name that hangs",
        "http://hangs-too.test/",
        Script::NotListening,
        DNS,
    ),
    case(
        "a name that is garbage",
        "http://garbage.test/",
        Script::NotListening,
        DNS,
    ),
];

/// One of many names that hang.
pub fn hanging_name(number: usize) -> &'static Case {
    // Leaked: cases are static.
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let name = leak(format!("name {number} that hangs"));
    let url = leak(format!("http://{number}.hangs.test/"));
    Box::leak(Box::new(case(name, url, Script::NotListening, DNS)))
}

/// The name server's answers.
pub const ZONES: &[(&str, Zone)] = &[
    (
        "right.test",
        Zone {
            v4: &[Addresses(&["127.0.0.1"])],
            v6: Addresses(&[]),
        },
    ),
    (
        "short.search.test",
        Zone {
            v4: &[Addresses(&["127.0.0.1"])],
            v6: Addresses(&[]),
        },
    ),
    (
        "only-ipv4.test",
        Zone {
            v4: &[Addresses(&["127.0.0.1"])],
            v6: Silence,
        },
    ),
    (
        "mixed.test",
        Zone {
            v4: &[Addresses(&["127.0.0.2", "127.0.0.1", "10.0.0.1"])],
            v6: Addresses(&["::1"]),
        },
    ),
    (
        "turns.test",
        Zone {
            v4: &[Addresses(&["127.0.0.1"]), Addresses(&["127.0.0.2"])],
            v6: NoSuchName,
        },
    ),
    (
        "inside.test",
        Zone {
            v4: &[Addresses(&["127.0.0.2"])],
            v6: Addresses(&["fd00::1"]),
        },
    ),
    (
        "mapped.test",
        Zone {
            v4: &[Addresses(&[])],
            v6: Addresses(&["::ffff:127.0.0.2"]),
        },
    ),
    (
        "alias.test",
        Zone {
            v4: &[Alias("127.0.0.2")],
            v6: Addresses(&[]),
        },
    ),
    (
        "empty.test",
        Zone {
            v4: &[Addresses(&[])],
            v6: Addresses(&[]),
        },
    ),
    (
        "fails.test",
        Zone {
            v4: &[Failure],
            v6: Failure,
        },
    ),
    (
        "hangs.test",
        Zone {
            v4: &[Silence],
            v6: Silence,
        },
    ),
    (
        "hangs-too.test",
        Zone {
            v4: &[Silence],
            v6: Silence,
        },
    ),
    (
        "garbage.test",
        Zone {
            v4: &[Garbage],
            v6: Garbage,
        },
    ),
];
