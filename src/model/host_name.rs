//! Host names by their text alone: names that DNS cannot hold, and names that no
//! public zone has. Never looks a name up. Pure.

/// The maximum length of a name and of one of its labels, in bytes.
///
/// Source: RFC 1035, section 2.3.4.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Top-level domains that the public DNS does not have, each with the reason.
///
/// Sources: RFC 2606, RFC 6761, RFC 6762, RFC 7686, RFC 9476; ICANN's resolutions
/// on .home, .corp and .mail (2018) and on .internal (2024).
const NOT_PUBLIC: &[(&str, &str)] = &[
    ("alt", "is reserved for names outside of DNS"),
    ("corp", "is never delegated"),
    ("example", "is reserved for documentation"),
    ("home", "is never delegated"),
    ("internal", "is reserved for private networks"),
    ("invalid", "is reserved and never resolves"),
    ("lan", "is not delegated"),
    ("local", "is reserved for the local network"),
    ("localdomain", "is not delegated"),
    ("localhost", "is reserved for the own host"),
    ("mail", "is never delegated"),
    ("onion", "is reserved for Tor"),
    ("test", "is reserved for tests"),
];
/// The same for a domain of two labels.
///
/// Source: RFC 8375.
const HOME_ARPA: &str = "home.arpa";

/// Returns why DNS cannot hold a name, or `None` where it can.
///
/// Source: RFC 1035, section 2.3.4, and RFC 1123, section 2.1. Underscores are
/// allowed: some zones have them.
#[must_use]
pub fn mistake(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_BYTES_MAX {
        return Some("the host name is longer than 253 bytes");
    }
    for label in name.split('.') {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.is_empty() {
            return Some("the host name has an empty label: two dots in a row, or a dot first");
        }
        if label.len() > LABEL_BYTES_MAX {
            return Some("the host name has a label of more than 63 bytes");
        }
        if !label.bytes().all(allowed) {
            return Some("the host name has other characters than letters, digits, '-' and '_'");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("the host name has a label that starts or ends with '-'");
        }
    }
    None
}

/// Returns why no public zone has this name, or `None` where one may have it. The
/// name is not an address.
#[must_use]
pub fn not_public(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name == HOME_ARPA || name.ends_with(".home.arpa") {
        return Some(format!("'.{HOME_ARPA}' is reserved for home networks"));
    }
    let top = name.rsplit('.').next().unwrap_or_default();
    let listed = NOT_PUBLIC.iter().find(|(listed, _)| *listed == top);
    match listed {
        Some((top, why)) => Some(format!("'.{top}' {why}")),
        None if !name.contains('.') => Some("it is a single label without a domain".to_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_dns_cannot_hold_has_a_mistake() {
        let long_label = format!("{}.example.com", "a".repeat(64));
        let long_name = ["abcdefgh"; 29].join(".");
        for (name, part) in [
            ("a..b", "empty label"),
            (".a", "empty label"),
            ("a..", "empty label"),
            ("", "empty label"),
            (long_label.as_str(), "63 bytes"),
            (long_name.as_str(), "253 bytes"),
            ("-a.example.com", "'-'"),
            ("a-.example.com", "'-'"),
            ("a!.example.com", "characters"),
        ] {
            let found = mistake(name);
            assert!(
                found.is_some_and(|why| why.contains(part)),
                "{name}: {found:?}"
            );
        }
        for name in ["a", "example.com.", "a_b.xn--fiq228c.cn", "1.2.3.example"] {
            assert_eq!(mistake(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_no_public_zone_has_are_told_with_the_reason() {
        for (name, part) in [
            ("crm", "single label"),
            ("localhost", "own host"),
            ("crm.LOCAL", "local network"),
            ("a.b.internal.", "private networks"),
            ("hooks.example", "documentation"),
            ("nas.home.arpa", "home networks"),
        ] {
            let found = not_public(name);
            assert!(
                found.as_ref().is_some_and(|why| why.contains(part)),
                "{name}: {found:?}"
            );
        }
        for name in ["example.com", "local.cn", "internal.example.org", "x.arpa"] {
            assert_eq!(not_public(name), None, "{name}");
        }
    }
}
