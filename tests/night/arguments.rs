//! The arguments of `tests/night/run`.

use super::fault::Fault;
use std::time::Duration;

/// How to call it.
pub const HELP: &str = "\
tests/night/run [--faster N] [--before MINUTES] [--after MINUTES] [--only FAULT,..]
  --faster   all durations of deploy/prometheus are divided by this, 1 by default
  --before   minutes without a fault, 5 by default
  --after    minutes from the faults to the end, 17 by default
  --only     these faults, all by default:";

/// What was typed.
pub struct Arguments {
    /// The divisor of all durations in deploy/prometheus.
    pub faster: u64,
    /// The time without a fault.
    pub before: Duration,
    /// The time from the faults to the end.
    pub after: Duration,
    /// The faults, one for each stack.
    pub faults: Vec<Fault>,
}

impl Arguments {
    /// Reads them. Errors: the first mistake.
    pub fn parse(typed: &[String]) -> Result<Self, String> {
        let mut arguments = Self {
            faster: 1,
            before: minutes(5.0),
            after: minutes(17.0),
            faults: Fault::ALL.to_vec(),
        };
        for pair in typed.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{}: a value is missing", pair[0]));
            };
            let wrong = || format!("{name}: {value} is not valid");
            match name.as_str() {
                "--faster" => arguments.faster = value.parse().map_err(|_| wrong())?,
                "--before" => arguments.before = minutes(value.parse().map_err(|_| wrong())?),
                "--after" => arguments.after = minutes(value.parse().map_err(|_| wrong())?),
                "--only" => {
                    let named = |name| Fault::ALL.into_iter().find(|f| f.name() == name);
                    let faults: Option<_> = value.split(',').map(named).collect();
                    arguments.faults = faults.ok_or_else(wrong)?;
                }
                _ => return Err(format!("there is no argument {name}")),
            }
        }
        if arguments.faster == 0 {
            return Err("--faster: at least 1".to_owned());
        }
        Ok(arguments)
    }
}

fn minutes(count: f64) -> Duration {
    Duration::from_secs_f64(count * 60.0)
}
