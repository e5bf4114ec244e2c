//! Looks one upstream's name up periodically, so that new connections go to its current addresses.
//!
//! ```text
//!             is due
//!   Waiting ────────────► Asking
//!    ▲                     │  │ `end()`
//!    ├─────────────────────┘  └────► Abandoned
//!    │ resolved, failed                │
//!    └─────────────────────────────────┘ its final outcome
//! ```
//!
//! It does not know connections. Existing ones stay open whatever the look-up returns.

use std::rc::Rc;
use std::time::Duration;

use super::dns_cache::Name;
use super::group::{EndpointId, UpstreamGroup};
use super::health_check::spread;
use super::health_monitor::MonitorTask;
use crate::driver::{Op, OpId, Ops, Outcome, Time, Token};
use crate::table::Key;

/// The state machine that looks up the name of one upstream.
#[derive(Debug)]
pub(super) struct Lookup {
    group: Rc<UpstreamGroup>,
    endpoint: EndpointId,
    name: Name,
    interval: Duration,
    /// When the next look-up begins; `None`: it was ended.
    next: Option<Time>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// No deadline: the resolver has timeouts of its own.
    Asking(OpId),
    Abandoned,
}

impl Lookup {
    /// Looks an endpoint's name up periodically, for the first time at `first`.
    pub(super) const fn new(
        group: Rc<UpstreamGroup>,
        endpoint: EndpointId,
        name: Name,
        interval: Duration,
        first: Time,
    ) -> Self {
        Self { group, endpoint, name, interval, next: Some(first), state: State::Waiting }
    }

    /// Starts no further look-up and cancels the one in flight.
    pub(super) const fn end(&mut self) {
        self.next = None;
    }

    /// Records an outcome.
    pub(super) fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        match (self.state, outcome) {
            (State::Asking(_), Outcome::Resolved(addresses)) => {
                self.group.upstream(self.endpoint).remember(addresses, now);
                self.state = State::Waiting;
            }
            (State::Asking(_), Outcome::Failed(fault)) => {
                self.group.upstream(self.endpoint).keep(&fault, now);
                self.state = State::Waiting;
            }
            (State::Abandoned, Outcome::Resolved(_) | Outcome::Failed(_) | Outcome::Cancelled) => {
                self.state = State::Waiting;
            }
            (state, outcome) => crate::tcp::unexpected("look-up", &state, &outcome, token),
        }
    }

    /// Starts a look-up that is due, or cancels one after [`Lookup::end`].
    pub(super) fn pump(&mut self, key: Key<MonitorTask>, now: Time, ops: &mut Ops) {
        match (self.state, self.next) {
            (State::Waiting, Some(next)) if next <= now => {
                self.next = Some(now + spread(self.interval, &self.group));
                let token = Token { machine: key.raw(), kind: super::HEALTH_MONITOR, slot: 0 };
                let Name { host, port } = self.name.clone();
                self.state = State::Asking(ops.submit(token, Op::Resolve { host, port }));
            }
            (State::Asking(id), None) => {
                ops.cancel(id);
                self.state = State::Abandoned;
            }
            (State::Waiting | State::Asking(_) | State::Abandoned, _) => {}
        }
    }

    /// When to pump it next.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Waiting => self.next,
            State::Asking(_) | State::Abandoned => None,
        }
    }

    /// Whether it was ended and nothing is in flight.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Waiting && self.next.is_none()
    }
}
