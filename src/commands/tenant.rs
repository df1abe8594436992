//! `ringback tenant …`: what the tenants' settings are, and whether their URLs can
//! work. Never shows a secret, a header's value or a URL's query. Only [`write`] writes.
//! Runs on the main thread.

mod list;
mod write;

use super::{Exit, property_mistakes, read_topic, refuse, say, topic_fault, warn};
use crate::cli::tenant::TenantCommand;
use crate::config::mistake::Warning;
use crate::config::setting::Typed;
use crate::config::settings::Settings;
use crate::config::{self, ConfiguredTenants};
use crate::http::address_guard::{AddressGuard, Networks, Resolves};
use crate::http::names::Names;
use crate::model::tenant::{Tenant, TenantId, Tenants};
use crate::service::kafka_settings;
use reqwest::Url;
use std::io;
use std::sync::Arc;

/// Runs one of the commands.
#[must_use]
pub fn run(command: &TenantCommand) -> Exit {
    match command {
        TenantCommand::List(args) => with_tenants(&args.settings, |settings, tenants| {
            list::list(&guard(settings), tenants, args.output)
        }),
        TenantCommand::Show(args) => with_tenants(&args.settings, |settings, tenants| {
            match find(tenants, &args.tenant) {
                Some(tenant) => list::show(&guard(settings), tenant, args),
                None => unknown(&args.tenant),
            }
        }),
        TenantCommand::Set(args) => write::set(args),
        TenantCommand::Remove(args) => write::remove(args),
        TenantCommand::Import(args) => write::import(args),
    }
}

/// Runs a command on the tenants, or prints the mistakes in them.
fn with_tenants(typed: &Typed, command: impl FnOnce(&Settings, &Tenants) -> Exit) -> Exit {
    let (settings, tenants) = match config::load_tenants(typed, property_mistakes) {
        Ok(loaded) => loaded,
        Err(mistakes) => return refuse(&mistakes),
    };
    let mut topic = match tenants {
        ConfiguredTenants::Files(watch) => return command(&settings, watch.in_force()),
        ConfiguredTenants::Topic(topic) => topic,
    };
    let kafka = kafka_settings(&settings.cluster, &settings.schedule);
    if let Err(error) = read_topic(&kafka, &mut topic) {
        return topic_fault(&error);
    }
    let refused = topic.refused();
    let refused: Vec<Warning> = (refused.iter())
        .map(|entry| Warning(format!("refused entry: {}", entry.mistake)))
        .collect();
    warn(&refused);
    command(&settings, topic.tenants())
}

fn find<'a>(tenants: &'a Tenants, id: &str) -> Option<&'a Arc<Tenant>> {
    tenants.get(&TenantId::new(id).ok()?)
}

/// Says that a tenant is not listed.
fn unknown(id: &str) -> Exit {
    let id: String = id.chars().take(TenantId::BYTES_MAX).collect();
    let text = format!("ringback: no tenant {id:?} is listed\n");
    say(&mut io::stderr(), &text);
    Exit::NothingMatched
}

/// Returns a guard with the rules of the service.
fn guard(settings: &Settings) -> AddressGuard {
    let names = Arc::new(Names::new(settings.timeout));
    let networks = Networks {
        allowed: settings.allow_networks.clone(),
        denied: settings.deny_networks.clone(),
    };
    AddressGuard::new(networks, names, Resolves::Receivers)
}

fn url(tenant: &Tenant) -> Url {
    Url::parse(&tenant.url.0).expect("config has checked the URL")
}
