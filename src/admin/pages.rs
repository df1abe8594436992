//! The pages: paths, status codes and texts. Runs on the operators' thread.

use super::status::Status;
use crate::model::time::UnixMillis;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What the pages are made of.
#[derive(Clone)]
pub struct Pages {
    status: Arc<Status>,
    metrics: Arc<dyn Fn() -> Vec<u8> + Send + Sync>,
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
            now: Arc::new(now),
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
    ([(CONTENT_TYPE, METRICS)], (pages.metrics)()).into_response()
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
    let text = format!("{:#}\n", pages.status.json((pages.now)()));
    ([(CONTENT_TYPE, JSON)], text).into_response()
}

async fn index(State(pages): State<Pages>) -> Response {
    let now = (pages.now)();
    let state = match pages.status.readiness(now) {
        Ok(()) => "ready".to_owned(),
        Err(reason) => format!("not ready: {}", escaped(&reason)),
    };
    let status = escaped(&format!("{:#}", pages.status.json(now)));
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>ringback</title>\
         <h1>ringback</h1><p>{state}</p><pre>{status}</pre>\
         <p><a href=\"/metrics\">metrics</a> <a href=\"/healthz\">health</a> \
         <a href=\"/readyz\">readiness</a> <a href=\"/statusz\">status</a></p></html>\n"
    );
    ([(CONTENT_TYPE, HTML)], page).into_response()
}

/// A text as it may stand in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
