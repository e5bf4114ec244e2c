//! The TLS settings of connections to upstreams, and the configuration of rustls that they become.
//!
//! ```text
//!   ClientSettings ──load: reads files──► ClientTls ──peer: a name──► TlsPeer
//!   plain data                            shared by all workers       for one upstream
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificates::{Certificate, CertificateSource, LoadError, Reason, certificates};
use super::server::{Crypto, roots};

/// The TLS settings of connections to a group of upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Whether the certificate of an upstream is verified. Without it, an attacker in the path can read and
    /// change everything.
    pub verify: bool,
    /// A PEM file with the authorities that are trusted. `None`: those of the system, or, if it has
    /// none, those of Mozilla.
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI) and that the certificate must have. `None`: the host of the
    /// upstream's address.
    pub server_name: Option<String>,
    /// The certificate that is shown to upstreams that ask for one.
    pub certificate: Option<CertificateSource>,
    /// Application protocols, the preferred one first (RFC 7301). Empty: none is named.
    pub alpn: Vec<Vec<u8>>,
}

impl Default for ClientSettings {
    /// Certificates are verified with the authorities of the system.
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None, certificate: None, alpn: Vec::new() }
    }
}

impl ClientSettings {
    /// Reads and checks the files that the settings name.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(&self, crypto: &Crypto) -> Result<ClientTls, LoadError> {
        let Crypto { provider, time } = crypto;
        let builder = ClientConfig::builder_with_details(Arc::clone(provider), Arc::clone(time))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unusable(&error))?;
        let builder = if self.verify {
            let trusted = match &self.ca {
                Some(ca) => {
                    certificates(ca).and_then(|all| roots(&all)).map_err(|reason| LoadError::upstream_ca(ca, reason))?
                }
                None => system_roots(),
            };
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(provider))
                .build()
                .map_err(|error| self.unusable(&error))?;
            builder.with_webpki_verifier(verifier)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(Arc::clone(provider))))
        };
        let mut config = match &self.certificate {
            Some(source) => {
                let own = Certificate::load(source, provider, crypto.now(), &mut Vec::new())?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own.key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(ClientTls { config: Arc::new(config), server_name: self.server_name.clone() })
    }

    fn unusable(&self, error: &dyn std::fmt::Display) -> LoadError {
        let path = self.ca.as_deref().unwrap_or(Path::new("authorities of the system"));
        LoadError::upstream_ca(path, Reason::Malformed(error.to_string()))
    }
}

/// The authorities that the system trusts; if there are none, those of Mozilla that the program
/// brings.
fn system_roots() -> RootCertStore {
    let mut trusted = RootCertStore::empty();
    // Certificates that cannot be read or parsed are left out: others may be all that is needed.
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = trusted.add_parsable_certificates(found.certs);
    if added == 0 {
        trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    trusted
}

/// Settings whose files have been read.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl ClientTls {
    /// What is needed to connect to this host, a name or an IP address.
    ///
    /// # Errors
    /// The name is neither a host name nor an IP address.
    pub fn peer(&self, host: &str) -> Result<TlsPeer, InvalidPeerName> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| InvalidPeerName(name.to_owned()))?;
        Ok(TlsPeer { config: Arc::clone(&self.config), server_name })
    }
}

/// What is needed to connect to one upstream over TLS. The copies for the workers share its sessions.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    /// What rustls needs.
    pub config: Arc<ClientConfig>,
    /// The name that is asked for, and that the certificate must have.
    pub server_name: ServerName<'static>,
}

/// No certificate can have this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a host name nor an IP address")]
pub struct InvalidPeerName(String);

/// Accepts every certificate. The peer still has to prove that it has the key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
