//! One POST to a tenant: one deadline over name resolution, connection, TLS,
//! sending and the response's head, which alone decides. No redirect is
//! followed, nothing is sent twice, no cookie is kept. Never decides what
//! follows from an outcome. Runs on the attempts' runtime.
//!
//! What "nothing is sent twice" rests on: reqwest's own retries are off (they
//! would send again what an HTTP/2 peer refused, REFUSED_STREAM or GOAWAY, a
//! second POST that nobody counts). The pool below does take another connection
//! where a kept one turns out closed, but only if it gets the whole request back
//! from its queue, so that no byte of it was written. A POST that meets the
//! closing half written is a failed attempt: nobody can know whether it arrived.
//!
//! Limits, and the arithmetic behind them:
//! - Idle connections live 4 s: below the 5 s after which common receivers
//!   (Node's) close theirs, or a POST would now and then meet the closing.
//! - A connection that is not kept costs the next attempt a new one (measured:
//!   76 us of CPU a POST instead of 35), so all are, for whichever host, as long
//!   as `kept` counts fewer than 1,024. Sockets to receivers are those and the
//!   attempts in flight; an attempt that looks its name up holds the lookup's
//!   instead, and one that tries addresses of both families may hold two for a
//!   moment. Not counted is a connection that an attempt began and did not
//!   wait for, because another one to the same host came free: there may be some
//!   while a host that is slow to connect begins to get many records.
//! - The body of an answer is read to 4 KiB and for 50 ms (longer than a
//!   delayed acknowledgement, 40 ms), only so that its connection can be used
//!   again. A body that is larger or slower loses its connection instead of
//!   holding the attempt's slot: a handshake costs less than a slot.
//! - An HTTP/2 peer may send 64 KiB of a stream unasked and 1 MiB in all.

use super::address_guard::{AddressGuard, RefusedAddress, Resolves};
use super::class;
use super::head;
use super::kept::Kept;
use super::names::Names;
use super::signature::Keys;
use crate::clock;
use crate::model::attempt::{ErrorClass, Outcome};
use crate::model::message::AttemptRequest;
use crate::model::tenant::{Tenant, TenantId};
use crate::model::time::UnixMillis;
use ipnet::IpNet;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Body, Client, Method, Request, Response, Url};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

const IDLE_MAX: Duration = Duration::from_secs(4);
/// Idle connections to one host: more are not needed where at most so many
/// attempts begin at once.
const HOST_IDLE_MAX: usize = 256;
/// The pool looks for connections to close once in that time, so one may live
/// twice as long.
const IDLE_OPEN_MAX: Duration = IDLE_MAX.saturating_mul(2);
const BODY_BYTES_MAX: usize = 4 * 1024;
const BODY_WAIT_MAX: Duration = Duration::from_millis(50);
/// A lookup's share of the deadline: what remains is little enough for a
/// receiver, and a name server that is silent is told from a receiver that is
/// (`dns`, not `timeout`), for it is somebody else who can help.
const LOOKUP_SHARE: f64 = 0.9;
const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// A peer that is gone without a word is noticed after this long, so that an
/// HTTP/2 connection, which outlives its attempts, does not fail all of them.
const PEER_SILENT_MAX: Duration = Duration::from_secs(5);
/// Prepared tenants kept; at some 2 KiB each, 16 MiB. Beyond it all are
/// prepared anew, at a few microseconds each.
const PREPARED_MAX: usize = 8_192;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ATTEMPT: HeaderName = HeaderName::from_static("ringback-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whom TLS trusts.
#[derive(Clone)]
pub enum Trust {
    /// The system's certificates.
    System,
    /// The system's, and those in this PEM text.
    SystemAnd(Vec<u8>),
    /// Nobody: every callback by https fails. For the demo, which has none, so
    /// that it also runs where no certificates are installed.
    Nobody,
}

/// What attempts rest on; checked by `config`.
#[derive(Clone)]
pub struct HttpSettings {
    /// The one deadline.
    pub timeout: Duration,
    /// Ours, for `user-agent`.
    pub version: &'static str,
    /// Networks that callbacks may reach although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// An egress proxy, which then resolves names itself.
    pub proxy: Option<String>,
    /// Whom TLS trusts.
    pub trust: Trust,
    /// Whether connections are kept for further attempts, or each is closed with
    /// its own.
    pub keeps: bool,
}

/// An attempt's claim on a kept connection, until it is dropped.
struct Claim<'a> {
    kept: &'a Mutex<Kept>,
    host: &'a Arc<str>,
    /// Whether the connection may be open afterwards.
    open: bool,
}

/// Sends attempts. Built once; shared.
pub struct Callbacks {
    /// Keeps connections, where any are kept.
    keeping: Option<Client>,
    /// Closes each with its attempt.
    closing: Client,
    kept: Mutex<Kept>,
    timeout: Duration,
    guard: AddressGuard,
    names: Arc<Names>,
    /// The headers that are the same for all.
    common: HeaderMap,
    prepared: Mutex<HashMap<TenantId, Arc<Prepared>>>,
}

/// What is the same for every attempt to one tenant.
struct Prepared {
    /// The settings it was made from: others in their place make it stale.
    tenant: Arc<Tenant>,
    url: Result<Url, Outcome>,
    /// By which connections are used again: the URL's scheme, host and port.
    host: Arc<str>,
    keys: Keys,
    /// With an empty place for each header that differs between attempts, so
    /// that its copy need not grow.
    headers: HeaderMap,
}

impl Callbacks {
    /// Makes the client; opens nothing.
    ///
    /// Errors: no trusted certificates, a proxy that is not a URL, a PEM text
    /// without certificates.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        let names = Arc::new(Names::new(settings.timeout.mul_f64(LOOKUP_SHARE)));
        let resolves = match settings.proxy {
            Some(_) => Resolves::Proxy,
            None => Resolves::Receivers,
        };
        let guard = AddressGuard::new(&settings.allow_networks, Arc::clone(&names), resolves);
        Self::with_guard(settings, guard, names)
    }

    fn with_guard(
        settings: HttpSettings,
        guard: AddressGuard,
        names: Arc<Names>,
    ) -> Result<Self, HttpError> {
        let keeping = match settings.keeps {
            true => Some(client(&settings, guard.clone(), HOST_IDLE_MAX)?),
            false => None,
        };
        let closing = client(&settings, guard.clone(), 0)?;
        let user_agent = format!("ringback/{}", settings.version);
        let mut common = HeaderMap::new();
        common.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        common.insert(
            USER_AGENT,
            HeaderValue::try_from(user_agent).expect("our version is visible ASCII"),
        );
        for name in [WEBHOOK_ID, WEBHOOK_TIMESTAMP, ATTEMPT] {
            common.insert(name, HeaderValue::from_static(""));
        }
        Ok(Self {
            keeping,
            closing,
            kept: Mutex::new(Kept::new(IDLE_OPEN_MAX)),
            timeout: settings.timeout,
            guard,
            names,
            common,
            prepared: Mutex::default(),
        })
    }

    /// Looks names up as these contents of resolv.conf and the hosts file say.
    pub fn look_names_up_in(&self, resolv_conf: &[u8], hosts: &[u8]) {
        self.names.look_in(resolv_conf, hosts);
    }

    /// One attempt, which starts when it is first polled. `started_at` becomes
    /// `webhook-timestamp`.
    pub fn attempt(
        self: &Arc<Self>,
        order: AttemptRequest,
        started_at: UnixMillis,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let callbacks = Arc::clone(self);
        async move {
            let prepared = callbacks.prepared(&order.tenant);
            let request = match request(&prepared, &order, started_at) {
                Ok(request) => request,
                Err(outcome) => return outcome,
            };
            // The body holds its own share of the value.
            drop(order);
            callbacks.send(request, &prepared.host, started_at).await
        }
    }

    fn prepared(&self, tenant: &Arc<Tenant>) -> Arc<Prepared> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = prepared.get(&tenant.id)
            && Arc::ptr_eq(&found.tenant, tenant)
        {
            return Arc::clone(found);
        }
        if prepared.len() >= PREPARED_MAX && !prepared.contains_key(&tenant.id) {
            prepared.clear();
        }
        let made = Arc::new(self.prepare(tenant));
        prepared.insert(tenant.id.clone(), Arc::clone(&made));
        made
    }

    fn prepare(&self, tenant: &Arc<Tenant>) -> Prepared {
        let mut headers = self.common.clone();
        for (name, value) in &tenant.headers {
            let name = HeaderName::try_from(name).expect("config has checked header names");
            let mut value =
                HeaderValue::try_from(&value.0).expect("config has checked header values");
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if !tenant.secrets.is_empty() {
            headers.insert(WEBHOOK_SIGNATURE, HeaderValue::from_static(""));
        }
        let url = self.url(tenant);
        let host = url.as_ref().map_or_else(
            |_| Arc::from(""),
            |url| Arc::from(url.origin().ascii_serialization()),
        );
        Prepared {
            tenant: Arc::clone(tenant),
            url,
            host,
            keys: Keys::read(&tenant.secrets).expect("config has checked secrets"),
            headers,
        }
    }

    /// The tenant's URL. A literal address in it is judged here, because no
    /// resolver will see it.
    fn url(&self, tenant: &Tenant) -> Result<Url, Outcome> {
        let url = Url::parse(&tenant.url.0)
            .map_err(|error| failed(ErrorClass::Connect, format!("the callback url: {error}")))?;
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(address) if !self.guard.permitted(address) => {
                let refused = RefusedAddress::new(host).to_string();
                Err(failed(ErrorClass::RefusedAddress, refused))
            }
            Ok(_) | Err(_) => Ok(url),
        }
    }

    async fn send(&self, request: Request, host: &Arc<str>, started_at: UnixMillis) -> Outcome {
        let mut claim = self.claim(host);
        let client = match (&claim, &self.keeping) {
            (Some(_), Some(keeping)) => keeping,
            _ => &self.closing,
        };
        let mut outcome = None;
        let whole = async {
            match client.execute(request).await {
                Ok(mut response) => {
                    if let Some(claim) = &mut claim {
                        claim.open = true;
                    }
                    outcome = Some(head::judge(&response, started_at));
                    finish_body(&mut response).await;
                }
                Err(error) => {
                    if let Some(claim) = claim.as_mut().filter(|_| error.is_connect()) {
                        claim.open = false;
                    }
                    let (class, detail) = class::classify(&error);
                    outcome = Some(failed(class, detail));
                }
            }
        };
        let within = timeout(self.timeout, whole).await;
        match (outcome, within) {
            // Whatever became of the body.
            (Some(outcome), _) => outcome,
            (None, _) => failed(
                ErrorClass::Timeout,
                format!("no answer within {} ms", self.timeout.as_millis()),
            ),
        }
    }

    fn claim<'a>(&'a self, host: &'a Arc<str>) -> Option<Claim<'a>> {
        self.keeping.as_ref()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.begin(host, clock::elapsed()) {
            return None;
        }
        Some(Claim {
            kept: &self.kept,
            host,
            // An HTTP/2 connection, which only TLS offers, outlives its
            // attempts however they end.
            open: host.starts_with("https:"),
        })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.end(self.host, self.open, clock::elapsed());
    }
}

/// The request of an order, or its outcome where none can be sent.
fn request(
    prepared: &Prepared,
    order: &AttemptRequest,
    started_at: UnixMillis,
) -> Result<Request, Outcome> {
    let url = prepared.url.clone()?;
    let mut headers = prepared.headers.clone();
    let id = HeaderValue::from_str(order.call.id.as_str()).expect("a record id is visible ASCII");
    headers.insert(WEBHOOK_ID, id);
    let timestamp = started_at.0.div_euclid(1_000);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    let body = order.call.body(&order.value);
    if let Some(signature) = prepared.keys.sign(order.call.id.as_str(), timestamp, &body) {
        headers.insert(WEBHOOK_SIGNATURE, signature);
    }
    headers.insert(ATTEMPT, HeaderValue::from(u16::from(order.attempt)));
    if let Some(text) = &order.traceparent {
        let value = HeaderValue::from_str(text).expect("a traceparent is hex and dashes");
        headers.insert(TRACEPARENT, value);
    }
    let mut request = Request::new(Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(Body::from(body));
    Ok(request)
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Reads a short body to its end, so that the connection can be used again.
/// How this goes changes nothing: what is not read closes the connection.
async fn finish_body(response: &mut Response) {
    let length = response.content_length();
    if length.is_some_and(|length| length == 0 || length > BODY_BYTES_MAX as u64) {
        return;
    }
    let reading = async {
        let mut left = BODY_BYTES_MAX;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    match timeout(BODY_WAIT_MAX, reading).await {
        Ok(()) | Err(_) => {}
    }
}

fn failed(class: ErrorClass, detail: String) -> Outcome {
    Outcome::Failed {
        class,
        status: None,
        retry_after: None,
        detail,
    }
}

/// A client that keeps at most so many idle connections to one host.
fn client(
    settings: &HttpSettings,
    guard: AddressGuard,
    idle_max: usize,
) -> Result<Client, HttpError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let ring = rustls::crypto::ring::default_provider();
        // Another thread that was faster installed the same one.
        let (Ok(()) | Err(_)) = ring.install_default();
    }
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tcp_nodelay(true)
        // Also for connections that finish without the attempt that began them.
        .connect_timeout(settings.timeout)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(idle_max)
        .tcp_user_timeout(PEER_SILENT_MAX)
        .http2_keep_alive_interval(PEER_SILENT_MAX)
        .http2_keep_alive_timeout(PEER_SILENT_MAX)
        .http2_initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .dns_resolver(guard);
    if let Some(proxy) = &settings.proxy {
        let proxy = reqwest::Proxy::all(proxy).map_err(|e| HttpError::Proxy(e.without_url()))?;
        builder = builder.proxy(proxy);
    }
    builder = match &settings.trust {
        Trust::System => builder,
        Trust::SystemAnd(pem) => {
            let further =
                reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Certificates)?;
            if further.is_empty() {
                return Err(HttpError::NoCertificates);
            }
            builder.tls_certs_merge(further)
        }
        Trust::Nobody => builder.tls_certs_only([]),
    };
    builder.build().map_err(HttpError::Client)
}

/// Why no client could be made.
#[derive(Debug)]
pub enum HttpError {
    /// The proxy's URL; its text is not repeated, it may hold a password.
    Proxy(reqwest::Error),
    /// The further certificates cannot be read.
    Certificates(reqwest::Error),
    /// The PEM text has none.
    NoCertificates,
    /// TLS or the client as a whole.
    Client(reqwest::Error),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(_) => f.write_str("the egress proxy is not a url that can be used"),
            Self::Certificates(_) => f.write_str("the further certificates cannot be read as pem"),
            Self::NoCertificates => f.write_str("the file of further certificates holds none"),
            Self::Client(_) => f.write_str(
                "the http client cannot be made: are trusted certificates installed (package ca-certificates)?",
            ),
        }
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Proxy(error) | Self::Certificates(error) | Self::Client(error) => Some(error),
            Self::NoCertificates => None,
        }
    }
}

#[cfg(test)]
mod tests;
