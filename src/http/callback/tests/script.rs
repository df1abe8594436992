//! Receivers that follow a script, on loopback.

use super::TIMEOUT;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The behaviour of a receiver on each connection.
#[derive(Clone, Copy)]
pub enum Script {
    /// Reads a request, writes this, and goes on with the next request.
    Answer(&'static str),
    /// Reads a request, writes this, and closes.
    AnswerAndClose(&'static str),
    /// Writes this at the first byte of a request, reads nothing more, closes.
    AnswerEarly(&'static str),
    /// Writes this before any request.
    Unasked(&'static str),
    /// Closes at once.
    Close,
    /// Reads a request and closes.
    ReadAndClose,
    /// Writes this and closes with the request unread, which resets.
    WriteAndReset(&'static str),
    /// Reads and never answers.
    Hang,
    /// Writes this one byte each 50 ms.
    Slowly(&'static str),
    /// Writes the first, and after a long wait the second.
    SlowBody(&'static str, &'static str),
}

/// Reads one request with its body; `None` where the peer has closed.
pub async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        text.extend_from_slice(&piece[..n]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = so_far.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse().ok());
            if length.is_some_and(|length: usize| body.len() >= length) {
                return Some(so_far);
            }
        }
    }
}

async fn play(script: Script, mut stream: TcpStream, seen: &mpsc::UnboundedSender<String>) {
    let write = async |stream: &mut TcpStream, text: &str| {
        // The peer may be gone by now; that is part of some scripts.
        let (Ok(()) | Err(_)) = stream.write_all(text.as_bytes()).await;
    };
    let mut first = [0; 1];
    match script {
        Script::Answer(text) | Script::SlowBody(text, _) => {
            while let Some(request) = read_request(&mut stream).await {
                seen.send(request).expect("the test listens");
                write(&mut stream, text).await;
                if let Script::SlowBody(_, rest) = script {
                    sleep(Duration::from_millis(200)).await;
                    write(&mut stream, rest).await;
                }
            }
        }
        Script::AnswerAndClose(text) => {
            if let Some(request) = read_request(&mut stream).await {
                seen.send(request).expect("the test listens");
            }
            write(&mut stream, text).await;
        }
        Script::AnswerEarly(text) => {
            stream.read_exact(&mut first).await.expect("a request");
            write(&mut stream, text).await;
            sleep(Duration::from_millis(100)).await;
        }
        Script::Unasked(text) => {
            write(&mut stream, text).await;
            read_request(&mut stream).await;
        }
        Script::Close => {}
        Script::ReadAndClose => {
            read_request(&mut stream).await;
        }
        Script::WriteAndReset(text) => {
            stream.peek(&mut first).await.expect("a request");
            write(&mut stream, text).await;
        }
        Script::Hang => {
            read_request(&mut stream).await;
            sleep(TIMEOUT * 3).await;
        }
        Script::Slowly(text) => {
            read_request(&mut stream).await;
            for at in 0..text.len() {
                write(&mut stream, &text[at..=at]).await;
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Starts a receiver. Returns its address, and the stream of its connections and
/// requests.
pub async fn receiver(script: Script) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            seen.send(format!("connection {from}")).expect("listening");
            let seen = seen.clone();
            tokio::spawn(async move { play(script, stream, &seen).await });
        }
    });
    (address, requests)
}
