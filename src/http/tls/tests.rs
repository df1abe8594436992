//! Which certificates are trusted, and the words for the others.

use super::*;
use crate::http::settings::ConnectionReuse;
use crate::http::tls_words;

const CERTIFICATES: &str = include_str!("certificates.pem");
/// The year 2027, when all of them are valid.
const NOW: u64 = 1_800_000_000;
/// The year 2130.
const LATE: u64 = 5_050_000_000;

/// Returns the certificate of this name, as PEM.
fn pem(name: &str) -> &'static str {
    let title = format!("# {name}\n");
    let (_, after) = CERTIFICATES.split_once(&title).expect(name);
    after.split("\n#").next().expect("one part at least")
}

fn der(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem(name).as_bytes()).expect(name)
}

/// Returns the words for the refusal of a certificate, if it is refused, by a host
/// with this name that trusts these authorities.
fn refusal(shown: &str, trusted: &str, host: &str, seconds: u64) -> Option<String> {
    let settings = HttpSettings {
        timeout: std::time::Duration::from_secs(1),
        version: "9.9.9",
        allow_networks: Vec::new(),
        deny_networks: Vec::new(),
        proxy: None,
        trust: Trust::SystemAnd(pem(trusted).as_bytes().to_vec()),
        client_cert: None,
        reuse: ConnectionReuse::Reuse,
    };
    let made = TlsSettings::new(&settings).expect("the system has certificates");
    let host = ServerName::try_from(host).expect("a name");
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let verified = made
        .verifier
        .verify_server_cert(&der(shown), &[], &host, &[], now);
    verified.err().map(|error| tls_words::of(&error))
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_listed() {
    #[track_caller]
    fn check(trusted: &str, host: &str, seconds: u64, words: Option<&str>) {
        let refused = refusal("self-signed", trusted, host, seconds);
        match (refused, words) {
            (None, None) => {}
            (Some(refused), Some(words)) => assert!(refused.contains(words), "{refused}"),
            (refused, _) => panic!("{trusted} {host}: {refused:?}"),
        }
    }
    check("self-signed", "a.test", NOW, None);
    check("self-signed", "b.test", NOW, Some("another host name"));
    check("self-signed", "a.test", LATE, Some("expired on 2126-"));
    check("self-signed", "a.test", 1, Some("valid only from 2026-"));
    check("authority-rsa", "a.test", NOW, Some("(CA:TRUE)"));
    check("authority-rsa", "a.test", NOW, Some("--ca-file"));
}

#[test]
fn a_key_or_signature_that_is_not_supported_is_named() {
    #[track_caller]
    fn check(shown: &str, trusted: &str, words: Option<&str>) {
        let refused = refusal(shown, trusted, "a.test", NOW);
        match (refused, words) {
            (None, None) => {}
            (Some(refused), Some(words)) => {
                assert!(refused.contains(words), "{shown}: {refused}");
            }
            (refused, _) => panic!("{shown}: {refused:?}"),
        }
    }
    check("by-rsa-sha512", "authority-rsa", None);
    check("by-p384-sha256", "authority-p384", None);
    check("by-p384-sha512", "authority-p384", Some("SHA-384"));
    check("by-p521-sha512", "authority-p521", Some("P-521"));
    check("p521-by-p384", "authority-p384", None);
}
