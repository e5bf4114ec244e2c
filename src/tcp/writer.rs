//! The sending half of a connection.
//!
//! ```text
//!          send, send_file             Sent
//!   Idle ───────────────────► Sending ──────► Idle
//!    │  │                        │
//!    │  │ finish                 │ Failed, Cancelled
//!    │  ▼           Done         ▼
//!    │ Finishing ─────► Finished  Failed
//!    │     └──────────────│──────▲▲ Failed, Cancelled
//!    │ flush              │ flush│
//!    └────────► Flushing ◄┘ ─────┘
//!                  └─► Flushed: the peer has all of it
//! ```
//!
//! It owns the one `Send`, `SendFile`, `Shutdown` or `Flush` in flight. It does not queue: who wants to send
//! keeps the bytes until the writer is idle.

use crate::buffer::Chain;
use crate::driver::{Fault, File, Op, OpId, Ops, Outcome, Socket, Token};

/// The sending half of a connection.
#[derive(Debug)]
pub struct Writer {
    socket: Socket,
    token: Token,
    state: State,
    sent_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ready for the next bytes.
    Idle,
    /// These are on their way.
    Sending { id: OpId, left_bytes: u64 },
    /// The end is on its way.
    Finishing(OpId),
    /// The peer was told that nothing more will come.
    Finished,
    /// What was sent is on its way to the peer.
    Flushing(OpId),
    /// The peer's kernel has all of it.
    Flushed,
    /// Sending is over: the connection broke, or what was being sent was cancelled. So much was not sent.
    Failed { fault: Fault, left_bytes: u64 },
}

impl Writer {
    /// The sending half of `socket`; its outcomes will carry `token`.
    pub const fn new(socket: Socket, token: Token) -> Self {
        Self { socket, token, state: State::Idle, sent_bytes: 0 }
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, outcome: Outcome) {
        match (self.state, outcome) {
            (State::Sending { id, left_bytes }, Outcome::Progress(bytes)) => {
                debug_assert!(bytes < left_bytes, "progress of {bytes} with {left_bytes} left");
                self.sent_bytes += bytes;
                self.state = State::Sending { id, left_bytes: left_bytes.saturating_sub(bytes) };
            }
            (State::Sending { left_bytes, .. }, Outcome::Sent) => {
                self.sent_bytes += left_bytes;
                self.state = State::Idle;
            }
            (State::Sending { left_bytes, .. }, Outcome::Cancelled) => {
                self.state = State::Failed { fault: Fault::Os(libc::ECANCELED), left_bytes };
            }
            (State::Finishing(_), Outcome::Done) => self.state = State::Finished,
            (State::Sending { left_bytes, .. }, Outcome::Failed(fault)) => {
                self.state = State::Failed { fault, left_bytes };
            }
            (State::Flushing(_), Outcome::Progress(_)) => {}
            (State::Flushing(_), Outcome::Done) => self.state = State::Flushed,
            (State::Flushing(_), Outcome::Cancelled) => {
                self.state = State::Failed { fault: Fault::Os(libc::ECANCELED), left_bytes: 0 };
            }
            (State::Finishing(_) | State::Flushing(_), Outcome::Failed(fault)) => {
                self.state = State::Failed { fault, left_bytes: 0 }
            }
            (state, outcome) => super::unexpected("writer", &state, &outcome, self.token),
        }
    }

    /// Sends bytes. The writer is idle; the chain is not empty.
    pub fn send(&mut self, chain: Chain, ops: &mut Ops) {
        let left_bytes = chain.len() as u64;
        self.start(left_bytes, Op::Send { socket: self.socket, chain }, ops);
    }

    /// Sends some bytes, perhaps none, and then a range of a file. The writer is idle; the range is not empty.
    pub fn send_file(&mut self, head: Chain, file: File, offset: u64, length: u64, ops: &mut Ops) {
        let left_bytes = head.len() as u64 + length;
        self.start(left_bytes, Op::SendFile { socket: self.socket, head, file, offset, length }, ops);
    }

    fn start(&mut self, left_bytes: u64, op: Op, ops: &mut Ops) {
        debug_assert!(self.is_idle() && left_bytes > 0, "{op:?} while {:?}", self.state);
        self.state = State::Sending { id: ops.submit(self.token, op), left_bytes };
    }

    /// Tells the peer that nothing more will come. The writer is idle, or the file that it sent was too short.
    pub fn finish(&mut self, ops: &mut Ops) {
        debug_assert!(self.is_idle() || self.lacks_file(), "finish while {:?}", self.state);
        self.state = State::Finishing(ops.submit(self.token, Op::Shutdown { socket: self.socket }));
    }

    /// Whether it failed for want of a file's bytes: the connection itself stands.
    pub const fn lacks_file(&self) -> bool {
        matches!(self.state, State::Failed { fault: Fault::FileTruncated, .. })
    }

    /// Waits until the peer has what was sent, if that can be told.
    pub(super) fn flush(&mut self, ops: &mut Ops) {
        if self.is_idle() || self.is_finished() || self.lacks_file() {
            self.state = State::Flushing(ops.submit(self.token, Op::Flush { socket: self.socket }));
        }
    }

    /// Whether that is over, whichever way.
    pub(super) const fn is_done_flushing(&self) -> bool {
        match self.state {
            State::Flushed => true,
            State::Failed { fault, .. } => !matches!(fault, Fault::FileTruncated),
            State::Idle | State::Sending { .. } | State::Finishing(_) | State::Flushing(_) | State::Finished => false,
        }
    }

    /// Gives up what is being sent. To be asked once, when the connection closes.
    pub(super) fn cancel(&self, ops: &mut Ops) {
        match self.state {
            State::Sending { id, .. } | State::Finishing(id) | State::Flushing(id) => ops.cancel(id),
            State::Idle | State::Flushed | State::Finished | State::Failed { .. } => {}
        }
    }

    /// Whether the next bytes can be sent.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether bytes are on their way.
    pub const fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// Whether the peer was told that nothing more will come.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Whether nothing is in flight.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Idle | State::Finished | State::Flushed | State::Failed { .. })
    }

    /// Why nothing can be sent any more, if the connection broke.
    pub const fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Failed { fault, .. } => Some(fault),
            State::Idle
            | State::Sending { .. }
            | State::Finishing(_)
            | State::Finished
            | State::Flushing(_)
            | State::Flushed => None,
        }
    }

    /// Bytes it was given so far.
    pub const fn given_bytes(&self) -> u64 {
        self.sent_bytes + self.unsent_bytes()
    }

    /// Bytes it was given that the kernel has not taken, and if it broke never will.
    pub const fn unsent_bytes(&self) -> u64 {
        match self.state {
            State::Sending { left_bytes, .. } | State::Failed { left_bytes, .. } => left_bytes,
            State::Idle | State::Finishing(_) | State::Finished | State::Flushing(_) | State::Flushed => 0,
        }
    }

    /// Bytes the kernel has taken so far.
    pub const fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}
