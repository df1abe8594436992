//! The pages: paths, status codes and texts. Never changes the service. Runs on
//! the thread of the operators' pages.

use super::page;
use super::status::Status;
use super::view::View;
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

/// The maximum age of the text of `/metrics`. Rendering costs a millisecond and
/// takes the locks of the counters, so a thousand scrapes a second render ten times.
const METRICS_AGE_MAX: Duration = Duration::from_millis(100);

/// The sources of the pages.
#[derive(Clone)]
pub struct Pages {
    status: Arc<Status>,
    metrics: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
    /// When the text of `/metrics` was last rendered, and the text.
    rendered: Arc<Mutex<Option<(UnixMillis, Bytes)>>>,
    now: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
}

impl Pages {
    /// Returns pages that show this status. `metrics` renders `/metrics`, `now`
    /// reads the clock of the service.
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

    /// Passes the present content of the pages to `show`.
    fn view<T>(&self, show: impl FnOnce(&View<'_>, UnixMillis) -> T) -> T {
        let now = (self.now)();
        show(&View::new(&self.status, &self.status.overview(), now), now)
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
            .route("/livez", get(livez))
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

async fn livez(State(pages): State<Pages>) -> Response {
    verdict(pages.status.liveness((pages.now)()), "")
}

async fn healthz(State(pages): State<Pages>) -> Response {
    let now = (pages.now)();
    verdict(pages.status.health(now), &pages.status.remarks(now))
}

async fn readyz(State(pages): State<Pages>) -> Response {
    verdict(pages.status.readiness((pages.now)()), "")
}

fn verdict(verdict: Result<(), String>, more: &str) -> Response {
    let (code, text) = match verdict {
        Ok(()) => (StatusCode::OK, format!("ok\n{more}")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n{more}")),
    };
    (code, [(CONTENT_TYPE, TEXT)], text).into_response()
}

async fn statusz(State(pages): State<Pages>) -> Response {
    let json = pages.view(|view, _| serde_json::to_string_pretty(view));
    let mut text = json.expect("names and numbers are always JSON");
    text.push('\n');
    ([(CONTENT_TYPE, JSON)], text).into_response()
}

async fn index(State(pages): State<Pages>) -> Response {
    let text = pages.view(|view, now| page::render(view, now.0));
    let headers = [
        (CONTENT_TYPE, HTML),
        (CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
