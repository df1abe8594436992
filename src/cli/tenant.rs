//! The flags of the `tenant` commands.

use super::output::OutputFormat;
use super::tenant_write::{TenantImportArgs, TenantRemoveArgs, TenantSetArgs};
use crate::config::definitions::CallbacksGroup;
use crate::config::setting::SettingArgs;
use clap::{Args, Subcommand};

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
