//! The shell for prometheus and tracing: facts become metrics and log lines.
//! Never decides anything, never sees a record's body.

pub mod facts;
pub mod logging;
pub mod metrics;

pub use facts::Telemetry;
pub use metrics::Metrics;
