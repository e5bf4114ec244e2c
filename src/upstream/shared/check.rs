//! [`SharedCheck`]: the health check of one endpoint, and what it has found.

use std::sync::{Arc, Mutex};

use super::{Changes, lock};
use crate::upstream::group::{CheckConfig, CheckCounter};

/// The health check of an endpoint, for all workers and groups that have the same one.
#[derive(Debug)]
pub struct SharedCheck {
    config: CheckConfig,
    /// Number of the worker that checks.
    checker: usize,
    /// Locked for moments: for each check, and by a worker that follows a change.
    found: Mutex<Found>,
    changes: Arc<Changes>,
}

/// What the health checks have found: the number of changes between up and down so far. An endpoint
/// begins up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict(u64);

#[derive(Debug)]
struct Found {
    counter: CheckCounter,
    verdict: Verdict,
}

impl SharedCheck {
    /// A check that has not been made yet.
    pub(super) fn new(config: &CheckConfig, checker: usize, changes: &Arc<Changes>) -> Arc<Self> {
        let found = Found { counter: CheckCounter::new(config.rise, config.fall), verdict: Verdict::default() };
        Arc::new(Self { config: config.clone(), checker, found: Mutex::new(found), changes: Arc::clone(changes) })
    }

    /// How to check.
    pub const fn config(&self) -> &CheckConfig {
        &self.config
    }

    /// Whether this worker checks the endpoint.
    pub const fn is_made_by(&self, worker: usize) -> bool {
        self.checker == worker
    }

    /// What the health checks have found.
    pub fn verdict(&self) -> Verdict {
        lock(&self.found).verdict
    }

    /// Counts the result of a check; only the worker that checks may call it. If the verdict changes, that
    /// is published, and the new state returned.
    pub fn on_check(&self, has_passed: bool) -> Option<bool> {
        let mut found = lock(&self.found);
        let changed = found.counter.on_result(has_passed);
        if changed.is_some() {
            found.verdict.0 = found.verdict.0.wrapping_add(1);
            drop(found);
            self.changes.publish();
        }
        changed
    }
}

impl Verdict {
    /// Whether the endpoint is up.
    pub const fn is_up(self) -> bool {
        self.0.is_multiple_of(2)
    }
}
