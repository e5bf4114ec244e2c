//! The loop of one worker: connects a state machine to a driver.

use std::io;
use std::time::Duration;

use crate::driver::{Completion, Counters, Driver, KernelDriver, OpId, Ops, Outcome, Time, Token, unix_seconds};

/// How often unused receive buffer memory is returned to the system, while there is traffic.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// After how many turns the driver's totals are passed on: a quiet worker passes them on when it trims.
const COUNTERS_TURNS: u32 = 16;

/// A state machine that a worker drives: a server's core, or the sessions of a client.
///
/// It queues operations and gets their completions. Between two turns it has done all it can, so
/// that only a completion, its deadline or a message is a reason for the next.
pub trait Machine {
    /// The queue from which the driver takes operations.
    fn ops(&mut self) -> &mut Ops;

    /// How long the driver may wait for completions. `None`: no limit.
    fn wait(&self, now: Time) -> Option<Duration>;

    /// Takes the messages of the thread that used the driver's waker.
    fn on_wake(&mut self, driver: &mut impl KernelDriver, now: Time) {
        let _ = (driver, now);
    }

    /// Processes and removes the completions of one driver turn, acts on deadlines that are due, and
    /// queues what follows.
    fn on_turn(&mut self, environment: Environment, done: &mut Vec<Completion>);

    /// Takes the driver's totals, from time to time and at the end.
    fn on_counters(&mut self, counters: Counters) {
        let _ = counters;
    }

    /// Whether it has nothing left to do, nothing open and nothing in flight.
    fn is_finished(&self) -> bool;
}

/// What a state machine cannot know of itself, at one turn.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// The time at which the completions were collected.
    pub now: Time,
    /// Bytes of receive buffers that one connection may hold at present.
    pub share: usize,
    /// The time of day, in seconds since 1970.
    pub unix_seconds: u64,
}

/// Settles the operation of a completion. Returns the token that the operation was submitted with;
/// `None`: it has ended already, so the driver has broken guarantee 1.
// A call for each outcome costs a request 100 instructions.
#[inline(always)]
pub(crate) fn settle(ops: &mut Ops, id: OpId, outcome: &Outcome) -> Option<Token> {
    let Some(token) = ops.settle(id, outcome.is_final()) else {
        tracing::error!(op = %id, outcome = outcome.name(), "an outcome of an operation that has ended");
        debug_assert!(false, "{outcome:?} for {id:?}, which has ended");
        return None;
    };
    tracing::trace!(op = %id, outcome = outcome.name(), "outcome");
    Some(token)
}

/// A state machine and its driver, run by one thread.
#[derive(Debug)]
pub struct Worker<D, M> {
    driver: D,
    machine: M,
    trim: Trim,
}

impl<D: KernelDriver, M: Machine> Worker<D, M> {
    /// A worker that runs `machine` on `driver`.
    pub const fn new(driver: D, machine: M) -> Self {
        Self { driver, machine, trim: Trim::NotNeeded }
    }

    /// Runs until the state machine has finished, and returns it.
    ///
    /// # Errors
    /// The kernel refuses the ring or the epoll instance itself.
    pub fn run(mut self) -> io::Result<M> {
        let mut done: Vec<Completion> = Vec::new();
        let mut now = self.driver.now();
        let mut turns: u32 = 0;
        while !self.machine.is_finished() {
            let mut wait = match (self.machine.wait(now), self.trim.wait(now)) {
                (Some(machine), Some(trim)) => Some(machine.min(trim)),
                (machine, trim) => machine.or(trim),
            };
            let deadline = wait.map(|wait| now + wait);
            let mut woken = false;
            // A single call site, so that the driver's turn is inlined into the loop.
            let turn = loop {
                let turn = self.driver.turn(self.machine.ops(), wait, &mut done)?;
                woken |= turn.woken;
                if !is_late(deadline, turn.now) || wait == Some(Duration::ZERO) {
                    break turn;
                }
                // Collect everything that has arrived by now before acting on timers that are due.
                wait = Some(Duration::ZERO);
            };
            // The rest of the iteration takes microseconds, so the clock is not read again.
            now = turn.now;
            if woken {
                self.machine.on_wake(&mut self.driver, now);
            }
            let is_interval = self.trim.on_turn(!done.is_empty(), now, &mut self.driver);
            turns = turns.wrapping_add(1);
            if is_interval || turns.is_multiple_of(COUNTERS_TURNS) {
                self.machine.on_counters(self.driver.counters());
            }
            let environment = Environment { now, share: self.driver.pool().share(), unix_seconds: unix_seconds() };
            self.machine.on_turn(environment, &mut done);
        }
        self.machine.on_counters(self.driver.counters());
        tracing::debug!(counters = ?self.driver.counters(), "worker at rest");
        Ok(self.machine)
    }
}

/// Whether a turn ended so late after `due` that peers may have met their deadlines unnoticed.
///
/// A driver that waits for a moment polls again when the moment has come. But a process that was
/// stopped or not scheduled returns late and may not have polled since.
fn is_late(due: Option<Time>, now: Time) -> bool {
    due.is_some_and(|due| now >= due + LATE)
}

/// From this delay on, a turn counts as late.
const LATE: Duration = Duration::from_millis(1);

/// Returns unused buffer memory periodically and lets a quiet worker sleep. Two intervals after the
/// last traffic it stops; the first of them may still find buffers in use.
#[derive(Clone, Copy, Debug)]
enum Trim {
    NotNeeded,
    Armed { at: Time, had_traffic: bool },
}

impl Trim {
    fn wait(self, now: Time) -> Option<Duration> {
        match self {
            Self::NotNeeded => None,
            Self::Armed { at, .. } => Some(at.since(now)),
        }
    }

    /// `true`: an interval has passed.
    fn on_turn(&mut self, has_traffic: bool, now: Time, driver: &mut impl Driver) -> bool {
        match self {
            Self::NotNeeded if has_traffic => *self = Self::Armed { at: now + TRIM_INTERVAL, had_traffic: true },
            Self::NotNeeded => {}
            Self::Armed { at, had_traffic } if now < *at => *had_traffic |= has_traffic,
            Self::Armed { had_traffic, .. } => {
                driver.trim();
                *self = if *had_traffic || has_traffic {
                    Self::Armed { at: now + TRIM_INTERVAL, had_traffic: has_traffic }
                } else {
                    Self::NotNeeded
                };
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_late_that_ends_well_after_what_it_waited_for() {
        let due = Time::ZERO + Duration::from_secs(5);
        assert!(!is_late(Some(due), due + LATE / 2));
        assert!(is_late(Some(due), due + LATE));
        // A turn without a deadline is never late.
        assert!(!is_late(None, due));
    }
}
