//! Session tickets: what a client needs to resume a session, encrypted with a key that only this
//! server has (RFC 5077, RFC 8446 4.6.1).
//!
//! The keys are shared by all workers and all listeners, and can be exported, so that a replacing
//! process accepts the tickets of its predecessor. A ticket is bound to the settings of its listener:
//! with other settings it cannot be decrypted.
//!
//! ```text
//!   key:      in use (6 h) ──► accepted (12 h) ──► erased
//!   ticket:   name of the key (16) │ nonce (12) │ encrypted session │ tag (16)
//! ```
//!
//! AES-256-GCM-SIV (RFC 8452), since the nonces are random: a repeated one would reveal only that two
//! sessions are equal.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::server::ProducesTickets;
use zeroize::Zeroize;

use super::server::Crypto;

/// How long a key encrypts tickets. 6 h.
pub const KEY_PERIOD: Duration = Duration::from_secs(6 * 60 * 60);

/// How long a ticket is accepted after it was made, at least. 12 h. Its key is erased with the first
/// ticket that is made `KEY_PERIOD + TICKET_LIFETIME` or more after the key. Until then recorded
/// TLS 1.2 sessions can be read with the key.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Keys kept: the one in use, and those whose tickets may still be accepted.
const KEYS_MAX: usize = 1 + TICKET_LIFETIME.as_secs().div_ceil(KEY_PERIOD.as_secs()) as usize;

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// A hash of the settings that a ticket is bound to.
pub type Binding = [u8; 32];

/// The keys of session tickets, shared by all workers and listeners of a server.
pub struct TicketKeys {
    crypto: Crypto,
    /// The newest first. Locked by handshakes only, to read, except when a key is made.
    keys: RwLock<Vec<TicketKey>>,
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    /// The key itself, for export.
    bytes: [u8; KEY_BYTES],
    aead: LessSafeKey,
    /// Seconds since 1970.
    made: i64,
}

impl TicketKeys {
    /// No key yet: the first ticket makes one.
    pub fn new(crypto: Crypto) -> Arc<Self> {
        Arc::new(Self { crypto, keys: RwLock::default() })
    }

    /// The keys of a process that this one replaces, as [`TicketKeys::export`] wrote them. Keys of
    /// another version of xps, or damaged ones, are ignored: clients then make full handshakes.
    pub fn import(crypto: Crypto, exported: &[u8]) -> Arc<Self> {
        let keys = exported.strip_prefix(EXPORT_VERSION).map(|keys| keys.as_chunks::<EXPORTED_BYTES>());
        let keys = match keys {
            Some((keys, [])) => keys.iter().take(KEYS_MAX).filter_map(TicketKey::import).collect(),
            Some(_) | None => Vec::new(),
        };
        Arc::new(Self { crypto, keys: RwLock::new(keys) })
    }

    /// All keys, for a process that replaces this one; empty if there are none. They are secret.
    pub fn export(&self) -> Vec<u8> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() {
            return Vec::new();
        }
        let mut out = EXPORT_VERSION.to_vec();
        for key in keys.iter() {
            out.extend_from_slice(&key.name);
            out.extend_from_slice(&key.bytes);
            out.extend_from_slice(&key.made.to_be_bytes());
        }
        out
    }

    fn encrypt(&self, binding: &Binding, session: &[u8]) -> Option<Vec<u8>> {
        let now = self.crypto.now();
        self.rotate(now)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.crypto.provider.secure_random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + session.len() + TAG_BYTES);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(session);
        let (_, plain) = ticket.split_at_mut(NAME_BYTES + NONCE_LEN);
        let tag =
            key.aead.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(binding), plain).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, binding: &Binding, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let now = self.crypto.now();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // Names are not secret.
        let key = keys.iter().find(|key| key.name == *name).filter(|key| key.is_accepted(now))?;
        let mut session = sealed.to_vec();
        let length =
            key.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(binding), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }

    /// Makes a key if there is none in use, and erases those whose time is over. `None`: there is no
    /// randomness.
    fn rotate(&self, now: i64) -> Option<()> {
        let is_current = |keys: &[TicketKey]| keys.first().is_some_and(|key| key.is_current(now));
        let is_in_order = |keys: &[TicketKey]| is_current(keys) && keys.iter().all(|key| key.is_accepted(now));
        if is_in_order(&self.keys.read().unwrap_or_else(PoisonError::into_inner)) {
            return Some(());
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have made it meanwhile.
        if !is_current(&keys) {
            keys.insert(0, TicketKey::random(&self.crypto, now)?);
        }
        keys.retain(|key| key.is_accepted(now));
        keys.truncate(KEYS_MAX);
        Some(())
    }
}

/// The keys stay secret.
impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

impl TicketKey {
    fn random(crypto: &Crypto, now: i64) -> Option<Self> {
        let (mut name, mut bytes) = ([0; NAME_BYTES], [0; KEY_BYTES]);
        crypto.provider.secure_random.fill(&mut name).ok()?;
        crypto.provider.secure_random.fill(&mut bytes).ok()?;
        Self::new(name, bytes, now)
    }

    fn new(name: [u8; NAME_BYTES], bytes: [u8; KEY_BYTES], made: i64) -> Option<Self> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &bytes).ok()?);
        Some(Self { name, bytes, aead, made })
    }

    fn import(exported: &[u8; EXPORTED_BYTES]) -> Option<Self> {
        let (name, rest) = exported.split_first_chunk()?;
        let (bytes, made) = rest.split_first_chunk()?;
        Self::new(*name, *bytes, i64::from_be_bytes(*made.first_chunk()?))
    }

    /// Whether it encrypts tickets. Not if the clock has been set back by more than a key's period, so
    /// that a key made in the future does not last for years.
    const fn is_current(&self, now: i64) -> bool {
        (now - self.made).unsigned_abs() < KEY_PERIOD.as_secs()
    }

    /// Whether it decrypts tickets.
    const fn is_accepted(&self, now: i64) -> bool {
        (now - self.made).unsigned_abs() < KEY_PERIOD.as_secs() + TICKET_LIFETIME.as_secs()
    }
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// The form of exported keys: this version, then name, key and time of each.
const EXPORT_VERSION: &[u8] = b"xps-ticket-keys-1\n";
const EXPORTED_BYTES: usize = NAME_BYTES + KEY_BYTES + size_of::<i64>();

/// The tickets of one listener.
pub struct Tickets {
    keys: Arc<TicketKeys>,
    binding: Binding,
}

impl Tickets {
    /// Tickets that can be used only where the settings have the same hash.
    pub const fn new(keys: Arc<TicketKeys>, binding: Binding) -> Self {
        Self { keys, binding }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.encrypt(&self.binding, plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.decrypt(&self.binding, cipher)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustls::pki_types::UnixTime;
    use rustls::time_provider::TimeProvider;

    use super::*;

    /// A clock that the test sets.
    #[derive(Debug, Default)]
    struct Clock(AtomicU64);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    const START: u64 = 1_800_000_000;
    const PERIOD: u64 = KEY_PERIOD.as_secs();

    fn keys() -> (Arc<Clock>, Arc<TicketKeys>) {
        let clock = Arc::new(Clock(AtomicU64::new(START)));
        let time: Arc<dyn TimeProvider> = Arc::<Clock>::clone(&clock);
        (clock, TicketKeys::new(Crypto { time, ..Crypto::default() }))
    }

    fn of(keys: &Arc<TicketKeys>, listener: u8) -> Tickets {
        Tickets::new(Arc::clone(keys), [listener; 32])
    }

    #[test]
    fn a_ticket_is_read_by_the_listener_that_made_it_and_by_no_other() {
        let (_, keys) = keys();
        let ticket = of(&keys, 1).encrypt(b"session").unwrap();
        assert_eq!(of(&keys, 1).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(of(&keys, 2).decrypt(&ticket), None);
        assert!(!ticket.windows(7).any(|bytes| bytes == b"session"));
        assert_ne!(of(&keys, 1).encrypt(b"session").unwrap(), ticket, "each has a nonce of its own");
    }

    #[test]
    fn a_ticket_that_was_changed_anywhere_or_cut_is_refused() {
        let (_, keys) = keys();
        let tickets = of(&keys, 1);
        let ticket = tickets.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "at {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_eq!(tickets.decrypt(b""), None);
    }

    #[test]
    fn a_ticket_is_accepted_for_its_lifetime_and_its_key_is_then_erased() {
        let (clock, keys) = keys();
        let tickets = of(&keys, 1);
        tickets.encrypt(b"").unwrap();
        // At the end of its key's period.
        clock.0.store(START + PERIOD - 1, Ordering::Relaxed);
        let ticket = tickets.encrypt(b"session").unwrap();
        let mut names = vec![ticket[..NAME_BYTES].to_vec()];
        for hours in [6, 12] {
            clock.0.store(START + PERIOD - 1 + hours * 3600, Ordering::Relaxed);
            names.push(tickets.encrypt(b"").unwrap()[..NAME_BYTES].to_vec());
            assert!(tickets.decrypt(&ticket).is_some(), "after {hours} hours");
        }
        names.dedup();
        assert_eq!(names.len(), KEYS_MAX, "each period has another key");
        clock.0.store(START + PERIOD + TICKET_LIFETIME.as_secs(), Ordering::Relaxed);
        assert_eq!(tickets.decrypt(&ticket), None);
        tickets.encrypt(b"").unwrap();
        assert!(keys.keys.read().unwrap().iter().all(|key| key.name != ticket[..NAME_BYTES]), "it is erased");
        assert!(keys.keys.read().unwrap().len() <= KEYS_MAX);
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_keep_a_key_for_years() {
        let (clock, keys) = keys();
        let tickets = of(&keys, 1);
        clock.0.store(START + 1_000_000_000, Ordering::Relaxed);
        let ticket = tickets.encrypt(b"session").unwrap();
        clock.0.store(START, Ordering::Relaxed);
        assert_eq!(tickets.decrypt(&ticket), None);
        assert!(tickets.encrypt(b"session").is_some_and(|other| other[..NAME_BYTES] != ticket[..NAME_BYTES]));
    }

    #[test]
    fn a_replacing_process_accepts_the_tickets_of_its_predecessor() {
        let (clock, keys) = keys();
        let ticket = of(&keys, 1).encrypt(b"session").unwrap();
        let exported = keys.export();
        let time: Arc<dyn TimeProvider> = Arc::<Clock>::clone(&clock);
        let import =
            |exported: &[u8]| TicketKeys::import(Crypto { time: Arc::clone(&time), ..Crypto::default() }, exported);
        let next = import(&exported);
        assert_eq!(of(&next, 1).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(of(&next, 2).decrypt(&ticket), None);
        let newer = of(&next, 1).encrypt(b"newer").unwrap();
        assert_eq!(of(&keys, 1).decrypt(&newer).as_deref(), Some(&b"newer"[..]), "and the other way");
        for damaged in [&exported[..exported.len() - 1], b"", b"other version"] {
            assert_eq!(of(&import(damaged), 1).decrypt(&ticket), None);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let (_, keys) = keys();
        of(&keys, 1).encrypt(b"").unwrap();
        assert_eq!(format!("{keys:?} {:?}", of(&keys, 1)), "TicketKeys { .. } Tickets { .. }");
    }
}
