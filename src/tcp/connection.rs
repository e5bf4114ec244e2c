//! A connected socket: two halves, and the protocol of closing.
//!
//! ```text
//!           close                both halves at rest            Done
//!   Open ──────────► Joining ─────────────────────────► Closing ─────► Closed
//!     │    (cancels what is  ▲        (closes the
//!     │     in flight, once) │         descriptor)
//!     │ close(FlushReset)    │ the peer has all of it, or close(Reset)
//!     └───────► Flushing ────┘
//! ```
//!
//! A descriptor is closed only after every operation on it has had its final outcome, however the
//! closing began: a cancel may lose the race. A reset destroys bytes that have not reached the
//! peer. To deliver them first, `Flushing` waits for the peer, until the owner asks for a reset.

use super::reader::Reader;
use super::writer::Writer;
use crate::buffer::{Buffer, Chain};
#[cfg(feature = "ktls-tx")]
use crate::driver::Alert;
use crate::driver::{Fault, Op, OpId, Ops, Outcome, Socket, Token};

/// A connected socket.
#[derive(Debug)]
pub struct Connection {
    close_slot: u8,
    life: Life,
    /// The receiving half.
    pub(crate) reader: Reader,
    /// The sending half.
    pub(crate) writer: Writer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    Flushing,
    Joining(CloseKind),
    Closing(OpId),
    Closed {
        /// Bytes that the kernel had accepted and the peer has not received.
        lost: u32,
    },
}

/// How the connection is closed towards the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// An orderly close: the peer receives all that was sent, then the end of input.
    Fin,
    /// A reset, after everything that was sent has arrived.
    FlushReset,
    /// A reset: the peer cannot take the bytes it has for a complete stream. Bytes on their way are
    /// lost.
    Reset,
}

/// The tokens of a connection's three slots, which have one key.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTokens {
    /// Outcomes of `Recv`.
    pub recv: Token,
    /// Outcomes of `Send`, `SendFile` and `Shutdown`.
    pub send: Token,
    /// Outcomes of `Close`.
    pub close: Token,
}

impl Connection {
    /// A connection over a socket that was just accepted or connected.
    pub const fn new(socket: Socket, tokens: ConnectionTokens) -> Self {
        Self {
            close_slot: tokens.close.slot,
            life: Life::Open,
            reader: Reader::new(socket, tokens.recv),
            writer: Writer::new(socket, tokens.send),
        }
    }

    /// The socket, for querying its properties.
    pub const fn socket(&self) -> Socket {
        self.reader.socket
    }

    /// Records an outcome of `Recv`. Received bytes are returned.
    pub fn on_received(&mut self, outcome: Outcome) -> Option<Buffer> {
        let buffer = self.reader.on_outcome(outcome);
        self.heed_reset();
        buffer
    }

    /// Records an outcome of `Send`, `SendFile` or `Shutdown`.
    pub fn on_sent(&mut self, outcome: Outcome) {
        self.writer.on_outcome(outcome);
        self.heed_reset();
    }

    /// The kernel reports a reset only once. If a send gets the report, the receive sees a false
    /// end of input. A true one before the reset would have made the send fail with `EPIPE`.
    fn heed_reset(&mut self) {
        if let Some(fault @ Fault::Os(libc::ECONNRESET)) = self.writer.fault() {
            self.reader.on_reset(fault);
        }
    }

    /// Sends bytes as far as the kernel takes them at once, before the connection is closed. The
    /// writer must be idle and the chain must not be empty.
    pub(crate) fn send_at_once(&mut self, chain: Chain, ops: &mut Ops) {
        self.writer.send(chain, ops);
        // An operation that is cancelled in the turn of its submission is attempted once.
        self.writer.cancel(ops);
    }

    /// Sends an alert through the kernel's TLS layer if that has room at once, before the connection is
    /// closed. The writer must be idle.
    #[cfg(feature = "ktls-tx")]
    pub(crate) fn send_alert_at_once(&mut self, alert: Alert, ops: &mut Ops) {
        self.writer.settle_kernel_tls(Some(alert), ops);
        // As in `send_at_once`.
        self.writer.cancel(ops);
    }

    /// Gives up what is being sent, before the connection is closed. The peer may get a part of it.
    pub(crate) fn cancel_send(&self, ops: &mut Ops) {
        self.writer.cancel(ops);
    }

    /// Moves the connection out, to be used in another way. What is left must not be used.
    pub(crate) const fn take(&mut self) -> Self {
        let tokens = ConnectionTokens { recv: self.reader.token, send: self.writer.token(), close: self.close_token() };
        std::mem::replace(self, Self::new(self.reader.socket, tokens))
    }

    /// Continues closing from the current state. Every pump calls it until
    /// [`Connection::is_closed`].
    ///
    /// The `close_kind` of the first call counts, with two exceptions: [`CloseKind::Reset`] ends
    /// the wait of an earlier [`CloseKind::FlushReset`], and if a send is cut off in the middle,
    /// the peer gets a reset in any case.
    pub fn close(&mut self, close_kind: CloseKind, ops: &mut Ops) {
        if self.life == Life::Open {
            self.reader.stop(ops);
            self.life = match close_kind {
                CloseKind::FlushReset => Life::Flushing,
                CloseKind::Fin if !self.writer.is_sending() => Life::Joining(CloseKind::Fin),
                CloseKind::Fin | CloseKind::Reset => Life::Joining(CloseKind::Reset),
            };
            if self.life != Life::Flushing {
                self.writer.cancel(ops);
            }
        }
        if self.life == Life::Flushing {
            self.writer.flush(ops);
            let is_over = self.writer.is_done_flushing();
            if is_over || close_kind == CloseKind::Reset {
                self.writer.cancel(ops);
                self.life = Life::Joining(CloseKind::Reset);
            }
        }
        if let Life::Joining(close_kind) = self.life
            && self.reader.is_at_rest()
            && self.writer.is_at_rest()
        {
            let op = match close_kind {
                CloseKind::Fin => Op::Close { socket: self.reader.socket },
                CloseKind::FlushReset | CloseKind::Reset => Op::Reset { socket: self.reader.socket },
            };
            self.life = Life::Closing(ops.submit(self.close_token(), op));
        }
    }

    /// Records the outcome of closing the descriptor.
    pub fn on_closed(&mut self, outcome: Outcome) {
        match (self.life, outcome) {
            (Life::Closing(_), Outcome::Done) => self.life = Life::Closed { lost: 0 },
            (Life::Closing(_), Outcome::Reset { lost }) => {
                self.life = Life::Closed { lost: u32::try_from(lost).unwrap_or(u32::MAX) };
            }
            (life, outcome) => super::unexpected("connection", &life, &outcome, self.close_token()),
        }
    }

    /// Bytes that were sent, less those that a reset is known to have destroyed.
    pub fn delivered_bytes(&self) -> u64 {
        match self.life {
            Life::Closed { lost } => self.writer.sent_bytes().saturating_sub(lost.into()),
            Life::Open | Life::Flushing | Life::Joining(_) | Life::Closing(_) => self.writer.sent_bytes(),
        }
    }

    /// Bytes accepted for sending that the peer is known not to have received.
    pub const fn undelivered_bytes(&self) -> u64 {
        let lost = match self.life {
            Life::Closed { lost } => lost as u64,
            Life::Open | Life::Flushing | Life::Joining(_) | Life::Closing(_) => 0,
        };
        self.writer.unsent_bytes() + lost
    }

    const fn close_token(&self) -> Token {
        Token { slot: self.close_slot, ..self.reader.token }
    }

    /// Whether the descriptor is closed and nothing is in flight.
    pub const fn is_closed(&self) -> bool {
        matches!(self.life, Life::Closed { .. })
    }
}
