//! `ringback check-config`: reports every mistake in settings and tenants, and
//! connects to nothing unless asked.

use super::{Exit, print, refuse, warn};
use crate::cli::CheckConfigGiven;
use crate::config;
use crate::config::settings::PropertyRule;

/// Checks; `variables` are the warnings about the environment.
#[must_use]
pub fn run(
    given: &CheckConfigGiven,
    rule: PropertyRule,
    variables: &[config::mistake::Warning],
) -> Exit {
    warn(variables);
    let configured = match config::load(&given.run, rule) {
        Ok(configured) => configured,
        Err(mistakes) => return refuse(&mistakes),
    };
    warn(&configured.warnings);
    for (name, value) in configured.settings.effective() {
        print(format_args!("{name} = {value}"));
    }
    print(format_args!(
        "{} tenants",
        configured.tenants.in_force().len()
    ));
    Exit::Done
}
