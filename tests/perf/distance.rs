//! Brokers that are a network away: what a backlog and a steady rate cost behind a
//! proxy with a round trip. The proxy is there without a round trip, too.

use super::support::proxy::Proxy;
use super::{Bench, LIMIT, Sizes, latencies, now_us, pace, spread, until_count};
use std::time::{Duration, Instant};

const ROUND_TRIPS_MS: [u64; 4] = [0, 5, 10, 20];
const RATE: usize = 1_000;
const WARM_UP_S: usize = 3;

/// Measures each round trip, all rounds in turns.
pub fn measure(bench: &Bench, sizes: &Sizes) {
    for round in 0..sizes.rounds {
        for round_trip_ms in ROUND_TRIPS_MS {
            let round_trip = Duration::from_millis(round_trip_ms);
            let proxy = Proxy::start_far(&[bench.brokers.address()], round_trip);
            println!("round {round}, Kafka is {round_trip_ms} ms away");
            let topic = format!("perf-far-{round}-{round_trip_ms}");
            backlog(bench, sizes, &proxy, &format!("{topic}-backlog"));
            steady(bench, sizes, &proxy, &format!("{topic}-steady"));
        }
    }
}

fn backlog(bench: &Bench, sizes: &Sizes, proxy: &Proxy, topic: &str) {
    let mut run = bench.run(topic, "10s", 0);
    for number in 0..sizes.records {
        bench.publish(topic, number);
    }
    bench.publisher.flush();
    let service = Bench::start_at(&proxy.address(), &run, "10s", &[]);
    // The start and the first rounds are left out.
    let warm = sizes.records / 10;
    until_count(&mut run.receiver, warm);
    let (from, started) = (run.receiver.count(), Instant::now());
    until_count(&mut run.receiver, sizes.records);
    let rate = (sizes.records - from) as f64 / started.elapsed().as_secs_f64();
    println!("  backlog                          {rate:>7.0}/s");
    service.drain();
}

fn steady(bench: &Bench, sizes: &Sizes, proxy: &Proxy, topic: &str) {
    let mut run = bench.run(topic, "10s", 0);
    let service = Bench::start_at(&proxy.address(), &run, "10s", &[]);
    let service = service.ready();
    let total = RATE * (sizes.seconds + WARM_UP_S);
    let mut published_us = Vec::with_capacity(total);
    pace(RATE, total, |number| {
        published_us.push(now_us());
        bench.publish(topic, number);
    });
    let behind = total.saturating_sub(run.receiver.count());
    let started = Instant::now();
    until_count(&mut run.receiver, total);
    assert!(started.elapsed() < LIMIT);
    let mut all = latencies(&mut run.receiver, &published_us, RATE * WARM_UP_S);
    println!("  {RATE}/s, publish to POST          {}", spread(&mut all));
    println!("  behind at the end                {behind:>7}");
    service.drain();
}
