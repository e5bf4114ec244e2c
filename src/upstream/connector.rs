//! Brings one connection to an upstream about.
//!
//! ```text
//!           pump             Resolved            Connected
//!   Start ───────► Resolving ─────────► Connecting ───────► Connected ──► (taken)
//!     │               │  │               ▲ │  │ ▲
//!     └─ known ───────┼──┼───────────────┘ │  └─┘ Failed: the next address
//!                     │  │ too long        │ too long
//!                     │  └────► Overdue ◄──┘
//!                     │ Failed     │ its final outcome: the next address, or the end
//!                     ▼            ▼
//!                      Failed(error)
//! ```
//!
//! A look-up that fails is no end where an earlier one has found addresses: they are tried then.
//!
//! Cancelled by its owner, it goes through `Cancelling` to `Done`, or to `Connected` if the cancel lost the race.
//!
//! It does not know what the connection is for.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Upstream;
use super::dns_cache::{Name, ResolvedAddresses};
use crate::driver::{Address, Fault, Op, OpId, Ops, Outcome, Socket, Time, Token};

/// One attempt to reach an upstream, over all of its addresses.
#[derive(Debug)]
pub struct Connector {
    upstream: Rc<Upstream>,
    tokens: ConnectorTokens,
    connect_timeout: Duration,
    state: State,
}

/// The tokens of a connector's two slots.
#[derive(Clone, Copy, Debug)]
pub struct ConnectorTokens {
    /// Outcomes of `Resolve`.
    pub resolve: Token,
    /// Outcomes of `Connect`.
    pub connect: Token,
}

#[derive(Debug)]
enum State {
    Start,
    Resolving {
        id: OpId,
        deadline: Option<Time>,
    },
    /// Not asked yet, or again, for this candidate.
    Next(Candidates),
    Connecting {
        id: OpId,
        deadline: Option<Time>,
        candidates: Candidates,
    },
    /// Took too long and was cancelled; the final outcome may still be a success. Without candidates: the look-up.
    Overdue(Option<Candidates>),
    /// Cancelled since nobody wants the connection any more.
    Cancelling(Option<Candidates>),
    Connected {
        socket: Socket,
        address: Address,
    },
    Failed(ConnectError),
    /// The socket has been handed on, or nobody wants one any more.
    Done,
}

/// The addresses to try, and where among them it stands.
#[derive(Clone, Debug)]
struct Candidates {
    addresses: Rc<[Address]>,
    first: usize,
    excluded: usize,
}

/// Why an upstream could not be reached. Of several addresses, the last one's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be resolved.
    #[error("{0}")]
    Resolve(Fault),
    /// The resolver did not answer in time.
    #[error("the name server did not answer in time")]
    ResolveTimedOut,
    /// The connection was refused, or could not be tried.
    #[error("{}{fault}", AddressPrefix(*address))]
    Refused {
        /// Where; `None`: at the upstream's path.
        address: Option<SocketAddr>,
        /// What the kernel said.
        fault: Fault,
    },
    /// No answer in time, from there; `None`: from the upstream's path, as its server accepts nothing.
    #[error("{}no answer in time", AddressPrefix(*.0))]
    TimedOut(Option<SocketAddr>),
}

impl ConnectError {
    /// Whether this end was short of something, so that the upstream was not even asked.
    pub const fn is_shortage(self) -> bool {
        match self {
            Self::Resolve(fault) | Self::Refused { fault, .. } => fault.is_shortage(),
            Self::ResolveTimedOut | Self::TimedOut(_) => false,
        }
    }
}

/// The beginning of a message. Of a path the upstream's own name tells, and that goes before.
struct AddressPrefix(Option<SocketAddr>);

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| write!(f, "{address}: "))
    }
}

impl Connector {
    /// An attempt that has not begun; `connect_timeout` is for resolving and for each address, zero for none.
    pub const fn new(upstream: Rc<Upstream>, tokens: ConnectorTokens, connect_timeout: Duration) -> Self {
        Self { upstream, tokens, connect_timeout, state: State::Start }
    }

    /// Records an outcome. `now` dates what the resolver said.
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
                State::Connected { socket, address: candidates.address().clone() }
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
                crate::tcp::unexpected("connector", &state, &outcome, self.tokens.connect);
                state
            }
        };
    }

    /// Emits what is wanted now: resolve, connect, give up on what has taken too long.
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
        if let State::Start = self.state {
            self.state = match self.upstream.resolved_addresses() {
                ResolvedAddresses::Known(addresses) => {
                    State::Next(Candidates::new(addresses, self.upstream.preferred.get()))
                }
                ResolvedAddresses::Unresolved(Name { host, port }) => {
                    let id = ops.submit(self.tokens.resolve, Op::Resolve { host, port });
                    State::Resolving { id, deadline: self.deadline_from(now) }
                }
            };
        }
        if let State::Next(candidates) = &self.state {
            let candidates = candidates.clone();
            let id = ops.submit(self.tokens.connect, Op::Connect { address: candidates.address().clone() });
            self.state = State::Connecting { id, deadline: self.deadline_from(now), candidates };
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.state = State::Overdue(self.abort(ops));
        }
    }

    /// Nobody wants the connection any more. If it comes about all the same, [`Connector::take`] gives it, to be closed.
    pub fn cancel(&mut self, ops: &mut Ops) {
        match &mut self.state {
            State::Resolving { .. } | State::Connecting { .. } => self.state = State::Cancelling(self.abort(ops)),
            State::Overdue(candidates) => self.state = State::Cancelling(candidates.take()),
            State::Start | State::Next(_) => self.state = State::Done,
            State::Cancelling(_) | State::Connected { .. } | State::Failed(_) | State::Done => {}
        }
    }

    /// Cancels what is in flight, if anything is; the caller sets the state that follows.
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

    /// Takes the connection, once, when there is one.
    pub fn take(&mut self) -> Option<(Socket, Address)> {
        match &self.state {
            State::Connected { socket, address } => {
                let connected = (*socket, address.clone());
                self.state = State::Done;
                Some(connected)
            }
            State::Start
            | State::Resolving { .. }
            | State::Next(_)
            | State::Connecting { .. }
            | State::Overdue(_)
            | State::Cancelling(_)
            | State::Failed(_)
            | State::Done => None,
        }
    }

    /// Why it failed, if it did.
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

    /// When the step under way will have taken too long.
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

    /// Whether nothing is in flight and no socket waits to be taken.
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

    /// After a look-up's failure: the addresses of an earlier one, or the end.
    fn unresolved(&self, error: ConnectError, now: Time) -> State {
        match self.upstream.keep(&error, now) {
            Some(addresses) => State::Next(Candidates::new(addresses, self.upstream.preferred.get())),
            None => State::Failed(error),
        }
    }

    /// After an address's failure: the next one, or the end.
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
