//! What the integration tests stand on: a real broker, real processes,
//! scripted receivers, and the ledger that checks the promises.

pub mod broker;
pub mod browser;
pub mod cluster;
#[allow(dead_code, reason = "each test program uses a part")]
pub mod dashboards;
pub mod dead_letters;
pub mod delay_line;
pub mod dns;
pub mod documents;
pub mod hold;
pub mod http;
pub mod http_parts;
#[allow(dead_code, reason = "each test program uses a part")]
pub mod jobs;
#[allow(dead_code, reason = "each test program uses a part")]
pub mod json_schema;
pub mod kafka_version;
pub mod lateness;
pub mod ledger;
pub mod metrics;
#[allow(dead_code, reason = "each test program uses a part")]
pub mod monitoring;
pub mod ports;
pub mod process;
#[allow(dead_code, reason = "each test program uses a part")]
pub mod proxy;
pub mod publisher;
pub mod receiver;
pub mod relay;
pub mod ringback;
pub mod sample;
pub mod scene;
pub mod tls;
pub mod wait;
pub mod workspace;
