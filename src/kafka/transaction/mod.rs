//! The transaction side of a session: the transactional producer, the moves, and
//! the clearing of open transactions. Never reads records. Runs on the
//! transaction thread, because librdkafka can hang in transactional calls
//! (librdkafka#5456, #5511).

mod clearing;
mod moves;
mod producer;
mod refusals;
pub mod thread;
mod topics;

pub use thread::TransactionShared;
