//! The pages as a scraper and a prober see them.

use super::*;
use crate::model::attempt::ErrorClass;
use crate::model::broker::{Broker, BrokerId};
use crate::model::message::ForeignMember;
use crate::model::overview::{
    BlockedPartition, FailingTenant, Overview, PartitionOverview, PartitionStatus, ServiceState,
    TopicOverview, UnreachableBroker,
};
use crate::model::position::{NextOffset, Partition, Topic, TopicNames};
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

/// Served pages with a clock that the test moves.
struct Served {
    address: SocketAddr,
    status: Arc<Status>,
    now: Arc<AtomicI64>,
    rendered: Arc<AtomicI64>,
    shutdown: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<(), AdminError>>,
}

fn served() -> Served {
    let status = Arc::new(Status::new(About {
        names: TopicNames::new("call-ended"),
        instance: "i-1".to_owned(),
        group: "ringback".to_owned(),
        version: "9.9.9",
        started_at: UnixMillis(0),
    }));
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let rendered = Arc::new(AtomicI64::new(0));
    let renders = Arc::clone(&rendered);
    let pages = Pages::new(
        Arc::clone(&status),
        move || {
            renders.fetch_add(1, Ordering::Relaxed);
            b"ringback_in_flight 3\n".to_vec()
        },
        move || UnixMillis(clock.load(Ordering::Relaxed)),
    );
    let listener = bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (shutdown, wait) = oneshot::channel();
    let thread = thread::spawn(serve(listener, pages, wait));
    Served {
        address,
        status,
        now,
        rendered,
        shutdown,
        thread,
    }
}

impl Served {
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("open");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
        let body = text.split_once("\r\n\r\n").expect("a body").1.to_owned();
        (status.expect("a status"), body)
    }

    /// Shows a healthy service at this time, with this readiness fault.
    fn show(&self, at: i64, fault: Option<&str>) {
        self.status.show(Overview {
            at: UnixMillis(at),
            readiness: fault.map(str::to_owned),
            ..Overview::default()
        });
    }
}

const HOSTILE: &str = "<script>alert(\"1\")</script>";

fn failing() -> FailingTenant {
    let tenant = TenantId::new(HOSTILE).expect("valid");
    FailingTenant::first(
        tenant,
        UnixMillis(7),
        ErrorClass::Tls,
        "self-signed <certificate>",
    )
}

fn waiting() -> TopicOverview {
    TopicOverview {
        lag: 4_711,
        next_due: Some(UnixMillis(70_001)),
        ..TopicOverview::default()
    }
}

/// A running and a stopped partition.
fn partitions(stopped: Partition) -> Vec<PartitionOverview> {
    let running = PartitionOverview {
        partition: Partition {
            number: 0,
            ..stopped
        },
        state: PartitionStatus::Running,
        base: NextOffset(5),
        next: NextOffset(9),
        log_end: NextOffset(12),
        lag: 4,
        oldest_unfinished_age: Duration::from_millis(1_200),
    };
    let stopped = PartitionOverview {
        partition: stopped,
        state: PartitionStatus::Stopped("the committed offset is beyond the log"),
        ..running.clone()
    };
    vec![running, stopped]
}

#[test]
fn the_pages_show_what_the_runner_wrote() {
    let served = served();
    assert_eq!(served.get("/healthz"), (200, "ok\n".to_owned()));
    let starting = "starting: not in the consumer group yet\n";
    assert_eq!(served.get("/readyz"), (503, starting.to_owned()));

    let away = "no broker of 127.0.0.1:9092 answers";
    served.show(0, Some(away));
    assert_eq!(
        served.get("/healthz").0,
        200,
        "an outage of the brokers is no fault of the service"
    );
    assert_eq!(served.get("/readyz"), (503, format!("{away}\n")));
    served.show(0, None);
    assert_eq!(served.get("/readyz"), (200, "ok\n".to_owned()));

    served.now.store(10_001, Ordering::Relaxed);
    let (status, reason) = served.get("/healthz");
    assert_eq!(
        (status, reason.as_str()),
        (503, "the loop has not turned for 10 s\n")
    );
    assert_eq!(served.get("/livez"), (503, reason));
    served.show(10_000, None);
    assert_eq!(served.get("/livez").0, 200);
    assert_eq!(served.get("/healthz").0, 200);

    let partition = Topic::Source.partition(3);
    let why = "call-ended/3: the committed offset is beyond the log";
    served.status.show(Overview {
        at: UnixMillis(10_000),
        state: ServiceState::Running,
        health: Some(why.to_owned()),
        stopped: vec![(partition, "the committed offset is beyond the log")],
        partitions: partitions(partition),
        topics: [(Topic::Delay("1m".parse().expect("valid")), waiting())].into(),
        failing: vec![failing()],
        tenants_failing: 1,
        ..Overview::default()
    });
    for page in ["/healthz", "/readyz"] {
        assert_eq!(served.get(page), (503, format!("{why}\n")));
    }
    let live = served.get("/livez");
    assert_eq!(live.0, 200, "a restart does not heal a stopped partition");

    let (status, text) = served.get("/statusz");
    let json: serde_json::Value = serde_json::from_str(&text).expect("json");
    assert_eq!((status, &json["instance"]), (200, &"i-1".into()));
    assert_eq!(
        (&json["phase"], &json["reason"]),
        (&"running".into(), &why.into())
    );
    assert_eq!(json["tenants"]["worst"][0]["tenant"], HOSTILE);
    assert_eq!(json["tenants"]["worst"][0]["class"], "tls");
    assert_eq!(json["partitions"]["each"][0]["partition"], 3);
    assert_eq!(json["delays"][0]["next_due"], 70_001);
    let (status, page) = served.get("/");
    assert_eq!(status, 200);
    for shown in [
        "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;",
        "self-signed &lt;certificate&gt;",
        "call-ended/3: the committed offset is beyond the log",
        "in 1 min 0 s",
        "4711",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("<certificate"));
    assert_eq!(
        served.get("/metrics"),
        (200, "ringback_in_flight 3\n".to_owned())
    );
    assert_eq!(served.get("/other").0, 404);

    served.show(10_000, Some("draining"));
    assert_eq!(served.get("/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(served.get("/healthz").0, 200);
    served.shutdown.send(()).expect("it waits");
    let ended = served.thread.join().expect("no panic");
    assert!(ended.is_ok());
}

#[test]
fn a_thread_that_panicked_is_a_fault_of_every_page() {
    let served = served();
    served.status.show(Overview {
        panicked: Some("kafka-commit"),
        ..Overview::default()
    });
    let fault = "thread 'kafka-commit' has panicked\n".to_owned();
    for page in ["/livez", "/healthz", "/readyz"] {
        assert_eq!(served.get(page), (503, fault.clone()), "{page}");
    }
}

#[test]
fn a_broker_that_does_not_answer_is_named_and_no_fault_of_the_service() {
    let served = served();
    served.status.show(Overview {
        unreachable: vec![UnreachableBroker {
            broker: Broker {
                id: BrokerId(2),
                address: "kafka-1:9092".to_owned(),
            },
            partitions: 4,
            since: UnixMillis(0),
        }],
        ..Overview::default()
    });
    served.now.store(8_000, Ordering::Relaxed);
    let line = "broker 2 (kafka-1:9092) has not answered for 8 s; 4 partitions wait for it\n";
    assert_eq!(served.get("/healthz"), (200, format!("ok\n{line}")));
    assert_eq!(served.get("/readyz").0, 200);
    let json: serde_json::Value = serde_json::from_str(&served.get("/statusz").1).expect("json");
    assert_eq!(json["unreachable"][0]["broker"], 2);
    let page = served.get("/").1;
    assert!(
        page.contains("Broker 2 (kafka-1:9092) does not answer"),
        "{page}"
    );
}

#[test]
fn transactions_and_members_of_other_programs_are_named_and_no_fault_of_the_service() {
    let served = served();
    let partition = Topic::Source.partition(3);
    served.status.show(Overview {
        blocked: vec![BlockedPartition {
            partition,
            offset: NextOffset(120),
            since: UnixMillis(0),
        }],
        foreign: vec![ForeignMember {
            member: "rdkafka-1".to_owned(),
            client: "rdkafka".to_owned(),
            host: "/10.0.0.7".to_owned(),
            partitions: (0..6).map(|n| Topic::Source.partition(n)).collect(),
        }],
        ..Overview::default()
    });
    served.now.store(8_000, Ordering::Relaxed);
    let lines = "partition call-ended/3: an open transaction of another producer has held back \
                 offset 120 and all behind it for 8 s\n\
                 another program in the group has 6 partitions (call-ended/0, call-ended/1, \
                 call-ended/2, call-ended/3, call-ended/4, …): member rdkafka-1, client rdkafka, \
                 host /10.0.0.7\n";
    assert_eq!(served.get("/healthz"), (200, format!("ok\n{lines}")));
    let json: serde_json::Value = serde_json::from_str(&served.get("/statusz").1).expect("json");
    assert_eq!(json["blocked"][0]["offset"], 120);
    assert_eq!(json["foreign"][0]["partitions"], 6);
    let page = served.get("/").1;
    for text in ["call-ended/3 is held back", "has 6 partitions"] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn silent_connections_do_not_block_others() {
    let served = served();
    let silent: Vec<TcpStream> = (0..3 * CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(served.address).expect("it listens"))
        .collect();
    assert_eq!(served.get("/healthz").0, 200);
    let mut oldest = &silent[0];
    oldest
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("not zero");
    let cut = matches!(oldest.read(&mut [0; 1]), Ok(0));
    assert!(cut, "the oldest was closed");
}

#[test]
fn metrics_are_rendered_at_most_once_in_100_ms() {
    let served = served();
    for _ in 0..20 {
        assert_eq!(served.get("/metrics").1, "ringback_in_flight 3\n");
    }
    assert_eq!(served.rendered.load(Ordering::Relaxed), 1);
    served.now.store(100, Ordering::Relaxed);
    served.get("/metrics");
    assert_eq!(served.rendered.load(Ordering::Relaxed), 2);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = bind("127.0.0.1:0").expect("loopback");
    let listen = taken.local_addr().expect("bound").to_string();
    let error = bind(&listen).expect_err("taken");
    assert!(error.to_string().contains(&listen));
    assert!(bind("nonsense").is_err());
}

#[test]
fn all_addresses_of_ipv6_answer_ipv4_too_and_need_no_ipv6() {
    let all: SocketAddr = "[::]:9464".parse().expect("valid");
    let ipv4: SocketAddr = "0.0.0.0:9464".parse().expect("valid");
    assert_eq!(of_ipv4(all), Some(ipv4));
    assert_eq!(of_ipv4("[::1]:9464".parse().expect("valid")), None);
    assert!(lacks_ipv6(&io::ErrorKind::AddrNotAvailable.into()));
    assert!(!lacks_ipv6(&io::ErrorKind::AddrInUse.into()));
    let listener = bind("[::]:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    TcpStream::connect(("127.0.0.1", port)).expect("IPv4 is answered");
}
