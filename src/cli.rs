//! The commands and their flags (clap). The settings themselves are in
//! [`crate::config::definitions`]. Never checks a value: clap would stop at the
//! first wrong one. Runs on the main thread.

pub mod jobs;
pub mod output;
pub mod reading;
pub mod tenant;
pub mod tenant_write;

use crate::config::definitions::{ClusterGroup, ListenGroup, RunGroup, TopicsGroup};
use crate::config::setting::SettingArgs;
use crate::exit;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use tenant::TenantCommand;

/// Delivers call-ended records from Kafka to the tenants' callback URLs
#[derive(Parser)]
#[command(
    name = "ringback",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = format!(
    "Each setting is a flag, or a variable: RINGBACK_ and the flag in capitals.\n\n{}",
    exit::help()
))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the service
    Run(SettingArgs<RunGroup>),
    /// Run the service on an embedded broker with sample tenants; exits 0 only if the numbers add up
    Demo,
    /// Check the settings and the tenants file, and report every mistake
    CheckConfig(CheckConfigArgs),
    /// Show or create the topics that the settings need
    #[command(subcommand)]
    Topics(Topics),
    /// List, show and check the tenants, and write a tenants topic
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Send records of the source topic again, while the service runs
    Replay(jobs::ReplayArgs),
    /// Show or cancel replays and redrives
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// Publish sample records, or records from JSON lines on standard input
    Publish(PublishArgs),
    /// Find records by their ids: where each one is and what became of it
    Find(reading::FindArgs),
    /// List, count, show or export dead letters, or send them again
    #[command(subcommand)]
    DeadLetter(DeadLetter),
    /// Receive callbacks as a tenant would: show each one, verify its signature, and answer
    Receive(ReceiveArgs),
    /// Print the contract of the callbacks, for programs or for a document
    #[command(subcommand)]
    Contract(ContractForm),
    /// Check the health of a running service; exits 0 if it is healthy, else 1
    Health(HealthArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The flags of `check-config`: all settings of `run`, and `--connect`.
#[derive(Args)]
pub struct CheckConfigArgs {
    #[command(flatten)]
    pub settings: SettingArgs<RunGroup>,
    /// Also connect, and check brokers, topics and their settings
    #[arg(long)]
    pub connect: bool,
}

/// The commands about dead letters.
#[derive(Subcommand)]
pub enum DeadLetter {
    /// List dead letters, one per line
    List(reading::SelectArgs),
    /// Count dead letters by tenant, reason, class of the last error, and hour
    Summary(reading::SelectArgs),
    /// Show one dead letter
    Show(reading::ShowArgs),
    /// Print dead letters as JSON lines, for `ringback publish -` and for redrives
    Export(reading::ExportArgs),
    /// Send dead letters again, while the service runs
    Redrive(jobs::RedriveArgs),
}

/// The commands about topics.
#[derive(Subcommand)]
pub enum Topics {
    /// Show the topics that the settings need, and which are missing
    List(SettingArgs<TopicsGroup>),
    /// Create the missing topics; existing topics stay unchanged
    Create(CreateArgs),
}

/// The flags of `topics create`.
#[derive(Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub settings: SettingArgs<TopicsGroup>,
    /// Partitions of a new topic, 1 to 10000 [default: as the source topic, else the brokers' default]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub partitions: Option<String>,
    /// Replicas of a new topic, 1 to 100 [default: as the source topic, else the brokers' default]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub replication_factor: Option<String>,
    /// Only show what would be created
    #[arg(long)]
    pub dry_run: bool,
}

/// The flags of `publish`.
#[derive(Args)]
pub struct PublishArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ClusterGroup>,
    /// Number of sample records, 1 to 1000000000
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "10",
        allow_negative_numbers = true
    )]
    #[arg(conflicts_with_all = ["stdin", "dash"])]
    pub count: String,
    /// Records per second, 1 to 1000000 [default: as fast as Kafka accepts them]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub rate: Option<String>,
    /// Tenants of the sample records, in turn: tenantIds, comma separated, or a count N of 1 to 5 digits for tenant-1 to tenant-N
    #[arg(
        long,
        value_name = "LIST|COUNT",
        default_value = "87462158132343186600590049"
    )]
    #[arg(conflicts_with_all = ["stdin", "dash"])]
    pub tenants: String,
    /// Read records from standard input: one JSON object per line, bare or wrapped in "data"; `-` does the same
    #[arg(long)]
    pub stdin: bool,
    /// Stop at the first line that is not a record; without this flag such a line is reported and skipped
    #[arg(long)]
    pub strict: bool,
    /// Read records from standard input
    #[arg(value_name = "-", value_parser = ["-"], hide_possible_values = true)]
    pub dash: Option<String>,
}

/// The flags of `receive`.
#[derive(Args)]
#[command(
    after_help = "It prints whole callbacks on standard output, names and phone numbers included: store them only
where personal data is allowed. It answers every path. Without --forward it answers as told also when the signature is wrong.
Requests that are no callbacks go to standard error. SIGTERM, SIGINT or SIGQUIT ends it."
)]
pub struct ReceiveArgs {
    /// Address and port for callbacks over http; with port 0 the system chooses one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Secret that verifies signatures: whsec_ and base64, repeatable. Prefer the variable (comma separated): flags are visible in process lists
    #[arg(long, value_name = "SECRET", value_delimiter = ',')]
    #[arg(env = "RINGBACK_SECRET", hide_env_values = true)]
    pub secret: Vec<String>,
    /// Status of every answer, 200 to 599
    #[arg(long, value_name = "STATUS", default_value = "200")]
    pub answer: String,
    /// Delay before each answer, 0s to 10m; ringback waits at most 5 s
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub delay: String,
    /// Retry-After of every answer, 0s to 168h, in whole seconds; ringback reads it with status 429 and 503
    #[arg(long, value_name = "DURATION")]
    pub retry_after: Option<String>,
    /// Never answer
    #[arg(long, conflicts_with_all = ["answer", "delay", "retry_after"])]
    pub silent: bool,
    /// Hand each verified callback to a program on this machine at this http URL, and answer with its status, or 502 if it fails
    #[arg(long, value_name = "URL")]
    #[arg(conflicts_with_all = ["answer", "delay", "retry_after", "silent"])]
    pub forward: Option<String>,
    /// Output format: text for people, or json for one JSON line per callback
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: String,
}

/// The forms of the contract.
#[derive(Subcommand)]
pub enum ContractForm {
    /// JSON Schema 2020-12 of a callback's body
    JsonSchema,
    /// OpenAPI 3.1: the webhook with its headers, its body and the meaning of responses
    Openapi,
    /// Markdown tables of the fields and headers, as in the guides for tenants
    Markdown {
        /// Language: zh or en
        #[arg(long, value_name = "LANGUAGE", default_value = "en")]
        lang: String,
    },
}

/// The flags of `health`.
#[derive(Args)]
pub struct HealthArgs {
    #[command(flatten)]
    pub settings: SettingArgs<ListenGroup>,
    /// URL to ask, http only [default: /healthz of --listen]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Maximum wait for the answer, 100ms to 1m
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,
}

/// Reads the command line and the variables of the settings. Wrong usage ends
/// the process with exit code 2, `--help` and `--version` with 0.
#[must_use]
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Cli {
    Cli::parse_from(args)
}

/// Returns the command, for completions and help texts.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Returns the environment variables of all settings.
#[must_use]
pub fn variables() -> Vec<String> {
    fn collect(command: &clap::Command, names: &mut Vec<String>) {
        let own = command.get_arguments().filter_map(clap::Arg::get_env);
        names.extend(own.map(|name| name.to_string_lossy().into_owned()));
        command.get_subcommands().for_each(|c| collect(c, names));
    }
    let mut names = Vec::new();
    collect(&command(), &mut names);
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn clap_accepts_the_commands() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_of_run_has_its_flag_and_variable() {
        let run = command().find_subcommand("run").expect("a command").clone();
        let mut flags = 0;
        for arg in run.get_arguments().filter(|a| a.get_long() != Some("help")) {
            let long = arg.get_long().expect("a flag");
            let name = format!("RINGBACK_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|e| e.to_str()), Some(name.as_str()));
            flags += 1;
        }
        assert_eq!(flags, 25);
        // The secret of `receive` is one more.
        assert_eq!(variables().len(), 26);
    }

    #[test]
    fn wrong_values_pass_clap_so_that_all_are_reported_together() {
        let line = [
            "ringback",
            "run",
            "--attempts",
            "-1",
            "--timeout",
            "x",
            "--log=",
        ];
        assert!(Cli::try_parse_from(line).is_ok());
    }

    /// Returns README's table of settings: one row per flag of `run`.
    fn settings_table() -> String {
        let run = command().find_subcommand("run").expect("a command").clone();
        let mut table = String::new();
        for arg in run.get_arguments().filter(|a| a.get_long() != Some("help")) {
            let flag = arg.get_long().expect("a flag");
            let value = &arg.get_value_names().expect("a flag with a value")[0];
            let help = arg.get_help().expect("a help text").to_string();
            let (means, default) = help.split_once(" [default: ").expect("a default");
            let means = means.replace('<', "\\<").replace('|', "\\|");
            let default = default.trim_end_matches(']');
            writeln!(table, "| `--{flag} <{value}>` | {default} | {means} |").expect("text");
        }
        table
    }

    #[test]
    fn the_settings_in_the_readme_are_the_text_of_the_help() {
        let readme = include_str!("../README.md");
        let table = settings_table();
        assert_eq!(table.lines().count(), 25, "one row per flag");
        assert!(
            readme.contains(&table),
            "README.md must hold these rows:\n{table}"
        );
    }
}
