//! `tenant check`: warns about URLs that cannot work or are not safe. It looks
//! names up as the service does, and connects to no receiver.

use super::{HttpFacts, find, unknown, url};
use crate::cli::output::OutputFormat;
use crate::cli::tenant::TenantCheckArgs;
use crate::commands::table::aligned;
use crate::commands::{fault, say};
use crate::exit::Exit;
use crate::http::names::{Names, Unresolved};
use crate::http::url_check::{self, UrlWarning, UrlWarningKind, literal};
use crate::model::tenant::{Tenant, Tenants};
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The maximum number of lookups at once. Each has up to four sockets.
const LOOKUPS_MAX: usize = 64;

/// The answers to lookups, by host name.
type Answers = BTreeMap<String, Result<Vec<IpAddr>, Unresolved>>;

/// Checks these tenants, or all.
pub fn check(facts: &HttpFacts, tenants: &Tenants, args: &TenantCheckArgs) -> Exit {
    let mut chosen: Vec<&Arc<Tenant>> = Vec::new();
    for id in &args.ids {
        match find(tenants, id) {
            Some(tenant) => chosen.push(tenant),
            None => return unknown(id),
        }
    }
    if args.ids.is_empty() {
        chosen.extend(tenants.iter());
    }
    chosen.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let hosts = chosen.iter().filter_map(|tenant| host_to_look_up(tenant));
    let answers = if facts.settings.proxy.is_some() {
        let text = "ringback: the egress proxy resolves names: none is looked up here\n";
        say(&mut io::stderr(), text);
        Answers::new()
    } else {
        match look_up(&facts.names, hosts.collect()) {
            Ok(answers) => answers,
            Err(error) => return fault(&error),
        }
    };
    let mut faulty = 0;
    let mut found: Vec<(&Tenant, UrlWarning)> = Vec::new();
    for tenant in &chosen {
        let warnings = warnings(facts, tenant, &answers);
        faulty += usize::from(!warnings.is_empty());
        found.extend(
            warnings
                .into_iter()
                .map(|warning| (tenant.as_ref(), warning)),
        );
    }
    print_all(&found, args.output);
    let text = format!("{} checked, {faulty} with warnings\n", chosen.len());
    say(&mut io::stderr(), &text);
    if faulty == 0 { Exit::Done } else { Exit::Fault }
}

fn host_to_look_up(tenant: &Tenant) -> Option<String> {
    let url = url(tenant);
    match literal(&url) {
        Some(_) => None,
        None => url.host_str().map(str::to_owned),
    }
}

/// Looks each name up once.
fn look_up(names: &Arc<Names>, mut hosts: Vec<String>) -> io::Result<Answers> {
    hosts.sort_unstable();
    hosts.dedup();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let mut answers = Answers::new();
        let mut running = JoinSet::new();
        for host in hosts {
            if running.len() >= LOOKUPS_MAX {
                answers.extend(running.join_next().await.and_then(Result::ok));
            }
            let names = Arc::clone(names);
            running.spawn(async move {
                let answer = names.look_up(&host).await;
                (host, answer)
            });
        }
        while let Some(ended) = running.join_next().await {
            answers.extend(ended.ok());
        }
        answers
    }))
}

fn warnings(facts: &HttpFacts, tenant: &Tenant, answers: &Answers) -> Vec<UrlWarning> {
    let url = url(tenant);
    let mut found = url_check::warnings(&url, &facts.guard);
    let host = url.host_str().unwrap_or_default();
    match answers.get(host) {
        Some(Err(why)) => {
            let text = format!("the name '{host}' does not resolve: {why}");
            found.push(UrlWarning::new(UrlWarningKind::Unresolved, text));
        }
        Some(Ok(addresses)) if !addresses.iter().any(|a| facts.guard.permitted(*a)) => {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            let addresses = addresses.join(", ");
            let text = format!("'{host}' resolves to addresses that are refused: {addresses}");
            found.push(UrlWarning::new(UrlWarningKind::RefusedName, text));
        }
        Some(Ok(_)) | None => {}
    }
    found
}

fn print_all(found: &[(&Tenant, UrlWarning)], output: OutputFormat) {
    let text = match output {
        OutputFormat::Json => {
            let line = |(tenant, warning): &(&Tenant, UrlWarning)| {
                let kind = warning.kind.name();
                let line =
                    json!({ "tenant": tenant.id.as_str(), "warning": kind, "text": warning.text });
                format!("{line}\n")
            };
            found.iter().map(line).collect()
        }
        OutputFormat::Table if found.is_empty() => return,
        OutputFormat::Table => {
            let row = |(tenant, warning): &(&Tenant, UrlWarning)| {
                let kind = warning.kind.name().to_owned();
                vec![tenant.id.to_string(), kind, warning.text.clone()]
            };
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            aligned(&["TENANT", "WARNING", "MEANS"], &rows)
        }
    };
    say(&mut io::stdout(), &text);
}
