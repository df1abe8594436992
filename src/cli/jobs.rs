//! The flags of `replay`, `dead-letter redrive` and `jobs`. Never checks a value.

use super::reading::{FilterArgs, OutputArgs};
use crate::config::definitions::{JobsGroup, ReadGroup};
use crate::config::setting::SettingArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The flags of `replay`.
#[derive(Args)]
#[command(
    after_help = "Each selected record is copied to the shortest delay topic once, also if this process is killed
and resumed. The running service delivers the copies with a new budget of attempts.

Examples:
  ringback replay --tenant 87462158132343186600590049 --since 10h --dry-run
  ringback replay --tenant 87462158132343186600590049 --since 10h --until 2h --rate 200 --job night
  ringback replay --resume night
  ringback replay --ids-file ids.txt --since 3d"
)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub settings: SettingArgs<JobsGroup>,
    #[command(flatten)]
    pub select: ReplayFilterArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Which records of the source topic a replay copies.
#[derive(Args)]
#[command(next_help_heading = "Selection (at least one; all must match)")]
pub struct ReplayFilterArgs {
    /// Of these tenants, repeatable or comma separated
    #[arg(long, value_name = "TENANTID", value_delimiter = ',')]
    pub tenant: Vec<String>,
    /// With these ids, repeatable or comma separated
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub id: Vec<String>,
    /// With the ids of this file, one on each line
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    pub ids_file: Option<PathBuf>,
    /// With a timestamp at this time or later: RFC 3339, epoch ms, or an age such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// With a timestamp before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// The flags of `dead-letter redrive`.
#[derive(Args)]
#[command(
    after_help = "Each selected dead letter is copied to the shortest delay topic once, also if this process is
killed and resumed. The dead letters stay where they are. Dead letters that were cut or that
cannot be read are counted, and not copied.

Examples:
  ringback dead-letter redrive --tenant 87462158132343186600590049 --reason attempts_exhausted --dry-run
  ringback dead-letter redrive --error timeout,connect --since 1d --job after-outage
  ringback dead-letter redrive --from export.jsonl --rate 100
  ringback dead-letter redrive --resume after-outage"
)]
pub struct RedriveArgs {
    #[command(flatten)]
    pub settings: SettingArgs<JobsGroup>,
    #[command(flatten)]
    pub filters: FilterArgs,
    /// Only the dead letters of this file, as `ringback dead-letter export` writes it
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags of a job.
#[derive(Args)]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// Only count by tenant what would be copied
    #[arg(long)]
    pub dry_run: bool,
    /// Most copies per second, 1 to 1000000 [default: as fast as Kafka accepts them]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub rate: Option<String>,
    /// Most copies, 1 to 1000000000 [default: all selected records]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub limit: Option<String>,
    /// Name of the job [default: the kind and the time]
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Continue a job with its own selection and limit: `--resume NAME`, or `--job NAME --resume`
    #[arg(long, value_name = "NAME", num_args = 0..=1, conflicts_with_all = ["dry_run", "limit"])]
    pub resume: Option<Option<String>>,
    /// Start although another job selects some of the same records: they are sent again
    #[arg(long)]
    pub again: bool,
}

/// The commands about jobs.
#[derive(Subcommand)]
pub enum Jobs {
    /// Show all replays and redrives: what, how far, started by which user, and whether they are finished
    List(JobsListArgs),
    /// Cancel a job; a process that runs it stops, and copies that are written stay
    Cancel(JobsCancelArgs),
}

/// The flags of `jobs list`.
#[derive(Args)]
#[command(
    after_help = "Kafka forgets a job when its offsets expire: 7 days after its last progress, unless
offsets.retention.minutes says otherwise.

Example:
  ringback jobs list --output json"
)]
pub struct JobsListArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ReadGroup>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags of `jobs cancel`.
#[derive(Args)]
#[command(after_help = "Example:\n  ringback jobs cancel night")]
pub struct JobsCancelArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ReadGroup>,
    /// Name of the job
    #[arg(value_name = "NAME")]
    pub name: String,
}
