//! The cost of partitions: the same rate, and none, with few and with many.

use super::isolation::median;
use super::parts::TENANTS;
use super::steady::{Load, Steady};
use super::{Bench, Sizes, machine};
use std::time::Duration;

const RATE: usize = 200;
/// Partitions of each of the three topics: 36 and 1,200 in total.
const PARTITIONS: [usize; 2] = [12, 400];
const IDLE: Duration = Duration::from_secs(20);

/// Measures in turns, and prints the medians.
pub fn measure(bench: &Bench, sizes: &Sizes) {
    let mut rounds: Vec<[(Steady, f64); 2]> = Vec::new();
    for round in 0..sizes.rounds {
        rounds.push(PARTITIONS.map(|partitions| {
            let mut load = Load::new(
                &format!("partitions-{partitions}-{round}"),
                RATE,
                sizes.seconds,
            );
            load.partitions = partitions;
            (load.run(bench), idle(bench, &load.topic))
        }));
    }
    for (at, partitions) in PARTITIONS.iter().enumerate() {
        let of = |value: fn(&(Steady, f64)) -> f64| median(rounds.iter().map(|r| value(&r[at])));
        println!(
            "{:>5} partitions at {RATE}/s: p50 {:.1}, p99 {:.1} ms, {:.0} us of CPU each; idle: {:.1} ms of CPU a second",
            3 * partitions,
            of(|(steady, _)| steady.p50_ms),
            of(|(steady, _)| steady.p99_ms),
            of(|(steady, _)| steady.cpu_us),
            of(|(_, idle)| *idle),
        );
    }
    let ratio = median(
        rounds
            .iter()
            .map(|[few, many]| many.0.cpu_us / few.0.cpu_us),
    );
    println!("  CPU, many / few                  {ratio:>7.2}");
}

/// Returns the CPU time of a service that has nothing to do, in milliseconds for each
/// second.
fn idle(bench: &Bench, topic: &str) -> f64 {
    let run = Bench::run_again(topic, 0, TENANTS, |_| "127.0.0.1".to_owned());
    let service = bench.start(&run, "10s").ready();
    std::thread::sleep(Duration::from_secs(5));
    let before = machine::cpu(service.pid());
    std::thread::sleep(IDLE);
    let used = machine::cpu(service.pid()) - before;
    service.drain();
    used.as_secs_f64() * 1e3 / IDLE.as_secs_f64()
}
