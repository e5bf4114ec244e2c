//! Looks one upstream's name up, again and again, so that new connections go where it leads now.
//!
//! ```text
//!             its time
//!   Waiting ────────────► Asking
//!    ▲                     │  │ it is over
//!    ├─────────────────────┘  └────► Abandoned
//!    │ resolved, failed                │
//!    └─────────────────────────────────┘ its final outcome
//! ```
//!
//! It does not know connections. Those that there are go on wherever they lead.

use std::rc::Rc;
use std::time::Duration;

use super::dns_cache::Name;
use super::group::{EndpointId, UpstreamGroup};
use super::health_check::spread;
use crate::driver::{Op, OpId, Ops, Outcome, Time, Token};
use crate::table::Key;

/// The machine that looks the name of one upstream up.
#[derive(Debug)]
pub(super) struct Lookup {
    group: Rc<UpstreamGroup>,
    endpoint: EndpointId,
    name: Name,
    interval: Duration,
    /// When to look it up next; `None`: not any more.
    next: Option<Time>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// The resolver has limits of its own, so it needs no deadline.
    Asking(OpId),
    Abandoned,
}

impl Lookup {
    /// Looks an endpoint's name up from `first` on.
    pub(super) const fn new(
        group: Rc<UpstreamGroup>,
        endpoint: EndpointId,
        name: Name,
        interval: Duration,
        first: Time,
    ) -> Self {
        Self { group, endpoint, name, interval, next: Some(first), state: State::Waiting }
    }

    /// Begins nothing any more, and gives up what is under way.
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

    /// Goes on.
    pub(super) fn pump(&mut self, key: Key, now: Time, ops: &mut Ops) {
        match (self.state, self.next) {
            (State::Waiting, Some(next)) if next <= now => {
                self.next = Some(now + spread(self.interval, &self.group));
                let token = Token { machine: key, kind: super::HEALTH_MONITOR, slot: 0 };
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

    /// When it wants to be pumped for the time's sake.
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
