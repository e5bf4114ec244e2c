//! Whether one member is up: what requests and checks show, and what follows from it.
//!
//! ```text
//!            failures in a row                  back-off over, begin
//!      Up ───────────────────────► BackOff ───────────────────────► Trial
//!       ▲                             ▲   Failure: back-off doubled   │ │
//!       │                             └───────────────────────────────┘ │
//!       └───────────────────────────────────────────────────────────────┘ Success: slow start
//!
//!      any ──── checks fail ───► CheckedDown ──── checks pass ───► Up: slow start
//! ```
//!
//! A verdict does not say which request it comes from, and requests that began before the member went down end whenever
//! they end. In `BackOff` they change nothing. In `Trial` the first verdict decides, whoever's it is: a member that
//! answers anyone is alive, and one that fails anyone is not to be hurried back.
//!
//! It does not know the member, its load, or who asks.

use std::time::Duration;

use super::config::{PassiveHealth, SlowStart};
use crate::driver::Time;

/// What a request has shown of its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It refused, did not answer in time, or answered nonsense.
    Failure,
    /// Nothing: the client left, for example.
    Neutral,
}

/// One member's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Takes requests; `failures` in a row so far. Its share grows from `back_since` on, if it was down before.
    Up { failures: u32, back_since: Option<Time> },
    /// Left alone until then.
    BackOff { until: Time, back_off: Duration },
    /// One request tries it. Without a verdict until then, another one may.
    Trial { until: Time, back_off: Duration },
    /// The checks say that it is down.
    CheckedDown,
}

/// A member went down, or came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// So many requests failed in a row.
    Failed { failures: u32, back_off: Duration },
    /// The request that tried it failed.
    TrialFailed { back_off: Duration },
    /// The request that tried it was answered.
    TrialSucceeded,
    /// The checks failed.
    ChecksFailed,
    /// The checks passed.
    ChecksPassed,
}

/// The share of a member that needs no slow start, in thousandths.
pub(super) const FULL_SHARE: u64 = 1000;

/// The share of a member that has just come back, in thousandths.
const FIRST_SHARE: u64 = 100;

impl Health {
    /// Up, until something shows otherwise.
    pub(super) const fn new() -> Self {
        Self(State::Up { failures: 0, back_since: None })
    }

    /// Whether a request may go there now.
    pub(super) fn is_usable(&self, now: Time) -> bool {
        match self.0 {
            State::Up { .. } => true,
            State::BackOff { until, .. } | State::Trial { until, .. } => until <= now,
            State::CheckedDown => false,
        }
    }

    /// Whether it takes requests as ever, and not just one to try it.
    pub(super) const fn is_up(&self) -> bool {
        match self.0 {
            State::Up { .. } => true,
            State::BackOff { .. } | State::Trial { .. } | State::CheckedDown => false,
        }
    }

    /// The part of its weight that counts now, in thousandths. All of it for a trial, since that is one request anyway.
    pub(super) fn share(&self, slow_start: SlowStart, now: Time) -> u64 {
        match self.0 {
            State::Up { back_since: Some(since), .. } => {
                let (passed, all) = (now.since(since).as_nanos(), slow_start.0.as_nanos());
                if passed >= all {
                    return FULL_SHARE;
                }
                let grown = u128::from(FULL_SHARE - FIRST_SHARE) * passed / all;
                FIRST_SHARE + u64::try_from(grown).unwrap_or(0)
            }
            State::Up { back_since: None, .. } | State::BackOff { .. } | State::Trial { .. } | State::CheckedDown => {
                FULL_SHARE
            }
        }
    }

    /// A request goes there. To a member that is not up, it is the trial.
    pub(super) fn begin(&mut self, passive: &PassiveHealth, now: Time) {
        self.0 = match self.0 {
            State::BackOff { back_off, .. } | State::Trial { back_off, .. } => {
                State::Trial { until: now + passive.back_off_max, back_off }
            }
            state @ (State::Up { .. } | State::CheckedDown) => state,
        };
    }

    /// A request has shown something. `in_flight`: the requests that are still there after it.
    pub(super) fn on_verdict(
        &mut self,
        verdict: Verdict,
        in_flight: usize,
        passive: &PassiveHealth,
        now: Time,
    ) -> Option<Change> {
        let (state, change) = match (self.0, verdict) {
            (State::Up { back_since, .. }, Verdict::Success) => (State::Up { failures: 0, back_since }, None),
            (State::Up { failures, back_since }, Verdict::Failure) => {
                let failures = failures.saturating_add(1);
                if passive.failures == 0 || failures < passive.failures {
                    (State::Up { failures, back_since }, None)
                } else {
                    let back_off = passive.back_off.min(passive.back_off_max);
                    (State::BackOff { until: now + back_off, back_off }, Some(Change::Failed { failures, back_off }))
                }
            }
            (State::Trial { .. }, Verdict::Success) => {
                (State::Up { failures: 0, back_since: Some(now) }, Some(Change::TrialSucceeded))
            }
            (State::Trial { back_off, .. }, Verdict::Failure) => {
                let back_off = back_off.saturating_mul(2).min(passive.back_off_max);
                (State::BackOff { until: now + back_off, back_off }, Some(Change::TrialFailed { back_off }))
            }
            // Nobody is left who could be trying it, so the next may.
            (State::Trial { back_off, .. }, Verdict::Neutral) if in_flight == 0 => {
                (State::BackOff { until: now, back_off }, None)
            }
            (state @ (State::Up { .. } | State::Trial { .. }), Verdict::Neutral)
            | (state @ (State::BackOff { .. } | State::CheckedDown), _) => (state, None),
        };
        self.0 = state;
        change
    }

    /// The checks say whether it is up.
    pub(super) const fn on_checked(&mut self, is_up: bool, now: Time) -> Option<Change> {
        match (self.0, is_up) {
            (State::Up { .. } | State::BackOff { .. } | State::Trial { .. }, false) => {
                self.0 = State::CheckedDown;
                Some(Change::ChecksFailed)
            }
            (State::CheckedDown, true) => {
                self.0 = State::Up { failures: 0, back_since: Some(now) };
                Some(Change::ChecksPassed)
            }
            // A check that passes says nothing against requests that fail.
            (State::Up { .. } | State::BackOff { .. } | State::Trial { .. }, true) | (State::CheckedDown, false) => {
                None
            }
        }
    }
}

/// Turns the results of single checks into what [`Group::set_checked`](super::Group::set_checked) wants to know: so many
/// in a row are needed to change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckCounter {
    rise: u32,
    fall: u32,
    is_up: bool,
    /// Results in a row that contradict `is_up`.
    contradictions: u32,
}

impl CheckCounter {
    /// For a member that counts as up. `rise` passed checks in a row bring it up, `fall` failed ones take it down; zero is
    /// the same as one.
    pub const fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, is_up: true, contradictions: 0 }
    }

    /// Whether the checks say that it is up.
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// A check's result. `Some` if it changes what the checks say.
    pub const fn on_result(&mut self, has_passed: bool) -> Option<bool> {
        if has_passed == self.is_up {
            self.contradictions = 0;
            return None;
        }
        self.contradictions = self.contradictions.saturating_add(1);
        let wanted = if has_passed { self.rise } else { self.fall };
        if self.contradictions < wanted {
            return None;
        }
        self.is_up = has_passed;
        self.contradictions = 0;
        Some(has_passed)
    }
}
