//! What Kafka allows this user to do with topics and with a group, as the brokers tell
//! it. The rdkafka crate lacks these questions. Generic over the client's context.
//! Blocking. Used by the admin client.

use super::ffi::{millis, text};
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaRespErr;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, c_char};
use std::ptr;
use std::slice;
use std::time::Duration;

const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
const GROUP_DENIED: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;

/// An operation of Kafka's ACLs that the service needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    Read,
    Write,
}

/// The operations that are allowed, of those that the service needs.
pub type Allowed = BTreeSet<Operation>;

/// Returns what is allowed with each of these topics. Leaves out topics of which the
/// brokers do not tell it.
pub fn of_topics<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    timeout: Duration,
) -> BTreeMap<String, Allowed> {
    let names: Vec<CString> = names
        .iter()
        .filter_map(|name| CString::new(name.as_str()).ok())
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let ask = |client, options, queue| {
        // SAFETY: the names outlive the calls, which copy them. The collection is
        // destroyed after its use.
        unsafe {
            let topics =
                rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            rd::rd_kafka_DescribeTopics(client, topics, options, queue);
            rd::rd_kafka_TopicCollection_destroy(topics);
        }
    };
    let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the event is the answer to the question just above.
    let read = |event| unsafe { topics_of(event) };
    asked(client, operation, timeout, ask, read).unwrap_or_default()
}

/// Returns what is allowed with this group, or `None` if the brokers do not tell it.
pub fn of_group<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    timeout: Duration,
) -> Option<Allowed> {
    let group = CString::new(group).ok()?;
    let mut pointers = [group.as_ptr()];
    let ask = |client, options, queue| {
        // SAFETY: the name outlives the call, which copies it.
        unsafe {
            rd::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), 1, options, queue);
        }
    };
    let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: the event is the answer to the question just above.
    let read = |event| unsafe { group_of(event) };
    asked(client, operation, timeout, ask, read).flatten()
}

/// Asks the brokers a question with the allowed operations, and reads the answer.
fn asked<C: ClientContext, T>(
    client: &Client<C>,
    operation: rd::rd_kafka_admin_op_t,
    timeout: Duration,
    ask: impl FnOnce(*mut rd::rd_kafka_t, *const rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    read: impl FnOnce(*mut rd::rd_kafka_event_t) -> T,
) -> Option<T> {
    let client = client.native_ptr();
    // SAFETY: the client is alive. Queue, options and event belong to us and are
    // destroyed after their last use; the answer is copied before.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let options = rd::rd_kafka_AdminOptions_new(client, operation);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), ptr::null_mut(), 0);
        let refused = rd::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        assert!(refused.is_null(), "both questions have this option");
        ask(client, options, queue);
        rd::rd_kafka_AdminOptions_destroy(options);
        // librdkafka answers by the timeout; the second one is for a busy machine.
        let event = rd::rd_kafka_queue_poll(queue, millis(timeout).saturating_mul(2));
        let answer = (!event.is_null()).then(|| read(event));
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// SAFETY: the event must be the answer of DescribeTopics that is not destroyed yet.
unsafe fn topics_of(event: *mut rd::rd_kafka_event_t) -> BTreeMap<String, Allowed> {
    let mut all = BTreeMap::new();
    // SAFETY: the caller promises it. The descriptions belong to the event.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event);
        if rd::rd_kafka_event_error(event) != NO_ERROR || result.is_null() {
            return all;
        }
        let mut count = 0;
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let topic = *topics.add(index);
            let mut operations = 0;
            let first =
                rd::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut operations);
            if let Some(allowed) = allowed(first, operations) {
                all.insert(text(rd::rd_kafka_TopicDescription_name(topic)), allowed);
            }
        }
    }
    all
}

/// SAFETY: the event must be the answer of DescribeConsumerGroups that is not destroyed
/// yet.
unsafe fn group_of(event: *mut rd::rd_kafka_event_t) -> Option<Allowed> {
    // SAFETY: the caller promises it. The descriptions belong to the event.
    unsafe {
        let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
        if rd::rd_kafka_event_error(event) != NO_ERROR || result.is_null() {
            return None;
        }
        let mut count = 0;
        let groups = rd::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        let group = *(count > 0).then_some(groups)?;
        let error = rd::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() && rd::rd_kafka_error_code(error) == GROUP_DENIED {
            return Some(Allowed::new());
        }
        let mut operations = 0;
        let first =
            rd::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut operations);
        allowed(first, operations)
    }
}

/// Returns the operations of an answer. Brokers that do not tell them give none.
///
/// SAFETY: `first`, unless null, must point to `count` operations.
unsafe fn allowed(first: *const rd::rd_kafka_AclOperation_t, count: usize) -> Option<Allowed> {
    if first.is_null() || count == 0 {
        return None;
    }
    // SAFETY: the caller promises it.
    let all = unsafe { slice::from_raw_parts(first, count) };
    let needed = all.iter().filter_map(|operation| match operation {
        rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ => Some(Operation::Read),
        rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE => Some(Operation::Write),
        _ => None,
    });
    Some(needed.collect())
}
