//! `tenant list` and `tenant show`. They look up no name and connect to nothing.

use super::url;
use crate::cli::output::OutputFormat;
use crate::cli::tenant::TenantShowArgs;
use crate::commands::table::aligned;
use crate::commands::{print, say};
use crate::exit::Exit;
use crate::http::address_guard::AddressGuard;
use crate::http::url_check::{self, UrlWarning, origin};
use crate::model::tenant::{Tenant, Tenants};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

/// Prints all tenants, by id.
pub fn list(guard: &AddressGuard, tenants: &Tenants, output: OutputFormat) -> Exit {
    let mut tenants: Vec<&Arc<Tenant>> = tenants.iter().collect();
    tenants.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let with_warnings = |tenant| (tenant, url_check::warnings(&url(tenant), guard));
    let rows = tenants
        .into_iter()
        .map(|tenant| with_warnings(tenant.as_ref()));
    match output {
        OutputFormat::Json => {
            let lines = rows.map(|(tenant, found)| format!("{}\n", row(tenant, &found)));
            say(&mut io::stdout(), &lines.collect::<String>());
        }
        OutputFormat::Table => {
            let rows: Vec<Vec<String>> =
                rows.map(|(tenant, found)| cells(tenant, &found)).collect();
            let headings = [
                "TENANT",
                "URL",
                "ENABLED",
                "SECRETS",
                "MAX IN FLIGHT",
                "WARNINGS",
            ];
            say(&mut io::stdout(), &aligned(&headings, &rows));
        }
    }
    Exit::Done
}

fn cells(tenant: &Tenant, warnings: &[UrlWarning]) -> Vec<String> {
    let warnings: Vec<&str> = warnings.iter().map(|warning| warning.kind.name()).collect();
    vec![
        tenant.id.to_string(),
        origin(&url(tenant)),
        yes_or_no(tenant.enabled),
        tenant.secrets.len().to_string(),
        tenant.max_in_flight.to_string(),
        warnings.join(" "),
    ]
}

fn row(tenant: &Tenant, warnings: &[UrlWarning]) -> Value {
    let warnings: Vec<&str> = warnings.iter().map(|warning| warning.kind.name()).collect();
    json!({
        "tenant": tenant.id.as_str(),
        "url": origin(&url(tenant)),
        "enabled": tenant.enabled,
        "secrets": tenant.secrets.len(),
        "maxInFlight": tenant.max_in_flight,
        "warnings": warnings,
    })
}

/// Prints the settings of one tenant.
pub fn show(guard: &AddressGuard, tenant: &Tenant, args: &TenantShowArgs) -> Exit {
    let url = url(tenant);
    let warnings = url_check::warnings(&url, guard);
    let headers: Vec<&str> = tenant
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let path = args.path.then(|| url.path());
    match args.output {
        OutputFormat::Json => {
            let mut shown = row(tenant, &warnings);
            shown["headers"] = json!(headers);
            if let Some(path) = path {
                shown["path"] = json!(path);
            }
            print(shown);
        }
        OutputFormat::Table => {
            let address = format!("{}{}", origin(&url), path.unwrap_or_default());
            let mut rows = vec![
                ("tenant", tenant.id.to_string()),
                ("url", address),
                ("enabled", yes_or_no(tenant.enabled)),
                ("secrets", tenant.secrets.len().to_string()),
                ("max in flight", tenant.max_in_flight.to_string()),
                ("headers", headers.join(" ")),
            ];
            rows.extend(
                warnings
                    .into_iter()
                    .map(|warning| ("warning", warning.text)),
            );
            let rows = rows
                .into_iter()
                .map(|(name, value)| vec![name.to_owned(), value]);
            let rows: Vec<Vec<String>> = rows.collect();
            say(&mut io::stdout(), &aligned(&["SETTING", "VALUE"], &rows));
        }
    }
    Exit::Done
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}
