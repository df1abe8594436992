//! `ringback contract`: prints the contract of the callbacks in a form for
//! programs or for a document. Runs on the main thread.

use super::{Exit, refuse, say};
use crate::cli::ContractForm;
use crate::config::mistake::Mistake;
use crate::contract::{Language, markdown, openapi, schema};
use std::io;

/// Prints the contract.
#[must_use]
pub fn run(form: &ContractForm) -> Exit {
    let text = match form {
        ContractForm::JsonSchema => schema::json_schema(),
        ContractForm::Openapi => openapi::openapi(),
        ContractForm::Markdown { lang } => {
            let Some(language) = Language::from_name(lang) else {
                let wrong = format!("'{lang}' is not one of zh, en");
                return refuse(&[Mistake::new("--lang", wrong)]);
            };
            markdown::markdown(language)
        }
    };
    say(&mut io::stdout(), &text);
    Exit::Done
}
