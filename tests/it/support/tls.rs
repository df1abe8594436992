//! Certificates of the tests' own: an authority that the service is told to
//! trust, and servers' certificates that are right, or wrong in one way.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What a server shows.
#[derive(Clone, Copy, Debug)]
pub enum Shows {
    /// A certificate that is right for 127.0.0.1.
    Right,
    /// One of another name.
    OtherName,
    /// One that has expired.
    Expired,
    /// One that it signed itself.
    SelfSigned,
}

/// The authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key);
        Self {
            issuer: issuer.expect("an authority"),
        }
    }

    /// Its certificate, for `--ca-file`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The TLS side of a server that speaks these protocols.
    pub fn acceptor(&self, shows: Shows, protocols: &[&str]) -> TlsAcceptor {
        let name = match shows {
            Shows::OtherName => "other.example",
            Shows::Right | Shows::Expired | Shows::SelfSigned => "127.0.0.1",
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if matches!(shows, Shows::Expired) {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = match shows {
            Shows::SelfSigned => params.self_signed(&key),
            _ => params.signed_by(&key, &self.issuer),
        };
        let chain = vec![certificate.expect("a certificate").der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
