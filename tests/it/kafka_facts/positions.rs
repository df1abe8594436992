//! Offsets that moved under a group.

use super::member::{Member, now_committed, offsets};
use crate::support::broker::Broker;
use crate::support::publisher::Publisher;
use crate::support::wait;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

#[test]
fn a_committed_offset_beyond_the_logs_end_starts_over_in_silence_with_earliest() {
    let (broker, topic) = (Broker::shared(), "facts-beyond");
    broker.create_topic(topic, 1, &[]);
    let publisher = Publisher::new(broker);
    publisher.send(topic, None, Some(b"first"), &[]);
    publisher.flush();
    let mut config = broker.client();
    config
        .set("group.id", topic)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().expect("valid settings");
    let beyond = offsets(topic, &[(0, 1_000, "")]);
    consumer
        .commit(&beyond, CommitMode::Sync)
        .expect("the group is empty");
    consumer.subscribe(&[topic]).expect("a valid name");
    let offset = wait::until_some("the first record", wait::PATIENCE, || {
        let polled = consumer.poll(std::time::Duration::from_millis(50))?;
        Some(polled.expect("no error is told").offset())
    });
    assert_eq!(offset, 0);
}

#[test]
fn a_deleted_topics_offsets_are_dropped_and_a_running_members_old_one_is_accepted_for_the_new_one()
{
    let (broker, topic) = (Broker::shared(), "facts-recreated");
    broker.create_topic(topic, 1, &[]);
    let member = Member::joined(broker.address(), topic, "a", &[topic], 1);
    let snapshot = offsets(topic, &[(0, 5, "of the old topic")]);
    member.commit(&snapshot).expect("it is the owner");
    broker.delete_topic(topic);
    wait::until("its offsets to be dropped", || {
        now_committed(broker, topic, (topic, 0)).is_none()
    });
    broker.create_topic(topic, 1, &[]);
    assert_eq!(now_committed(broker, topic, (topic, 0)), None);
    wait::until("the old snapshot to be accepted", || {
        member.commit(&snapshot).is_ok()
    });
    let found = now_committed(broker, topic, (topic, 0));
    assert_eq!(found, Some((5, "of the old topic".to_owned())));
}
