//! The HTTP side of the receiver: reads each request whole, shows it, and
//! answers. Runs on the command's runtime, one task a connection.
//!
//! Limits: 512 connections, a head of 64 KiB, and a body of 16 MiB within 6 s. An
//! attempt has one second less. All bodies together have at most 128 MiB. Bytes
//! beyond a limit are not read. A request that waits for its slow answer holds its
//! connection only.

use super::body::{BodyKind, Callback};
use super::explain::explain;
use super::history::CallbackHistory;
use super::show::{Shown, excerpt};
use super::terminal::{cut, safe};
use super::verify::verify;
use super::{OutputFormat, PlannedAnswer, ReceivePlan, tell};
use crate::clock::{self, Clock};
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
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(6);
const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The end of a body: whole, or cut short.
pub type Ending = Result<(), CutShort>;

/// Why a body is not whole, and the status that answers it, if not the planned.
pub struct CutShort {
    pub why: String,
    pub status: Option<StatusCode>,
}

/// The state that all connections share.
pub struct Receiver {
    plan: ReceivePlan,
    clock: Clock,
    history: Mutex<CallbackHistory>,
    /// One permit for each byte that bodies may still take.
    body_bytes: Semaphore,
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
            body_bytes: Semaphore::new(BODIES_BYTES_MAX),
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
                        tell(&format!("a connection could not be accepted: {error}"));
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
        self.with_history(|history| history.to_string())
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let receiver = &self;
        let service = service_fn(move |request| {
            let receiver = Arc::clone(receiver);
            async move { Ok::<_, Infallible>(receiver.handle(request, peer).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await
            && error.is_parse()
        {
            let error = safe(&error.to_string());
            tell(&format!(
                "{peer}: what came is not HTTP ({error}); this receiver speaks http, not https"
            ));
        }
    }

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<String> {
        match *request.method() {
            Method::POST => self.callback(request, peer).await,
            Method::GET | Method::HEAD => {
                Response::new("ringback receive: POST callbacks here\n".to_owned())
            }
            ref other => {
                let method = cut(other.as_str(), 20);
                tell(&format!(
                    "{peer}: {method} answered 405: callbacks are POST"
                ));
                let mut response = Response::new("callbacks are POST\n".to_owned());
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                response
            }
        }
    }

    async fn callback(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<String> {
        let arrived = clock::elapsed();
        let (head, body) = request.into_parts();
        let (bytes, share, ending) = self.read(body).await;
        let mut answer = self.plan.answer;
        if let Err(CutShort { status, .. }) = &ending {
            answer.status = answer.status.map(|planned| status.unwrap_or(planned));
        }
        let shown = self.shown(&head, peer, &bytes, ending, answer);
        self.print(&match self.plan.format {
            OutputFormat::Text => shown.text(),
            OutputFormat::Json => shown.json(),
        });
        let id = shown.id.clone();
        drop((bytes, share, shown));

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
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        if let Some(after) = answer.retry_after {
            let seconds = after.as_secs().into();
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// Reads a body within the limits. Returns it with its share of the bytes
    /// that all bodies may take.
    async fn read(&self, mut body: Incoming) -> (Vec<u8>, SemaphorePermit<'_>, Ending) {
        let cut_short = |status, why| Err(CutShort { why, status });
        let mut bytes = Vec::new();
        let none = self.body_bytes.try_acquire_many(0);
        let mut share = none.expect("it is never closed");
        let whole = async {
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let Ok(frame) = frame else {
                    let why = format!("the connection ended after {} bytes", bytes.len());
                    return cut_short(None, why);
                };
                let data = frame.into_data().unwrap_or_default();
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                match self.body_bytes.try_acquire_many(length) {
                    Ok(more) if bytes.len() + data.len() <= BODY_BYTES_MAX => share.merge(more),
                    Ok(_) | Err(_) => {
                        let why = "larger than is held here, not read on".to_owned();
                        return cut_short(Some(StatusCode::PAYLOAD_TOO_LARGE), why);
                    }
                }
                bytes.extend_from_slice(&data);
            }
            Ok(())
        };
        let ending = timeout(BODY_TIME_MAX, whole).await.unwrap_or_else(|_| {
            let (length, after) = (bytes.len(), BODY_TIME_MAX.as_secs());
            let why = format!("{length} bytes and no end after {after} s");
            cut_short(Some(StatusCode::REQUEST_TIMEOUT), why)
        });
        (bytes, share, ending)
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
        let (verdict, signature_words) = verify(header, bytes, self.plan.keys.as_ref(), at);
        let id = header("webhook-id");
        let record_id = id.filter(|id| id.len() <= RecordId::LEN_MAX);
        let sightings = self.with_history(|history| history.arrive(record_id, verdict));
        let values = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        });
        let read = match ending {
            Ok(()) => Callback::read(bytes),
            Err(cut) => Err((BodyKind::Incomplete, cut.why)),
        };
        let absent = read.as_ref().map(Callback::absent).unwrap_or_default();
        let (callback, body, detail) = match read {
            Ok(callback) => (callback, BodyKind::Callback, None),
            Err((kind, what)) => {
                let detail = (kind != BodyKind::Empty).then_some(what);
                (Callback::default(), kind, detail)
            }
        };
        Shown {
            at: at.0,
            path: head.uri.to_string(),
            peer: peer.to_string(),
            id: id.map(str::to_owned),
            attempt: header("ringback-attempt").and_then(|text| text.parse().ok()),
            seen: sightings.map(|sightings| sightings.times),
            answered_before: sightings.map(|sightings| sightings.answered),
            signature: verdict,
            answer: answer.status.map(|status| status.as_u16()),
            headers: values.collect(),
            bytes: bytes.len(),
            body,
            detail,
            excerpt: (body != BodyKind::Callback).then(|| excerpt(bytes)),
            fields: explain(&callback.data),
            absent,
            signature_words,
            answer_words: answer.to_string(),
            left_out: callback.data.left_out,
            beside: callback.beside,
        }
    }

    /// Calls a function with the history of callbacks.
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
            tell(&format!(
                "{what}: the sender hung up after {waited:.1} s, before the answer"
            ));
        }
    }
}
