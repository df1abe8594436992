//! The shell for prometheus and tracing: facts become metrics and log lines.
//! Never decides anything, never sees a record's body.

pub mod facts;
mod gauges;
mod log_limit;
pub mod logging;
mod maker;
pub mod metrics;

pub use facts::Telemetry;
pub use gauges::TenantCounts;
pub use metrics::Metrics;
