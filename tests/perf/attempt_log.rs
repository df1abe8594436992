//! The cost of the attempt log: the same rate with it and without it, in turns.

use super::isolation::median;
use super::support::ringback;
use super::{Bench, Sizes, machine, pace, until_count};
use std::time::Duration;

const RATE: usize = 1_000;
const WARM_UP_S: usize = 3;

/// Measures runs with and without the log in turns, and prints their medians.
pub fn measure(bench: &Bench, sizes: &Sizes) {
    println!(
        "attempt log, {RATE} records/s for {} s, {} rounds in turns",
        sizes.seconds, sizes.rounds
    );
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..sizes.rounds {
        without.push(cpu_us(bench, sizes, &format!("perf-log-off-{round}"), &[]));
        let on = ["--attempt-log"];
        with.push(cpu_us(bench, sizes, &format!("perf-log-on-{round}"), &on));
    }
    let (without, with) = (median(without.into_iter()), median(with.into_iter()));
    println!("  without it                       {without:>7.1} us of CPU each");
    println!("  with it                          {with:>7.1} us of CPU each");
    println!("  with / without                   {:>7.2}", with / without);
}

/// Returns the CPU of one delivery.
fn cpu_us(bench: &Bench, sizes: &Sizes, topic: &str, more: &[&str]) -> f64 {
    let mut run = bench.run(topic, "10s", 0);
    if !more.is_empty() {
        let create = ["topics", "create", "--attempt-log", "--brokers"];
        let place = [bench.brokers.address(), "--topic", topic, "--delays", "10s"];
        let made = ringback::output(&[&create[..], &place].concat());
        assert!(made.status.success(), "topics create fails");
    }
    let service = bench.start_with(&run, "10s", more).ready();
    let total = RATE * (sizes.seconds + WARM_UP_S);
    let (mut cpu, mut warm) = (Duration::ZERO, 0);
    pace(RATE, total, |number| {
        if number == RATE * WARM_UP_S {
            (cpu, warm) = (machine::cpu(service.pid()), number);
        }
        bench.publish(&run.topic, number);
    });
    until_count(&mut run.receiver, total);
    let cpu = machine::cpu(service.pid()) - cpu;
    let dropped = service
        .metrics()
        .count("ringback_attempt_log_dropped_total", &[]);
    assert_eq!(dropped, 0, "entries were dropped");
    service.drain();
    cpu.as_secs_f64() * 1e6 / (total - warm) as f64
}
