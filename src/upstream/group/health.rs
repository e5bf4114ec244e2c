//! The health of one endpoint: the states that request outcomes and health checks lead to.
//!
//! ```text
//!            failures in a row                  back-off over, begin
//!      Up ───────────────────────► BackOff ───────────────────────► Trial
//!       ▲                             ▲   Failure: back-off doubled   │ │
//!       │                             └───────────────────────────────┘ │
//!       └───────────────────────────────────────────────────────────────┘ Success: slow start
//!
//!      any ──── checks fail ───► CheckedDown ──── checks pass ───► Up: slow start
//!
//!      BackOff ──── begin, no endpoint is up ───► BackOff, asked ──── Success ───► Up: slow start
//! ```
//!
//! A verdict does not identify its request, and requests that began before the endpoint went down
//! may end at any time. In `BackOff` their verdicts change nothing. In `Trial` the first verdict
//! decides, even if an older request gave it: a response shows that the endpoint is alive, and a
//! failure shows that it should not take requests yet. The same holds in `BackOff` once `is_asked`
//! is set: a request went there before the back-off was over, because no other endpoint was up.
//! Then a failure restarts the back-off without doubling it.
//!
//! It does not know the endpoint, its load or its requests.

use std::time::Duration;

use super::config::{PassiveHealth, SlowStart};
use crate::driver::Time;

/// What the outcome of a request shows about its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthVerdict {
    /// It responded.
    Success,
    /// It refused the connection, did not respond in time, or sent an invalid response.
    Failure,
    /// Nothing: for example, the client left, or no descriptor was free for a connection.
    Neutral,
}

/// One endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Takes requests; `failures`: failures in a row so far. If the endpoint was down before, its
    /// share grows from `back_since` on.
    Up { failures: u32, back_since: Option<Time> },
    /// Takes no requests until then, unless no endpoint is up; `is_asked`: a request went there all
    /// the same.
    BackOff { until: Time, back_off: Duration, is_asked: bool },
    /// One request tries it. Without a verdict until then, another request may.
    Trial { until: Time, back_off: Duration },
    /// The health checks took it down.
    CheckedDown,
}

/// A state change of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It went down: `failures` requests failed in a row.
    Failed { failures: u32, back_off: Duration },
    /// The trial request failed.
    TrialFailed { back_off: Duration },
    /// The trial request got a response.
    TrialSucceeded,
    /// It went down: the health checks failed.
    ChecksFailed,
    /// It came back up: the health checks passed.
    ChecksPassed,
}

/// The share of an endpoint without slow start, in thousandths.
pub(super) const FULL_SHARE: u64 = 1000;

/// The share of an endpoint that has just come back up, in thousandths.
const FIRST_SHARE: u64 = 100;

impl Health {
    /// Up, without failures.
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

    /// Whether it takes any number of requests, not only one as a trial.
    pub(super) const fn is_up(&self) -> bool {
        match self.0 {
            State::Up { .. } => true,
            State::BackOff { .. } | State::Trial { .. } | State::CheckedDown => false,
        }
    }

    /// When its back-off or trial ends. `None`: it is up, or the health checks took it down.
    pub(super) const fn down_until(&self) -> Option<Time> {
        match self.0 {
            State::BackOff { until, .. } | State::Trial { until, .. } => Some(until),
            State::Up { .. } | State::CheckedDown => None,
        }
    }

    /// The effective part of its weight, in thousandths. All of it for a trial, which is a single
    /// request.
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

    /// A request goes to the endpoint. If the endpoint is not up and its back-off is over, the
    /// request is the trial.
    pub(super) fn begin(&mut self, passive: &PassiveHealth, now: Time) {
        self.0 = match self.0 {
            State::BackOff { until, back_off, .. } if until > now => State::BackOff { until, back_off, is_asked: true },
            state @ State::Trial { until, .. } if until > now => state,
            State::BackOff { back_off, .. } | State::Trial { back_off, .. } => {
                State::Trial { until: now + passive.back_off_max, back_off }
            }
            state @ (State::Up { .. } | State::CheckedDown) => state,
        };
    }

    /// Whether a verdict changes nothing, as that of most requests.
    pub(super) const fn is_confirmed_by(&self, verdict: HealthVerdict) -> bool {
        match (self.0, verdict) {
            (State::Up { failures: 0, .. }, HealthVerdict::Success) | (State::Up { .. }, HealthVerdict::Neutral) => {
                true
            }
            (State::Up { .. } | State::BackOff { .. } | State::Trial { .. } | State::CheckedDown, _) => false,
        }
    }

    /// Applies a verdict. `in_flight`: requests still in flight at the endpoint after this one.
    pub(super) fn on_verdict(
        &mut self,
        verdict: HealthVerdict,
        in_flight: usize,
        passive: &PassiveHealth,
        now: Time,
    ) -> Option<Change> {
        let (state, change) = match (self.0, verdict) {
            (State::Up { back_since, .. }, HealthVerdict::Success) => (State::Up { failures: 0, back_since }, None),
            (State::Up { failures, back_since }, HealthVerdict::Failure) => {
                let failures = failures.saturating_add(1);
                if passive.failures == 0 || failures < passive.failures {
                    (State::Up { failures, back_since }, None)
                } else {
                    let back_off = passive.back_off.min(passive.back_off_max);
                    let state = State::BackOff { until: now + back_off, back_off, is_asked: false };
                    (state, Some(Change::Failed { failures, back_off }))
                }
            }
            (State::Trial { .. } | State::BackOff { is_asked: true, .. }, HealthVerdict::Success) => {
                (State::Up { failures: 0, back_since: Some(now) }, Some(Change::TrialSucceeded))
            }
            (State::Trial { back_off, .. }, HealthVerdict::Failure) => {
                let back_off = back_off.saturating_mul(2).min(passive.back_off_max);
                let state = State::BackOff { until: now + back_off, back_off, is_asked: false };
                (state, Some(Change::TrialFailed { back_off }))
            }
            // Its new back-off ends later, so that other endpoints are picked first.
            (State::BackOff { back_off, is_asked: true, .. }, HealthVerdict::Failure) => {
                (State::BackOff { until: now + back_off, back_off, is_asked: true }, None)
            }
            // No request is in flight that could be the trial, so the next one may try.
            (State::Trial { back_off, .. }, HealthVerdict::Neutral) if in_flight == 0 => {
                (State::BackOff { until: now, back_off, is_asked: false }, None)
            }
            (
                state @ (State::Up { .. } | State::Trial { .. } | State::BackOff { is_asked: true, .. }),
                HealthVerdict::Neutral,
            )
            | (state @ (State::BackOff { is_asked: false, .. } | State::CheckedDown), _) => (state, None),
        };
        self.0 = state;
        change
    }

    /// Applies the result of the health checks.
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
            // A passed check does not refute failed requests.
            (State::Up { .. } | State::BackOff { .. } | State::Trial { .. }, true) | (State::CheckedDown, false) => {
                None
            }
        }
    }
}

/// Counts the results of single health checks for
/// [`UpstreamGroup::set_checked`](super::UpstreamGroup::set_checked). Several equal results in a
/// row are needed to change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckCounter {
    rise: u32,
    fall: u32,
    is_up: bool,
    /// Results in a row that contradict `is_up`.
    contradictions: u32,
}

impl CheckCounter {
    /// A counter for an endpoint that counts as up. `rise` passed checks in a row bring it up,
    /// `fall` failed ones take it down; zero counts as one.
    pub const fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, is_up: true, contradictions: 0 }
    }

    /// Adds a check's result. Returns the new state if it changes.
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

#[cfg(test)]
mod tests {
    use super::*;

    const PASSIVE: PassiveHealth =
        PassiveHealth { failures: 3, back_off: Duration::from_secs(1), back_off_max: Duration::from_secs(60) };

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// The health of an endpoint that gets one request at a time.
    #[derive(Debug)]
    struct Subject(Health);

    impl Subject {
        fn new() -> Self {
            Self(Health::new())
        }

        fn is_usable(&self, seconds: u64) -> bool {
            self.0.is_usable(at(seconds))
        }

        fn exchange(&mut self, verdict: HealthVerdict, seconds: u64) -> Option<Change> {
            assert!(self.is_usable(seconds), "{self:?}");
            self.0.begin(&PASSIVE, at(seconds));
            self.0.on_verdict(verdict, 0, &PASSIVE, at(seconds))
        }

        /// Down since `seconds`, in its first back-off.
        fn down(seconds: u64) -> Self {
            let mut subject = Self::new();
            for _ in 1..PASSIVE.failures {
                assert_eq!(subject.exchange(HealthVerdict::Failure, seconds), None);
            }
            let change = subject.exchange(HealthVerdict::Failure, seconds);
            assert_eq!(change, Some(Change::Failed { failures: 3, back_off: Duration::from_secs(1) }));
            subject
        }
    }

    #[test]
    fn only_failures_in_a_row_take_an_endpoint_down() {
        let mut subject = Subject::new();
        for _ in 0..10 {
            assert_eq!(subject.exchange(HealthVerdict::Failure, 0), None);
            assert_eq!(subject.exchange(HealthVerdict::Failure, 0), None);
            assert_eq!(subject.exchange(HealthVerdict::Success, 0), None);
        }
        assert!(subject.0.is_up());
    }

    #[test]
    fn what_says_nothing_neither_counts_nor_forgives() {
        let mut subject = Subject::new();
        subject.exchange(HealthVerdict::Failure, 0);
        subject.exchange(HealthVerdict::Failure, 0);
        assert_eq!(subject.exchange(HealthVerdict::Neutral, 0), None);
        assert!(subject.exchange(HealthVerdict::Failure, 0).is_some());
    }

    #[test]
    fn with_no_failures_configured_none_take_it_down() {
        let mut health = Health::new();
        let never = PassiveHealth { failures: 0, ..PASSIVE };
        assert!((0..100).all(|_| health.on_verdict(HealthVerdict::Failure, 0, &never, at(0)).is_none()));
        assert!(health.is_up());
    }

    #[test]
    fn the_back_off_doubles_with_each_trial_that_fails_up_to_its_limit() {
        let mut subject = Subject::down(0);
        let mut now = 0;
        for back_off in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!subject.0.is_usable(Time::from_nanos(at(now + back_off).as_nanos() - 1)));
            now += back_off;
            let next = Duration::from_secs((back_off * 2).min(60));
            assert_eq!(subject.exchange(HealthVerdict::Failure, now), Some(Change::TrialFailed { back_off: next }));
        }
    }

    #[test]
    fn a_success_makes_the_next_back_off_short_again() {
        let mut subject = Subject::down(0);
        subject.exchange(HealthVerdict::Failure, 1);
        assert_eq!(subject.exchange(HealthVerdict::Success, 3), Some(Change::TrialSucceeded));
        subject.exchange(HealthVerdict::Failure, 4);
        subject.exchange(HealthVerdict::Failure, 4);
        let change = subject.exchange(HealthVerdict::Failure, 4);
        assert_eq!(change, Some(Change::Failed { failures: 3, back_off: Duration::from_secs(1) }));
    }

    #[test]
    fn one_request_at_a_time_tries_it() {
        let mut subject = Subject::down(0);
        subject.0.begin(&PASSIVE, at(1));
        assert!(!subject.is_usable(1) && !subject.is_usable(60));
        // The trial has given no verdict for `back_off_max`.
        assert!(subject.is_usable(61));
    }

    #[test]
    fn a_trial_that_says_nothing_leaves_it_to_the_next() {
        let mut subject = Subject::down(0);
        assert_eq!(subject.exchange(HealthVerdict::Neutral, 1), None);
        assert!(subject.is_usable(1) && !subject.0.is_up());
        assert_eq!(
            subject.exchange(HealthVerdict::Failure, 1),
            Some(Change::TrialFailed { back_off: Duration::from_secs(2) })
        );
    }

    #[test]
    fn while_older_requests_are_in_flight_what_says_nothing_may_be_theirs() {
        let mut subject = Subject::down(0);
        subject.0.begin(&PASSIVE, at(1));
        assert_eq!(subject.0.on_verdict(HealthVerdict::Neutral, 1, &PASSIVE, at(1)), None);
        assert!(!subject.is_usable(1));
    }

    #[test]
    fn older_requests_do_not_shorten_or_lengthen_the_back_off() {
        let mut subject = Subject::down(0);
        for verdict in [HealthVerdict::Success, HealthVerdict::Failure, HealthVerdict::Neutral] {
            assert_eq!(subject.0.on_verdict(verdict, 1, &PASSIVE, at(0)), None);
        }
        assert!(!subject.is_usable(0) && subject.is_usable(1));
    }

    #[test]
    fn one_that_is_asked_before_its_time_comes_back_with_an_answer_and_is_not_left_alone_for_longer() {
        let mut subject = Subject::down(0);
        let half_a_second = at(0) + Duration::from_millis(500);
        subject.0.begin(&PASSIVE, half_a_second);
        assert!(!subject.0.is_usable(half_a_second), "usable during its back-off");
        assert_eq!(subject.0.on_verdict(HealthVerdict::Failure, 0, &PASSIVE, half_a_second), None);
        assert_eq!(subject.0.down_until(), Some(half_a_second + Duration::from_secs(1)), "not doubled");
        assert_eq!(subject.0.on_verdict(HealthVerdict::Neutral, 0, &PASSIVE, at(1)), None);
        assert_eq!(subject.0.on_verdict(HealthVerdict::Success, 0, &PASSIVE, at(1)), Some(Change::TrialSucceeded));
        assert!(subject.0.is_up());
    }

    #[test]
    fn a_trial_that_another_request_joins_is_not_prolonged() {
        let mut subject = Subject::down(0);
        subject.0.begin(&PASSIVE, at(1));
        subject.0.begin(&PASSIVE, at(30));
        assert_eq!(subject.0.down_until(), Some(at(61)));
    }

    #[test]
    fn the_share_grows_from_a_tenth_to_all() {
        let slow_start = SlowStart(Duration::from_secs(9));
        let mut subject = Subject::down(0);
        assert!(subject.exchange(HealthVerdict::Success, 1).is_some());
        let shares: Vec<u64> = (1..12).map(|seconds| subject.0.share(slow_start, at(seconds))).collect();
        assert_eq!(shares, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1000]);
        assert_eq!(subject.0.share(SlowStart(Duration::ZERO), at(1)), FULL_SHARE);
        assert_eq!(Health::new().share(slow_start, at(0)), FULL_SHARE);
    }

    #[test]
    fn successes_during_slow_start_do_not_cut_it_short() {
        let mut subject = Subject::down(0);
        subject.exchange(HealthVerdict::Success, 1);
        subject.exchange(HealthVerdict::Success, 2);
        assert_eq!(subject.0.share(SlowStart(Duration::from_secs(9)), at(2)), 200);
    }

    #[test]
    fn what_checks_take_down_only_checks_bring_back() {
        let mut health = Health::new();
        assert_eq!(health.on_checked(true, at(0)), None);
        assert_eq!(health.on_checked(false, at(0)), Some(Change::ChecksFailed));
        assert_eq!(health.on_checked(false, at(0)), None);
        assert_eq!(health.on_verdict(HealthVerdict::Success, 0, &PASSIVE, at(1)), None);
        assert!(!health.is_usable(at(1 << 20)));
        assert_eq!(health.on_checked(true, at(2)), Some(Change::ChecksPassed));
        assert_eq!(health.share(SlowStart(Duration::from_secs(9)), at(3)), 200);
    }

    #[test]
    fn a_check_that_passes_does_not_end_a_back_off() {
        let mut subject = Subject::down(0);
        assert_eq!(subject.0.on_checked(true, at(0)), None);
        assert!(!subject.is_usable(0));
    }

    #[test]
    fn checks_count_in_a_row() {
        let mut counter = CheckCounter::new(2, 3);
        let mut results =
            |text: &str| -> Vec<Option<bool>> { text.chars().map(|result| counter.on_result(result == '+')).collect() };
        assert_eq!(results("--+--"), [None; 5]);
        assert_eq!(results("--"), [Some(false), None]);
        assert_eq!(results("+-++"), [None, None, None, Some(true)]);
        assert!(counter.is_up);
    }
}
