//! What a commit interval costs: latency, CPU of the service and of the brokers, with
//! one broker and with three.

use super::brokers::Brokers;
use super::isolation::median;
use super::steady::{Load, Steady};
use super::{Bench, Sizes};

const RATES: [usize; 2] = [1_000, 5_000];
/// Three brokers on two cores cannot take more: a record costs them some 1.7 ms.
const RATES_OF_THREE: [usize; 2] = [200, 1_000];
const INTERVALS_MS: [usize; 5] = [2, 4, 5, 10, 20];

/// Measures all intervals in turns, and prints their medians.
pub fn measure(bench: Bench, sizes: &Sizes) {
    println!("one broker");
    table(&bench, sizes, RATES);
    drop(bench);
    println!("three brokers, three copies of each topic");
    table(&Bench::new(Brokers::three()), sizes, RATES_OF_THREE);
}

fn table(bench: &Bench, sizes: &Sizes, rates: [usize; 2]) {
    println!("  rate interval     p50     p99   service   brokers   behind");
    for rate in rates {
        let mut rounds = Vec::new();
        for round in 0..sizes.rounds {
            let run = |ms| run(bench, sizes, (rate, ms, round));
            rounds.push(INTERVALS_MS.map(run));
        }
        for (at, ms) in INTERVALS_MS.iter().enumerate() {
            let of = |value: fn(&Steady) -> f64| median(rounds.iter().map(|r| value(&r[at])));
            println!(
                "  {rate:>4} {ms:>5} ms {:>7.1} {:>7.1} ms {:>6.0} us {:>6.0} us {:>8.0}",
                of(|s| s.p50_ms),
                of(|s| s.p99_ms),
                of(|s| s.cpu_us),
                of(|s| s.brokers_us),
                of(|s| s.behind as f64),
            );
        }
    }
}

fn run(bench: &Bench, sizes: &Sizes, (rate, ms, round): (usize, usize, usize)) -> Steady {
    let topic = format!("interval-{}-{rate}-{ms}-{round}", bench.brokers.copies());
    let mut load = Load::new(&topic, rate, sizes.seconds);
    let interval = format!("{ms}ms");
    let options = ["--commit-interval", &interval];
    load.options = &options;
    load.run(bench)
}
