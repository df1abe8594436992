//! The exit codes of the process, as one table. Never decides which of them a
//! command ends with.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How the process ends. The discriminant is the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Fault = 1,
    /// clap ends with the same code on wrong usage.
    WrongSettings = 2,
    NameInUse = 3,
    HungClient = 4,
    /// Of commands that read.
    NothingMatched = 5,
}

/// Every exit with its meaning, as `--help` shows it.
pub const TABLE: [(Exit, &str); 6] = [
    (Exit::Done, "drained or done"),
    (Exit::Fault, "fault"),
    (Exit::WrongSettings, "wrong settings or usage"),
    (Exit::NameInUse, "this replica's name is in use elsewhere"),
    (Exit::HungClient, "a hung Kafka client (safe to restart)"),
    (Exit::NothingMatched, "nothing matched (commands that read)"),
];

impl Exit {
    /// Returns the number that the system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Returns the table as text for `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for (exit, meaning) in TABLE {
        write!(text, "\n  {}  {meaning}", exit.code()).expect("a String takes any text");
    }
    text
}
