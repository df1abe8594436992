//! The shell for reqwest: sends attempts and says how they ended. Never
//! decides what follows from that.

pub mod address_guard;
pub mod callback;
pub mod class;
mod head;
pub mod kept;
pub mod names;
mod reachable;
pub mod signature;
