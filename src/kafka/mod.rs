//! The Kafka shell: carries out requests, reports events, and decides nothing.
//!
//! A [`Session`] is one consumer with one transactional producer. The runner
//! spawns its four threads. `kafka-consumer` owns the consumer and polls it.
//! `kafka-commit` commits offsets and waits for the answers. `kafka-move` makes
//! the transactional calls, which may hang. `kafka-read` reads committed maps and
//! log bounds, which may wait for another replica's transaction. The watchdog
//! times the calls of each thread.
//!
//! Imports go one way: `session` -> `transaction` -> `group` -> `inbox` and
//! `session_state` -> `sessions` and `leaders` -> `client` and `call_monitor`. `admin`,
//! `attempt_log`, `job` and `publish` use `client` only; `scan` and `tenants_topic` use `admin` too.
//! `client_check` uses no other part.

pub mod admin;
pub mod attempt_log;
mod call_monitor;
mod client;
pub mod client_check;
pub mod current;
mod group;
mod inbox;
pub mod job;
mod leaders;
pub mod publish;
pub mod scan;
mod session;
mod session_state;
mod sessions;
pub mod settings;
pub mod tenants_topic;
mod transaction;
mod watchdog;

pub use session::{Job, Session, end_process, start, watch};
pub use sessions::Sessions;
pub use watchdog::WatchdogEvent;
