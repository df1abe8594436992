//! A receiver of HTTP/2 over TLS that writes its frames itself. So it says exactly
//! which streams it has not processed, and it counts the POSTs on the others.

use super::to;
use crate::http::callback::Trust;
use crate::model::message::AttemptRequest;
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK.
const STATUS_200: &[u8] = &[0x88];
pub const NO_ERROR: u32 = 0;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// The behaviour of the receiver.
#[derive(Clone, Copy)]
pub enum H2Script {
    /// As nginx with `keepalive_requests`: answers this many requests of a connection,
    /// names the last of them in a GOAWAY, and ignores later streams.
    GoAwayAfter(usize),
    /// Declares all streams of its first connections unprocessed, with this reason.
    GoAwayBefore { connections: usize, reason: u32 },
    /// Sends a GOAWAY that names the stream of the first POST, and closes.
    GoAwayAtOurs,
    /// Resets its first streams with this reason.
    Reset { streams: usize, reason: u32 },
    /// Reads the first POST, and closes without a GOAWAY.
    Close,
}

/// What the receiver saw.
#[derive(Default)]
pub struct Seen {
    pub connections: usize,
    streams: usize,
    /// The POSTs of each record on streams that were not declared unprocessed.
    pub posts: HashMap<String, usize>,
    /// The POSTs that were declared unprocessed.
    pub unprocessed: usize,
}

pub struct H2Receiver {
    pub address: SocketAddr,
    pub trust: Trust,
    pub seen: Arc<Mutex<Seen>>,
}

impl H2Receiver {
    /// Starts a receiver with a certificate of its own, as `openssl req -x509` makes it.
    pub async fn start(script: H2Script) -> Self {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![made.der().clone()], PrivateKeyDer::Pkcs8(key))
            .expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("an open socket");
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let number = {
                        let mut seen = seen.lock().expect("no panic");
                        seen.connections += 1;
                        seen.connections
                    };
                    let mut connection = Connection {
                        stream,
                        seen,
                        script,
                        number,
                        streams: 0,
                        bodies: HashMap::new(),
                        last: None,
                    };
                    connection.serve().await;
                });
            }
        });
        Self {
            address,
            trust: Trust::SystemAnd(made.pem().into_bytes()),
            seen,
        }
    }

    /// Returns an attempt for the record with this id.
    pub fn attempt_of(&self, id: &str) -> AttemptRequest {
        let mut request = to(&format!("https://{}/call", self.address));
        let value = format!(r#"{{"id":"{id}","tenantId":"t-1"}}"#);
        request.call = crate::model::call::CallEnded::read(value.as_bytes()).expect("valid");
        request.value = Bytes::from(value);
        request
    }
}

struct Connection<S> {
    stream: S,
    seen: Arc<Mutex<Seen>>,
    script: H2Script,
    /// This is the receiver's connection of this number, from 1 on.
    number: usize,
    streams: usize,
    bodies: HashMap<u32, Vec<u8>>,
    /// The last stream that a GOAWAY named.
    last: Option<u32>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Close,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn serve(&mut self) -> Option<()> {
        let mut preface = [0; 24];
        self.stream.read_exact(&mut preface).await.ok()?;
        self.write(SETTINGS, 0, 0, &[]).await?;
        if let H2Script::GoAwayBefore {
            connections,
            reason,
        } = self.script
            && self.number <= connections
        {
            // The POST is on its way before the GOAWAY is.
            let first = self.frame_of(HEADERS).await?;
            self.go_away(0, reason).await?;
            self.on_headers(first).await?;
        }
        loop {
            let (kind, flags, stream, payload) = self.frame().await?;
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await?,
                HEADERS => self.on_headers(stream).await?,
                DATA => {
                    let length = u32::try_from(payload.len()).expect("a frame is short");
                    if length > 0 {
                        let credit = length.to_be_bytes();
                        self.write(WINDOW_UPDATE, 0, 0, &credit).await?;
                    }
                    self.bodies.entry(stream).or_default().extend(payload);
                    if flags & END_STREAM != 0 && self.on_post(stream).await? == Next::Close {
                        return Some(());
                    }
                }
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }

    /// Returns the stream of the next frame of this kind.
    async fn frame_of(&mut self, wanted: u8) -> Option<u32> {
        loop {
            let (kind, _, stream, _) = self.frame().await?;
            if kind == wanted {
                return Some(stream);
            }
        }
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
        let length = u32::try_from(payload.len()).expect("a frame is short");
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await.ok()?;
        self.stream.flush().await.ok()
    }

    async fn go_away(&mut self, last: u32, reason: u32) -> Option<()> {
        self.last = Some(last);
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await
    }

    async fn on_headers(&mut self, stream: u32) -> Option<()> {
        self.streams += 1;
        let streams = {
            let mut seen = self.seen.lock().expect("no panic");
            seen.streams += 1;
            if self.last.is_some_and(|last| stream > last) {
                seen.unprocessed += 1;
            }
            seen.streams
        };
        match self.script {
            H2Script::GoAwayAfter(requests) if self.streams == requests => {
                self.go_away(stream, NO_ERROR).await
            }
            H2Script::Reset {
                streams: first,
                reason,
            } if streams <= first => {
                if reason == REFUSED_STREAM {
                    self.seen.lock().expect("no panic").unprocessed += 1;
                } else {
                    // A receiver that only cancels may have processed the request.
                    self.bodies.insert(stream, Vec::new());
                    self.count(stream);
                }
                self.bodies.remove(&stream);
                self.write(RST_STREAM, 0, stream, &reason.to_be_bytes())
                    .await
            }
            _ => Some(()),
        }
    }

    fn count(&mut self, stream: u32) {
        let body = self.bodies.get(&stream).cloned().unwrap_or_default();
        let text = String::from_utf8(body).expect("JSON is text");
        let id = text.split('"').nth(5).unwrap_or("reset").to_owned();
        *self
            .seen
            .lock()
            .expect("no panic")
            .posts
            .entry(id)
            .or_default() += 1;
    }

    /// A whole POST is here.
    async fn on_post(&mut self, stream: u32) -> Option<Next> {
        if self.last.is_some_and(|last| stream > last) {
            return Some(Next::Read);
        }
        if let H2Script::Reset { streams, .. } = self.script
            && self.seen.lock().expect("no panic").streams <= streams
        {
            return Some(Next::Read);
        }
        self.count(stream);
        match self.script {
            H2Script::Close => return Some(Next::Close),
            H2Script::GoAwayAtOurs => {
                self.go_away(stream, NO_ERROR).await?;
                return Some(Next::Close);
            }
            _ => {}
        }
        self.write(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200)
            .await?;
        Some(Next::Read)
    }
}
