//! A file of tenants: one JSON object from tenantId to its settings. It is checked
//! strictly and as a whole. Each mistake names its tenant and key. Never shows a
//! secret, a header's value or a URL's query. Runs on the main thread at the start, and on
//! the thread `tenants` at a reload.

use super::mistake::Mistake;
use super::values::{self, PlainHttp};
use crate::model::headers;
use crate::model::host_name;
use crate::model::tenant::{MAX_IN_FLIGHT_DEFAULT, Secret, Tenant, TenantId};
use crate::model::time::DurationText;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The maximum length of a URL.
const URL_BYTES_MAX: usize = 8_192;
/// The maximum number of secrets of a tenant. Each secret signs every request.
const SECRETS_MAX: usize = 8;
/// The maximum number of headers of a tenant, and the maximum length of a value.
const HEADERS_MAX: usize = 32;
const HEADER_BYTES_MAX: usize = 4_096;
/// The maximum of `maxInFlight`, as of `--in-flight-max`.
const MAX_IN_FLIGHT: u32 = 65_536;

/// The rules for tenants that come from the settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantRules {
    /// `--timeout`: no tenant has a longer one.
    pub timeout_max: Duration,
    pub plain_http: PlainHttp,
}

impl Default for TenantRules {
    fn default() -> Self {
        Self {
            timeout_max: *values::TIMEOUTS.end(),
            plain_http: PlainHttp::Allowed,
        }
    }
}

impl TenantRules {
    fn timeouts(&self) -> RangeInclusive<Duration> {
        *values::TIMEOUTS.start()..=self.timeout_max
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Headers that ringback or HTTP sets itself. [`OWN_PREFIXES`] has more.
const OWN_HEADERS: [&str; 17] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const OWN_PREFIXES: [&str; 2] = [headers::WEBHOOK_PREFIX, headers::PREFIX];

/// Checks the bytes of a file. `place` opens the name of each mistake in a tenant.
pub(super) fn parse(
    path: &Path,
    place: &str,
    bytes: &[u8],
    rules: TenantRules,
) -> Result<Vec<Arc<Tenant>>, Vec<Mistake>> {
    let entries: Pairs = serde_json::from_slice(bytes).map_err(|why| {
        let text = match why.classify() {
            _ if bytes.trim_ascii().is_empty() => "the file is empty".to_owned(),
            _ if bytes.starts_with(BYTE_ORDER_MARK) => {
                "starts with a byte order mark: save it as UTF-8 without one".to_owned()
            }
            serde_json::error::Category::Data => "not a JSON object of tenants".to_owned(),
            // The text of the error may quote the file. Line and column do not.
            _ => format!("not JSON at line {}, column {}", why.line(), why.column()),
        };
        vec![Mistake::new(format!("--tenants {}", path.display()), text)]
    })?;
    let mut mistakes = Vec::new();
    let mut seen = HashSet::new();
    let mut tenants = Vec::new();
    for (id, entry) in &entries.0 {
        let mut reader = EntryReader {
            place,
            tenant: id,
            rules,
            mistakes: &mut mistakes,
        };
        if !seen.insert(id.as_str()) {
            reader.wrong(None, "the tenantId is repeated");
        }
        tenants.extend(reader.tenant(entry).map(Arc::new));
    }
    if mistakes.is_empty() {
        Ok(tenants)
    } else {
        Err(mistakes)
    }
}

/// Checks the settings of one tenant, as an entry of a topic has them.
///
/// # Errors
/// Every mistake.
pub fn parse_entry(id: &str, bytes: &[u8], rules: TenantRules) -> Result<Tenant, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut reader = EntryReader {
        place: "",
        tenant: id,
        rules,
        mistakes: &mut mistakes,
    };
    let tenant = match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(entry) => reader.tenant(entry),
        Err(_) => {
            reader.wrong(None, "not a JSON object with at least a url");
            None
        }
    };
    tenant.filter(|_| mistakes.is_empty()).ok_or(mistakes)
}

/// Returns the settings of a tenant as an entry of a topic has them, secrets included.
#[must_use]
pub fn to_json(tenant: &Tenant) -> String {
    let mut entry = serde_json::json!({
        "url": tenant.url.0,
        "maxInFlight": tenant.max_in_flight,
        "enabled": tenant.enabled,
    });
    if !tenant.secrets.is_empty() {
        let secrets = tenant.secrets.iter().map(|secret| secret.0.as_str());
        entry["secrets"] = secrets.collect();
    }
    if !tenant.headers.is_empty() {
        let headers = tenant.headers.iter();
        entry["headers"] = headers.map(|(k, v)| (k.as_str(), v.0.as_str())).collect();
    }
    if let Some(timeout) = tenant.timeout {
        entry["timeout"] = DurationText(timeout).to_string().into();
    }
    entry.to_string()
}

/// A JSON object with all its keys, including repeated ones.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Reads the entry of one tenant.
struct EntryReader<'a> {
    place: &'a str,
    tenant: &'a str,
    rules: TenantRules,
    mistakes: &'a mut Vec<Mistake>,
}

impl EntryReader<'_> {
    fn wrong(&mut self, key: Option<&str>, text: impl Into<String>) {
        let tenant: String = self.tenant.chars().take(TenantId::BYTES_MAX).collect();
        let key = key.map(|key| format!(", {key}")).unwrap_or_default();
        let place = self.place;
        self.mistakes
            .push(Mistake::new(format!("{place}tenant {tenant:?}{key}"), text));
    }

    fn tenant(&mut self, entry: &RawValue) -> Option<Tenant> {
        let id = TenantId::new(self.tenant);
        if let Err(why) = id {
            self.wrong(None, why.to_string());
        }
        let Some(pairs) = json::<Pairs>(entry) else {
            self.wrong(None, "not a JSON object with at least a url");
            return None;
        };
        let (mut url, mut secrets, mut headers) = (None, Some(Vec::new()), Some(Vec::new()));
        let (mut max_in_flight, mut enabled) = (Some(MAX_IN_FLIGHT_DEFAULT), Some(true));
        let mut timeout = Some(None);
        let mut seen = HashSet::new();
        for (key, value) in &pairs.0 {
            if !seen.insert(key.as_str()) {
                self.wrong(Some(&shown(key)), "the key is repeated");
            }
            match key.as_str() {
                "url" => url = self.url(value),
                "secrets" => secrets = self.secrets(value),
                "headers" => headers = self.headers(value),
                "maxInFlight" => max_in_flight = self.max_in_flight(value),
                "timeout" => timeout = self.timeout(value).map(Some),
                "enabled" => enabled = self.enabled(value),
                _ => self.wrong(
                    Some(&shown(key)),
                    "unknown key: allowed are url, secrets, headers, maxInFlight, timeout and \
                     enabled",
                ),
            }
        }
        if !seen.contains("url") {
            self.wrong(Some("url"), "missing: every tenant needs one");
        }
        Some(Tenant {
            id: id.ok()?,
            url: url?,
            secrets: secrets?,
            headers: headers?,
            max_in_flight: max_in_flight?,
            timeout: timeout?,
            enabled: enabled?,
        })
    }

    fn url(&mut self, value: &RawValue) -> Option<Secret> {
        let key = Some("url");
        let Some(text) = json::<String>(value) else {
            self.wrong(key, "not a string");
            return None;
        };
        // The parser would drop them silently, and change the URL.
        if text.chars().any(char::is_control) {
            self.wrong(key, "has a line break or another control character");
            return None;
        }
        let url = match Url::parse(&text) {
            Ok(url) if url.as_str().len() <= URL_BYTES_MAX => url,
            Ok(_) => {
                self.wrong(key, format!("longer than {URL_BYTES_MAX} bytes"));
                return None;
            }
            Err(why) => {
                self.wrong(key, format!("not a URL: {why}"));
                return None;
            }
        };
        let before = self.mistakes.len();
        if !["http", "https"].contains(&url.scheme()) {
            self.wrong(
                key,
                format!("scheme '{}' is neither http nor https", shown(url.scheme())),
            );
        }
        if url.scheme() == "http" && self.rules.plain_http == PlainHttp::Refused {
            self.wrong(key, "scheme 'http' is refused: --require-https is on");
        }
        if let Some(why) = host_mistake(&text, &url) {
            self.wrong(key, why);
        }
        if url.port() == Some(0) {
            self.wrong(key, "port 0 is not allowed");
        }
        if !url.username().is_empty() || url.password().is_some() {
            self.wrong(key, "has credentials, which are not allowed: use headers");
        }
        (self.mistakes.len() == before).then(|| Secret(url.into()))
    }

    fn secrets(&mut self, value: &RawValue) -> Option<Vec<Secret>> {
        let Some(texts) = json::<Vec<String>>(value) else {
            self.wrong(Some("secrets"), "not an array of strings");
            return None;
        };
        if texts.len() > SECRETS_MAX {
            self.wrong(Some("secrets"), format!("more than {SECRETS_MAX}"));
            return None;
        }
        for (at, text) in texts.iter().enumerate() {
            if !is_secret(text) {
                self.wrong(
                    Some(&format!("secrets[{at}]")),
                    "malformed: a secret is whsec_ and then base64",
                );
            }
        }
        Some(texts.into_iter().map(Secret).collect())
    }

    fn headers(&mut self, value: &RawValue) -> Option<Vec<(String, Secret)>> {
        let Some(pairs) = json::<Pairs>(value) else {
            self.wrong(Some("headers"), "not an object of strings");
            return None;
        };
        // The checks below compare each header with each other one.
        if pairs.0.len() > HEADERS_MAX {
            self.wrong(Some("headers"), format!("more than {HEADERS_MAX}"));
            return None;
        }
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for (name, value) in &pairs.0 {
            let before = self.mistakes.len();
            let key = format!("headers.{}", shown(name));
            let lower = name.to_ascii_lowercase();
            if let Some(why) = name_mistake(&lower) {
                self.wrong(Some(&key), why);
            }
            if headers.iter().any(|(other, _)| *other == lower) {
                self.wrong(Some(&key), "the header is repeated");
            }
            let value = json::<String>(value);
            if let Some(why) = value_mistake(value.as_deref()) {
                self.wrong(Some(&key), why);
            }
            if let (Some(value), true) = (value, self.mistakes.len() == before) {
                headers.push((lower, Secret(value)));
            }
        }
        Some(headers)
    }

    fn max_in_flight(&mut self, value: &RawValue) -> Option<u32> {
        let number = json::<u32>(value).filter(|n| (1..=MAX_IN_FLIGHT).contains(n));
        if number.is_none() {
            let text = format!("not a whole number from 1 to {MAX_IN_FLIGHT}");
            self.wrong(Some("maxInFlight"), text);
        }
        number
    }

    fn timeout(&mut self, value: &RawValue) -> Option<Duration> {
        let range = self.rules.timeouts();
        let text = json::<String>(value);
        let timeout = text.and_then(|text| values::duration(&text, range.clone()).ok());
        if timeout.is_none() {
            let max = DurationText(*range.end());
            let text = format!("not a text such as \"2s\" from 100ms to {max}, the --timeout");
            self.wrong(Some("timeout"), text);
        }
        timeout
    }

    fn enabled(&mut self, value: &RawValue) -> Option<bool> {
        let enabled = json::<bool>(value);
        if enabled.is_none() {
            self.wrong(Some("enabled"), "neither true nor false");
        }
        enabled
    }
}

/// Returns the value, if it has this type. The error is dropped on purpose: its
/// text quotes the value, which may be a secret.
fn json<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// Returns a key or a name for a message: short, without control characters.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    short.escape_debug().to_string()
}

/// Returns what is wrong with the host of a URL that was read from this text.
fn host_mistake(text: &str, url: &Url) -> Option<&'static str> {
    const NO_HOST: &str = "has no host";
    if !["http", "https"].contains(&url.scheme()) {
        return (!url.has_host()).then_some(NO_HOST);
    }
    // The parser takes any number of slashes: of "http:///x" it makes the host x.
    let (_, behind) = text.split_once(':')?;
    match behind.strip_prefix("//") {
        Some(rest) if !rest.starts_with(['/', '\\']) => url.domain().and_then(host_name::mistake),
        _ => Some(NO_HOST),
    }
}

/// Returns whether a text is a secret: `whsec_` and base64.
///
/// Source: Standard Webhooks, symmetric secrets.
fn is_secret(text: &str) -> bool {
    let encoded = text.strip_prefix("whsec_");
    encoded.is_some_and(|e| STANDARD.decode(e).is_ok_and(|bytes| !bytes.is_empty()))
}

fn name_mistake(lower: &str) -> Option<&'static str> {
    if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return Some("not a header name");
    }
    let own = OWN_HEADERS.contains(&lower) || OWN_PREFIXES.iter().any(|p| lower.starts_with(p));
    own.then_some("ringback or HTTP sets this header itself")
}

fn value_mistake(value: Option<&str>) -> Option<String> {
    let Some(value) = value else {
        return Some("not a string".to_owned());
    };
    if value.len() > HEADER_BYTES_MAX {
        return Some(format!("longer than {HEADER_BYTES_MAX} bytes"));
    }
    let wrong = "has a line break or another control character";
    HeaderValue::from_str(value)
        .is_err()
        .then(|| wrong.to_owned())
}

#[cfg(test)]
mod tests;
