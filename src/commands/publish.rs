//! `ringback publish`: sample records, or records from JSON lines. Each goes to
//! the source topic under its tenantId as key, and counts only once the broker
//! has acknowledged it. The one loop runs on the main thread; librdkafka sends
//! on its own threads.

pub mod records;

use super::{Exit, fault, print, property_mistakes, refuse, say};
use crate::cli::PublishArgs;
use crate::config::mistake::Mistake;
use crate::config::settings::{self, Cluster, Schedule};
use crate::kafka::admin;
use crate::kafka::publish::{Error as KafkaError, Publisher};
use crate::kafka::settings::KafkaSettings;
use crate::kafka::topics::{self, Presence, Wish};
use crate::model::position::Topic;
use crate::model::tenant::TenantId;
use records::{BadLine, Lines, Outgoing, Samples};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How long the last acknowledgements may take: a record waits 30 s at most.
const FINISH_LIMIT: Duration = Duration::from_secs(60);
/// The rate is kept in steps of this length, the finest that tokio's timer has.
const STEP: Duration = Duration::from_millis(1);
const STEPS_PER_SECOND: u64 = 1_000;

/// Publishes, and prints how many were acknowledged.
#[must_use]
pub fn run(args: &PublishArgs) -> Exit {
    let (cluster, plan) = match (
        settings::read_cluster(&args.settings, property_mistakes),
        plan(args),
    ) {
        (Ok(cluster), Ok(plan)) => (cluster, plan),
        (cluster, plan) => {
            let mut mistakes = cluster.err().unwrap_or_default();
            mistakes.extend(plan.err().unwrap_or_default());
            return refuse(&mistakes);
        }
    };
    match publish(&cluster, plan) {
        Ok(sum) => {
            print(&sum);
            if sum.failed + sum.refused_lines == 0 {
                Exit::Done
            } else {
                Exit::Fault
            }
        }
        Err(error) => fault(&error),
    }
}

/// What to publish, and how fast.
struct Plan {
    source: Source,
    rate: Option<u64>,
    strict: bool,
}

enum Source {
    Samples { count: u64, tenants: Vec<TenantId> },
    StandardInput,
}

fn plan(args: &PublishArgs) -> Result<Plan, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut number = |name: &str, text: &str, max: u64| {
        let number = text.parse::<u64>().ok().filter(|n| (1..=max).contains(n));
        if number.is_none() {
            let text = format!("'{text}' is not a whole number from 1 to {max}");
            mistakes.push(Mistake::new(name, text));
        }
        number
    };
    let rate = args.rate.as_deref().map(|r| number("--rate", r, 1_000_000));
    let count = number("--count", &args.count, 1_000_000_000);
    let tenants = tenants(&args.tenants);
    let source = if args.stdin || args.dash.is_some() {
        Some(Source::StandardInput)
    } else {
        match (count, &tenants) {
            (Some(count), Ok(tenants)) => Some(Source::Samples {
                count,
                tenants: tenants.clone(),
            }),
            _ => None,
        }
    };
    mistakes.extend(tenants.err().map(|text| Mistake::new("--tenants", text)));
    match source {
        Some(source) if mistakes.is_empty() => Ok(Plan {
            source,
            rate: rate.flatten(),
            strict: args.strict,
        }),
        _ => Err(mistakes),
    }
}

/// `3` is tenant-1 to tenant-3; a longer number is a tenantId, as the platform's are.
fn tenants(text: &str) -> Result<Vec<TenantId>, String> {
    let is_count = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let names: Vec<String> = match text.parse::<u32>() {
        Ok(count) if is_count => (1..=count).map(|n| format!("tenant-{n}")).collect(),
        _ => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    if names.is_empty() {
        return Err(format!(
            "'{text}' is no tenant: tenantIds with commas, or 1 to 99999"
        ));
    }
    let read = names.iter().map(|name| TenantId::new(name));
    read.collect::<Result<_, _>>()
        .map_err(|why| format!("'{text}' is not allowed: {why}"))
}

/// Why publishing could not begin or had to stop.
#[derive(Debug)]
enum Error {
    Admin(admin::Error),
    Producer(KafkaError),
    NoTopic(String),
    Input(io::Error),
    Timer(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(error) => error.fmt(f),
            Self::Producer(error) => error.fmt(f),
            Self::NoTopic(name) => {
                write!(
                    f,
                    "the topic '{name}' does not exist: ringback topics create makes it"
                )
            }
            Self::Input(_) => f.write_str("cannot read standard input"),
            Self::Timer(_) => f.write_str("cannot make a timer for --rate"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Admin(error) => error.source(),
            Self::Producer(error) => error.source(),
            Self::Input(error) | Self::Timer(error) => Some(error),
            Self::NoTopic(_) => None,
        }
    }
}

/// How it went.
#[derive(PartialEq, Eq, Debug)]
struct Sum {
    topic: String,
    acknowledged: u64,
    failed: u64,
    refused_lines: u64,
    failure: Option<String>,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "published to {}: {} acknowledged, {} failed, {} lines refused",
            self.topic, self.acknowledged, self.failed, self.refused_lines
        )?;
        match &self.failure {
            Some(why) => write!(f, "; {why}"),
            None => Ok(()),
        }
    }
}

fn publish(cluster: &Cluster, plan: Plan) -> Result<Sum, Error> {
    let schedule = Schedule {
        attempts: 1,
        delays: Vec::new(),
        // The broker's limit decides, and its refusal is reported.
        record_bytes_max: records::LINE_BYTES_MAX,
    };
    let settings = super::kafka_settings(cluster, &schedule);
    let topic = settings.topics.name(Topic::Source);
    topic_exists(&settings, &topic)?;
    let mut sending = Sending {
        publisher: Publisher::new(&settings).map_err(Error::Producer)?,
        handed_over: 0,
        not_taken: 0,
        failure: None,
    };
    let mut refused_lines = 0;
    match plan.source {
        Source::Samples { count, tenants } => {
            let samples = Samples::new(tenants, count).map(Ok);
            sending.all(plan.rate, samples)?;
        }
        Source::StandardInput => {
            let strict = plan.strict;
            let lines = Lines::new(io::stdin().lock()).map_while(|line| {
                if let Err(BadLine::Refused { number, why }) = &line {
                    refused_lines += 1;
                    say(
                        &mut io::stderr(),
                        &format!("ringback: line {number}: {why}\n"),
                    );
                    if strict {
                        return None;
                    }
                }
                Some(line)
            });
            sending.all(plan.rate, lines)?;
        }
    }
    Ok(sending.finish(topic, refused_lines))
}

/// Says at once what the producer would only say after its message timeout.
/// Who may publish need not be allowed to read the topics' settings.
fn topic_exists(settings: &KafkaSettings, topic: &str) -> Result<(), Error> {
    match topics::plan(settings, Wish::default()) {
        Err(error) if error.is_denied() => Ok(()),
        Err(error) => Err(Error::Admin(error)),
        Ok(plan) => {
            let mut missing = plan.iter().filter(|t| t.presence == Presence::Missing);
            if missing.any(|t| t.topic == Topic::Source) {
                return Err(Error::NoTopic(topic.to_owned()));
            }
            Ok(())
        }
    }
}

/// A publisher and what has become of the records so far.
struct Sending {
    publisher: Publisher,
    handed_over: u64,
    not_taken: u64,
    failure: Option<String>,
}

impl Sending {
    /// Sends at the rate, if there is one. A refused line takes no part of it.
    fn all(
        &mut self,
        rate: Option<u64>,
        mut records: impl Iterator<Item = Result<Outgoing, BadLine>>,
    ) -> Result<(), Error> {
        let Some(rate) = rate else {
            return records.try_for_each(|record| self.one(record));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(Error::Timer)?;
        runtime.block_on(async {
            let mut steps = interval(STEP);
            steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut step, mut sent) = (0_u64, 0_u64);
            for record in records {
                while sent >= due(rate, step) {
                    steps.tick().await;
                    step += 1;
                    self.publisher.serve(Duration::ZERO);
                }
                sent += u64::from(record.is_ok());
                self.one(record)?;
            }
            Ok(())
        })
    }

    fn one(&mut self, record: Result<Outgoing, BadLine>) -> Result<(), Error> {
        let outgoing = match record {
            Ok(outgoing) => outgoing,
            Err(BadLine::Refused { .. }) => return Ok(()),
            Err(BadLine::Input(error)) => return Err(Error::Input(error)),
        };
        let key = outgoing.key.as_bytes();
        match self.publisher.send(Some(key), Some(&outgoing.value), &[]) {
            Ok(()) => self.handed_over += 1,
            Err(error) => {
                self.not_taken += 1;
                self.failure.get_or_insert_with(|| error.to_string());
            }
        }
        Ok(())
    }

    fn finish(self, topic: String, refused_lines: u64) -> Sum {
        let mut failure = self.failure;
        let (acknowledged, lost) = match self.publisher.finish(FINISH_LIMIT) {
            Ok(acknowledged) => (acknowledged, 0),
            Err(error) => {
                let lost = match &error {
                    KafkaError::Unacknowledged { records, .. } => *records,
                    KafkaError::Client(_) | KafkaError::Record { .. } => self.handed_over,
                };
                failure.get_or_insert_with(|| error.to_string());
                (self.handed_over.saturating_sub(lost), lost)
            }
        };
        Sum {
            topic,
            acknowledged,
            failed: self.not_taken + lost,
            refused_lines,
            failure,
        }
    }
}

/// How many records may be out after so many steps.
fn due(rate: u64, steps: u64) -> u64 {
    rate.saturating_mul(steps).div_ceil(STEPS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_a_list_or_a_count() {
        let names =
            |text| tenants(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            names("2"),
            Ok(vec!["tenant-1".to_owned(), "tenant-2".to_owned()])
        );
        assert_eq!(names("a, b"), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names("874621"), Ok(vec!["874621".to_owned()]));
        for bad in ["", "a,", "0", "\u{7}"] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rate_is_kept_over_every_second() {
        for rate in [1, 7, 1_000, 1_234, 1_000_000] {
            assert_eq!(due(rate, 1_000), rate);
            assert_eq!(due(rate, 60_000), 60 * rate);
            assert!((1..=rate.div_ceil(1_000)).contains(&due(rate, 1)));
        }
    }
}
