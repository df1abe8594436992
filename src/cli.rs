//! The commands and their flags (clap). The settings themselves, with their
//! help texts, are [`crate::config::args`]'s. Never checks a value: clap would
//! stop at the first bad one. Runs on the main thread.

use crate::config::args::{KafkaArgs, ListenArgs, RunArgs, TopicsArgs};
use crate::exit;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;

/// Delivers call-ended records from Kafka to the tenants' callback URLs
#[derive(Parser)]
#[command(
    name = "ringback",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = format!(
    "Each setting is a flag, or a variable: RINGBACK_ and its name in capitals.\n\n{}",
    exit::help()
))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the service
    Run(Box<RunArgs>),
    /// Show everything in one process on an embedded broker; exits 0 only if the numbers add up
    Demo(DemoArgs),
    /// Check the settings and the tenants file, and report every mistake
    CheckConfig(Box<CheckConfigArgs>),
    /// Show or make the topics that the settings need
    #[command(subcommand)]
    Topics(Topics),
    /// Publish sample records, or records from JSON lines on standard input
    Publish(Box<PublishArgs>),
    /// Receive callbacks as a tenant would: show each, verify its signature, answer as told
    Receive(ReceiveArgs),
    /// Ask a running service whether it is well; exits 0 or 1
    Health(HealthArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// What `demo` takes.
#[derive(Args, Clone)]
pub struct DemoArgs {}

/// What `check-config` takes: all of `run`'s, and `--connect`.
#[derive(Args, Clone)]
pub struct CheckConfigArgs {
    /// The settings of `run`.
    #[command(flatten)]
    pub run: RunArgs,
    /// Also connect, and check brokers, topics and their settings
    #[arg(long)]
    pub connect: bool,
}

/// What to do with the topics.
#[derive(Subcommand)]
pub enum Topics {
    /// Show the topics that the settings need, and what they lack
    List(TopicsArgs),
    /// Make the topics that are missing; those that exist stay as they are
    Create(CreateArgs),
}

/// What `topics create` takes.
#[derive(Args, Clone)]
pub struct CreateArgs {
    /// The settings.
    #[command(flatten)]
    pub settings: TopicsArgs,
    /// Partitions of a new topic, 1 to 10000 [default: like the source topic, else the brokers' default]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub partitions: Option<String>,
    /// Replicas of a new topic, 1 to 100 [default: like the source topic, else the brokers' default]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub replication_factor: Option<String>,
    /// Only show what would be made
    #[arg(long)]
    pub dry_run: bool,
}

/// What `publish` takes.
#[derive(Args, Clone)]
pub struct PublishArgs {
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Sample records in all, 1 to 1000000000
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "10",
        allow_negative_numbers = true
    )]
    #[arg(conflicts_with_all = ["stdin", "dash"])]
    pub count: String,
    /// Records per second, 1 to 1000000 [default: as fast as Kafka takes them]
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub rate: Option<String>,
    /// Tenants of the sample records in turn: tenantIds, comma separated, or a count N of 1 to 5 digits for tenant-1 to tenant-N
    #[arg(
        long,
        value_name = "LIST|COUNT",
        default_value = "87462158132343186600590049"
    )]
    #[arg(conflicts_with_all = ["stdin", "dash"])]
    pub tenants: String,
    /// Read records from standard input, one JSON object a line, wrapped in data or bare; so does -
    #[arg(long)]
    pub stdin: bool,
    /// Stop at the first line that is not a record, instead of naming it and going on
    #[arg(long)]
    pub strict: bool,
    /// - reads standard input
    #[arg(value_name = "-", value_parser = ["-"], hide_possible_values = true)]
    pub dash: Option<String>,
}

/// What `receive` takes.
#[derive(Args, Clone)]
#[command(
    after_help = "It prints whole callbacks, names and phone numbers included, on standard output: keep that
where personal data may be. It answers any path, and as told whether or not a signature fits.
Standard error has what is no callback. SIGTERM or SIGINT ends it."
)]
pub struct ReceiveArgs {
    /// Address and port for callbacks over http; port 0 lets the system choose one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Secret that verifies signatures, whsec_ and base64, repeatable; better in the variable (several with commas), where no list of processes shows it
    #[arg(long, value_name = "SECRET", value_delimiter = ',')]
    #[arg(env = "RINGBACK_SECRET", hide_env_values = true)]
    pub secret: Vec<String>,
    /// Status of every answer, 200 to 599
    #[arg(long, value_name = "STATUS", default_value = "200")]
    pub answer: String,
    /// Wait before each answer, 0s to 10m; ringback waits 5 s
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub delay: String,
    /// Retry-After of every answer, 0s to 168h, in whole seconds; ringback reads it with 429 and 503
    #[arg(long, value_name = "DURATION")]
    pub retry_after: Option<String>,
    /// Never answer
    #[arg(long, conflicts_with_all = ["answer", "delay", "retry_after"])]
    pub silent: bool,
    /// text for people, json for one JSON line a callback
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub format: String,
}

/// What `health` takes.
#[derive(Args, Clone)]
pub struct HealthArgs {
    /// Where the service listens.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// URL to ask, http only [default: /healthz of --listen]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Time for the answer, 100ms to 1m
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub timeout: String,
}

/// Reads the command line and the variables of its settings. Wrong usage ends
/// the process with exit code 2, `--help` and `--version` with 0.
#[must_use]
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Cli {
    Cli::parse_from(args)
}

/// The whole command, for completions and the help texts.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The environment variables of all settings.
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
    fn clap_finds_no_fault_with_the_commands() {
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
        assert_eq!(flags, 20);
        // Beside them: the secret of `receive`.
        assert_eq!(variables().len(), 21);
    }

    #[test]
    fn bad_values_pass_clap_so_that_all_are_reported_together() {
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

    /// README's table of settings: one row per flag of `run`, by heading. The
    /// default is clap's, or the `[default: …]` at the end of the help text.
    fn settings_table() -> String {
        let run = command().find_subcommand("run").expect("a command").clone();
        let mut rows = String::new();
        for heading in ["Kafka", "Attempts", "Callbacks", "Process"] {
            let is_here = |arg: &&clap::Arg| arg.get_help_heading() == Some(heading);
            for arg in run.get_arguments().filter(is_here) {
                let flag = arg.get_long().expect("a flag");
                let value = &arg.get_value_names().expect("a flag with a value")[0];
                let help = arg.get_help().expect("a help text").to_string();
                let (means, default) = match help.split_once(" [default: ") {
                    Some((means, default)) => (means, default.trim_end_matches(']').to_owned()),
                    None => (help.as_str(), own_default(arg)),
                };
                let means = means.replace('<', "\\<").replace('|', "\\|");
                writeln!(rows, "| `--{flag} <{value}>` | {default} | {means} |").expect("text");
            }
        }
        rows
    }

    fn own_default(arg: &clap::Arg) -> String {
        match arg.get_default_values() {
            [] => "none".to_owned(),
            [value] => format!("`{}`", value.to_string_lossy()),
            _ => unreachable!("no flag of run has several defaults"),
        }
    }

    #[test]
    fn the_readmes_settings_are_the_texts_of_help() {
        let readme = include_str!("../README.md");
        let table = settings_table();
        assert_eq!(table.lines().count(), 20, "one row per flag");
        assert!(
            readme.contains(&table),
            "README.md must hold these rows:\n{table}"
        );
    }
}
