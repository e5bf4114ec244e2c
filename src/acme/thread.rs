//! The thread that obtains and renews certificates: one after the other, each when it is due.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::http::Http;
use super::jws::AccountKey;
use super::order::Order;
use super::protocol::{Account, Failure};
use super::schedule::{backoff, renew_at, rest_after};
use super::stop::StopFlag;
use super::storage::{Storage, replace};
use crate::telemetry::metrics::{CertificateExpiry, Metrics};
use crate::tls::certificates::Certificate;
use crate::tls::server::Crypto;
use crate::tls::{AcmeSource, ChallengeKind, ChallengeTokens, ClientSettings, Issued};

/// The longest wait without looking at the clock, which may have jumped.
const LOOK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How long to wait for another process that deals with the authority.
const LOCK_INTERVAL: Duration = Duration::from_secs(1);

/// A message to the thread. It ends when its sender is dropped.
#[derive(Debug)]
pub(super) enum Message {
    /// Obtain and renew these from now on, and no others.
    Manage { issued: Vec<Arc<Issued>>, answers_http: bool },
}

/// What the thread owns.
pub(super) struct Obtainer {
    inbox: Receiver<Message>,
    stop: Arc<StopFlag>,
    tokens: Arc<ChallengeTokens>,
    metrics: Arc<Metrics>,
    crypto: Crypto,
    seeds: RandomState,
    answers_http: bool,
    tasks: Vec<Task>,
}

/// One certificate.
struct Task {
    source: AcmeSource,
    /// The places that it is served from: one for each listener.
    issued: Vec<Arc<Issued>>,
    /// Attempts in a row that have failed.
    failures: u32,
    /// Not before this, after an attempt that failed.
    retry_at: Instant,
    /// Not before this, since it was obtained or since the authority asked for it.
    rests_until: Instant,
    /// From 0 to 1.
    jitter: f64,
}

impl Task {
    fn certificate(&self) -> Option<Arc<Certificate>> {
        self.issued.iter().find_map(|issued| issued.certificate())
    }

    /// How long until it is due. `unix_seconds` is now.
    fn wait(&self, now: Instant, unix_seconds: i64) -> Duration {
        let by_clock = match self.certificate() {
            Some(certificate) => self.renew_at(&certificate).saturating_sub(unix_seconds),
            None => 0,
        };
        let by_clock = Duration::from_secs(u64::try_from(by_clock).unwrap_or(0));
        by_clock.max(self.retry_at.max(self.rests_until).saturating_duration_since(now))
    }

    fn renew_at(&self, certificate: &Certificate) -> i64 {
        renew_at(certificate.not_before, certificate.not_after, self.jitter)
    }

    /// How the authority is to check the name: after each failure another way, if there are several.
    fn challenge(&self, answers_http: bool) -> Option<ChallengeKind> {
        let possible = match self.source.issuer.challenge {
            Some(kind) => vec![kind],
            None => {
                let answers_tls = self.issued.iter().any(|issued| issued.answers_tls_alpn());
                let http = answers_http.then_some(ChallengeKind::Http);
                http.into_iter().chain(answers_tls.then_some(ChallengeKind::TlsAlpn)).collect()
            }
        };
        let at = (self.failures as usize).checked_rem(possible.len())?;
        possible.get(at).copied()
    }
}

/// What an attempt has come to.
enum Attempt {
    /// Obtained from the authority, by this challenge.
    Obtained(Arc<Certificate>, ChallengeKind),
    /// Another process has obtained it.
    Found(Arc<Certificate>),
    /// Another process deals with the authority.
    Busy,
}

impl Obtainer {
    pub(super) fn new(
        inbox: Receiver<Message>,
        stop: Arc<StopFlag>,
        tokens: Arc<ChallengeTokens>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (crypto, seeds) = (Crypto::default(), RandomState::new());
        Self { inbox, stop, tokens, metrics, crypto, seeds, answers_http: false, tasks: Vec::new() }
    }

    /// Runs until the server stops.
    pub(super) fn run(mut self) {
        while self.stop.check().is_ok() {
            let next = self.next();
            let wait = next.map_or(LOOK_INTERVAL, |(_, wait)| wait.min(LOOK_INTERVAL));
            match self.inbox.recv_timeout(wait) {
                Ok(Message::Manage { issued, answers_http }) => self.manage(issued, answers_http),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((at, wait)) = next
                        && wait <= LOOK_INTERVAL
                    {
                        self.attend(at);
                    }
                }
            }
            self.report();
        }
    }

    /// The task that is due next, and when.
    fn next(&self) -> Option<(usize, Duration)> {
        let (now, unix_seconds) = (Instant::now(), self.crypto.now());
        let waits = self.tasks.iter().map(|task| task.wait(now, unix_seconds));
        waits.enumerate().min_by_key(|(_, wait)| *wait)
    }

    fn manage(&mut self, issued: Vec<Arc<Issued>>, answers_http: bool) {
        self.answers_http = answers_http;
        let now = Instant::now();
        let mut earlier: HashMap<_, Task> = (self.tasks.drain(..)).map(|task| (task.source.file(), task)).collect();
        for issued in issued {
            if let Some(task) = self.tasks.iter_mut().find(|task| task.source == *issued.source()) {
                task.issued.push(issued);
                continue;
            }
            let source = issued.source().clone();
            let jitter = self.seeds.hash_one(&source.domain) as f64 / u64::MAX as f64;
            let fresh = Task { source, issued: vec![issued], failures: 0, retry_at: now, rests_until: now, jitter };
            self.tasks.push(match earlier.remove(&fresh.source.file()) {
                Some(task) => {
                    // What was loaded is older if this one was obtained since, or could not be stored.
                    let expiry = |task: &Task| task.certificate().map(|certificate| certificate.not_after);
                    if let Some(certificate) = task.certificate().filter(|_| expiry(&task) > expiry(&fresh)) {
                        fresh.issued.iter().for_each(|issued| issued.set(Arc::clone(&certificate)));
                    }
                    Task { failures: task.failures, rests_until: task.rests_until, ..fresh }
                }
                None => fresh,
            });
        }
        for task in self.tasks.iter().filter(|task| task.certificate().is_none()) {
            tracing::info!(
                domain = task.source.domain,
                directory = task.source.issuer.directory,
                "a certificate will be obtained; until then, handshakes for this name are refused"
            );
        }
    }

    /// Sets the metric of the next attempts.
    fn report(&self) {
        let (now, unix_seconds) = (Instant::now(), self.crypto.now());
        let attempts = self.tasks.iter().map(|task| {
            let wait = i64::try_from(task.wait(now, unix_seconds).as_secs()).unwrap_or(i64::MAX);
            (task.source.domain.clone(), unix_seconds.saturating_add(wait))
        });
        self.metrics.set_acme_attempts(attempts.collect());
    }

    /// Obtains or renews the certificate of this task.
    fn attend(&mut self, at: usize) {
        let Some(task) = self.tasks.get(at) else { return };
        let result = self.attempt(task);
        let Some(task) = self.tasks.get_mut(at) else { return };
        let now = Instant::now();
        let domain = task.source.domain.as_str();
        match result {
            Ok(Attempt::Busy) => {
                tracing::debug!(domain, "another process deals with the authority");
                task.retry_at = now + LOCK_INTERVAL;
            }
            Ok(Attempt::Found(certificate)) => {
                let not_after = certificate.not_after;
                task.failures = 0;
                install(task, certificate, &self.metrics);
                tracing::info!(domain, not_after, "a stored certificate is used");
            }
            Ok(Attempt::Obtained(certificate, challenge)) => {
                let (challenge, not_after) = (challenge.name(), certificate.not_after);
                self.metrics.count_acme(true);
                task.failures = 0;
                task.rests_until = now + rest_after(certificate.not_before, certificate.not_after);
                install(task, certificate, &self.metrics);
                tracing::info!(domain, challenge, not_after, "a certificate was obtained");
            }
            Err(Failure::Stopped(_)) => {}
            Err(failure) => {
                let challenge = task.challenge(self.answers_http).map(ChallengeKind::name);
                task.failures = task.failures.saturating_add(1);
                let wait = backoff(task.failures, task.jitter, failure.retry_after());
                task.retry_at = now + wait;
                if let Some(asked) = failure.retry_after() {
                    // A reload does not shorten this.
                    task.rests_until = now + wait.min(asked);
                }
                self.metrics.count_acme(false);
                tracing::warn!(
                    domain,
                    directory = task.source.issuer.directory,
                    challenge,
                    failures = task.failures,
                    retry_in = ?Duration::from_secs(wait.as_secs()),
                    has_certificate = task.certificate().is_some(),
                    error = %failure,
                    hint = failure.advice(),
                    "no certificate could be obtained"
                );
            }
        }
    }

    fn attempt(&self, task: &Task) -> Result<Attempt, Failure> {
        let AcmeSource { domain, issuer } = &task.source;
        let folder = issuer.folder();
        let failed = |path: &Path| {
            let path = path.display().to_string();
            |source: io::Error| Failure::Storage { path, source }
        };
        let storage = Storage::open(folder.clone()).map_err(failed(&folder))?;
        let Some(_lock) = storage.try_lock().map_err(failed(&folder))? else { return Ok(Attempt::Busy) };
        let file = task.source.file();
        if let Ok(stored) = Certificate::load_stored(&file, &self.crypto.provider)
            && stored.covers(domain)
            && self.crypto.now() < task.renew_at(&stored)
        {
            return Ok(Attempt::Found(Arc::new(stored)));
        }
        let kind = task.challenge(self.answers_http).ok_or(Failure::NoAnswer)?;
        let pem = match storage.account_key().map_err(failed(&folder))? {
            Some(pem) => pem,
            None => {
                let pem = AccountKey::generate()?;
                storage.store_account_key(&pem).map_err(failed(&folder))?;
                pem
            }
        };
        let key = AccountKey::from_pem(&pem)?;
        let settings = ClientSettings { ca: issuer.ca.clone(), ..ClientSettings::default() };
        let http = Http::new(settings.load(&self.crypto).map_err(Failure::Ca)?, Arc::clone(&self.stop));
        let mut account = Account::open(&http, &issuer.directory, &key, issuer.email.as_deref())?;
        let (tokens, provider) = (&*self.tokens, &*self.crypto.provider);
        let order = Order { domain, kind, issued: &task.issued, tokens, provider };
        let pem = order.obtain(&mut account)?;
        let name = file.display().to_string();
        let certificate = Certificate::from_pem(pem.as_bytes(), name, provider).map_err(Failure::Certificate)?;
        if !certificate.covers(domain) {
            return Err(Failure::WrongName);
        }
        if let Err(error) = replace(&file, pem.as_bytes()) {
            // It is served all the same; the next start has to obtain another.
            tracing::warn!(domain, path = %file.display(), %error, "the certificate cannot be stored");
        }
        Ok(Attempt::Obtained(Arc::new(certificate), kind))
    }
}

/// Serves the certificate from the next handshake on.
fn install(task: &Task, certificate: Arc<Certificate>, metrics: &Metrics) {
    let (source, not_after) = (certificate.source.clone(), certificate.not_after);
    metrics.set_certificate(CertificateExpiry { certificate: source, not_after });
    task.issued.iter().for_each(|issued| issued.set(Arc::clone(&certificate)));
}
