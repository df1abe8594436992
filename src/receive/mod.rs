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

use crate::http::signature::Keys;
use crate::shutdown;
use axum::http::StatusCode;
use server::Receiver;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Receives until SIGTERM or SIGINT.
///
/// Errors: the address cannot be listened on, or the system refuses a runtime.
pub fn run(plan: Plan) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(receive(plan))
}

/// What the receiver does.
pub struct Plan {
    pub listen: SocketAddr,
    pub keys: Option<Keys>,
    pub answer: Answer,
    pub form: Form,
}

/// How it answers.
pub struct Answer {
    pub status: StatusCode,
    pub delay: Duration,
    pub silent: bool,
    pub retry_after: Option<Duration>,
}

/// How it shows what came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Text,
    Json,
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
    // A reader that has gone away misses a message, and nothing else.
    let _ = writeln!(io::stderr(), "ringback receive: {text}");
}

/// Why it cannot receive.
#[derive(Debug)]
pub enum Error {
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
