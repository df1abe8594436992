//! The shell for settings and the tenants file: the only reader of environment
//! and files. Everything is parsed before anything is opened, and all mistakes
//! are reported together. Never opens a socket or decides about a record. Runs
//! on the main thread at start. The thread `tenants` calls [`watch::TenantsWatch`].

pub mod certificates;
pub mod definitions;
pub mod environment;
mod file_watch;
pub mod kafka_files;
pub mod mistake;
pub mod moments;
pub mod name_files;
pub mod properties;
mod rules;
pub mod setting;
pub mod settings;
pub mod tenant_entry;
mod tenant_files;
pub mod tenants;
pub mod topic_tenants;
pub mod values;
pub mod watch;

use crate::model::tenant::Tenant;
use definitions::{ALLOW_NO_TENANTS, TENANTS};
use mistake::{Mistake, both};
use properties::PropertyRule;
use setting::Typed;
use settings::{ReadSettings, Settings};
use std::path::Path;
use tenants::TenantRules;
use topic_tenants::TopicTenants;
use values::{NoTenants, TenantsPlace};
use watch::TenantsWatch;

const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// The tenant of the contract's example.
const EXAMPLE_TENANT: &str = "87462158132343186600590049";

/// The settings and the tenants of `run`.
#[derive(Debug)]
pub struct Configured {
    pub read: ReadSettings,
    pub tenants: ConfiguredTenants,
}

/// The tenants of `run`.
#[derive(Debug)]
pub enum ConfiguredTenants {
    /// They are loaded.
    Files(TenantsWatch),
    /// The topic was not read yet.
    Topic(TopicTenants),
}

/// Reads the settings, and the tenants if they are in files.
///
/// # Errors
/// Every mistake in both.
pub fn load(typed: &Typed, rule: PropertyRule) -> Result<Configured, Vec<Mistake>> {
    let read = settings::read(typed, rule);
    let settings = read.as_ref().ok().map(|read| &read.settings);
    let no_tenants = settings.map_or(NoTenants::Refused, |settings| settings.no_tenants);
    let tenants = tenants(typed, settings);
    let (read, tenants) = both(read, tenants)?;
    if let ConfiguredTenants::Files(watch) = &tenants
        && no_tenants == NoTenants::Refused
        && watch.in_force().enabled() == 0
    {
        let place = settings::read_tenants_place(typed)?.to_string();
        return Err(vec![no_tenant_is_enabled(&place)]);
    }
    Ok(Configured { read, tenants })
}

/// Reads the settings of callbacks, and the tenants if they are in files, for the
/// `tenant` commands.
///
/// # Errors
/// Every mistake in both.
pub fn load_tenants(
    typed: &Typed,
    rule: PropertyRule,
) -> Result<(Settings, ConfiguredTenants), Vec<Mistake>> {
    let settings = settings::read_callbacks(typed, rule);
    let tenants = tenants(typed, settings.as_ref().ok());
    both(settings, tenants)
}

/// Reads the tenants. A wrong place is a mistake in the settings too.
fn tenants(typed: &Typed, settings: Option<&Settings>) -> Result<ConfiguredTenants, Vec<Mistake>> {
    let rules = settings.map(Settings::tenant_rules).unwrap_or_default();
    match settings::read_tenants_place(typed) {
        // The reader of the settings has reported it.
        Err(_) => Err(Vec::new()),
        Ok(TenantsPlace::Files(path)) => {
            TenantsWatch::start(&path, rules).map(ConfiguredTenants::Files)
        }
        Ok(TenantsPlace::Topic(topic)) => {
            let no_tenants = settings.map_or(NoTenants::Refused, |settings| settings.no_tenants);
            let tenants = TopicTenants::new(topic, rules, no_tenants);
            Ok(ConfiguredTenants::Topic(tenants))
        }
    }
}

fn no_tenant_is_enabled(place: &str) -> Mistake {
    let text = format!(
        "no tenant of '{place}' is enabled, so every record would be skipped for good: enable \
         one, or set {}",
        setting::name(&ALLOW_NO_TENANTS)
    );
    Mistake::new(setting::name(&TENANTS), text)
}

/// Returns a tenant with this URL and the secrets in a file, one per line. It is
/// checked as an entry of the tenants.
///
/// # Errors
/// Every mistake.
pub fn tenant_at(
    url: &str,
    secret_file: Option<&Path>,
    rules: TenantRules,
) -> Result<Tenant, Vec<Mistake>> {
    let read = |path| environment::read_file(path, SECRET_FILE_BYTES_MAX);
    let secrets = secret_file.map(read).transpose();
    let secrets = secrets.map_err(|text| vec![Mistake::new("--secret-file", text)])?;
    let secrets = secrets.unwrap_or_default();
    let secrets = String::from_utf8_lossy(&secrets);
    let secrets = secrets.lines().map(str::trim);
    let secrets: Vec<&str> = secrets.filter(|line| !line.is_empty()).collect();
    let entry = serde_json::json!({ "url": url, "secrets": secrets });
    tenants::parse_entry(EXAMPLE_TENANT, entry.to_string().as_bytes(), rules)
}
