//! What services use to talk to a peer: bytes in, bytes out, over a connected socket.
//!
//! ```text
//!   services, upstream pool, health checks      plaintext
//!      │ set_receiving  send  send_file  shutdown  close
//!   Transport ── Plain(tcp::Connection)         bytes of the socket
//! ```
//!
//! Everything here is about plaintext: the buffers that [`Transport::on_received`] returns, and each
//! count of bytes. How the bytes travel is the transport's own affair. That includes files: whether
//! the kernel can send one is a property of the transport, so the services hand every file to
//! [`Transport::send_file`].
//!
//! Today there is one variant, and the type costs nothing over the connection in it. An encrypting
//! one belongs here too. It will need what a plain one would only pay for: a `pump` before and after
//! the service's own, which decrypts into buffers of the worker's pool and encrypts what was given;
//! a place for plaintext until it is taken; slots, a deadline and an account of memory of its own.
//! These come with it.
//!
//! It does not know what the bytes mean, nor when a connection has to end.

use crate::buffer::{Buffer, Chain};
use crate::driver::{Fault, File, Ops, Outcome, Socket};
use crate::tcp::{CloseKind, Connection, ConnectionTokens, End, Pipe};

/// A connection to a peer, as services see it.
///
/// The two directions are independent, which allows half-close. Outcomes are recorded first
/// (`on_…`); everything else submits operations or answers questions.
#[derive(Debug)]
pub enum Transport {
    /// The bytes of the socket are those of the service.
    Plain(Connection),
}

// Each match has one arm: without a tag to test, a call is that of the connection.
const _: () = assert!(size_of::<Transport>() == size_of::<Connection>());

impl Transport {
    /// A plain transport over a socket that was just accepted or connected.
    pub const fn plain(socket: Socket, tokens: ConnectionTokens) -> Self {
        Self::Plain(Connection::new(socket, tokens))
    }

    /// The socket, for querying its properties.
    pub const fn socket(&self) -> Socket {
        match self {
            Self::Plain(connection) => connection.socket(),
        }
    }

    /// Records an outcome of `Recv`. Received plaintext is returned.
    #[inline]
    pub fn on_received(&mut self, outcome: Outcome) -> Option<Buffer> {
        match self {
            Self::Plain(connection) => connection.on_received(outcome),
        }
    }

    /// Records an outcome of `Send`, `SendFile` or `Shutdown`.
    #[inline]
    pub fn on_sent(&mut self, outcome: Outcome) {
        match self {
            Self::Plain(connection) => connection.on_sent(outcome),
        }
    }

    /// Records the outcome of closing the descriptor.
    pub fn on_closed(&mut self, outcome: Outcome) {
        match self {
            Self::Plain(connection) => connection.on_closed(outcome),
        }
    }

    /// Sets whether bytes are wanted. Starts, pauses or resumes receiving accordingly. Bytes that
    /// have arrived already may still come after a pause.
    #[inline]
    pub fn set_receiving(&mut self, wanted: bool, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.reader.want(wanted, ops),
        }
    }

    /// Ends receiving. Neither bytes nor reports of a broken connection are wanted any more.
    pub fn stop_receiving(&mut self, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.reader.stop(ops),
        }
    }

    /// Whether bytes are being delivered and receiving was not ended.
    #[inline]
    pub const fn is_receiving(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.reader.is_receiving(),
        }
    }

    /// How the input ended, if it has. All bytes before the end have been returned.
    #[inline]
    pub const fn input_end(&self) -> Option<End> {
        match self {
            Self::Plain(connection) => connection.reader.end(),
        }
    }

    /// Why nothing more can be sent to the peer, if receiving has shown that the connection is
    /// broken. Bytes that the peer sent before may still arrive: keep receiving until
    /// [`Transport::input_end`].
    #[inline]
    pub const fn receive_fault(&self) -> Option<Fault> {
        match self {
            Self::Plain(connection) => connection.reader.fault(),
        }
    }

    /// Bytes of plaintext received so far.
    #[inline]
    pub const fn received_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.reader.received_bytes(),
        }
    }

    /// Sends bytes. [`Transport::can_send`] must be true, and the chain must not be empty.
    #[inline]
    pub fn send(&mut self, chain: Chain, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.send(chain, ops),
        }
    }

    /// Sends `head`, which may be empty, and then a range of a file. [`Transport::can_send`] must
    /// be true, and the range must not be empty. The file stays open until the transport can send
    /// again or is closed.
    #[inline]
    pub fn send_file(&mut self, head: Chain, file: File, offset: u64, length: u64, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.send_file(head, file, offset, length, ops),
        }
    }

    /// Shuts the sending side down: the peer sees the end of input.
    /// [`Transport::can_send`] must be true, or the file that was sent was too short.
    pub fn shutdown(&mut self, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.finish(ops),
        }
    }

    /// Whether it can send the next bytes. It keeps no queue: until then the caller keeps them.
    #[inline]
    pub const fn can_send(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.is_idle(),
        }
    }

    /// Whether nothing is being sent: it can send, its sending side is shut down, or sending has
    /// failed.
    #[inline]
    pub const fn is_sending_at_rest(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.is_at_rest(),
        }
    }

    /// Whether the sending side is shut down.
    #[inline]
    pub const fn is_shut_down(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.is_finished(),
        }
    }

    /// Why nothing more can be sent, if sending failed.
    #[inline]
    pub const fn send_fault(&self) -> Option<Fault> {
        match self {
            Self::Plain(connection) => connection.writer.fault(),
        }
    }

    /// Whether there is a [`Transport::send_fault`] or a [`Transport::receive_fault`]: a quick
    /// question for every pump.
    #[inline]
    pub const fn is_broken(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.has_failed() || connection.reader.is_broken(),
        }
    }

    /// Whether sending failed because the file was too short. The connection itself is intact.
    pub const fn lacks_file(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.lacks_file(),
        }
    }

    /// Bytes of plaintext passed to it so far, sent or not.
    #[inline]
    pub const fn given_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.writer.given_bytes(),
        }
    }

    /// Bytes of plaintext that the kernel has accepted so far.
    #[inline]
    pub const fn sent_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.writer.sent_bytes(),
        }
    }

    /// Bytes of plaintext that were sent, less those that a reset is known to have destroyed.
    pub fn delivered_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.delivered_bytes(),
        }
    }

    /// Bytes of plaintext passed to it that the peer is known not to have received.
    pub const fn undelivered_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.undelivered_bytes(),
        }
    }

    /// Continues closing from the current state. Every pump calls it until
    /// [`Transport::is_closed`].
    ///
    /// The `close_kind` of the first call counts, with two exceptions: [`CloseKind::Reset`] ends
    /// the wait of an earlier [`CloseKind::FlushReset`], and if a send is cut off in the middle,
    /// the peer gets a reset in any case.
    pub fn close(&mut self, close_kind: CloseKind, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.close(close_kind, ops),
        }
    }

    /// Whether the descriptor is closed and nothing is in flight.
    pub const fn is_closed(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.is_closed(),
        }
    }
}

/// Moves bytes one way: sends what is queued, forwards the end of input, and pauses or resumes the
/// source so that the pipe holds at most about `memory_max` bytes. Idempotent; part of a session's
/// pump.
pub fn relay(source: &mut Transport, pipe: &mut Pipe, sink: &mut Transport, memory_max: usize, ops: &mut Ops) {
    drain(pipe, sink, source.input_end(), ops);
    fill(pipe, source, memory_max, ops);
}

/// The same, back to the peer that the bytes came from.
pub fn relay_back(peer: &mut Transport, pipe: &mut Pipe, memory_max: usize, ops: &mut Ops) {
    let end = peer.input_end();
    drain(pipe, peer, end, ops);
    fill(pipe, peer, memory_max, ops);
}

/// Sends what is queued, and after all of it the end of input.
#[inline]
fn drain(pipe: &mut Pipe, sink: &mut Transport, source_end: Option<End>, ops: &mut Ops) {
    if sink.can_send() {
        pipe.on_sent();
        if !pipe.is_empty() {
            sink.send(pipe.take(), ops);
        } else if source_end == Some(End::Eof) {
            sink.shutdown(ops);
        }
    }
}

/// Receives while the pipe has room.
#[inline]
fn fill(pipe: &Pipe, source: &mut Transport, memory_max: usize, ops: &mut Ops) {
    source.set_receiving(pipe.wants_bytes(source.is_receiving(), memory_max), ops);
}
