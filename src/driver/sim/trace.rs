//! The trace of a run: a hash of all steps, and one printed line for each step on request.

#![expect(clippy::print_stderr, reason = "a test instrument: a trace is printed where the test's output goes")]

use std::fmt;

use super::rng::mix;
use crate::driver::{OpId, Time};

/// If this variable is set, every simulation prints its steps to standard error.
const TRACE_VARIABLE: &str = "XPS_SIM_TRACE";

#[derive(Debug)]
pub(super) struct Trace {
    prints: bool,
    fingerprint: u64,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { prints: std::env::var_os(TRACE_VARIABLE).is_some(), fingerprint: 0 }
    }

    /// Equal for two runs with the same steps at the same times.
    pub(super) const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Records a step of an operation. `size` is bytes, or another count. The details are only
    /// printed.
    pub(super) fn op(
        &mut self,
        now: Time,
        step: &'static str,
        what: &'static str,
        id: OpId,
        size: u64,
        details: fmt::Arguments<'_>,
    ) {
        self.fold(now, step, what, id.to_bits(), size);
        if self.prints {
            eprintln!("{} {step:<8} {what:<10} op {id:<8} size {size:<7} {details}", Stamp(now));
        }
    }

    /// Records a step outside the driver.
    pub(super) fn world(&mut self, now: Time, what: &'static str, who: u64, size: u64) {
        self.fold(now, "world", what, who, size);
        if self.prints {
            eprintln!("{} world    {what:<10} {who} size {size}", Stamp(now));
        }
    }

    fn fold(&mut self, now: Time, step: &str, what: &str, who: u64, size: u64) {
        let names = step.bytes().chain(what.bytes()).fold(0_u64, |hash, byte| hash.rotate_left(7) ^ u64::from(byte));
        for part in [names, now.as_nanos(), who, size] {
            self.fingerprint = mix(self.fingerprint ^ part);
        }
    }
}

struct Stamp(Time);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        write!(f, "{:>5}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}
