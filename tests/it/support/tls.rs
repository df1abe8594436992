//! Certificates of the tests' own: an authority that the service is told to
//! trust, and servers' certificates that are right, or wrong in one way.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
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

    /// A client's certificate and its key, for `--client-cert`.
    pub fn client(&self, name: &str) -> String {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer);
        certificate.expect("a certificate").pem() + &key.serialize_pem()
    }

    /// A certificate of 127.0.0.1 with this common name, and its key.
    pub fn common_name(&self, name: &str) -> (String, String) {
        self.named(name, |_| {})
    }

    /// The same, of a certificate that has expired.
    #[allow(dead_code, reason = "the trial at night lets one expire")]
    pub fn expired(&self, name: &str) -> (String, String) {
        self.named(name, expire)
    }

    fn named(&self, name: &str, change: fn(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer);
        (
            certificate.expect("a certificate").pem(),
            key.serialize_pem(),
        )
    }

    /// The TLS side of a server that asks clients for a certificate of an authority.
    pub fn asking(&self, clients: &Self) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        let issuer = clients.issuer.der().clone();
        roots.add(issuer).expect("an authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let (chain, key) = self.server(Shows::Right);
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_client_cert_verifier(verifier.build().expect("one authority"))
            .with_single_cert(chain, key)
            .expect("they belong together")
    }

    /// The TLS side of a server that speaks these protocols.
    pub fn acceptor(&self, shows: Shows, protocols: &[&str]) -> TlsAcceptor {
        let (chain, key) = self.server(shows);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server's certificate and its key.
    fn server(&self, shows: Shows) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let name = match shows {
            Shows::OtherName => "other.example",
            Shows::Right | Shows::Expired | Shows::SelfSigned => "127.0.0.1",
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        if matches!(shows, Shows::Expired) {
            expire(&mut params);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = match shows {
            Shows::SelfSigned => params.self_signed(&key),
            _ => params.signed_by(&key, &self.issuer),
        };
        let chain = vec![certificate.expect("a certificate").der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (chain, key)
    }
}

fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1);
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
