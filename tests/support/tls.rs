//! TLS for tests: an authority with what it signs, in a temporary folder, and a client over a real
//! socket that says what was agreed on.
//!
//! ```ignore
//! let authority = Authority::new();
//! let site = authority.signed(&["example.org", "127.0.0.1"]);
//! let xps = Launch::new(backend, ["serve", …, "--tls-cert"]).flag(site.cert.display())…;
//! let client = Client::trusting(&authority).offering(&["http/1.1"]);
//! let mut stream = client.connect(xps.address(), "example.org").unwrap();
//! assert_eq!(stream.version(), Some(ProtocolVersion::TLSv1_3));
//! ```

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::client::uninterrupted;
use super::environment::patience;

/// An authority. Its files are removed with it.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key: as files, for the server, and in memory, for a client.
#[derive(Debug)]
pub struct Signed {
    /// The certificate and its authority's, in PEM.
    pub cert: PathBuf,
    /// The key in PKCS#8, readable by its owner only.
    pub key: PathBuf,
    /// The certificate in DER, to compare with [`Stream::certificate`].
    pub der: CertificateDer<'static>,
    private_key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new one, with a key of its own: no other client trusts it.
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a temporary file");
        Self { folder, issuer }
    }

    /// Its certificate as a PEM file, for `client_auth.ca` and for other programs.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for these host names and addresses. The same names again replace its files.
    pub fn signed(&self, names: &[&str]) -> Signed {
        self.signed_with(names, |_| {})
    }

    /// The same, after `change` has been at it: to make one that has expired, or with a subject.
    pub fn signed_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(all).expect("names that can be in a certificate");
        parameters.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("unnamed"));
        change(&mut parameters);
        self.sign(names, &parameters, &KeyPair::generate().expect("a key"))
    }

    /// A certificate with an RSA key, whose signatures take long.
    pub fn signed_with_rsa(&self, names: &[&str]) -> Signed {
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let parameters = CertificateParams::new(all).expect("names that can be in a certificate");
        self.sign(names, &parameters, &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key"))
    }

    fn sign(&self, names: &[&str], parameters: &CertificateParams, key: &KeyPair) -> Signed {
        let certificate = parameters.signed_by(key, &self.issuer).expect("a certificate");
        let stem = names.join("_").replace(['*', ':'], "-");
        let (cert, key_file) = (self.path(&format!("{stem}.crt")), self.path(&format!("{stem}.key")));
        fs::write(&cert, format!("{}{}", certificate.pem(), self.issuer.pem())).expect("a temporary file");
        fs::write(&key_file, key.serialize_pem()).expect("a temporary file");
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).expect("a temporary file");
        let private_key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Signed { cert, key: key_file, der: certificate.der().clone(), private_key }
    }
}

/// A client. Its connections share what they can resume, so a second one to the same name resumes the
/// session of the first, if the server lets it.
pub struct Client {
    trust: Trust,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    resumption: Resumption,
    /// Made once: rustls resumes a session only with the verifier that it began with.
    config: OnceLock<Arc<ClientConfig>>,
}

enum Trust {
    In(RootCertStore),
    Anyone,
}

impl Client {
    /// A client that trusts what this authority has signed, and nothing else.
    pub fn trusting(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("an authority");
        Self::new(Trust::In(roots))
    }

    /// A client that accepts every certificate, for self-signed ones. [`Stream::certificate`] shows which.
    pub fn trusting_anyone() -> Self {
        Self::new(Trust::Anyone)
    }

    fn new(trust: Trust) -> Self {
        Self {
            trust,
            versions: rustls::ALL_VERSIONS.to_vec(),
            alpn: Vec::new(),
            certificate: None,
            resumption: Resumption::in_memory_sessions(64),
            config: OnceLock::new(),
        }
    }

    /// Speaks this version only.
    #[must_use]
    pub fn speaking(self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], config: OnceLock::new(), ..self }
    }

    /// Offers these application protocols (ALPN).
    #[must_use]
    pub fn offering(self, protocols: &[&str]) -> Self {
        Self {
            alpn: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
            config: OnceLock::new(),
            ..self
        }
    }

    /// Shows this certificate if it is asked for one.
    #[must_use]
    pub fn showing(self, signed: &Signed) -> Self {
        Self {
            certificate: Some((vec![signed.der.clone()], signed.private_key.clone_key())),
            config: OnceLock::new(),
            ..self
        }
    }

    /// Never resumes.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self { resumption: Resumption::disabled(), config: OnceLock::new(), ..self }
    }

    /// What rustls needs, for tests that shake hands themselves, byte by byte.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(self.config.get_or_init(|| self.make()))
    }

    fn make(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .expect("versions that the provider has");
        let builder = match &self.trust {
            Trust::In(roots) => builder.with_root_certificates(roots.clone()),
            Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptsAnyone(provider))),
        };
        let mut config = match &self.certificate {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).expect("a key that fits")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = self.resumption.clone();
        Arc::new(config)
    }

    /// Connects and shakes hands. `name`: the host name to ask for, or an address, which is not sent.
    /// With TLS 1.3 a refusal of the client's certificate comes only when the stream is read.
    ///
    /// # Errors
    /// Connecting failed, or one of both sides refused the other.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Stream> {
        let mut tcp = TcpStream::connect_timeout(&address, patience())?;
        tcp.set_read_timeout(Some(patience()))?;
        tcp.set_write_timeout(Some(patience()))?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(self.config(), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            uninterrupted(|| tls.complete_io(&mut tcp))?;
        }
        Ok(Stream { tls, tcp })
    }
}

/// A connection after its handshake. Reading gives [`io::ErrorKind::UnexpectedEof`] if the server ends
/// it without close_notify.
#[derive(Debug)]
pub struct Stream {
    pub tls: ClientConnection,
    pub tcp: TcpStream,
}

impl Stream {
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.tls.protocol_version()
    }

    /// Full or resumed.
    pub fn kind(&self) -> Option<HandshakeKind> {
        self.tls.handshake_kind()
    }

    /// The application protocol that was agreed on.
    pub fn alpn(&self) -> Option<String> {
        self.tls.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    /// The server's own certificate in DER. Of a resumed session, that of its first connection.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    /// Ends the client's side, in order: close_notify, then FIN. The server's side can still be read.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn finish(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            uninterrupted(|| self.tls.write_tls(&mut self.tcp))?;
        }
        self.tcp.shutdown(Shutdown::Write)
    }

    /// Reads up to close_notify.
    ///
    /// # Errors
    /// The server ended without it, or sent what is not TLS.
    pub fn read_rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| rustls::Stream::new(&mut self.tls, &mut self.tcp).read(bytes))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| rustls::Stream::new(&mut self.tls, &mut self.tcp).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.tls, &mut self.tcp).flush()
    }
}

/// Accepts every certificate; signatures are still verified.
#[derive(Debug)]
struct AcceptsAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
