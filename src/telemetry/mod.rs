//! The shell for prometheus and tracing: facts become metrics and log lines.
//! Never decides anything, never sees the body of a record. Each file says on
//! which thread it runs.

pub mod facts;
mod gauges;
mod log_limit;
pub mod logging;
pub mod metrics;
mod registry;
mod skips;

pub use facts::Telemetry;
pub use gauges::TenantCounts;
pub use metrics::Metrics;
pub use registry::{MetricDefinition, MetricKind};
