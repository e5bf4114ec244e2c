//! The receiving half of a connection.
//!
//! ```text
//!            want(true)                want(false)
//!   Idle ───────────────► Receiving ───────────────► Stopping
//!    ▲                     │     │                    │    │
//!    │                     │     │ Eof, Failed        │    │ Eof, Failed
//!    │                     ▼     ▼                    │    ▼
//!    │                 (Received) Ended ◄─────────────┼────┘
//!    └────────────────────────────────────────────────┘ Cancelled
//! ```
//!
//! It owns the `Recv` subscription. It does not keep bytes: each buffer is handed on at once.

use crate::buffer::Buffer;
use crate::driver::{Fault, Op, OpId, Ops, Outcome, Socket, Token};

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Reader {
    pub(super) socket: Socket,
    pub(super) token: Token,
    state: State,
    received_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is asked of the driver.
    Idle,
    /// Bytes are delivered as they come.
    Receiving(OpId),
    /// Asked to stop; what had arrived is still delivered.
    Stopping(OpId),
    /// Nothing will ever arrive any more.
    Ended(End),
}

/// How the incoming bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer said that it is done.
    Eof,
    /// The connection broke.
    Failed(Fault),
}

impl Reader {
    /// The receiving half of `socket`; its outcomes will carry `token`.
    pub const fn new(socket: Socket, token: Token) -> Self {
        Self { socket, token, state: State::Idle, received_bytes: 0 }
    }

    /// Records an outcome; bytes are handed through.
    pub fn on_outcome(&mut self, outcome: Outcome) -> Option<Buffer> {
        match (self.state, outcome) {
            (State::Receiving(_) | State::Stopping(_), Outcome::Received(buffer)) => {
                self.received_bytes += buffer.len() as u64;
                return Some(buffer);
            }
            (State::Receiving(_) | State::Stopping(_), Outcome::Eof) => self.state = State::Ended(End::Eof),
            (State::Receiving(_) | State::Stopping(_), Outcome::Failed(fault)) => {
                self.state = State::Ended(End::Failed(fault));
            }
            (State::Stopping(_), Outcome::Cancelled) => self.state = State::Idle,
            (state, outcome) => super::unexpected("reader", &state, &outcome, self.token),
        }
        None
    }

    /// Corrects an end of input. The kernel tells of a reset only once: when a send has heard of it, a
    /// receive is told that the input ended, though bytes may be missing.
    pub(super) fn on_reset(&mut self, fault: Fault) {
        if self.state == State::Ended(End::Eof) {
            self.state = State::Ended(End::Failed(fault));
        }
    }

    /// Says whether bytes are wanted; starts or stops the subscription accordingly.
    pub fn want(&mut self, wanted: bool, ops: &mut Ops) {
        match (self.state, wanted) {
            (State::Idle, true) => {
                self.state = State::Receiving(ops.submit(self.token, Op::Recv { socket: self.socket }));
            }
            (State::Receiving(id), false) => {
                ops.cancel(id);
                self.state = State::Stopping(id);
            }
            (State::Idle, false)
            | (State::Receiving(_), true)
            // Wanted again before the stop came through: the pump will ask anew when it has.
            | (State::Stopping(_), _)
            | (State::Ended(_), _) => {}
        }
    }

    /// Whether bytes are being delivered and no stop was asked for.
    pub const fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving(_))
    }

    /// Whether nothing is in flight.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Idle | State::Ended(_))
    }

    /// How the incoming bytes ended, if they have.
    pub const fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            State::Idle | State::Receiving(_) | State::Stopping(_) => None,
        }
    }

    /// Bytes received so far.
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }
}
