//! The pages: paths, status codes and texts. Runs on the operators' thread.

use super::page;
use super::status::Status;
use crate::model::time::UnixMillis;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// How old the text of `/metrics` may be. Rendering costs a millisecond and
/// takes the counters' locks: a thousand scrapes a second make ten.
const METRICS_AGE_MAX: Duration = Duration::from_millis(100);

/// What the pages are made of.
#[derive(Clone)]
pub struct Pages {
    status: Arc<Status>,
    metrics: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    /// When the text of `/metrics` was last rendered, and the text.
    rendered: Arc<Mutex<Option<(UnixMillis, Bytes)>>>,
    now: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
}

impl Pages {
    /// Pages over this status; `metrics` renders `/metrics`, `now` tells the
    /// time by the service's clock.
    pub fn new(
        status: Arc<Status>,
        metrics: impl Fn() -> Vec<u8> + Send + Sync + 'static,
        now: impl Fn() -> UnixMillis + Send + Sync + 'static,
    ) -> Self {
        Self {
            status,
            metrics: Arc::new(metrics),
            rendered: Arc::default(),
            now: Arc::new(now),
        }
    }

    fn metrics(&self) -> Bytes {
        let now = (self.now)();
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match rendered.as_ref() {
            Some((at, text)) if now.since(*at) < METRICS_AGE_MAX => text.clone(),
            _ => {
                let text = Bytes::from((self.metrics)());
                *rendered = Some((now, text.clone()));
                text
            }
        }
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/statusz", get(statusz))
            .route("/", get(index))
            .with_state(self)
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    ([(CONTENT_TYPE, METRICS)], pages.metrics()).into_response()
}

async fn healthz(State(pages): State<Pages>) -> Response {
    verdict(pages.status.health((pages.now)()))
}

async fn readyz(State(pages): State<Pages>) -> Response {
    verdict(pages.status.readiness((pages.now)()))
}

fn verdict(verdict: Result<(), String>) -> Response {
    let (code, text) = match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    };
    (code, [(CONTENT_TYPE, TEXT)], text).into_response()
}

async fn statusz(State(pages): State<Pages>) -> Response {
    let now = (pages.now)();
    let json = pages
        .status
        .view(now, |view| serde_json::to_string_pretty(view));
    let mut text = json.expect("names and numbers are always JSON");
    text.push('\n');
    ([(CONTENT_TYPE, JSON)], text).into_response()
}

async fn index(State(pages): State<Pages>) -> Response {
    let now = (pages.now)();
    let text = pages.status.view(now, |view| page::render(view, now.0));
    let headers = [
        (CONTENT_TYPE, HTML),
        (CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
