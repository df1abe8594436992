//! What the commands that read know about a record in a topic, and which records
//! they select. Pure: never reads Kafka, a clock or a file, and prints nothing.

pub mod attempts;
pub mod conclusion;
pub mod export_line;
pub mod filter;
pub mod found;
pub mod group_state;

pub use filter::{Filter, Selection};
pub use found::{FoundRecord, RecordPlace};
