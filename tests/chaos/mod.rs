//! Chaos: a seed kills, stops, drains and cuts off real replicas of ringback on a
//! real Kafka, and the brokers too, while records are published. Then the ledger
//! accounts for every record.

pub mod arguments;
pub mod driver;
pub mod latency;
pub mod ledger;
pub mod plan;
pub mod receiver;
pub mod records;
pub mod report;
pub mod surroundings;
pub mod world;
