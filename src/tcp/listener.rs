//! A listening socket.
//!
//! ```text
//!           pump(room)                pump(0)
//!   Idle ─────────────► Accepting ────────────────► Stopping
//!    │ ▲                │ │    │                     │   │
//!    │ └────────────────┴─┼────┼─────────────────────┘   │
//!    │ close   Cancelled  │    │ Failed    Cancelled     │ Failed
//!    ▼                    ▼    ▼                         │
//!   Closing ◄──────── (Accepted) Broken ◄────────────────┘
//!    │ Done
//!    ▼
//!   Closed
//! ```
//!
//! It owns the `Accept` subscription and hands each accepted connection on. A subscription accepts
//! at most `room` connections. When these have come, the next pump submits another. The listener
//! does not know what the connections are for.

use crate::driver::{Fault, Op, OpId, Ops, Outcome, Peer, Socket, Token};

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    token: Token,
    state: State,
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Accepting(OpId),
    Stopping(OpId),
    /// The listener failed for good; it can only be closed.
    Broken,
    Closing(OpId),
    Closed,
}

impl Listener {
    /// A listener on this socket. It accepts nothing before [`Listener::pump`].
    pub const fn new(socket: Socket, token: Token) -> Self {
        Self { socket, token, state: State::Idle, closing: false }
    }

    /// Records an outcome. An accepted connection is returned. A fault ends the listener.
    ///
    /// # Errors
    /// The fault after which this listener accepts no more.
    pub fn on_outcome(&mut self, outcome: Outcome) -> Result<Option<(Socket, Peer)>, Fault> {
        match (self.state, outcome) {
            (State::Accepting(_) | State::Stopping(_), Outcome::Accepted { socket, peer }) => {
                return Ok(Some((socket, peer)));
            }
            (State::Accepting(_) | State::Stopping(_), Outcome::Failed(fault)) => {
                self.state = State::Broken;
                return Err(fault);
            }
            // The requested number of connections has come, or the subscription was cancelled.
            (State::Accepting(_) | State::Stopping(_), Outcome::Cancelled) => self.state = State::Idle,
            (State::Closing(_), Outcome::Done) => self.state = State::Closed,
            (state, outcome) => super::unexpected("listener", &state, &outcome, self.token),
        }
        Ok(None)
    }

    /// Requests closing; the next pump submits it.
    pub const fn close(&mut self) {
        self.closing = true;
    }

    /// Submits what is due: accepts up to `room` connections, stops accepting if `room` is 0,
    /// closes if requested.
    pub fn pump(&mut self, room: u32, ops: &mut Ops) {
        match self.state {
            State::Idle | State::Broken if self.closing => {
                self.state = State::Closing(ops.submit(self.token, Op::Close { socket: self.socket }));
            }
            State::Idle if room > 0 => {
                let op = Op::Accept { listener: self.socket, most: room };
                self.state = State::Accepting(ops.submit(self.token, op));
            }
            State::Accepting(id) if self.closing || room == 0 => {
                ops.cancel(id);
                self.state = State::Stopping(id);
            }
            State::Idle
            | State::Accepting(_)
            | State::Stopping(_)
            | State::Broken
            | State::Closing(_)
            | State::Closed => {}
        }
    }

    /// Whether the descriptor is closed and nothing is in flight.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}
