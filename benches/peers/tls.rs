//! TLS for clients and the origin: what they are restricted to, and how records become bytes.
//!
//! Clients offer one key exchange group and one cipher suite of each version, so that all servers do the same work.

use std::io::{self, Read};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, HandshakeKind, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::certificate::{Identity, NAME};

/// Which version clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// TLS 1.2 with ECDHE.
    #[value(name = "1.2")]
    V12,
    /// TLS 1.3.
    #[value(name = "1.3")]
    V13,
}

/// How closely a client looks at what a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// The certificate is compared and the handshake's signature is checked.
    Signature,
    /// The certificate is compared: a client that only makes load leaves most of the processor to others.
    Certificate,
}

/// Both ends of TLS, as far as they differ.
pub trait Machine {
    /// What rustls tells them apart by.
    type Data;

    /// Processes the front of what arrived.
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

/// A client's end of a connection.
pub type ClientStream = Stream<UnbufferedClientConnection>;

/// The origin's end of a connection.
pub type ServerStream = Stream<UnbufferedServerConnection>;

/// One end of a connection. It holds no socket.
pub struct Stream<M> {
    machine: M,
    /// Bytes to encrypt when the handshake is complete.
    early: Vec<u8>,
    /// Records to send. The sender removes them.
    pub outgoing: Vec<u8>,
    /// The front of a record that has not arrived whole.
    partial: Vec<u8>,
}

/// What a read of a socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This number of bytes; 0 if there were only messages of TLS itself, or part of a record.
    Bytes(usize),
    /// Nothing: the socket is empty.
    Nothing,
    /// The end, and no bytes before it.
    End,
}

/// Bytes that one handshake message, or a record around a piece of plaintext, takes at most beyond that piece.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Bytes that a record adds: header, nonce or type, tag (RFC 8446, section 5.2; RFC 5288, section 3).
const RECORD_BYTES_MAX: usize = 5 + 8 + 16;

/// Plaintext in a record (RFC 8446, section 5.1).
const PLAIN_BYTES_MAX: usize = 16 << 10;

/// How a client speaks TLS. One that resumes has a store of its own.
pub fn client(identity: &Identity, version: Version, care: Care, resumes: bool) -> io::Result<Arc<ClientConfig>> {
    let provider = provider(version);
    let verifier = KnownCertificate {
        certificate: identity.read_certificate()?,
        care,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version.supported()])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if resumes { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

/// How the origin speaks TLS.
pub fn server(identity: &Identity) -> io::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(provider(Version::V13))
        .with_protocol_versions(&[&TLS12, &TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![identity.read_certificate()?], identity.read_key()?)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// X25519 and AES-128-GCM alone.
fn provider(version: Version) -> Arc<CryptoProvider> {
    let kx_groups = match version {
        // The groups also say which curve a server's key may be on (RFC 8422, section 5.1). Servers prefer the first.
        Version::V12 => vec![kx_group::X25519, kx_group::SECP256R1],
        Version::V13 => vec![kx_group::X25519],
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups,
        ..default_provider()
    })
}

impl Version {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }

    fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::V12 => &TLS12,
            Self::V13 => &TLS13,
        }
    }
}

impl Stream<UnbufferedClientConnection> {
    /// A client's end, before its handshake.
    pub fn client(config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let machine = UnbufferedClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self::new(machine))
    }

    /// Whether the handshake resumed an earlier connection's session.
    pub fn is_resumed(&self) -> bool {
        self.machine.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl Stream<UnbufferedServerConnection> {
    /// The origin's end, before its handshake.
    pub fn server(config: &Arc<ServerConfig>) -> io::Result<Self> {
        UnbufferedServerConnection::new(Arc::clone(config)).map(Self::new).map_err(io::Error::other)
    }
}

impl<M: Machine> Stream<M> {
    fn new(machine: M) -> Self {
        Self { machine, early: Vec::new(), outgoing: Vec::new(), partial: Vec::new() }
    }

    /// Encrypts bytes; during the handshake, which it begins, it keeps them for later.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.early.extend_from_slice(bytes);
        let mut partial = std::mem::take(&mut self.partial);
        let (used, _) = self.process(&mut partial, |_| {})?;
        partial.drain(..used);
        self.partial = partial;
        Ok(())
    }

    /// Reads a socket once, into memory that has room for a record and more, and hands over what was in the records.
    pub fn read(
        &mut self,
        socket: &mut impl Read,
        memory: &mut [u8],
        mut on_bytes: impl FnMut(&[u8]),
    ) -> io::Result<Received> {
        let earlier = self.partial.len();
        memory[..earlier].copy_from_slice(&self.partial);
        let count = match socket.read(&mut memory[earlier..]) {
            Ok(0) => return Ok(Received::End),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
            Err(error) => return Err(error),
        };
        let arrived = &mut memory[..earlier + count];
        let mut bytes = 0;
        let (used, is_open) = self.process(arrived, |piece| {
            bytes += piece.len();
            on_bytes(piece);
        })?;
        self.partial.clear();
        self.partial.extend_from_slice(&arrived[used..]);
        Ok(if bytes == 0 && !is_open { Received::End } else { Received::Bytes(bytes) })
    }

    /// Processes whole records. Says how many bytes they take, and whether the peer may send more.
    fn process(&mut self, arrived: &mut [u8], mut on_bytes: impl FnMut(&[u8])) -> io::Result<(usize, bool)> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.machine.process(&mut arrived[used..]);
            let end = match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut records) => {
                    while let Some(record) = records.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        on_bytes(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    append(&mut self.outgoing, MESSAGE_BYTES_MAX, |room| message.encode(room))?;
                    None
                }
                ConnectionState::TransmitTlsData(message) => {
                    message.done();
                    None
                }
                ConnectionState::WriteTraffic(mut records) => {
                    if !self.early.is_empty() {
                        let added = RECORD_BYTES_MAX * self.early.len().div_ceil(PLAIN_BYTES_MAX);
                        let room = self.early.len() + added;
                        append(&mut self.outgoing, room, |room| records.encrypt(&self.early, room))?;
                        self.early.clear();
                    }
                    Some(true)
                }
                ConnectionState::BlockedHandshake => Some(true),
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(false),
                state => return Err(io::Error::other(format!("unexpected in TLS: {state:?}"))),
            };
            used += discard;
            if let Some(is_open) = end {
                return Ok((used, is_open));
            }
        }
    }
}

/// Appends what the writer puts into a room of this number of bytes.
fn append<E>(bytes: &mut Vec<u8>, room: usize, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> io::Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let before = bytes.len();
    bytes.resize(before + room, 0);
    let written = write(&mut bytes[before..]).map_err(io::Error::other)?;
    bytes.truncate(before + written);
    Ok(())
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// Trusts one certificate, for any name and at any time.
#[derive(Debug)]
struct KnownCertificate {
    certificate: CertificateDer<'static>,
    care: Care,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for KnownCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.care {
            Care::Signature => verify_tls12_signature(message, certificate, signature, &self.algorithms),
            Care::Certificate => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.care {
            Care::Signature => verify_tls13_signature(message, certificate, signature, &self.algorithms),
            Care::Certificate => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
