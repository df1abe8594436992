//! The HTTP side of the receiver: reads each request whole, shows it, and
//! answers. Runs on the command's runtime, one task a connection.
//!
//! Limits: 512 connections, a head of 64 KiB, and a body of 16 MiB within 6 s. An
//! attempt has one second less. Eight bodies are in memory at a time, so all have
//! at most 128 MiB. Bytes beyond a limit are not read. A request that waits for its
//! slow answer holds its connection only.

use super::forward::forward;
use super::history::CallbackHistory;
use super::show::{self, Shown};
use super::terminal::{cut, safe};
use super::{OutputFormat, PlannedAnswer, ReceivePlan, tell};
use crate::clock::{self, Clock};
use crate::http::signature::{Signed, Unverified};
use crate::model::call::RecordId;
use crate::model::time::DurationText;
use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const VERIFIED: &str = "verified";
const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(6);
/// Bodies in memory at a time, so that all together have at most 128 MiB.
const BODIES_MAX: usize = 8;
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The answer to a callback; no status where it is never answered.
#[derive(Default)]
struct Answer {
    status: Option<StatusCode>,
    delay: Duration,
    retry_after: Option<HeaderValue>,
    words: String,
}

/// The state that all connections share.
pub struct Receiver {
    plan: ReceivePlan,
    clock: Clock,
    history: Mutex<CallbackHistory>,
    /// One permit for each body in memory.
    bodies: Semaphore,
    closing: AtomicBool,
    /// Notified when standard output has no reader any more.
    unread: Notify,
}

impl Receiver {
    /// Returns a receiver that follows the plan.
    #[must_use]
    pub fn new(plan: ReceivePlan) -> Self {
        Self {
            plan,
            clock: Clock::start(),
            history: Mutex::default(),
            bodies: Semaphore::new(BODIES_MAX),
            closing: AtomicBool::new(false),
            unread: Notify::new(),
        }
    }

    /// Serves until it is dropped, or until standard output has no reader.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(Arc::clone(self).connection(stream, peer));
                    }
                    Err(error) => {
                        tell(format_args!("a connection could not be accepted: {error}"));
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = self.unread.notified() => return,
            }
        }
    }

    /// Returns the closing line. Requests that are cut off from here on are not
    /// reported.
    pub fn close(&self) -> String {
        self.closing.store(true, Ordering::Relaxed);
        self.with_history(|history| history.closing())
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let service = service_fn(|request| self.handle(request, peer));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await
            && error.is_parse()
        {
            let error = safe(&error.to_string());
            let text = format!("what came is not HTTP ({error})");
            tell(format_args!(
                "{peer}: {text}; this receiver speaks http, not https"
            ));
        }
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<String>, Infallible> {
        Ok(match *request.method() {
            Method::POST => self.callback(request, peer).await,
            Method::GET | Method::HEAD => {
                response(StatusCode::OK, "ringback receive: POST callbacks here\n")
            }
            ref other => {
                let method = cut(other.as_str(), 20);
                let text = "answered 405: callbacks are POST";
                tell(format_args!("{peer}: {method} {text}"));
                response(StatusCode::METHOD_NOT_ALLOWED, "callbacks are POST\n")
            }
        })
    }

    async fn callback(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<String> {
        let arrived = clock::elapsed();
        let (head, body) = request.into_parts();
        let permit = self.bodies.acquire().await;
        let body = read(body).await;
        let bytes = body.as_deref().unwrap_or_default();
        let mut shown = self.shown(&head, peer, bytes);
        let id = shown.id.map(str::to_owned);
        let mut waiting = Waiting {
            receiver: self,
            what: id.clone().unwrap_or_else(|| peer.to_string()),
            arrived,
            answered: false,
        };
        let answer = match &body {
            Ok(_) => self.answer(&head, bytes, shown.signature).await,
            Err((status, problem)) => {
                shown.problem = Some(problem.clone());
                let words = status.as_str().to_owned();
                let status = Some(*status);
                Answer {
                    status,
                    words,
                    ..Answer::default()
                }
            }
        };
        shown.answer = answer.status.map(|status| status.as_u16());
        shown.answer_words.clone_from(&answer.words);
        self.print(&match self.plan.format {
            OutputFormat::Text => shown.text(),
            OutputFormat::Json => shown.json(),
        });
        drop((body, permit));
        let Some(status) = answer.status else {
            return pending().await;
        };
        sleep(answer.delay).await;
        waiting.answered = true;
        if let (true, Some(id)) = (status.is_success(), &id) {
            self.with_history(|history| history.answered(id));
        }
        let mut response = response(status, "");
        if let Some(after) = answer.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }

    /// Decides the answer to a callback. Hands it to the local program where that
    /// is planned.
    async fn answer(&self, head: &Parts, bytes: &[u8], signature: &str) -> Answer {
        let mut answer = Answer::default();
        match &self.plan.answer {
            PlannedAnswer::Never => "never".clone_into(&mut answer.words),
            PlannedAnswer::Status(status, delay, retry_after) => {
                answer.words = format!("{} after {}", status.as_u16(), DurationText(*delay));
                (answer.status, answer.delay) = (Some(*status), *delay);
                answer.retry_after = retry_after.map(|after| after.as_secs().into());
            }
            PlannedAnswer::Forward(_) if signature != VERIFIED => {
                answer.status = Some(StatusCode::UNAUTHORIZED);
                "401, not forwarded: not verified".clone_into(&mut answer.words);
            }
            PlannedAnswer::Forward(target) => match forward(target, head, bytes.to_vec()).await {
                Ok((status, retry_after)) => {
                    answer.words = format!("{}, from {target}", status.as_u16());
                    (answer.status, answer.retry_after) = (Some(status), retry_after);
                }
                Err(error) => {
                    let error = safe(&error.to_string());
                    answer.words = format!("502, {target} failed: {error}");
                    answer.status = Some(StatusCode::BAD_GATEWAY);
                }
            },
        }
        answer
    }

    /// Verifies a callback, and counts it in the history.
    fn shown<'r>(&self, head: &'r Parts, peer: SocketAddr, bytes: &'r [u8]) -> Shown<'r> {
        let at = self.clock.now();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let signed = Signed {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        let verified = self.plan.keys.verify(&signed, bytes, at);
        let record_id = signed.id.filter(|id| id.len() <= RecordId::LEN_MAX);
        let sightings = self.with_history(|history| history.arrive(record_id, verified.is_ok()));
        let headers = head.headers.keys().map(|name| {
            let values = head.headers.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            (name.to_string(), values.collect::<Vec<_>>().join(", "))
        });
        let (body, problem) = show::read(bytes);
        Shown {
            at: at.0,
            path: head.uri.to_string(),
            peer: peer.to_string(),
            id: signed.id,
            attempt: header("ringback-attempt").and_then(|text| text.parse().ok()),
            seen: sightings.map(|sightings| sightings.times),
            answered_before: sightings.map(|sightings| sightings.answered),
            signature: verified.map_or_else(Unverified::name, |()| VERIFIED),
            answer: None,
            headers: headers.collect(),
            bytes: bytes.len(),
            problem,
            body,
            signature_words: verified.map_or_else(|e| e.to_string(), |()| VERIFIED.to_owned()),
            answer_words: String::new(),
            excerpt: bytes,
        }
    }

    /// Locks the history for a function.
    fn with_history<T>(&self, f: impl FnOnce(&mut CallbackHistory) -> T) -> T {
        f(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Prints on standard output. The receiver ends where that has no reader.
    fn print(&self, text: &str) {
        let mut out = io::stdout().lock();
        let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if printed.is_err() {
            self.unread.notify_one();
        }
    }
}

/// Reads a body within the limits.
///
/// Errors: the status that answers it, and why it is not whole.
async fn read(body: Incoming) -> Result<Vec<u8>, (StatusCode, String)> {
    let late = format!("no end of the body after {} s", BODY_TIME_MAX.as_secs());
    match timeout(BODY_TIME_MAX, to_bytes(Body::new(body), BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => {
            let problem = format!("the body is cut off, or above 16 MiB: {error}");
            Err((StatusCode::PAYLOAD_TOO_LARGE, safe(&problem)))
        }
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, late)),
    }
}

fn response(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}

/// A request without its answer. Its end is reported if the sender does not wait.
struct Waiting<'r> {
    receiver: &'r Receiver,
    what: String,
    arrived: Duration,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered && !self.receiver.closing.load(Ordering::Relaxed) {
            let (what, waited) = (safe(&self.what), clock::elapsed() - self.arrived);
            let waited = waited.as_secs_f64();
            tell(format_args!(
                "{what}: the sender hung up after {waited:.1} s, before the answer"
            ));
        }
    }
}
