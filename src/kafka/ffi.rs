//! The few librdkafka calls that the rdkafka crate lacks or wraps unsuitably:
//! a partition's own queue (the crate's poll drops the offset of an end of
//! partition and costs more for each message), `commit_transaction` without the
//! crate's slow flush, topic ids, and lists of partitions read without panics.
//! The only unsafe code of the program. Used by the threads of a life.

use super::context::Consumer;
use super::wake::Waker;
use rdkafka::bindings as rd;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Told by librdkafka's threads that a queue is no longer empty.
struct Signal {
    nonempty: AtomicBool,
    waker: Arc<Waker>,
}

/// The split queue of one partition. Used by the consumer thread only.
pub struct PartitionQueue {
    queue: *mut rd::rd_kafka_queue_t,
    signal: Arc<Signal>,
    /// Keeps the client alive for as long as its queue is.
    _consumer: Arc<Consumer>,
}

impl PartitionQueue {
    /// Splits the partition's queue off the consumer's. Before the partition is
    /// assigned, so that no record reaches the consumer's own queue.
    pub fn split(
        consumer: &Arc<Consumer>,
        topic: &str,
        partition: i32,
        waker: &Arc<Waker>,
    ) -> Option<Self> {
        use rdkafka::consumer::Consumer as _;
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive, the name is a C string; the queue that
        // is returned is ours until rd_kafka_queue_destroy.
        let queue = unsafe { rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        if queue.is_null() {
            return None;
        }
        let signal = Arc::new(Signal {
            nonempty: AtomicBool::new(true),
            waker: Arc::clone(waker),
        });
        // SAFETY: the queue is valid; the signal outlives the callback, which
        // `drop` takes off first, under the queue's lock.
        unsafe {
            rd::rd_kafka_queue_forward(queue, ptr::null_mut());
            rd::rd_kafka_queue_cb_event_enable(
                queue,
                Some(nonempty),
                Arc::as_ptr(&signal).cast_mut().cast::<c_void>(),
            );
        }
        Some(Self {
            queue,
            signal,
            _consumer: Arc::clone(consumer),
        })
    }

    /// Whether something may have come since this was last asked.
    pub fn take_nonempty(&self) -> bool {
        self.signal.nonempty.swap(false, Ordering::AcqRel)
    }

    /// Says that something was left in the queue.
    pub fn leave_nonempty(&self) {
        self.signal.nonempty.store(true, Ordering::Release);
    }

    /// Takes up to `max` messages without waiting, in their order; returns how
    /// many came.
    ///
    /// One call for each: `rd_kafka_consume_batch_queue` counts an end of
    /// partition as a message, so that after the next rebalance librdkafka
    /// resumes one record too far and that record is never seen.
    pub fn poll(&self, max: usize, mut each: impl FnMut(&RawMessage)) -> usize {
        for count in 0..max {
            // SAFETY: the queue is ours; the message that is returned is too.
            let message = unsafe { rd::rd_kafka_consume_queue(self.queue, 0) };
            if message.is_null() {
                return count;
            }
            each(&RawMessage(message));
        }
        max
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is ours; after the callback is taken off nobody
        // else holds the pointer to the signal.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.queue);
        }
    }
}

unsafe extern "C" fn nonempty(_: *mut rd::rd_kafka_t, signal: *mut c_void) {
    // SAFETY: `split` passed a pointer to a Signal that lives until the
    // callback is taken off.
    let signal = unsafe { &*signal.cast_const().cast::<Signal>() };
    signal.nonempty.store(true, Ordering::Release);
    signal.waker.wake();
}

/// A message or an error in a partition's queue; destroyed when dropped.
pub struct RawMessage(*mut rd::rd_kafka_message_t);

impl RawMessage {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: librdkafka gave a valid message that is ours until destroyed.
        unsafe { &*self.0 }
    }

    /// The error that it stands for, if it is no record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let err = self.raw().err;
        (err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| err.into())
    }

    /// Its offset; of an end of partition, the end.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Milliseconds since the epoch, or -1.
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        unsafe { rd::rd_kafka_message_timestamp(self.0, &raw mut kind) }
    }

    /// The key, if there is one.
    pub fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: key and key_len describe memory that lives with the message.
        unsafe { bytes(raw.key, raw.key_len) }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: payload and len describe memory that lives with the message.
        unsafe { bytes(raw.payload, raw.len) }
    }

    /// Each header in its order.
    pub fn for_each_header(&self, mut each: impl FnMut(&CStr, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; the headers stay its own.
        let err = unsafe { rd::rd_kafka_message_headers(self.0, &raw mut headers) };
        if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let mut name: *const c_char = ptr::null();
            let mut value: *const c_void = ptr::null();
            let mut len = 0;
            // SAFETY: the headers are valid; an index past the end is an error.
            let err = unsafe {
                rd::rd_kafka_header_get_all(
                    headers,
                    index,
                    &raw mut name,
                    &raw mut value,
                    &raw mut len,
                )
            };
            if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: name is a C string; value and len belong together.
            unsafe { each(CStr::from_ptr(name), bytes(value, len)) };
        }
    }
}

impl Drop for RawMessage {
    fn drop(&mut self) {
        // SAFETY: the message is ours and is not used again.
        unsafe { rd::rd_kafka_message_destroy(self.0) };
    }
}

/// SAFETY: `at`, unless null, must point to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: promised by the caller.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
}

/// The answer of a transactional call that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionError {
    /// librdkafka's code.
    pub code: RDKafkaErrorCode,
    /// The same call may be made again.
    pub retriable: bool,
    /// The transaction must be aborted.
    pub abortable: bool,
    /// The producer is of no further use.
    pub fatal: bool,
    /// What librdkafka says.
    pub text: String,
}

/// Commits the transaction. No message may be outstanding.
pub fn commit_transaction(
    client: *mut rd::rd_kafka_t,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: the caller's producer is alive; the error was just returned.
    unsafe { transaction_answer(rd::rd_kafka_commit_transaction(client, millis(timeout))) }
}

/// SAFETY: `error` must be ours, or null. It is destroyed.
unsafe fn transaction_answer(error: *mut rd::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: promised by the caller; it is destroyed after the last use.
    unsafe {
        let answer = TransactionError {
            code: rd::rd_kafka_error_code(error).into(),
            retriable: rd::rd_kafka_error_is_retriable(error) != 0,
            abortable: rd::rd_kafka_error_txn_requires_abort(error) != 0,
            fatal: rd::rd_kafka_error_is_fatal(error) != 0,
            text: text(rd::rd_kafka_error_string(error)),
        };
        rd::rd_kafka_error_destroy(error);
        Err(answer)
    }
}

/// Adds offsets of a group to the transaction, by nobody in particular: with the
/// group's name alone.
///
/// Errors: what was answered; `None` where the group's name holds a NUL.
pub fn send_offsets_of_group(
    client: *mut rd::rd_kafka_t,
    group: &str,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), Option<TransactionError>> {
    let group = CString::new(group).map_err(|_| None)?;
    // SAFETY: the caller's producer is alive; the metadata is ours and destroyed
    // after its last use.
    let error = unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata_new(group.as_ptr());
        let error = rd::rd_kafka_send_offsets_to_transaction(
            client,
            offsets.ptr(),
            metadata,
            millis(timeout),
        );
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        error
    };
    // SAFETY: the error was just returned.
    unsafe { transaction_answer(error) }.map_err(Some)
}

/// Commits offsets and waits for the answer as long as `go_on` says so. The
/// crate's synchronous commit reports success when only some partitions failed;
/// this one reports the first partition's error too.
///
/// Returns `None` where waiting was given up. Errors: what was answered.
pub fn commit(
    consumer: &Consumer,
    offsets: &TopicPartitionList,
    go_on: impl Fn() -> bool,
) -> Option<Result<(), RDKafkaErrorCode>> {
    use rdkafka::consumer::Consumer as _;
    const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    const LOOK_MS: c_int = 500;
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive; the queue is ours and destroyed below, when
    // nobody waits for it; librdkafka copies the list.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let asked = rd::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        let mut answer = (asked != NO_ERROR).then(|| Err(asked.into()));
        while answer.is_none() {
            let event = rd::rd_kafka_queue_poll(queue, LOOK_MS);
            if !event.is_null() {
                answer = Some(committed(event));
                rd::rd_kafka_event_destroy(event);
            } else if !go_on() {
                break;
            }
        }
        rd::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// SAFETY: the event is a commit's answer and not destroyed yet.
unsafe fn committed(event: *mut rd::rd_kafka_event_t) -> Result<(), RDKafkaErrorCode> {
    const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: as the caller promises; the list lives with its event and has
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
        let errors = (0..count).map(|index| (*(*list).elems.add(index)).err);
        match errors.into_iter().find(|error| *error != NO_ERROR) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// How many events wait in the consumer's own queue.
pub fn consumer_queue_length(consumer: &Consumer) -> usize {
    use rdkafka::consumer::Consumer as _;
    // SAFETY: the client is alive; the reference to the queue is given back.
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

/// Whether the consumer is a member of its group: it gives its member id up in
/// the moment in which it asks to leave.
pub fn is_member(consumer: &Consumer) -> bool {
    use rdkafka::consumer::Consumer as _;
    let client = consumer.client().native_ptr();
    // SAFETY: the client is alive; the string is ours and given back.
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

/// One element of a list of partitions.
pub struct Element {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The raw offset; negative where there is none.
    pub offset: i64,
    /// The commit's metadata.
    pub metadata: String,
    /// What went wrong for this partition.
    pub error: Option<RDKafkaErrorCode>,
}

/// The elements of a list, whatever bytes their metadata holds: the crate's own
/// reading panics on what is not UTF-8.
pub fn elements(list: &TopicPartitionList) -> Vec<Element> {
    // SAFETY: the list is valid and has `cnt` elements.
    let raw = unsafe {
        let list = &*list.ptr();
        if list.elems.is_null() {
            return Vec::new();
        }
        slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
    };
    raw.iter()
        .map(|element| {
            // SAFETY: topic is a C string; metadata and its size belong together.
            let (topic, metadata) = unsafe {
                (
                    text(element.topic),
                    bytes(element.metadata, element.metadata_size),
                )
            };
            let failed = element.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            Element {
                topic,
                partition: element.partition,
                offset: element.offset,
                metadata: String::from_utf8_lossy(metadata.unwrap_or_default()).into_owned(),
                error: failed.then(|| element.err.into()),
            }
        })
        .collect()
}

/// The ids of these topics as base64, as far as the brokers tell them in time.
pub fn topic_ids(
    consumer: &Consumer,
    names: &[String],
    timeout: Duration,
) -> BTreeMap<String, String> {
    use rdkafka::consumer::Consumer as _;
    let names: Vec<CString> = names
        .iter()
        .filter_map(|name| CString::new(name.as_str()).ok())
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let client = consumer.client().native_ptr();
    let mut ids = BTreeMap::new();
    // SAFETY: the client is alive; every object made here is destroyed here, in
    // the reverse order; the names outlive the call that copies them.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let topics =
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = rd::rd_kafka_AdminOptions_new(
            client,
            rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut reason = [0; 256];
        rd::rd_kafka_AdminOptions_set_request_timeout(
            options,
            millis(timeout),
            reason.as_mut_ptr(),
            reason.len(),
        );
        rd::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, millis(timeout + Duration::from_millis(100)));
        if !event.is_null() {
            let result = rd::rd_kafka_event_DescribeTopics_result(event);
            if !result.is_null() {
                read_ids(result, &mut ids);
            }
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_AdminOptions_destroy(options);
        rd::rd_kafka_TopicCollection_destroy(topics);
        rd::rd_kafka_queue_destroy(queue);
    }
    ids
}

/// SAFETY: `result` must be valid.
unsafe fn read_ids(
    result: *const rd::rd_kafka_DescribeTopics_result_t,
    ids: &mut BTreeMap<String, String>,
) {
    let mut count = 0;
    // SAFETY: the descriptions and what hangs on them live with the result.
    unsafe {
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let topic = *topics.add(index);
            let error = rd::rd_kafka_TopicDescription_error(topic);
            let id = rd::rd_kafka_TopicDescription_topic_id(topic);
            let failed = !error.is_null()
                && rd::rd_kafka_error_code(error) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            let unknown = id.is_null()
                || (rd::rd_kafka_Uuid_most_significant_bits(id) == 0
                    && rd::rd_kafka_Uuid_least_significant_bits(id) == 0);
            if failed || unknown {
                continue;
            }
            let name = text(rd::rd_kafka_TopicDescription_name(topic));
            ids.insert(name, text(rd::rd_kafka_Uuid_base64str(id)));
        }
    }
}

/// SAFETY: `at` must be null or a C string.
unsafe fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}

/// Ends the process at once: without what runs at a usual end, which could wait
/// for a hung thread or be met half done by threads that go on.
pub fn end_process(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: every C library has it, and it takes any code.
    unsafe { _exit(c_int::from(code)) }
}

fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}
