//! Queues of partitions and their messages, over librdkafka's functions. The
//! rdkafka crate's poll drops the offset of an end of partition and costs more
//! for each message. Used by the consumer thread, and by commands that scan; the
//! signal is set by librdkafka's threads.

use super::ffi::bytes;
use super::wake::Waker;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set by librdkafka's threads when a queue is no longer empty.
struct Signal {
    nonempty: AtomicBool,
    waker: Arc<Waker>,
}

/// What a poll leaves in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polled {
    Emptied,
    MayHoldMore,
}

/// The separate queue of one partition.
pub struct PartitionQueue<C: ConsumerContext> {
    queue: *mut rd::rd_kafka_queue_t,
    signal: Arc<Signal>,
    /// Keeps the client alive while its queue exists.
    _consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// Separates the partition's queue from the consumer's queue. Must run
    /// before the partition is assigned, so that no record reaches the
    /// consumer's queue.
    pub fn split(
        consumer: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: i32,
        waker: &Arc<Waker>,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive, and the name is a C string. This queue
        // belongs to us until rd_kafka_queue_destroy.
        let queue = unsafe { rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        if queue.is_null() {
            return None;
        }
        let signal = Arc::new(Signal {
            nonempty: AtomicBool::new(true),
            waker: Arc::clone(waker),
        });
        // SAFETY: the queue is valid. The signal outlives the callback: `drop`
        // removes the callback first, under the queue's lock.
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

    /// Returns whether messages may have come since the last call.
    pub fn take_nonempty(&self) -> bool {
        self.signal.nonempty.swap(false, Ordering::AcqRel)
    }

    /// Notes that the queue still holds messages.
    pub fn mark_nonempty(&self) {
        self.signal.nonempty.store(true, Ordering::Release);
    }

    /// Takes up to `max` messages in their order, without waiting, until `each` breaks.
    ///
    /// Takes them one by one: `rd_kafka_consume_batch_queue` counts an end of
    /// partition as a message. After the next rebalance librdkafka then resumes
    /// one record too far, and that record is never seen.
    pub fn poll(&self, max: usize, mut each: impl FnMut(&RawMessage) -> ControlFlow<()>) -> Polled {
        for _ in 0..max {
            // SAFETY: the queue is valid, and the message belongs to us.
            let message = unsafe { rd::rd_kafka_consume_queue(self.queue, 0) };
            if message.is_null() {
                return Polled::Emptied;
            }
            if each(&RawMessage(message)).is_break() {
                break;
            }
        }
        Polled::MayHoldMore
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is valid. Once the callback is removed, librdkafka
        // holds no pointer to the signal.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.queue);
        }
    }
}

unsafe extern "C" fn nonempty(_: *mut rd::rd_kafka_t, signal: *mut c_void) {
    // SAFETY: `split` passed a pointer to a Signal that stays valid until the
    // callback is removed.
    let signal = unsafe { &*signal.cast_const().cast::<Signal>() };
    signal.nonempty.store(true, Ordering::Release);
    signal.waker.wake();
}

/// One queue for the records of several partitions of a consumer.
///
/// Its length is the fill of each of these partitions, so librdkafka's limits of a
/// partition's queue hold for all of them together.
pub struct SharedQueue<C: ConsumerContext> {
    queue: *mut rd::rd_kafka_queue_t,
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> SharedQueue<C> {
    /// Returns an empty queue.
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Self {
        // SAFETY: the client is alive. The queue belongs to us until `drop`.
        let queue = unsafe { rd::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self { queue, consumer }
    }

    /// Leads a partition's records into this queue. Must run before the partition
    /// is assigned. A name with a NUL is no topic, and is ignored.
    pub fn take_in(&self, topic: &str, partition: i32) {
        self.forward(topic, partition, self.queue);
    }

    /// Ends [`SharedQueue::take_in`]. Each partition must be released before the
    /// queue is dropped.
    pub fn release(&self, topic: &str, partition: i32) {
        self.forward(topic, partition, ptr::null_mut());
    }

    fn forward(&self, topic: &str, partition: i32, to: *mut rd::rd_kafka_queue_t) {
        let Ok(topic) = CString::new(topic) else {
            return;
        };
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client is alive, and the name is a C string. The reference to
        // the partition's queue is released; the partition keeps its queue.
        unsafe {
            let queue = rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            if !queue.is_null() {
                rd::rd_kafka_queue_forward(queue, to);
                rd::rd_kafka_queue_destroy(queue);
            }
        }
    }

    /// Returns the next message or error, or `None` after `wait`. The message must
    /// be dropped before the consumer.
    pub fn next(&self, wait: Duration) -> Option<RawMessage> {
        let wait = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is valid, and the message belongs to us.
        let message = unsafe { rd::rd_kafka_consume_queue(self.queue, wait) };
        (!message.is_null()).then(|| RawMessage(message))
    }
}

impl<C: ConsumerContext> Drop for SharedQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is valid and not used again.
        unsafe { rd::rd_kafka_queue_destroy(self.queue) };
    }
}

/// A message or an error of a partition's queue; destroyed when dropped.
pub struct RawMessage(*mut rd::rd_kafka_message_t);

impl RawMessage {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the message is valid and belongs to us until it is destroyed.
        unsafe { &*self.0 }
    }

    /// Returns the error, or `None` for a record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let err = self.raw().err;
        (err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| err.into())
    }

    /// Returns an address that only messages of the same topic share.
    pub fn topic_address(&self) -> usize {
        self.raw().rkt.addr()
    }

    /// Returns the name of the topic.
    pub fn topic(&self) -> String {
        // SAFETY: the message keeps its topic, whose name is a C string.
        let name = unsafe {
            let topic = self.raw().rkt;
            (!topic.is_null()).then(|| CStr::from_ptr(rd::rd_kafka_topic_name(topic)))
        };
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Returns the number of the partition.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Returns the record's offset, or the end offset of an end of partition.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Returns the timestamp in milliseconds since the epoch, or -1.
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        unsafe { rd::rd_kafka_message_timestamp(self.0, &raw mut kind) }
    }

    /// Returns the key, if there is one.
    pub fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: key and key_len describe memory of the message.
        unsafe { bytes(raw.key, raw.key_len) }
    }

    /// Returns the value, if there is one.
    pub fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: payload and len describe memory of the message.
        unsafe { bytes(raw.payload, raw.len) }
    }

    /// Calls `each` with the headers in their order.
    pub fn for_each_header(&self, mut each: impl FnMut(&CStr, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid and keeps its headers.
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
        // SAFETY: the message belongs to us and is not used again.
        unsafe { rd::rd_kafka_message_destroy(self.0) };
    }
}
