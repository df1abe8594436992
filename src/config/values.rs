//! Single values from their texts. An error says the value and what is allowed;
//! the caller names the setting. No IO.

use crate::model::time::{Delay, DurationText, parse_duration};
use ipnet::IpNet;
use reqwest::Url;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The most that `--record-max-bytes` allows. What large records in flight cost
/// is bounded by the engine's slots (`engine::fairness`).
pub const RECORD_BYTES: RangeInclusive<u64> = KIB..=64 * MIB;

/// A whole number within a range.
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

/// A duration within a range.
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

/// A size: bytes, or with a unit `KiB` or `MiB`.
pub fn bytes(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let trimmed = text.trim();
    let (number, unit) = match trimmed {
        t if t.ends_with("KiB") => (&t[..t.len() - 3], KIB),
        t if t.ends_with("MiB") => (&t[..t.len() - 3], MIB),
        t => (t, 1),
    };
    number
        .trim_end()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .filter(|n| allowed.contains(n))
        .ok_or_else(|| {
            format!("'{text}' is not a size of 1KiB to 64MiB: write 65536, 64KiB or 1MiB")
        })
}

/// The waits between attempts, all mistakes in one text.
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

/// Bootstrap servers, in the form that librdkafka takes.
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

/// A consumer group's name.
pub fn group(text: &str) -> Result<String, String> {
    let formed = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    formed
        .then(|| text.to_owned())
        .ok_or_else(|| format!("'{text}' is not a group: 1 to 200 ASCII characters without spaces"))
}

/// A replica's name.
pub fn instance(text: &str) -> Result<String, String> {
    let formed = (1..=200).contains(&text.len()) && text.bytes().all(is_name_byte);
    formed.then(|| text.to_owned()).ok_or_else(|| {
        format!("'{text}' is not a replica's name: 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'")
    })
}

/// A source topic's name, as far as it goes without the delays.
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

/// An address to listen on; port 0 lets the system choose one.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!("'{text}' is not an address and port: write 0.0.0.0:9464 or [::]:9464")
    })
}

/// Networks in CIDR notation; a lone address is a network of one.
pub fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    let mut wrong = Vec::new();
    for part in text.split(',').map(str::trim) {
        let lone = part.parse::<IpAddr>().map(IpNet::from);
        match part.parse::<IpNet>().or(lone) {
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

/// An egress proxy. Its credentials, if any, are not shown.
pub fn proxy(text: &str) -> Result<Url, String> {
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
        return Err(format!("a proxy has a host and no path: {allowed}"));
    }
    Ok(url)
}

/// One of the names, which are shown when it is none of them.
pub fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text.trim());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("'{text}' is not one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(bytes(text, RECORD_BYTES), Ok(expected), "{text}");
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
            assert!(bytes(bad, RECORD_BYTES).is_err(), "{bad}");
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
