//! Calls of librdkafka that the rdkafka crate lacks or wraps unsuitably. Commits a
//! transaction without the crate's slow flush. Commits offsets with an answer for
//! each partition. Lists groups, and reads partition lists without panics.
//! Generic over the client's context. Used by all threads of a session.

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::time::Duration;

const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// SAFETY: `at`, unless null, must point to `len` bytes that are valid for `'a`.
pub(super) unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller promises it.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
}

/// The error of a transactional call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionError {
    pub code: RDKafkaErrorCode,
    /// The same call may be repeated.
    pub retriable: bool,
    /// The transaction must be aborted.
    pub abortable: bool,
    /// The producer cannot be used any more.
    pub fatal: bool,
    /// librdkafka's description.
    pub text: String,
}

/// Commits the transaction. No message may be in progress.
pub fn commit_transaction<C: ClientContext>(
    producer: &Client<C>,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: the producer is alive; the error was just returned.
    unsafe {
        transaction_result(rd::rd_kafka_commit_transaction(
            producer.native_ptr(),
            millis(timeout),
        ))
    }
}

/// SAFETY: `error` must belong to the caller, or be null. It is destroyed.
unsafe fn transaction_result(error: *mut rd::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the caller promises it; the error is destroyed after its last use.
    unsafe {
        let failed = TransactionError {
            code: rd::rd_kafka_error_code(error).into(),
            retriable: rd::rd_kafka_error_is_retriable(error) != 0,
            abortable: rd::rd_kafka_error_txn_requires_abort(error) != 0,
            fatal: rd::rd_kafka_error_is_fatal(error) != 0,
            text: text(rd::rd_kafka_error_string(error)),
        };
        rd::rd_kafka_error_destroy(error);
        Err(failed)
    }
}

/// Adds group offsets to the transaction by group name only: no member id, no
/// generation.
///
/// Errors: the broker's answer, or `None` when the group's name holds a NUL.
pub fn send_group_offsets<C: ClientContext>(
    producer: &Client<C>,
    group: &str,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), Option<TransactionError>> {
    let group = CString::new(group).map_err(|_| None)?;
    // SAFETY: the producer is alive; the metadata belongs to us and is destroyed
    // after its last use.
    let error = unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata_new(group.as_ptr());
        let error = rd::rd_kafka_send_offsets_to_transaction(
            producer.native_ptr(),
            offsets.ptr(),
            metadata,
            millis(timeout),
        );
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        error
    };
    // SAFETY: the error was just returned.
    unsafe { transaction_result(error) }.map_err(Some)
}

/// Commits offsets and waits for the answer while `keep_waiting` returns true.
/// The crate's synchronous commit reports success when only some partitions
/// failed; this function also reports the first partition's error.
///
/// Returns `None` when it stopped waiting. Errors: the broker's answer.
pub fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    keep_waiting: impl Fn() -> bool,
) -> Option<Result<(), RDKafkaErrorCode>> {
    const POLL_MS: c_int = 500;
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive. The queue belongs to us and is destroyed
    // below, when no thread waits for it. librdkafka copies the list.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let sent = rd::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        let mut answer = (sent != NO_ERROR).then(|| Err(sent.into()));
        while answer.is_none() {
            let event = rd::rd_kafka_queue_poll(queue, POLL_MS);
            if !event.is_null() {
                answer = Some(commit_result(event));
                rd::rd_kafka_event_destroy(event);
            } else if !keep_waiting() {
                break;
            }
        }
        rd::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// SAFETY: the event must be a commit's answer that is not destroyed yet.
unsafe fn commit_result(event: *mut rd::rd_kafka_event_t) -> Result<(), RDKafkaErrorCode> {
    // SAFETY: the caller promises it. The list belongs to the event and has
    // `cnt` elements.
    unsafe {
        let error = rd::rd_kafka_event_error(event);
        if error != NO_ERROR {
            return Err(error.into());
        }
        let list = rd::rd_kafka_event_topic_partition_list(event);
        if list.is_null() {
            return Ok(());
        }
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let mut errors = (0..count).map(|index| (*(*list).elems.add(index)).err);
        match errors.find(|error| *error != NO_ERROR) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// Returns the number of events in the consumer's own queue.
pub fn consumer_queue_length<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> usize {
    // SAFETY: the client is alive; the reference to the queue is released.
    unsafe {
        let queue = rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        if queue.is_null() {
            return 0;
        }
        let length = rd::rd_kafka_queue_length(queue);
        rd::rd_kafka_queue_destroy(queue);
        length
    }
}

/// Returns whether the consumer is a member of its group. A consumer drops its
/// member id when it sends the request to leave.
pub fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive; the string belongs to us and is freed.
    unsafe {
        let id = rd::rd_kafka_memberid(client);
        if id.is_null() {
            return false;
        }
        let member = *id != 0;
        rd::rd_kafka_mem_free(client, id.cast::<c_void>());
        member
    }
}

/// Returns the names of all groups that the brokers list. Unlike the crate's function
/// it describes no group, which is costly on clusters with many of them.
///
/// Errors: no broker has answered in time, or all refuse.
pub fn group_names<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<Vec<String>, RDKafkaErrorCode> {
    const OPERATION: rd::rd_kafka_admin_op_t =
        rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
    let client = client.native_ptr();
    // SAFETY: the client is alive. Queue, options and event belong to us and are
    // destroyed after their last use. The answer is copied before.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let options = rd::rd_kafka_AdminOptions_new(client, OPERATION);
        let millis = millis(timeout);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        rd::rd_kafka_ListConsumerGroups(client, options, queue);
        rd::rd_kafka_AdminOptions_destroy(options);
        // librdkafka answers by the timeout; the second one is for a busy machine.
        let event = rd::rd_kafka_queue_poll(queue, millis.saturating_mul(2));
        let names = match event.is_null() {
            true => Err(RDKafkaErrorCode::OperationTimedOut),
            false => listed_groups(event),
        };
        if !event.is_null() {
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
        names
    }
}

/// SAFETY: the event must be the answer of a list of groups that is not destroyed yet.
unsafe fn listed_groups(event: *mut rd::rd_kafka_event_t) -> Result<Vec<String>, RDKafkaErrorCode> {
    // SAFETY: the caller promises it. The arrays belong to the event and have as many
    // elements as the counts say.
    unsafe {
        let error = rd::rd_kafka_event_error(event);
        if error != NO_ERROR {
            return Err(error.into());
        }
        let result = rd::rd_kafka_event_ListConsumerGroups_result(event);
        let mut count = 0;
        let errors = rd::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
        if count > 0 {
            return Err(rd::rd_kafka_error_code(*errors).into());
        }
        let groups = rd::rd_kafka_ListConsumerGroups_result_valid(result, &mut count);
        let name = |index| {
            text(rd::rd_kafka_ConsumerGroupListing_group_id(
                *groups.add(index),
            ))
        };
        Ok((0..count).map(name).collect())
    }
}

/// One element of a partition list.
pub struct Element {
    pub topic: String,
    pub partition: i32,
    /// Negative where there is no offset.
    pub offset: i64,
    /// The commit's metadata.
    pub metadata: String,
    pub error: Option<RDKafkaErrorCode>,
}

/// Returns the elements of a list. Their metadata may hold any bytes: the crate's
/// own function panics on bytes that are not UTF-8.
pub fn elements(list: &TopicPartitionList) -> Vec<Element> {
    // SAFETY: the list is valid and has `cnt` elements.
    let raw = unsafe {
        let list = &*list.ptr();
        if list.elems.is_null() {
            return Vec::new();
        }
        slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
    };
    // SAFETY: the elements belong to the list.
    raw.iter().map(|raw| unsafe { element(raw) }).collect()
}

/// SAFETY: the element must be valid: its topic a C string, its metadata as long as it
/// says.
pub(super) unsafe fn element(raw: &rd::rd_kafka_topic_partition_t) -> Element {
    // SAFETY: the caller promises it.
    let (topic, metadata) = unsafe { (text(raw.topic), bytes(raw.metadata, raw.metadata_size)) };
    let failed = raw.err != NO_ERROR;
    Element {
        topic,
        partition: raw.partition,
        offset: raw.offset,
        metadata: String::from_utf8_lossy(metadata.unwrap_or_default()).into_owned(),
        error: failed.then(|| raw.err.into()),
    }
}

/// SAFETY: `at` must be null or a C string.
pub(super) unsafe fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: the caller promises it.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}

/// Ends the process at once, without destructors and exit handlers. Those could
/// wait for a hung thread or break threads that still run.
pub fn end_process(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: each C library has this function, and it accepts any code.
    unsafe { _exit(c_int::from(code)) }
}

pub(super) fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}
