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
//! It owns the one `Send`, `SendFile`, `Shutdown` or `Flush` in flight. It does not queue: the
//! caller keeps further bytes until the writer is idle.

use crate::buffer::Chain;
#[cfg(feature = "ktls-tx")]
use crate::driver::{Alert, SendKeys};
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
    /// Bytes are being sent.
    Sending { id: OpId, left_bytes: u64 },
    /// The shutdown is in flight.
    Finishing(OpId),
    /// The sending side is shut down: the peer sees the end of input.
    Finished,
    /// Waits until what was sent has reached the peer.
    Flushing(OpId),
    /// The peer's kernel has acknowledged everything.
    Flushed,
    /// The kernel's TLS layer is being set up, or takes what is left to TCP.
    #[cfg(feature = "ktls-tx")]
    Settling(OpId),
    /// Sending failed: the connection broke, or the operation was cancelled. `left_bytes` were not
    /// sent.
    Failed { fault: Fault, left_bytes: u64 },
}

impl Writer {
    /// The sending half of `socket`. Its operations carry `token`.
    pub const fn new(socket: Socket, token: Token) -> Self {
        Self { socket, token, state: State::Idle, sent_bytes: 0 }
    }

    /// The token of its operations.
    pub(super) const fn token(&self) -> Token {
        self.token
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
            #[cfg(feature = "ktls-tx")]
            (State::Settling(_), outcome) => self.on_settled(outcome),
            (state, outcome) => super::unexpected("writer", &state, &outcome, self.token),
        }
    }

    /// Sends bytes. The writer must be idle and the chain must not be empty.
    pub fn send(&mut self, chain: Chain, ops: &mut Ops) {
        let left_bytes = chain.len() as u64;
        self.start(left_bytes, Op::Send { socket: self.socket, chain }, ops);
    }

    /// Sends `head`, which may be empty, and then a range of a file. The writer must be idle and
    /// the range must not be empty.
    pub fn send_file(&mut self, head: Chain, file: File, offset: u64, length: u64, ops: &mut Ops) {
        let left_bytes = head.len() as u64 + length;
        self.start(left_bytes, Op::SendFile { socket: self.socket, head, file, offset, length }, ops);
    }

    fn start(&mut self, left_bytes: u64, op: Op, ops: &mut Ops) {
        debug_assert!(self.is_idle() && left_bytes > 0, "{op:?} while {:?}", self.state);
        self.state = State::Sending { id: ops.submit(self.token, op), left_bytes };
    }

    /// Shuts the sending side down. The writer must be idle, or the file that it sent was too
    /// short.
    pub fn finish(&mut self, ops: &mut Ops) {
        debug_assert!(self.is_idle() || self.lacks_file(), "finish while {:?}", self.state);
        self.state = State::Finishing(ops.submit(self.token, Op::Shutdown { socket: self.socket }));
    }

    /// Whether it failed because the file was too short. The connection itself is intact.
    pub const fn lacks_file(&self) -> bool {
        matches!(self.state, State::Failed { fault: Fault::FileTruncated, .. })
    }

    /// Waits until the peer has acknowledged what was sent, if the kernel can report that.
    pub(super) fn flush(&mut self, ops: &mut Ops) {
        if self.is_idle() || self.is_finished() || self.lacks_file() {
            self.state = State::Flushing(ops.submit(self.token, Op::Flush { socket: self.socket }));
        }
    }

    /// Whether flushing has ended, with or without success.
    pub(super) const fn is_done_flushing(&self) -> bool {
        match self.state {
            State::Flushed => true,
            State::Failed { fault, .. } => !matches!(fault, Fault::FileTruncated),
            #[cfg(feature = "ktls-tx")]
            State::Settling(_) => false,
            State::Idle | State::Sending { .. } | State::Finishing(_) | State::Flushing(_) | State::Finished => false,
        }
    }

    /// Cancels the operation in flight. Call it once, when the connection closes.
    pub(super) fn cancel(&self, ops: &mut Ops) {
        match self.state {
            State::Sending { id, .. } | State::Finishing(id) | State::Flushing(id) => ops.cancel(id),
            #[cfg(feature = "ktls-tx")]
            State::Settling(id) => ops.cancel(id),
            State::Idle | State::Flushed | State::Finished | State::Failed { .. } => {}
        }
    }

    /// Lets the kernel encrypt what is sent from now on. The writer must be idle. Whether it does is
    /// in the outcome: for the writer both are the end of the operation.
    #[cfg(feature = "ktls-tx")]
    pub fn begin_kernel_tls(&mut self, keys: Box<SendKeys>, ops: &mut Ops) {
        debug_assert!(self.is_idle(), "kernel TLS while {:?}", self.state);
        self.state = State::Settling(ops.submit(self.token, Op::BeginKernelTls { socket: self.socket, keys }));
    }

    /// Waits until TCP has what was sent through the kernel's TLS layer, then sends an alert, if there
    /// is one. The writer must be idle, or the file that it sent was too short.
    #[cfg(feature = "ktls-tx")]
    pub fn settle_kernel_tls(&mut self, alert: Option<Alert>, ops: &mut Ops) {
        debug_assert!(self.is_idle() || self.lacks_file(), "settle while {:?}", self.state);
        self.state = State::Settling(ops.submit(self.token, Op::SettleKernelTls { socket: self.socket, alert }));
    }

    #[cfg(feature = "ktls-tx")]
    fn on_settled(&mut self, outcome: Outcome) {
        self.state = match outcome {
            Outcome::Done => State::Idle,
            Outcome::Failed(fault) => State::Failed { fault, left_bytes: 0 },
            Outcome::Cancelled => State::Failed { fault: Fault::Os(libc::ECANCELED), left_bytes: 0 },
            outcome => return super::unexpected("writer", &self.state, &outcome, self.token),
        };
    }

    /// Whether it can send the next bytes.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether bytes are being sent.
    pub const fn is_sending(&self) -> bool {
        matches!(self.state, State::Sending { .. })
    }

    /// Whether the sending side is shut down.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Whether nothing is in flight.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Idle | State::Finished | State::Flushed | State::Failed { .. })
    }

    /// Why nothing more can be sent, if it failed.
    pub const fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Failed { fault, .. } => Some(fault),
            #[cfg(feature = "ktls-tx")]
            State::Settling(_) => None,
            State::Idle
            | State::Sending { .. }
            | State::Finishing(_)
            | State::Finished
            | State::Flushing(_)
            | State::Flushed => None,
        }
    }

    /// Whether there is a [`Writer::fault`].
    pub const fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed { .. })
    }

    /// Bytes passed to it so far.
    pub const fn given_bytes(&self) -> u64 {
        self.sent_bytes + self.unsent_bytes()
    }

    /// Bytes passed to it that the kernel has not accepted; after a failure it never will.
    pub const fn unsent_bytes(&self) -> u64 {
        match self.state {
            State::Sending { left_bytes, .. } | State::Failed { left_bytes, .. } => left_bytes,
            #[cfg(feature = "ktls-tx")]
            State::Settling(_) => 0,
            State::Idle | State::Finishing(_) | State::Finished | State::Flushing(_) | State::Flushed => 0,
        }
    }

    /// Bytes that the kernel has accepted so far.
    pub const fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}
