//! [`OutboundConnection`]: one connection that this program makes, from the look-up of the name to
//! the close of the descriptor.
//!
//! ```text
//!              connected            close
//!   Connecting ─────────► Open ───────────────► Closing ───► Closed
//!     │  │ close                                  ▲            ▲
//!     │  └──► Abandoned ── connected all the same ┘            │
//!     │           └── cancelled ───────────────────────────────┘
//!     └── no address ──► Failed
//! ```
//!
//! It joins a [`Connector`] and a [`Transport`], and is what every outbound session is built on. It
//! does not know what the bytes mean, nor why it is closed. The connections that requests share have
//! an owner and an idle state besides: [`super::UpstreamPool`].

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{ConnectError, Connected, Connector, Upstream};
use crate::buffer::{Buffer, Chunk};
use crate::driver::{Ops, Outcome, Socket, Time, TlsFault, Token};
use crate::table::RawKey;
use crate::tcp::{CloseKind, ConnectionTokens};
use crate::tls::TlsPeer;
use crate::transport::Transport;

/// One outbound connection.
#[derive(Debug)]
pub struct OutboundConnection {
    state: State,
    /// What arrived right behind the TLS handshake.
    received: VecDeque<Buffer>,
}

/// The tokens of a connection's operations: those of one state machine and kind, in slots 0 to 4.
#[derive(Clone, Copy, Debug)]
pub struct OutboundTokens {
    /// The key of the owner.
    pub machine: RawKey,
    /// The owner's kind.
    pub kind: u8,
}

#[derive(Debug)]
enum State {
    Connecting(Connector),
    Open(Transport),
    /// Its owner has closed it before it was connected.
    Abandoned(Connector),
    Closing(Transport, CloseKind),
    Failed(ConnectError),
    Closed,
}

/// The slots of an outbound connection's operations.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Slot {
    Resolve,
    Connect,
    Recv,
    Send,
    Close,
}

impl OutboundConnection {
    /// A connection that has not begun. `connect_timeout` is for the look-up and for each address;
    /// zero: no limit.
    pub fn new(upstream: Rc<Upstream>, tokens: OutboundTokens, connect_timeout: Duration) -> Self {
        Self::with_preamble(upstream, tokens, connect_timeout, None)
    }

    /// The same with a preamble before TLS, see [`Connector::new`].
    pub fn with_preamble(
        upstream: Rc<Upstream>,
        tokens: OutboundTokens,
        connect_timeout: Duration,
        preamble: Option<Chunk>,
    ) -> Self {
        let connector = Connector::new(upstream, tokens, connect_timeout, preamble);
        Self { state: State::Connecting(connector), received: VecDeque::new() }
    }

    /// Records an outcome. Received bytes are returned, unless they have to be decrypted first: see
    /// [`OutboundConnection::take_received`].
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) -> Option<Buffer> {
        match &mut self.state {
            State::Connecting(connector) | State::Abandoned(connector) => connector.on_outcome(token, outcome, now),
            State::Open(transport) | State::Closing(transport, _) => {
                return OutboundTokens::record(transport, token, outcome);
            }
            state @ (State::Failed(_) | State::Closed) => {
                crate::tcp::unexpected("outbound connection", state, &outcome, token);
            }
        }
        None
    }

    /// Advances connecting, or closing once it has begun.
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
        if let State::Connecting(connector) = &mut self.state {
            connector.pump(now, ops);
            if let Some(error) = connector.error() {
                self.state = State::Failed(error);
            } else if let Some(Connected { transport, received, .. }) = connector.take() {
                self.state = State::Open(transport);
                self.received = received.into();
            }
        }
        if let State::Open(transport) = &mut self.state {
            transport.pump(now, ops);
        }
        if let State::Abandoned(connector) = &mut self.state {
            connector.cancel(ops);
            match connector.take() {
                Some(Connected { transport, .. }) => self.state = State::Closing(transport, CloseKind::Fin),
                None if connector.is_at_rest() => self.state = State::Closed,
                None => {}
            }
        }
        if let State::Closing(transport, close_kind) = &mut self.state {
            transport.close(*close_kind, ops);
            if transport.is_closed() {
                self.state = State::Closed;
            }
        }
    }

    /// Closes it, in any state; the next [`OutboundConnection::pump`] acts on it. A later
    /// [`CloseKind::Reset`] ends the wait of an earlier [`CloseKind::FlushReset`].
    pub fn close(&mut self, close_kind: CloseKind) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Connecting(connector) => State::Abandoned(connector),
            State::Open(transport) | State::Closing(transport, _) => State::Closing(transport, close_kind),
            state @ (State::Abandoned(_) | State::Failed(_) | State::Closed) => state,
        };
    }

    /// The next received bytes that had to be decrypted. Call it after each pump, until it returns
    /// `None`.
    pub fn take_received(&mut self) -> Option<Buffer> {
        let State::Open(transport) = &mut self.state else { return None };
        self.received.pop_front().or_else(|| transport.take_received())
    }

    /// The transport, while it is connected and not closing.
    pub const fn transport(&mut self) -> Option<&mut Transport> {
        match &mut self.state {
            State::Open(transport) => Some(transport),
            State::Connecting(_) | State::Abandoned(_) | State::Closing(..) | State::Failed(_) | State::Closed => None,
        }
    }

    /// Why it could not be established.
    pub const fn error(&self) -> Option<ConnectError> {
        match &self.state {
            State::Failed(error) => Some(*error),
            State::Connecting(_) | State::Open(_) | State::Abandoned(_) | State::Closing(..) | State::Closed => None,
        }
    }

    /// When the current step of connecting times out.
    pub fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Connecting(connector) => connector.deadline(),
            State::Open(transport) => transport.deadline(),
            State::Abandoned(_) | State::Closing(..) | State::Failed(_) | State::Closed => None,
        }
    }

    /// Whether nothing is open and nothing in flight, and nothing will be.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Closed)
    }
}

impl OutboundTokens {
    /// The token of this slot.
    pub(super) const fn of(self, slot: Slot) -> Token {
        Token { machine: self.machine, kind: self.kind, slot: slot as u8 }
    }

    /// The transport over a socket that was connected.
    pub(super) const fn transport(self, socket: Socket) -> Transport {
        Transport::plain(socket, self.connection())
    }

    /// The same over TLS.
    pub(super) fn tls_transport(self, socket: Socket, peer: &TlsPeer) -> Result<Transport, TlsFault> {
        let TlsPeer { config, server_name } = peer;
        Transport::tls_client(socket, self.connection(), Arc::clone(config), server_name.clone())
    }

    const fn connection(self) -> ConnectionTokens {
        ConnectionTokens { recv: self.of(Slot::Recv), send: self.of(Slot::Send), close: self.of(Slot::Close) }
    }

    /// Records an outcome of the transport. Received bytes are returned, as by
    /// [`Transport::on_received`].
    pub(super) fn record(transport: &mut Transport, token: Token, outcome: Outcome) -> Option<Buffer> {
        if token.slot == Slot::Recv as u8 {
            return transport.on_received(outcome);
        }
        if token.slot == Slot::Send as u8 {
            transport.on_sent(outcome);
        } else {
            transport.on_closed(outcome);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::driver::Driver;
    use crate::driver::sim::{Behaviour, Faults, Sim};

    const TOKENS: OutboundTokens = OutboundTokens { machine: RawKey::from_parts(7, 0), kind: 9 };
    const TIMEOUT: Duration = Duration::from_secs(5);

    struct Rig {
        sim: Sim,
        ops: Ops,
        connection: OutboundConnection,
        received: Vec<u8>,
    }

    impl Rig {
        fn new(seed: u64, behaviour: Behaviour) -> Self {
            let mut sim = Sim::new(seed, Faults::none());
            let address: SocketAddr = ([10, 0, 0, 1], 80).into();
            sim.upstream(address, behaviour);
            let upstream = Upstream::new(address.to_string().parse().unwrap(), None);
            let connection = OutboundConnection::new(upstream, TOKENS, TIMEOUT);
            Self { sim, ops: Ops::new(), connection, received: Vec::new() }
        }

        /// Pumps, then takes one turn.
        fn turn(&mut self) {
            self.connection.pump(self.sim.now(), &mut self.ops);
            let mut done = Vec::new();
            let wait = self.connection.deadline().map(|deadline| deadline.since(self.sim.now()));
            self.sim.turn(&mut self.ops, wait, &mut done).unwrap();
            for completion in done {
                let token = self.ops.settle(completion.id, completion.outcome.is_final()).unwrap();
                assert_eq!((token.machine, token.kind), (TOKENS.machine, TOKENS.kind));
                if let Some(buffer) = self.connection.on_outcome(token, completion.outcome, self.sim.now()) {
                    self.received.extend_from_slice(&buffer);
                }
            }
            self.connection.pump(self.sim.now(), &mut self.ops);
        }

        #[track_caller]
        fn until(&mut self, is_so: impl Fn(&mut Self) -> bool) {
            let mut turns = 0;
            while !is_so(self) {
                self.turn();
                turns += 1;
                assert!(turns < 1000, "{:?}", self.connection);
            }
        }

        #[track_caller]
        fn close(mut self, close_kind: CloseKind) {
            self.connection.close(close_kind);
            self.until(|rig| rig.connection.is_closed());
            assert_eq!((self.ops.in_flight(), self.sim.open_descriptors()), (0, 0));
        }
    }

    #[test]
    fn it_connects_carries_bytes_and_closes() {
        for close_kind in [CloseKind::Fin, CloseKind::FlushReset, CloseKind::Reset] {
            let mut rig = Rig::new(1, Behaviour::echo());
            rig.until(|rig| rig.connection.transport().is_some());
            let transport = rig.connection.transport().unwrap();
            transport.send((&b"there and back"[..]).into(), &mut rig.ops);
            transport.set_receiving(true, &mut rig.ops);
            rig.until(|rig| rig.received == b"there and back");
            rig.close(close_kind);
        }
    }

    #[test]
    fn closed_at_any_moment_it_leaves_nothing_behind() {
        for seed in 0..200 {
            for turns in 0..4 {
                let mut rig = Rig::new(seed, Behaviour::greet(vec![b'x'; 100]));
                (0..turns).for_each(|_| rig.turn());
                rig.close(CloseKind::Fin);
            }
        }
    }

    #[test]
    fn a_refused_connection_has_failed_and_needs_no_close() {
        let mut rig = Rig::new(1, Behaviour::Refuse);
        rig.until(|rig| rig.connection.is_closed());
        assert!(matches!(rig.connection.error(), Some(ConnectError::Refused { .. })), "{:?}", rig.connection);
        assert_eq!((rig.ops.in_flight(), rig.sim.open_descriptors()), (0, 0));
    }

    #[test]
    fn a_connect_without_an_answer_times_out() {
        let mut rig = Rig::new(1, Behaviour::Vanish);
        rig.until(|rig| rig.connection.is_closed());
        assert!(matches!(rig.connection.error(), Some(ConnectError::TimedOut(_))), "{:?}", rig.connection);
        assert!(rig.sim.now().since(Time::ZERO) >= TIMEOUT);
    }
}
