//! What is shown while it is measured.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::super::say;
use crate::load::{Plan, Stop};

/// The time between two lines, where there is no terminal that could show them in one place.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// A line on standard error with the rate, the errors and the time that is left.
#[derive(Debug)]
pub struct ProgressLine {
    is_terminal: bool,
    stop: Stop,
    begun: Option<Instant>,
    last: (Instant, u64),
    is_shown: bool,
}

impl ProgressLine {
    /// Nothing is shown yet.
    pub fn new(plan: &Plan) -> Self {
        let last = (Instant::now(), 0);
        Self { is_terminal: io::stderr().is_terminal(), stop: plan.stop, begun: None, last, is_shown: false }
    }

    /// Shows what has been counted so far.
    pub fn show(&mut self, (requests, errors): (u64, u64)) {
        let now = Instant::now();
        let Some(begun) = self.begun else {
            self.begun = Some(now);
            self.last = (now, requests);
            return;
        };
        let (at, before) = self.last;
        let passed = now.duration_since(at);
        // Threads that begin or end wake it in between.
        let interval = if self.is_terminal { Duration::from_millis(500) } else { LINE_INTERVAL };
        if passed < interval {
            return;
        }
        self.last = (now, requests);
        let rate = requests.saturating_sub(before) as f64 / passed.as_secs_f64();
        let left = match self.stop {
            Stop::After(duration) => duration.saturating_sub(now.duration_since(begun)).as_secs_f64(),
            Stop::Requests(all) => {
                let share = (requests + errors) as f64 / all as f64;
                now.duration_since(begun).as_secs_f64() * (1.0 / share.max(1e-9) - 1.0).max(0.0)
            }
        };
        let line = format!("{rate:.0} requests/s, {errors} errors, {left:.0} s left");
        if self.is_terminal {
            // To the beginning of the line, which is erased (ECMA-48: CR, EL).
            say(&format!("\r\x1b[2K{line}"));
            self.is_shown = true;
        } else {
            say(&format!("{line}\n"));
        }
    }

    /// Removes the line from the terminal.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            say("\r\x1b[2K");
        }
    }
}
