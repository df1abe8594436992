//! Plain values that are checked when they are made. They use std, serde,
//! serde_json and bytes; never IO, clocks, locks or another module of the crate.
//! Any thread may use them.

pub mod attempt;
pub mod attempt_log;
pub mod broker;
pub mod call;
pub mod destination;
pub mod disposition;
pub mod fact;
pub mod headers;
pub mod host_name;
pub mod job;
pub mod log_levels;
pub mod message;
pub(crate) mod named_enum;
pub mod overview;
pub mod position;
pub mod record;
pub mod schedule;
pub mod tenant;
pub mod time;
