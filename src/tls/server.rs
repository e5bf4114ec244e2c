//! The TLS settings of a listener, and the configuration of rustls that they become.
//!
//! ```text
//!   ServerSettings ──load: reads files, checks──► LoadedTls ──server_config──► rustls::ServerConfig
//!   plain data                                    certificates, notices         shared by all workers
//! ```
//!
//! The certificate is selected by the name that the client asks for (SNI), as a virtual host is by
//! `Host`. Early data (0-RTT) is refused: requests in it could be replayed (RFC 8470).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::acme::{ACME_TLS, Issued};
use super::certificates::{Certificate, CertificateSource, LoadError, Notice, Reason, certificates};
use super::tickets::{Binding, TicketKeys, Tickets};
use crate::http::{HostMatcher, Wildcard};

/// The TLS settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The certificates, at least one. The first also serves clients that name no host, unless
    /// `unknown_name` refuses them.
    pub certificates: Vec<CertificateSource>,
    /// The lowest version.
    pub min_version: MinVersion,
    /// Whether clients have to show a certificate. `None`: they are not asked for one.
    pub client_auth: Option<ClientAuth>,
    /// Application protocols, the preferred one first (RFC 7301). A client that offers only others is
    /// refused. Empty: the offer is ignored.
    pub alpn: Vec<Vec<u8>>,
    /// Whether clients get tickets, with which they resume a session without state on the server.
    pub tickets: bool,
    /// Number of sessions kept for clients that resume without tickets. 0: none.
    pub session_cache: usize,
    /// What happens to clients that name no host, or one that no certificate has.
    pub unknown_name: UnknownName,
    /// What happens to HTTP requests for a host that the connection's certificate does not have.
    pub misdirected: Misdirected,
}

/// Number of sessions kept by default. One takes about 200 bytes without a client certificate.
const SESSION_CACHE: usize = 1024;

impl ServerSettings {
    /// These certificates with default settings: TLS 1.2 and 1.3, tickets, no ALPN.
    pub const fn new(certificates: Vec<CertificateSource>) -> Self {
        Self {
            certificates,
            min_version: MinVersion::Tls12,
            client_auth: None,
            alpn: Vec::new(),
            tickets: true,
            session_cache: SESSION_CACHE,
            unknown_name: UnknownName::Default,
            misdirected: Misdirected::Refuse,
        }
    }

    /// Reads and checks the files that the settings name.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn load(&self, crypto: &Crypto) -> Result<LoadedTls, Vec<LoadError>> {
        let (mut notices, mut errors, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
        let now = crypto.now();
        for source in &self.certificates {
            if let CertificateSource::Acme(source) = source {
                loaded.push(Entry::Issued(Issued::load(source, self.answers_tls_alpn(), &crypto.provider)));
                continue;
            }
            match Certificate::load(source, &crypto.provider, now, &mut notices) {
                Ok(certificate) => loaded.push(Entry::Loaded(Arc::new(certificate))),
                Err(error) => errors.push(error),
            }
        }
        let client_roots = match &self.client_auth {
            Some(auth) => certificates(&auth.ca)
                .and_then(|all| Ok((roots(&all)?, all)))
                .map_err(|reason| errors.push(LoadError::client_ca(&auth.ca, reason)))
                .ok(),
            None => None,
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let certificates = Arc::new(CertificateSet::new(loaded, self.unknown_name));
        Ok(LoadedTls { settings: self.clone(), crypto: crypto.clone(), certificates, client_roots, notices })
    }

    /// Whether the authority of a certificate can check over TLS that its host name leads here. It
    /// shows no certificate of its own. A listener without ALPN cannot: with one protocol named, rustls
    /// would refuse the clients that offer others.
    fn answers_tls_alpn(&self) -> bool {
        let requires_certificate = self.client_auth.as_ref().is_some_and(|auth| auth.mode == ClientAuthMode::Require);
        !self.alpn.is_empty() && !requires_certificate
    }
}

/// The lowest version of TLS that a listener speaks. 1.0 and 1.1 are not implemented (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2 and 1.3.
    #[default]
    Tls12,
    /// 1.3 only.
    Tls13,
}

impl MinVersion {
    /// The versions, for people.
    pub const fn names(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS 1.2 and 1.3",
            Self::Tls13 => "TLS 1.3",
        }
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Tls12 => &ALL,
            Self::Tls13 => &ALL[..1],
        }
    }
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// A PEM file with the authorities whose certificates are accepted.
    pub ca: PathBuf,
    /// What a client without a certificate gets.
    pub mode: ClientAuthMode,
}

/// What a client without a certificate gets. A certificate that is not accepted always ends the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// It is served.
    Request,
    /// The handshake fails.
    Require,
}

/// What happens to clients that name no host, or one that no certificate has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownName {
    /// They get the first certificate.
    #[default]
    Default,
    /// The handshake fails.
    Refuse,
}

/// What happens to HTTP requests for a host that the certificate which the client's name has selected
/// does not have. Where clients are asked for certificates, requests for another server are refused in
/// any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misdirected {
    /// They get a 421 (RFC 9110, 15.5.20), unless the client is a trusted proxy.
    #[default]
    Refuse,
    /// They are served.
    Serve,
}

/// The cryptography and the clock. The default is that of the process; a simulation has its own.
#[derive(Clone, Debug)]
pub struct Crypto {
    /// Key exchange, signatures, ciphers and randomness.
    pub provider: Arc<CryptoProvider>,
    /// The wall clock, for the dates in certificates and the age of tickets.
    pub time: Arc<dyn TimeProvider>,
}

impl Default for Crypto {
    fn default() -> Self {
        let provider = default_provider();
        #[cfg(feature = "ktls-tx")]
        let provider = match crate::driver::has_kernel_tls() {
            true => super::ktls::watched(provider),
            false => provider,
        };
        Self { provider: Arc::new(provider), time: Arc::new(DefaultTimeProvider) }
    }
}

impl Crypto {
    /// Seconds since 1970; 0 without a clock.
    pub fn now(&self) -> i64 {
        let now = self.time.current_time().unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
    }
}

/// Settings whose files have been read and can be used.
#[derive(Debug)]
pub struct LoadedTls {
    settings: ServerSettings,
    crypto: Crypto,
    certificates: Arc<CertificateSet>,
    /// The authorities of client certificates, for verifying and as they were read.
    client_roots: Option<(RootCertStore, Vec<CertificateDer<'static>>)>,
    notices: Vec<Notice>,
}

impl LoadedTls {
    /// What is worth a warning.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The certificates.
    pub const fn certificates(&self) -> &Arc<CertificateSet> {
        &self.certificates
    }

    /// What rustls needs, shared by the workers. The tickets are encrypted with `keys` and can be used
    /// only with equal settings.
    ///
    /// # Errors
    /// The provider supports none of the versions, or no authority of client certificates.
    pub fn server_config(&self, keys: &Arc<TicketKeys>) -> Result<Arc<ServerConfig>, rustls::Error> {
        #[cfg(feature = "ktls-tx")]
        tracing::debug!(is_available = crate::driver::has_kernel_tls(), "encryption by the kernel");
        let Crypto { provider, time } = &self.crypto;
        let builder = ServerConfig::builder_with_details(Arc::clone(provider), Arc::clone(time))
            .with_protocol_versions(self.settings.min_version.versions())?;
        let builder = match (&self.settings.client_auth, &self.client_roots) {
            (Some(auth), Some((roots, _))) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(provider));
                let verifier = match auth.mode {
                    ClientAuthMode::Request => verifier.allow_unauthenticated(),
                    ClientAuthMode::Require => verifier,
                };
                let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            (Some(_), None) | (None, _) => builder.with_no_client_auth(),
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<CertificateSet>::clone(&self.certificates);
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&self.settings.alpn);
        if self.certificates.issued().any(|issued| issued.answers_tls_alpn()) {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        config.session_storage = match self.settings.session_cache {
            0 => Arc::new(NoServerSessionStorage {}),
            // One for each configuration: a session of another listener must not be resumed here.
            sessions => ServerSessionMemoryCache::new(sessions),
        };
        if self.settings.tickets {
            config.ticketer = Arc::new(Tickets::new(Arc::clone(keys), self.binding()));
        }
        Ok(Arc::new(config))
    }

    /// What the connections of a listener need, shared by the workers.
    ///
    /// # Errors
    /// As [`LoadedTls::server_config`].
    pub fn server_tls(&self, keys: &Arc<TicketKeys>) -> Result<Arc<ServerTls>, rustls::Error> {
        Ok(Arc::new(ServerTls {
            config: self.server_config(keys)?,
            certificates: Arc::clone(&self.certificates),
            misdirected: self.settings.misdirected,
            asks_for_certificates: self.settings.client_auth.is_some(),
            signs_slowly: self.certificates.iter().any(|certificate| certificate.signs_slowly()),
        }))
    }

    /// What a ticket is bound to: all that decides whom a handshake lets in. Otherwise a client could
    /// get a ticket from a listener that asks for no certificate, and resume with it on one that
    /// does (CVE-2025-23419).
    fn binding(&self) -> Binding {
        // All of them, so that a new one is thought of here.
        let ServerSettings {
            certificates,
            min_version,
            client_auth,
            alpn,
            tickets: _,
            session_cache: _,
            unknown_name,
            // It is about requests, not about whom a handshake lets in.
            misdirected: _,
        } = &self.settings;
        let mut hash = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            // With their length, so that no two lists have the same bytes.
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(b"xps tickets 1");
        add(&[u8::from(*min_version == MinVersion::Tls13), u8::from(*unknown_name == UnknownName::Refuse)]);
        add(&(alpn.len() as u64).to_be_bytes());
        alpn.iter().for_each(|protocol| add(protocol));
        add(&(certificates.len() as u64).to_be_bytes());
        for source in certificates {
            match source {
                // Not the contents: a renewed certificate does not end sessions.
                CertificateSource::Files { cert, .. } => add(cert.as_os_str().as_encoded_bytes()),
                CertificateSource::SelfSigned(own) => add(own.certificate()),
                CertificateSource::Acme(source) => add(source.file().as_os_str().as_encoded_bytes()),
            }
        }
        if let (Some(auth), Some((_, authorities))) = (client_auth, &self.client_roots) {
            add(&[1, u8::from(auth.mode == ClientAuthMode::Require)]);
            authorities.iter().for_each(|authority| add(authority));
        }
        let mut binding = Binding::default();
        binding.copy_from_slice(hash.finish().as_ref());
        binding
    }
}

/// What the connections of a listener need.
#[derive(Debug)]
pub struct ServerTls {
    /// For the handshake.
    pub config: Arc<ServerConfig>,
    /// The certificates, of which the handshake serves one.
    pub certificates: Arc<CertificateSet>,
    /// What happens to requests for another host than those of that certificate.
    pub misdirected: Misdirected,
    /// Whether clients are asked for certificates.
    pub asks_for_certificates: bool,
    /// A signature with one of the keys takes long, so it is not made on the loop.
    pub signs_slowly: bool,
}

impl From<Arc<ServerConfig>> for ServerTls {
    /// With certificates that are not known: requests may be for every host.
    fn from(config: Arc<ServerConfig>) -> Self {
        let certificates = Arc::new(CertificateSet::new(Vec::new(), UnknownName::Default));
        Self {
            config,
            certificates,
            misdirected: Misdirected::Serve,
            asks_for_certificates: false,
            signs_slowly: false,
        }
    }
}

/// The store of these authorities.
pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Reason> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| Reason::Malformed(error.to_string()))?;
    }
    Ok(roots)
}

/// The certificates of a listener, selected by name.
#[derive(Debug)]
pub struct CertificateSet {
    entries: Vec<Entry>,
    names: HostMatcher,
    unknown_name: UnknownName,
}

/// A certificate, or the place of one.
#[derive(Debug)]
enum Entry {
    Loaded(Arc<Certificate>),
    /// It may not be there yet, and is replaced when it is renewed.
    Issued(Arc<Issued>),
}

impl Entry {
    fn names(&self) -> &[String] {
        match self {
            Self::Loaded(certificate) => &certificate.dns_names,
            Self::Issued(issued) => std::slice::from_ref(&issued.source().domain),
        }
    }

    fn certificate(&self) -> Option<Arc<Certificate>> {
        match self {
            Self::Loaded(certificate) => Some(Arc::clone(certificate)),
            Self::Issued(issued) => issued.certificate(),
        }
    }
}

impl CertificateSet {
    fn new(entries: Vec<Entry>, unknown_name: UnknownName) -> Self {
        // The name in a ClientHello has no port (RFC 6066, 3).
        const NO_PORT: u16 = 0;
        let names = HostMatcher::new(NO_PORT, Wildcard::OneLabel, entries.iter().map(Entry::names));
        Self { entries, names, unknown_name }
    }

    /// The certificate for a client that asks for this name. `None`: the handshake fails, as it also does
    /// for a name whose certificate is not there yet.
    pub fn choose(&self, name: Option<&str>) -> Option<Arc<Certificate>> {
        match (name.and_then(|name| self.named(name)), self.unknown_name) {
            (Some(entry), _) => entry.certificate(),
            (None, UnknownName::Default) => self.entries.iter().find_map(Entry::certificate),
            (None, UnknownName::Refuse) => None,
        }
    }

    /// The certificate that has this name.
    fn named(&self, name: &str) -> Option<&Entry> {
        let named = self.names.find(Some(name)).and_then(|at| self.entries.get(at));
        // A certificate without host names is not the one for all names.
        named.filter(|entry| !entry.names().is_empty())
    }

    /// Whether the certificate that `name` selects has this host, too: a name or address and an
    /// optional port. True if it selects none, so that the default was served.
    pub fn covers(&self, name: &str, authority: &str) -> bool {
        let named = self.named(name).and_then(Entry::certificate);
        named.is_none_or(|certificate| certificate.covers(authority))
    }

    /// All certificates that are there, the default first.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Certificate>> {
        self.entries.iter().filter_map(Entry::certificate)
    }

    /// Those that are obtained while the server runs.
    pub fn issued(&self) -> impl Iterator<Item = &Arc<Issued>> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Loaded(_) => None,
            Entry::Issued(issued) => Some(issued),
        })
    }

    /// The answer to a validation by an authority; `None`: it is no validation, or none is expected.
    fn challenge(&self, hello: &ClientHello<'_>) -> Option<Option<Arc<CertifiedKey>>> {
        // It offers this protocol and no other (RFC 8737, 3).
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
            return None;
        }
        Some(match hello.server_name().and_then(|name| self.named(name)) {
            Some(Entry::Issued(issued)) => issued.challenge(),
            Some(Entry::Loaded(_)) | None => None,
        })
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(answer) = self.challenge(&hello) {
            return answer;
        }
        self.choose(hello.server_name()).map(|certificate| Arc::clone(&certificate.key))
    }
}

#[cfg(test)]
mod tests;
