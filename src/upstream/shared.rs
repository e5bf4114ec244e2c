//! What the workers of a server share of its upstreams: one [`SharedEndpoint`] for each that is
//! configured. The server keeps them in its [`SharedEndpoints`].
//!
//! ```text
//!   the checker:  a check ends ─► counted ─► another verdict ─► generation + 1 ─► all workers are woken
//!
//!   each worker:  woken ─► another generation? ─► each endpoint with another verdict:
//!                                                  marked in its groups, requests that wait are resumed
//! ```
//!
//! Routes and reloads share an endpoint as well: those with the same address, TLS settings, PROXY header
//! and checks have the same one, as long as a group of any worker lists it.
//!
//! # Who checks
//!
//! Endpoints with health checks are numbered in the order in which they are first configured, and each
//! number belongs to one worker. A reload changes neither the number nor the workers, so the same worker
//! goes on. No other worker takes over, since the checker ends only with the whole server: a worker that
//! ends, panics, or whose loop or listener fails makes the server drain, and a server that drains checks
//! nothing. A process that replaces this one checks for itself, and begins with all endpoints up.
//!
//! # How a verdict is published
//!
//! The number of changes so far is the verdict: endpoints begin up, and each change is to the other
//! state. After a change the checker increases the generation of all endpoints and wakes the workers.
//! Only a worker that was woken looks at the generation, and only if it differs, at its endpoints. So
//! requests cost nothing for this, and a worker without requests knows the verdict as well.
//!
//! A further fact that all workers act on, such as a weight that is set while the server runs, is a
//! further atomic of [`SharedEndpoint`], published by [`Changes::publish`] and applied where the verdict
//! is, in the [`HealthMonitor`](super::HealthMonitor).
//!
//! # What is not shared
//!
//! Failed requests, requests in flight and turns are counted by each worker for its own requests, and each
//! looks names up for itself: requests then write to no memory that workers share.

#[cfg(feature = "internals")]
pub mod planted_bug;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::UpstreamAddress;
use super::group::{CheckConfig, CheckCounter};
use crate::driver::Waker;
use crate::tcp::proxy_header::ProxyVersion;
use crate::tls::ClientSettings;

/// The endpoints of a server, by what makes two the same. It outlives reloads.
#[derive(Debug, Default)]
pub struct SharedEndpoints {
    /// Number of workers; 0 counts as one.
    workers: usize,
    known: Mutex<Known>,
    changes: Arc<Changes>,
}

/// What makes two endpoints the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointKey {
    /// Its address.
    pub address: UpstreamAddress,
    /// The TLS settings, if the address is over TLS.
    pub tls: Option<ClientSettings>,
    /// The PROXY header of its connections.
    pub announce: Option<ProxyVersion>,
    /// Its health checks, if it has any.
    pub checks: Option<CheckConfig>,
}

/// What the workers share of one endpoint.
#[derive(Debug)]
pub struct SharedEndpoint {
    /// Number of the worker that checks it; `None`: it has no health checks.
    checker: Option<usize>,
    /// A [`Verdict`]. Only the checker writes it.
    verdict: AtomicU64,
    /// Results in a row that contradict the verdict. For the checker only; here, it outlives reloads.
    contradictions: AtomicU32,
    changes: Arc<Changes>,
}

/// What the health checks have found: the number of changes between up and down so far. An endpoint
/// begins up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u64);

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<EndpointKey, Weak<SharedEndpoint>>,
    /// Number of endpoints at which those that are no longer used are removed.
    prune_at: usize,
    /// Number of endpoints with health checks so far.
    checked: usize,
}

/// Says to all workers that an endpoint has changed.
#[derive(Debug, Default)]
struct Changes {
    /// Number of changes of any endpoint.
    generation: AtomicU64,
    /// Wakers of the workers.
    workers: Mutex<Vec<Waker>>,
}

impl SharedEndpoints {
    /// No endpoints, to be shared by this number of workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { workers, ..Self::default() })
    }

    /// The endpoint of this key: the one that is there, or a new one.
    pub fn at(&self, key: EndpointKey) -> Arc<SharedEndpoint> {
        let mut known = lock(&self.known);
        if let Some(endpoint) = known.endpoints.get(&key).and_then(Weak::upgrade) {
            return endpoint;
        }
        let checker = key.checks.is_some().then(|| {
            let number = known.checked;
            known.checked += 1;
            number % self.workers.max(1)
        });
        let endpoint = Arc::new(SharedEndpoint {
            checker,
            verdict: AtomicU64::new(Verdict::FIRST.0),
            contradictions: AtomicU32::new(0),
            changes: Arc::clone(&self.changes),
        });
        known.add(key, &endpoint);
        endpoint
    }

    /// Wakes this worker from now on when an endpoint has changed.
    pub fn register_waker(&self, worker: Waker) {
        let mut workers = lock(&self.changes.workers);
        if !workers.iter().any(|other| other.is_same(&worker)) {
            workers.push(worker);
        }
    }

    /// The number of changes so far. Read it before the endpoints: what changes later has another one.
    pub fn generation(&self) -> u64 {
        self.changes.generation.load(Ordering::Acquire)
    }
}

impl SharedEndpoint {
    /// Whether this worker checks it.
    pub fn is_checked_by(&self, worker: usize) -> bool {
        self.checker == Some(worker)
    }

    /// What the health checks have found.
    pub fn verdict(&self) -> Verdict {
        Verdict(self.verdict.load(Ordering::Acquire))
    }

    /// Counts the result of a check; only the checker may call it. If the verdict changes, that is
    /// published, and the new state returned.
    pub fn on_check(&self, config: &CheckConfig, has_passed: bool) -> Option<bool> {
        let verdict = self.verdict();
        let contradictions = self.contradictions.load(Ordering::Relaxed);
        let mut counter = CheckCounter::resume(config.rise, config.fall, verdict.is_up(), contradictions);
        let changed = counter.on_result(has_passed);
        self.contradictions.store(counter.contradictions(), Ordering::Relaxed);
        if changed.is_some() {
            self.verdict.store(verdict.0.wrapping_add(1), Ordering::Release);
            self.changes.publish();
        }
        changed
    }
}

impl Verdict {
    const FIRST: Self = Self(0);

    /// Whether the endpoint is up.
    pub const fn is_up(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

impl Changes {
    /// Says that an endpoint has changed. Its atomics have been stored before.
    fn publish(&self) {
        #[cfg(feature = "internals")]
        if planted_bug::strikes() {
            return;
        }
        self.generation.fetch_add(1, Ordering::Release);
        lock(&self.workers).iter().for_each(Waker::wake);
    }
}

impl Known {
    fn add(&mut self, key: EndpointKey, endpoint: &Arc<SharedEndpoint>) {
        if self.endpoints.len() >= self.prune_at {
            self.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
            // Not with each new one, so that many do not take quadratic time.
            self.prune_at = (self.endpoints.len() * 2).max(PRUNE_AT_MIN);
        }
        self.endpoints.insert(key, Arc::downgrade(endpoint));
    }
}

/// The least number of endpoints at which those that are no longer used are removed.
const PRUNE_AT_MIN: usize = 64;

impl Hash for EndpointKey {
    /// Few endpoints have the same address.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

/// No code panics while it holds one of these locks. If it did, what they protect would still be usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::group::{CheckKind, HttpCheck};

    const CHECKS: CheckConfig = CheckConfig {
        kind: CheckKind::Connect,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 2,
    };

    fn key(address: &str, checks: Option<CheckConfig>) -> EndpointKey {
        EndpointKey { address: address.parse().unwrap(), tls: None, announce: None, checks }
    }

    #[test]
    fn what_is_configured_alike_is_the_same_as_long_as_it_is_used() {
        let endpoints = SharedEndpoints::new(2);
        let first = endpoints.at(key("a:1", Some(CHECKS)));
        assert!(Arc::ptr_eq(&first, &endpoints.at(key("a:1", Some(CHECKS)))));
        let http = CheckConfig { kind: CheckKind::Http(Box::new(HttpCheck::get("/"))), ..CHECKS };
        let over_tls = EndpointKey { tls: Some(ClientSettings::default()), ..key("a:1", Some(CHECKS)) };
        let announcing = EndpointKey { announce: Some(ProxyVersion::V1), ..key("a:1", Some(CHECKS)) };
        for other in [key("a:2", Some(CHECKS)), key("a:1", None), key("a:1", Some(http)), over_tls, announcing] {
            assert!(!Arc::ptr_eq(&first, &endpoints.at(other.clone())), "{other:?}");
        }
        first.on_check(&CHECKS, false);
        first.on_check(&CHECKS, false);
        drop(first);
        assert!(endpoints.at(key("a:1", Some(CHECKS))).verdict().is_up(), "it is another one");
    }

    #[test]
    fn nothing_is_kept_of_what_is_no_longer_used() {
        let endpoints = SharedEndpoints::new(1);
        for port in 1..10_000 {
            endpoints.at(key(&format!("a:{port}"), None));
        }
        assert!(lock(&endpoints.known).endpoints.len() <= PRUNE_AT_MIN);
    }

    #[test]
    fn each_is_checked_by_one_worker_and_workers_have_equal_numbers() {
        let endpoints = SharedEndpoints::new(3);
        let unchecked = endpoints.at(key("a:1", None));
        assert!((0..3).all(|worker| !unchecked.is_checked_by(worker)));
        let all: Vec<_> = (1..=9).map(|port| endpoints.at(key(&format!("a:{port}"), Some(CHECKS)))).collect();
        for worker in 0..3 {
            assert_eq!(all.iter().filter(|endpoint| endpoint.is_checked_by(worker)).count(), 3);
        }
        for endpoint in all {
            assert_eq!((0..3).filter(|worker| endpoint.is_checked_by(*worker)).count(), 1);
        }
    }

    #[test]
    fn a_change_is_published_and_a_result_without_one_is_not() {
        let endpoints = SharedEndpoints::new(2);
        let (one, other) = (Waker::new().unwrap(), Waker::new().unwrap());
        for waker in [&one, &other, &one] {
            endpoints.register_waker(waker.clone());
        }
        let endpoint = endpoints.at(key("a:1", Some(CHECKS)));
        let first = endpoint.verdict();
        assert_eq!((endpoint.on_check(&CHECKS, true), endpoint.on_check(&CHECKS, false)), (None, None));
        assert_eq!((endpoints.generation(), endpoint.verdict()), (0, first));
        // The result before counts, whichever worker knows of it.
        assert_eq!(endpoint.on_check(&CHECKS, false), Some(false));
        assert_eq!((endpoints.generation(), endpoint.verdict().is_up()), (1, false));
        for waker in [&one, &other] {
            waker.wait(None).unwrap();
        }
        assert_eq!(endpoint.on_check(&CHECKS, true), Some(true));
        assert!(endpoint.verdict().is_up() && endpoint.verdict() != first);
    }
}
