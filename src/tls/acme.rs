//! Certificates that are obtained while the server runs (ACME, RFC 8555): what handshakes and requests
//! need of them. They are obtained and renewed by `src/acme/`, in a thread of its own.
//!
//! ```text
//!   AcmeSource ──load: reads the stored certificate──► Issued ◄── certificates, challenges: src/acme/
//!   plain data                                           │
//!                                                        └──► handshakes of all workers
//! ```
//!
//! A handshake takes a lock that is only ever held to copy a pointer. A request takes none unless a
//! challenge is pending.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::certificates::Certificate;

/// The directory of Let's Encrypt, whose certificates all browsers trust.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The application protocol of a validation over TLS (RFC 8737, 4).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where the tokens of validations over HTTP are (RFC 8555, 8.3).
const TOKEN_PATH: &str = "/.well-known/acme-challenge/";

/// A certificate for one host name that is obtained from an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSource {
    /// The host name, in lower case.
    pub domain: String,
    /// The authority, and how to deal with it.
    pub issuer: Arc<AcmeIssuer>,
}

/// An authority that issues certificates by ACME.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcmeIssuer {
    /// The URL of its directory; it begins with `https://`.
    pub directory: String,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// The folder of account keys and certificates. Several processes may share it.
    pub storage: PathBuf,
    /// A PEM file with the authorities that the server of the directory is trusted by. `None`: those
    /// of the system.
    pub ca: Option<PathBuf>,
    /// How the authority checks that the host name leads here. `None`: any way that the listeners can
    /// answer, another one after each failure.
    pub challenge: Option<ChallengeKind>,
}

/// How an authority checks that a host name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// It requests a path on port 80 (`http-01`; RFC 8555, 8.3).
    Http,
    /// It shakes hands on port 443 (`tls-alpn-01`; RFC 8737).
    TlsAlpn,
}

impl ChallengeKind {
    /// Its name in the protocol and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
        }
    }
}

impl AcmeIssuer {
    /// The folder of what belongs to this directory: certificates of a test authority must not be taken
    /// for those of another.
    pub fn folder(&self) -> PathBuf {
        let address = self.directory.trim_start_matches("https://");
        let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        // Not `.` or `..`, and below the limit of a file name.
        let name: String = address.chars().take(NAME_LENGTH_MAX).map(safe).collect();
        self.storage.join(name.trim_start_matches('.'))
    }
}

/// Length of the name of a folder, in bytes. Names have 255 at most.
const NAME_LENGTH_MAX: usize = 200;

impl AcmeSource {
    /// The file of the certificate and its key. One file, so that both are replaced at once.
    pub fn file(&self) -> PathBuf {
        self.issuer.folder().join(format!("{}.pem", self.domain))
    }
}

/// The state of a certificate that is obtained while the server runs.
#[derive(Debug)]
pub struct Issued {
    source: AcmeSource,
    /// Whether the listener can answer a validation over TLS.
    answers_tls_alpn: bool,
    current: RwLock<Option<Arc<Certificate>>>,
    /// The certificate that answers a validation.
    challenge: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Issued {
    /// Begins with the stored certificate, whatever its dates: until it is renewed there is none better.
    pub(super) fn load(source: &AcmeSource, answers_tls_alpn: bool, provider: &CryptoProvider) -> Arc<Self> {
        let stored = Certificate::load_stored(&source.file(), provider).ok().map(Arc::new);
        let (current, challenge) = (RwLock::new(stored), RwLock::new(None));
        Arc::new(Self { source: source.clone(), answers_tls_alpn, current, challenge })
    }

    /// What it is for, and where it comes from.
    pub const fn source(&self) -> &AcmeSource {
        &self.source
    }

    /// Whether the listener can answer a validation over TLS.
    pub const fn answers_tls_alpn(&self) -> bool {
        self.answers_tls_alpn
    }

    /// The certificate, once there is one.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves this certificate from the next handshake on.
    pub fn set(&self, certificate: Arc<Certificate>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
    }

    /// What answers a validation over TLS; `None`: none is expected.
    pub(super) fn challenge(&self) -> Option<Arc<CertifiedKey>> {
        self.challenge.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what answers a validation over TLS.
    pub fn set_challenge(&self, challenge: Option<Arc<CertifiedKey>>) {
        *self.challenge.write().unwrap_or_else(PoisonError::into_inner) = challenge;
    }
}

/// The tokens of pending validations over HTTP, shared by all workers.
#[derive(Debug, Default)]
pub struct ChallengeTokens {
    /// Their number, so that a request takes no lock while there are none.
    pending: AtomicUsize,
    /// The key authorization of each token.
    answers: Mutex<HashMap<String, String>>,
}

impl ChallengeTokens {
    fn answers(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests for this token from now on.
    pub fn insert(&self, token: &str, answer: &str) {
        let mut answers = self.answers();
        answers.insert(token.to_owned(), answer.to_owned());
        self.pending.store(answers.len(), Ordering::Release);
    }

    /// Does not answer them any longer.
    pub fn remove(&self, token: &str) {
        let mut answers = self.answers();
        answers.remove(token);
        self.pending.store(answers.len(), Ordering::Release);
    }

    /// The answer to a request for this path, if it is that of a pending token.
    pub fn answer(&self, path: Option<&str>) -> Option<String> {
        if self.pending.load(Ordering::Acquire) == 0 {
            return None;
        }
        let token = path?.strip_prefix(TOKEN_PATH)?;
        self.answers().get(token).cloned()
    }
}

/// The folder for account keys and certificates if none is configured: `acme` in the state directory of
/// the service (systemd.exec(5), `StateDirectory=`), else in that of the user (XDG base directories).
/// `variable` looks up an environment variable.
pub fn default_storage(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute());
    // With several state directories, systemd separates them by colons.
    let of_service = |all: PathBuf| {
        let first = all.to_str()?.split(':').next()?.to_owned();
        absolute(PathBuf::from(first))
    };
    let of_user = || variable("XDG_STATE_HOME").and_then(absolute).map(|path| path.join("xps"));
    let of_home = || variable("HOME").and_then(absolute).map(|home| home.join(Path::new(".local/state/xps")));
    let state = variable("STATE_DIRECTORY").and_then(of_service).or_else(of_user).or_else(of_home)?;
    Some(state.join("acme"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pending_tokens_are_answered() {
        let tokens = ChallengeTokens::default();
        let path = |token: &str| format!("{TOKEN_PATH}{token}");
        assert_eq!(tokens.answer(Some(&path("a"))), None);
        tokens.insert("a", "a.key");
        assert_eq!(tokens.answer(Some(&path("a"))).as_deref(), Some("a.key"));
        for other in [path("b"), path(""), path("a/"), "/a".to_owned()] {
            assert_eq!(tokens.answer(Some(&other)), None, "{other}");
        }
        assert_eq!(tokens.answer(None), None);
        tokens.remove("a");
        assert_eq!(tokens.answer(Some(&path("a"))), None);
    }

    #[test]
    fn each_directory_has_a_folder_of_its_own_inside_the_storage() {
        let source = |directory: &str| AcmeSource {
            domain: "example.org".to_owned(),
            issuer: Arc::new(AcmeIssuer {
                directory: directory.to_owned(),
                email: None,
                storage: PathBuf::from("/s"),
                ca: None,
                challenge: None,
            }),
        };
        let file = |directory| source(directory).file().display().to_string();
        assert_eq!(file(LETS_ENCRYPT), "/s/acme-v02.api.letsencrypt.org_directory/example.org.pem");
        assert_eq!(file("https://127.0.0.1:14000/dir"), "/s/127.0.0.1_14000_dir/example.org.pem");
        assert_eq!(file("https://../x"), "/s/_x/example.org.pem");
    }

    #[test]
    fn the_storage_is_that_of_the_service_or_of_the_user() {
        let storage = |set: &[(&str, &str)]| {
            let found =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
            default_storage(found).map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/u");
        let service = [("STATE_DIRECTORY", "/var/lib/xps:/var/lib/other"), home];
        assert_eq!(storage(&service).as_deref(), Some("/var/lib/xps/acme"));
        assert_eq!(storage(&[("XDG_STATE_HOME", "/x"), home]).as_deref(), Some("/x/xps/acme"));
        assert_eq!(storage(&[("XDG_STATE_HOME", "relative"), home]).as_deref(), Some("/home/u/.local/state/xps/acme"));
        assert_eq!(storage(&[]), None);
    }
}
