//! A receiver for tenants to try with. It shows each callback with the meaning
//! of its fields, verifies its signature, and answers as planned: at once,
//! slowly, with any status, or never. It can also answer as a program on this
//! machine does. What it reads decides nothing. Its runtime is the main thread's.

mod explain;
mod forward;
mod history;
mod server;
mod show;
pub mod terminal;

use crate::http::signature::Keys;
use crate::model::named_enum::named_enum;
use crate::shutdown;
use axum::http::{StatusCode, Uri};
use server::Receiver;
use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// What the receiver does.
pub struct ReceivePlan {
    pub listen: SocketAddr,
    /// Without a key, signatures are not verified.
    pub keys: Keys,
    pub answer: PlannedAnswer,
    pub format: OutputFormat,
}

/// How the receiver answers.
pub enum PlannedAnswer {
    Never,
    /// The status, the delay, and Retry-After.
    Status(StatusCode, Duration, Option<Duration>),
    /// As the program at this URL answers. What is not verified gets 401.
    Forward(Uri),
}

named_enum! {
    /// How the receiver shows a callback.
    pub enum OutputFormat {
        Text = "text",
        Json = "json",
    }
}

/// Receives until SIGTERM, SIGINT or SIGQUIT.
///
/// Errors: the address cannot be listened on, or the system refuses a runtime.
pub fn run(plan: ReceivePlan) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(receive(plan))
}

async fn receive(plan: ReceivePlan) -> Result<(), Box<dyn Error>> {
    let listen = plan.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen on '{listen}': {error}"))?;
    let address = listener.local_addr()?;
    let (mut phase, signals) = shutdown::listen()?;
    let verifies = if plan.keys.is_empty() {
        "signatures are not verified without --secret"
    } else {
        "signatures are verified"
    };
    tell(format_args!(
        "listening on http://{address}/, any path; {verifies}"
    ));
    let receiver = Arc::new(Receiver::new(plan));
    tokio::select! {
        () = receiver.serve(listener) => {}
        changed = phase.changed() => changed.expect("its sender is polled beside it"),
        () = signals => {}
    }
    tell(receiver.close());
    Ok(())
}

/// Prints on standard error: standard output is for callbacks.
fn tell(text: impl fmt::Display) {
    // Without a reader the message is lost, and nothing else.
    let _ = writeln!(io::stderr(), "ringback receive: {text}");
}
