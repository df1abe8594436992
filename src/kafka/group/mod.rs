//! The group side of a session: the consumer, offset commits and reads of the
//! committed state. Never produces records. One thread each for consumer,
//! committer and reader.

pub mod committer;
pub mod consumer;
mod context;
mod coordinator;
mod log_bounds;
pub mod metadata;
pub mod reader;
mod shared;
mod unassigned;

pub use shared::GroupShared;
