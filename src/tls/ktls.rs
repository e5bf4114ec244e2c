//! Handing the sending direction of a connection to the kernel (kTLS), while rustls keeps receiving.
//!
//! ```text
//!   handshake ──► rustls encrypts ──hand_over──► records pass rustls as they are: only alerts are left
//!                   ▲ remembers the key and the next sequence number      │
//!                   └────────────────── take_back: the kernel refused ◄───┘
//! ```
//!
//! rustls gives its keys away only together with the connection, both directions. So the two AES-GCM
//! suites of TLS 1.3 are offered with an encryption of their own ([`watched`]): it encrypts as before,
//! and notes the keys that it is given and the sequence numbers that it uses. It learns which
//! connection it works for from a variable of the thread, which the session sets around each call of
//! rustls.
//!
//! The kernel of Linux 6.1 cannot change keys. After a key update on the sending side the connection
//! can only end.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload,
    Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::{CipherSuite, ConnectionTrafficSecrets, Error, ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite};
use zeroize::Zeroizing;

use crate::driver::{NONCE_BYTES, SendKeys};

/// The provider, with the suites whose keys the kernel can be given.
pub(super) fn watched(mut provider: CryptoProvider) -> CryptoProvider {
    for suite in &mut provider.cipher_suites {
        if let SupportedCipherSuite::Tls13(known) = suite
            && let Some(watched) = SUITES.iter().find(|watched| watched.common.suite == known.common.suite)
        {
            *suite = SupportedCipherSuite::Tls13(watched);
        }
    }
    provider
}

/// The suites of AES-GCM in TLS 1.3 that the default provider has.
static WATCHES: LazyLock<Vec<(&Tls13CipherSuite, Watch)>> = LazyLock::new(|| {
    let suites = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let tls13 = suites.filter_map(SupportedCipherSuite::tls13);
    let has_aes = |suite: &&Tls13CipherSuite| {
        matches!(suite.common.suite, CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS13_AES_256_GCM_SHA384)
    };
    tls13.filter(has_aes).map(|suite| (suite, Watch(suite.aead_alg))).collect()
});

static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let watched = |(suite, watch): &'static (&'static Tls13CipherSuite, Watch)| Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: watch,
        quic: None,
    };
    WATCHES.iter().map(watched).collect()
});

/// What is known of the sending direction of one connection.
#[derive(Default)]
pub(super) struct Sending {
    latest: Mutex<Option<Keys>>,
    /// How often there were new keys: once for the handshake, once for what follows it, and for each
    /// key update.
    generation: AtomicU32,
    /// The sequence number of the next record.
    next: AtomicU64,
    is_with_kernel: AtomicBool,
    /// Something has passed since the keys were handed over.
    has_passed: AtomicBool,
}

struct Keys {
    key: Zeroizing<Vec<u8>>,
    nonce: [u8; NONCE_BYTES],
}

/// The generation of the keys with which a connection begins.
const FIRST: u32 = 2;

thread_local! {
    /// The connection that rustls is working for.
    static CURRENT: RefCell<Option<Arc<Sending>>> = const { RefCell::new(None) };
}

/// While it lives, what rustls does on this thread is for one connection.
pub(super) struct Scope(());

impl Drop for Scope {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| *current = None);
    }
}

impl Sending {
    /// Before each call of rustls for this connection.
    pub(super) fn scope(self: &Arc<Self>) -> Scope {
        CURRENT.with_borrow_mut(|current| *current = Some(Arc::clone(self)));
        Scope(())
    }

    /// Whether the kernel can continue: the cipher is one that it knows, and the keys are the first.
    pub(super) fn can_be_handed_over(&self) -> bool {
        self.generation.load(Ordering::Relaxed) == FIRST && !self.is_with_kernel.load(Ordering::Relaxed)
    }

    /// The keys for the kernel, the handshake being complete. From now on records pass as they are.
    pub(super) fn hand_over(&self) -> Option<SendKeys> {
        if !self.can_be_handed_over() {
            return None;
        }
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let Keys { key, nonce } = latest.as_ref()?;
        let keys = SendKeys::aes_gcm(key, *nonce, self.next.load(Ordering::Relaxed))?;
        self.is_with_kernel.store(true, Ordering::Relaxed);
        Some(keys)
    }

    /// The kernel has refused: rustls encrypts again. `false`: it cannot, because something has passed
    /// in the meantime.
    #[must_use]
    pub(super) fn take_back(&self) -> bool {
        self.is_with_kernel.store(false, Ordering::Relaxed);
        !self.has_passed.load(Ordering::Relaxed)
    }

    /// Whether the kernel encrypts with keys that should be used no more.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_with_kernel.load(Ordering::Relaxed) && self.generation.load(Ordering::Relaxed) > FIRST
    }
}

/// An AES-GCM that notes its keys.
struct Watch(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Watch {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let Some(sending) = CURRENT.with_borrow(Option::clone) else { return self.0.encrypter(key, iv) };
        let mut nonce = [0; NONCE_BYTES];
        if iv.as_ref().len() == NONCE_BYTES {
            nonce.copy_from_slice(iv.as_ref());
        }
        let keys = Keys { key: Zeroizing::new(key.as_ref().to_vec()), nonce };
        *sending.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        sending.generation.fetch_add(1, Ordering::Relaxed);
        sending.next.store(0, Ordering::Relaxed);
        Box::new(WatchedEncrypter { inner: self.0.encrypter(key, iv), sending })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct WatchedEncrypter {
    inner: Box<dyn MessageEncrypter>,
    sending: Arc<Sending>,
}

impl MessageEncrypter for WatchedEncrypter {
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, sequence: u64) -> Result<OutboundOpaqueMessage, Error> {
        if self.sending.is_with_kernel.load(Ordering::Relaxed) {
            self.sending.has_passed.store(true, Ordering::Relaxed);
            let mut payload = PrefixedPayload::with_capacity(message.payload.len());
            payload.extend_from_chunks(&message.payload);
            return Ok(OutboundOpaqueMessage::new(message.typ, ProtocolVersion::TLSv1_2, payload));
        }
        self.sending.next.store(sequence + 1, Ordering::Relaxed);
        self.inner.encrypt(message, sequence)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.inner.encrypted_payload_len(payload_len)
    }
}
