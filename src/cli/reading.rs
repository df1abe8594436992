//! The flags that the commands that read share. Never checks a value.

use super::output::OutputFormat;
use crate::config::definitions::ReadGroup;
use crate::config::setting::SettingArgs;
use clap::Args;

/// How results are printed.
#[derive(Args)]
pub struct OutputArgs {
    /// Output format: a table for people, or json for one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

/// Which records are selected. Values of one flag are alternatives; all flags must match.
#[derive(Args, Clone, Default)]
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

/// The flags of `find`.
#[derive(Args)]
#[command(after_help = "Examples:
  ringback find 0605589a-c1f7-47a5-b75c-3e639e1b928a
  ringback find --since 2h --tenant 87462158132343186600590049 ID1 ID2
  ringback find --output json --since 2026-11-30T00:00:00Z ID1

States: finished (delivered, skipped, or moved: then its copy is listed too), in_progress (reserved for an
attempt), waiting, unknown. Kafka does not tell delivered from skipped.
Exit code 5 if no record was found.")]
pub struct FindArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ReadGroup>,
    /// Ids of the records
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Search records that were written at this time or later: RFC 3339, epoch ms, or an age such as 2h or 7d
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub since: String,
    /// Only of these tenants; repeatable or comma separated
    #[arg(long, value_name = "TENANTID", value_delimiter = ',')]
    pub tenant: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags of `dead-letter list` and `summary`.
#[derive(Args)]
#[command(after_help = "Examples:
  ringback dead-letter list --tenant 87462158132343186600590049 --since 12h
  ringback dead-letter list --reason undecodable,bad_id --output json
  ringback dead-letter summary --since 2026-11-30T00:00:00Z --error timeout,http_5xx

A value that an older version did not write is shown as '-'. Exit code 5 if no dead letter matched.")]
pub struct SelectArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ReadGroup>,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags of `dead-letter show`.
#[derive(Args)]
#[command(after_help = "Examples:
  ringback dead-letter show call-ended.dead-letter/3/4711
  ringback dead-letter show --body call-ended.dead-letter/3/4711

Exit code 5 if there is no record at this position.")]
pub struct ShowArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ReadGroup>,
    /// Position of the dead letter: topic/partition/offset
    #[arg(value_name = "POSITION")]
    pub position: String,
    /// Also print key, headers and value, which hold personal data
    #[arg(long)]
    pub body: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags of `dead-letter export`.
#[derive(Args)]
#[command(after_help = "Examples:
  ringback dead-letter export --tenant 87462158132343186600590049 >letters.jsonl
  ringback dead-letter export --body --id 0605589a-c1f7-47a5-b75c-3e639e1b928a | ringback publish -

Each line is {\"ringback\":{\"position\":…,…},\"record\":{…}}. Without --body there is no \"record\": such a file
names dead letters for a redrive, but cannot be published. Exit code 5 if no dead letter matched.")]
pub struct ExportArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ReadGroup>,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Also print the values, which hold personal data
    #[arg(long)]
    pub body: bool,
}
