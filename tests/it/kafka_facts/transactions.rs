//! Transactions: whose offsets they may carry, and what an answer that is lost,
//! late or fatal says about them.

use super::member::{Member, begin, committed, now_committed, offsets, producer, transactional};
use crate::support::broker::Broker;
use crate::support::dead_letters;
use crate::support::proxy::{Api, Fate, Proxy, Wanted};
use crate::support::publisher::Publisher;
use crate::support::wait::{self, PATIENCE};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};

/// What a transactional call was refused with.
fn refusal(answer: Result<(), KafkaError>) -> RDKafkaError {
    match answer.expect_err("it is refused") {
        KafkaError::Transaction(refusal) => refusal,
        other => panic!("{other}"),
    }
}

/// Whether a transaction can carry this partition's offset with this metadata.
fn move_with(
    producer: &BaseProducer,
    (topic, partition): (&str, i32),
    metadata: &ConsumerGroupMetadata,
) -> Result<(), KafkaError> {
    begin(producer, topic, "moved");
    let list = offsets(topic, &[(partition, 3, "moved")]);
    producer.send_offsets_to_transaction(&list, metadata, PATIENCE)
}

#[test]
fn offsets_of_another_members_partition_are_accepted_with_metadata_of_now_not_with_that_of_before()
{
    let (broker, topic) = (Broker::shared(), "facts-metadata");
    broker.create_topic(topic, 2, &[]);
    let first = Member::joined(broker.address(), topic, "first", &[topic], 2);
    let captured = first.captured();
    let second = Member::joined(broker.address(), topic, "second", &[topic], 1);
    first.until_assigned(1);
    let (_, moved) = second.assigned().pop_first().expect("one partition");
    let producer = producer(&transactional(broker.address(), topic));

    let refused = refusal(move_with(&producer, (topic, moved), &captured));
    assert_eq!(refused.code(), Code::IllegalGeneration);
    still_good_after(&producer, &refused);
    assert_eq!(now_committed(broker, topic, (topic, moved)), None);

    move_with(&producer, (topic, moved), &first.metadata())
        .expect("Kafka does not check who owns it");
    producer.commit_transaction(PATIENCE).expect("it commits");
    let found = now_committed(broker, topic, (topic, moved));
    assert_eq!(found, Some((3, "moved".to_owned())));
}

#[test]
fn a_predecessor_of_the_same_name_and_a_member_that_left_are_refused_and_may_abort() {
    let (broker, topic) = (Broker::shared(), "facts-predecessor");
    broker.create_topic(topic, 2, &[]);
    let before = Member::joined(broker.address(), topic, "a", &[topic], 2);
    let captured = before.captured();
    drop(before);
    let after = Member::joined(broker.address(), topic, "a", &[topic], 2);
    let producer = producer(&transactional(broker.address(), topic));
    let refused = refusal(move_with(&producer, (topic, 0), &captured));
    assert_eq!(refused.code(), Code::FencedInstanceId);
    still_good_after(&producer, &refused);

    let captured = after.captured();
    after.leave();
    let refused = wait::until_some("a group without us", PATIENCE, || {
        let answer = move_with(&producer, (topic, 0), &captured);
        if answer.is_ok() {
            producer.abort_transaction(PATIENCE).expect("it aborts");
        }
        answer.is_err().then(|| refusal(answer))
    });
    assert_eq!(refused.code(), Code::UnknownMemberId);
    still_good_after(&producer, &refused);
}

/// The refusal asks for an abort, which works, and so does the next transaction.
#[track_caller]
fn still_good_after(producer: &BaseProducer, refused: &RDKafkaError) {
    assert!(refused.txn_requires_abort() && !refused.is_fatal());
    producer.abort_transaction(PATIENCE).expect("it aborts");
    begin(producer, crate::support::broker::WARM_UP_TOPIC, "next");
    producer.commit_transaction(PATIENCE).expect("the next one");
}

#[test]
fn a_commit_whose_answer_is_lost_can_be_called_again_and_not_aborted() {
    let (broker, topic) = (Broker::shared(), "facts-answer-lost");
    broker.create_topic(topic, 1, &[]);
    let proxy = Proxy::start(&[broker.address()]);
    let mut config = transactional(&proxy.address(), topic);
    let producer = producer(config.set("socket.timeout.ms", "2000"));
    begin(&producer, topic, "once");
    let lost = proxy.trap(Fate::Lose, Wanted::answer(&[Api::END_TXN]));
    let late = refusal(producer.commit_transaction(Duration::from_millis(500)));
    assert!(late.is_retriable() && !late.is_fatal() && !late.txn_requires_abort());
    assert_eq!(lost.caught(), 1, "it was carried out");
    let values = || dead_letters::read(broker, topic).len();
    wait::until("the record that it committed", || values() == 1);

    let conflicting = refusal(producer.abort_transaction(Duration::from_millis(500)));
    assert_eq!(conflicting.code(), Code::Conflict);
    producer.commit_transaction(PATIENCE).expect("commit again");
    assert_eq!(values(), 1);
    begin(&producer, topic, "next");
    producer.commit_transaction(PATIENCE).expect("the next one");
}

#[test]
fn a_transaction_that_timed_out_and_one_whose_id_is_taken_end_in_the_same_fatal_error() {
    let (broker, topic) = (Broker::shared(), "facts-timed-out");
    broker.create_topic(topic, 1, &[]);
    let mut config = transactional(broker.address(), "facts-timed-out");
    config.set("transaction.timeout.ms", "1000");
    let timed_out = producer(&config);
    begin(&timed_out, topic, "never seen");
    // Readable only when the transaction before it has ended.
    let publisher = Publisher::new(broker);
    publisher.send(topic, None, Some(b"after"), &[]);
    publisher.flush();
    wait::until("the coordinator to end it", || {
        dead_letters::read(broker, topic).len() == 1
    });
    let fatal = refusal(timed_out.commit_transaction(PATIENCE));
    drop(timed_out);

    let fenced = producer(&config);
    begin(&fenced, topic, "never seen either");
    drop(producer(&config));
    let taken = refusal(fenced.commit_transaction(PATIENCE));
    assert_eq!(fatal.code(), taken.code());
    assert!(fatal.is_fatal() && taken.is_fatal(), "{fatal:?}");
    let underlying = fenced.client().fatal_error().map(|(code, _)| code);
    assert_eq!(underlying, Some(Code::Fenced));
}

/// And how long a dead producer keeps them: its timeout and the broker's scan.
#[test]
fn offsets_of_an_open_transaction_cannot_be_read_until_it_ends_or_times_out() {
    let (broker, topic) = (Broker::shared(), "facts-pending");
    broker.create_topic(topic, 2, &[]);
    let member = Member::joined(broker.address(), topic, "a", &[topic], 2);
    let look = |number| committed(broker, topic, (topic, number), Duration::from_millis(500));
    let mut config = transactional(broker.address(), topic);
    config.set("transaction.timeout.ms", "2000");
    let dies = producer(&config);
    move_with(&dies, (topic, 0), &member.captured()).expect("it is the owner");
    let started = Instant::now();
    assert!(look(0).is_err(), "pending");
    assert_eq!(look(1), Ok(None), "the other partition's are answered");
    wait::until("the coordinator to end a transaction", || look(0).is_ok());
    let frozen = started.elapsed();
    println!("a timeout of 2 s froze for {frozen:?}");
    assert!(frozen > Duration::from_millis(1_500), "{frozen:?}");
    assert!(frozen < Duration::from_secs(2 + 1 + 2), "{frozen:?}");
    assert_eq!(look(0), Ok(None), "nothing of it was written");

    let ends = producer(&config);
    move_with(&ends, (topic, 0), &member.captured()).expect("it is the owner");
    assert!(look(0).is_err(), "pending");
    ends.commit_transaction(PATIENCE).expect("it commits");
    let found = now_committed(broker, topic, (topic, 0));
    assert_eq!(found, Some((3, "moved".to_owned())));

    // A producer that takes its id ends it.
    move_with(&ends, (topic, 1), &member.captured()).expect("it is the owner");
    assert!(look(1).is_err(), "pending");
    drop(producer(&config));
    assert_eq!(now_committed(broker, topic, (topic, 1)), None);
    drop(ends);
}

#[test]
fn a_plain_commit_beside_a_pending_one_is_accepted_and_wins() {
    let (broker, topic) = (Broker::shared(), "facts-plain-beside");
    broker.create_topic(topic, 1, &[]);
    let member = Member::joined(broker.address(), topic, "a", &[topic], 1);
    let producer = producer(&transactional(broker.address(), topic));
    move_with(&producer, (topic, 0), &member.captured()).expect("it is the owner");
    member
        .commit(&offsets(topic, &[(0, 8, "plain")]))
        .expect("accepted");
    producer.commit_transaction(PATIENCE).expect("it commits");
    let found = now_committed(broker, topic, (topic, 0));
    assert_eq!(found, Some((8, "plain".to_owned())));
}
