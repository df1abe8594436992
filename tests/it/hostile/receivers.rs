//! Hostile receivers, each scripted in steps. They run on one thread.

use crate::support::http_parts::read_request;
use crate::support::tls::{Authority, Shows};
use bytes::Bytes;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a receiver does with each connection. After the last step it closes.
#[derive(Clone, Copy)]
pub enum Script {
    /// No port listens.
    NotListening,
    /// The port listens, and no connection is ever accepted.
    NeverAccept,
    /// Over TCP.
    Plain(&'static [Step]),
    /// Within TLS, with this certificate.
    Tls(Shows, &'static [Step]),
    /// Within TLS that offers HTTP/2 only.
    H2Bytes(&'static [Step]),
    /// As an HTTP/2 server.
    H2(H2),
}

/// One thing to do.
#[derive(Clone, Copy)]
pub enum Step {
    /// Reads the first byte of a request.
    ReadByte,
    /// Reads a whole request.
    ReadAll,
    /// Reads an HTTP/2 client's connection preface.
    ReadPreface,
    /// Reads frames up to the first that opens a stream: a request.
    ReadStream,
    /// Writes; `{self}` and `{trap}` become addresses.
    Write(&'static str),
    /// Writes bytes.
    Bytes(&'static [u8]),
    /// Writes one byte a second.
    Drip(&'static str),
    /// Repeats this text as fast as the client reads.
    Flood(&'static str),
    /// Repeats this text, 4 KiB each 10 ms.
    Stream(&'static str),
    /// Repeats this text, once each 100 ms.
    Trickle(&'static str),
    /// Writes 100 MB of zeros, gzipped.
    Bomb,
    /// Reads until the other side closes.
    Hang,
    /// Does nothing for a minute.
    Sit,
    /// Closes with a reset.
    Reset,
    /// Continues with the first step.
    Again,
}

/// How an HTTP/2 server treats requests.
#[derive(Clone, Copy)]
pub enum H2 {
    /// 200.
    Answer,
    /// Resets each stream for this reason.
    ResetStream(h2::Reason),
    /// Ends the connection for this reason.
    GoAway(h2::Reason),
    /// Never answers.
    Hang,
    /// Permits no body.
    NoWindow,
    /// Permits no stream.
    NoStreams,
}

/// A receiver that plays a script.
pub struct Playing {
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    /// Kept, so that the port of `NeverAccept` goes on listening.
    _listener: Option<TcpListener>,
}

impl Playing {
    /// Returns the number of requests that it has started to read.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The values that steps use.
#[derive(Clone)]
struct Setting {
    requests: Arc<AtomicUsize>,
    own: SocketAddr,
    trap: SocketAddr,
}

impl Setting {
    fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// Plays a script on its own port, as tasks of the current runtime.
pub async fn play(script: Script, authority: &Authority, trap: SocketAddr) -> Playing {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let own = listener.local_addr().expect("it is bound");
    let setting = Setting {
        requests: Arc::default(),
        own,
        trap,
    };
    let playing = |listener| Playing {
        address: own,
        requests: setting.requests.clone(),
        _listener: listener,
    };
    let (shows, protocols): (_, &[&str]) = match script {
        Script::NotListening => return playing(None),
        Script::NeverAccept => return playing(Some(listener)),
        Script::Tls(shows, _) => (shows, &["http/1.1"]),
        _ => (Shows::Right, &["h2"]),
    };
    let acceptor = authority.acceptor(shows, protocols);
    tokio::spawn(accept(listener, script, acceptor, setting.clone()));
    playing(None)
}

async fn accept(listener: TcpListener, script: Script, acceptor: TlsAcceptor, setting: Setting) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, setting) = (acceptor.clone(), setting.clone());
        tokio::spawn(async move {
            match script {
                Script::NotListening | Script::NeverAccept => {}
                Script::Plain(steps) => {
                    let mut socket = socket;
                    if let End::Reset = perform(steps, &mut socket, &setting).await {
                        reset(&socket);
                    }
                }
                Script::Tls(_, steps) | Script::H2Bytes(steps) => {
                    // A client that does not trust the certificate ends the handshake.
                    let Ok(mut stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    match perform(steps, &mut stream, &setting).await {
                        End::Reset => reset(stream.get_ref().0),
                        End::Close => {
                            stream.shutdown().await.ok();
                        }
                    }
                }
                Script::H2(how) => {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        serve_h2(stream, how, &setting).await;
                    }
                }
            }
        });
    }
}

fn reset(socket: &TcpStream) {
    socket.set_zero_linger().expect("an open socket");
}

enum End {
    Close,
    Reset,
}

async fn perform<S>(steps: &[Step], stream: &mut S, setting: &Setting) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::new();
    let mut step = steps.iter();
    while let Some(next) = step.next() {
        let done = match *next {
            Step::ReadByte => {
                let read = stream.read_buf(&mut buffer).await;
                let some = read.is_ok_and(|n| n > 0);
                some.then(|| setting.request())
            }
            Step::ReadAll => {
                let read = read_request(stream, &mut buffer).await;
                read.map(|_| setting.request())
            }
            Step::ReadPreface => stream.read_exact(&mut [0; 24]).await.ok().map(|_| ()),
            Step::ReadStream => read_stream(stream).await.map(|()| setting.request()),
            Step::Write(text) => {
                let text = text.replace("{self}", &setting.own.to_string());
                let text = text.replace("{trap}", &setting.trap.to_string());
                stream.write_all(text.as_bytes()).await.ok()
            }
            Step::Bytes(bytes) => stream.write_all(bytes).await.ok(),
            Step::Drip(text) => drip(stream, text).await,
            Step::Flood(text) => repeat(stream, text, 64 * 1024, Duration::ZERO).await,
            Step::Stream(text) => repeat(stream, text, 4 * 1024, Duration::from_millis(10)).await,
            Step::Trickle(text) => repeat(stream, text, 1, Duration::from_millis(100)).await,
            Step::Bomb => stream.write_all(&BOMB).await.ok(),
            Step::Hang => {
                let mut sink = tokio::io::sink();
                tokio::io::copy(stream, &mut sink).await.ok();
                None
            }
            Step::Sit => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                None
            }
            Step::Reset => return End::Reset,
            Step::Again => {
                step = steps.iter();
                Some(())
            }
        };
        // The other side is gone.
        if done.is_none() {
            return End::Close;
        }
    }
    stream.flush().await.ok();
    End::Close
}

/// Reads up to the first HEADERS frame.
///
/// Source: RFC 9113, section 4.1: a frame's length, type, flags and stream.
async fn read_stream(stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    const HEADERS: u8 = 1;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == HEADERS {
            return Some(());
        }
    }
}

async fn drip(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> Option<()> {
    for byte in text.as_bytes() {
        stream.write_all(&[*byte]).await.ok()?;
        stream.flush().await.ok()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Some(())
}

/// Repeats a text until the client is gone, in writes of about `bytes`.
async fn repeat(
    stream: &mut (impl AsyncWrite + Unpin),
    text: &str,
    bytes: usize,
    pause: Duration,
) -> Option<()> {
    let chunk = text.repeat((bytes / text.len()).max(1));
    loop {
        stream.write_all(chunk.as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        tokio::time::sleep(pause).await;
    }
}

/// 100 MB of zeros, gzipped: 97 kB.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let made = Command::new("sh")
        .args(["-c", "head -c 100000000 /dev/zero | gzip -9"])
        .stderr(Stdio::inherit())
        .output()
        .expect("every system has sh and gzip");
    assert!(made.status.success() && made.stdout.len() > 50_000);
    made.stdout
});

async fn serve_h2(stream: impl AsyncRead + AsyncWrite + Unpin, how: H2, setting: &Setting) {
    let mut builder = h2::server::Builder::new();
    match how {
        H2::NoWindow => {
            builder.initial_window_size(0);
        }
        H2::NoStreams => {
            builder.max_concurrent_streams(0);
        }
        _ => {}
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut held = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        setting.request();
        match how {
            H2::Answer => {
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(data)) = body.data().await {
                        body.flow_control().release_capacity(data.len()).ok();
                    }
                    let answer = axum::http::Response::new(());
                    respond.send_response(answer, true).ok();
                });
            }
            H2::ResetStream(reason) => respond.send_reset(reason),
            H2::GoAway(reason) => connection.abrupt_shutdown(reason),
            H2::Hang | H2::NoWindow | H2::NoStreams => held.push((request, respond)),
        }
    }
}
