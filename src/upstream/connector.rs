//! [`Connector`]: establishes one connection to an upstream.
//!
//! ```text
//!           pump             Resolved            Connected
//!   Start ───────► Resolving ─────────► Connecting ─┬─────► Connected ──► (taken)
//!     │               │  │               ▲ │  │ ▲   │ over TLS  ▲
//!     └─ known ───────┼──┼───────────────┘ │  └─┘   └► Securing─┘ handshake complete
//!                     │  │ timed out       │ Failed:      │ failed, timed out
//!                     │  └────► Overdue ◄──┘ the next     ▼
//!                     │ Failed     │         address   Dropping: the next address, or the end
//!                     ▼            ▼ its final outcome: the next address, or the end
//!                      Failed(error)
//! ```
//!
//! If a look-up fails, the addresses of an earlier one are tried, if there are any.
//!
//! When its owner cancels it, it goes through `Cancelling` or `Leaving` to `Done`, or to `Connected` if the cancel
//! lost the race.
//!
//! A TLS connection that fails behind its handshake counts as established if plaintext came before the failure: it is chance
//! whether all of that arrives at once, and what was sent has to be passed on in any case.
//!
//! A preamble, such as a PROXY protocol header, is sent in plain text before TLS begins. It yields a
//! [`Transport`], and does not know what the connection is for.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::dns_cache::{Name, ResolvedAddresses};
use super::outbound::Slot;
use super::{OutboundTokens, Upstream};
use crate::buffer::{Buffer, Chunk};
use crate::driver::{Address, Fault, Op, OpId, Ops, Outcome, Socket, Time, TlsFault, Token};
use crate::tcp::{CloseKind, End};
#[cfg(feature = "internals")]
use crate::tls::planted_bug::{self, TlsBug};
use crate::tls::{Handshake, TlsPeer};
use crate::transport::Transport;

/// One attempt to connect to an upstream, over all of its addresses.
#[derive(Debug)]
pub struct Connector {
    upstream: Rc<Upstream>,
    tokens: OutboundTokens,
    connect_timeout: Duration,
    /// What precedes TLS.
    preamble: Option<Chunk>,
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
    /// The TLS handshake.
    Securing {
        /// In plain text until the preamble is sent, if there is one.
        transport: Transport,
        deadline: Option<Time>,
        candidates: Candidates,
        /// What arrived right behind the handshake.
        received: Vec<Buffer>,
    },
    /// The handshake failed with this error; the connection is being closed.
    Dropping {
        transport: Transport,
        candidates: Candidates,
        error: ConnectError,
    },
    /// Cancelled by the owner during the handshake; the connection is being closed.
    Leaving(Transport),
    Connected(Connected),
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

/// An established connection.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub transport: Transport,
    /// The peer's address.
    pub address: Address,
    /// What has already arrived on it, decrypted.
    pub received: Vec<Buffer>,
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
    /// The TLS handshake with this address failed.
    #[error("{}TLS: {fault}", AddressPrefix(*address))]
    Tls {
        /// The address; `None`: the upstream is a unix socket.
        address: Option<SocketAddr>,
        /// Why.
        fault: TlsFault,
    },
}

impl ConnectError {
    /// Whether this host lacked a resource, such as a descriptor, so that no connect was sent.
    pub const fn is_shortage(self) -> bool {
        match self {
            Self::Resolve(fault) | Self::Refused { fault, .. } => fault.is_shortage(),
            Self::ResolveTimedOut | Self::TimedOut(_) | Self::Tls { .. } => false,
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
    /// zero: no limit. `preamble`: what is sent before TLS begins. It is not sent to an upstream in plain
    /// text, to which its owner can send it together with the first bytes.
    pub const fn new(
        upstream: Rc<Upstream>,
        tokens: OutboundTokens,
        connect_timeout: Duration,
        preamble: Option<Chunk>,
    ) -> Self {
        Self { upstream, tokens, connect_timeout, preamble, state: State::Start }
    }

    /// Records an outcome. `now` is the time of the look-up.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        if let State::Securing { transport, .. } | State::Dropping { transport, .. } | State::Leaving(transport) =
            &mut self.state
        {
            OutboundTokens::record(transport, token, outcome);
            return;
        }
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
                self.connected(socket, candidates, now)
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
        if let State::Securing { .. } = self.state {
            self.begin_tls(ops);
            self.secure(now, ops);
        } else if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.state = State::Overdue(self.abort(ops));
        }
        if let State::Dropping { transport, .. } = &mut self.state {
            transport.close(CloseKind::Fin, ops);
            if transport.is_closed()
                && let State::Dropping { candidates, error, .. } = std::mem::replace(&mut self.state, State::Done)
            {
                self.state = self.next(candidates, error, now);
                if let State::Next(_) = self.state {
                    self.pump(now, ops);
                }
            }
        }
    }

    /// A connected socket: the connection, or the beginning of its TLS handshake.
    fn connected(&self, socket: Socket, candidates: Candidates, now: Time) -> State {
        let address = candidates.address().clone();
        if !self.upstream.address.is_tls() {
            let transport = self.tokens.transport(socket);
            return State::Connected(Connected { transport, address, received: Vec::new() });
        }
        let preamble = self.preamble.as_ref();
        #[cfg(feature = "internals")]
        let preamble = preamble.filter(|_| !planted_bug::strikes(TlsBug::NoPreamble));
        let secured = match (&self.upstream.tls, preamble) {
            (Some(peer), None) => self.tokens.tls_transport(socket, peer),
            (Some(_), Some(_)) => Ok(self.tokens.transport(socket)),
            // Never in plain text.
            (None, _) => Err(TlsFault::Internal),
        };
        match secured {
            Ok(transport) => {
                let deadline = self.deadline_from(now);
                State::Securing { transport, deadline, candidates, received: Vec::new() }
            }
            Err(fault) => {
                let error = ConnectError::Tls { address: address.inet(), fault };
                State::Dropping { transport: self.tokens.transport(socket), candidates, error }
            }
        }
    }

    /// Sends the preamble and begins TLS behind it, once.
    fn begin_tls(&mut self, ops: &mut Ops) {
        let State::Securing { transport, .. } = &mut self.state else { return };
        let (Some(preamble), Some(peer)) = (&self.preamble, &self.upstream.tls) else { return };
        if transport.is_encrypted() {
            return;
        }
        transport.send(preamble.clone().into(), ops);
        let TlsPeer { config, server_name } = peer;
        if let Err(fault) = transport.begin_tls_client(Arc::clone(config), server_name.clone())
            && let State::Securing { transport, candidates, .. } = std::mem::replace(&mut self.state, State::Done)
        {
            let error = ConnectError::Tls { address: candidates.address().inet(), fault };
            self.state = State::Dropping { transport, candidates, error };
        }
    }

    /// Advances the TLS handshake.
    fn secure(&mut self, now: Time, ops: &mut Ops) {
        let State::Securing { transport, deadline, candidates, received } = &mut self.state else { return };
        transport.set_receiving(true, ops);
        while let Some(buffer) = transport.take_received() {
            received.push(buffer);
        }
        transport.pump(now, ops);
        let address = candidates.address().inet();
        let fault = match transport.handshake() {
            Some(Handshake::Done(info)) => {
                tracing::debug!(
                    upstream = %self.upstream.address(),
                    version = info.version,
                    cipher = info.cipher_suite,
                    is_resumed = info.is_resumed,
                    "TLS handshake complete"
                );
                None
            }
            // Plaintext follows a complete handshake only: TLS has failed since. What the upstream sent before that is passed
            // on, and the user of the connection finds the fault behind it.
            Some(Handshake::Failed(_)) if !received.is_empty() || transport.input_end().is_none() => None,
            Some(Handshake::Failed(fault)) => Some(ConnectError::Tls { address, fault }),
            Some(Handshake::InProgress) | None => match transport.input_end() {
                Some(End::Failed(fault @ Fault::Os(_))) => Some(ConnectError::Refused { address, fault }),
                Some(_) => Some(ConnectError::Tls { address, fault: TlsFault::Abandoned }),
                None if deadline.is_some_and(|deadline| deadline <= now) => {
                    Some(ConnectError::Tls { address, fault: TlsFault::TooSlow })
                }
                None => return,
            },
        };
        if let State::Securing { transport, candidates, received, .. } = std::mem::replace(&mut self.state, State::Done)
        {
            self.state = match fault {
                Some(error) => State::Dropping { transport, candidates, error },
                None => State::Connected(Connected { transport, address: candidates.address().clone(), received }),
            };
        }
    }

    /// Cancels. If the connect succeeds all the same, [`Connector::take`] returns the
    /// transport, to be closed.
    pub fn cancel(&mut self, ops: &mut Ops) {
        match &mut self.state {
            State::Resolving { .. } | State::Connecting { .. } => self.state = State::Cancelling(self.abort(ops)),
            State::Overdue(candidates) => self.state = State::Cancelling(candidates.take()),
            State::Start | State::Next(_) => self.state = State::Done,
            State::Securing { .. } | State::Dropping { .. } => {
                if let State::Securing { transport, .. } | State::Dropping { transport, .. } =
                    std::mem::replace(&mut self.state, State::Done)
                {
                    self.state = State::Leaving(transport);
                }
            }
            State::Leaving(_) | State::Cancelling(_) | State::Connected(_) | State::Failed(_) | State::Done => {}
        }
        if let State::Leaving(transport) = &mut self.state {
            transport.close(CloseKind::Fin, ops);
            if transport.is_closed() {
                self.state = State::Done;
            }
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
            | State::Securing { .. }
            | State::Dropping { .. }
            | State::Leaving(_)
            | State::Connected(_)
            | State::Failed(_)
            | State::Done => None,
        }
    }

    /// Takes the connection once it is established. Later calls return `None`.
    pub fn take(&mut self) -> Option<Connected> {
        let State::Connected(_) = self.state else { return None };
        match std::mem::replace(&mut self.state, State::Done) {
            State::Connected(connected) => Some(connected),
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
            | State::Securing { .. }
            | State::Dropping { .. }
            | State::Leaving(_)
            | State::Connected(_)
            | State::Done => None,
        }
    }

    /// When the step in flight times out.
    pub const fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Resolving { deadline, .. }
            | State::Connecting { deadline, .. }
            | State::Securing { deadline, .. } => *deadline,
            State::Start
            | State::Next(_)
            | State::Overdue(_)
            | State::Cancelling(_)
            | State::Dropping { .. }
            | State::Leaving(_)
            | State::Connected(_)
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
            | State::Securing { .. }
            | State::Dropping { .. }
            | State::Leaving(_)
            | State::Connected(_) => false,
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
