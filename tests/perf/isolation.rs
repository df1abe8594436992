//! The cost of hanging or flooding tenants for the healthy ones. The same load runs
//! without and with them, in turn; the result is the ratio of the times.

use super::parts::{TENANTS, tenant};
use super::support::ringback::Ringback;
use super::{Bench, Sizes, machine, now_us, number_of, pace};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const RATE: usize = 500;
/// Not measured: connections open, and limits adapt.
const WARM_UP_S: usize = 3;
/// The time for the healthy tenants after the last record.
const GRACE: Duration = Duration::from_secs(30);

/// The behaviour of the tenants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    /// All tenants answer at once.
    Healthy,
    /// This many accept connections and never answer.
    Hanging(usize),
    /// One gets 90 % of all records and answers after 1 s.
    Flood,
}

const CASES: [Case; 4] = [
    Case::Healthy,
    Case::Hanging(1),
    Case::Hanging(TENANTS / 2),
    Case::Flood,
];

impl Case {
    fn name(self) -> String {
        match self {
            Self::Healthy => "all healthy".to_owned(),
            Self::Hanging(1) => "1 hangs".to_owned(),
            Self::Hanging(n) => format!("{n} hang"),
            Self::Flood => "1 floods".to_owned(),
        }
    }

    /// Returns the number of tenants whose records are not measured.
    fn faulty(self) -> usize {
        match self {
            Self::Healthy => 0,
            Self::Hanging(n) => n,
            Self::Flood => 1,
        }
    }

    fn order(self) -> Option<String> {
        let names: Vec<String> = (0..self.faulty()).map(tenant).collect();
        match self {
            Self::Healthy => None,
            Self::Hanging(_) => Some(format!("hang {}", names.join(" "))),
            Self::Flood => Some(format!("slow 1000 {}", names.join(" "))),
        }
    }

    /// Returns the index of a record's tenant.
    fn tenant_of(self, number: usize) -> usize {
        match self {
            Self::Flood if !number.is_multiple_of(10) => 0,
            Self::Flood => 1 + number / 10 % (TENANTS - 1),
            _ => number % TENANTS,
        }
    }

    fn is_healthy(self, number: usize) -> bool {
        self.tenant_of(number) >= self.faulty()
    }

    /// Returns the limit of the p99 relative to the all-healthy run, in
    /// milliseconds.
    fn p99_limit(self, healthy_ms: f64) -> f64 {
        match self {
            Self::Hanging(1) => 1.2 * healthy_ms + 5.0,
            _ => 2.0 * healthy_ms + 5.0,
        }
    }
}

/// Times from publication to the first POST, in milliseconds.
struct Times {
    p50: f64,
    p99: f64,
    p999: f64,
}

/// Runs the cases in turn and prints each, then the medians of their ratios.
pub fn measure(bench: &Bench, sizes: &Sizes) {
    let (seconds, rounds) = (sizes.seconds, sizes.rounds);
    println!("isolation: {TENANTS} tenants, {RATE} records/s for {seconds} s, {rounds} rounds");
    println!("publish to first POST of healthy tenants' records:");
    let mut rows = Vec::new();
    for round in 0..rounds {
        let times: Vec<Times> = CASES
            .iter()
            .map(|case| run(bench, seconds, round, *case))
            .collect();
        rows.push(times);
    }
    println!("medians of {rounds} rounds, compared with the all-healthy run of the same round:");
    for (at, case) in CASES.iter().enumerate().skip(1) {
        let ratio = median(rows.iter().map(|r| r[at].p99 / r[0].p99));
        let p99 = median(rows.iter().map(|r| r[at].p99));
        let p999 = median(rows.iter().map(|r| r[at].p999));
        let beyond = median(rows.iter().map(|r| r[at].p99 - case.p99_limit(r[0].p99)));
        println!(
            "  {:<12} p99 {p99:.1} ms, {ratio:.2} times, {:.1} ms {} the limit ({}); p99.9 {p999:.1} ms (limit 250)",
            case.name(),
            beyond.abs(),
            if beyond > 0.0 { "ABOVE" } else { "below" },
            if *case == Case::Hanging(1) {
                "1.2 times + 5 ms"
            } else {
                "2 times + 5 ms"
            },
        );
    }
}

fn run(bench: &Bench, seconds: usize, round: usize, case: Case) -> Times {
    let topic = format!("isolation-{round}-{}", case.name().replace(' ', "-"));
    let delays = "10s,10s,1m,1m,10m,10m,1h,1h,6h";
    let mut run = bench.run(&topic, delays, 0);
    if let Some(order) = case.order() {
        run.receiver.order(&order);
    }
    let service = bench.start(&run, delays).ready();
    let total = RATE * (seconds + WARM_UP_S);
    let mut published_us = Vec::with_capacity(total);
    let mut cpu = Duration::ZERO;
    pace(RATE, total, |number| {
        if number == RATE * WARM_UP_S {
            cpu = machine::cpu(service.pid());
        }
        published_us.push(now_us());
        bench.publish_to(&topic, number, &tenant(case.tenant_of(number)));
    });
    bench.publisher.flush();
    let cpu = machine::cpu(service.pid()) - cpu;
    let mut missing: HashSet<usize> = (0..total).filter(|n| case.is_healthy(*n)).collect();
    let healthy = missing.len();
    let mut latencies = Vec::new();
    let until = Instant::now() + GRACE;
    while !missing.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        for (id, times) in run.receiver.posts() {
            let number = number_of(&id);
            if missing.remove(&number) && number >= RATE * WARM_UP_S {
                latencies.push(times[0].saturating_sub(published_us[number]) as f64 / 1e3);
            }
        }
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    let times = Times {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    };
    let metrics = service.metrics();
    print_missing(&service, &topic, &missing);
    println!(
        "  {:<12} p50 {:>5.1}, p99 {:>6.1}, p99.9 {:>6.1}, max {:>6.1} ms; sent {} of {healthy}; moved: {} diverted, {} delayed; {:.0} us of CPU a record",
        case.name(),
        times.p50,
        times.p99,
        times.p999,
        latencies.last().copied().unwrap_or(f64::NAN),
        healthy - missing.len(),
        metrics.disposed("diverted"),
        metrics.disposed("delayed"),
        cpu.as_secs_f64() * 1e6 / (RATE * seconds) as f64,
    );
    times
}

/// Prints the log lines of the healthy tenants' records that were not sent.
fn print_missing(service: &Ringback, topic: &str, missing: &HashSet<usize>) {
    if missing.is_empty() {
        return;
    }
    println!("  NOT SENT: {missing:?}");
    let log = service.log();
    for number in missing {
        let id = format!("\"{topic}-{number}\"");
        log.lines()
            .filter(|line| line.contains(&id))
            .for_each(|line| println!("    {line}"));
    }
    println!("    {}", service.says("/statusz"));
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
