//! The shell for settings and the tenants file: the only reader of environment
//! and files. Everything is parsed before anything is opened, and every mistake
//! is reported at once. Never a socket, never a decision about a record. Runs
//! on the main thread at start; [`watch::TenantsWatch`] wherever the runner
//! calls it.

pub mod args;
pub mod environment;
mod laws;
pub mod mistake;
pub mod name_files;
mod properties;
pub mod settings;
pub mod tenants;
mod values;
pub mod watch;

use args::RunArgs;
use mistake::{Mistake, Warning};
use settings::{PropertyRule, Settings};
use watch::TenantsWatch;

/// All that `run` needs: its settings, the tenants in force, and what to warn about.
#[derive(Debug)]
pub struct Configured {
    /// The settings.
    pub settings: Settings,
    /// The tenants file, loaded once.
    pub tenants: TenantsWatch,
    /// What is allowed, but is probably not meant.
    pub warnings: Vec<Warning>,
}

/// Reads the settings and the tenants file.
///
/// Errors: every mistake in both.
pub fn load(given: &RunArgs, rule: PropertyRule) -> Result<Configured, Vec<Mistake>> {
    let tenants = TenantsWatch::start(given.tenants.as_ref());
    match (settings::read(given, rule), tenants) {
        (Ok((settings, warnings)), Ok(tenants)) => Ok(Configured {
            settings,
            tenants,
            warnings,
        }),
        (settings, tenants) => {
            let mut mistakes = settings.err().unwrap_or_default();
            mistakes.extend(tenants.err().unwrap_or_default());
            Err(mistakes)
        }
    }
}
