//! Reading topics from a start to a fixed end, as the commands that read do.

use crate::support::broker::Broker;
use crate::support::publisher::Publisher;
use crate::support::wait::PATIENCE;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use ringback::kafka::scan::{PartitionRange, Query, Scan, ScanError, Start, Step};
use ringback::kafka::settings::{ClusterKind, KafkaSettings};
use ringback::model::position::{NextOffset, TopicNames};
use ringback::model::time::UnixMillis;
use std::collections::BTreeSet;
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(100);

fn settings(broker: &Broker, topic: &str) -> KafkaSettings {
    KafkaSettings {
        brokers: broker.address().to_owned(),
        group: topic.to_owned(),
        instance: String::new(),
        topics: TopicNames::new(topic),
        delays: Vec::new(),
        record_bytes_max: 0,
        properties: Vec::new(),
        kind: ClusterKind::Brokers,
    }
}

/// Makes a topic of two partitions.
fn topic(name: &'static str) -> (&'static Broker, KafkaSettings) {
    let broker = Broker::shared();
    broker.create_topic(name, 2, &[]);
    (broker, settings(broker, name))
}

fn publish(broker: &Broker, topic: &str, values: impl Iterator<Item = u32>) {
    let publisher = Publisher::new(broker);
    for value in values {
        let (partition, value) = (Some((value % 2) as i32), value.to_string());
        publisher.send_to(topic, partition, None, Some(value.as_bytes()), &[]);
    }
    publisher.flush();
}

/// Takes part in a transaction: writes these values, and leaves it open.
fn open_transaction(broker: &Broker, topic: &str, values: &[u32]) -> BaseProducer {
    let mut config: ClientConfig = broker.client();
    config.set("transactional.id", format!("{topic}-open"));
    let producer: BaseProducer = config.create().expect("valid settings");
    producer.init_transactions(PATIENCE).expect("it starts");
    producer.begin_transaction().expect("it begins");
    for value in values {
        let value = value.to_string();
        let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(0).payload(&value);
        producer.send(record).expect("the queue takes it");
    }
    producer.flush(PATIENCE).expect("the broker takes them");
    producer
}

fn ranges(settings: &KafkaSettings, start: Start) -> Vec<PartitionRange> {
    let query = Query::connect(settings).expect("valid settings");
    let topic = settings
        .topics
        .name(ringback::model::position::Topic::Source);
    query.ranges(&[topic], start).expect("the broker answers")
}

/// Returns the next value, or `None` at the end.
fn next(scan: &mut Scan) -> Option<u32> {
    loop {
        match scan.next(WAIT).expect("it goes on") {
            Step::Record(record) => {
                let value = std::str::from_utf8(record.value().expect("a value")).expect("text");
                return Some(value.parse().expect("a number"));
            }
            Step::Waiting => {}
            Step::Done => return None,
        }
    }
}

fn all(scan: &mut Scan) -> Vec<u32> {
    let mut all: Vec<u32> = std::iter::from_fn(|| next(scan)).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_scan_reads_each_record_up_to_an_end_that_is_fixed_before() {
    let (broker, settings) = topic("it-scan-end");
    publish(broker, "it-scan-end", 0..1_000);
    let ranges = ranges(&settings, Start::Beginning);
    publish(broker, "it-scan-end", 1_000..2_000);
    let mut scan = Scan::start(&settings, ranges).expect("it starts");
    assert_eq!(all(&mut scan), (0..1_000).collect::<Vec<_>>());
    let progress = scan.progress();
    assert_eq!((progress.records, progress.offsets), (1_000, 1_000));
    assert_eq!((progress.offsets_total, progress.bytes), (1_000, 2_890));
    assert!(
        scan.partitions()
            .iter()
            .all(|p| p.deleted == 0 && !p.is_cut)
    );
}

#[test]
fn a_scan_from_a_time_leaves_out_what_is_older_and_may_be_empty() {
    let (broker, settings) = topic("it-scan-time");
    publish(broker, "it-scan-time", 0..10);
    std::thread::sleep(Duration::from_millis(20));
    let clock = ringback::clock::Clock::start();
    let between = clock.now();
    publish(broker, "it-scan-time", 10..20);
    let read = |at| {
        let ranges = ranges(&settings, Start::Time(at));
        all(&mut Scan::start(&settings, ranges).expect("it starts"))
    };
    assert_eq!(read(between), (10..20).collect::<Vec<_>>());
    assert_eq!(read(UnixMillis(0)), (0..20).collect::<Vec<_>>());
    assert!(read(clock.now().plus(Duration::from_secs(60))).is_empty());
}

#[test]
fn an_open_transaction_is_waited_for_and_an_aborted_one_is_not_read() {
    let (broker, settings) = topic("it-scan-open");
    publish(broker, "it-scan-open", [2, 4].into_iter());
    let aborted = open_transaction(broker, "it-scan-open", &[100, 102]);
    aborted.abort_transaction(PATIENCE).expect("it aborts");
    drop(aborted);
    let open = open_transaction(broker, "it-scan-open", &[6, 8]);
    let ranges = ranges(&settings, Start::Beginning);
    let mut scan = Scan::start(&settings, ranges).expect("it starts");
    let mut found: BTreeSet<u32> = (0..2).filter_map(|_| next(&mut scan)).collect();
    let waits = matches!(scan.next(WAIT), Ok(Step::Waiting));
    assert!(waits, "the end lies behind the open transaction");
    open.commit_transaction(PATIENCE).expect("it commits");
    found.extend(all(&mut scan));
    assert_eq!(found, BTreeSet::from([2, 4, 6, 8]));
}

#[test]
fn what_retention_has_deleted_is_counted() {
    let (broker, settings) = topic("it-scan-deleted");
    publish(broker, "it-scan-deleted", 0..20);
    let mut ranges = ranges(&settings, Start::Beginning);
    broker.delete_records(("it-scan-deleted", 0), 4);
    broker.delete_records(("it-scan-deleted", 1), 10);
    ranges[0].start = NextOffset(1);
    let mut scan = Scan::start(&settings, ranges).expect("it starts");
    assert_eq!(all(&mut scan), [8, 10, 12, 14, 16, 18]);
    let deleted: Vec<u64> = scan.partitions().iter().map(|p| p.deleted).collect();
    assert_eq!(deleted, [3, 10]);
}

#[test]
fn a_missing_topic_is_named() {
    let settings = settings(Broker::shared(), "it-scan-missing");
    let query = Query::connect(&settings).expect("valid settings");
    let topic = "it-scan-missing".to_owned();
    let error = query.ranges(&[topic], Start::Beginning);
    let error: ScanError = error.expect_err("it does not exist");
    assert_eq!(error.missing_topic(), Some("it-scan-missing"));
    assert!(
        error
            .to_string()
            .contains("'it-scan-missing' does not exist")
    );
}
