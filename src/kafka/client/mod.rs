//! What the other Kafka modules need of librdkafka beyond the rdkafka crate:
//! missing calls, conversions, log callbacks, a wait for reports and a waker. Never holds state of a
//! session. All unsafe code of the Kafka shell is in this folder.

pub mod brokers;
pub mod convert;
pub mod ffi;
pub mod log;
pub mod offsets;
pub mod queue;
pub mod reports;
pub mod rights;
pub mod wake;
