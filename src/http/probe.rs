//! The steps of an attempt, one by one, for `ringback tenant test`: name lookup,
//! connection, tunnel through the egress proxy, TLS. It uses the rules, trusted
//! certificates and deadline of attempts, and shows what an attempt only reports
//! as a class. Sends no request. Runs on the runtime of the command.

mod handshake;

use super::address_guard::{AddressGuard, alternating};
use super::class;
use super::names::{Names, Unresolved};
use super::settings::{HttpError, HttpSettings, LOOKUP_SHARE};
use super::url_check::literal;
use crate::clock;
use crate::model::named_enum::named_enum;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handshake::Handshakes;
pub use handshake::{Certificate, Tls};
use reqwest::Url;
use serde::Serialize;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Tells a receiver that the record is a sample.
pub const TEST_HEADER: &str = "ringback-test";
/// The maximum size of the proxy's answer to CONNECT, in bytes.
const PROXY_HEAD_BYTES_MAX: usize = 8 * 1024;

named_enum! {
    /// The steps before the request.
    pub enum StepKind {
        Lookup = "dns",
        Connection = "connect",
        ProxyTunnel = "tunnel",
        Handshake = "tls",
    }
}

/// What the steps have shown. A step that did not start is missing.
#[derive(Default, Debug, Serialize)]
pub struct Steps {
    pub dns: Option<Dns>,
    pub connect: Vec<Connect>,
    pub tunnel: Option<Tunnel>,
    pub tls: Option<Tls>,
    /// The step in which the deadline passed.
    #[serde(serialize_with = "step_name")]
    pub hung: Option<StepKind>,
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn step_name<S: serde::Serializer>(
    step: &Option<StepKind>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    step.map(StepKind::name).serialize(serializer)
}

/// The lookup of a name: that of the receiver, or of the egress proxy.
#[derive(Debug, Serialize)]
pub struct Dns {
    pub host: String,
    pub ms: u64,
    pub addresses: Vec<Address>,
    pub fault: Option<String>,
}

/// An address of a name.
#[derive(Debug, Serialize)]
pub struct Address {
    pub address: IpAddr,
    /// Whether attempts may connect to it.
    pub permitted: bool,
}

/// One connection, or the failure to open it.
#[derive(Debug, Serialize)]
pub struct Connect {
    pub address: SocketAddr,
    pub ms: u64,
    pub fault: Option<String>,
}

/// The proxy's answer to CONNECT.
#[derive(Debug, Serialize)]
pub struct Tunnel {
    pub ms: u64,
    pub status: Option<u16>,
    pub fault: Option<String>,
}

/// Both directions of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes the steps.
pub struct Prober {
    names: Arc<Names>,
    guard: AddressGuard,
    handshakes: Handshakes,
    proxy: Option<Url>,
    timeout: Duration,
}

impl Prober {
    /// Returns a prober with the settings of attempts. Names are looked up by these
    /// contents of resolv.conf and the hosts file.
    ///
    /// # Errors
    /// There are no trusted certificates.
    pub fn new(
        settings: &HttpSettings,
        resolv_conf: &[u8],
        hosts: &[u8],
    ) -> Result<Self, HttpError> {
        let names = Arc::new(Names::new(settings.timeout.mul_f64(LOOKUP_SHARE)));
        names.look_in(resolv_conf, hosts);
        Self::with_names(settings, names)
    }

    /// Returns a prober with the settings of attempts that looks names up here.
    ///
    /// # Errors
    /// There are no trusted certificates.
    pub(super) fn with_names(
        settings: &HttpSettings,
        names: Arc<Names>,
    ) -> Result<Self, HttpError> {
        let proxy = settings.proxy.as_ref();
        let proxy = proxy.map(|proxy| Url::parse(proxy).expect("config has checked the proxy"));
        Ok(Self {
            guard: settings.guard(Arc::clone(&names)),
            names,
            handshakes: Handshakes::new(settings)?,
            proxy,
            timeout: settings.timeout,
        })
    }

    /// Makes the steps for this URL, until one fails or the deadline passes.
    pub async fn steps(&self, url: &Url) -> Steps {
        let mut steps = Steps::default();
        let mut doing = None;
        let making = self.make(url, &mut steps, &mut doing);
        if timeout(self.timeout, making).await.is_err() {
            steps.hung = doing;
        }
        steps
    }

    /// Returns whether the port of an http URL speaks TLS.
    pub async fn speaks_tls(&self, url: &Url) -> bool {
        let mut steps = Steps::default();
        let host = url.host_str().unwrap_or_default();
        let asking = async {
            let stream = self.connect(url, &mut steps, &mut None).await?;
            let tls = self.handshakes.shake(stream, host).await.0;
            Some(tls.version.is_some() || !tls.certificates.is_empty())
        };
        let answer = timeout(self.timeout, asking).await;
        self.proxy.is_none() && answer.is_ok_and(|found| found == Some(true))
    }

    /// Asks the proxy for a tunnel to the host of this URL, and closes it. `None` where
    /// the proxy could not be asked before the deadline.
    pub(super) async fn tunnel(&self, url: &Url) -> Option<Tunnel> {
        let (mut steps, mut doing) = (Steps::default(), None);
        let reaching = self.reach(url, &mut steps, &mut doing);
        // The deadline of the attempt is at hand, too.
        let (Ok(_) | Err(_)) = timeout(self.timeout, reaching).await;
        steps.tunnel
    }

    /// Returns `None` after a step that failed.
    async fn make(&self, url: &Url, steps: &mut Steps, doing: &mut Option<StepKind>) -> Option<()> {
        let stream = self.reach(url, steps, doing).await?;
        if url.scheme() == "https" {
            *doing = Some(StepKind::Handshake);
            let (tls, _) = self.handshakes.shake(stream, url.host_str()?).await;
            steps.tls = Some(tls);
        }
        *doing = None;
        Some(())
    }

    /// Connects to the host of this URL, by a tunnel if there is a proxy. Returns
    /// `None` after a step that failed.
    async fn reach(
        &self,
        url: &Url,
        steps: &mut Steps,
        doing: &mut Option<StepKind>,
    ) -> Option<Box<dyn Stream>> {
        if literal(url).is_some_and(|address| !self.guard.permitted(address)) {
            return None;
        }
        let mut stream: Box<dyn Stream> = Box::new(
            self.connect(self.proxy.as_ref().unwrap_or(url), steps, doing)
                .await?,
        );
        if let Some(proxy) = self.proxy.as_ref().filter(|_| url.scheme() == "https") {
            *doing = Some(StepKind::ProxyTunnel);
            if proxy.scheme() == "https" {
                let (_, inside) = self.handshakes.shake(stream, proxy.host_str()?).await;
                stream = Box::new(inside?);
            }
            let started = clock::elapsed();
            let (status, fault) = match ask_for_tunnel(&mut stream, url, proxy).await {
                Ok(status @ 200..=299) => (Some(status), None),
                Ok(status) => (Some(status), Some(format!("the proxy answered {status}"))),
                Err(error) => (None, Some(class::io_words(&error))),
            };
            let failed = fault.is_some();
            steps.tunnel = Some(Tunnel {
                ms: ms_since(started),
                status,
                fault,
            });
            if failed {
                return None;
            }
        }
        Some(stream)
    }

    /// Looks the host up and connects to its first permitted address that accepts.
    async fn connect(
        &self,
        url: &Url,
        steps: &mut Steps,
        doing: &mut Option<StepKind>,
    ) -> Option<TcpStream> {
        let host = url.host_str()?;
        let found = match literal(url) {
            Some(address) => vec![address],
            None => {
                *doing = Some(StepKind::Lookup);
                let started = clock::elapsed();
                let looked_up = self.names.look_up(host).await;
                let dns = self.dns(host, looked_up, ms_since(started));
                let permitted = dns.addresses.iter().filter(|found| found.permitted);
                let permitted: Vec<IpAddr> = permitted.map(|found| found.address).collect();
                steps.dns = Some(dns);
                alternating(&permitted, |address| address)
            }
        };
        let port = port(url);
        let limit = self.timeout / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
        *doing = Some(StepKind::Connection);
        for address in found {
            let address = SocketAddr::new(address, port);
            let started = clock::elapsed();
            let opened = match timeout(limit, TcpStream::connect(address)).await {
                Ok(opened) => opened,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let fault = opened.as_ref().err().map(class::io_words);
            steps.connect.push(Connect {
                address,
                ms: ms_since(started),
                fault,
            });
            if let Ok(stream) = opened {
                return Some(stream);
            }
        }
        *doing = None;
        None
    }

    fn dns(&self, host: &str, looked_up: Result<Vec<IpAddr>, Unresolved>, ms: u64) -> Dns {
        let (found, fault) = match looked_up {
            Ok(found) => (found, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        let address = |address| Address {
            address,
            // The operator chose the proxy: its addresses are not checked.
            permitted: self.proxy.is_some() || self.guard.permitted(address),
        };
        Dns {
            host: host.to_owned(),
            ms,
            addresses: found.into_iter().map(address).collect(),
            fault,
        }
    }
}

/// Returns the port of an http or https URL.
fn port(url: &Url) -> u16 {
    let default = if url.scheme() == "https" { 443 } else { 80 };
    url.port().unwrap_or(default)
}

/// Asks the proxy for a tunnel, and returns the status of its answer.
///
/// Source: RFC 9110, section 9.3.6.
async fn ask_for_tunnel(stream: &mut Box<dyn Stream>, url: &Url, proxy: &Url) -> io::Result<u16> {
    let host = url.host_str().unwrap_or_default();
    let port = port(url);
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    head.push_str(&authorization(proxy));
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if answer.len() >= PROXY_HEAD_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = answer.split(|byte| *byte == b' ').nth(1);
    let status = status.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns the header that shows the proxy its credentials, if there are some.
fn authorization(proxy: &Url) -> String {
    if proxy.username().is_empty() && proxy.password().is_none() {
        return String::new();
    }
    let user = decoded(proxy.username());
    let password = decoded(proxy.password().unwrap_or_default());
    let both = STANDARD.encode([&user[..], b":", &password[..]].concat());
    format!("Proxy-Authorization: Basic {both}\r\n")
}

/// Returns the bytes of a text in which some are written as % and two digits.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

fn ms_since(started: Duration) -> u64 {
    let took = clock::elapsed().saturating_sub(started);
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
