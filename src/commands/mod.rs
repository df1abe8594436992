//! The commands, each a file, thin over the rest. What a command ends with is
//! an [`Exit`]. Never a decision about a record. Runs on the main thread.

pub mod check_config;
pub mod completions;
pub mod demo;
pub mod health;
pub mod publish;
pub mod run;
pub mod topics;

use crate::config::mistake::{Mistake, Warning};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use std::fmt::{Display, Write as _};
use std::io;
use std::process::ExitCode;

/// How the process ends; the table of exit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Drained or done.
    Done,
    /// A fault.
    Fault,
    /// Wrong settings or usage; clap ends with the same code.
    Refused,
    /// This replica's name is in use elsewhere.
    Fenced,
    /// A hung Kafka client; safe to restart.
    Hung,
}

impl Exit {
    /// The number that the system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Fault => 1,
            Self::Refused => 2,
            Self::Fenced => 3,
            Self::Hung => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a librdkafka property may not be set: the design needs it otherwise, or
/// librdkafka itself does not take it. Opens nothing.
#[must_use]
pub fn property_mistake(key: &str, value: &str) -> Option<String> {
    match ClientConfig::new().set(key, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Some("librdkafka has no such property".to_owned())
        }
        Err(_) => Some("librdkafka does not take its value".to_owned()),
    }
}

/// Names every mistake on standard error.
#[must_use]
pub fn refuse(mistakes: &[Mistake]) -> Exit {
    let count = match mistakes.len() {
        1 => "1 mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    let mut text = format!("ringback: {count} in the settings\n");
    for mistake in mistakes {
        writeln!(text, "  {mistake}").expect("a String takes any text");
    }
    say(&mut io::stderr(), &text);
    Exit::Refused
}

/// Names every warning on standard error.
pub fn warn(warnings: &[Warning]) {
    for warning in warnings {
        say(
            &mut io::stderr(),
            &format!("ringback: warning: {warning}\n"),
        );
    }
}

/// Says on standard error why a command could not do its work, with all causes.
#[must_use]
pub fn fault(error: &dyn std::error::Error) -> Exit {
    let mut text = format!("ringback: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        // Some libraries' texts hold their causes' already.
        if !text.contains(&why) {
            write!(text, ": {why}").expect("a String takes any text");
        }
        cause = error.source();
    }
    say(&mut io::stderr(), &format!("{text}\n"));
    Exit::Fault
}

/// Prints a line of a command's answer on standard output.
fn print(line: impl Display) {
    say(&mut io::stdout(), &format!("{line}\n"));
}

/// A reader that has gone away (`| head`) is no fault of ours: what is left has
/// nobody to read it, and the exit code still tells.
fn say(stream: &mut dyn io::Write, text: &str) {
    match stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush())
    {
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_asked_of_librdkafka_and_its_value_never_shown() {
        #[track_caller]
        fn check(key: &str, value: &str, part: Option<&str>) {
            let why = property_mistake(key, value);
            assert_eq!(why.is_some(), part.is_some(), "{why:?}");
            assert!(why.unwrap_or_default().contains(part.unwrap_or_default()));
        }
        check("client.id", "x", None);
        check("sasl.password", "hunter2", None);
        check("hunter", "2", Some("no such property"));
        check("socket.keepalive.enable", "hunter2", Some("does not take"));
    }
}
