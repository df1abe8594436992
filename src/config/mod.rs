//! The shell for settings and the tenants file: the only reader of environment
//! and files. Everything is parsed before anything is opened, and all mistakes
//! are reported together. Never opens a socket or decides about a record. Runs
//! on the main thread at start. The thread `tenants` calls [`watch::TenantsWatch`].

pub mod definitions;
pub mod environment;
pub mod mistake;
pub mod name_files;
pub mod properties;
mod rules;
pub mod setting;
pub mod settings;
pub mod tenants;
pub mod values;
pub mod watch;

use crate::model::tenant::Tenants;
use definitions::{ALLOW_NO_TENANTS, TENANTS};
use mistake::{Mistake, both};
use properties::PropertyRule;
use setting::Typed;
use settings::{ReadSettings, Settings};
use std::sync::Arc;
use values::NoTenants;
use watch::TenantsWatch;

/// The settings and the tenants of `run`.
#[derive(Debug)]
pub struct Configured {
    pub read: ReadSettings,
    pub tenants: TenantsWatch,
}

/// Reads the settings and the tenants file.
///
/// # Errors
/// Every mistake in both.
pub fn load(typed: &Typed, rule: PropertyRule) -> Result<Configured, Vec<Mistake>> {
    let tenants = TenantsWatch::start(settings::tenants_path(typed));
    let (read, tenants) = both(settings::read(typed, rule), tenants)?;
    if read.settings.no_tenants == NoTenants::Refused
        && !tenants.in_force().iter().any(|tenant| tenant.enabled)
    {
        let text = format!(
            "no tenant of '{}' is enabled, so every record would be skipped for good: \
             enable one, or set {}",
            settings::tenants_path(typed).display(),
            setting::name(&ALLOW_NO_TENANTS)
        );
        return Err(vec![Mistake::new(setting::name(&TENANTS), text)]);
    }
    Ok(Configured { read, tenants })
}

/// Reads the settings of callbacks and the tenants, for the `tenant` commands.
///
/// # Errors
/// Every mistake in both.
pub fn load_tenants(
    typed: &Typed,
    rule: PropertyRule,
) -> Result<(Settings, Arc<Tenants>), Vec<Mistake>> {
    let tenants = TenantsWatch::start(settings::tenants_path(typed));
    let (settings, tenants) = both(settings::read_callbacks(typed, rule), tenants)?;
    Ok((settings, Arc::clone(tenants.in_force())))
}
