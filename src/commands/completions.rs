//! `ringback completions SHELL`: prints a completion script for a shell. Runs on
//! the main thread.

use super::Exit;
use clap_complete::Shell;
use std::io;

/// Prints the script.
#[must_use]
pub fn run(mut command: clap::Command, shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ringback", &mut script);
    super::say(&mut io::stdout(), &String::from_utf8_lossy(&script));
    Exit::Done
}
