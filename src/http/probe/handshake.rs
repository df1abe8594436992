//! TLS handshakes that keep the certificates they saw, also where the certificates
//! are refused. They trust what attempts trust. Runs on the runtime of the command.

use super::super::class;
use super::super::settings::{HttpError, HttpSettings};
use super::super::tls::TlsSettings;
use super::{Stream, ms_since};
use crate::clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The maximum number of names of a certificate that are shown.
const NAMES_MAX: usize = 5;

/// A handshake.
#[derive(Default, Debug, Serialize)]
pub struct Tls {
    pub ms: u64,
    pub version: Option<String>,
    pub cipher: Option<String>,
    /// The protocol that was agreed on by ALPN.
    pub protocol: Option<String>,
    /// The receiver's certificate first.
    pub certificates: Vec<Certificate>,
    pub fault: Option<String>,
}

/// A certificate of the chain.
#[derive(Debug, Serialize)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// The first host names and addresses that it is for.
    pub names: Vec<String>,
    /// RFC 3339.
    pub from: String,
    pub until: String,
}

/// Shakes hands as attempts do.
pub(super) struct Handshakes {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl Handshakes {
    /// Returns handshakes with the certificates of these settings.
    ///
    /// # Errors
    /// There are no trusted certificates.
    pub fn new(settings: &HttpSettings) -> Result<Self, HttpError> {
        let TlsSettings { config, verifier } = TlsSettings::new(settings)?;
        Ok(Self { config, verifier })
    }

    /// Shakes hands. Returns the facts, and the stream if it succeeded.
    pub async fn shake<S: Stream>(&self, stream: S, host: &str) -> (Tls, Option<TlsStream<S>>) {
        let started = clock::elapsed();
        let keeping = Arc::new(Keeping {
            inner: Arc::clone(&self.verifier),
            seen: Mutex::default(),
        });
        let mut config = self.config.clone();
        let verifier: Arc<dyn ServerCertVerifier> = keeping.clone();
        config.dangerous().set_certificate_verifier(verifier);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let Ok(name) = ServerName::try_from(bare.to_owned()) else {
            let fault = Some("the host name cannot stand in a certificate".to_owned());
            return (
                Tls {
                    fault,
                    ..Tls::default()
                },
                None,
            );
        };
        let shaken = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        let mut tls = Tls {
            ms: ms_since(started),
            certificates: keeping.certificates(),
            ..Tls::default()
        };
        match shaken {
            Ok(stream) => {
                let (_, connection) = stream.get_ref();
                tls.version = connection.protocol_version().map(|v| format!("{v:?}"));
                let cipher = connection.negotiated_cipher_suite();
                tls.cipher = cipher.map(|cipher| format!("{:?}", cipher.suite()));
                let protocol = connection.alpn_protocol();
                tls.protocol = protocol.map(|p| String::from_utf8_lossy(p).into_owned());
                (tls, Some(stream))
            }
            Err(error) => {
                tls.fault = Some(class::handshake_words(&error));
                (tls, None)
            }
        }
    }
}

/// A verifier that keeps the certificates it is asked about.
#[derive(Debug)]
struct Keeping {
    inner: Arc<dyn ServerCertVerifier>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl Keeping {
    fn certificates(&self) -> Vec<Certificate> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter_map(|der| certificate(der)).collect()
    }
}

impl ServerCertVerifier for Keeping {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|der| der.clone().into_owned()).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Returns what is shown of a certificate; `None` where it is not X.509.
fn certificate(der: &[u8]) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    let time = |seconds| {
        let time = jiff::Timestamp::from_second(seconds);
        time.map_or_else(|_| "an unusual date".to_owned(), |time| time.to_string())
    };
    let validity = parsed.validity();
    Some(Certificate {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names: names.take(NAMES_MAX).collect(),
        from: time(validity.not_before.timestamp()),
        until: time(validity.not_after.timestamp()),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or_else(|_| v6()).ok().map(|address| address.to_string())
}
