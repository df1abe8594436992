//! The flags of the `tenant` commands.

use super::output::OutputFormat;
use super::tenant_write::{TenantImportArgs, TenantRemoveArgs, TenantSetArgs};
use crate::config::definitions::CallbacksGroup;
use crate::config::setting::SettingArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The commands about tenants.
#[derive(Subcommand)]
pub enum TenantCommand {
    /// List all tenants, with what their URLs show; looks up no name
    List(TenantListArgs),
    /// Show the settings of one tenant, without secrets and header values
    Show(TenantShowArgs),
    /// Write the settings of one tenant into the tenants topic
    Set(TenantSetArgs),
    /// Remove one tenant from the tenants topic
    Remove(TenantRemoveArgs),
    /// Write the tenants of a file or a directory into the tenants topic
    Import(TenantImportArgs),
    /// Warn about URLs that cannot work or are not safe; looks their names up
    Check(TenantCheckArgs),
    /// Send one signed sample to a tenant or a URL, and show each step, the cause and an advice
    Test(TenantTestArgs),
}

/// The flags of `tenant list`.
#[derive(Args)]
#[command(after_help = "Examples:
  ringback tenant list --tenants tenants.json
  ringback tenant list --output json | jq -r 'select(.enabled | not) | .tenant'")]
pub struct TenantListArgs {
    #[command(flatten)]
    pub settings: SettingArgs<CallbacksGroup>,
    /// Output format: a table for people, or json for one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// The flags of `tenant show`.
#[derive(Args)]
#[command(after_help = "Exit code 5: the tenant is not listed.

Example:
  ringback tenant show 87462158132343186600590049")]
pub struct TenantShowArgs {
    #[command(flatten)]
    pub settings: SettingArgs<CallbacksGroup>,
    /// The tenantId
    #[arg(value_name = "TENANT")]
    pub tenant: String,
    /// Also show the path of the URL, which may hold a token; its query is never shown
    #[arg(long)]
    pub path: bool,
    /// Output format: a table for people, or json for one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// The flags of `tenant check`.
#[derive(Args)]
#[command(
    after_help = "It warns about: http without TLS, addresses that callbacks must not reach, names that do
not resolve, and, without --allow-networks, names that no public zone has.
Exit codes: 0 no warning, 1 warnings or a fault, 5 a tenant is not listed.

Examples:
  ringback tenant check
  ringback tenant check 87462158132343186600590049 --output json"
)]
pub struct TenantCheckArgs {
    #[command(flatten)]
    pub settings: SettingArgs<CallbacksGroup>,
    /// The tenantIds [default: all tenants]
    #[arg(value_name = "TENANT")]
    pub ids: Vec<String>,
    /// Output format: a table for people, or json for one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// The flags of `tenant test`.
#[derive(Args)]
#[command(
    after_help = "It sends the example of the contract with a new id, and the header ringback-test: 1. It
uses the address rules, egress proxy, certificates and deadline of the service. It first makes
the steps on a connection of their own, and then sends the sample as the service does.
Exit codes: 0 the answer was 2xx, 1 anything else, 5 the tenant is not listed.

Examples:
  ringback tenant test 87462158132343186600590049
  ringback tenant test --url https://example.com/call-ended --secret-file secret.txt"
)]
pub struct TenantTestArgs {
    #[command(flatten)]
    pub settings: SettingArgs<CallbacksGroup>,
    /// The tenantId
    #[arg(value_name = "TENANT", required_unless_present = "url")]
    pub tenant: Option<String>,
    /// Callback URL that is not configured yet; with a tenantId, its secrets and headers are used
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File with the secrets for --url, one per line; a flag would be visible in process lists
    #[arg(long, value_name = "FILE", requires = "url")]
    pub secret_file: Option<PathBuf>,
    /// Output format: a table for people, or json for one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}
