//! `ringback check-config`: reports every mistake in settings and tenants.
//! Connects to nothing without `--connect`. Runs on the main thread.

use super::{Exit, print, property_mistakes, refuse, warn};
use crate::cli::CheckConfigArgs;
use crate::config::mistake::Warning;
use crate::config::settings::Settings;
use crate::config::{self, Configured};
use crate::kafka::admin::check::{self, CheckVerdict};
use crate::service::kafka_settings;

/// Runs the checks. `warnings` are those about the environment.
#[must_use]
pub fn run(args: &CheckConfigArgs, warnings: &[Warning]) -> Exit {
    warn(warnings);
    let Configured { read, tenants } = match config::load(&args.settings, property_mistakes) {
        Ok(configured) => configured,
        Err(mistakes) => return refuse(&mistakes),
    };
    warn(&read.warnings);
    for (setting, value) in &read.effective {
        print(format_args!("{setting} = {value}"));
    }
    let tenants = tenants.in_force();
    let enabled = tenants.iter().filter(|tenant| tenant.enabled).count();
    print(format_args!("{} tenants, {enabled} enabled", tenants.len()));
    if args.connect {
        connect(&read.settings)
    } else {
        Exit::Done
    }
}

/// Checks the brokers and the topics. Wrong topics end this command with the same
/// exit code as `run`.
fn connect(settings: &Settings) -> Exit {
    let findings = check::check(&kafka_settings(&settings.cluster, &settings.schedule));
    for finding in &findings {
        let verdict = match finding.verdict {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Warning => "warning",
            CheckVerdict::Wrong => "wrong",
        };
        print(format_args!("{verdict}: {}", finding.text));
    }
    if findings
        .iter()
        .any(|finding| finding.verdict == CheckVerdict::Wrong)
    {
        Exit::WrongSettings
    } else {
        Exit::Done
    }
}
