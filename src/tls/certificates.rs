//! Certificate chains and their private keys, from PEM files.
//!
//! A chain is checked when it is loaded: the key fits the first certificate, and that certificate is
//! valid now. So `xps check` finds what would otherwise fail at each handshake. Whether clients
//! trust the chain is not checked: a private authority is as good as a public one.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::acme::AcmeSource;
use crate::calendar::CivilTime;
use crate::http::redirect::without_port;

/// Maximum size of a PEM file. A chain has some kilobytes, a bundle of authorities some hundred.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// A certificate that expires sooner than this draws a notice. Automatic renewal happens 30 days
/// before the end of 90, so it has failed for a while by then. 14 days.
const EXPIRY_NOTICE: Duration = Duration::from_secs(14 * SECONDS_A_DAY as u64);

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// Where a certificate chain and its private key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files. The chain begins with the server's own certificate. The key is PKCS#8, PKCS#1 or
    /// SEC1, not encrypted, and may be in the same file as the chain.
    Files {
        /// The file of the chain.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A certificate that this process has made.
    SelfSigned(Arc<SelfSigned>),
    /// A certificate that is obtained while the server runs.
    Acme(AcmeSource),
}

impl fmt::Display for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { cert, .. } => cert.display().fmt(f),
            Self::SelfSigned(_) => f.write_str("self-signed"),
            Self::Acme(source) => source.file().display().fmt(f),
        }
    }
}

/// A certificate chain with its key, and what it says about itself.
#[derive(Debug)]
pub struct Certificate {
    /// The chain and the key, for rustls.
    pub key: Arc<CertifiedKey>,
    /// Host names of the certificate, in lower case, some as `*.example.org`.
    pub dns_names: Vec<String>,
    /// IP addresses of the certificate.
    pub addresses: Vec<IpAddr>,
    /// From when on the certificate is valid, in seconds since 1970.
    pub not_before: i64,
    /// When the certificate expires, in seconds since 1970.
    pub not_after: i64,
    /// Where it comes from, for messages.
    pub source: String,
}

impl Certificate {
    /// Whether a signature takes so long that it holds up the loop: a millisecond or more with RSA, some
    /// hundredths of that with an elliptic curve.
    pub fn signs_slowly(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// Loads a chain and its key, and checks them. `now`: seconds since 1970. What does not prevent
    /// the use is added to `notices`.
    ///
    /// # Errors
    /// The first problem, with its file.
    pub fn load(
        source: &CertificateSource,
        provider: &CryptoProvider,
        now: i64,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, LoadError> {
        match source {
            CertificateSource::Files { cert, key } => {
                let failed = |reason| LoadError { role: Role::Certificate, path: cert.clone(), reason };
                let bad_key = |reason| LoadError { role: Role::Key, path: key.clone(), reason };
                let chain = certificates(cert).map_err(failed)?;
                let (pem, metadata) = read(key).map_err(bad_key)?;
                let mode = metadata.mode() & 0o7777;
                if is_exposed(mode, metadata.uid()) {
                    notices.push(Notice::KeyReadable { path: key.clone(), mode });
                }
                let private_key = private_key(&pem).map_err(bad_key)?;
                let certified = certified(chain, private_key, provider).map_err(|reason| match reason {
                    Reason::UnsupportedKey(_) => bad_key(reason),
                    Reason::OtherKey { .. } => bad_key(Reason::OtherKey { cert: cert.clone() }),
                    reason => failed(reason),
                })?;
                Self::of(certified, cert.display().to_string(), now, notices).map_err(failed)
            }
            CertificateSource::SelfSigned(own) => {
                let failed = |reason| LoadError { role: Role::Certificate, path: PathBuf::from("self-signed"), reason };
                let certified = certified(vec![own.certificate.clone()], own.key.clone_key(), provider);
                Self::of(certified.map_err(failed)?, "self-signed".to_owned(), now, &mut Vec::new()).map_err(failed)
            }
            CertificateSource::Acme(source) => {
                let path = source.file();
                Self::load_stored(&path, provider).map_err(|reason| LoadError { role: Role::Certificate, path, reason })
            }
        }
    }

    /// Loads a chain and its key from one file, whatever the dates of the certificate.
    ///
    /// # Errors
    /// The file cannot be read, or the key does not fit.
    pub fn load_stored(path: &Path, provider: &CryptoProvider) -> Result<Self, Reason> {
        let (pem, _) = read(path)?;
        Self::from_pem(&pem, path.display().to_string(), provider)
    }

    /// A chain and its key in PEM, whatever the dates of the certificate. `source` is for messages.
    ///
    /// # Errors
    /// There is no chain or no key, or they do not belong together.
    pub fn from_pem(pem: &[u8], source: String, provider: &CryptoProvider) -> Result<Self, Reason> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(malformed)?;
        Self::parse(certified(chain, private_key(pem)?, provider)?, source)
    }

    fn of(key: CertifiedKey, source: String, now: i64, notices: &mut Vec<Notice>) -> Result<Self, Reason> {
        let certificate = Self::parse(key, source)?;
        let Self { not_before, not_after, .. } = certificate;
        if now < not_before {
            return Err(Reason::NotYetValid { from: not_before });
        }
        if now > not_after {
            return Err(Reason::Expired { at: not_after });
        }
        notices.extend(Notice::of_expiry(&certificate.source, not_after, now));
        if certificate.dns_names.is_empty() && certificate.addresses.is_empty() {
            notices.push(Notice::NoNames { certificate: certificate.source.clone() });
        }
        Ok(certificate)
    }

    fn parse(key: CertifiedKey, source: String) -> Result<Self, Reason> {
        let malformed = || Reason::Malformed("it is not an X.509 certificate".to_owned());
        let leaf = key.end_entity_cert().map_err(|_| Reason::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| malformed())?;
        let (dns_names, addresses) = names(&parsed);
        let validity = parsed.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { key: Arc::new(key), dns_names, addresses, not_before, not_after, source })
    }

    /// All names, for people: host names, then IP addresses.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.dns_names.iter().cloned().chain(self.addresses.iter().map(IpAddr::to_string))
    }

    /// Whether the certificate has the name of this `Host`, a name or address and an optional port.
    pub fn covers(&self, authority: &str) -> bool {
        let host = without_port(authority);
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // An address without brackets has colons of its own, but no port.
        if let Ok(address) = bracketed.unwrap_or(host).parse().or_else(|_| authority.parse::<IpAddr>()) {
            return self.addresses.contains(&address);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.dns_names.iter().any(|name| match name.strip_prefix('*') {
            // The star is the first label, and only that (RFC 9525, 6.3).
            Some(suffix) => {
                let at = host.find('.').filter(|at| *at > 0);
                at.is_some_and(|at| host[at..].eq_ignore_ascii_case(suffix))
            }
            None => host.eq_ignore_ascii_case(name),
        })
    }

    /// The SHA-256 of the server's own certificate, as browsers and `openssl x509 -fingerprint` show it.
    pub fn fingerprint(&self) -> Option<String> {
        self.key.end_entity_cert().ok().map(|certificate| fingerprint(certificate))
    }
}

/// Reads certificates in PEM, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Reason> {
    let (pem, _) = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(malformed)?;
    if found.is_empty() { Err(Reason::NoCertificate) } else { Ok(found) }
}

/// The first private key of a PEM file.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Reason> {
    match PrivateKeyDer::from_pem_slice(pem) {
        // RFC 5958 has a label of its own for it; the older form says so in a header (RFC 1421).
        _ if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") => {
            Err(Reason::EncryptedKey)
        }
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(Reason::NoKey),
        Err(error) => Err(malformed(error)),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|bytes| bytes == part)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Reason> {
    let key = provider.key_provider.load_private_key(key).map_err(|error| Reason::UnsupportedKey(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // An algorithm whose keys cannot be compared is not an error.
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(TlsError::InconsistentKeys(_)) => Err(Reason::OtherKey { cert: PathBuf::new() }),
        Err(error) => Err(Reason::Malformed(error.to_string())),
    }
}

/// The host names and addresses in the subject alternative names. Others, and the common name, which
/// clients ignore (RFC 9525, 6.4.4), are left out.
fn names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return (dns_names, addresses) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) if !name.trim_start_matches("*.").contains('*') => {
                dns_names.push(name.to_ascii_lowercase());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    (dns_names, addresses)
}

/// Whether the permissions of a key let in more users than need be. The group of a file of root may read
/// it: so does a server that does not run as root get its key, and PostgreSQL has the same rule.
const fn is_exposed(mode: u32, owner: u32) -> bool {
    const ROOT: u32 = 0;
    let allowed = if owner == ROOT { 0o740 } else { 0o700 };
    mode & 0o777 & !allowed != 0
}

/// Reads a file of limited size. Returns what is known of it, too.
fn read(path: &Path) -> Result<(Vec<u8>, Metadata), Reason> {
    // A FIFO would block a reload, and a device may have no end.
    let metadata = path.metadata().map_err(Reason::Unreadable)?;
    if !metadata.is_file() {
        return Err(Reason::Unreadable(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(Reason::Unreadable)?;
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut text).map_err(Reason::Unreadable)?;
    if text.len() as u64 > PEM_BYTES_MAX {
        return Err(Reason::Unreadable(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB")));
    }
    Ok((text, metadata))
}

fn malformed(error: pem::Error) -> Reason {
    Reason::Malformed(match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no end".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM section is not base64".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a PEM section has no proper beginning".to_owned(),
        error => error.to_string(),
    })
}

fn fingerprint(certificate: &[u8]) -> String {
    let bytes = digest(&SHA256, certificate);
    bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// A file that TLS needs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the {role} {}: {reason}", path.display())]
pub struct LoadError {
    role: Role,
    path: PathBuf,
    reason: Reason,
}

impl LoadError {
    /// The authority of client certificates cannot be used.
    pub(super) fn client_ca(path: &Path, reason: Reason) -> Self {
        Self { role: Role::ClientCa, path: path.to_owned(), reason }
    }

    /// The authorities of upstreams cannot be used.
    pub(super) fn upstream_ca(path: &Path, reason: Reason) -> Self {
        Self { role: Role::UpstreamCa, path: path.to_owned(), reason }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with the file.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Certificate,
    Key,
    ClientCa,
    UpstreamCa,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
            Self::ClientCa => "authority of client certificates",
            Self::UpstreamCa => "authority of upstreams",
        })
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It cannot be read, or is no regular file.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// There is no certificate in it.
    #[error("it contains no certificate in PEM form")]
    NoCertificate,
    /// There is no private key in it.
    #[error("it contains no private key in PEM form")]
    NoKey,
    /// The key has a passphrase.
    #[error("the key is encrypted; `openssl pkey -in FILE -out FILE` removes the passphrase")]
    EncryptedKey,
    /// The PEM or the certificate in it is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The key is malformed, or of a kind that is not supported.
    #[error("the key is malformed or of an unsupported kind ({0})")]
    UnsupportedKey(String),
    /// The key belongs to another certificate.
    #[error("it is not the key of the certificate {}", cert.display())]
    OtherKey {
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The certificate has expired.
    #[error("it expired on {}", Day(*at))]
    Expired {
        /// Seconds since 1970.
        at: i64,
    },
    /// The certificate is not valid yet.
    #[error("it is not valid before {}", Day(*from))]
    NotYetValid {
        /// Seconds since 1970.
        from: i64,
    },
}

/// Something about a certificate that does not prevent its use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Other users may read the private key.
    #[error("other users can read the private key {} (mode {mode:04o}): chmod 600 it", path.display())]
    KeyReadable {
        /// The file of the key.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The certificate expires soon.
    #[error("the certificate {certificate} expires on {}, in {} days", Day(*at), (*at - *now) / SECONDS_A_DAY)]
    ExpiresSoon {
        /// Where the certificate comes from.
        certificate: String,
        /// Seconds since 1970.
        at: i64,
        /// The time of the check, in seconds since 1970.
        now: i64,
    },
    /// The certificate has expired since it was loaded.
    #[error("the certificate {certificate} expired on {}: clients refuse it", Day(*at))]
    HasExpired {
        /// Where the certificate comes from.
        certificate: String,
        /// Seconds since 1970.
        at: i64,
    },
    /// The certificate has no name that a client would accept.
    #[error("the certificate {certificate} has no host name or address (subjectAltName); clients will refuse it")]
    NoNames {
        /// Where the certificate comes from.
        certificate: String,
    },
}

impl Notice {
    /// What there is to say of a certificate that expires at `at`. Both times in seconds since 1970.
    pub fn of_expiry(certificate: &str, at: i64, now: i64) -> Option<Self> {
        let certificate = certificate.to_owned();
        if now > at {
            Some(Self::HasExpired { certificate, at })
        } else if at - now < EXPIRY_NOTICE.as_secs() as i64 {
            Some(Self::ExpiresSoon { certificate, at, now })
        } else {
            None
        }
    }
}

/// A date in seconds since 1970, shown as `2026-11-29`.
struct Day(i64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CivilTime { year, month, day, .. } = CivilTime::from_unix_seconds(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// A throw-away certificate for demonstrations. Clients trust it only if they are told to.
pub struct SelfSigned {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl SelfSigned {
    /// Makes a P-256 key and a certificate for these host names and IP addresses, valid for
    /// [`SelfSigned::DAYS`].
    ///
    /// # Errors
    /// A name cannot be in a certificate, or there is no randomness.
    pub fn new(names: Vec<String>, now: i64) -> Result<Self, rcgen::Error> {
        let mut parameters = rcgen::CertificateParams::new(names)?;
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "xps self-signed");
        let day = |seconds: i64| {
            let CivilTime { year, month, day, .. } = CivilTime::from_unix_seconds(seconds);
            rcgen::date_time_ymd(i32::try_from(year).unwrap_or(i32::MAX), month, day)
        };
        parameters.not_before = day(now - SECONDS_A_DAY);
        parameters.not_after = day(now + Self::DAYS * SECONDS_A_DAY);
        let key = rcgen::KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?.der().clone();
        Ok(Self { certificate, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
    }

    /// How long the certificate is valid, in days.
    pub const DAYS: i64 = 30;

    /// The SHA-256 of the certificate, as browsers and `openssl x509 -fingerprint` show it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// The certificate in DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

/// The key stays secret.
impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfSigned").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// Two certificates that were made at different times are never equal.
impl PartialEq for SelfSigned {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

impl Eq for SelfSigned {}

#[cfg(test)]
mod tests;
