//! Warnings about callback URLs, from their text alone. Never looks a name up.
//! Pure; runs on the main thread.

use super::address_guard::AddressGuard;
use crate::model::host_name;
use crate::model::named_enum::named_enum;
use reqwest::Url;
use std::net::IpAddr;

named_enum! {
    /// The kinds of warnings about a callback URL.
    pub enum UrlWarningKind {
        /// http: records are sent in clear text.
        NoTls = "no_tls",
        /// A literal address that callbacks must not reach.
        RefusedAddress = "refused_address",
        /// No public zone has the name.
        NotPublic = "not_public",
        /// The name does not resolve now.
        Unresolved = "unresolved",
        /// The name resolves to addresses that callbacks must not reach.
        RefusedName = "refused_name",
    }
}

/// A warning about a callback URL. It holds nothing of path and query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlWarning {
    pub kind: UrlWarningKind,
    pub text: String,
}

impl UrlWarning {
    /// Returns a warning of this kind.
    pub fn new(kind: UrlWarningKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

/// Returns scheme, host and port of a URL: what may be shown of it. The path and
/// the query may hold a token.
#[must_use]
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Returns the address that a URL has in place of a host name.
#[must_use]
pub fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

/// Returns the warnings that need no lookup.
#[must_use]
pub fn warnings(url: &Url, guard: &AddressGuard) -> Vec<UrlWarning> {
    let mut found = Vec::new();
    if url.scheme() == "http" {
        let text = "http without TLS: names and phone numbers are sent in clear text";
        found.push(UrlWarning::new(UrlWarningKind::NoTls, text));
    }
    let host = url.host_str().unwrap_or_default();
    match literal(url) {
        Some(address) if !guard.permitted(address) => {
            let text = format!("the address {address} is not public: every attempt is refused");
            found.push(UrlWarning::new(UrlWarningKind::RefusedAddress, text));
        }
        Some(_) => {}
        // Networks that are not public have names that are not public.
        None if guard.allows_networks() => {}
        None => {
            if let Some(why) = host_name::not_public(host) {
                let text = format!("no public name is '{host}': {why}");
                found.push(UrlWarning::new(UrlWarningKind::NotPublic, text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_url_has_the_warnings_that_its_text_shows() {
        use UrlWarningKind::{NoTls, NotPublic, RefusedAddress};
        let allowed = ["10.9.0.0/16".parse().expect("a network")];
        let public = AddressGuard::with_answers(&[], &[]);
        let allowing = AddressGuard::with_answers(&allowed, &[]);
        for (url, guard, expected) in [
            ("https://example.com/hook?token=hunter2", &public, &[][..]),
            ("http://example.com/", &public, &[NoTls]),
            ("https://10.0.0.1/", &allowing, &[RefusedAddress]),
            ("https://10.9.0.1/", &allowing, &[]),
            ("https://10.9.0.1/", &public, &[RefusedAddress]),
            ("http://[::1]:8080/", &public, &[NoTls, RefusedAddress]),
            ("https://[2606:4700::1]/", &public, &[]),
            ("https://crm/", &public, &[NotPublic]),
            ("https://crm.internal/", &public, &[NotPublic]),
            ("https://crm/", &allowing, &[]),
            ("http://crm.internal/", &allowing, &[NoTls]),
        ] {
            let url = Url::parse(url).expect("a URL");
            let found = warnings(&url, guard);
            let kinds: Vec<UrlWarningKind> = found.iter().map(|w| w.kind).collect();
            assert_eq!(kinds, expected, "{url}");
            assert!(!format!("{found:?}").contains("hunter2"));
        }
    }
}
