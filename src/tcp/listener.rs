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
//! It owns the `Accept` subscription and hands each connection on. The subscription is for as many as there is room for, and
//! made anew when they have come. It does not know what they are for.

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
    /// The listener failed for good; it only waits to be closed.
    Broken,
    Closing(OpId),
    Closed,
}

impl Listener {
    /// Takes a listening socket; accepts nothing yet.
    pub const fn new(socket: Socket, token: Token) -> Self {
        Self { socket, token, state: State::Idle, closing: false }
    }

    /// Records an outcome; a connection is handed through. A fault ends the listener.
    ///
    /// # Errors
    /// The fault for which this listener accepts no more.
    pub fn on_outcome(&mut self, outcome: Outcome) -> Result<Option<(Socket, Peer)>, Fault> {
        match (self.state, outcome) {
            (State::Accepting(_) | State::Stopping(_), Outcome::Accepted { socket, peer }) => {
                return Ok(Some((socket, peer)));
            }
            (State::Accepting(_) | State::Stopping(_), Outcome::Failed(fault)) => {
                self.state = State::Broken;
                return Err(fault);
            }
            // As many came as were asked for, or it was stopped.
            (State::Accepting(_) | State::Stopping(_), Outcome::Cancelled) => self.state = State::Idle,
            (State::Closing(_), Outcome::Done) => self.state = State::Closed,
            (state, outcome) => super::unexpected("listener", &state, &outcome, self.token),
        }
        Ok(None)
    }

    /// Asks for closing; the pump does it.
    pub const fn close(&mut self) {
        self.closing = true;
    }

    /// Emits what is wanted now: accept while there is room for so many, stop when there is none, close when asked.
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
