//! Certificates and configurations for tests.

use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// The name in the server's certificate.
pub(crate) const NAME: &str = "localhost";

/// Both versions, for tests that are run with each.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A chain and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// An authority with the certificates that it issued.
pub(crate) struct Authority {
    roots: Arc<RootCertStore>,
    server: Identity,
    client: Identity,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        };
        Self { roots: Arc::new(roots), server: issue(NAME), client: issue("client") }
    }

    /// A server, which may require certificates of its clients.
    pub(crate) fn server(&self, versions: &[&'static SupportedProtocolVersion], is_mutual: bool) -> ServerConfig {
        let provider = default_provider();
        #[cfg(feature = "ktls-tx")]
        let provider = super::ktls::watched(provider);
        let provider = Arc::new(provider);
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
        let builder = match is_mutual {
            true => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider).build().unwrap(),
            ),
            false => builder.with_no_client_auth(),
        };
        let (chain, key) = (self.server.0.clone(), self.server.1.clone_key());
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// A client that trusts the authority, with a certificate or without.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion], has_certificate: bool) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots));
        let mut config = match has_certificate {
            true => builder.with_client_auth_cert(self.client.0.clone(), self.client.1.clone_key()).unwrap(),
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}
