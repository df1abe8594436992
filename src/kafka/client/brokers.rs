//! Questions to brokers that the rdkafka crate lacks: the description of topics, and
//! the log bounds with an answer for each request. Generic over the client's context.
//! Used by the reader thread.

use super::ffi::{Element, element, elements, millis, text};
use crate::model::broker::{Broker, BrokerId, DescribedPartition};
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::slice;
use std::time::Duration;

const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
/// librdkafka answers by the timeout. This is for a busy machine.
const LATE: Duration = Duration::from_millis(100);

/// A topic as a broker describes it.
pub struct Described {
    pub name: String,
    /// As base64.
    pub id: String,
    pub partitions: Vec<DescribedPartition>,
}

/// Describes these topics. Asks this broker, or else the one that the client takes for
/// the controller. Leaves out topics that the broker does not describe. Returns
/// `None` when the broker does not answer within `timeout`.
pub fn describe<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    names: &[String],
    broker: Option<BrokerId>,
    timeout: Duration,
) -> Option<Vec<Described>> {
    const OPERATION: rd::rd_kafka_admin_op_t =
        rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let names: Vec<CString> = names
        .iter()
        .filter_map(|name| CString::new(name.as_str()).ok())
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = consumer.client().native_ptr();
    let mut described = None;
    // SAFETY: the client is alive. Each object made here is destroyed here, in
    // the reverse order. The names outlive the call that copies them.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let topics =
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = rd::rd_kafka_AdminOptions_new(client, OPERATION);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), ptr::null_mut(), 0);
        if let Some(BrokerId(id)) = broker {
            rd::rd_kafka_AdminOptions_set_broker(options, id, ptr::null_mut(), 0);
        }
        rd::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, millis(timeout + LATE));
        if !event.is_null() {
            let result = rd::rd_kafka_event_DescribeTopics_result(event);
            if rd::rd_kafka_event_error(event) == NO_ERROR && !result.is_null() {
                described = Some(topics_of(result));
            }
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(topics);
        rd::rd_kafka_queue_destroy(queue);
    }
    described
}

/// SAFETY: `result` must be valid.
unsafe fn topics_of(result: *const rd::rd_kafka_DescribeTopics_result_t) -> Vec<Described> {
    let mut count = 0;
    let mut described = Vec::new();
    // SAFETY: the descriptions and all their parts belong to the result.
    unsafe {
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let topic = *topics.add(index);
            let error = rd::rd_kafka_TopicDescription_error(topic);
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let failed = !error.is_null() && rd::rd_kafka_error_code(error) != NO_ERROR;
            let unknown = id.is_null()
                || (rd::rd_kafka_Uuid_most_significant_bits(id) == 0
                    && rd::rd_kafka_Uuid_least_significant_bits(id) == 0);
            if failed || unknown {
                continue;
            }
            described.push(Described {
                name: text(rd::rd_kafka_TopicDescription_name(topic)),
                id: text(rd::rd_kafka_Uuid_base64str(id)),
                partitions: partitions_of(topic),
            });
        }
    }
    described
}

/// SAFETY: `topic` must be valid.
unsafe fn partitions_of(topic: *const rd::rd_kafka_TopicDescription_t) -> Vec<DescribedPartition> {
    let mut count = 0;
    // SAFETY: the partitions and all their parts belong to the topic. Each array has as
    // many elements as its count says; it may be null where there is none.
    unsafe {
        let partitions = rd::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        (0..count)
            .map(|index| partition_of(*partitions.add(index)))
            .collect()
    }
}

/// SAFETY: `partition` must be valid.
unsafe fn partition_of(partition: *const rd::rd_kafka_TopicPartitionInfo_t) -> DescribedPartition {
    let (mut in_sync, mut replicas) = (0, 0);
    // SAFETY: as in `partitions_of`.
    unsafe {
        let leader = rd::rd_kafka_TopicPartitionInfo_leader(partition);
        let leader = (!leader.is_null()).then(|| {
            let host = text(rd::rd_kafka_Node_host(leader));
            Broker {
                id: BrokerId(rd::rd_kafka_Node_id(leader)),
                address: format!("{host}:{}", rd::rd_kafka_Node_port(leader)),
            }
        });
        let nodes = rd::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut in_sync);
        rd::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut replicas);
        let id = |index| BrokerId(rd::rd_kafka_Node_id(*nodes.add(index)));
        DescribedPartition {
            number: rd::rd_kafka_TopicPartitionInfo_partition(partition),
            leader,
            in_sync: (0..in_sync).map(id).collect(),
            replicas,
        }
    }
}

/// Which log's end ListOffsets tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LogEnd {
    /// The last stable offset: the end of what can be read.
    Stable,
    /// The high watermark, beyond the records of open transactions.
    HighWatermark,
}

/// Asks ListOffsets for each of these lists at once.
/// Returns the answers in the order of the lists, each with the partitions that were
/// answered within `timeout`. An error code of a broker is an answer, too. A leader
/// that does not answer leaves the other lists' answers complete.
pub fn list_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    lists: &[TopicPartitionList],
    end: LogEnd,
    timeout: Duration,
) -> Vec<Vec<Element>> {
    const OPERATION: rd::rd_kafka_admin_op_t =
        rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    use rd::rd_kafka_IsolationLevel_t as Level;
    let level = match end {
        LogEnd::Stable => Level::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
        LogEnd::HighWatermark => Level::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
    };
    let client = consumer.client().native_ptr();
    let mut answers: Vec<Vec<Element>> = lists.iter().map(|_| Vec::new()).collect();
    // SAFETY: the client is alive. Queue, options and events belong to us and are
    // destroyed after their last use. librdkafka copies lists and options.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        for (index, list) in lists.iter().enumerate() {
            let options = rd::rd_kafka_AdminOptions_new(client, OPERATION);
            rd::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis(timeout),
                ptr::null_mut(),
                0,
            );
            let refused = rd::rd_kafka_AdminOptions_set_isolation_level(options, level);
            assert!(refused.is_null(), "ListOffsets has isolation levels");
            let number = ptr::without_provenance_mut::<c_void>(index);
            rd::rd_kafka_AdminOptions_set_opaque(options, number);
            rd::rd_kafka_ListOffsets(client, list.ptr(), options, queue);
            rd::rd_kafka_AdminOptions_destroy(options);
        }
        for _ in lists {
            // librdkafka ends each request by its timeout.
            let event = rd::rd_kafka_queue_poll(queue, millis(timeout + LATE));
            if event.is_null() {
                break;
            }
            let index = rd::rd_kafka_event_opaque(event).addr();
            if let (Some(answer), Some(list)) = (answers.get_mut(index), lists.get(index)) {
                *answer = offsets_of(event, list);
            }
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
    }
    answers
}

/// Returns the high watermark that the last answer to a fetch told, if there was one.
/// Asks no broker.
pub fn fetched_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let client = consumer.client().native_ptr();
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive, and both numbers outlive the call.
    let error = unsafe {
        rd::rd_kafka_get_watermark_offsets(
            client,
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (error == NO_ERROR && high >= 0).then_some(high)
}

/// Returns the partitions that the event answers. A partition whose leader did not
/// answer has neither an offset nor an error.
///
/// SAFETY: the event must be the answer of ListOffsets that is not destroyed yet.
unsafe fn offsets_of(event: *mut rd::rd_kafka_event_t, list: &TopicPartitionList) -> Vec<Element> {
    // SAFETY: the caller promises it. The infos belong to the event and have as many
    // elements as the count says.
    let all = unsafe {
        match rd::rd_kafka_event_error(event) {
            NO_ERROR => {}
            // The metadata of the cluster say that none of them has a leader.
            error @ RDKafkaRespErr::RD_KAFKA_RESP_ERR__NOENT => {
                let failed = |element| Element {
                    error: Some(error.into()),
                    ..element
                };
                return elements(list).into_iter().map(failed).collect();
            }
            _ => return Vec::new(),
        }
        let result = rd::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() {
            return Vec::new();
        }
        let mut count = 0;
        let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        if infos.is_null() {
            return Vec::new();
        }
        let infos = slice::from_raw_parts(infos, count).iter();
        infos.map(|info| element(&*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info)))
    };
    all.filter(|element| element.error.is_some() || element.offset >= 0)
        .collect()
}
