//! The benchmark: ringback against reqwest alone, side by side in one run. It
//! reports times and asserts nothing about them. `tests/perf/run` runs it.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;

mod attempt_log;
mod brokers;
mod commit_interval;
mod distance;
mod isolation;
mod machine;
mod many_tenants;
mod partitions;
mod parts;
mod profile;
mod rates;
mod steady;

use brokers::Brokers;
use parts::{ReceiverProcess, TENANTS, reqwest_alone, tenant};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};
use steady::Load;
use support::publisher::Publisher;
use support::ringback::Ringback;
use support::{ports, ringback, sample, workspace};

/// The maximum time of a measurement, even on a slow machine.
const LIMIT: Duration = Duration::from_secs(300);

struct Sizes {
    records: usize,
    seconds: usize,
    rounds: usize,
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // Added by cargo.
    arguments.retain(|argument| argument != "--bench");
    let number = |at: usize| arguments[at].parse().expect("a number");
    match arguments.first().map(String::as_str) {
        Some("receiver") => return parts::receive(number(1)),
        Some("posts") => {
            let port = u16::try_from(number(1)).expect("a port");
            return parts::post(port, number(2), number(3), number(4));
        }
        Some("consume") => return parts::consume(&arguments[1], &arguments[2]),
        _ => {}
    }
    let sized = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| number(at + 1))
    };
    let mode = arguments.first().filter(|first| !first.starts_with("--"));
    let mode = mode.map(String::as_str);
    let sizes = Sizes {
        records: sized("--records", 100_000),
        seconds: sized("--seconds", if mode.is_some() { 60 } else { 15 }),
        rounds: sized("--rounds", 3),
    };
    let bench = Bench::new(Brokers::one());
    match mode {
        None => {
            bench.backlog(&sizes);
            bench.steady(&sizes);
            bench.lateness(&sizes);
            attempt_log::measure(&bench, &sizes);
        }
        Some("attempt-log") => attempt_log::measure(&bench, &sizes),
        Some("commit-interval") => commit_interval::measure(bench, &sizes),
        Some("distance") => distance::measure(&bench, &sizes),
        Some("isolation") => isolation::measure(&bench, &sizes),
        Some("many-tenants") => many_tenants::measure(&bench, &sizes),
        Some("partitions") => partitions::measure(&bench, &sizes),
        Some("profile") => {
            let to = arguments.iter().position(|argument| argument == "--to");
            let to = to
                .and_then(|at| arguments.get(at + 1))
                .expect("--to DIRECTORY");
            profile::measure(&bench, &sizes, to.as_ref());
        }
        Some("rates") => rates::measure(&bench, &sizes),
        Some("three-brokers") => {
            drop(bench);
            Bench::new(Brokers::three()).backlog(&sizes);
        }
        Some(other) => panic!("there is no {other}: see tests/perf/run"),
    }
}

/// The brokers of all measurements.
struct Bench {
    brokers: Brokers,
    publisher: Publisher,
}

/// The topic, receiver and directory of one measurement.
struct Run {
    topic: String,
    receiver: ReceiverProcess,
    directory: std::path::PathBuf,
}

impl Bench {
    fn new(brokers: Brokers) -> Self {
        let publisher = Publisher::new(brokers.first());
        Self { brokers, publisher }
    }

    /// Prepares a measurement with [`TENANTS`] tenants: topics, tenants file and
    /// receiver.
    fn run(&self, topic: &str, delays: &str, fail_first: usize) -> Run {
        let address = |_| "127.0.0.1".to_owned();
        self.run_of(topic, delays, fail_first, (TENANTS, 12), address)
    }

    /// Prepares a measurement with so many tenants at these addresses, and so many
    /// partitions.
    fn run_of(
        &self,
        topic: &str,
        delays: &str,
        fail_first: usize,
        (tenants, partitions): (usize, usize),
        address: impl Fn(usize) -> String,
    ) -> Run {
        let mut create = ["topics", "create"].map(str::to_owned).to_vec();
        create.extend(self.settings(topic, delays));
        let partitions = partitions.to_string();
        let copies = self.brokers.copies().to_string();
        let shape = ["--partitions", &partitions, "--replication-factor", &copies];
        create.extend(shape.map(str::to_owned));
        let made = ringback::command(&create).output().expect("it starts");
        let error = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "topics create: {error}");
        Self::run_again(topic, fail_first, tenants, address)
    }

    /// Prepares a further measurement with topics that exist.
    fn run_again(
        topic: &str,
        fail_first: usize,
        tenants: usize,
        address: impl Fn(usize) -> String,
    ) -> Run {
        let receiver = ReceiverProcess::start(fail_first);
        let directory = workspace::directory(topic);
        let tenants: HashMap<String, serde_json::Value> = (0..tenants)
            .map(|n| {
                let (name, address) = (format!("tenant-{n}"), address(n));
                let url = format!("http://{address}:{}/t/{name}", receiver.port);
                (name, serde_json::json!({ "url": url }))
            })
            .collect();
        let text = serde_json::to_string(&tenants).expect("plain JSON");
        std::fs::write(directory.join("tenants.json"), text).expect("it is writable");
        Run {
            topic: topic.to_owned(),
            receiver,
            directory,
        }
    }

    fn settings(&self, topic: &str, delays: &str) -> Vec<String> {
        Self::settings_at(self.brokers.address(), topic, delays)
    }

    fn settings_at(brokers: &str, topic: &str, delays: &str) -> Vec<String> {
        let all = ["--brokers", brokers, "--topic", topic, "--delays", delays];
        all.map(str::to_owned).to_vec()
    }

    fn start(&self, run: &Run, delays: &str) -> Ringback {
        self.start_with(run, delays, &[])
    }

    fn start_with(&self, run: &Run, delays: &str, options: &[&str]) -> Ringback {
        Self::start_at(self.brokers.address(), run, delays, options)
    }

    fn start_at(brokers: &str, run: &Run, delays: &str, options: &[&str]) -> Ringback {
        let tenants = run.directory.join("tenants.json");
        let tenants = tenants.to_str().expect("the build directory is UTF-8");
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(Self::settings_at(brokers, &run.topic, delays));
        let more = [
            "--group",
            &run.topic,
            "--instance",
            "perf",
            "--tenants",
            tenants,
        ];
        arguments.extend(more.map(str::to_owned));
        arguments.extend(["--allow-networks", "127.0.0.0/8"].map(str::to_owned));
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let log = run.directory.join("ringback.log");
        Ringback::start("ringback", &arguments, ports::free(), &log)
    }

    fn publish(&self, topic: &str, number: usize) {
        self.publish_to(topic, number, &tenant(number));
    }

    fn publish_to(&self, topic: &str, number: usize, tenant: &str) {
        let id = format!("{topic}-{number}");
        let value = sample::record(&id, tenant);
        self.publisher
            .send(topic, Some(id.as_bytes()), Some(&value), &[]);
    }

    /// Measures a backlog that one core delivers; all other processes run on the
    /// other cores.
    fn backlog(&self, sizes: &Sizes) {
        let (core, others, all) = machine::cores();
        let posts = sizes.records;
        println!("backlog of {posts} records, {TENANTS} tenants, 12 partitions, one core");
        let mut run = self.run("perf-backlog", "10s", 0);
        for number in 0..posts {
            self.publish(&run.topic, number);
        }
        self.publisher.flush();
        for pid in [run.receiver.pid(), std::process::id()] {
            machine::confine(pid, &others);
        }
        self.brokers.confine(&others);
        let before = reqwest_alone(&core, run.receiver.port, posts, 64, 0);
        println!("  reqwest alone, 64 in flight      {}", alone(&before));

        let earlier = run.receiver.count();
        let service = self.start(&run, "10s");
        machine::confine(service.pid(), &core);
        until_count(&mut run.receiver, earlier + 1);
        machine::confine(service.pid(), &core);
        let (cpu, started) = (machine::cpu(service.pid()), Instant::now());
        let skipped = run.receiver.count() - earlier;
        let in_flight = watch_in_flight(&service, &mut run.receiver, earlier + posts);
        let cpu = machine::cpu(service.pid()) - cpu;
        let delivered = (posts - skipped) as f64;
        let each = cpu.as_secs_f64() * 1e6 / delivered;
        println!(
            "  ringback, {in_flight:>4} in flight         {each:>7.1} us of CPU each, {:>7.0}/s, {:>7.0} per core-second",
            delivered / started.elapsed().as_secs_f64(),
            1e6 / each
        );
        let resident = machine::resident_max(service.pid());
        println!("  ringback, resident at most       {resident:>7.1} MiB");
        service.drain();

        let same = reqwest_alone(&core, run.receiver.port, posts, in_flight, 0);
        println!(
            "  reqwest alone, {in_flight:>4} in flight    {}",
            alone(&same)
        );
        let after = reqwest_alone(&core, run.receiver.port, posts, 64, 0);
        println!("  reqwest alone, 64 again          {}", alone(&after));
        println!(
            "  ringback / reqwest alone         {:>7.2} with 64 in flight, {:.2} with {in_flight}",
            each / ((before.cpu_us + after.cpu_us) / 2.0),
            each / same.cpu_us
        );
        machine::confine(std::process::id(), &all);
        self.brokers.confine(&all);
    }

    /// Measures a steady rate on the whole machine.
    fn steady(&self, sizes: &Sizes) {
        let load = Load::new("perf-steady", 1_000, sizes.seconds);
        println!(
            "{} records/s over {TENANTS} tenants for {} s",
            load.rate, load.seconds
        );
        let steady = load.run(self);
        println!("  publish to POST                  {}", steady.spread);
        println!(
            "  ringback                         {:>7.1} us of CPU each",
            steady.cpu_us
        );
        println!(
            "  ringback, resident at most       {:>7.1} MiB",
            steady.resident_mib
        );
        let paced = load.reqwest_alone();
        println!("  reqwest alone, same rate         {}", alone(&paced));
    }

    /// Measures how late the second POST comes after a failed first one.
    fn lateness(&self, sizes: &Sizes) {
        const RATE: usize = 100;
        const DELAY_MS: f64 = 2_000.0;
        let mut run = self.run("perf-lateness", "2s", 1);
        let service = self.start(&run, "2s").ready();
        let total = RATE * sizes.seconds;
        println!("{RATE} failures/s, a delay of 2 s, for {} s", sizes.seconds);
        pace(RATE, total, |number| self.publish(&run.topic, number));
        until_count(&mut run.receiver, 2 * total);
        let posts = run.receiver.posts();
        let gaps = posts.iter().filter(|(_, times)| times.len() > 1);
        let mut gaps: Vec<f64> = gaps
            .map(|(_, times)| times[1].saturating_sub(times[0]) as f64 / 1e3)
            .collect();
        println!("  POST 1 to POST 2                 {}", spread(&mut gaps));
        let early = gaps.iter().filter(|gap| **gap < DELAY_MS).count();
        println!("  sooner than the delay            {early:>7}");
        service.drain();
    }
}

fn alone(measured: &parts::Alone) -> String {
    let (each, rate) = (measured.cpu_us, measured.per_second);
    format!("{each:>7.1} us of CPU each, {rate:>7.0}/s")
}

/// Returns the mean number of attempts in flight, sampled four times a second
/// until all POSTs arrived.
fn watch_in_flight(service: &Ringback, receiver: &mut ReceiverProcess, posts: usize) -> usize {
    let (mut sum, mut looks) = (0, 0);
    let started = Instant::now();
    let mut next_look = started + Duration::from_millis(200);
    while receiver.count() < posts {
        assert!(started.elapsed() < LIMIT, "the backlog does not end");
        if Instant::now() >= next_look {
            sum += service.metrics().count("ringback_in_flight", &[]);
            looks += 1;
            next_look += Duration::from_millis(250);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    usize::try_from(sum / looks.max(1)).map_or(1, |mean| mean.max(1))
}

fn until_count(receiver: &mut ReceiverProcess, posts: usize) {
    support::wait::until_some("the POSTs", LIMIT, || {
        (receiver.count() >= posts).then_some(())
    });
}

/// Calls `each` with 0, 1, … at this rate; a late call is not skipped.
fn pace(rate: usize, total: usize, mut each: impl FnMut(usize)) {
    let started = Instant::now();
    for number in 0..total {
        let due = started + Duration::from_secs_f64(number as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        each(number);
    }
}

/// Returns the number of a record.
fn number_of(id: &str) -> usize {
    let number = id.rsplit('-').next().and_then(|n| n.parse().ok());
    number.expect("an id of this program")
}

fn now_us() -> u64 {
    let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    epoch.expect("after 1970").as_micros() as u64
}

/// Returns the time from publication to the first POST of each record from number
/// `from` on, in milliseconds.
fn latencies(receiver: &mut ReceiverProcess, published_us: &[u64], from: usize) -> Vec<f64> {
    let posts = receiver.posts().into_iter();
    let numbered = posts.map(|(id, times)| (number_of(&id), times[0]));
    let wanted = numbered.filter(|(number, _)| *number >= from);
    let latency = |(number, at): (usize, u64)| at.saturating_sub(published_us[number]) as f64 / 1e3;
    wanted.map(latency).collect()
}

/// Sorts times in milliseconds, and returns minimum, median, 99th percentile and
/// maximum.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |share| percentile(values, share);
    format!(
        "min {:.1}, p50 {:.1}, p99 {:.1}, max {:.1} ms ({} of them)",
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0),
        values.len()
    )
}

/// Returns a percentile of sorted values.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(place.min(last)).copied().unwrap_or(f64::NAN)
}
