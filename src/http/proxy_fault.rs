//! Tells failures of the egress proxy from failures of receivers. The proxy belongs to
//! the operator, so its failures are no fault of a tenant. Knows no policy. Runs on
//! the runtimes of attempts.
//!
//! The client does not tell the status with which a proxy refuses a tunnel. So the
//! tunnel is asked for once more, without a request, and at most once in
//! [`ANSWER_AGE_MAX`] for each host.

use super::class::{self, ConnectFault};
use super::probe::{Prober, Tunnel};
use crate::clock;
use crate::model::attempt::ErrorClass;
use reqwest::header::PROXY_AUTHENTICATE;
use reqwest::{Response, StatusCode, Url};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the answer to a question for a tunnel counts.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(10);
/// The maximum number of remembered answers. When it is reached, all are forgotten.
const ANSWERS_MAX: usize = 4_096;

/// The class of a failure, and its detail.
pub(super) type Fault = (ErrorClass, String);

/// Finds out whether a failure is that of the egress proxy.
pub(super) struct ProxyFaults {
    prober: Prober,
    /// Whether the proxy itself is connected to by TLS.
    by_tls: bool,
    answers: Mutex<HashMap<Arc<str>, (Duration, TunnelAnswer)>>,
}

/// The proxy's answer to a question for a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TunnelAnswer {
    /// The proxy was not reached, or its TLS failed.
    NotAsked,
    /// It closed the connection, or answered no HTTP.
    None,
    Refused(u16),
    Opened,
}

impl ProxyFaults {
    /// Returns the faults of the proxy that this prober goes through.
    pub fn new(prober: Prober, proxy: &Url) -> Self {
        Self {
            prober,
            by_tls: proxy.scheme() == "https",
            answers: Mutex::default(),
        }
    }

    /// Returns the class of an attempt to this URL that failed with this error and
    /// would have this class without a proxy. `host` is the URL's origin.
    pub async fn of_error(
        &self,
        url: &Url,
        host: &Arc<str>,
        error: &reqwest::Error,
        fault: Fault,
    ) -> Fault {
        // Later errors come from the receiver, or through the proxy from it.
        if !error.is_connect() {
            return fault;
        }
        let tunneled = url.scheme() == "https";
        match class::connect_fault(error) {
            ConnectFault::NoConnection => of_proxy(&fault.1),
            ConnectFault::Tls if !self.by_tls => fault,
            ConnectFault::Tls if !tunneled => of_proxy(&fault.1),
            ConnectFault::Tls => match self.ask(url, host).await {
                TunnelAnswer::NotAsked => of_proxy(&fault.1),
                _ => fault,
            },
            ConnectFault::NoAnswer => fault,
            ConnectFault::Other if !tunneled => of_proxy(&fault.1),
            ConnectFault::Other => match self.ask(url, host).await {
                TunnelAnswer::Opened => fault,
                TunnelAnswer::NotAsked | TunnelAnswer::None => {
                    of_proxy("it closed the connection instead of opening a tunnel")
                }
                TunnelAnswer::Refused(status @ 500..) => {
                    let text =
                        format!("the egress proxy answered {status}: no way to the receiver");
                    (ErrorClass::Connect, text)
                }
                TunnelAnswer::Refused(status) => of_proxy(&format!("it answered {status}")),
            },
        }
    }

    /// Asks the proxy for a tunnel.
    async fn ask(&self, url: &Url, host: &Arc<str>) -> TunnelAnswer {
        let now = clock::elapsed();
        let young = |at: &Duration| now.saturating_sub(*at) < ANSWER_AGE_MAX;
        let kept = self
            .answers()
            .get(host)
            .filter(|(at, _)| young(at))
            .copied();
        if let Some((_, answer)) = kept {
            return answer;
        }
        let answer = match self.prober.tunnel(url).await {
            None => TunnelAnswer::NotAsked,
            Some(Tunnel { fault: None, .. }) => TunnelAnswer::Opened,
            Some(Tunnel { status, .. }) => status.map_or(TunnelAnswer::None, TunnelAnswer::Refused),
        };
        let mut answers = self.answers();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(Arc::clone(host), (now, answer));
        answer
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, (Duration, TunnelAnswer)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the fault in an answer that the proxy gave itself: it wants credentials.
/// Only a request without a tunnel gets such an answer from the proxy.
pub(super) fn of_answer(response: &Response) -> Option<Fault> {
    if response.url().scheme() == "https" {
        return None;
    }
    let status = response.status();
    let wants = status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || response.headers().contains_key(PROXY_AUTHENTICATE);
    wants.then(|| of_proxy(&format!("it answered {}", status.as_u16())))
}

fn of_proxy(why: &str) -> Fault {
    (ErrorClass::Proxy, format!("the egress proxy: {why}"))
}
