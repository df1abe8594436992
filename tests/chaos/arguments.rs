//! The arguments of the chaos program.

use std::fmt::Write as _;

/// What `--help` prints.
pub const HELP: &str = "\
usage: tests/chaos/run [--kills N] [--seed S] [--replicas R] [--brokers B] [--rate RECORDS]
                       [--faults processes|all]
  --kills N       number of kill -9 of a replica, 0 to 10000, default 30; other faults come in proportion
  --seed S        seed of every fault, 0 to 18446744073709551615, default 1
  --replicas R    replicas of ringback, 1 to 6, default 2
  --brokers B     brokers of Kafka, 1 or 3, default 1
  --rate RECORDS  records published each second, 10 to 2000, default 400; 30 % of the attempts fail
  --faults WHICH  processes: kills, stops, drains and cuts, the default; all: also a tenant that hangs, a slow
                  broker, and with three brokers one that a replica cannot reach and a delay topic that
                  refuses records while a broker is down";

/// Which faults there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Faults {
    /// Of processes and of whole connections.
    Processes,
    /// Also of tenants, single brokers and topics.
    All,
}

/// The arguments of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arguments {
    /// The total number of kill -9 of a replica.
    pub kills: u64,
    pub seed: u64,
    pub replicas: u64,
    pub brokers: u64,
    /// Records published each second.
    pub rate: u64,
    pub faults: Faults,
    /// The POSTs after a success that each sudden fault may cost at 400 records/s.
    /// They are attempts in flight, and attempts answered while a commit or a
    /// transaction was in progress.
    pub repeats: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            kills: 30,
            seed: 1,
            replicas: 2,
            brokers: 1,
            rate: 400,
            faults: Faults::Processes,
            repeats: 40,
        }
    }
}

impl Arguments {
    /// Parses the arguments, or returns all mistakes, each with the allowed
    /// values.
    pub fn parse(typed: &[String]) -> Result<Self, Vec<String>> {
        let mut arguments = Self::default();
        let mut mistakes = Vec::new();
        let mut typed = typed.iter();
        while let Some(name) = typed.next() {
            if name == "--faults" {
                arguments.faults = match typed.next().map_or("", String::as_str) {
                    "processes" => Faults::Processes,
                    "all" => Faults::All,
                    other => {
                        mistakes.push(format!("--faults {other}: allowed is processes or all"));
                        continue;
                    }
                };
                continue;
            }
            let (place, allowed): (&mut u64, &[std::ops::RangeInclusive<u64>]) = match name.as_str()
            {
                "--kills" => (&mut arguments.kills, &[0..=10_000]),
                "--seed" => (&mut arguments.seed, &[0..=u64::MAX]),
                "--replicas" => (&mut arguments.replicas, &[1..=6]),
                "--brokers" => (&mut arguments.brokers, &[1..=1, 3..=3]),
                "--rate" => (&mut arguments.rate, &[10..=2_000]),
                _ => {
                    mistakes.push(format!("{name}: not an argument of this program"));
                    continue;
                }
            };
            let value = typed.next().map_or("", String::as_str);
            match value.parse() {
                Ok(number) if allowed.iter().any(|range| range.contains(&number)) => {
                    *place = number;
                }
                _ => mistakes.push(format!("{name} {value}: allowed is {}", described(allowed))),
            }
        }
        if mistakes.is_empty() {
            Ok(arguments)
        } else {
            Err(mistakes)
        }
    }

    /// Returns the command that repeats the run.
    pub fn command(&self) -> String {
        let Self {
            kills,
            seed,
            replicas,
            brokers,
            rate,
            ..
        } = self;
        let faults = match self.faults {
            Faults::Processes => "processes",
            Faults::All => "all",
        };
        format!(
            "tests/chaos/run --kills {kills} --seed {seed} --replicas {replicas} --brokers {brokers} --rate {rate} --faults {faults}"
        )
    }
}

fn described(allowed: &[std::ops::RangeInclusive<u64>]) -> String {
    let mut text = String::new();
    for range in allowed {
        let before = if text.is_empty() { "" } else { " or " };
        let (low, high) = range.clone().into_inner();
        if low == high {
            write!(text, "{before}{low}").expect("strings take all");
        } else {
            write!(text, "{before}{low} to {high}").expect("strings take all");
        }
    }
    text
}
