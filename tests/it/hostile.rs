//! Hostile receivers, all at once, beside healthy ones. Each attempt ends in
//! time and in its class. Memory is bounded, and the healthy tenants' records are
//! not late.

mod cases;
mod plain_reader;
pub mod receivers;

use crate::support::dns::NameServer;
use crate::support::process;
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::sample;
use crate::support::scene::{Plan, Scene};
use crate::support::tls::Authority;
use cases::{CASES, Case, ZONES};
use plain_reader::PlainReader;
use receivers::Playing;
use rustix::process::setpriority_process;
use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Records for each hostile tenant.
const RECORDS: usize = 3;
const ATTEMPTS: usize = 2;
/// Tenants whose host names hang, in addition to the table.
const HANGING_NAMES: usize = 40;
const HEALTHY: [&str; 5] = ["h1", "h2", "h3", "h4", "h5"];
/// Interval between two records of the healthy tenants together.
const PACE: Duration = Duration::from_millis(10);
/// The healthy tenants first run alone for this time, until they are no longer
/// untried.
const ALONE: Duration = Duration::from_secs(1);
/// Both attempts of the slowest receiver, and the wait between them.
const BESIDE: Duration = Duration::from_secs(13);
/// The receiver that takes a whole core, on its side and on the service's. It
/// runs after the others, which would wait for a core and not for an answer.
const FLOOD: &str = "1xx without end, as fast as they are taken";
const TIMEOUT_MS: u64 = 5_000;
const LATE_MAX_MS: u64 = 200;
const MEMORY_MAX_KIB: u64 = 200 * 1_000_000 / 1_024;
/// The healthy tenants' p99 behind a consumer that only reads and commits. So
/// delays of the broker or the machine, which hit both, do not count. A receiver
/// that delays the others does so for its 5 s. On an idle machine the p99 from
/// publishing to POST is below 100 ms, and this difference is far below that.
const BEHIND_MAX: Duration = Duration::from_secs(1);

#[test]
fn hostile_receivers_cost_themselves_their_attempts_and_the_others_nothing() {
    let plan = Plan {
        attempts: 2,
        delays: "1s",
        delay_min: Duration::from_secs(1),
        ..Plan::default()
    };
    let mut scene = Scene::new("hostile", plan);
    scene.allow_networks = "127.0.0.1/32";
    let trap = TcpListener::bind("127.0.0.2:0").expect("loopback");
    let authority = Authority::new();
    let receivers = Receivers::open(&authority, trap.local_addr().expect("it is bound"));
    for tenant in HEALTHY {
        // By host name, so that the test notices lookups that hang.
        let url = scene
            .receiver
            .url(tenant)
            .replace("127.0.0.1", "right.test");
        scene.tenant_with(tenant, Behaviour::Ok, &serde_json::json!({ "url": url }));
    }
    for (case, playing) in &receivers.playing {
        let url = case
            .url
            .replace("{port}", &playing.address.port().to_string());
        let url = url.replace("{trap}", &receivers.trap.port().to_string());
        scene.tenant_with(case.name, Behaviour::Ok, &serde_json::json!({ "url": url }));
    }
    let names = NameServer::start(HashMap::from_iter(ZONES.iter().copied()));
    let ca = scene.file("ca.pem", &receivers.pem);
    let ca = ca.to_str().expect("the build directory is UTF-8");
    let ringback = scene.start_with_names("a", &["--ca-file", ca], &names.resolv_conf());
    let ringback = ringback.ready();

    publish_healthy(&mut scene, ALONE);
    let reader = PlainReader::start(scene.broker, &scene.topic);
    let stalls = Stalls::watch(ringback.pid());
    publish_hostile(&scene, &receivers, |name| name != FLOOD);
    let beside_table = publish_healthy(&mut scene, BESIDE);
    // Not during the flood: there the threads wait for each other.
    let stall = stalls.longest();
    let floods = receivers.playing.iter().filter(|(c, _)| c.name == FLOOD);
    assert_eq!(floods.count(), 1, "{FLOOD}");
    publish_hostile(&scene, &receivers, |name| name == FLOOD);
    let beside_flood = publish_healthy(&mut scene, BESIDE);
    let hostile = receivers.playing.len() * RECORDS;
    let read = reader.stop(hostile + scene.ledger.len());
    for published in [beside_table, beside_flood] {
        check_healthy(&scene, &published, &read);
    }
    check_ends(&scene, &receivers, &ringback);
    check_durations(&ringback, stall);
    let peak = process::resident_max_kib(ringback.pid());
    println!("memory at most {} MB", peak * 1_024 / 1_000_000);
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB of memory");
    trap.set_nonblocking(true).expect("an open socket");
    assert!(
        trap.accept().is_err(),
        "an address that is not permitted was connected to"
    );
    scene.until_settled();
    scene.account().assert_exact();
    ringback.drain();
}

/// The longest stall of this machine, which is busy with other tests. It is the
/// larger of two times. One is how late the machine wakes a thread of this test.
/// The other is how long, within [`Stalls::WINDOW`], a thread that makes attempts
/// waits for a core.
struct Stalls {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Stalls {
    const WINDOW: Duration = Duration::from_millis(300);

    fn watch(pid: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let nap = Duration::from_millis(10);
            let threads = attempting_threads(pid);
            let mut longest = Duration::ZERO;
            let mut waited = VecDeque::new();
            while !ended.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::park_timeout(nap);
                let late = asleep.elapsed().saturating_sub(nap);
                let now = Instant::now();
                let waits = threads.iter().map(|thread| waited_for_core(pid, *thread));
                waited.push_back((now, waits.collect::<Vec<Duration>>()));
                while now.duration_since(waited[0].0) > Self::WINDOW {
                    waited.pop_front();
                }
                let (before, after) = (&waited[0].1, &waited[waited.len() - 1].1);
                let starved = before.iter().zip(after).map(|(b, a)| a.saturating_sub(*b));
                longest = longest.max(late).max(starved.max().unwrap_or_default());
            }
            longest
        });
        Self { over, thread }
    }

    fn longest(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sleeps")
    }
}

/// Returns the service's threads that make attempts: its first thread, and the
/// threads for untried and failing tenants.
fn attempting_threads(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the service runs");
    let names = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
    let threads = names.filter_map(|name| name.parse().ok());
    let makes_attempts = |thread: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm"));
        *thread == pid || name.is_ok_and(|name| name.trim_end() == "isolated")
    };
    let found: Vec<u32> = threads.filter(makes_attempts).collect();
    assert!(found.len() > 1, "both kinds of threads are found");
    found
}

/// Returns how long a thread of a process has waited for a core; zero once it has
/// ended.
///
/// Source: Linux, Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`.
fn waited_for_core(pid: u32, thread: u32) -> Duration {
    let path = format!("/proc/{pid}/task/{thread}/schedstat");
    let Ok(stat) = std::fs::read_to_string(path) else {
        return Duration::ZERO;
    };
    let waited = stat.split_whitespace().nth(1).and_then(|n| n.parse().ok());
    Duration::from_nanos(waited.expect("time waited is the second number"))
}

/// The receivers, until dropped. Well-behaved receivers have a thread of their
/// own, which the hostile ones do not delay. Hostile receivers run at a lower
/// priority, so that they take no core from the service.
struct Receivers {
    playing: Vec<(&'static Case, Playing)>,
    trap: SocketAddr,
    pem: String,
    _runtimes: [tokio::runtime::Runtime; 2],
}

impl Receivers {
    fn open(authority: &Authority, trap: SocketAddr) -> Self {
        let runtime = |nice: i32| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .on_thread_start(move || {
                    // On Linux this applies to the calling thread alone.
                    setpriority_process(None, nice).expect("a thread may lower its priority");
                })
                .build()
                .expect("a runtime can be made")
        };
        let (right, wrong) = (runtime(0), runtime(10));
        let mut all: Vec<&'static Case> = CASES.iter().copied().flatten().collect();
        all.extend((0..HANGING_NAMES).map(cases::hanging_name));
        let playing = all.into_iter().map(|case| {
            let runtime = match case.ends {
                ["delivered"] => &right,
                _ => &wrong,
            };
            let playing = runtime.block_on(receivers::play(case.script, authority, trap));
            (case, playing)
        });
        Self {
            playing: playing.collect(),
            trap,
            pem: authority.pem(),
            _runtimes: [right, wrong],
        }
    }
}

/// Publishes the records of the hostile tenants that `these` selects.
fn publish_hostile(scene: &Scene<'_>, receivers: &Receivers, these: impl Fn(&str) -> bool) {
    for (at, (case, _)) in receivers.playing.iter().enumerate() {
        for n in (0..RECORDS).filter(|_| these(case.name)) {
            let id = format!("{at}-{n}");
            let value = sample::record(&id, case.name);
            scene.send(&scene.topic, Some(id.as_bytes()), Some(&value), &[]);
        }
    }
}

/// Publishes to the healthy tenants for this time, and waits until all records
/// are delivered. Returns when each record was published, in epoch microseconds.
fn publish_healthy(scene: &mut Scene<'_>, span: Duration) -> HashMap<String, u64> {
    let started = Instant::now();
    let mut published = HashMap::new();
    let mut next = started;
    while started.elapsed() < span {
        let tenant = HEALTHY[published.len() % HEALTHY.len()];
        let id = format!("healthy-{}", scene.ledger.len());
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        published.insert(id.clone(), at.expect("after 1970").as_micros() as u64);
        scene.publish_record(&id, tenant);
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    scene.until_delivered();
    published
}

/// Checks that the healthy tenants' records are hardly later than the plain
/// reader's.
fn check_healthy(scene: &Scene<'_>, published: &HashMap<String, u64>, read: &HashMap<String, u64>) {
    let posts = scene.receiver.posts();
    let posted = |id: &str| posts[id][0].at_us;
    let p99 = |since: &dyn Fn(&str) -> u64, until: &dyn Fn(&str) -> u64| {
        let ids = published.keys();
        let mut spans: Vec<u64> = ids.map(|id| until(id).saturating_sub(since(id))).collect();
        spans.sort_unstable();
        Duration::from_micros(spans[spans.len() * 99 / 100])
    };
    let to_post = p99(&|id| published[id], &posted);
    let to_reader = p99(&|id| published[id], &|id| read[id]);
    let behind = p99(&|id| read[id], &posted);
    println!(
        "healthy p99 of {}: to the POST {to_post:?}, to a plain reader {to_reader:?}, behind it {behind:?}",
        published.len()
    );
    assert!(behind <= BEHIND_MAX, "p99 {behind:?} behind a plain reader");
}

/// Checks that every record ends once, in one of its case's classes.
fn check_ends(scene: &Scene<'_>, receivers: &Receivers, ringback: &Ringback) {
    let hostile = (receivers.playing.len() * RECORDS) as u64;
    let healthy = scene.ledger.len() as u64;
    ringback.until("every hostile record to end", |metrics| {
        metrics.disposed("delivered") + metrics.disposed("dead_lettered") == hostile + healthy
    });
    let mut classes: HashMap<String, String> = HashMap::new();
    for found in scene.dead_letters() {
        let id = found.id().expect("a readable record");
        classes.insert(id, found.header("ringback-error").to_owned());
    }
    let mut wrong = Vec::new();
    for (at, (case, playing)) in receivers.playing.iter().enumerate() {
        for n in 0..RECORDS {
            let class = classes.get(&format!("{at}-{n}"));
            let class = class.map_or("delivered", String::as_str);
            if !case.ends.contains(&class) {
                wrong.push(format!("{}: {class}, not {:?}", case.name, case.ends));
            }
        }
        // Also where a connection broke: an attempt never sends twice.
        let most = match case.ends {
            ["delivered"] => RECORDS,
            _ => RECORDS * ATTEMPTS,
        };
        if playing.requests() > most * case.requests_max() {
            wrong.push(format!("{}: {} requests", case.name, playing.requests()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks that no failed attempt took longer than the deadline, a tolerance and
/// the machine's longest stall.
fn check_durations(ringback: &Ringback, stall: Duration) {
    let late_max_ms = LATE_MAX_MS + stall.as_millis() as u64;
    let log = ringback.log();
    assert!(!log.contains("hunter2"), "a URL's query is in the log");
    let mut longest = 0;
    let mut lines = 0;
    for line in log.lines().filter(|line| line.contains("attempt failed")) {
        let line: serde_json::Value = serde_json::from_str(line).expect("lines are JSON");
        let fields = line.get("fields").unwrap_or(&line);
        let duration = fields["duration_ms"].as_u64().expect("a number");
        assert!(duration <= TIMEOUT_MS + late_max_ms, "{stall:?}: {line}");
        longest = longest.max(duration);
        lines += 1;
    }
    println!(
        "{lines} failed attempts in the log, the longest {longest} ms; longest stall {stall:?}"
    );
    assert!(
        longest >= TIMEOUT_MS - LATE_MAX_MS,
        "some wait for the deadline"
    );
}
