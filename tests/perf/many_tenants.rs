//! 10,000 tenants, each at an address of its own, every second one dead: their
//! cost in memory, sockets, series and scrape time.

use super::support::process;
use super::{Bench, Run, Sizes, machine, now_us, number_of, pace};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TENANTS: usize = 10_000;
const RATE: usize = 2_000;
/// By then each of the 5,000 dead tenants was tried: three quarters of 1,024 at a
/// time, for 5 s each.
const ALL_TRIED_S: usize = 40;

/// The maxima of a run.
#[derive(Clone, Copy, Default)]
struct Most {
    sockets: usize,
    series: usize,
    in_flight: u64,
    scrape: Duration,
}

/// Runs the measurement and prints its results.
pub fn measure(bench: &Bench, sizes: &Sizes) {
    let seconds = sizes.seconds;
    println!(
        "many tenants: {TENANTS} tenants, half of them hang, {RATE} records/s for {seconds} s"
    );
    let delays = "10s,10s,1m,1m,10m,10m,1h,1h,6h";
    let address = |n: usize| format!("127.1.{}.{}", n / 250, 1 + n % 250);
    let mut run = bench.run_of("many-tenants", delays, 0, (TENANTS, 12), address);
    let dead: Vec<String> = (0..TENANTS).step_by(2).map(name).collect();
    run.receiver.order(&format!("hang {}", dead.join(" ")));
    let service = bench.start(&run, delays).ready();
    let total = RATE * seconds;
    let over = AtomicBool::new(false);
    let mut cpu = machine::cpu(service.pid());
    let mut published_us = Vec::with_capacity(total);
    let most = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&service, &over));
        pace(RATE, total, |number| {
            published_us.push(now_us());
            bench.publish_to("many-tenants", number, &name(tenant_of(number)));
        });
        cpu = machine::cpu(service.pid()) - cpu;
        let (healthy, waits) = healthy_waits(&mut run, &published_us);
        over.store(true, Ordering::Relaxed);
        println!(
            "  healthy records sent             {} of {healthy}",
            waits.len()
        );
        print_waits("first POST, all", waits.iter().map(|(_, ms)| *ms));
        let later = waits.iter().filter(|(later, _)| *later);
        print_waits(
            &format!("first POST, after {ALL_TRIED_S} s"),
            later.map(|(_, ms)| *ms),
        );
        watching.join().expect("the watch does not panic")
    });
    let metrics = service.metrics();
    let moved = ["diverted", "delayed"].map(|how| metrics.disposed(how));
    println!(
        "  diverted, delayed                {}, {}",
        moved[0], moved[1]
    );
    println!(
        "  CPU                              {:.0} us a record",
        cpu.as_secs_f64() * 1e6 / total as f64
    );
    let resident = machine::resident_max(service.pid());
    println!("  resident at most                 {resident:.1} MiB (limit 400 MB)");
    println!(
        "  sockets at most                  {} with {} attempts in flight at most",
        most.sockets, most.in_flight
    );
    println!(
        "  series at most                   {} (limit 1500)",
        most.series
    );
    println!(
        "  scrape at most                   {:.1} ms (limit 50 ms)",
        most.scrape.as_secs_f64() * 1e3
    );
}

/// Waits for the first POSTs of the healthy tenants' records. Returns their number, and
/// for each POST whether all tenants were tried by then, and its wait in milliseconds.
fn healthy_waits(run: &mut Run, published_us: &[u64]) -> (usize, Vec<(bool, f64)>) {
    let numbers = 0..published_us.len();
    let mut missing: HashSet<usize> = numbers.filter(|n| tenant_of(*n) % 2 == 1).collect();
    let healthy = missing.len();
    let mut waits = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while !missing.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_secs(1));
        for (id, times) in run.receiver.posts() {
            let number = number_of(&id);
            if missing.remove(&number) {
                let wait_us = times[0].saturating_sub(published_us[number]);
                waits.push((number >= RATE * ALL_TRIED_S, wait_us as f64 / 1e3));
            }
        }
    }
    (healthy, waits)
}

/// Prints how long records waited for their first POST.
fn print_waits(what: &str, waits_ms: impl Iterator<Item = f64>) {
    let mut waits: Vec<f64> = waits_ms.collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (waits.len() as f64 * share) as usize;
        waits.get(place).copied().unwrap_or(f64::NAN)
    };
    println!(
        "  {what:<32} p50 {:.1}, p99 {:.1}, p99.9 {:.1} ms",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn name(number: usize) -> String {
    format!("tenant-{number}")
}

/// Returns the tenant of a record: dead and healthy ones in turn.
fn tenant_of(number: usize) -> usize {
    number % TENANTS
}

fn watch(service: &super::Ringback, over: &AtomicBool) -> Most {
    let mut most = Most::default();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(250));
        let asked = Instant::now();
        let metrics = service.metrics();
        most.scrape = most.scrape.max(asked.elapsed());
        most.series = most.series.max(metrics.series());
        most.in_flight = most.in_flight.max(metrics.count("ringback_in_flight", &[]));
        most.sockets = most.sockets.max(process::sockets(service.pid()));
    }
    most
}
