//! The commands: one thin file each. A command returns an [`Exit`]. Never decides
//! about a record. Runs on the main thread.

pub mod check_config;
pub mod completions;
pub mod contract;
pub mod copying;
pub mod dead_letter;
pub mod demo;
pub mod find;
pub mod health;
pub mod jobs;
pub mod publish;
pub mod reading;
pub mod receive;
pub mod run;
mod table;
pub mod tenant;
pub mod topics;

use crate::config::mistake::{Mistake, Warning};
use crate::config::properties::{KafkaProperty, pairs};
use crate::config::topic_tenants::TopicTenants;
use crate::exit::Exit;
use crate::kafka::client_check::refused;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::tenants_topic::{TenantsTopic, TenantsTopicError};
use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io;

/// Returns the librdkafka properties that may not be set so, each with the reason.
/// The design needs another value, or librdkafka refuses it. Opens nothing.
#[must_use]
pub fn property_mistakes(properties: &[KafkaProperty]) -> Vec<(String, String)> {
    refused(&pairs(properties))
}

/// Prints every mistake to standard error.
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
    Exit::WrongSettings
}

/// Prints every warning to standard error.
pub fn warn(warnings: &[Warning]) {
    for warning in warnings {
        say(
            &mut io::stderr(),
            &format!("ringback: warning: {warning}\n"),
        );
    }
}

/// Prints the reason why a command failed to standard error.
#[must_use]
pub fn fault(error: &dyn Error) -> Exit {
    say(&mut io::stderr(), &format!("ringback: {}\n", chain(error)));
    Exit::Fault
}

/// Reads the tenants of a topic. The refused entries are in `tenants`.
fn read_topic(kafka: &KafkaSettings, tenants: &mut TopicTenants) -> Result<(), TenantsTopicError> {
    let mut topic = TenantsTopic::open(kafka, tenants.topic())?;
    for entry in topic.read_to_end()? {
        let (Ok(_) | Err(_)) = tenants.apply(&entry.key, entry.value.as_deref());
    }
    Ok(())
}

/// Prints why a tenants topic cannot be used to standard error.
fn topic_fault(error: &TenantsTopicError) -> Exit {
    match (fault(error), error) {
        (_, TenantsTopicError::Wrong(_)) => Exit::WrongSettings,
        (exit, TenantsTopicError::NotYet(_)) => exit,
    }
}

/// Returns an error's text with all its causes.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&why) {
            write!(text, ": {why}").expect("a String takes any text");
        }
        cause = error.source();
    }
    text
}

/// Prints a line to standard output.
fn print(line: impl Display) {
    say(&mut io::stdout(), &format!("{line}\n"));
}

/// Writes text to a stream. A reader that has gone away (`| head`) is no fault:
/// the rest of the text is dropped, and the exit code is still right.
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
    fn properties_are_checked_by_the_design_and_by_librdkafka() {
        #[track_caller]
        fn check(key: &str, value: &str, refused: bool) {
            let (key, value) = (key.to_owned(), value.to_owned());
            let found = property_mistakes(&[KafkaProperty {
                key: key.clone(),
                value,
            }]);
            assert_eq!(found.iter().any(|(k, _)| *k == key), refused, "{found:?}");
            assert!(!format!("{found:?}").contains("hunter2"));
        }
        check("client.id", "x", false);
        check("sasl.password", "hunter2", false);
        check("no.such", "2", true);
        check("socket.keepalive.enable", "hunter2", true);
        check("group.id", "hunter2", true);
    }
}
