//! `--find-max`: which rate to try next, to find the highest that keeps the limits. It makes no run itself.

/// The search for the highest rate.
///
/// ```text
/// Growing ──missed──> Bisecting ──within 2 %──> Confirming ──met──> Done
///    │                    ^                       │    ^
///    └──first one missed: └── Shrinking           └────┘ missed: 2 % lower
/// ```
///
/// A rate counts as found if a run of its own met the limits after the search had ended there: near the
/// limit, a single run meets them by chance.
#[derive(Debug)]
pub struct Search {
    state: State,
    runs_left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Doubling. `met`: the last rate, which met the limits.
    Growing {
        next: f64,
        met: Option<f64>,
    },
    /// Halving, since the first rate missed the limits. `missed`: the last one.
    Shrinking {
        next: f64,
        missed: f64,
    },
    /// Between a rate that met the limits and one that missed them.
    Bisecting {
        met: f64,
        missed: f64,
    },
    /// A second run at what was found.
    Confirming {
        rate: f64,
    },
    Done(Outcome),
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The highest rate that met the limits, confirmed by a second run.
    Found(f64),
    /// A rate that met the limits once; there were no runs left to confirm it, or to come closer.
    Unconfirmed(f64),
    /// No rate that was tried met the limits.
    NotMet,
}

/// Runs that a search may take, unless it is given another number.
pub const RUNS_MAX: u32 = 40;

/// The bisection ends when the rates differ by this part.
const PRECISION: f64 = 0.02;

/// No rate below it is tried, in requests a second.
const RATE_MIN: f64 = 1.0;

/// Nor above it.
const RATE_MAX: f64 = 1e9;

impl Search {
    /// A search that begins with `start` requests a second and takes `runs_max` runs at most.
    pub fn new(start: f64, runs_max: u32) -> Self {
        let next = start.clamp(RATE_MIN, RATE_MAX);
        let state = if runs_max == 0 { State::Done(Outcome::NotMet) } else { State::Growing { next, met: None } };
        Self { state, runs_left: runs_max }
    }

    /// The rate of the next run; `None` at the end.
    pub fn next_rate(&self) -> Option<f64> {
        match self.state {
            State::Growing { next, .. } | State::Shrinking { next, .. } => Some(next),
            State::Bisecting { met, missed } => Some(f64::midpoint(met, missed)),
            State::Confirming { rate } => Some(rate),
            State::Done(_) => None,
        }
    }

    /// Whether the run at `rate`, which [`Search::next_rate`] gave, met the limits.
    pub fn on_result(&mut self, rate: f64, is_met: bool) {
        debug_assert!(self.next_rate() == Some(rate), "{rate} was not asked for: {self:?}");
        self.runs_left = self.runs_left.saturating_sub(1);
        self.state = match (self.state, is_met) {
            (State::Growing { .. }, true) if rate >= RATE_MAX => State::Confirming { rate },
            (State::Growing { .. }, true) => State::Growing { next: (rate * 2.0).min(RATE_MAX), met: Some(rate) },
            (State::Growing { met: Some(met), .. }, false) => between(met, rate),
            (State::Growing { met: None, .. } | State::Shrinking { .. }, false) => {
                if rate <= RATE_MIN {
                    State::Done(Outcome::NotMet)
                } else {
                    State::Shrinking { next: (rate / 2.0).max(RATE_MIN), missed: rate }
                }
            }
            (State::Shrinking { missed, .. }, true) => between(rate, missed),
            (State::Bisecting { missed, .. }, true) => between(rate, missed),
            (State::Bisecting { met, .. }, false) => between(met, rate),
            (State::Confirming { .. }, true) => State::Done(Outcome::Found(rate)),
            (State::Confirming { .. }, false) if rate <= RATE_MIN => State::Done(Outcome::NotMet),
            (State::Confirming { .. }, false) => State::Confirming { rate: (rate / (1.0 + PRECISION)).max(RATE_MIN) },
            (State::Done(outcome), _) => State::Done(outcome),
        };
        if self.runs_left == 0 {
            self.state = State::Done(self.unconfirmed(is_met));
        }
    }

    /// The result; `None` while there are rates to try.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Done(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// What is known when no runs are left. `is_met`: of the last.
    const fn unconfirmed(&self, is_met: bool) -> Outcome {
        match self.state {
            State::Growing { met: Some(met), .. } | State::Bisecting { met, .. } => Outcome::Unconfirmed(met),
            // After a run that missed, nothing near it is known to be met.
            State::Confirming { rate } if is_met => Outcome::Unconfirmed(rate),
            State::Growing { met: None, .. } | State::Shrinking { .. } | State::Confirming { .. } => Outcome::NotMet,
            State::Done(outcome) => outcome,
        }
    }
}

/// The search goes on between these, unless they are close enough.
fn between(met: f64, missed: f64) -> State {
    if missed <= met * (1.0 + PRECISION) { State::Confirming { rate: met } } else { State::Bisecting { met, missed } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches with these answers to a rate. The rates that were tried, and the result.
    fn search(start: f64, runs_max: u32, mut is_met: impl FnMut(f64) -> bool) -> (Vec<f64>, Outcome) {
        let mut search = Search::new(start, runs_max);
        let mut tried = Vec::new();
        while let Some(rate) = search.next_rate() {
            assert_eq!(search.outcome(), None);
            tried.push(rate);
            search.on_result(rate, is_met(rate));
        }
        (tried, search.outcome().expect("an end"))
    }

    #[test]
    fn the_limit_is_found_to_two_percent_from_any_start() {
        for limit in [1.5, 100.0, 31_234.0, 2e6] {
            for start in [1.0, 1000.0, 5e7] {
                let (tried, outcome) = search(start, RUNS_MAX, |rate| rate <= limit);
                let Outcome::Found(found) = outcome else { panic!("{outcome:?} for {limit} from {start}") };
                assert!(found <= limit && found * 1.02 >= limit, "{found} for {limit} from {start}");
                assert!(tried.len() <= 36, "{} runs for {limit} from {start}", tried.len());
                assert!(tried[..tried.len() - 1].contains(&found), "it is confirmed by a second run");
            }
        }
    }

    #[test]
    fn it_grows_then_bisects_then_confirms() {
        let (tried, outcome) = search(1000.0, RUNS_MAX, |rate| rate <= 5000.0);
        assert_eq!(tried[..6], [1000.0, 2000.0, 4000.0, 8000.0, 6000.0, 5000.0]);
        assert_eq!(outcome, Outcome::Found(5000.0));
        assert_eq!(tried.last(), Some(&5000.0));
    }

    #[test]
    fn a_rate_that_met_the_limits_by_chance_is_not_found() {
        let mut seen = Vec::new();
        let (_, outcome) = search(1000.0, RUNS_MAX, |rate| {
            let is_first = !seen.contains(&rate);
            seen.push(rate);
            // Beyond 4000, every first run is luck.
            rate <= 4000.0 || (rate <= 4050.0 && is_first && seen.len() < 12)
        });
        let Outcome::Found(found) = outcome else { panic!("{outcome:?}") };
        assert!((3900.0..=4000.0).contains(&found), "{found}");
    }

    #[test]
    fn runs_are_bounded_and_their_end_is_no_confirmation() {
        assert_eq!(search(1000.0, 3, |_| true), (vec![1000.0, 2000.0, 4000.0], Outcome::Unconfirmed(4000.0)));
        assert_eq!(search(1000.0, 2, |_| false).1, Outcome::NotMet);
        assert_eq!(search(1000.0, 0, |_| true), (Vec::new(), Outcome::NotMet));
        assert_eq!(search(1000.0, 5, |rate| rate <= 1500.0).1, Outcome::Unconfirmed(1500.0));
        let (tried, outcome) = search(1000.0, RUNS_MAX, |_| false);
        assert_eq!((tried.last(), outcome), (Some(&RATE_MIN), Outcome::NotMet));
        assert_eq!(search(1000.0, RUNS_MAX, |_| true).1, Outcome::Found(RATE_MAX));
    }
}
