//! Chaos: real replicas of ringback on a real Kafka are killed, stopped,
//! drained and cut off by a seed, the brokers too, while records are published;
//! then the ledger says what became of every one.

pub mod arguments;
pub mod driver;
pub mod ledger;
pub mod plan;
pub mod receiver;
pub mod records;
pub mod report;
pub mod world;
