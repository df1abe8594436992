//! Servers that a stack needs beside its receiver: an egress proxy, and a tenant's
//! server with TLS. Each has a thread of its own and ends with the program.

use crate::support::http_parts::read_request;
use crate::support::ports;
use crate::support::tls::{Authority, Shows};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Runs on a thread of its own.
fn spawn(server: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(server);
    });
}

fn listen() -> (std::net::TcpListener, SocketAddr) {
    let listener = ports::listen("127.0.0.1:0");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// An egress proxy for http URLs.
pub struct EgressProxy {
    address: SocketAddr,
    stopped: watch::Sender<bool>,
}

impl EgressProxy {
    /// Starts it.
    pub fn start() -> Self {
        let (listener, address) = listen();
        let (stopped, stop) = watch::channel(false);
        spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it does not block");
            let mut end = stop.clone();
            loop {
                tokio::select! {
                    _ = end.wait_for(|stopped| *stopped) => return,
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        tokio::spawn(pass(client));
                    }
                }
            }
        });
        Self { address, stopped }
    }

    /// For `--proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it with all its connections.
    pub fn stop(&self) {
        self.stopped.send(true).ok();
    }
}

/// Passes requests on, with the path instead of the whole URL.
async fn pass(mut client: TcpStream) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let request = read_request(&mut client, &mut buffer).await?;
        let url = request.path().to_owned();
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.split_once('/')?;
        let head = request.head.replacen(&url, &format!("/{path}"), 1);
        let mut server = TcpStream::connect(host).await.ok()?;
        server.write_all(head.as_bytes()).await.ok()?;
        server.write_all(&request.body).await.ok()?;
        // The receivers answer without a body.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = server.read_buf(&mut answer).await.ok()?;
            (read > 0).then_some(())?;
        }
        client.write_all(&answer).await.ok()?;
    }
}

/// A tenant's server with TLS.
pub struct TlsReceiver {
    authority: Authority,
    address: SocketAddr,
    acceptor: Arc<Mutex<TlsAcceptor>>,
}

impl TlsReceiver {
    /// Starts it with a certificate that is right.
    pub fn start() -> Self {
        let authority = Authority::new();
        let (listener, address) = listen();
        let acceptor = authority.acceptor(Shows::Right, &["http/1.1"]);
        let acceptor = Arc::new(Mutex::new(acceptor));
        let current = Arc::clone(&acceptor);
        spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it does not block");
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = current.lock().expect("no holder panics").clone();
                tokio::spawn(serve(acceptor, socket));
            }
        });
        Self {
            authority,
            address,
            acceptor,
        }
    }

    /// The authority of its certificate.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// The URL of its callback.
    pub fn url(&self) -> String {
        format!("https://{}/call-ended", self.address)
    }

    /// Its certificate has expired. New connections see that.
    pub fn expire(&self) {
        let expired = self.authority.acceptor(Shows::Expired, &["http/1.1"]);
        *self.acceptor.lock().expect("no holder panics") = expired;
    }
}

async fn serve(acceptor: TlsAcceptor, socket: TcpStream) -> Option<()> {
    let mut stream = acceptor.accept(socket).await.ok()?;
    let mut buffer = Vec::new();
    loop {
        read_request(&mut stream, &mut buffer).await?;
        stream.write_all(ANSWER).await.ok()?;
    }
}
