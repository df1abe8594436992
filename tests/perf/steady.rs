//! One run at a steady rate: of ringback, of a plain consumer, or of reqwest alone.

use super::parts::{Alone, ConsumerProcess, ReceiverProcess, TENANTS, reqwest_alone};
use super::profile::Sampler;
use super::{Bench, LIMIT, latencies, machine, now_us, pace, percentile, spread, until_count};
use std::path::Path;
use std::time::{Duration, Instant};

/// Not measured: connections open, and limits adapt.
const WARM_UP_S: usize = 3;

/// The load of a run.
pub struct Load<'a> {
    pub topic: String,
    pub rate: usize,
    pub seconds: usize,
    pub partitions: usize,
    /// Further options of the service.
    pub options: &'a [&'a str],
}

/// The results of ringback.
pub struct Steady {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub spread: String,
    /// CPU time of the service for each record, in microseconds.
    pub cpu_us: f64,
    /// CPU time of all brokers for each record, publishing included.
    pub brokers_us: f64,
    pub resident_mib: f64,
    /// Records without a POST when the last one was published.
    pub behind: usize,
}

/// The results of a plain consumer: CPU times for each record, in microseconds.
pub struct Plain {
    pub cpu_us: f64,
    pub brokers_us: f64,
}

/// CPU times of a process and of the brokers.
struct Used {
    pid: u32,
    at: (Duration, Duration),
}

impl Used {
    fn from(bench: &Bench, pid: u32) -> Self {
        let at = (machine::cpu(pid), bench.brokers.cpu());
        Self { pid, at }
    }

    /// Returns the times since then for each of `records`, in microseconds.
    fn each(&self, bench: &Bench, records: usize) -> (f64, f64) {
        let us = |time: Duration| time.as_secs_f64() * 1e6 / records as f64;
        let now = (machine::cpu(self.pid), bench.brokers.cpu());
        (us(now.0 - self.at.0), us(now.1 - self.at.1))
    }
}

impl<'a> Load<'a> {
    /// A load of 12 partitions, and a service with its defaults.
    pub fn new(topic: &str, rate: usize, seconds: usize) -> Self {
        Self {
            topic: topic.to_owned(),
            rate,
            seconds,
            partitions: 12,
            options: &[],
        }
    }

    fn warm(&self) -> usize {
        self.rate * WARM_UP_S
    }

    fn total(&self) -> usize {
        self.rate * (self.seconds + WARM_UP_S)
    }

    /// Runs ringback.
    pub fn run(&self, bench: &Bench) -> Steady {
        self.run_sampled(bench, None)
    }

    /// The same, and leaves a profile in this file.
    pub fn run_sampled(&self, bench: &Bench, profile: Option<&Path>) -> Steady {
        let address = |_| "127.0.0.1".to_owned();
        let shape = (TENANTS, self.partitions);
        let mut run = bench.run_of(&self.topic, "10s", 0, shape, address);
        let service = bench.start_with(&run, "10s", self.options).ready();
        let mut published_us = Vec::with_capacity(self.total());
        let mut used = Used::from(bench, service.pid());
        let mut sampler = None;
        pace(self.rate, self.total(), |number| {
            if number == self.warm() {
                sampler = profile.map(|to| Sampler::start(service.pid(), to));
                used = Used::from(bench, service.pid());
            }
            published_us.push(now_us());
            bench.publish(&self.topic, number);
        });
        let behind = self.total().saturating_sub(run.receiver.count());
        let started = Instant::now();
        until_count(&mut run.receiver, self.total());
        assert!(started.elapsed() < LIMIT);
        let (cpu_us, brokers_us) = used.each(bench, self.total() - self.warm());
        if let Some(sampler) = sampler {
            sampler.stop();
        }
        let mut all = latencies(&mut run.receiver, &published_us, self.warm());
        let spread = spread(&mut all);
        let resident_mib = machine::resident_max(service.pid());
        service.drain();
        Steady {
            p50_ms: percentile(&all, 0.5),
            p99_ms: percentile(&all, 0.99),
            spread,
            cpu_us,
            brokers_us,
            resident_mib,
            behind,
        }
    }

    /// Runs a plain consumer under the same load.
    pub fn plain_consumer(&self, bench: &Bench) -> Plain {
        let run = bench.run_of(&self.topic, "10s", 0, (1, self.partitions), |_| {
            "127.0.0.1".to_owned()
        });
        bench.publish(&run.topic, 0);
        let consumer = ConsumerProcess::start(bench.brokers.address(), &self.topic);
        let mut used = Used::from(bench, consumer.pid());
        pace(self.rate, self.total(), |number| {
            if number == self.warm() {
                used = Used::from(bench, consumer.pid());
            }
            bench.publish(&self.topic, number);
        });
        bench.publisher.flush();
        let (cpu_us, brokers_us) = used.each(bench, self.total() - self.warm());
        Plain { cpu_us, brokers_us }
    }

    /// Runs reqwest alone at the same rate.
    pub fn reqwest_alone(&self) -> Alone {
        let receiver = ReceiverProcess::start(0);
        let (_, _, all) = machine::cores();
        reqwest_alone(&all, receiver.port, self.rate * self.seconds, 1, self.rate)
    }
}
