//! The HTTP side of the receiver: reads each request whole, shows it, and
//! answers. Runs on the command's runtime, one task a connection.
//!
//! Limits: 512 connections, a head of 64 KiB, and a body of 16 MiB within 6 s. An
//! attempt has one second less. Eight bodies are in memory at a time, so all have
//! at most 128 MiB. Bytes beyond a limit are not read. A request that waits for its
//! slow answer holds its connection only.

use super::body::{BodyKind, Callback};
use super::explain::explain;
use super::history::CallbackHistory;
use super::show::{EXCERPT_CHARS_MAX, Shown};
use super::terminal::{cut, safe};
use super::{OutputFormat, PlannedAnswer, ReceivePlan, tell};
use crate::clock::{self, Clock};
use crate::contract::CONTRACT;
use crate::http::signature::{Signed, Unverified};
use crate::model::call::RecordId;
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(6);
/// Bodies in memory at a time, so that all together have at most 128 MiB.
const BODIES_MAX: usize = 8;
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The end of a body: whole; or the status that answers it, if not the planned one,
/// and why it is not whole.
pub type Ending = Result<(), (Option<StatusCode>, String)>;

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
        let (bytes, ending) = read(body).await;
        let mut answer = self.plan.answer;
        if let Err((Some(status), _)) = ending {
            answer.status = answer.status.and(Some(status));
        }
        let shown = self.shown(&head, peer, &bytes, ending, answer);
        self.print(&match self.plan.format {
            OutputFormat::Text => shown.text(),
            OutputFormat::Json => shown.json(),
        });
        let id = shown.id.clone();
        drop((bytes, permit, shown));

        let mut waiting = Waiting {
            receiver: self,
            what: id.clone().unwrap_or_else(|| peer.to_string()),
            arrived,
            answered: false,
        };
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
            let seconds = after.as_secs().into();
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// Verifies and explains a callback, and counts it in the history.
    pub fn shown(
        &self,
        head: &Parts,
        peer: SocketAddr,
        bytes: &[u8],
        ending: Ending,
        answer: PlannedAnswer,
    ) -> Shown {
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
        let read = match ending {
            Ok(()) => Callback::read(bytes),
            Err((_, why)) => Err((BodyKind::Incomplete, why)),
        };
        let (callback, body, detail) = match read {
            Ok(callback) => (callback, BodyKind::Callback, None),
            Err((kind, what)) => (Callback::default(), kind, Some(what)),
        };
        let excerpt = || cut(&String::from_utf8_lossy(bytes), EXCERPT_CHARS_MAX);
        Shown {
            at: at.0,
            path: head.uri.to_string(),
            peer: peer.to_string(),
            id: signed.id.map(str::to_owned),
            attempt: header("ringback-attempt").and_then(|text| text.parse().ok()),
            seen: sightings.map(|sightings| sightings.times),
            answered_before: sightings.map(|sightings| sightings.answered),
            signature: verified.map_or_else(Unverified::name, |()| "verified"),
            answer: answer.status.map(|status| status.as_u16()),
            headers: headers.collect(),
            bytes: bytes.len(),
            body,
            detail: detail.filter(|_| body != BodyKind::Empty),
            excerpt: (body != BodyKind::Callback).then(excerpt),
            fields: explain(&callback.data, &CONTRACT.data, None),
            absent: callback.absent,
            signature_words: verified.map_or_else(|e| e.to_string(), |()| "verified".to_owned()),
            answer_words: answer.to_string(),
            left_out: callback.data.left_out,
            beside: callback.beside,
        }
    }

    /// Locks the history for a function.
    pub fn with_history<T>(&self, f: impl FnOnce(&mut CallbackHistory) -> T) -> T {
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
async fn read(mut body: Incoming) -> (Vec<u8>, Ending) {
    let mut bytes = Vec::new();
    let whole = async {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(frame) = frame else {
                let why = format!("the connection ended after {} bytes", bytes.len());
                return Err((None, why));
            };
            let data = frame.into_data().unwrap_or_default();
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                let why = "larger than is held here, not read on".to_owned();
                return Err((Some(StatusCode::PAYLOAD_TOO_LARGE), why));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    let ending = timeout(BODY_TIME_MAX, whole).await.unwrap_or_else(|_| {
        let (length, after) = (bytes.len(), BODY_TIME_MAX.as_secs());
        let why = format!("{length} bytes and no end after {after} s");
        Err((Some(StatusCode::REQUEST_TIMEOUT), why))
    });
    (bytes, ending)
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
