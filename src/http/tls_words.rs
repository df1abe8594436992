//! Words for errors of TLS: what a person would call the cause. They hold no text
//! from the other side. Pure; runs on the runtimes of attempts.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

/// Returns the cause of a failed handshake.
pub(super) fn of(error: &Error) -> String {
    let words = match error {
        Error::InvalidCertificate(error) => return of_certificate(error),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the port does not speak TLS: the URL has https, and the answer was no TLS"
        }
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "the TLS messages of the receiver are not valid"
        }
        Error::AlertReceived(alert) => return of_alert(*alert),
        Error::PeerIncompatible(_) => {
            "the receiver and ringback have no TLS version or cipher suite in common: \
             TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20, is needed"
        }
        Error::PeerMisbehaved(_) => "the receiver breaks the rules of TLS",
        Error::NoCertificatesPresented => "the receiver shows no certificate",
        _ => "the TLS handshake failed",
    };
    words.to_owned()
}

fn of_certificate(error: &CertificateError) -> String {
    let words = match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            return format!("the certificate expired on {}", date(*not_after));
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            return format!("the certificate is valid only from {}", date(*not_before));
        }
        CertificateError::Expired => "the certificate has expired",
        CertificateError::NotValidYet => "the certificate is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host name than that of the URL"
        }
        // The signature fits no key of a trusted issuer with this name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the issuer of the certificate is not trusted: it is self-signed or of a private \
             authority, or the server does not send its intermediate certificates"
        }
        CertificateError::Other(OtherError(error))
            if error.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            "the certificate is one of an authority (CA:TRUE), as self-signed ones often are: \
             a server needs one with CA:FALSE, or --ca-file must list this very one"
        }
        CertificateError::Revoked => "the certificate is revoked",
        CertificateError::BadEncoding => "the certificate is not valid X.509",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a certificate of the chain has a key or signature that is not supported. Use RSA \
             from 2048 bits with SHA-256, SHA-384 or SHA-512, P-256 or P-384 with SHA-256 or \
             SHA-384, or Ed25519; P-521, and ECDSA with SHA-512, are not supported"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for TLS servers"
        }
        _ => "the certificate or its chain is not valid",
    };
    words.to_owned()
}

/// Returns the words for an alert: the receiver has ended the handshake.
///
/// Source: RFC 8446, section 6.2.
fn of_alert(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::ProtocolVersion => "it has neither TLS 1.2 nor TLS 1.3",
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "no cipher suite is common, its certificate has a key that is not supported (P-521), \
             or it wants a client certificate"
        }
        AlertDescription::CertificateRequired => "it wants a client certificate",
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => "it refuses the client certificate or its absence",
        AlertDescription::UnrecognisedName => "it does not serve the host name of the URL",
        _ => "it sent an alert",
    };
    let number = u8::from(alert);
    format!("the receiver refused the TLS handshake: {why} (alert {number})")
}

/// Returns a time in UTC, as RFC 3339.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        // Later than the year 9999.
        Err(_) => "an unusual date".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_told_in_words_and_with_the_date() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext {
            time: at(1_600_000_000),
            not_after: at(1_577_836_800),
        };
        for (error, part) in [
            (
                Error::InvalidCertificate(expired),
                "expired on 2020-01-01T00:00:00Z",
            ),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "not trusted",
            ),
            (
                Error::InvalidCertificate(CertificateError::NotValidForName),
                "another host name",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "does not speak TLS",
            ),
            (
                Error::AlertReceived(AlertDescription::ProtocolVersion),
                "neither TLS 1.2",
            ),
            (Error::DecryptError, "handshake failed"),
        ] {
            let told = of(&error);
            assert!(told.contains(part), "{told}");
        }
    }
}
