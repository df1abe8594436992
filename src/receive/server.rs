//! The receiver's side of HTTP: reads a request whole, shows it, answers as it
//! was told to. Runs on the command's runtime, one task a connection.
//!
//! Limits: 512 connections; a head of 64 KiB; a body of 16 MiB within 6 s, which
//! is a second more than an attempt has; 128 MiB of bodies at once, beyond which
//! a body is not read on. A request that waits for its slow answer holds its
//! connection only.

use super::escape::{cut, safe};
use super::seen::Seen;
use super::show::{Arrival, Ending};
use super::signed::Verdict;
use super::{Answer, Form, Plan};
use crate::clock::{self, Clock};
use crate::model::time::DurationText;
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(6);
const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub struct Receiver {
    plan: Plan,
    clock: Clock,
    seen: Mutex<Seen>,
    callbacks: AtomicUsize,
    verified: AtomicUsize,
    held_bytes: AtomicUsize,
    ending: AtomicBool,
    unread: Notify,
}

impl Receiver {
    /// A receiver that does so.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            clock: Clock::start(),
            seen: Mutex::default(),
            callbacks: AtomicUsize::new(0),
            verified: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            unread: Notify::new(),
        }
    }

    /// Serves until it is dropped, or until nobody reads what it prints.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let room = connections.len() < CONNECTIONS_MAX;
            tokio::select! {
                accepted = listener.accept(), if room => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(Arc::clone(self).connection(stream, peer));
                    }
                    Err(error) => {
                        self.notice(&format!("a connection could not be accepted: {error}"));
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = self.unread.notified() => return,
            }
        }
    }

    /// What came until now; nothing is said about what is cut off from here on.
    pub fn close(&self) -> String {
        self.ending.store(true, Ordering::Relaxed);
        let callbacks = self.callbacks.load(Ordering::Relaxed);
        let verified = self.verified.load(Ordering::Relaxed);
        let repeats = self.with_seen(|seen| seen.repeats);
        format!("{callbacks} callbacks, {repeats} of them seen before, {verified} verified")
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
            self.notice(&format!(
                "{peer}: what came is not HTTP ({error}); this receiver speaks http, not https"
            ));
        }
    }

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<String> {
        match *request.method() {
            Method::POST => self.callback(request, peer).await,
            Method::GET | Method::HEAD => plain(
                StatusCode::OK,
                "ringback receive: POST callbacks here\n".to_owned(),
            ),
            ref other => {
                let method = cut(other.as_str(), 20);
                self.notice(&format!(
                    "{peer}: {method} answered 405: callbacks are POST"
                ));
                plain(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "callbacks are POST\n".to_owned(),
                )
            }
        }
    }

    async fn callback(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<String> {
        let arrived = clock::elapsed();
        let (head, body) = request.into_parts();
        let (bytes, share, ending) = self.read(body).await;
        let arrival = self.arrival(&head, bytes, ending, peer);
        self.print(&match self.plan.form {
            Form::Text => arrival.text(),
            Form::Json => arrival.json(),
        });
        let id = arrival.record_id().map(str::to_owned);
        drop((arrival, share));

        let answer = &self.plan.answer;
        let status = status(answer, ending);
        let mut waiting = Waiting {
            receiver: self,
            what: id.clone().unwrap_or_else(|| peer.to_string()),
            arrived,
            answered: false,
        };
        if answer.silent {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(answer.delay).await;
        waiting.answered = true;
        if let (true, Some(id)) = (status.is_success(), &id) {
            self.with_seen(|seen| seen.answered(id));
        }
        let mut response = plain(status, String::new());
        if let Some(after) = answer.retry_after {
            let seconds = after.as_secs().into();
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    /// What is known of a request once it has been read.
    fn arrival(&self, head: &Parts, bytes: Vec<u8>, ending: Ending, peer: SocketAddr) -> Arrival {
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let answer = &self.plan.answer;
        let status = (!answer.silent).then(|| status(answer, ending).as_u16());
        let now = self.clock.now();
        let mut arrival = Arrival {
            at: now,
            peer: peer.to_string(),
            path: head.uri.to_string(),
            headers: headers.collect(),
            bytes,
            ending,
            known: None,
            signature: Verdict::NotSigned,
            status,
            answering: words(answer, status),
        };
        let header = |name: &str| arrival.header(name);
        let keys = self.plan.keys.as_ref();
        arrival.signature = Verdict::of(header, &arrival.bytes, keys, now);
        if arrival.signature == Verdict::Verified {
            self.verified.fetch_add(1, Ordering::Relaxed);
        }
        self.callbacks.fetch_add(1, Ordering::Relaxed);
        let id = arrival.record_id();
        arrival.known = id.map(|id| self.with_seen(|seen| seen.arrive(id)));
        arrival
    }

    /// As much of a body as comes within the limits, and its share of what all
    /// bodies hold.
    async fn read(&self, mut body: Incoming) -> (Vec<u8>, Share<'_>, Ending) {
        let mut bytes = Vec::new();
        let mut share = Share {
            bytes: 0,
            all: &self.held_bytes,
        };
        let whole = async {
            loop {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    None => return Ending::Whole,
                    Some(Err(_)) => return Ending::Broken,
                    Some(Ok(frame)) => {
                        let Ok(data) = frame.into_data() else {
                            continue;
                        };
                        if !share.grow(data.len()) {
                            return Ending::TooLarge;
                        }
                        bytes.extend_from_slice(&data);
                    }
                }
            }
        };
        let ending = tokio::time::timeout(BODY_TIME_MAX, whole).await;
        let ending = ending.unwrap_or(Ending::TooSlow(BODY_TIME_MAX.as_secs()));
        (bytes, share, ending)
    }

    fn with_seen<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// On standard output; where nobody reads it any more, the end.
    fn print(&self, text: &str) {
        let mut out = io::stdout().lock();
        let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if printed.is_err() {
            self.unread.notify_one();
        }
    }

    /// What is no callback, on standard error, so that standard output has one
    /// line a callback.
    fn notice(&self, text: &str) {
        super::tell(&safe(text));
    }
}

/// What one body holds of all bodies' bytes, until it is dropped.
struct Share<'r> {
    bytes: usize,
    all: &'r AtomicUsize,
}

impl Share<'_> {
    /// Takes more; false where there is no room for it.
    fn grow(&mut self, more: usize) -> bool {
        let all = self.all.load(Ordering::Relaxed) + more;
        let fits = self.bytes + more <= BODY_BYTES_MAX && all <= BODIES_BYTES_MAX;
        if fits {
            self.bytes += more;
            self.all.store(all, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request without its answer; says so when the other side does not wait.
struct Waiting<'r> {
    receiver: &'r Receiver,
    what: String,
    arrived: Duration,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered && !self.receiver.ending.load(Ordering::Relaxed) {
            let waited = clock::elapsed().saturating_sub(self.arrived);
            let text = format!(
                "{}: the sender hung up after {:.1} s, before the answer",
                self.what,
                waited.as_secs_f64()
            );
            self.receiver.notice(&text);
        }
    }
}

/// What is answered: as told, but to a body that did not come whole.
fn status(answer: &Answer, ending: Ending) -> StatusCode {
    match ending {
        Ending::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Ending::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        Ending::Whole | Ending::Broken => answer.status,
    }
}

fn words(answer: &Answer, status: Option<u16>) -> String {
    let Some(status) = status else {
        return "never".to_owned();
    };
    let mut words = status.to_string();
    if !answer.delay.is_zero() {
        words += &format!(" after {}", DurationText(answer.delay));
    }
    if let Some(after) = answer.retry_after {
        words += &format!(", Retry-After: {}", after.as_secs());
    }
    words
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}
