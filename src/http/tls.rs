//! The TLS settings of attempts: the certificates that they trust, and the one that
//! they show. Shakes no hands. Runs where clients are made, and on the runtimes of
//! attempts.

use super::settings::{HttpError, HttpSettings, Trust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use std::sync::Arc;

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
    /// `None` trusts nothing.
    system: Option<Verifier>,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    fn new(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Self, HttpError> {
        let listed = match trust {
            Trust::SystemAnd(pem) => listed(pem)?,
            Trust::System | Trust::Nothing => Vec::new(),
        };
        let system = match trust {
            Trust::Nothing => None,
            Trust::System | Trust::SystemAnd(_) => {
                let verifier = Verifier::new_with_extra_roots(listed, Arc::clone(&provider));
                Some(verifier.map_err(HttpError::Tls)?)
            }
        };
        Ok(Self { system, provider })
    }
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
        match &self.system {
            Some(system) => system.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
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
