//! Hands a callback to a program on this machine, with body and headers as they
//! came. Runs on the command's runtime.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::pending;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Less than the 5 s for which the sender waits, so that it gets the answer.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Returns the program's status, and its Retry-After.
///
/// Errors: it cannot be reached, does not answer in time, or answers no HTTP.
pub async fn forward(
    target: &Uri,
    head: &Parts,
    body: Vec<u8>,
) -> Result<(StatusCode, Option<HeaderValue>), Box<dyn Error + Send + Sync>> {
    let exchange = async {
        let authority = target.authority().ok_or("the URL has no host")?;
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path).body(Body::from(body))?;
        let headers = request.headers_mut();
        headers.clone_from(&head.headers);
        // These belong to the connection from which it came.
        headers.remove(header::CONNECTION);
        headers.remove(header::TRANSFER_ENCODING);
        headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        let driven = async {
            // Its error reaches the request, too.
            let (Ok(()) | Err(_)) = connection.await;
            pending::<()>().await
        };
        tokio::select! {
            response = sender.send_request(request) => {
                let response = response?;
                let retry_after = response.headers().get(header::RETRY_AFTER);
                Ok((response.status(), retry_after.cloned()))
            }
            () = driven => Err("the connection ended".into()),
        }
    };
    let late = |_| format!("no answer within {} s", TIME_MAX.as_secs());
    timeout(TIME_MAX, exchange).await.map_err(late)?
}
