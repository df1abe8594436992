//! `ringback receive`: a receiver for tenants to try with. It shows each
//! callback with the meaning of its fields, verifies its signature, and answers
//! as it is told: at once, slowly, with any status, or never. It decides nothing
//! by what it reads. The runtime is the main thread's.

mod body;
mod escape;
mod explain;
pub mod field;
pub mod fields;
mod moment;
mod seen;
mod server;
mod show;
mod signed;

use super::{Exit, fault, refuse, say};
use crate::cli::ReceiveArgs;
use crate::config::mistake::Mistake;
use crate::http::signature::Keys;
use crate::model::tenant::Secret;
use crate::model::time::{DurationText, parse_duration};
use crate::shutdown;
use axum::http::StatusCode;
use server::Receiver;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const DELAY_MAX: Duration = Duration::from_secs(10 * 60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Receives until SIGTERM or SIGINT.
#[must_use]
pub fn run(given: &ReceiveArgs) -> Exit {
    let plan = match plan(given) {
        Ok(plan) => plan,
        Err(mistakes) => return refuse(&mistakes),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime);
    match runtime.and_then(|runtime| runtime.block_on(receive(plan))) {
        Ok(()) => Exit::Done,
        Err(error) => fault(&error),
    }
}

/// What the receiver does.
struct Plan {
    listen: SocketAddr,
    keys: Option<Keys>,
    answer: Answer,
    form: Form,
}

/// How it answers.
struct Answer {
    status: StatusCode,
    delay: Duration,
    silent: bool,
    retry_after: Option<Duration>,
}

/// How it shows what came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Text,
    Json,
}

fn plan(given: &ReceiveArgs) -> Result<Plan, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut wrong = |name: &str, text: String| mistakes.push(Mistake::new(name, text));
    let listen = given.listen.parse();
    if listen.is_err() {
        let text = format!(
            "'{}' is not an address and port: write 127.0.0.1:8080",
            given.listen
        );
        wrong("--listen", text);
    }
    let secrets: Vec<Secret> = given.secret.iter().cloned().map(Secret).collect();
    let keys = Keys::read(&secrets);
    if let Err(error) = &keys {
        wrong("--secret", error.to_string());
    }
    let status = given
        .answer
        .parse()
        .ok()
        .filter(|s| (200..=599).contains(s));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    if status.is_none() {
        wrong(
            "--answer",
            format!("'{}' is not a status from 200 to 599", given.answer),
        );
    }
    let mut duration = |name: &str, text: &str, max: Duration| {
        let read = parse_duration(text).ok().filter(|read| *read <= max);
        if read.is_none() {
            let text = format!("'{text}' is not allowed: 0s to {}", DurationText(max));
            wrong(name, text);
        }
        read
    };
    let delay = duration("--delay", &given.delay, DELAY_MAX);
    let retry_after = given.retry_after.as_ref();
    let retry_after = retry_after.map(|text| duration("--retry-after", text, RETRY_AFTER_MAX));
    let form = match given.format.as_str() {
        "text" => Some(Form::Text),
        "json" => Some(Form::Json),
        other => {
            wrong("--format", format!("'{other}' is not one of text, json"));
            None
        }
    };
    match (listen, keys, status, delay, form) {
        (Ok(listen), Ok(keys), Some(status), Some(delay), Some(form)) if mistakes.is_empty() => {
            Ok(Plan {
                listen,
                keys: (!secrets.is_empty()).then_some(keys),
                answer: Answer {
                    status,
                    delay,
                    silent: given.silent,
                    retry_after: retry_after.flatten(),
                },
                form,
            })
        }
        _ => Err(mistakes),
    }
}

async fn receive(plan: Plan) -> Result<(), Error> {
    let bound = TcpListener::bind(plan.listen).await;
    let listener = bound.map_err(|source| Error::Bind {
        listen: plan.listen,
        source,
    })?;
    let address = listener.local_addr().map_err(Error::Runtime)?;
    let (mut phase, follow) = shutdown::listen().map_err(Error::Signals)?;
    let verifies = match &plan.keys {
        Some(_) => "signatures are verified",
        None => "signatures are not verified without --secret",
    };
    tell(&format!(
        "listening on http://{address}/, any path; {verifies}"
    ));
    let receiver = Arc::new(Receiver::new(plan));
    tokio::select! {
        () = receiver.serve(listener) => {}
        changed = phase.changed() => changed.expect("its sender is polled beside it"),
        () = follow => {}
    }
    tell(&receiver.close());
    Ok(())
}

/// On standard error: standard output is for callbacks.
fn tell(text: &str) {
    say(&mut io::stderr(), &format!("ringback receive: {text}\n"));
}

/// Why it cannot receive.
#[derive(Debug)]
enum Error {
    Bind {
        listen: SocketAddr,
        source: io::Error,
    },
    Runtime(io::Error),
    Signals(shutdown::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { listen, .. } => write!(f, "cannot listen on '{listen}'"),
            Self::Runtime(_) => f.write_str("cannot receive"),
            Self::Signals(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Runtime(source) => Some(source),
            Self::Signals(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> ReceiveArgs {
        ReceiveArgs {
            listen: "127.0.0.1:0".to_owned(),
            secret: Vec::new(),
            answer: "200".to_owned(),
            delay: "0s".to_owned(),
            retry_after: None,
            silent: false,
            format: "text".to_owned(),
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_no_secret_is_shown() {
        let wrong = ReceiveArgs {
            listen: "8080".to_owned(),
            secret: vec!["hunter2".to_owned()],
            answer: "100".to_owned(),
            delay: "1h".to_owned(),
            retry_after: Some("soon".to_owned()),
            silent: false,
            format: "xml".to_owned(),
        };
        let mistakes = plan(&wrong).err().expect("it is all wrong");
        let names: Vec<&str> = mistakes
            .iter()
            .map(|mistake| mistake.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "--listen",
                "--secret",
                "--answer",
                "--delay",
                "--retry-after",
                "--format"
            ]
        );
        assert!(!format!("{mistakes:?}").contains("hunter2"));
    }

    #[test]
    fn without_a_secret_nothing_is_verified() {
        assert!(plan(&given()).is_ok_and(|plan| plan.keys.is_none()));
        let secret = vec!["whsec_cmlnaHQ=".to_owned()];
        let with = ReceiveArgs { secret, ..given() };
        assert!(plan(&with).is_ok_and(|plan| plan.keys.is_some()));
    }
}
