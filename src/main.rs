//! The ringback program: reads the command line, runs the command and returns
//! its exit code. Nothing that can be tested is here. Runs on the main thread.

use ringback::cli::{self, Command};
use ringback::commands;
use ringback::config::environment;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = cli::parse(std::env::args_os()).command;
    let warnings = environment::unknown_variables(&cli::variables());
    let exit = match command {
        Command::Run(args) => commands::run::run(&args, &warnings),
        Command::Demo => commands::demo::run(),
        Command::CheckConfig(args) => commands::check_config::run(&args, &warnings),
        Command::Topics(args) => commands::topics::run(&args),
        Command::Tenant(command) => commands::tenant::run(&command),
        Command::Replay(args) => commands::copying::replay(&args),
        Command::Jobs(command) => commands::jobs::run(&command),
        Command::Publish(args) => commands::publish::run(&args),
        Command::Find(args) => commands::find::run(&args),
        Command::DeadLetter(command) => commands::dead_letter::run(&command),
        Command::Receive(args) => commands::receive::run(&args),
        Command::Contract(form) => commands::contract::run(&form),
        Command::Health(args) => commands::health::run(&args),
        Command::Completions { shell } => commands::completions::run(cli::command(), shell),
    };
    exit.into()
}
