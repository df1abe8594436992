//! The flags of the `tenant` commands that write a tenants topic.

use crate::config::definitions::TenantsWriteGroup;
use crate::config::setting::SettingArgs;
use clap::Args;
use std::path::PathBuf;

/// The flags of `tenant set`.
#[derive(Args)]
#[command(
    after_help = "It writes all settings of the tenant: those without a flag get their default.
Exit code 2: a mistake, and nothing is written.

Examples:
  ringback tenant set 42 --tenants topic:tenants --url https://example.com/call-ended
  ringback tenant set 42 --tenants topic:tenants --from settings.json"
)]
pub struct TenantSetArgs {
    #[command(flatten)]
    pub settings: SettingArgs<TenantsWriteGroup>,
    /// The tenantId
    #[arg(value_name = "TENANT")]
    pub tenant: String,
    /// Callback URL, http or https
    #[arg(long, value_name = "URL", required_unless_present = "from")]
    pub url: Option<String>,
    /// File of signing secrets: whsec_ and base64, one per line, the newest first
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// File of further request headers: one `name: value` per line
    #[arg(long, value_name = "FILE")]
    pub header_file: Option<PathBuf>,
    /// Maximum number of concurrent attempts in each process, 1 to 65536 [default: 64]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub max_in_flight: Option<String>,
    /// Maximum duration of one attempt, 100ms to --timeout of the service, at most 5s [default: that of the service]
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Skip the records of this tenant
    #[arg(long)]
    pub disabled: bool,
    /// File with the settings of the tenant as one JSON object; - is standard input
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["url", "secret_file", "header_file", "max_in_flight", "timeout", "disabled"])]
    pub from: Option<PathBuf>,
}

/// The flags of `tenant remove`.
#[derive(Args)]
#[command(after_help = "Exit code 5: the topic has no entry of this tenant.

Example:
  ringback tenant remove 42 --tenants topic:tenants")]
pub struct TenantRemoveArgs {
    #[command(flatten)]
    pub settings: SettingArgs<TenantsWriteGroup>,
    /// The tenantId
    #[arg(value_name = "TENANT")]
    pub tenant: String,
}

/// The flags of `tenant import`.
#[derive(Args)]
#[command(after_help = "It says what changes, and writes changed entries only.
Exit code 2: a mistake, and nothing is written.

Examples:
  ringback tenant import tenants.json --tenants topic:tenants --dry-run
  ringback tenant import tenants.d --tenants topic:tenants --prune")]
pub struct TenantImportArgs {
    #[command(flatten)]
    pub settings: SettingArgs<TenantsWriteGroup>,
    /// A file of tenants, or a directory of such files
    #[arg(value_name = "FILE|DIRECTORY")]
    pub from: PathBuf,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Also remove tenants that the files do not have
    #[arg(long)]
    pub prune: bool,
}
