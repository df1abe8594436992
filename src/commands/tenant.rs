//! `ringback tenant …`: what the tenants' settings are, and whether their URLs can
//! work. Never shows a secret, a header's value or a URL's query. Only [`write`] writes.
//! Runs on the main thread.

mod check;
mod list;
mod test;
mod write;

use super::{Exit, property_mistakes, read_topic, refuse, say, topic_fault, warn};
use crate::cli::tenant::TenantCommand;
use crate::config::mistake::Warning;
use crate::config::name_files::{NameFiles, NameFilesContent};
use crate::config::setting::Typed;
use crate::config::settings::Settings;
use crate::config::{self, ConfiguredTenants};
use crate::http::address_guard::AddressGuard;
use crate::http::callback::HttpSettings;
use crate::http::names::Names;
use crate::kafka::settings::ClusterKind;
use crate::model::tenant::{Tenant, TenantId, Tenants};
use crate::service::{http_settings, kafka_settings};
use reqwest::Url;
use std::io;
use std::sync::Arc;

/// Runs one of the commands.
#[must_use]
pub fn run(command: &TenantCommand) -> Exit {
    match command {
        TenantCommand::List(args) => with_tenants(&args.settings, |settings, tenants| {
            list::list(&HttpFacts::new(settings).guard, tenants, args.output)
        }),
        TenantCommand::Show(args) => with_tenants(&args.settings, |settings, tenants| {
            match find(tenants, &args.tenant) {
                Some(tenant) => list::show(&HttpFacts::new(settings).guard, tenant, args),
                None => unknown(&args.tenant),
            }
        }),
        TenantCommand::Set(args) => write::set(args),
        TenantCommand::Remove(args) => write::remove(args),
        TenantCommand::Import(args) => write::import(args),
        TenantCommand::Check(args) => with_tenants(&args.settings, |settings, tenants| {
            check::check(&HttpFacts::new(settings), tenants, args)
        }),
        TenantCommand::Test(args) => test::test(args),
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

/// How the service sends attempts.
struct HttpFacts {
    settings: HttpSettings,
    files: NameFilesContent,
    names: Arc<Names>,
    guard: AddressGuard,
}

impl HttpFacts {
    fn new(settings: &Settings) -> Self {
        let settings = http_settings(settings, ClusterKind::Brokers);
        let files = NameFiles::default().check();
        let files = files.expect("the first check returns the content");
        let names = Arc::new(Names::new(settings.timeout));
        names.look_in(&files.resolv_conf, &files.hosts);
        Self {
            guard: settings.guard(Arc::clone(&names)),
            settings,
            files,
            names,
        }
    }
}

fn url(tenant: &Tenant) -> Url {
    Url::parse(&tenant.url.0).expect("config has checked the URL")
}
