//! The receiving half of a connection.
//!
//! ```text
//!            want(true)                want(false)
//!   Idle ───────────────► Receiving ◄───────────────► Paused ──── Broken ───► Broken
//!                            │  │      want(true)      │
//!                            │  │ stop                 │ stop
//!                            │  └────► Stopping ◄──────┘
//!                            │            │   │ Cancelled
//!                            │ Eof, Failed│   └──────────► Idle
//!                            └──► Ended ◄─┘
//! ```
//!
//! It owns the `Recv` subscription. It keeps no bytes: each buffer is passed on at once.

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
    /// No operation in flight.
    Idle,
    /// Bytes are delivered as they arrive.
    Receiving(OpId),
    /// No bytes are wanted at present. A broken connection is still reported.
    Paused(OpId),
    /// The connection broke while it was receiving or paused. Bytes that had arrived can still be
    /// read.
    Broken { id: OpId, errno: u16, is_receiving: bool },
    /// The subscription is being cancelled. Bytes that had arrived are still delivered.
    Stopping(OpId),
    /// No more bytes will arrive.
    Ended(End),
}

/// How the input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has closed its sending side.
    Eof,
    /// The connection broke.
    Failed(Fault),
}

impl Reader {
    /// The receiving half of `socket`. Its operations carry `token`.
    pub const fn new(socket: Socket, token: Token) -> Self {
        Self { socket, token, state: State::Idle, received_bytes: 0 }
    }

    /// Records an outcome. Received bytes are returned.
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
            // The connection is being closed already.
            (State::Stopping(_), Outcome::Broken(_)) => {}
            (State::Stopping(_), Outcome::Cancelled) => self.state = State::Idle,
            (state, outcome) => super::unexpected("reader", &state, &outcome, self.token),
        }
        None
    }

    /// Corrects a false end of input. The kernel reports a reset only once: after a send has got
    /// the report, a receive sees the end of input, though bytes may be missing.
    pub(super) fn on_reset(&mut self, fault: Fault) {
        if self.state == State::Ended(End::Eof) {
            self.state = State::Ended(End::Failed(fault));
        }
    }

    /// Sets whether bytes are wanted. Starts, pauses or resumes the subscription accordingly.
    #[inline]
    pub fn want(&mut self, wanted: bool, ops: &mut Ops) {
        // In nearly all calls nothing changes.
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
            // Wanted again before the cancel has completed: a pump after that submits a new one.
            | (State::Stopping(_) | State::Broken { .. } | State::Ended(_), _) => {}
        }
    }

    /// Cancels the subscription. Neither bytes nor reports of a broken connection are wanted any
    /// more.
    pub fn stop(&mut self, ops: &mut Ops) {
        match self.state {
            State::Receiving(id) | State::Paused(id) | State::Broken { id, .. } => {
                ops.cancel(id);
                self.state = State::Stopping(id);
            }
            State::Idle | State::Stopping(_) | State::Ended(_) => {}
        }
    }

    /// Whether bytes are being delivered and no cancel was requested.
    pub const fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving(_) | State::Broken { is_receiving: true, .. })
    }

    /// Whether nothing is in flight.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Idle | State::Ended(_))
    }

    /// How the input ended, if it has.
    pub const fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            State::Idle | State::Receiving(_) | State::Paused(_) | State::Broken { .. } | State::Stopping(_) => None,
        }
    }

    /// Why nothing more can be sent to the peer, if the connection is known to be broken. Bytes
    /// that the peer sent before may still arrive: keep receiving until [`Reader::end`].
    pub const fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Ended(End::Failed(fault)) => Some(fault),
            State::Broken { errno, .. } => Some(Fault::Os(errno as i32)),
            State::Ended(End::Eof) | State::Idle | State::Receiving(_) | State::Paused(_) | State::Stopping(_) => None,
        }
    }

    /// Whether there is a [`Reader::fault`].
    pub const fn is_broken(&self) -> bool {
        matches!(self.state, State::Ended(End::Failed(_)) | State::Broken { .. })
    }

    /// Bytes received so far.
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }
}

/// The error number, in 16 bits to keep the state small. Linux has fewer than 200 error numbers.
fn errno_of(fault: Fault) -> u16 {
    match fault {
        Fault::Os(errno) | Fault::RootLost(errno) => u16::try_from(errno).unwrap_or(libc::EIO as u16),
        Fault::FileTruncated | Fault::Resolver(_) | Fault::Tls(_) => libc::EIO as u16,
    }
}
