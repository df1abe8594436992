//! `ringback topics list|create`: the topics that the settings need.

use super::Exit;
use crate::cli::Topics;
use crate::config::settings::PropertyRule;

/// Lists or makes.
#[must_use]
pub fn run(_given: &Topics, _rule: PropertyRule) -> Exit {
    Exit::Fault
}
