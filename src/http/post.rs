//! The POST of an attempt. A receiver that says that it has not processed a POST gets
//! it again within the same attempt. Decides when that is safe. Runs on the runtimes
//! of attempts.
//!
//! A POST is sent again only where the receiver cannot have processed it:
//! - It has reset the stream with REFUSED_STREAM (RFC 9113, section 8.7).
//! - It has named a lower stream as the last one in a GOAWAY. The client gives this
//!   error to streams above the last one. It also gives it to a stream that it
//!   starts at the moment of a GOAWAY, and whose head the receiver may have. Such
//!   a stream has no body yet. So the error counts only after the body was taken.
//!
//! Not sent again: a POST whose connection closes without these, and one whose
//! receiver asks for calm (ENHANCE_YOUR_CALM).

use super::class::{self, Unprocessed};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use reqwest::header::HeaderMap;
use reqwest::{Body, Client, Method, Request, Response, Url};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// The maximum number of times that one attempt sends a POST again. A connection of
/// its own carries nothing else, so that two of them are enough.
pub(super) const RESENDS_MAX: usize = 3;

/// A POST that may be sent again.
pub(super) struct CallbackPost {
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl CallbackPost {
    /// Sends the POST, and sends it again while the receiver has not processed it.
    /// `shared` is the client that reuses connections; `own` makes a new connection.
    pub async fn send(&self, shared: &Client, own: &Client) -> Result<Response, reqwest::Error> {
        let mut client = shared;
        let mut resends = 0;
        loop {
            let (request, taken) = self.request();
            let error = match client.execute(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            client = match class::unprocessed(&error) {
                _ if resends == RESENDS_MAX => return Err(error),
                // All attempts that the GOAWAY met share the next connection.
                Some(Unprocessed::GoAway) if resends == 0 && taken.is() => shared,
                Some(Unprocessed::GoAway) if taken.is() => own,
                Some(Unprocessed::Refused) => own,
                Some(Unprocessed::GoAway) | None => return Err(error),
            };
            resends += 1;
        }
    }

    fn request(&self) -> (Request, BodyTaken) {
        let mut request = Request::new(Method::POST, self.url.clone());
        request.headers_mut().clone_from(&self.headers);
        let taken = BodyTaken::default();
        // HTTP/2 is offered with TLS only.
        let body = match self.url.scheme() {
            "https" => Body::wrap(WatchedBody {
                bytes: Some(self.body.clone()),
                taken: taken.clone(),
            }),
            _ => Body::from(self.body.clone()),
        };
        *request.body_mut() = Some(body);
        (request, taken)
    }
}

/// Whether the client has taken the body of a request.
#[derive(Clone, Default)]
struct BodyTaken(Arc<AtomicBool>);

impl BodyTaken {
    fn is(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A body that remembers that it was taken.
struct WatchedBody {
    bytes: Option<Bytes>,
    taken: BodyTaken,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.taken.0.store(true, Ordering::SeqCst);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.bytes.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(bytes as u64)
    }
}
