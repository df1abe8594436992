//! `ringback publish`: publishes sample records, or records from JSON lines, to
//! the source topic. The key is the tenantId. Counts a record when the broker has
//! acknowledged it. Never changes a record. The loop runs on the main thread;
//! librdkafka sends on its own threads.

pub mod records;

use super::{Exit, fault, print, property_mistakes, refuse, say};
use crate::cli::PublishArgs;
use crate::config::mistake::{Mistake, Mistakes, both};
use crate::config::settings::{self, Cluster, Schedule};
use crate::config::values;
use crate::kafka::admin::topics::{self, NewTopicSizes, OptionalTopics, Presence};
use crate::kafka::publish::{PublishError, Publisher};
use crate::kafka::settings::KafkaSettings;
use crate::model::position::Topic;
use crate::model::tenant::TenantId;
use crate::service::kafka_settings;
use records::{BadLine, Lines, Outgoing, Samples};
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The deadline of the last acknowledgements. A record waits at most 30 s.
const FINISH_LIMIT: Duration = Duration::from_secs(60);
/// The rate is kept in steps of this length, the resolution of tokio's timer.
const STEP: Duration = Duration::from_millis(1);
const STEPS_PER_SECOND: u64 = 1_000;

/// Publishes, and prints the number of acknowledged records.
#[must_use]
pub fn run(args: &PublishArgs) -> Exit {
    let cluster = settings::read_cluster(&args.settings, property_mistakes);
    let (cluster, plan) = match both(cluster, plan(args)) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
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
        Err(error) => fault(error.as_ref()),
    }
}

/// The records to publish, and the rate.
struct Plan {
    source: Source,
    /// Records per second.
    rate: Option<u64>,
    refused_lines: RefusedLines,
}

/// The effect of a line that is no record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RefusedLines {
    Skip,
    Stop,
}

enum Source {
    Samples { count: u64, tenants: Vec<TenantId> },
    StandardInput,
}

fn plan(args: &PublishArgs) -> Result<Plan, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let mut number = |name: &str, text: &str, max: u64| {
        let number = values::number(text, 1..=max);
        mistakes.take(name, number)
    };
    let rate = args.rate.as_deref().map(|r| number("--rate", r, 1_000_000));
    let count = number("--count", &args.count, 1_000_000_000);
    let tenants = mistakes.take("--tenants", tenants(&args.tenants));
    let refused_lines = match args.strict {
        true => RefusedLines::Stop,
        false => RefusedLines::Skip,
    };
    mistakes.unless_any(|| {
        Some(Plan {
            source: if args.stdin || args.dash.is_some() {
                Source::StandardInput
            } else {
                let (count, tenants) = (count?, tenants?);
                Source::Samples { count, tenants }
            },
            rate: rate.flatten(),
            refused_lines,
        })
    })
}

/// Reads the tenants. `3` is tenant-1 to tenant-3. A number of more than 5 digits
/// is a tenantId, as the platform's are.
fn tenants(text: &str) -> Result<Vec<TenantId>, String> {
    let is_count = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let names: Vec<String> = match text.parse::<u32>() {
        Ok(count) if is_count => (1..=count).map(|n| format!("tenant-{n}")).collect(),
        _ => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    if names.is_empty() {
        return Err(format!(
            "'{text}' is no tenant: write tenantIds, comma separated, or a count of 1 to 99999"
        ));
    }
    let read = names.iter().map(|name| TenantId::new(name));
    read.collect::<Result<_, _>>()
        .map_err(|why| format!("'{text}' is not allowed: {why}"))
}

/// The counts at the end.
#[derive(PartialEq, Eq, Debug)]
struct PublishSum {
    topic: String,
    acknowledged: u64,
    failed: u64,
    refused_lines: u64,
    failure: Option<String>,
}

impl fmt::Display for PublishSum {
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

fn publish(cluster: &Cluster, plan: Plan) -> Result<PublishSum, Box<dyn Error>> {
    let schedule = Schedule {
        attempts: 1,
        delays: Vec::new(),
        // The broker's limit decides, and its refusal is reported.
        record_bytes_max: records::LINE_BYTES_MAX,
    };
    let settings = kafka_settings(cluster, &schedule);
    let topic = settings.topics.name(Topic::Source);
    check_topic(&settings, &topic)?;
    let mut sending = Sending {
        publisher: Publisher::new(&settings)?,
        sent: 0,
        refused: 0,
        failure: None,
    };
    let mut refused_lines = 0;
    match plan.source {
        Source::Samples { count, tenants } => {
            let samples = Samples::new(tenants, count).map(Ok);
            sending.all(plan.rate, samples)?;
        }
        Source::StandardInput => {
            let lines = Lines::new(io::stdin().lock()).map_while(|line| {
                if let Err(BadLine::Refused { number, why }) = &line {
                    refused_lines += 1;
                    say(
                        &mut io::stderr(),
                        &format!("ringback: line {number}: {why}\n"),
                    );
                    if plan.refused_lines == RefusedLines::Stop {
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

/// Checks that the source topic exists. The producer would report a missing topic
/// only after its message timeout. A user who may publish need not be allowed to
/// read topic settings.
fn check_topic(settings: &KafkaSettings, topic: &str) -> Result<(), Box<dyn Error>> {
    match topics::plan(
        settings,
        NewTopicSizes::default(),
        OptionalTopics::default(),
    ) {
        Err(error) if error.is_denied() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(plan) => {
            let mut missing = plan.iter().filter(|t| t.presence == Presence::Missing);
            if missing.any(|t| t.name == topic) {
                return Err(format!(
                    "the topic '{topic}' does not exist, or this user may not DESCRIBE it: run \
                     `ringback topics create`"
                )
                .into());
            }
            Ok(())
        }
    }
}

/// A publisher with the counts so far.
struct Sending {
    publisher: Publisher,
    sent: u64,
    refused: u64,
    failure: Option<String>,
}

impl Sending {
    /// Sends at the rate, if there is one. A refused line does not count.
    fn all(
        &mut self,
        rate: Option<u64>,
        mut records: impl Iterator<Item = Result<Outgoing, BadLine>>,
    ) -> Result<(), Box<dyn Error>> {
        let Some(rate) = rate else {
            return records.try_for_each(|record| self.one(record));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| format!("cannot create a timer for --rate: {error}"))?;
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

    fn one(&mut self, record: Result<Outgoing, BadLine>) -> Result<(), Box<dyn Error>> {
        let outgoing = match record {
            Ok(outgoing) => outgoing,
            Err(BadLine::Refused { .. }) => return Ok(()),
            Err(BadLine::Input(error)) => {
                return Err(format!("cannot read standard input: {error}").into());
            }
        };
        let key = outgoing.key.as_bytes();
        match self.publisher.send(Some(key), Some(&outgoing.value), &[]) {
            Ok(()) => self.sent += 1,
            Err(error) => {
                self.refused += 1;
                self.failure.get_or_insert_with(|| error.to_string());
            }
        }
        Ok(())
    }

    fn finish(self, topic: String, refused_lines: u64) -> PublishSum {
        let mut failure = self.failure;
        let (acknowledged, lost) = match self.publisher.finish(FINISH_LIMIT) {
            Ok(acknowledged) => (acknowledged, 0),
            Err(error) => {
                let lost = match &error {
                    PublishError::Unacknowledged { records, .. } => *records,
                    PublishError::Client(_) | PublishError::Record { .. } => self.sent,
                };
                failure.get_or_insert_with(|| error.to_string());
                (self.sent.saturating_sub(lost), lost)
            }
        };
        PublishSum {
            topic,
            acknowledged,
            failed: self.refused + lost,
            refused_lines,
            failure,
        }
    }
}

/// Returns how many records may be sent after this many steps.
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
