//! Receivers without TLS.

use super::super::receivers::Script;
use super::super::receivers::Step::{
    Again, Bomb, Bytes, Drip, Flood, Hang, ReadAll, ReadByte, Reset, Sit, Stream, Trickle, Write,
};
use super::{
    Case, DELIVERED, HTTP, HTTP_3XX, HTTP_4XX, HTTP_5XX, OK, PROTOCOL, RESET, TIMEOUT, case, tcp,
};

pub(super) const SLOW: &[Case] = &[
    tcp("reads and never answers", &[ReadAll, Hang], TIMEOUT),
    tcp("never reads", &[Sit], TIMEOUT),
    case("never accepts", HTTP, Script::NeverAccept, TIMEOUT),
    tcp(
        "head at one byte a second",
        &[ReadAll, Drip("HTTP/1.1 200 OK\r\n\r\n")],
        TIMEOUT,
    ),
    tcp(
        "header lines that trickle without end",
        &[ReadAll, Write("HTTP/1.1 200 OK\r\n"), Trickle("a: b\r\n")],
        TIMEOUT,
    ),
    tcp(
        "1xx without end",
        &[ReadAll, Stream("HTTP/1.1 103 Early Hints\r\n\r\n")],
        TIMEOUT,
    ),
    tcp(
        "1xx without end, as fast as they are taken",
        &[ReadAll, Flood("HTTP/1.1 103 Early Hints\r\n\r\n")],
        TIMEOUT,
    ),
    tcp(
        "1xx that trickle without end",
        &[ReadAll, Trickle("HTTP/1.1 100 Continue\r\n\r\n")],
        TIMEOUT,
    ),
    tcp(
        "102 and no more",
        &[ReadAll, Write("HTTP/1.1 102 Processing\r\n\r\n"), Hang],
        TIMEOUT,
    ),
    tcp(
        "empty lines without end",
        &[ReadAll, Trickle("\r\n")],
        TIMEOUT,
    ),
];

pub(super) const BROKEN: &[Case] = &[
    case("no listener", HTTP, Script::NotListening, &["connect"]),
    tcp("closes at once", &[], RESET),
    tcp("resets at once", &[Reset], RESET),
    tcp("reads a byte and resets", &[ReadByte, Reset], RESET),
    tcp("reads and closes", &[ReadAll], RESET),
    tcp("reads and resets", &[ReadAll, Reset], RESET),
    tcp(
        "half a status line, then closes",
        &[ReadAll, Write("HTTP/1.1 20")],
        RESET,
    ),
    tcp(
        "half a head, then resets",
        &[ReadAll, Write("HTTP/1.1 200 OK\r\ncont"), Reset],
        RESET,
    ),
    tcp(
        "103, then closes",
        &[ReadAll, Write("HTTP/1.1 103 Early Hints\r\n\r\n")],
        RESET,
    ),
    tcp("keep-alive, closed at once", &[ReadAll, OK], DELIVERED),
    tcp(
        "keep-alive, reset at once",
        &[ReadAll, OK, Reset],
        DELIVERED,
    ),
    tcp(
        "says close, and goes on",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            Hang,
        ],
        DELIVERED,
    ),
];

pub(super) const HEADS: &[Case] = &[
    tcp(
        "http/0.9",
        &[ReadAll, Write("<html>hello</html>")],
        PROTOCOL,
    ),
    tcp(
        "garbage",
        &[ReadAll, Write("garbage garbage\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp("zeros", &[ReadAll, Bytes(&[0; 64]), Hang], PROTOCOL),
    tcp(
        "another protocol's banner",
        &[Write("SSH-2.0-OpenSSH_9.9\r\n"), Hang],
        &["protocol", "reset"],
    ),
    tcp(
        "clear text http/2",
        &[ReadAll, Write("HTTP/2.0 200 OK\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "status 000",
        &[ReadAll, Write("HTTP/1.1 000 X\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "status 42",
        &[ReadAll, Write("HTTP/1.1 42 X\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "status 600",
        &[
            ReadAll,
            Write("HTTP/1.1 600 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        PROTOCOL,
    ),
    tcp(
        "status 999",
        &[
            ReadAll,
            Write("HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        PROTOCOL,
    ),
    tcp(
        "status 2000",
        &[ReadAll, Write("HTTP/1.1 2000 X\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "101",
        &[
            ReadAll,
            Write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
            Hang,
        ],
        PROTOCOL,
    ),
    tcp(
        "100, then 200",
        &[ReadAll, Write("HTTP/1.1 100 Continue\r\n\r\n"), OK, Again],
        DELIVERED,
    ),
    tcp(
        "header lines without end",
        &[ReadAll, Write("HTTP/1.1 200 OK\r\n"), Flood("a: b\r\n")],
        PROTOCOL,
    ),
    tcp(
        "a header line without end",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\na: "),
            Flood("aaaaaaaaaaaaaaaa"),
        ],
        PROTOCOL,
    ),
    tcp(
        "a reason without end",
        &[ReadAll, Write("HTTP/1.1 200 "), Flood("aaaaaaaaaaaaaaaa")],
        PROTOCOL,
    ),
    tcp(
        "a header without a colon",
        &[ReadAll, Write("HTTP/1.1 200 OK\r\nhello\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "a header name with a space",
        &[ReadAll, Write("HTTP/1.1 200 OK\r\na b: c\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "a header with a zero",
        &[ReadAll, Bytes(b"HTTP/1.1 200 OK\r\na: \0\r\n\r\n"), Hang],
        PROTOCOL,
    ),
    tcp(
        "a folded header",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"),
            Hang,
        ],
        PROTOCOL,
    ),
    tcp(
        "headers that are not utf-8",
        &[
            ReadAll,
            Bytes(b"HTTP/1.1 200 \xff\xfe\r\ncontent-length: 0\r\na: \xc3\x28\xff\r\n\r\n"),
            Again,
        ],
        DELIVERED,
    ),
    tcp(
        "a location that is not utf-8",
        &[
            ReadAll,
            Bytes(b"HTTP/1.1 302 F\r\nlocation: /\xff\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "bare line feeds",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\ncontent-length: 0\n\n"),
            Again,
        ],
        DELIVERED,
    ),
    tcp(
        "gone",
        &[
            ReadAll,
            Write("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_4XX,
    ),
    tcp(
        "429 with nonsense",
        &[
            ReadAll,
            Write("HTTP/1.1 429 X\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        &["http_429"],
    ),
    tcp(
        "503 until the end of time",
        &[
            ReadAll,
            Write(
                "HTTP/1.1 503 X\r\nretry-after: 99999999999999999999\r\ncontent-length: 0\r\n\r\n",
            ),
            Again,
        ],
        HTTP_5XX,
    ),
    tcp(
        "two answers to one request",
        &[ReadAll, OK, OK, Again],
        &["delivered", "reset", "protocol"],
    ),
];

pub(super) const BODIES: &[Case] = &[
    tcp(
        "body at one byte a second",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n"),
            Drip("aaaaaaaaaaaaaaaaaaaa"),
        ],
        DELIVERED,
    ),
    tcp(
        "body of a 503 at one byte a second",
        &[
            ReadAll,
            Write("HTTP/1.1 503 X\r\ncontent-length: 20\r\n\r\n"),
            Drip("aaaaaaaaaaaaaaaaaaaa"),
        ],
        HTTP_5XX,
    ),
    tcp(
        "body of 1 GiB",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n"),
            Flood("aaaaaaaaaaaaaaaa"),
        ],
        DELIVERED,
    ),
    tcp(
        "body without end",
        &[
            ReadAll,
            Write("HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\n\r\n"),
            Flood("10\r\naaaaaaaaaaaaaaaa\r\n"),
        ],
        HTTP_5XX,
    ),
    tcp(
        "gzip bomb",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n"),
            Bomb,
        ],
        DELIVERED,
    ),
    tcp(
        "length longer than the body",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nab"),
        ],
        DELIVERED,
    ),
    tcp(
        "length shorter than the body",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab"),
        ],
        DELIVERED,
    ),
    tcp(
        "two lengths",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            Hang,
        ],
        PROTOCOL,
    ),
    tcp(
        "negative length",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
            Hang,
        ],
        PROTOCOL,
    ),
    tcp(
        "length and chunks",
        &[
            ReadAll,
            Write(
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ],
        DELIVERED,
    ),
    tcp(
        "chunks of garbage",
        &[
            ReadAll,
            Write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        ],
        DELIVERED,
    ),
    tcp(
        "a chunk larger than numbers",
        &[
            ReadAll,
            Write("HTTP/1.1 500 X\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
        ],
        HTTP_5XX,
    ),
    tcp(
        "answers early and closes",
        &[
            ReadByte,
            Write("HTTP/1.1 413 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            Hang,
        ],
        HTTP_4XX,
    ),
    tcp(
        "answers early and reads on",
        &[ReadByte, OK, Hang],
        DELIVERED,
    ),
];

pub(super) const REDIRECTS: &[Case] = &[
    tcp(
        "300 to itself",
        &[
            ReadAll,
            Write("HTTP/1.1 300 X\r\nlocation: http://{self}/hook\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "301 to an internal address",
        &[
            ReadAll,
            Write("HTTP/1.1 301 X\r\nlocation: http://{trap}/\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "302 to an internal address",
        &[
            ReadAll,
            Write("HTTP/1.1 302 X\r\nlocation: http://{trap}/\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "303 to itself",
        &[
            ReadAll,
            Write("HTTP/1.1 303 X\r\nlocation: /hook\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "304",
        &[ReadAll, Write("HTTP/1.1 304 Not Modified\r\n\r\n"), Again],
        HTTP_3XX,
    ),
    tcp(
        "305 to an internal proxy",
        &[
            ReadAll,
            Write("HTTP/1.1 305 X\r\nlocation: http://{trap}/\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "306",
        &[
            ReadAll,
            Write("HTTP/1.1 306 X\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "307 to an internal address",
        &[
            ReadAll,
            Write("HTTP/1.1 307 X\r\nlocation: //{trap}/\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "307 to itself",
        &[
            ReadAll,
            Write("HTTP/1.1 307 X\r\nlocation: http://{self}/hook\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "308 to a file",
        &[
            ReadAll,
            Write("HTTP/1.1 308 X\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        HTTP_3XX,
    ),
    tcp(
        "201 with a location",
        &[
            ReadAll,
            Write("HTTP/1.1 201 X\r\nlocation: http://{trap}/\r\ncontent-length: 0\r\n\r\n"),
            Again,
        ],
        DELIVERED,
    ),
    tcp(
        "refresh",
        &[
            ReadAll,
            Write(
                "HTTP/1.1 200 X\r\nrefresh: 0; url=http://{trap}/\r\nalt-svc: h2=\"{trap}\"\r\ncontent-length: 0\r\n\r\n",
            ),
            Again,
        ],
        DELIVERED,
    ),
];
