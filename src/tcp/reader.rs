//! The receiving half of a connection.
//!
//! ```text
//!            want(true)                want(false)
//!   Idle ───────────────► Receiving ◄───────────────► Paused ──── Broken ───► (told so)
//!                            │  │      want(true)      │
//!                            │  │ stop                 │ stop
//!                            │  └────► Stopping ◄──────┘
//!                            │            │   │ Cancelled
//!                            │ Eof, Failed│   └──────────► Idle
//!                            └──► Ended ◄─┘
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
    /// None are wanted now; should the connection break, that is told.
    Paused(OpId),
    /// The connection broke while nothing was wanted. What had arrived is still there.
    Broken { id: OpId, errno: u16, is_receiving: bool },
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
            (State::Idle | State::Ended(_), outcome) => {
                super::unexpected("reader", &self.state, &outcome, self.token);
            }
            (_, Outcome::Received(buffer)) => {
                self.received_bytes += buffer.len() as u64;
                return Some(buffer);
            }
            (State::Broken { errno, .. }, Outcome::Eof) if i32::from(errno) != libc::EPIPE => {
                self.state = State::Ended(End::Failed(Fault::Os(errno.into())));
            }
            (_, Outcome::Eof) => self.state = State::Ended(End::Eof),
            (_, Outcome::Failed(fault)) => self.state = State::Ended(End::Failed(fault)),
            (State::Receiving(id) | State::Paused(id), Outcome::Broken(fault)) => {
                let is_receiving = self.is_receiving();
                self.state = State::Broken { id, errno: errno_of(fault), is_receiving };
            }
            // It is being closed.
            (State::Stopping(_), Outcome::Broken(_)) => {}
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

    /// Says whether bytes are wanted; starts, pauses or resumes the subscription accordingly.
    #[inline]
    pub fn want(&mut self, wanted: bool, ops: &mut Ops) {
        // Nearly always nothing changes.
        if !(wanted && matches!(self.state, State::Receiving(_))) {
            self.change(wanted, ops);
        }
    }

    fn change(&mut self, wanted: bool, ops: &mut Ops) {
        match (self.state, wanted) {
            (State::Idle, true) => {
                self.state = State::Receiving(ops.submit(self.token, Op::Recv { socket: self.socket }));
            }
            (State::Receiving(id), false) => {
                ops.pause(id);
                self.state = State::Paused(id);
            }
            (State::Paused(id), true) => {
                ops.resume(id);
                self.state = State::Receiving(id);
            }
            (State::Broken { id, errno, is_receiving }, _) if is_receiving != wanted => {
                if wanted { ops.resume(id) } else { ops.pause(id) }
                self.state = State::Broken { id, errno, is_receiving: wanted };
            }
            (State::Idle | State::Paused(_), false)
            | (State::Receiving(_), true)
            // Wanted again before the stop came through: the pump will ask anew when it has.
            | (State::Stopping(_) | State::Broken { .. } | State::Ended(_), _) => {}
        }
    }

    /// Ends the subscription: nothing is wanted any more, no news of the connection either.
    pub fn stop(&mut self, ops: &mut Ops) {
        match self.state {
            State::Receiving(id) | State::Paused(id) | State::Broken { id, .. } => {
                ops.cancel(id);
                self.state = State::Stopping(id);
            }
            State::Idle | State::Stopping(_) | State::Ended(_) => {}
        }
    }

    /// Whether bytes are being delivered and no stop was asked for.
    pub const fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving(_) | State::Broken { is_receiving: true, .. })
    }

    /// Whether nothing is in flight.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Idle | State::Ended(_))
    }

    /// How the incoming bytes ended, if they have.
    pub const fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            State::Idle | State::Receiving(_) | State::Paused(_) | State::Broken { .. } | State::Stopping(_) => None,
        }
    }

    /// Why nothing can be sent to the peer any more, if the connection is known to be broken. What it had sent before may
    /// still be there: until [`Reader::end`] it is worth receiving.
    pub const fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Ended(End::Failed(fault)) => Some(fault),
            State::Broken { errno, .. } => Some(Fault::Os(errno as i32)),
            State::Ended(End::Eof) | State::Idle | State::Receiving(_) | State::Paused(_) | State::Stopping(_) => None,
        }
    }

    /// Bytes received so far.
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }
}

/// The system's code; there are some hundred of them.
fn errno_of(fault: Fault) -> u16 {
    match fault {
        Fault::Os(errno) | Fault::RootLost(errno) => u16::try_from(errno).unwrap_or(libc::EIO as u16),
        Fault::FileTruncated | Fault::Resolver(_) => libc::EIO as u16,
    }
}
