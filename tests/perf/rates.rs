//! CPU for each record at steady rates: ringback beside reqwest alone and a plain
//! consumer alone, and the brokers beside each.

use super::isolation::median;
use super::parts::Alone;
use super::steady::{Load, Plain, Steady};
use super::{Bench, Sizes};

const RATES: [usize; 2] = [1_000, 5_000];

/// Measures in turns, and prints the medians.
pub fn measure(bench: &Bench, sizes: &Sizes) {
    for rate in RATES {
        let mut rounds: Vec<(Steady, Plain, Alone)> = Vec::new();
        for round in 0..sizes.rounds {
            let load =
                |name| Load::new(&format!("rates-{name}-{rate}-{round}"), rate, sizes.seconds);
            let steady = load("service").run(bench);
            let plain = load("plain").plain_consumer(bench);
            rounds.push((steady, plain, load("reqwest").reqwest_alone()));
        }
        let of = |value: fn(&(Steady, Plain, Alone)) -> f64| median(rounds.iter().map(value));
        println!(
            "{rate} records/s for {} s, {} rounds",
            sizes.seconds,
            rounds.len()
        );
        let row = |name: &str, us: f64| println!("  {name:<32} {us:>7.1} us of CPU each");
        row("ringback", of(|(service, ..)| service.cpu_us));
        row("reqwest alone", of(|(.., reqwest)| reqwest.cpu_us));
        row("a plain consumer alone", of(|(_, plain, _)| plain.cpu_us));
        row(
            "brokers beside ringback",
            of(|(service, ..)| service.brokers_us),
        );
        row(
            "brokers beside a plain consumer",
            of(|(_, plain, _)| plain.brokers_us),
        );
        println!(
            "  ringback / both alone            {:>7.2}",
            of(|(service, plain, reqwest)| service.cpu_us / (plain.cpu_us + reqwest.cpu_us))
        );
        println!(
            "  brokers / brokers                {:>7.2}",
            of(|(service, plain, _)| service.brokers_us / plain.brokers_us)
        );
        println!(
            "  publish to POST                  p50 {:.1}, p99 {:.1} ms",
            of(|(service, ..)| service.p50_ms),
            of(|(service, ..)| service.p99_ms)
        );
    }
}
