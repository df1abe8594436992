//! One run from start to end: cluster, receivers, replicas, publisher, then the
//! plan. At the end all records settle, and the account is made.

use super::arguments::{Arguments, Faults};
use super::driver::{Driver, break_brokers};
use super::latency;
use super::ledger::{Account, DeadLetter, Evidence, Fault};
use super::plan::Plan;
use super::receiver::{self, Receiver};
use super::records;
use super::report::Report;
use super::surroundings::break_surroundings;
use crate::support::broker::run_java;
use crate::support::cluster::Cluster;
use crate::support::dead_letters;
use crate::support::publisher::Publisher;
use crate::support::relay::{Relay, Speech};
use crate::support::ringback::{self, Ringback};
use crate::support::{http, metrics::Metrics, ports, workspace};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const TOPIC: &str = "chaos";
const DELAYS: &str = "500ms,1s,2s";
const DELAYS_MS: [u64; 3] = [500, 1_000, 2_000];
/// The source topic's partitions, and those of three delay topics.
const ALL_PARTITIONS: u64 = records::PARTITIONS as u64 * 4;
/// The maximum time from the last published record to the end of all.
const SETTLE_MAX: Duration = Duration::from_secs(180);
/// The number of checks in a row that must find nothing unfinished.
const SETTLED_LOOKS: u32 = 4;

/// The processes of a run.
pub struct World {
    pub cluster: Cluster,
    /// The start of the faults.
    pub started: Instant,
    receiver: Receiver,
    ways: Vec<Relay>,
    directory: PathBuf,
    starts: AtomicUsize,
    outages: AtomicUsize,
    /// Held by a fault of a broker's process: one at a time.
    brokers: Mutex<()>,
}

/// Runs the program from start to end.
///
/// Panics: when the run itself fails, for example when a broker does not come
/// back.
pub fn run(arguments: &Arguments) -> Report {
    let started = Instant::now();
    println!("{}", arguments.command());
    let world = World::new(arguments);
    println!("logs: {}", world.directory.display());
    let plan = Plan::new(arguments);
    let stop = AtomicBool::new(false);
    let (published, outcomes, mut faults) = std::thread::scope(|threads| {
        let publishing = threads.spawn(|| publish(&world, arguments.rate, &stop));
        let stopper = StopOnDrop(&stop);
        let brokers = threads.spawn(|| break_brokers(&world, &plan.brokers));
        let surroundings = threads.spawn(|| break_surroundings(&world, &plan.surroundings));
        let drivers: Vec<_> = plan
            .replicas
            .iter()
            .enumerate()
            .map(|(replica, part)| {
                let world = &world;
                threads.spawn(move || Driver::new(world, replica).run_plan(part))
            })
            .collect();
        let outcomes: Vec<_> = drivers.into_iter().map(joined).collect();
        let mut faults = joined(brokers);
        faults.append(&mut joined(surroundings));
        drop(stopper);
        (joined(publishing), outcomes, faults)
    });
    let (mut replicas, mut unexpected_ends) = (Vec::new(), Vec::new());
    for (replica, mut of_it, mut ends) in outcomes {
        replicas.push(replica);
        faults.append(&mut of_it);
        unexpected_ends.append(&mut ends);
    }
    faults.sort_by_key(|fault| fault.at);
    println!(
        "{} published; waiting until all records are settled",
        published.count
    );
    let settled = settle(&replicas);
    let account = world.account(published.count, &faults);
    let latencies = latency::lines(&world.receiver.noted().posts, |n| published.at(n), &faults);
    let mut report = Report::judged(account, faults, arguments).after(started.elapsed());
    report.add_traces(|number| world.story(number));
    report.add_latencies(latencies);
    report.add_lateness(world.lateness());
    if let Err(why) = settled {
        report.add_breach(format!("not settled after {SETTLE_MAX:?}: {why}"));
    }
    for end in unexpected_ends {
        report.add_breach(format!("ended by itself: {end}"));
    }
    for mut replica in replicas {
        if replica.over().is_some() {
            report.add_breach("a replica ended by itself while the records settled".to_owned());
        } else {
            replica.drain();
        }
    }
    report
}

/// Returns a thread's result, or continues its panic.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Ends the publisher, also after a panic of a thread.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl World {
    fn new(arguments: &Arguments) -> Self {
        let replicas = arguments.replicas as usize;
        let brokers = arguments.brokers as usize;
        let cluster = Cluster::start("chaos-broker", brokers, replicas);
        let receiver = Receiver::start(arguments.seed);
        let way = |_| Relay::start(&[receiver.port()], Speech::Bytes);
        let world = Self {
            ways: (0..replicas).map(way).collect(),
            directory: workspace::directory("chaos"),
            starts: AtomicUsize::new(1),
            outages: AtomicUsize::new(0),
            brokers: Mutex::default(),
            started: Instant::now(),
            cluster,
            receiver,
        };
        let partitions = records::PARTITIONS.to_string();
        let made = ringback::output(&[
            "topics",
            "create",
            "--brokers",
            world.cluster.broker(0).address(),
            "--topic",
            TOPIC,
            "--delays",
            DELAYS,
            "--partitions",
            &partitions,
            "--replication-factor",
            &brokers.to_string(),
        ]);
        let text = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "topics create: {text}");
        if arguments.faults == Faults::All && brokers > 1 {
            world.need_all_copies(&format!("{TOPIC}.delay.1s"), brokers);
        }
        for replica in 0..replicas {
            world.write_tenants(replica);
        }
        world
    }

    /// Has a topic refuse records while a broker is down.
    fn need_all_copies(&self, topic: &str, brokers: usize) {
        let arguments = [
            "--bootstrap-server",
            self.cluster.broker(0).address(),
            "--entity-type",
            "topics",
            "--entity-name",
            topic,
            "--alter",
            "--add-config",
            &format!("min.insync.replicas={brokers}"),
        ];
        if let Err(why) = run_java("kafka.admin.ConfigCommand", &arguments) {
            panic!("the settings of {topic} are not changed: {why}");
        }
    }

    /// Writes a replica's tenants file. Each replica has its own relay to the
    /// receivers, so its own URLs.
    fn write_tenants(&self, replica: usize) {
        let port = self.ways[replica].ports()[0];
        let tenants: serde_json::Map<_, _> = records::tenants()
            .into_iter()
            .map(|tenant| {
                let path = receiver::path(replica, &tenant);
                let url = format!("http://127.0.0.1:{port}{path}");
                (tenant, serde_json::json!({ "url": url }))
            })
            .collect();
        let text = serde_json::to_string(&tenants).expect("plain JSON");
        std::fs::write(self.tenants_file(replica), text).expect("the build directory is writable");
    }

    fn tenants_file(&self, replica: usize) -> PathBuf {
        self.directory.join(format!("tenants-{replica}.json"))
    }

    /// Returns the relay between a replica and the receivers.
    pub fn receivers_way(&self, replica: usize) -> &Relay {
        &self.ways[replica]
    }

    /// Returns the tenants' receiver.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Waits until no other fault concerns a broker's process.
    pub fn brokers(&self) -> MutexGuard<'_, ()> {
        self.brokers.lock().expect("no holder panics")
    }

    /// Returns how often a broker went down or came back: odd while one is down.
    pub fn outages(&self) -> usize {
        self.outages.load(Ordering::Relaxed)
    }

    /// Counts that a broker goes down or came back.
    pub fn count_outage(&self) {
        self.outages.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts a replica without waiting for it.
    pub fn start(&self, replica: usize) -> Ringback {
        let tenants = self.tenants_file(replica);
        let tenants = tenants.to_str().expect("the build directory is UTF-8");
        let brokers = self.cluster.way_in(replica);
        let instance = format!("replica-{replica}");
        let arguments = [
            "run",
            "--brokers",
            &brokers,
            "--group",
            TOPIC,
            "--topic",
            TOPIC,
            "--instance",
            &instance,
            "--delays",
            DELAYS,
            "--tenants",
            tenants,
            "--allow-networks",
            "127.0.0.0/8",
        ]
        .map(str::to_owned);
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("{instance}-{number}.log"));
        Ringback::start(&instance, &arguments, ports::free(), &log)
    }

    fn account(&self, published: u64, faults: &[Fault]) -> Account {
        let dead_letters = self.dead_letters();
        let noted = self.receiver.noted();
        let delays = DELAYS_MS.map(Duration::from_millis);
        Account::of(&Evidence {
            published,
            posts: &noted.posts,
            strays: noted.strays,
            dead_letters: &dead_letters,
            faults,
            delays: &delays,
        })
    }

    /// Returns when the threads on the way of a POST were latest, and by how
    /// much.
    fn lateness(&self) -> Vec<String> {
        let relays = self.ways.iter().enumerate().map(|(replica, way)| {
            let who = format!("the relay of replica {replica}");
            (who, way.lateness())
        });
        let receiver = ("the receiver".to_owned(), self.receiver.lateness());
        let all = relays.chain([receiver]);
        all.filter_map(|(who, lateness)| {
            let (until, late) = lateness.worst()?;
            let until = until.duration_since(self.started).as_secs_f64();
            Some(format!("{who}, {} ms until {until:.3} s", late.as_millis()))
        })
        .collect()
    }

    /// Returns the POSTs of a record as text.
    fn story(&self, number: u64) -> String {
        let mut story = format!(
            "record {number} of partition {}:",
            records::partition(number)
        );
        for seen in self
            .receiver
            .noted()
            .posts
            .get(&number)
            .into_iter()
            .flatten()
        {
            let at = seen.at.duration_since(self.started).as_secs_f64();
            let (attempt, replica, status) = (seen.attempt, seen.replica, seen.status);
            write!(story, " {attempt} by {replica} at {at:.3} s -> {status};")
                .expect("strings take all");
        }
        story
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        let found = dead_letters::read(self.cluster.broker(0), &format!("{TOPIC}.dead-letter"));
        let letters = found.iter().map(|found| {
            let key = found.key.as_deref().unwrap_or_default();
            let number = std::str::from_utf8(key).ok().and_then(records::number);
            let number = number.unwrap_or(u64::MAX);
            DeadLetter {
                number,
                reason: found.header("ringback-reason").to_owned(),
                exact: found.value.as_deref() == Some(records::value(number).as_slice()),
            }
        });
        letters.collect()
    }
}

/// What was published.
struct Published {
    count: u64,
    started: Instant,
    rate: u64,
}

impl Published {
    /// Returns when a record was due to be published.
    fn at(&self, number: u64) -> Instant {
        self.started + Duration::from_millis(number * 1_000 / self.rate)
    }
}

/// Publishes at a steady rate until `stop`.
fn publish(world: &World, rate: u64, stop: &AtomicBool) -> Published {
    let publisher = Publisher::new(world.cluster.broker(0));
    let mut published = Published {
        count: 0,
        started: Instant::now(),
        rate,
    };
    while !stop.load(Ordering::Relaxed) {
        while published.at(published.count) <= Instant::now() {
            let number = published.count;
            let (key, value) = (records::id(number), records::value(number));
            let partition = records::partition(number) as i32;
            let key = Some(key.as_bytes());
            publisher.send_to(TOPIC, Some(partition), key, Some(&value), &[]);
            published.count += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    publisher.flush();
    published
}

/// Waits until the replicas have no work left.
fn settle(replicas: &[Ringback]) -> Result<(), String> {
    let started = Instant::now();
    let mut looks = 0;
    loop {
        let (assigned, lag, unfinished) = replicas
            .iter()
            .filter_map(figures)
            .fold((0, 0, 0), |(a, l, u), (assigned, lag, unfinished)| {
                (a + assigned, l + lag, u + unfinished)
            });
        let nothing = assigned == ALL_PARTITIONS && lag == 0 && unfinished == 0;
        looks = if nothing { looks + 1 } else { 0 };
        if looks == SETTLED_LOOKS {
            return Ok(());
        }
        if started.elapsed() > SETTLE_MAX {
            return Err(format!(
                "{assigned} of {ALL_PARTITIONS} partitions assigned, lag {lag}, unfinished {unfinished}"
            ));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Returns the assigned partitions, the lag and the unfinished records of a
/// replica, if it answers.
fn figures(replica: &Ringback) -> Option<(u64, u64, u64)> {
    let (_, text) = http::get(replica.port(), "/metrics")?;
    let metrics = Metrics::parse(&text);
    Some((
        metrics.count("ringback_assigned_partitions", &[]),
        metrics.count("ringback_lag_records", &[]),
        metrics.count("ringback_unfinished_records", &[]),
    ))
}
