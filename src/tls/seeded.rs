//! Cryptography whose random numbers follow from a seed, and a clock that is set: for the simulation and
//! for fuzzing. It is deterministic and cheap, and keeps nothing secret.
//!
//! * Random numbers come from a generator of the thread. Everything random in TLS is drawn from it, the
//!   keys of tickets included.
//! * Key exchange: each side sends random bytes, and the secret is what distinguishes them.
//! * A signature is a hash of what is signed, and every certificate is trusted.
//!
//! Records are encrypted, and the messages of a handshake authenticated, as always: a changed byte is
//! noticed.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, PeerMisbehaved,
    ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};

use super::server::{ClientAuthMode, Crypto};
use super::stream::Stream;
use super::tickets::{Binding, TicketKeys, Tickets};
use crate::driver::sim::Rng;

/// When the clock begins, in seconds since 1970.
const START: u64 = 1_800_000_000;

thread_local! {
    static RANDOM: RefCell<Rng> = const { RefCell::new(Rng::new(0)) };
    static SECONDS: Cell<u64> = const { Cell::new(START) };
}

/// Sets the random numbers of this thread to those of a seed, and its clock to the beginning.
pub fn seed(seed: u64) {
    RANDOM.set(Rng::new(seed));
    SECONDS.set(START);
}

/// Sets the clock of this thread to a time after its beginning.
pub fn set_time(after: Duration) {
    SECONDS.set(START + after.as_secs());
}

/// The cryptography and the clock of this thread.
pub fn crypto() -> Crypto {
    let provider = CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![&Group],
        secure_random: &Random,
        ..default_provider()
    };
    Crypto { provider: Arc::new(provider), time: Arc::new(Clock) }
}

/// A server of these versions, with tickets. `client_auth`: whether it asks clients for a certificate; it
/// accepts any.
///
/// # Errors
/// There is no such version.
pub fn server_config(
    keys: &Arc<TicketKeys>,
    versions: &[&'static SupportedProtocolVersion],
    client_auth: Option<ClientAuthMode>,
) -> Result<ServerConfig, Error> {
    let Crypto { provider, time } = crypto();
    let certified = CertifiedKey::new(vec![CertificateDer::from(&b"any certificate"[..])], Arc::new(Key));
    let builder = ServerConfig::builder_with_details(provider, time).with_protocol_versions(versions)?;
    let builder = match client_auth {
        Some(mode) => builder.with_client_cert_verifier(Arc::new(Asking(mode))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.ticketer = Arc::new(Tickets::new(Arc::clone(keys), Binding::default()));
    Ok(config)
}

/// The server's side of a connection, with ALPN. Its configuration is made once for each thread.
///
/// # Errors
/// None, unless rustls changes.
pub fn server_stream() -> Result<Stream, Error> {
    thread_local! {
        static CONFIG: RefCell<Option<Arc<ServerConfig>>> = const { RefCell::new(None) };
    }
    let config = CONFIG.with_borrow_mut(|made| match made {
        Some(config) => Ok(Arc::clone(config)),
        None => {
            let mut config = server_config(&TicketKeys::new(crypto()), &[&TLS13, &TLS12], None)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok::<_, Error>(Arc::clone(made.insert(Arc::new(config))))
        }
    })?;
    Stream::server(config)
}

/// A client of these versions, which keeps its sessions. `certificate`: what it shows if it is asked, in DER.
///
/// # Errors
/// There is no such version.
pub fn client_config(
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<Vec<u8>>,
) -> Result<ClientConfig, Error> {
    let Crypto { provider, time } = crypto();
    let builder = ClientConfig::builder_with_details(provider, time).with_protocol_versions(versions)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Key));
    Ok(match certificate {
        Some(certificate) => {
            let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], Arc::new(Key));
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    })
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        let drawn = RANDOM.with_borrow_mut(|rng| rng.bytes(bytes.len()));
        bytes.copy_from_slice(&drawn);
        Ok(())
    }
}

#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(SECONDS.get())))
    }
}

/// A group in name only.
#[derive(Debug)]
struct Group;

/// The length of what each side sends, in bytes: that of the group by whose name it goes.
const SHARE_BYTES: usize = 32;

struct Exchange([u8; SHARE_BYTES]);

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut share = [0; SHARE_BYTES];
        Random.fill(&mut share)?;
        Ok(Box::new(Exchange(share)))
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        if theirs.len() != SHARE_BYTES {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let secret: Vec<u8> = self.0.iter().zip(theirs).map(|(ours, theirs)| ours ^ theirs).collect();
        Ok(SharedSecret::from(secret))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Signs with a hash, and verifies that.
#[derive(Debug)]
struct Key;

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        if offered.contains(&SCHEME) { Some(Box::new(Self)) } else { None }
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(digest(&SHA256, message).as_ref().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

fn verified(message: &[u8], signed: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
    match signed.signature() == digest(&SHA256, message).as_ref() {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

impl ServerCertVerifier for Key {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verified(message, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verified(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

/// Accepts every certificate of a client.
#[derive(Debug)]
struct Asking(ClientAuthMode);

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        self.0 == ClientAuthMode::Require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verified(message, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verified(message, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}
