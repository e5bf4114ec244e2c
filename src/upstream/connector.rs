//! [`Connector`]: establishes one connection to an upstream.
//!
//! ```text
//!           pump             Resolved            Connected
//!   Start ───────► Resolving ─────────► Connecting ───────► Connected ──► (taken)
//!     │               │  │               ▲ │  │ ▲
//!     └─ known ───────┼──┼───────────────┘ │  └─┘ Failed: the next address
//!                     │  │ timed out       │ timed out
//!                     │  └────► Overdue ◄──┘
//!                     │ Failed     │ its final outcome: the next address, or the end
//!                     ▼            ▼
//!                      Failed(error)
//! ```
//!
//! If a look-up fails, the addresses of an earlier one are tried, if there are any.
//!
//! When its owner cancels it, it goes through `Cancelling` to `Done`, or to `Connected` if the cancel
//! lost the race.
//!
//! It yields a [`Transport`], and does not know what the connection is for.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::dns_cache::{Name, ResolvedAddresses};
use super::outbound::Slot;
use super::{OutboundTokens, Upstream};
use crate::driver::{Address, Fault, Op, OpId, Ops, Outcome, Time};
use crate::transport::Transport;

/// One attempt to connect to an upstream, over all of its addresses.
#[derive(Debug)]
pub struct Connector {
    upstream: Rc<Upstream>,
    tokens: OutboundTokens,
    connect_timeout: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Resolving {
        id: OpId,
        deadline: Option<Time>,
    },
    /// An address to try next.
    Next(Candidates),
    Connecting {
        id: OpId,
        deadline: Option<Time>,
        candidates: Candidates,
    },
    /// Timed out and cancelled; the final outcome may still be a success. Without candidates: the
    /// look-up.
    Overdue(Option<Candidates>),
    /// Cancelled by the owner.
    Cancelling(Option<Candidates>),
    Connected {
        transport: Transport,
        address: Address,
    },
    Failed(ConnectError),
    /// The transport was taken, or the connector was cancelled.
    Done,
}

/// The addresses to try, and how many have failed.
#[derive(Clone, Debug)]
struct Candidates {
    addresses: Rc<[Address]>,
    first: usize,
    excluded: usize,
}

/// Why no connection could be established. Of several addresses, the error of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be resolved.
    #[error("{0}")]
    Resolve(Fault),
    /// The look-up timed out.
    #[error("the name server did not answer in time")]
    ResolveTimedOut,
    /// The connect failed.
    #[error("{}{fault}", AddressPrefix(*address))]
    Refused {
        /// The address; `None`: the upstream is a unix socket.
        address: Option<SocketAddr>,
        /// The kernel's error.
        fault: Fault,
    },
    /// The connect to this address timed out. `None`: the upstream is a unix socket whose backlog
    /// stayed full.
    #[error("{}no answer in time", AddressPrefix(*.0))]
    TimedOut(Option<SocketAddr>),
}

impl ConnectError {
    /// Whether this host lacked a resource, such as a descriptor, so that no connect was sent.
    pub const fn is_shortage(self) -> bool {
        match self {
            Self::Resolve(fault) | Self::Refused { fault, .. } => fault.is_shortage(),
            Self::ResolveTimedOut | Self::TimedOut(_) => false,
        }
    }
}

/// The start of an error message: the address. A unix socket needs none, since the upstream's own
/// name, its path, stands before the message.
struct AddressPrefix(Option<SocketAddr>);

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| write!(f, "{address}: "))
    }
}

impl Connector {
    /// A connector that has not begun. `connect_timeout` is for the look-up and for each address;
    /// zero: no limit.
    pub const fn new(upstream: Rc<Upstream>, tokens: OutboundTokens, connect_timeout: Duration) -> Self {
        Self { upstream, tokens, connect_timeout, state: State::Start }
    }

    /// Records an outcome. `now` is the time of the look-up.
    pub fn on_outcome(&mut self, outcome: Outcome, now: Time) {
        let state = std::mem::replace(&mut self.state, State::Done);
        self.state = match (state, outcome) {
            (State::Resolving { .. } | State::Overdue(None), Outcome::Resolved(addresses)) => {
                State::Next(Candidates::new(self.upstream.remember(addresses, now), self.upstream.preferred.get()))
            }
            (State::Resolving { .. }, Outcome::Failed(fault)) => self.unresolved(ConnectError::Resolve(fault), now),
            (
                State::Connecting { candidates, .. }
                | State::Overdue(Some(candidates))
                | State::Cancelling(Some(candidates)),
                Outcome::Connected(socket),
            ) => {
                self.upstream.preferred.set(candidates.index());
                State::Connected { transport: self.tokens.transport(socket), address: candidates.address().clone() }
            }
            (State::Connecting { candidates, .. }, Outcome::Failed(fault)) => {
                let address = candidates.address().inet();
                self.next(candidates, ConnectError::Refused { address, fault }, now)
            }
            (State::Overdue(None), Outcome::Failed(_) | Outcome::Cancelled) => {
                self.unresolved(ConnectError::ResolveTimedOut, now)
            }
            (State::Overdue(Some(candidates)), Outcome::Failed(_) | Outcome::Cancelled) => {
                let address = candidates.address().inet();
                self.next(candidates, ConnectError::TimedOut(address), now)
            }
            (State::Cancelling(_), Outcome::Resolved(_) | Outcome::Failed(_) | Outcome::Cancelled) => State::Done,
            (state, outcome) => {
                crate::tcp::unexpected("connector", &state, &outcome, self.tokens.of(Slot::Connect));
                state
            }
        };
    }

    /// Submits what is due: a look-up, a connect, the cancel of one that timed out.
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
        if let State::Start = self.state {
            self.state = match self.upstream.resolved_addresses() {
                ResolvedAddresses::Known(addresses) => {
                    State::Next(Candidates::new(addresses, self.upstream.preferred.get()))
                }
                ResolvedAddresses::Unresolved(Name { host, port }) => {
                    let id = ops.submit(self.tokens.of(Slot::Resolve), Op::Resolve { host, port });
                    State::Resolving { id, deadline: self.deadline_from(now) }
                }
            };
        }
        if let State::Next(candidates) = &self.state {
            let candidates = candidates.clone();
            let id = ops.submit(self.tokens.of(Slot::Connect), Op::Connect { address: candidates.address().clone() });
            self.state = State::Connecting { id, deadline: self.deadline_from(now), candidates };
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.state = State::Overdue(self.abort(ops));
        }
    }

    /// Cancels. If the connect succeeds all the same, [`Connector::take`] returns the
    /// transport, to be closed.
    pub fn cancel(&mut self, ops: &mut Ops) {
        match &mut self.state {
            State::Resolving { .. } | State::Connecting { .. } => self.state = State::Cancelling(self.abort(ops)),
            State::Overdue(candidates) => self.state = State::Cancelling(candidates.take()),
            State::Start | State::Next(_) => self.state = State::Done,
            State::Cancelling(_) | State::Connected { .. } | State::Failed(_) | State::Done => {}
        }
    }

    /// Cancels the operation in flight, if there is one. The caller sets the next state.
    fn abort(&mut self, ops: &mut Ops) -> Option<Candidates> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Resolving { id, .. } => {
                ops.cancel(id);
                None
            }
            State::Connecting { id, candidates, .. } => {
                ops.cancel(id);
                Some(candidates)
            }
            State::Start
            | State::Next(_)
            | State::Overdue(_)
            | State::Cancelling(_)
            | State::Connected { .. }
            | State::Failed(_)
            | State::Done => None,
        }
    }

    /// Takes the connection once it is established. Later calls return `None`.
    pub fn take(&mut self) -> Option<(Transport, Address)> {
        let State::Connected { .. } = self.state else { return None };
        match std::mem::replace(&mut self.state, State::Done) {
            State::Connected { transport, address } => Some((transport, address)),
            _ => None,
        }
    }

    /// The error, if it failed.
    pub const fn error(&self) -> Option<ConnectError> {
        match &self.state {
            State::Failed(error) => Some(*error),
            State::Start
            | State::Resolving { .. }
            | State::Next(_)
            | State::Connecting { .. }
            | State::Overdue(_)
            | State::Cancelling(_)
            | State::Connected { .. }
            | State::Done => None,
        }
    }

    /// When the step in flight times out.
    pub const fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Resolving { deadline, .. } | State::Connecting { deadline, .. } => *deadline,
            State::Start
            | State::Next(_)
            | State::Overdue(_)
            | State::Cancelling(_)
            | State::Connected { .. }
            | State::Failed(_)
            | State::Done => None,
        }
    }

    /// Whether nothing is in flight and no transport is left to take.
    pub const fn is_at_rest(&self) -> bool {
        match &self.state {
            State::Start | State::Next(_) | State::Failed(_) | State::Done => true,
            State::Resolving { .. }
            | State::Connecting { .. }
            | State::Overdue(_)
            | State::Cancelling(_)
            | State::Connected { .. } => false,
        }
    }

    /// After a failed look-up: the addresses of an earlier one, or the error.
    fn unresolved(&self, error: ConnectError, now: Time) -> State {
        match self.upstream.keep(&error, now) {
            Some(addresses) => State::Next(Candidates::new(addresses, self.upstream.preferred.get())),
            None => State::Failed(error),
        }
    }

    /// After a failed connect: the next address, or the error.
    fn next(&self, candidates: Candidates, error: ConnectError, now: Time) -> State {
        match candidates.next() {
            Some(candidates) => State::Next(candidates),
            None => {
                if !error.is_shortage() {
                    self.upstream.mark_stale(now);
                }
                State::Failed(error)
            }
        }
    }

    fn deadline_from(&self, now: Time) -> Option<Time> {
        (!self.connect_timeout.is_zero()).then(|| now + self.connect_timeout)
    }
}

impl Candidates {
    fn new(addresses: Rc<[Address]>, first: usize) -> Self {
        Self { addresses, first, excluded: 0 }
    }

    fn index(&self) -> usize {
        (self.first + self.excluded) % self.addresses.len()
    }

    fn address(&self) -> &Address {
        &self.addresses[self.index()]
    }

    /// The next address, if there is one.
    fn next(mut self) -> Option<Self> {
        self.excluded += 1;
        (self.excluded < self.addresses.len()).then_some(self)
    }
}
