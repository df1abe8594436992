//! The TLS settings of attempts: the certificates that they trust, and the one that
//! they show. Shakes no hands. Runs where clients are made, and on the runtimes of
//! attempts.

use super::settings::{HttpError, HttpSettings, Trust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// The TLS settings of attempts.
pub(super) struct TlsSettings {
    pub config: ClientConfig,
    pub verifier: Arc<dyn ServerCertVerifier>,
}

impl TlsSettings {
    /// Returns the TLS settings for these settings.
    ///
    /// # Errors
    /// There are no trusted certificates, or a PEM text has none.
    pub fn new(settings: &HttpSettings) -> Result<Self, HttpError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Trusted::new(&settings.trust, Arc::clone(&provider))?;
        let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(HttpError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match &settings.client_cert {
            Some(pem) => {
                let (chain, key) = identity(pem).ok_or(HttpError::ClientCertificate(None))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| HttpError::ClientCertificate(Some(error)))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config, verifier })
    }
}

/// Returns the certificate that callbacks show, and its key.
fn identity(pem: &[u8]) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty())?;
    Some((chain, PrivateKeyDer::from_pem_slice(pem).ok()?))
}

/// The certificates that attempts trust.
#[derive(Debug)]
struct Trusted {
    /// The system and `--ca-file`. `None` trusts nothing.
    authorities: Option<Verifier>,
    /// The certificates of `--ca-file`.
    listed: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    fn new(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Self, HttpError> {
        let listed = match trust {
            Trust::SystemAnd(pem) => listed(pem)?,
            Trust::System | Trust::Nothing => Vec::new(),
        };
        let authorities = match trust {
            Trust::Nothing => None,
            Trust::System | Trust::SystemAnd(_) => {
                let (further, provider) = (listed.clone(), Arc::clone(&provider));
                let verifier = Verifier::new_with_extra_roots(further, provider);
                Some(verifier.map_err(HttpError::Tls)?)
            }
        };
        Ok(Self {
            authorities,
            listed,
            provider,
        })
    }
}

/// Returns whether a server shows the certificate of an authority (CA:TRUE).
pub(super) fn is_authoritys(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else {
        return false;
    };
    error.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Checks a server's certificate that `--ca-file` lists itself. It is trusted without
/// an authority, as curl and OpenSSL do, although it is one of an authority. So
/// `openssl req -x509` makes them.
fn verify_listed(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    rustls::client::verify_server_name(&parsed, server_name)?;
    let bad = |_| Error::from(CertificateError::BadEncoding);
    let (_, x509) = X509Certificate::from_der(certificate).map_err(bad)?;
    let at = |time: ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    };
    let validity = x509.validity();
    let (not_before, not_after) = (at(validity.not_before), at(validity.not_after));
    let time = now;
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    Ok(ServerCertVerified::assertion())
}

/// Returns the certificates of `--ca-file`.
fn listed(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let listed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let listed = listed.map_err(|_| HttpError::Certificates)?;
    match listed.is_empty() {
        true => Err(HttpError::NoCertificates),
        false => Ok(listed),
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error) if is_authoritys(&error) && self.listed.contains(end_entity) => {
                verify_listed(end_entity, server_name, now)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
