//! `ringback health`: one GET to a running service, for health checks of
//! containers that have no curl. Plain HTTP/1.1 over a socket: an HTTP client
//! takes longer to start than the request itself. Runs on the main thread.

use super::{Exit, fault, print, refuse};
use crate::cli::HealthArgs;
use crate::config::mistake::{Mistake, both};
use crate::config::{settings, values};
use crate::model::time::DurationText;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The maximum size of an answer, in bytes. The rest is not read.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Sends the request, and prints the first line of the answer.
#[must_use]
pub fn run(args: &HealthArgs) -> Exit {
    let (timeout, target) = match target(args) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    match answer(&target, timeout) {
        Ok(Answer {
            status: 200..=299,
            text,
        }) => {
            print(format_args!("healthy: {text}"));
            Exit::Done
        }
        Ok(Answer { status, text }) => failed(format!("unhealthy: {status} {text}")),
        Err(why) => failed(why),
    }
}

fn failed(why: String) -> Exit {
    fault(Box::<dyn Error>::from(why).as_ref())
}

/// The request: where to send it, and the path.
#[derive(PartialEq, Eq, Debug)]
struct Target {
    /// Asked in this order, until one accepts the connection.
    hosts: Vec<String>,
    port: u16,
    path: String,
}

/// The answer: status and first line.
#[derive(PartialEq, Eq, Debug)]
struct Answer {
    status: u16,
    text: String,
}

fn target(args: &HealthArgs) -> Result<(Duration, Target), Vec<Mistake>> {
    let allowed = Duration::from_millis(100)..=Duration::from_secs(60);
    let timeout = values::duration(&args.timeout, allowed)
        .map_err(|text| vec![Mistake::new("--timeout", text)]);
    let target = match &args.url {
        Some(url) => of_url(url).map_err(|text| vec![Mistake::new("--url", text)]),
        None => settings::read_listen(&args.settings).map(of_listen),
    };
    both(timeout, target)
}

fn of_url(text: &str) -> Result<Target, String> {
    let wrong = || "not allowed: write http://host:port/path".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    let host = url
        .host_str()
        .filter(|_| url.scheme() == "http")
        .ok_or_else(wrong)?;
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    Ok(Target {
        hosts: vec![host.trim_matches(['[', ']']).to_owned()],
        port: url.port().unwrap_or(80),
        path: format!("{}{query}", url.path()),
    })
}

/// Returns the target of a listen address. For all addresses this is loopback: of
/// IPv4 too where the host lacks IPv6, as the service then listens there.
fn of_listen(listen: SocketAddr) -> Target {
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let ips: Vec<IpAddr> = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
        ip => vec![ip],
    };
    Target {
        hosts: ips.iter().map(IpAddr::to_string).collect(),
        port: listen.port(),
        path: "/healthz".to_owned(),
    }
}

/// Sends the request.
///
/// Errors: why there is no answer.
fn answer(target: &Target, limit: Duration) -> Result<Answer, String> {
    let cannot = |error| format!("cannot reach the service: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let answer = runtime.block_on(async { timeout(limit, request(target)).await });
    // A slow name lookup must not delay the end.
    runtime.shutdown_background();
    let late = |_| format!("no answer within {}", DurationText(limit));
    let answer = answer.map_err(late)?.map_err(cannot)?;
    parse(&answer).ok_or_else(|| "the answer is not HTTP".to_owned())
}

/// Connects to the first host that accepts it.
async fn connect(target: &Target) -> io::Result<(TcpStream, &str)> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for host in &target.hosts {
        match TcpStream::connect((host.as_str(), target.port)).await {
            Ok(stream) => return Ok((stream, host)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

async fn request(target: &Target) -> io::Result<Vec<u8>> {
    let (mut stream, host) = connect(target).await?;
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: {host}:{}\r\nuser-agent: ringback/{}\r\nconnection: close\r\n\r\n",
        target.path,
        target.port,
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let status = text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let line = body.lines().map(str::trim).find(|line| !line.is_empty());
    Some(Answer {
        status,
        text: line.unwrap_or("(no text)").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_url_or_the_listen_address() {
        let target = |hosts: &str, port, path: &str| Target {
            hosts: hosts.split(' ').map(str::to_owned).collect(),
            port,
            path: path.to_owned(),
        };
        for (listen, hosts) in [
            ("0.0.0.0:1", "127.0.0.1"),
            ("[::]:1", "::1 127.0.0.1"),
            ("10.0.0.1:1", "10.0.0.1"),
        ] {
            let listen = listen.parse().unwrap();
            assert_eq!(of_listen(listen), target(hosts, 1, "/healthz"));
        }
        assert_eq!(
            of_url("http://h/readyz?a"),
            Ok(target("h", 80, "/readyz?a"))
        );
        assert_eq!(of_url("http://[::1]:9"), Ok(target("::1", 9, "/")));
        for bad in ["https://h", "h:1", "", "http://"] {
            assert!(of_url(bad).is_err(), "{bad}");
        }
    }

    /// So it is on a host without IPv6.
    #[test]
    fn the_next_host_is_asked_where_the_first_refuses() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1_024];
            let read = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let target = of_listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        let found = answer(&target, Duration::from_secs(60)).expect("an answer");
        assert_eq!(found.text, "ok");
        let host = format!("host: 127.0.0.1:{port}");
        assert!(served.join().unwrap().contains(&host));
    }

    #[test]
    fn an_answer_is_its_status_and_its_first_line() {
        let answer = |status, text: &str| {
            Some(Answer {
                status,
                text: text.to_owned(),
            })
        };
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nok\nmore"),
            answer(200, "ok")
        );
        assert_eq!(parse(b"HTTP/1.1 503 \r\n\r\n"), answer(503, "(no text)"));
        for bad in ["", "HTTP/1.1", "HTTP/1.1 x", "SSH-2.0", "HTTP/2 200"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
