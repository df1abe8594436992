//! The shell for reqwest: sends attempts and returns their outcomes. Never decides
//! what follows from an outcome. Runs on the runtimes of attempts.

pub mod address_guard;
pub mod callback;
pub mod class;
mod clients;
mod head;
pub mod names;
pub mod pool;
mod post;
pub mod probe;
mod proxy_fault;
mod reachable;
mod settings;
pub mod signature;
mod tls;
mod tls_words;
pub mod url_check;
