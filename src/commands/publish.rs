//! `ringback publish`: sample records, or records from JSON lines. Each goes to
//! the source topic under its tenantId as key, and counts only once the broker
//! has acknowledged it. The one loop runs on the main thread; librdkafka sends
//! on its own threads.

pub(super) mod records;

use super::{Exit, fault, print, refuse, say};
use crate::cli::PublishGiven;
use crate::config::mistake::Mistake;
use crate::config::settings::{self, Cluster, PropertyRule};
use crate::model::position::Topic;
use crate::model::tenant::TenantId;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use records::{BadLine, Lines, Outgoing, Samples};
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How long a first answer of a broker may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a record may wait for its acknowledgement.
const MESSAGE_TIMEOUT_MS: &str = "30000";
/// The rate is kept in steps of this length, the finest that tokio's timer has.
const STEP: Duration = Duration::from_millis(1);
const STEPS_PER_SECOND: u64 = 1_000;

/// Publishes, and prints how many were acknowledged.
#[must_use]
pub fn run(given: &PublishGiven, rule: PropertyRule) -> Exit {
    let (cluster, plan) = match (settings::read_cluster(&given.kafka, rule), plan(given)) {
        (Ok(cluster), Ok(plan)) => (cluster, plan),
        (cluster, plan) => {
            let mut mistakes = cluster.err().unwrap_or_default();
            mistakes.extend(plan.err().unwrap_or_default());
            return refuse(&mistakes);
        }
    };
    let topic = cluster.topics.name(Topic::Source);
    match publish(&cluster, &topic, plan) {
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

fn plan(given: &PublishGiven) -> Result<Plan, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut number = |name: &str, text: &str, max: u64| {
        let number = text.parse::<u64>().ok().filter(|n| (1..=max).contains(n));
        if number.is_none() {
            let text = format!("'{text}' is not a whole number from 1 to {max}");
            mistakes.push(Mistake::new(name, text));
        }
        number
    };
    let rate = given
        .rate
        .as_deref()
        .map(|r| number("--rate", r, 1_000_000));
    let count = number("--count", &given.count, 1_000_000_000);
    let tenants = tenants(&given.tenants);
    let source = if given.stdin || given.dash.is_some() {
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
            strict: given.strict,
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
    Kafka { tried: String, source: KafkaError },
    NoTopic(String),
    Input(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka { tried, .. } => f.write_str(tried),
            Self::NoTopic(name) => {
                write!(
                    f,
                    "the topic '{name}' does not exist: ringback topics create makes it"
                )
            }
            Self::Input(_) => f.write_str("cannot read standard input"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kafka { source, .. } => Some(source),
            Self::Input(source) => Some(source),
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
    first_failure: Option<String>,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "published to {}: {} acknowledged, {} failed, {} lines refused",
            self.topic, self.acknowledged, self.failed, self.refused_lines
        )?;
        match &self.first_failure {
            Some(why) => write!(f, "; the first failure: {why}"),
            None => Ok(()),
        }
    }
}

/// Counts acknowledgements; librdkafka calls it from `poll`.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

impl Tally {
    fn fail(&self, why: &KafkaError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut first = self
            .first_failure
            .lock()
            .expect("nothing panics under this lock");
        first.get_or_insert_with(|| why.to_string());
    }
}

impl ClientContext for Tally {}

impl ProducerContext for Tally {
    type DeliveryOpaque = ();
    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        match delivered {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((why, _)) => self.fail(why),
        }
    }
}

fn publish(cluster: &Cluster, topic: &str, plan: Plan) -> Result<Sum, Error> {
    let producer = connect(cluster, topic)?;
    let mut refused_lines = 0;
    match plan.source {
        Source::Samples { count, tenants } => {
            let samples = Samples::new(tenants, count).map(Ok);
            send_all(&producer, topic, plan.rate, samples)?;
        }
        Source::StandardInput => {
            let lines = Lines::new(io::stdin().lock());
            let strict = plan.strict;
            let named = lines.map_while(|line| {
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
            send_all(&producer, topic, plan.rate, named)?;
        }
    }
    producer
        .flush(Duration::from_secs(60))
        .map_err(|source| Error::Kafka {
            tried: "cannot wait for the last acknowledgements".to_owned(),
            source,
        })?;
    let tally = producer.context();
    let mut first = tally
        .first_failure
        .lock()
        .expect("nothing panics under this lock");
    Ok(Sum {
        topic: topic.to_owned(),
        acknowledged: tally.acknowledged.load(Ordering::Relaxed),
        failed: tally.failed.load(Ordering::Relaxed),
        refused_lines,
        first_failure: first.take(),
    })
}

fn connect(cluster: &Cluster, topic: &str) -> Result<BaseProducer<Tally>, Error> {
    let cannot = |source| Error::Kafka {
        tried: format!("cannot reach Kafka at {}", cluster.brokers),
        source,
    };
    let settings = super::kafka_settings(
        cluster.brokers.clone(),
        cluster.topics.clone(),
        Vec::new(),
        // The broker's limit decides, and its refusal is reported.
        records::LINE_BYTES_MAX,
        &cluster.properties,
    );
    let mut config = settings.idempotent_config();
    config.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
    let producer: BaseProducer<Tally> = config
        .create_with_context(Tally::default())
        .map_err(cannot)?;
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), CONNECT_TIMEOUT)
        .map_err(cannot)?;
    let unknown = Some(RDKafkaErrorCode::UnknownTopicOrPartition);
    if metadata
        .topics()
        .iter()
        .any(|t| t.error().map(RDKafkaErrorCode::from) == unknown)
    {
        return Err(Error::NoTopic(topic.to_owned()));
    }
    Ok(producer)
}

/// Sends at the rate, if there is one. A refused line takes no part of it.
fn send_all(
    producer: &BaseProducer<Tally>,
    topic: &str,
    rate: Option<u64>,
    records: impl Iterator<Item = Result<Outgoing, BadLine>>,
) -> Result<(), Error> {
    let Some(rate) = rate else {
        return records
            .into_iter()
            .try_for_each(|record| send(producer, topic, record));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(Error::Input)?;
    runtime.block_on(async {
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut step, mut sent) = (0_u64, 0_u64);
        for record in records {
            while sent >= due(rate, step) {
                steps.tick().await;
                step += 1;
                producer.poll(Duration::ZERO);
            }
            sent += u64::from(record.is_ok());
            send(producer, topic, record)?;
        }
        Ok(())
    })
}

/// How many records may be out after so many steps.
fn due(rate: u64, steps: u64) -> u64 {
    rate.saturating_mul(steps).div_ceil(STEPS_PER_SECOND)
}

fn send(
    producer: &BaseProducer<Tally>,
    topic: &str,
    record: Result<Outgoing, BadLine>,
) -> Result<(), Error> {
    let outgoing = match record {
        Ok(outgoing) => outgoing,
        Err(BadLine::Refused { .. }) => return Ok(()),
        Err(BadLine::Input(error)) => return Err(Error::Input(error)),
    };
    let mut record = BaseRecord::to(topic)
        .key(outgoing.key.as_str())
        .payload(&outgoing.value);
    loop {
        match producer.send(record) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(100));
                record = back;
            }
            Err((why, _)) => {
                producer.context().fail(&why);
                break;
            }
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
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
