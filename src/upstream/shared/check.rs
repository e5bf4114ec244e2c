//! [`SharedCheck`]: the health check of one endpoint, who makes it, and what it has found.
//!
//! ```text
//!   worker with the lease:  claim ─► Granted ─► checks … on_check ─► renews by claim, three times a term
//!   every other worker:     claim ─► Refused { until } ─► claim at `until`: Refused again, with a later time,
//!                                                         or the term has ended unrenewed ─► Granted
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Changes, lock};
use crate::driver::Time;
use crate::upstream::group::{CheckConfig, CheckCounter};

/// The health check of an endpoint, for all workers and groups that have the same one.
#[derive(Debug)]
pub struct SharedCheck {
    config: CheckConfig,
    /// Locked for moments: for each check, and by a worker that follows a change.
    state: Mutex<State>,
    changes: Arc<Changes>,
}

/// What the health checks have found: the number of changes between up and down so far. An endpoint
/// begins up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict(u64);

/// The answer to a worker that asks whether to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It has the lease, and claims it again at `renew_at`.
    Granted {
        /// Well before the end of the term.
        renew_at: Time,
        /// The worker that had the lease before and has not renewed it.
        from: Option<usize>,
    },
    /// Another worker has the lease, until then at least.
    Refused {
        /// When to claim again.
        until: Time,
    },
}

#[derive(Debug)]
struct State {
    counter: CheckCounter,
    verdict: Verdict,
    /// Number of the worker with the lease.
    checker: usize,
    /// When the lease ends; `None`: no worker has claimed it yet.
    until: Option<Time>,
}

impl SharedCheck {
    /// A check that `checker` makes, as long as it renews its lease.
    pub(super) fn new(config: &CheckConfig, checker: usize, changes: &Arc<Changes>) -> Arc<Self> {
        let counter = CheckCounter::new(config.rise, config.fall);
        let state = State { counter, verdict: Verdict::default(), checker, until: None };
        Arc::new(Self { config: config.clone(), state: Mutex::new(state), changes: Arc::clone(changes) })
    }

    /// How to check.
    pub const fn config(&self) -> &CheckConfig {
        &self.config
    }

    /// Asks for the lease, or renews it.
    pub fn claim(&self, worker: usize, now: Time) -> Claim {
        let term = self.term();
        let mut state = lock(&self.state);
        let mut from = None;
        if state.checker != worker {
            // Before its first claim, the checker has a term as well.
            let until = *state.until.get_or_insert(now + term);
            if now < until {
                return Claim::Refused { until };
            }
            from = Some(std::mem::replace(&mut state.checker, worker));
        }
        state.until = Some(now + term);
        Claim::Granted { renew_at: now + term / RENEWALS, from }
    }

    /// How long a lease lasts: a few checks, and longer than a check waits for anything.
    fn term(&self) -> Duration {
        (self.config.interval.max(INTERVAL_MIN) + self.config.timeout) * RENEWALS
    }

    /// What the health checks have found.
    pub fn verdict(&self) -> Verdict {
        lock(&self.state).verdict
    }

    /// Counts the result of a check, if the worker has the lease still. If the verdict changes, that is
    /// published, and the new state returned.
    pub fn on_check(&self, worker: usize, has_passed: bool) -> Option<bool> {
        let mut state = lock(&self.state);
        if state.checker != worker {
            return None;
        }
        let changed = state.counter.on_result(has_passed)?;
        state.verdict.0 = state.verdict.0.wrapping_add(1);
        drop(state);
        self.changes.publish();
        Some(changed)
    }
}

/// How often a lease is renewed in its term.
const RENEWALS: u32 = 3;

/// Lower bound of the interval of checks.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Verdict {
    /// Whether the endpoint is up.
    pub const fn is_up(self) -> bool {
        self.0.is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::group::CheckKind;

    const CONFIG: CheckConfig = CheckConfig {
        kind: CheckKind::Connect,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 1,
    };

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_renewed_stays_and_one_that_is_not_goes_to_the_first_who_asks() {
        let check = SharedCheck::new(&CONFIG, 1, &Arc::default());
        // The term is 21 s, and begins for the checker even if it has not asked.
        assert_eq!(check.claim(0, at(0)), Claim::Refused { until: at(21) });
        assert_eq!(check.claim(1, at(10)), Claim::Granted { renew_at: at(17), from: None });
        assert_eq!(check.claim(0, at(21)), Claim::Refused { until: at(31) });
        assert_eq!(check.claim(1, at(17)), Claim::Granted { renew_at: at(24), from: None });
        assert_eq!(check.claim(0, at(38)), Claim::Granted { renew_at: at(45), from: Some(1) });
        assert_eq!(check.claim(2, at(38)), Claim::Refused { until: at(59) });
        assert_eq!(check.claim(1, at(40)), Claim::Refused { until: at(59) });
    }

    #[test]
    fn a_checker_that_never_asks_loses_the_lease_after_a_term() {
        let check = SharedCheck::new(&CONFIG, 1, &Arc::default());
        assert_eq!(check.claim(0, at(3)), Claim::Refused { until: at(24) });
        assert_eq!(check.claim(2, at(4)), Claim::Refused { until: at(24) });
        assert_eq!(check.claim(2, at(24)), Claim::Granted { renew_at: at(31), from: Some(1) });
    }

    #[test]
    fn a_worker_without_the_lease_changes_no_verdict() {
        let check = SharedCheck::new(&CONFIG, 1, &Arc::default());
        assert_eq!(check.on_check(0, false), None);
        assert!(check.verdict().is_up());
        assert_eq!(check.on_check(1, false), Some(false));
        assert!(!check.verdict().is_up());
    }
}
