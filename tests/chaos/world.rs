//! One run from start to end: cluster, receivers, replicas, publisher; then
//! the plan; then all settles, and the account is drawn up.

use super::arguments::Arguments;
use super::driver::{Driver, break_brokers};
use super::ledger::{Account, Buried, Evidence, Fault};
use super::plan::Plan;
use super::receiver::{self, Receiver};
use super::records;
use super::report::Report;
use crate::support::cluster::Cluster;
use crate::support::dead_letters;
use crate::support::publisher::Publisher;
use crate::support::relay::{Relay, Speech};
use crate::support::ringback::{self, Ringback};
use crate::support::{http, metrics::Metrics, ports, workspace};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "chaos";
const DELAYS: &str = "500ms,1s,2s";
const DELAYS_MS: [u64; 3] = [500, 1_000, 2_000];
/// The source topic's partitions, and those of three delay topics.
const ALL_PARTITIONS: u64 = records::PARTITIONS as u64 * 4;
/// With the last record published everything ends within this time.
const SETTLE_MAX: Duration = Duration::from_secs(180);
/// So many looks in a row must find nothing unfinished.
const SETTLED_LOOKS: u32 = 4;

/// What the faults happen to.
pub struct World {
    /// Kafka.
    pub cluster: Cluster,
    /// When the faults began.
    pub started: Instant,
    receiver: Receiver,
    ways: Vec<Relay>,
    directory: PathBuf,
    starts: AtomicUsize,
    outages: AtomicUsize,
}

/// A run from start to end.
///
/// Panics: when the run itself fails, a broker that does not come back, say.
pub fn run(arguments: &Arguments) -> Report {
    let began = Instant::now();
    println!("{}", arguments.command());
    let world = World::new(arguments);
    println!("logs: {}", world.directory.display());
    let plan = Plan::new(arguments);
    let stop = AtomicBool::new(false);
    let (published, outcomes, mut faults) = std::thread::scope(|threads| {
        let publishing = threads.spawn(|| publish(&world, arguments.rate, &stop));
        let stopper = StopOnDrop(&stop);
        let brokers = threads.spawn(|| break_brokers(&world, &plan.brokers));
        let drivers: Vec<_> = plan
            .replicas
            .iter()
            .enumerate()
            .map(|(replica, part)| {
                let world = &world;
                threads.spawn(move || Driver::new(world, replica).carry_out(part))
            })
            .collect();
        let outcomes: Vec<_> = drivers.into_iter().map(joined).collect();
        let faults = joined(brokers);
        drop(stopper);
        (joined(publishing), outcomes, faults)
    });
    let (mut replicas, mut own_ends) = (Vec::new(), Vec::new());
    for (replica, mut of_it, mut ends) in outcomes {
        replicas.push(replica);
        faults.append(&mut of_it);
        own_ends.append(&mut ends);
    }
    faults.sort_by_key(|fault| fault.at);
    println!("{published} published; waiting until all is settled");
    let settled = settle(&replicas);
    let account = world.account(published, &faults);
    let mut report = Report::judged(account, faults, arguments).after(began.elapsed());
    report.add_traces(|number| world.story(number));
    report.add_lateness(world.lateness());
    if let Err(why) = settled {
        report.add_breach(format!("not settled after {SETTLE_MAX:?}: {why}"));
    }
    for end in own_ends {
        report.add_breach(format!("ended by itself: {end}"));
    }
    for mut replica in replicas {
        if replica.over().is_some() {
            report.add_breach("a replica ended by itself while all settled".to_owned());
        } else {
            replica.drain();
        }
    }
    report
}

/// What a thread returned; its panic is ours.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Ends the publisher also when a thread panics.
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
        for replica in 0..replicas {
            world.write_tenants(replica);
        }
        world
    }

    /// Each replica has its own way to the receivers, so its own URLs.
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

    /// The relay between a replica and the receivers.
    pub fn receivers_way(&self, replica: usize) -> &Relay {
        &self.ways[replica]
    }

    /// How often a broker has gone or come back: odd while one is away.
    pub fn outages(&self) -> usize {
        self.outages.load(Ordering::Relaxed)
    }

    /// A broker goes or has come back.
    pub fn count_outage(&self) {
        self.outages.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts a replica, not waiting for anything.
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
        let buried = self.buried();
        let noted = self.receiver.noted();
        let delays = DELAYS_MS.map(Duration::from_millis);
        Account::of(&Evidence {
            published,
            posts: &noted.posts,
            strays: noted.strays,
            buried: &buried,
            faults,
            delays: &delays,
        })
    }

    /// When the threads that POSTs pass were latest, and by how much.
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

    /// The POSTs of a record.
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

    fn buried(&self) -> Vec<Buried> {
        let found = dead_letters::read(self.cluster.broker(0), &format!("{TOPIC}.dead-letter"));
        let known = found.iter().map(|found| {
            let key = found.key.as_deref().unwrap_or_default();
            let number = std::str::from_utf8(key).ok().and_then(records::number);
            let number = number.unwrap_or(u64::MAX);
            Buried {
                number,
                reason: found.header("ringback-reason").to_owned(),
                exact: found.value.as_deref() == Some(records::value(number).as_slice()),
            }
        });
        known.collect()
    }
}

/// Publishes at a steady rate until it is stopped; returns how many.
fn publish(world: &World, rate: u64, stop: &AtomicBool) -> u64 {
    let publisher = Publisher::new(world.cluster.broker(0));
    let started = Instant::now();
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = started.elapsed().as_millis() as u64 * rate / 1_000;
        while published < due {
            let (key, value) = (records::id(published), records::value(published));
            let partition = records::partition(published) as i32;
            let key = Some(key.as_bytes());
            publisher.send_to(TOPIC, Some(partition), key, Some(&value), &[]);
            published += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    publisher.flush();
    published
}

/// Waits until the replicas have nothing left to do.
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

/// Partitions assigned, lag, and records in hand, of one that answers.
fn figures(replica: &Ringback) -> Option<(u64, u64, u64)> {
    let (_, text) = http::get(replica.port(), "/metrics")?;
    let metrics = Metrics::parse(&text);
    Some((
        metrics.count("ringback_assigned_partitions", &[]),
        metrics.count("ringback_lag_records", &[]),
        metrics.count("ringback_unfinished_records", &[]),
    ))
}
