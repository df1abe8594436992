//! Readers of single values. An error says the value and what is allowed; the
//! caller names the setting. Opens no file that a setting does not name. Runs on
//! the main thread.

use super::environment::read_file;
use super::setting::not_utf8;
use crate::model::named_enum::named_enum;
use crate::model::time::{Delay, DurationText, parse_duration};
use ipnet::IpNet;
use reqwest::Url;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The largest file that a setting names, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The allowed values of `--timeout`.
pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);

/// Reads a whole number within a range.
pub fn number<T>(text: &str, allowed: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    match text.trim().parse::<T>() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!(
            "'{text}' is not a whole number from {} to {}",
            allowed.start(),
            allowed.end()
        )),
    }
}

/// Reads a duration within a range.
pub fn duration(text: &str, allowed: RangeInclusive<Duration>) -> Result<Duration, String> {
    let range = || {
        format!(
            "{} to {}",
            zero_ms(*allowed.start()),
            DurationText(*allowed.end())
        )
    };
    match parse_duration(text.trim()) {
        Ok(duration) if allowed.contains(&duration) => Ok(duration),
        Ok(_) => Err(format!("'{text}' is not allowed: {}", range())),
        Err(why) => Err(format!("{why}; allowed: {}", range())),
    }
}

fn zero_ms(duration: Duration) -> String {
    if duration.is_zero() {
        "0ms".to_owned()
    } else {
        DurationText(duration).to_string()
    }
}

/// Reads a size of 1 KiB to 64 MiB: in bytes, or with the unit `KiB` or `MiB`.
pub fn bytes(text: &str) -> Result<usize, String> {
    let trimmed = text.trim();
    let (number, unit) = match trimmed {
        t if t.ends_with("KiB") => (&t[..t.len() - 3], KIB),
        t if t.ends_with("MiB") => (&t[..t.len() - 3], MIB),
        t => (t, 1),
    };
    number
        .trim_end()
        .parse::<usize>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .filter(|n| (KIB..=64 * MIB).contains(n))
        .ok_or_else(|| {
            format!("'{text}' is not a size of 1KiB to 64MiB: write 65536, 64KiB or 1MiB")
        })
}

/// Reads the delays between attempts. All mistakes go into one text.
pub fn delays(text: &str) -> Result<Vec<Delay>, String> {
    let (delays, wrong): (Vec<_>, Vec<_>) = text
        .split(',')
        .map(|part| part.trim().parse::<Delay>())
        .partition(Result::is_ok);
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    if wrong.is_empty() {
        Ok(delays.into_iter().filter_map(Result::ok).collect())
    } else {
        Err(wrong.join("; "))
    }
}

/// Reads bootstrap servers. Returns them as librdkafka takes them.
pub fn brokers(text: &str) -> Result<String, String> {
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    match brokers.iter().find(|broker| !is_broker(broker)) {
        None => Ok(brokers.join(",")),
        Some(broker) => Err(format!(
            "'{broker}' is not a broker: write host:port, several with commas, e.g. kafka-0:9092,kafka-1:9092"
        )),
    }
}

fn is_broker(text: &str) -> bool {
    let address = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = match address.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port_is_one = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    let host_is_one = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:%".contains(&b));
    host_is_one && port_is_one
}

/// Reads a consumer group's name.
pub fn group(text: &str) -> Result<String, String> {
    let formed = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    formed.then(|| text.to_owned()).ok_or_else(|| {
        format!("'{text}' is not a group name: 1 to 200 ASCII characters without spaces")
    })
}

/// Reads a replica's name.
pub fn instance(text: &str) -> Result<String, String> {
    let formed = (1..=200).contains(&text.len()) && text.bytes().all(is_name_byte);
    formed.then(|| text.to_owned()).ok_or_else(|| {
        format!("'{text}' is not an instance name: 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'")
    })
}

/// Reads a source topic's name. Its length is checked with the delays.
///
/// Source: Kafka, `org.apache.kafka.common.internals.Topic`.
pub fn topic(text: &str) -> Result<String, String> {
    let formed = !text.is_empty() && ![".", ".."].contains(&text) && text.bytes().all(is_name_byte);
    formed.then(|| text.to_owned()).ok_or_else(|| {
        format!("'{text}' is not a topic name: A-Z, a-z, 0-9, '.', '_' and '-', not '.' or '..'")
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// Reads an address to listen on. Port 0 lets the system choose one.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!("'{text}' is not an address and port: write 0.0.0.0:9464 or [::]:9464")
    })
}

/// Reads networks in CIDR notation. An address alone is a network of one.
pub fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    let mut wrong = Vec::new();
    for part in text.split(',').map(str::trim) {
        let single = part.parse::<IpAddr>().map(IpNet::from);
        match part.parse::<IpNet>().or(single) {
            Ok(network) => networks.push(network.trunc()),
            Err(_) => wrong.push(format!("'{part}'")),
        }
    }
    if wrong.is_empty() {
        Ok(networks)
    } else {
        Err(format!(
            "{} is not a network: write 10.0.0.0/8 or fd00::/8, several with commas",
            wrong.join(", ")
        ))
    }
}

named_enum! {
    /// The format that `--log-format` asks for.
    pub enum LogFormatSetting {
        Text = "text",
        Json = "json",
    }
}

named_enum! {
    /// The choice of `--allow-no-tenants`.
    pub enum NoTenants {
        Refused = "off",
        Allowed = "on",
    }
}

named_enum! {
    /// The choice of `--require-https`: what becomes of `http` URLs.
    pub enum PlainHttp {
        Allowed = "off",
        Refused = "on",
    }
}

named_enum! {
    /// The choice of `--attempt-log`.
    pub enum AttemptLogSetting {
        Off = "off",
        On = "on",
    }
}

/// Reads a choice between on and off; `from_name` is that of its enum.
pub fn on_or_off<T>(text: &str, from_name: fn(&str) -> Option<T>) -> Result<T, String> {
    from_name(text.trim()).ok_or_else(|| no_choice(text, &["on", "off"]))
}

/// Where the tenants are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TenantsPlace {
    /// A file or a directory.
    Files(PathBuf),
    /// A compacted Kafka topic.
    Topic(String),
}

impl fmt::Display for TenantsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) => path.display().fmt(f),
            Self::Topic(name) => write!(f, "{TOPIC_PREFIX}{name}"),
        }
    }
}

/// The start of a tenants place that is a topic.
const TOPIC_PREFIX: &str = "topic:";

/// Reads the place of the tenants.
pub fn tenants(path: &Path) -> Result<TenantsPlace, String> {
    let name = path
        .to_str()
        .and_then(|text| text.strip_prefix(TOPIC_PREFIX));
    match name {
        None => Ok(TenantsPlace::Files(path.to_owned())),
        Some(name) if name.len() <= TOPIC_NAME_MAX => match topic(name) {
            Ok(name) => Ok(TenantsPlace::Topic(name)),
            Err(why) => Err(format!("'{TOPIC_PREFIX}{name}': {why}")),
        },
        Some(_) => Err(format!(
            "a topic name has at most {TOPIC_NAME_MAX} characters"
        )),
    }
}

/// The maximum length of a topic name.
///
/// Source: Kafka, `org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`.
pub const TOPIC_NAME_MAX: usize = 249;

/// Reads a log format by its name.
pub fn log_format(text: &str) -> Result<LogFormatSetting, String> {
    LogFormatSetting::from_name(text.trim())
        .ok_or_else(|| no_choice(text, &LogFormatSetting::ALL.map(LogFormatSetting::name)))
}

/// Returns the message about a text that is none of these names.
pub fn no_choice(text: &str, names: &[&str]) -> String {
    format!("'{text}' is not one of {}", names.join(", "))
}

/// An egress proxy's URL. It is shown without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(pub Url);

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|p| format!(":{p}")).unwrap_or_default();
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}{port}", self.0.scheme())
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads an egress proxy's URL. An error never shows its credentials.
pub fn proxy(text: &str) -> Result<ProxyUrl, String> {
    let allowed = "write http://host:port or https://host:port";
    let url = Url::parse(text.trim()).map_err(|why| format!("not a URL ({why}): {allowed}"))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!(
            "scheme '{}' is not supported: {allowed}",
            url.scheme()
        ));
    }
    if !url.has_host() || !bare {
        return Err(format!("a proxy URL has a host and no path: {allowed}"));
    }
    Ok(ProxyUrl(url))
}

/// A file of further trusted certificates, as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFile {
    pub path: PathBuf,
    /// PEM with at least one certificate.
    pub pem: Vec<u8>,
}

impl fmt::Debug for CaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

/// Reads a file of certificates.
pub fn ca_file(path: &Path) -> Result<CaFile, String> {
    let pem = read_file(path, FILE_BYTES_MAX)?;
    check_ca(path, &pem)?;
    let path = path.to_owned();
    Ok(CaFile { path, pem })
}

/// Checks the content of a file of certificates.
pub(super) fn check_ca(path: &Path, pem: &[u8]) -> Result<(), String> {
    let certificates = reqwest::Certificate::from_pem_bundle(pem)
        .map_err(|_| format!("'{}' is not PEM", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("'{}' has no certificate in PEM", path.display()));
    }
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem)) {
        let is_good = certificate.is_ok_and(|der| RootCertStore::empty().add(der).is_ok());
        if !is_good {
            let path = path.display();
            return Err(format!(
                "certificate {number} of '{path}' is broken: each must be X.509 in PEM"
            ));
        }
    }
    Ok(())
}

/// A file with a certificate and its key, as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCert {
    pub path: PathBuf,
    /// PEM with a certificate, its chain, and its key.
    pub pem: Vec<u8>,
}

impl fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

/// Reads a file with a certificate and its key.
pub fn client_cert(path: &Path) -> Result<ClientCert, String> {
    let pem = read_file(path, FILE_BYTES_MAX)?;
    check_client_cert(path, &pem)?;
    let path = path.to_owned();
    Ok(ClientCert { path, pem })
}

/// Checks the content of a file with a certificate and its key.
pub(super) fn check_client_cert(path: &Path, pem: &[u8]) -> Result<(), String> {
    let path = path.display();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| format!("'{path}' is not PEM"))?;
    if chain.is_empty() {
        return Err(format!("'{path}' has no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        format!("'{path}' has no private key in PEM: it needs one without a password")
    })?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map(|_| ())
        .map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => {
                format!("the private key of '{path}' does not belong to its first certificate")
            }
            _ => format!("the certificate or the key of '{path}' cannot be used"),
        })
}

/// Reads a file of librdkafka properties. Returns its path and its text.
pub fn properties_file(path: &Path) -> Result<(String, String), String> {
    let bytes = read_file(path, FILE_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| not_utf8())?;
    Ok((path.to_string_lossy().into_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_of_a_file_must_be_good() {
        let name = format!("ringback-ca-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        let read = |pem: &str| {
            std::fs::write(&path, pem).expect("the folder is writable");
            let read = ca_file(&path);
            std::fs::remove_file(&path).expect("the file was written");
            read
        };
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]);
        let good = made.expect("a certificate can be made").cert.pem();
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(read(&format!("{good}{good}")).is_ok());
        let refused = read(&format!("{good}{broken}")).expect_err("it is refused");
        assert!(refused.starts_with("certificate 2 of '"), "{refused}");
        let refused = read(&format!("{broken}{good}")).expect_err("it is refused");
        assert!(refused.starts_with("certificate 1 of '"), "{refused}");
    }

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let made = || {
            let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]);
            let made = made.expect("a certificate can be made");
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let ((cert, key), (_, other)) = (made(), made());
        let name = format!("ringback-client-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(name);
        #[track_caller]
        fn check(path: &Path, pem: &str, named: Option<&str>) {
            std::fs::write(path, pem).expect("the folder is writable");
            match (client_cert(path), named) {
                (Ok(_), None) => {}
                (Err(why), Some(named)) => assert!(why.contains(named), "{why}"),
                (read, _) => panic!("{read:?}"),
            }
        }
        check(&path, &format!("{cert}{key}"), None);
        check(&path, &format!("{key}{cert}"), None);
        check(&path, &cert, Some("no private key"));
        check(&path, &key, Some("no certificate"));
        check(&path, "", Some("no certificate"));
        check(&path, &format!("{cert}{other}"), Some("does not belong"));
        std::fs::remove_file(&path).expect("it was written");
        assert!(client_cert(&path).is_err());
    }

    #[test]
    fn brokers_are_hosts_with_ports() {
        for good in [
            "a:9092",
            "a",
            "a:1, b:2",
            "SASL_SSL://a.b-c_d:9092",
            "[::1]:9092",
            "10.0.0.1:1",
        ] {
            assert!(brokers(good).is_ok(), "{good}");
        }
        for bad in [
            "", "a,", "a:", "a:0", "a:65536", "a b:1", ":9092", "[::1]x", "a:1;b:2",
        ] {
            assert!(brokers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [
            ("1MiB", MIB),
            ("64 KiB", 64 * KIB),
            ("1024", KIB),
            ("64MiB", 64 * MIB),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "1",
            "1MB",
            "1.5MiB",
            "-1",
            "65MiB",
            "99999999999999999MiB",
            "MiB",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_cut_to_their_prefix() {
        let texts: Vec<String> = networks("127.0.0.1/8, ::1,10.1.2.3")
            .expect("valid")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts, ["127.0.0.0/8", "::1/128", "10.1.2.3/32"]);
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "host/8", "10.0.0.0/8,"] {
            assert!(networks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_is_a_bare_url_and_its_password_stays_hidden() {
        for good in ["http://proxy:3128", "https://user:pass@proxy/"] {
            assert!(proxy(good).is_ok(), "{good}");
        }
        for bad in [
            "proxy:3128",
            "socks5://user:hunter2@p:1",
            "http://user:hunter2@p/path",
            "http://",
            "hunter2",
        ] {
            let why = proxy(bad).expect_err(bad);
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
