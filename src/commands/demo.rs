//! `ringback demo`: runs [`crate::demo`]. Runs on the main thread.

use super::{Exit, fault};
use crate::demo;

/// Runs the demo to its end.
#[must_use]
pub fn run() -> Exit {
    match demo::run() {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Fault,
        Err(error) => fault(error.as_ref()),
    }
}
