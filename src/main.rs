//! The ringback program: command line, settings, command, exit code. Nothing
//! that could be tested is here. Runs on the main thread.

use ringback::cli::{self, Command};
use ringback::commands;
use ringback::config::settings::PropertyRule;
use ringback::config::{self, environment};
use std::process::ExitCode;

const RULE: PropertyRule = commands::property_mistakes;

fn main() -> ExitCode {
    let command = cli::parse(std::env::args_os()).command;
    let variables = environment::unknown_variables(&cli::variables());
    let exit = match command {
        Command::Run(given) => match config::load(&given, RULE) {
            Ok(mut configured) => {
                configured.warnings.extend(variables);
                commands::run::run(configured)
            }
            Err(mistakes) => {
                commands::warn(&variables);
                commands::refuse(&mistakes)
            }
        },
        Command::Demo(_) => commands::demo::run(),
        Command::CheckConfig(given) => commands::check_config::run(&given, RULE, &variables),
        Command::Topics(given) => commands::topics::run(&given, RULE),
        Command::Publish(given) => commands::publish::run(&given, RULE),
        Command::Receive(given) => commands::receive::run(&given),
        Command::Health(given) => commands::health::run(&given),
        Command::Completions { shell } => commands::completions::run(cli::command(), shell),
    };
    exit.into()
}
