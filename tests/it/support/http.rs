//! Blocking requests to what listens on this machine: the service's own pages,
//! and the test tools that are driven over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// For tools: a browser takes a while to start on a busy machine.
const TOOL_TIMEOUT: Duration = Duration::from_secs(60);

/// Status and body of a page, or `None` where nothing answers.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    ask(port, "GET", path, "", TIMEOUT)
}

/// The answer to a POST of JSON.
pub fn post(port: u16, path: &str, json: &str) -> Option<(u16, String)> {
    ask(port, "POST", path, json, TOOL_TIMEOUT)
}

/// The answer to a DELETE.
pub fn delete(port: u16, path: &str) -> Option<(u16, String)> {
    ask(port, "DELETE", path, "", TOOL_TIMEOUT)
}

fn ask(
    port: u16,
    method: &str,
    path: &str,
    body: &str,
    timeout: Duration,
) -> Option<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    // Not every server closes though it is asked to.
    while !is_whole(&answer) {
        match stream.read(&mut chunk).ok()? {
            0 => break,
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        unchunk(body)?
    } else {
        body.to_owned()
    };
    Some((status, body))
}

/// Whether an answer with a stated length is there to its end.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let stated = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok());
    stated.is_some_and(|length| answer.len() >= end + 4 + length)
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size + 2..)?;
    }
}
