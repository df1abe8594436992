//! `ringback check-config`: reports every mistake in settings and tenants, and
//! connects to nothing unless asked.

use super::{Exit, kafka_settings, print, refuse, warn};
use crate::cli::CheckConfigArgs;
use crate::config;
use crate::config::settings::{PropertyRule, Settings};
use crate::kafka::check::{self, Level};

/// Checks; `variables` are the warnings about the environment.
#[must_use]
pub fn run(
    given: &CheckConfigArgs,
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
    let tenants = configured.tenants.in_force();
    let enabled = tenants.iter().filter(|tenant| tenant.enabled).count();
    print(format_args!("{} tenants, {enabled} enabled", tenants.len()));
    if given.connect {
        connect(&configured.settings)
    } else {
        Exit::Done
    }
}

/// What is wrong with the topics would end the start of the service, so it ends
/// this command in the same way.
fn connect(settings: &Settings) -> Exit {
    let lines = check::check(&kafka_settings(&settings.cluster, &settings.schedule));
    for line in &lines {
        let level = match line.level {
            Level::Fine => "fine",
            Level::Warning => "warning",
            Level::Wrong => "wrong",
        };
        print(format_args!("{level}: {}", line.text));
    }
    if lines.iter().any(|line| line.level == Level::Wrong) {
        Exit::WrongSettings
    } else {
        Exit::Done
    }
}
