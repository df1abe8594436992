//! The operators' pages: a person reads them in a browser, and their misuse does
//! not harm deliveries.

use crate::support::browser::Browser;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::{http, ports, wait};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// Names that a page must show as text.
const HOSTILE: [&str; 4] = [
    "<script>document.title='taken'</script>",
    "\"><img src=x onerror=\"document.title='taken'\">",
    "</td></table><h1 id=taken>",
    "长名字𠀀-unbroken-unbroken-unbroken-unbroken-unbroken-unbroken-unbroken-unbroken-unbroken",
];

/// The pixels by which a page is wider than its window. With none, a phone shows
/// the page without scrolling sideways.
const OVERFLOW: &str = "return document.documentElement.scrollWidth - window.innerWidth";

fn open(browser: &Browser, ringback: &Ringback) {
    browser.go(&format!("http://127.0.0.1:{}/", ringback.port()));
}

#[test]
fn a_person_reads_the_page_on_desktop_and_phone_whatever_the_tenants_names() {
    let plan = Plan {
        delays: "1h",
        attempts: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("page", plan);
    let nowhere = json!({ "url": format!("http://127.0.0.1:{}/", ports::free()) });
    for tenant in HOSTILE {
        scene.tenant_with(tenant, Behaviour::Ok, &nowhere);
    }
    let ringback = scene.run("page-0");
    for tenant in HOSTILE {
        for _ in 0..3 {
            let record = json!({ "id": "a-record", "tenantId": tenant }).to_string();
            scene.send(&scene.topic, None, Some(record.as_bytes()), &[]);
        }
    }
    scene.flush();
    wait::until("all records to wait", || {
        let (_, text) = http::get(ringback.port(), "/statusz").expect("/statusz answers");
        let state: Value = serde_json::from_str(&text).expect("JSON");
        // The transactions' markers count as waiting too.
        let waiting = state["delays"][0]["waiting"].as_u64();
        state["tenants"]["failing"] == HOSTILE.len()
            && waiting.is_some_and(|waiting| waiting >= 3 * HOSTILE.len() as u64)
            && state["delays"][0]["next_due"].is_i64()
    });

    for phone_width in [None, Some(390), Some(320)] {
        let browser = Browser::open("page-browser", phone_width);
        open(&browser, &ringback);
        let text = browser.eval("return document.body.innerText");
        let text = text.as_str().expect("text");
        for shown in HOSTILE {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
        for shown in ["healthy and ready", "connect", "page-0", "in 59 min"] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
        assert_eq!(browser.eval("return document.title"), "ringback page-0");
        let foreign = "return document.querySelectorAll('script, img, link, #taken').length";
        assert_eq!(browser.eval(foreign), 0, "no part of a name became markup");
        let loaded = "return performance.getEntriesByType('resource')\
                      .filter(r => !r.name.endsWith('/favicon.ico')).length";
        assert_eq!(browser.eval(loaded), 0, "the page needs nothing else");
        let overflow = browser.eval(OVERFLOW).as_i64().expect("pixels");
        assert!(overflow <= 0, "{phone_width:?}: {overflow} px too wide");
    }
    ringback.drain();
}

#[test]
fn a_busy_port_ends_the_start_and_is_named() {
    let mut scene = Scene::new("busy-port", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let first = scene.run("a");
    let listen = format!("127.0.0.1:{}", first.port());
    let arguments = scene.arguments("b");
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--listen", &listen]);
    let done = crate::support::ringback::output(&arguments);
    let error = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{error}");
    assert!(
        error.contains(&format!("cannot listen on '{listen}'")),
        "{error}"
    );
    first.drain();
}

const SLOW_READERS: usize = 400;
const BROKEN_REQUESTS: usize = 200;
const SCRAPES: usize = 2_000;

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("it listens")
}

/// Requests the page on more connections than the service accepts, and does not
/// read it.
fn read_slowly(port: u16) {
    let ask = |_| {
        let mut stream = connect(port);
        write!(stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("it is open");
        stream
    };
    drop((0..SLOW_READERS).map(ask).collect::<Vec<_>>());
}

/// Sends bytes that are no valid request.
fn send_broken(port: u16) {
    let broken: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET /metrics\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nhost: x\r\nx: \0\x01\r\n\r\n",
        &[b'a'; 64 * 1024],
    ];
    for bytes in broken.into_iter().cycle().take(BROKEN_REQUESTS) {
        let mut stream = connect(port);
        // The service may close early, or not answer.
        let (Ok(()) | Err(_)) = stream.write_all(bytes);
        let patience = Duration::from_millis(20);
        stream.set_read_timeout(Some(patience)).expect("not zero");
        let (Ok(_) | Err(_)) = stream.read(&mut [0; 64]);
    }
}

/// Scrapes as fast as the machine can.
fn scrape(port: u16) {
    for _ in 0..SCRAPES {
        let (status, _) = http::get(port, "/metrics").expect("a scrape is answered");
        assert_eq!(status, 200);
    }
}

#[test]
fn misuse_of_the_pages_does_not_harm_deliveries() {
    const RECORDS: usize = 2_000;
    let mut scene = Scene::new("misuse", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let port = ringback.port();
    thread::scope(|scope| {
        for misuse in [read_slowly, send_broken, scrape] {
            scope.spawn(move || misuse(port));
        }
        for _ in 0..RECORDS / 100 {
            scene.publish("t", 100);
            scene.flush();
            assert_eq!(ringback.page("/healthz"), Some(200), "a probe is answered");
        }
        scene.until_delivered();
    });
    scene.account().assert_exact();
    let metrics = ringback.metrics();
    assert_eq!(metrics.disposed("delivered"), RECORDS as u64);
    let failed: u64 = metrics.count("ringback_attempts_total", &[]) - RECORDS as u64;
    assert_eq!(failed, 0, "no attempt failed");
    let resident = metrics.sum("process_resident_memory_bytes", &[]);
    assert!(resident < 150e6, "{resident} bytes resident");
    ringback.drain();
}
