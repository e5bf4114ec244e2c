//! What the workers of a server share of its upstreams: one [`SharedEndpoint`] for each endpoint of each
//! group, with what an operator has set for it and what its health checks have found. The server makes a
//! new [`SharedEndpoints`] for each configuration, which takes over from the one before what both have.
//!
//! ```text
//!   the checker:  a check ends ─► counted ─► another verdict ─► generation + 1 ─► all workers are woken
//!
//!   each worker:  woken ─► another generation? ─► each endpoint with another verdict:
//!                                                  marked in its groups, requests that wait are resumed
//! ```
//!
//! # What makes two the same
//!
//! An operator names an endpoint by its group and address: endpoints with the same names, such as those of a
//! server with two listeners, have the same setting. A check knows nothing of groups: endpoints with the same
//! address, TLS settings, PROXY header and checks have the same one, in whatever groups they are.
//!
//! # Who checks
//!
//! Checks are numbered in the order in which they are first configured, and each number belongs to one
//! worker. It has the *lease* of the check and renews it; after a reload it goes on. If it stalls, its
//! lease ends after three intervals and timeouts, and the first worker that asks then takes over, so that a
//! verdict does not go stale. A server that drains checks nothing. A process that replaces this one checks
//! for itself, and begins with all endpoints up.
//!
//! # How a verdict is published
//!
//! The number of changes so far is the verdict: endpoints begin up, and each change is to the other
//! state. After a change the checker increases the generation of all endpoints and wakes the workers.
//! Only a worker that was woken looks at the generation, and only if it differs, at its endpoints. So
//! requests cost nothing for this, and a worker without requests knows the verdict as well.
//!
//! # What is not shared
//!
//! Failed requests, requests in flight and turns are counted by each worker for its own requests, and each
//! looks names up for itself: requests then write to no memory that workers share.

mod check;
mod export;
#[cfg(feature = "internals")]
pub mod planted_bug;
mod setting;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use check::{Claim, INTERVAL_MIN, SharedCheck, Verdict};
pub use setting::{OperatorSetting, OperatorState};

use super::UpstreamAddress;
use super::group::{CheckConfig, GroupConfig};
use crate::driver::Waker;
use crate::tcp::proxy_header::ProxyVersion;
use crate::telemetry::metrics::EndpointLabels;
use crate::tls::ClientSettings;

/// The endpoints of a configuration, for all workers of a server.
#[derive(Debug, Default)]
pub struct SharedEndpoints {
    /// Each once, in the order of the configuration.
    named: Vec<NamedEndpoint>,
    index: HashMap<EndpointLabels, usize>,
    checks: HashMap<CheckKey, Arc<SharedCheck>>,
    /// Number of checks that have been made new so far, by those before as well.
    numbered: usize,
    changes: Arc<Changes>,
}

/// An endpoint as operators name it.
#[derive(Debug)]
pub struct NamedEndpoint {
    /// Its group and its address.
    pub labels: EndpointLabels,
    /// Its configured weight.
    pub weight: u32,
    /// Whether it is a backup.
    pub is_backup: bool,
    /// What is set.
    pub setting: Arc<OperatorSetting>,
}

/// What the workers share of one endpoint of a group.
#[derive(Clone, Debug)]
pub struct SharedEndpoint {
    /// What an operator has set for it.
    pub setting: Arc<OperatorSetting>,
    /// Its health check, if it has one.
    pub check: Option<Arc<SharedCheck>>,
}

/// What makes two checks the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CheckKey {
    address: UpstreamAddress,
    /// The TLS settings, if the address is over TLS.
    tls: Option<ClientSettings>,
    /// The PROXY header of its connections.
    announce: Option<ProxyVersion>,
    checks: CheckConfig,
}

/// Says to all workers that the verdict of an endpoint has changed.
#[derive(Debug, Default)]
struct Changes {
    /// Number of changes of any endpoint.
    generation: AtomicU64,
    /// Wakers of the workers.
    workers: Mutex<Vec<Waker>>,
}

impl SharedEndpoints {
    /// The endpoints of these groups, for this number of workers. Those that are in `earlier` keep what is
    /// set for them and what their checks have found.
    pub fn succeeding<'g>(
        earlier: &Self,
        workers: usize,
        groups: impl IntoIterator<Item = &'g GroupConfig>,
    ) -> Arc<Self> {
        let mut all = Self { numbered: earlier.numbered, changes: Arc::clone(&earlier.changes), ..Self::default() };
        for group in groups {
            all.add_named(earlier, group);
            for key in CheckKey::all(group) {
                if all.checks.contains_key(&key) {
                    continue;
                }
                let check = earlier.checks.get(&key).map_or_else(
                    || {
                        let checker = all.numbered % workers.max(1);
                        all.numbered += 1;
                        SharedCheck::new(&key.checks, checker, &all.changes)
                    },
                    Arc::clone,
                );
                all.checks.insert(key, check);
            }
        }
        Arc::new(all)
    }

    fn add_named(&mut self, earlier: &Self, group: &GroupConfig) {
        for (labels, endpoint) in group.labels().zip(&group.endpoints) {
            if self.index.contains_key(&labels) {
                continue;
            }
            let setting = earlier.setting(&labels);
            self.add(labels, setting, endpoint.weight, endpoint.is_backup);
        }
    }

    fn add(&mut self, labels: EndpointLabels, setting: Arc<OperatorSetting>, weight: u32, is_backup: bool) {
        self.index.insert(labels.clone(), self.named.len());
        self.named.push(NamedEndpoint { labels, weight, is_backup, setting });
    }

    /// What is shared of the endpoints of a group, in its order. A group that is not of this configuration
    /// gets endpoints of its own, which worker 0 checks.
    pub fn of(&self, group: &GroupConfig) -> Vec<SharedEndpoint> {
        let mut keys = CheckKey::all(group);
        let check = |key: CheckKey| {
            let known = self.checks.get(&key).map(Arc::clone);
            known.unwrap_or_else(|| SharedCheck::new(&key.checks, 0, &self.changes))
        };
        let of = |labels| SharedEndpoint { setting: self.setting(&labels), check: keys.next().map(check) };
        group.labels().map(of).collect()
    }

    /// What is set for the endpoint of this name, or a new setting.
    fn setting(&self, labels: &EndpointLabels) -> Arc<OperatorSetting> {
        let known = self.index.get(labels).and_then(|index| self.named.get(*index));
        known.map(|known| Arc::clone(&known.setting)).unwrap_or_default()
    }

    /// All endpoints, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &NamedEndpoint> {
        self.named.iter()
    }

    /// The endpoints with this name: one, by group and address, or those of all groups with the address.
    pub fn named<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n NamedEndpoint> {
        self.iter().filter(move |endpoint| endpoint.name() == name || endpoint.labels.address == name)
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

impl NamedEndpoint {
    /// Its name: `GROUP/ADDRESS`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.labels.group, self.labels.address)
    }

    /// Whether an operator has set anything for it that differs from the configuration.
    pub fn differs(&self) -> bool {
        self.setting.state() != OperatorState::Auto || self.setting.weight().is_some_and(|weight| weight != self.weight)
    }
}

impl CheckKey {
    /// Those of the endpoints of a group, in its order; none if the group has no checks.
    fn all(group: &GroupConfig) -> impl Iterator<Item = Self> + '_ {
        let endpoints = group.checks.iter().flat_map(|checks| group.endpoints.iter().map(move |it| (checks, it)));
        endpoints.map(|(checks, endpoint)| Self {
            address: endpoint.address.clone(),
            tls: endpoint.address.is_tls().then(|| group.tls.clone()),
            announce: group.announce,
            checks: checks.clone(),
        })
    }
}

impl Hash for CheckKey {
    /// Few checks have the same address.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address.hash(state);
    }
}

impl Changes {
    /// Says that an endpoint has changed. Its verdict has been stored before.
    fn publish(&self) {
        #[cfg(feature = "internals")]
        if planted_bug::strikes() {
            return;
        }
        self.generation.fetch_add(1, Ordering::Release);
        lock(&self.workers).iter().for_each(Waker::wake);
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
    use crate::driver::Time;
    use crate::upstream::group::{CheckKind, HttpCheck};

    const CHECKS: CheckConfig = CheckConfig {
        kind: CheckKind::Connect,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 2,
    };

    fn group(name: &str, addresses: &[&str], checks: Option<CheckConfig>) -> GroupConfig {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        GroupConfig { name: name.to_owned(), checks, ..GroupConfig::of(addresses) }
    }

    fn endpoints(earlier: &SharedEndpoints, groups: &[GroupConfig]) -> Arc<SharedEndpoints> {
        SharedEndpoints::succeeding(earlier, 3, groups)
    }

    fn first_check(endpoints: &SharedEndpoints, group: &GroupConfig) -> Option<Arc<SharedCheck>> {
        endpoints.of(group).remove(0).check
    }

    #[test]
    fn what_is_set_survives_as_long_as_the_endpoint_does() {
        let groups = [group("*/a", &["h:1", "h:2", "h:1"], None), group("*/b", &["h:1"], None)];
        let first = endpoints(&SharedEndpoints::default(), &groups);
        let names = |endpoints: &SharedEndpoints, name: &str| -> Vec<String> {
            endpoints.named(name).map(NamedEndpoint::name).collect()
        };
        assert_eq!(names(&first, "*/a/h:1"), ["*/a/h:1"]);
        assert_eq!(names(&first, "h:1"), ["*/a/h:1", "*/b/h:1"]);
        assert_eq!(names(&first, "h:3"), [""; 0]);
        for endpoint in first.named("*/a/h:1") {
            endpoint.setting.set_state(OperatorState::Drain);
            endpoint.setting.set_weight(Some(0));
            assert!(endpoint.differs());
        }
        let states: Vec<_> = first.of(&groups[0]).iter().map(|endpoint| endpoint.setting.state()).collect();
        assert_eq!(states, [OperatorState::Drain, OperatorState::Auto, OperatorState::Drain]);
        assert!(!first.named("*/b/h:1").any(NamedEndpoint::differs));
        let second = endpoints(&first, &[group("*/a", &["h:2", "h:1"], Some(CHECKS))]);
        let kept: Vec<_> = second.iter().map(|endpoint| (endpoint.name(), endpoint.setting.state())).collect();
        let expected = [("*/a/h:2", OperatorState::Auto), ("*/a/h:1", OperatorState::Drain)];
        assert_eq!(kept, expected.map(|(name, state)| (name.to_owned(), state)));
        let third = endpoints(&endpoints(&second, &[]), &groups);
        assert!(!third.iter().any(NamedEndpoint::differs), "it was gone in between");
    }

    #[test]
    fn groups_with_the_same_check_share_it_over_reloads() {
        let [a, b] = ["a", "b"].map(|name| group(name, &["h:1"], Some(CHECKS)));
        let http = CheckConfig { kind: CheckKind::Http(Box::new(HttpCheck::get("/"))), ..CHECKS };
        let others = [
            group("c", &["h:2"], Some(CHECKS)),
            group("d", &["h:1"], Some(http)),
            GroupConfig { announce: Some(ProxyVersion::V1), ..group("e", &["h:1"], Some(CHECKS)) },
            group("f", &["https://h:1"], Some(CHECKS)),
        ];
        let all: Vec<GroupConfig> = [a.clone(), b.clone()].into_iter().chain(others.clone()).collect();
        let first = endpoints(&SharedEndpoints::default(), &all);
        let check = first_check(&first, &a).unwrap();
        assert!(Arc::ptr_eq(&check, &first_check(&first, &b).unwrap()));
        for other in &others {
            assert!(!Arc::ptr_eq(&check, &first_check(&first, other).unwrap()), "{other:?}");
        }
        assert!(first_check(&first, &group("a", &["h:1"], None)).is_none());
        check.on_check(0, false);
        check.on_check(0, false);
        let second = endpoints(&first, std::slice::from_ref(&b));
        assert!(!first_check(&second, &b).unwrap().verdict().is_up(), "another group has it still");
        let third = endpoints(&endpoints(&second, &[]), std::slice::from_ref(&b));
        assert!(first_check(&third, &b).unwrap().verdict().is_up(), "it was gone in between");
    }

    #[test]
    fn each_is_checked_by_one_worker_and_workers_have_equal_numbers() {
        let addresses: Vec<String> = (1..=9).map(|port| format!("h:{port}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let group = group("a", &addresses, Some(CHECKS));
        let all = endpoints(&SharedEndpoints::default(), std::slice::from_ref(&group)).of(&group);
        let is_made_by = |endpoint: &SharedEndpoint, worker| {
            matches!(endpoint.check.as_ref().unwrap().claim(worker, Time::ZERO), Claim::Granted { .. })
        };
        for worker in 0..3 {
            assert_eq!(all.iter().filter(|endpoint| is_made_by(endpoint, worker)).count(), 3);
        }
        for endpoint in all {
            assert_eq!((0..3).filter(|worker| is_made_by(&endpoint, *worker)).count(), 1);
        }
    }

    #[test]
    fn a_change_is_published_and_a_result_without_one_is_not() {
        let group = group("a", &["h:1"], Some(CHECKS));
        let endpoints = endpoints(&SharedEndpoints::default(), std::slice::from_ref(&group));
        let (one, other) = (Waker::new().unwrap(), Waker::new().unwrap());
        for waker in [&one, &other, &one] {
            endpoints.register_waker(waker.clone());
        }
        let check = first_check(&endpoints, &group).unwrap();
        let first = check.verdict();
        assert_eq!((check.on_check(0, true), check.on_check(0, false)), (None, None));
        assert_eq!((endpoints.generation(), check.verdict()), (0, first));
        assert_eq!(check.on_check(0, false), Some(false));
        assert_eq!((endpoints.generation(), check.verdict().is_up()), (1, false));
        for waker in [&one, &other] {
            waker.wait(None).unwrap();
        }
        assert_eq!(check.on_check(0, true), Some(true));
        assert!(check.verdict().is_up() && check.verdict() != first);
    }
}
