//! The tenants' receivers: one small server on loopback, with a path for each
//! role. It reports every POST to the witness, and never asks the service. Runs
//! as a task of the demo's runtime.

use super::tenants::{FAILING_FOR, Role, SLOW_ANSWER};
use super::witness::Witness;
use crate::clock::Clock;
use crate::model::time::UnixMillis;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::net::TcpListener;

/// The receivers' shared state.
#[derive(Clone)]
pub struct Receivers {
    witness: Arc<Mutex<Witness>>,
    clock: Arc<Clock>,
    failing_since: Arc<OnceLock<UnixMillis>>,
}

impl Receivers {
    /// Returns receivers that report to this witness.
    #[must_use]
    pub fn new(witness: Arc<Mutex<Witness>>, clock: Arc<Clock>) -> Self {
        Self {
            witness,
            clock,
            failing_since: Arc::default(),
        }
    }

    /// Serves until it is dropped.
    ///
    /// Errors: the listener fails.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let router = Router::new()
            .route("/{role}", post(receive))
            .with_state(self);
        axum::serve(listener, router).await
    }

    fn with_witness<T>(&self, f: impl FnOnce(&mut Witness) -> T) -> T {
        f(&mut self.witness.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Behaves as this role does. Returns the status of the answer.
    async fn behave(&self, role: Role) -> StatusCode {
        match role {
            Role::Healthy | Role::NoCallback => StatusCode::OK,
            Role::Slow => {
                tokio::time::sleep(SLOW_ANSWER).await;
                StatusCode::OK
            }
            Role::Failing => {
                let now = self.clock.now();
                let since = *self.failing_since.get_or_init(|| now);
                if now.since(since) < FAILING_FOR {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::OK
                }
            }
            Role::Dead => std::future::pending().await,
        }
    }
}

async fn receive(
    State(receivers): State<Receivers>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let Some(role) = Role::from_name(&path) else {
        return StatusCode::NOT_FOUND;
    };
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let id = header("webhook-id").unwrap_or_default();
    let attempt = header("ringback-attempt").unwrap_or_default();
    receivers.with_witness(|witness| witness.posted(role, id, attempt, &body));
    let status = receivers.behave(role).await;
    if status.is_success() {
        receivers.with_witness(|witness| witness.delivered(id));
    }
    status
}
