//! The flags that the commands that read share. Never checks a value.

use super::output::OutputFormat;
use clap::Args;

/// How results are printed.
#[derive(Args)]
pub struct OutputArgs {
    /// Output format: a table for people, or json for one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// Which records are selected. Values of one flag are alternatives; all flags must match.
#[derive(Args, Default)]
#[command(next_help_heading = "Filters (repeatable or comma separated; all must match)")]
pub struct FilterArgs {
    /// Of these tenants
    #[arg(long, value_name = "TENANTID", value_delimiter = ',')]
    pub tenant: Vec<String>,
    /// With these ids
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub id: Vec<String>,
    /// With these reasons of the dead letter, for example attempts_exhausted
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub reason: Vec<String>,
    /// With these classes of the last error, for example timeout or http_5xx
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub error: Vec<String>,
    /// With these last HTTP statuses
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub status: Vec<String>,
    /// From these positions of the source topic: topic/partition/offset
    #[arg(long, value_name = "POSITION", value_delimiter = ',')]
    pub origin: Vec<String>,
    /// Written to the topic at this time or later: RFC 3339, epoch ms, or an age such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Written to the topic before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}
