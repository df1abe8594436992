//! One POST to a tenant. One deadline covers name resolution, connection, TLS,
//! sending and the head of the response, which alone decides the outcome. No
//! redirect is followed, nothing is sent twice, no cookie is stored. Never decides
//! what follows from an outcome. Runs on the runtimes of attempts.
//!
//! Why nothing is sent twice: the retries of reqwest are off. `post` sends again only
//! what an HTTP/2 receiver says that it has not processed. The connection pool
//! does retry on another connection where a pooled one is closed, but only while no
//! byte of the request is written. A POST that is half written when its connection
//! closes is a failed attempt: it may have arrived.
//!
//! Limits, and the arithmetic behind them:
//! - Connections to a host are renewed after 60 s, 1,000 requests or failures (see
//!   `pool`). So a changed name and new instances are found.
//! - Idle connections are closed after 4 s. Common receivers (Node's) close theirs
//!   after 5 s, and a POST could meet that moment.
//! - A POST on a new connection costs 76 us of CPU, on a reused one 35 (measured).
//!   So connections are reused, at most 1,024 of them for all hosts (see `pool`).
//!   Sockets to receivers are those and the attempts in progress. While an attempt
//!   resolves a name it has the sockets of the lookup instead. While it tries
//!   addresses of both families it may have two.
//! - Not counted is a connection that an attempt started and did not need, because
//!   another one to the same host became free. A host that is slow to connect may
//!   cause some of them.
//! - The body of an answer is read only to reuse the connection. The limits are
//!   4 KiB and 50 ms, longer than a delayed acknowledgement (40 ms). A larger
//!   or slower body costs the connection, since a handshake is cheaper than a
//!   blocked attempt.
//! - An HTTP/2 peer may send 64 KiB of a stream in advance and 1 MiB in total.

use super::address_guard::{AddressGuard, RefusedAddress};
use super::class;
use super::clients::{Clients, IDLE_MAX};
use super::head;
use super::names::Names;
use super::pool::{AttemptEnd, BundleId, Carries, ConnectionAfter, Health, IdlePool};
use super::post::CallbackPost;
use super::probe::Prober;
use super::proxy_fault::{self, ProxyFaults};
use super::settings::LOOKUP_SHARE;
pub use super::settings::{ConnectionReuse, HttpError, HttpSettings, Trust};
use super::signature::Keys;
use super::url_check;
use crate::clock;
use crate::model::attempt::{ErrorClass, Outcome};
use crate::model::message::AttemptRequest;
use crate::model::tenant::{Tenant, TenantId};
use crate::model::time::UnixMillis;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Response, Url, Version};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// The pool closes idle connections once in [`IDLE_MAX`], so one may stay open
/// for twice that time.
const IDLE_OPEN_MAX: Duration = IDLE_MAX.saturating_mul(2);
const BODY_BYTES_MAX: usize = 4 * 1024;
const BODY_WAIT_MAX: Duration = Duration::from_millis(50);
/// The maximum number of prepared tenants; at some 2 KiB each, 16 MiB. When it is
/// reached, all are dropped and prepared again, at a few microseconds each.
const PREPARED_MAX: usize = 8_192;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ATTEMPT: HeaderName = HeaderName::from_static("ringback-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The place of an attempt in the pool, until it is dropped.
struct Claim<'a> {
    connections: &'a Mutex<Connections>,
    bundle: BundleId,
    client: Client,
    end: AttemptEnd,
}

/// The clients, and the connections that later attempts may use again.
struct Connections {
    /// New certificates replace them. Attempts in progress keep the old ones.
    clients: Clients,
    pool: IdlePool<Client>,
    /// `None` without an egress proxy.
    proxy: Option<Arc<ProxyFaults>>,
}

/// Sends attempts. Built once and shared.
pub struct Callbacks {
    connections: Mutex<Connections>,
    settings: HttpSettings,
    guard: AddressGuard,
    names: Arc<Names>,
    /// The headers that are the same for all tenants.
    common: HeaderMap,
    prepared: Mutex<HashMap<TenantId, Arc<Prepared>>>,
}

/// The parts of a request that are the same for every attempt to one tenant.
struct Prepared {
    /// The settings that this was made from. Other settings make it stale.
    tenant: Arc<Tenant>,
    url: Result<Url, Outcome>,
    /// The deadline of an attempt to this tenant.
    timeout: Duration,
    /// Scheme, host and port of the URL. The pool reuses connections by them.
    host: Arc<str>,
    keys: Keys,
    /// All headers. Those that differ between attempts are empty here, so that a
    /// copy need not grow.
    headers: HeaderMap,
}

impl Callbacks {
    /// Makes the clients; opens no connection.
    ///
    /// Errors: there are no trusted certificates, the proxy is not a URL, or the
    /// PEM text has no certificate.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        let names = Arc::new(Names::new(settings.timeout.mul_f64(LOOKUP_SHARE)));
        let guard = settings.guard(Arc::clone(&names));
        Self::with_guard(settings, guard, names)
    }

    fn with_guard(
        settings: HttpSettings,
        guard: AddressGuard,
        names: Arc<Names>,
    ) -> Result<Self, HttpError> {
        let clients = Clients::new(&settings, &guard)?;
        let proxy = proxy_faults(&settings, &names)?;
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
            connections: Mutex::new(Connections {
                clients,
                pool: IdlePool::new(IDLE_OPEN_MAX),
                proxy,
            }),
            settings,
            guard,
            names,
            common,
            prepared: Mutex::default(),
        })
    }

    /// Resolves names by these contents of resolv.conf and the hosts file.
    pub fn look_names_up_in(&self, resolv_conf: &[u8], hosts: &[u8]) {
        self.names.look_in(resolv_conf, hosts);
    }

    /// Uses these certificates for new connections: PEM of the authorities to trust
    /// beside those of the system, and PEM of the certificate to show. Connections
    /// without an attempt are closed. Makes new clients, which takes milliseconds.
    ///
    /// Errors: as of [`Callbacks::new`]. The old certificates stay in use.
    pub fn renew_certificates(
        &self,
        ca: Option<&[u8]>,
        client: Option<&[u8]>,
    ) -> Result<(), HttpError> {
        let settings = HttpSettings {
            trust: match ca {
                Some(pem) => Trust::SystemAnd(pem.to_vec()),
                None => self.settings.trust.clone(),
            },
            client_cert: client.map(<[u8]>::to_vec),
            ..self.settings.clone()
        };
        let new = Clients::new(&settings, &self.guard)?;
        let proxy = proxy_faults(&settings, &self.names)?;
        let mut connections = self.connections();
        (connections.clients, connections.proxy) = (new, proxy);
        connections.pool.retire_all();
        Ok(())
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        let connections = self.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the future of one attempt, which starts when it is first polled.
    /// `started_at` is the wall time; it becomes `webhook-timestamp`.
    pub fn attempt(
        self: &Arc<Self>,
        request: AttemptRequest,
        started_at: UnixMillis,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let callbacks = Arc::clone(self);
        async move {
            let prepared = callbacks.prepared(&request.tenant);
            let post = match post(&prepared, &request, started_at) {
                Ok(post) => post,
                Err(outcome) => return outcome,
            };
            // The body shares the memory of the value.
            drop(request);
            callbacks.send(post, &prepared, started_at).await
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
            timeout: tenant.timeout.unwrap_or(self.settings.timeout),
            host,
            keys: Keys::read(&tenant.secrets).expect("config has checked secrets"),
            headers,
        }
    }

    /// Returns the URL of a tenant. A literal address in it is checked here,
    /// because it needs no lookup.
    fn url(&self, tenant: &Tenant) -> Result<Url, Outcome> {
        let url = Url::parse(&tenant.url.0)
            .map_err(|error| failed(ErrorClass::Connect, format!("the callback url: {error}")))?;
        match url_check::literal(&url) {
            Some(address) if !self.guard.permitted(address) => {
                let host = url.host_str().unwrap_or_default();
                let refused = RefusedAddress::new(host).to_string();
                Err(failed(ErrorClass::RefusedAddress, refused))
            }
            Some(_) | None => Ok(url),
        }
    }

    async fn send(
        &self,
        post: CallbackPost,
        prepared: &Prepared,
        started_at: UnixMillis,
    ) -> Outcome {
        let (mut claim, closing) = self.claim(&prepared.host);
        let client = claim.as_ref().map_or(&closing, |claim| &claim.client);
        let client = client.clone();
        let mut outcome = None;
        let whole = async {
            match post.send(&client, &closing).await {
                Ok(mut response) => {
                    if let Some(claim) = &mut claim {
                        claim.answered(&response);
                    }
                    outcome = Some(self.judge(&response, started_at));
                    finish_body(&mut response).await;
                }
                Err(error) => {
                    if let Some(claim) = claim.as_mut().filter(|_| error.is_connect()) {
                        claim.end.after = ConnectionAfter::Closed;
                    }
                    let (class, detail) = class::classify(&error);
                    outcome = Some(failed(class, detail.clone()));
                    let proxy = self.connections().proxy.clone();
                    if let Some(proxy) = proxy {
                        let (url, host) = (&post.url, &prepared.host);
                        let fault = proxy.of_error(url, host, &error, (class, detail));
                        let (class, detail) = fault.await;
                        outcome = Some(failed(class, detail));
                    }
                }
            }
        };
        let within = timeout(prepared.timeout, whole).await;
        match (outcome, within) {
            // The body changes nothing.
            (Some(outcome), _) => outcome,
            (None, _) => failed(
                ErrorClass::Timeout,
                format!("no answer within {} ms", prepared.timeout.as_millis()),
            ),
        }
    }

    fn judge(&self, response: &Response, started_at: UnixMillis) -> Outcome {
        let fault = match self.settings.proxy {
            Some(_) => proxy_fault::of_answer(response),
            None => None,
        };
        match fault {
            Some((class, detail)) => Outcome::Failed {
                class,
                status: Some(response.status().as_u16()),
                retry_after: None,
                detail,
            },
            None => head::judge(response, started_at),
        }
    }

    /// Returns the place of an attempt in the pool, unless it must close its connection,
    /// and the client that closes connections.
    fn claim<'a>(&'a self, host: &Arc<str>) -> (Option<Claim<'a>>, Client) {
        let mut connections = self.connections();
        let Connections { clients, pool, .. } = &mut *connections;
        let closing = clients.closing.clone();
        if self.settings.reuse == ConnectionReuse::CloseAfterAttempt {
            return (None, closing);
        }
        let begun = pool.begin(host, clock::elapsed(), || clients.reusing());
        let claim = begun.map(|(bundle, client)| Claim {
            connections: &self.connections,
            bundle,
            client,
            end: AttemptEnd {
                // An HTTP/2 connection stays open however its attempts end. Only TLS
                // offers HTTP/2.
                after: match host.starts_with("https:") {
                    true => ConnectionAfter::Open,
                    false => ConnectionAfter::Closed,
                },
                carries: None,
                health: Health::Fails,
            },
        });
        (claim, closing)
    }
}

impl Claim<'_> {
    fn answered(&mut self, response: &Response) {
        self.end = AttemptEnd {
            after: ConnectionAfter::Open,
            carries: Some(match response.version() {
                Version::HTTP_2 => Carries::ManyRequests,
                _ => Carries::OneRequest,
            }),
            health: match response.status().is_server_error() {
                true => Health::Fails,
                false => Health::Works,
            },
        };
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let connections = self.connections.lock();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        let pool = &mut connections.pool;
        pool.end(self.bundle, self.end, clock::elapsed());
    }
}

/// Returns the faults of the egress proxy, if there is one.
fn proxy_faults(
    settings: &HttpSettings,
    names: &Arc<Names>,
) -> Result<Option<Arc<ProxyFaults>>, HttpError> {
    let Some(proxy) = settings
        .proxy
        .as_ref()
        .and_then(|proxy| Url::parse(proxy).ok())
    else {
        return Ok(None);
    };
    let prober = Prober::with_names(settings, Arc::clone(names))?;
    Ok(Some(Arc::new(ProxyFaults::new(prober, &proxy))))
}

/// Returns the POST of an attempt, or the outcome where it cannot be sent.
fn post(
    prepared: &Prepared,
    request: &AttemptRequest,
    started_at: UnixMillis,
) -> Result<CallbackPost, Outcome> {
    let url = prepared.url.clone()?;
    let mut headers = prepared.headers.clone();
    let id = HeaderValue::from_str(request.call.id.as_str()).expect("a record id is visible ASCII");
    headers.insert(WEBHOOK_ID, id);
    let timestamp = started_at.0.div_euclid(1_000);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    let body = request.call.body(&request.value);
    if let Some(signature) = prepared
        .keys
        .sign(request.call.id.as_str(), timestamp, &body)
    {
        headers.insert(WEBHOOK_SIGNATURE, signature);
    }
    headers.insert(ATTEMPT, HeaderValue::from(u16::from(request.attempt)));
    if let Some(text) = &request.traceparent {
        let value = HeaderValue::from_str(text).expect("a traceparent is hex and dashes");
        headers.insert(TRACEPARENT, value);
    }
    Ok(CallbackPost { url, headers, body })
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("timeout", &self.settings.timeout)
            .finish_non_exhaustive()
    }
}

/// Reads a short body to its end, so that the connection can be reused. An unread
/// body closes the connection and changes nothing else.
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

#[cfg(test)]
mod tests;
