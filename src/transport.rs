//! What services use to talk to a peer: bytes in, bytes out, over a connected socket.
//!
//! ```text
//!   services, upstream pool, health checks      plaintext
//!      │ set_receiving  send  send_file  shutdown  close
//!   Transport ─┬ Plain(tcp::Connection)         the same bytes on the socket
//!              └ Tls(Encrypted)                 TLS records on the socket
//! ```
//!
//! Everything here is about plaintext: the buffers that are returned, and each count of bytes. How the
//! bytes travel is the transport's own affair. That includes files: the kernel sends one over a plain
//! connection, and over TLS it is read, encrypted and sent in pieces. The services hand every file to
//! [`Transport::send_file`].
//!
//! Who owns a transport calls [`Transport::take_received`] until it returns nothing before it pumps
//! what reads from it, and [`Transport::pump`] after that. For a plain connection both are one
//! comparison.
//!
//! A transport begins plain or with TLS ([`Transport::tls_server`], [`Transport::tls_client`]). A plain
//! one can change to TLS after a preamble such as a PROXY protocol header
//! ([`Transport::begin_tls_server`], [`Transport::begin_tls_client`]). Until the handshake is complete
//! ([`Transport::handshake`]) it cannot send.
//!
//! It does not know what the bytes mean, nor when a connection has to end.

mod encrypted;
mod relay;

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

pub use self::relay::{Pair, Side, relay, relay_back};

use self::encrypted::Encrypted;
use crate::buffer::{Buffer, Chain};
use crate::driver::{Fault, File, Ops, Outcome, Socket, Time, TlsFault, Token};
use crate::tcp::{CloseKind, Connection, ConnectionTokens, End};
use crate::tls::{Handshake, Stream};

/// A connection to a peer, as services see it.
///
/// The two directions are independent, which allows half-close. Outcomes are recorded first
/// (`on_…`); everything else submits operations or answers questions.
#[derive(Debug)]
pub enum Transport {
    /// The bytes of the socket are those of the service.
    Plain(Connection),
    /// The bytes of the socket are TLS records. Boxed: a plain connection must not grow by it.
    Tls(Box<Encrypted>),
}

// The tag is in what a connection does not use.
const _: () = assert!(size_of::<Transport>() == size_of::<Connection>());

impl Transport {
    /// A plain transport over a socket that was just accepted or connected.
    pub const fn plain(socket: Socket, tokens: ConnectionTokens) -> Self {
        Self::Plain(Connection::new(socket, tokens))
    }

    /// The server's side of TLS on a socket that was just accepted. `reads` is the token of a slot in
    /// which it reads files; its outcomes go to [`Transport::on_read`].
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn tls_server(
        socket: Socket,
        tokens: ConnectionTokens,
        reads: Token,
        config: Arc<ServerConfig>,
    ) -> Result<Self, TlsFault> {
        let stream = usable(Stream::server(config))?;
        Ok(Self::Tls(Box::new(Encrypted::new(Connection::new(socket, tokens), stream, Some(reads)))))
    }

    /// The client's side of TLS on a socket that was just connected, to a server with this name. It
    /// cannot send files. The first pump begins the handshake.
    ///
    /// # Errors
    /// The configuration cannot be used, or there is no randomness.
    pub fn tls_client(
        socket: Socket,
        tokens: ConnectionTokens,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsFault> {
        let stream = usable(Stream::client(config, name))?;
        Ok(Self::Tls(Box::new(Encrypted::new(Connection::new(socket, tokens), stream, None))))
    }

    /// Begins TLS as a server on a plain connection that has sent nothing. `received` is what came
    /// after the preamble.
    ///
    /// # Errors
    /// As [`Transport::tls_server`]; the connection stays plain.
    pub fn begin_tls_server(
        &mut self,
        reads: Token,
        config: Arc<ServerConfig>,
        received: Vec<Buffer>,
    ) -> Result<(), TlsFault> {
        let Self::Plain(connection) = self else { return Err(TlsFault::Internal) };
        let stream = usable(Stream::server(config))?;
        let mut encrypted = Encrypted::new(connection.take(), stream, Some(reads));
        received.into_iter().for_each(|buffer| encrypted.feed(buffer));
        *self = Self::Tls(Box::new(encrypted));
        Ok(())
    }

    /// Has the answer to the client's first message computed away from the loop, because the signature in
    /// it takes long. Call it when TLS has just begun as a server.
    pub const fn work_away(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => tls.work_away(),
        }
    }

    /// Begins TLS as a client on a plain connection that has received nothing, to a server with this
    /// name. What was sent before, such as a PROXY protocol header, precedes it.
    ///
    /// # Errors
    /// As [`Transport::tls_client`]; the connection stays plain.
    pub fn begin_tls_client(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<(), TlsFault> {
        let Self::Plain(connection) = self else { return Err(TlsFault::Internal) };
        let stream = usable(Stream::client(config, name))?;
        *self = Self::Tls(Box::new(Encrypted::new(connection.take(), stream, None)));
        Ok(())
    }

    /// Whether its bytes are encrypted, so that it has work of its own to do.
    #[inline]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// How far the TLS handshake is; `None` over a plain connection.
    pub fn handshake(&self) -> Option<Handshake<'_>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.handshake()),
        }
    }

    /// The next received plaintext, if it had to be decrypted. Call it before each pump of what reads
    /// from the transport, until it returns `None`.
    #[inline]
    pub fn take_received(&mut self) -> Option<Buffer> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.take_received(),
        }
    }

    /// Submits what the transport itself has to do: the next part of what was given, and messages of
    /// TLS. Call it after each pump of what uses the transport.
    #[inline]
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls) => tls.pump(now, ops),
        }
    }

    /// Whether the connection has to end once the present response is complete, because the kernel
    /// encrypts with keys that cannot be changed. `true` once.
    #[cfg(feature = "ktls-tx")]
    pub fn take_ending(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.take_ending(),
        }
    }

    /// When to pump at the latest, if the transport itself waits for a time.
    #[inline]
    pub fn deadline(&self) -> Option<Time> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.deadline(),
        }
    }

    /// Records the outcome of reading a file, or of a part of the handshake that was computed away from
    /// the loop, which only TLS does.
    pub fn on_read(&mut self, outcome: Outcome) {
        match self {
            Self::Plain(_) => tracing::error!(outcome = outcome.name(), "a plain connection reads no file"),
            Self::Tls(tls) => tls.on_read(outcome),
        }
    }

    /// Sends bytes as they are, to a peer that turned out not to speak TLS
    /// ([`TlsFault::PlainHttp`]). It is ignored while something is being sent.
    pub fn send_unencrypted(&mut self, chain: Chain, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.send(chain, ops),
            Self::Tls(tls) => tls.send_unencrypted(chain, ops),
        }
    }

    /// Bytes of memory that the transport itself holds for data.
    pub fn memory(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.memory(),
        }
    }

    /// The upper bound of [`Transport::memory`], apart from data already in flight when receiving was
    /// paused, in bytes.
    pub fn memory_max(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(_) => Encrypted::MEMORY_MAX,
        }
    }

    /// The socket, for querying its properties.
    pub fn socket(&self) -> Socket {
        match self {
            Self::Plain(connection) => connection.socket(),
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Records an outcome of `Recv`. Plaintext that it brings is returned, unless it has to be
    /// decrypted first: then [`Transport::take_received`] returns it.
    #[inline]
    pub fn on_received(&mut self, outcome: Outcome) -> Option<Buffer> {
        match self {
            Self::Plain(connection) => connection.on_received(outcome),
            Self::Tls(tls) => {
                tls.on_received(outcome);
                None
            }
        }
    }

    /// Records an outcome of `Send`, `SendFile` or `Shutdown`.
    #[inline]
    pub fn on_sent(&mut self, outcome: Outcome) {
        match self {
            Self::Plain(connection) => connection.on_sent(outcome),
            Self::Tls(tls) => tls.on_sent(outcome),
        }
    }

    /// Records the outcome of closing the descriptor.
    pub fn on_closed(&mut self, outcome: Outcome) {
        match self {
            Self::Plain(connection) => connection.on_closed(outcome),
            Self::Tls(tls) => tls.on_closed(outcome),
        }
    }

    /// Sets whether bytes are wanted. Starts, pauses or resumes receiving accordingly. Bytes that
    /// have arrived already may still come after a pause.
    #[inline]
    pub fn set_receiving(&mut self, wanted: bool, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.reader.want(wanted, ops),
            Self::Tls(tls) => tls.set_receiving(wanted, ops),
        }
    }

    /// Ends receiving. Neither bytes nor reports of a broken connection are wanted any more.
    pub fn stop_receiving(&mut self, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.reader.stop(ops),
            Self::Tls(tls) => tls.stop_receiving(ops),
        }
    }

    /// Whether bytes are being delivered and receiving was not ended.
    #[inline]
    pub fn is_receiving(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.reader.is_receiving(),
            Self::Tls(tls) => tls.is_receiving(),
        }
    }

    /// How the input ended, if it has. All bytes before the end have been returned.
    #[inline]
    pub fn input_end(&self) -> Option<End> {
        match self {
            Self::Plain(connection) => connection.reader.end(),
            Self::Tls(tls) => tls.input_end(),
        }
    }

    /// Whether the peer has ended its side of the connection itself. After TLS has failed,
    /// [`Transport::input_end`] no longer depends on it.
    pub fn has_input_ended(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.reader.end().is_some(),
            Self::Tls(tls) => tls.has_input_ended(),
        }
    }

    /// Why nothing more can be sent to the peer, if receiving has shown that the connection is
    /// broken. Bytes that the peer sent before may still arrive: keep receiving until
    /// [`Transport::input_end`].
    #[inline]
    pub fn receive_fault(&self) -> Option<Fault> {
        match self {
            Self::Plain(connection) => connection.reader.fault(),
            Self::Tls(tls) => tls.receive_fault(),
        }
    }

    /// Bytes of plaintext received so far.
    #[inline]
    pub fn received_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.reader.received_bytes(),
            Self::Tls(tls) => tls.received_bytes(),
        }
    }

    /// Sends bytes. [`Transport::can_send`] must be true, and the chain must not be empty.
    #[inline]
    pub fn send(&mut self, chain: Chain, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.send(chain, ops),
            Self::Tls(tls) => tls.send(chain, ops),
        }
    }

    /// Sends `head`, which may be empty, and then a range of a file. [`Transport::can_send`] must
    /// be true, and the range must not be empty. The file stays open until the transport can send
    /// again or is closed.
    #[inline]
    pub fn send_file(&mut self, head: Chain, file: File, offset: u64, length: u64, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.send_file(head, file, offset, length, ops),
            Self::Tls(tls) => tls.send_file(head, file, offset, length, ops),
        }
    }

    /// Shuts the sending side down: the peer sees the end of input.
    /// [`Transport::can_send`] must be true, or the file that was sent was too short.
    pub fn shutdown(&mut self, ops: &mut Ops) {
        match self {
            Self::Plain(connection) => connection.writer.finish(ops),
            Self::Tls(tls) => tls.shutdown(ops),
        }
    }

    /// Whether it can send the next bytes. It keeps no queue: until then the caller keeps them.
    #[inline]
    pub fn can_send(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.is_idle(),
            Self::Tls(tls) => tls.can_send(),
        }
    }

    /// Whether nothing is being sent: it can send, its sending side is shut down, or sending has
    /// failed.
    #[inline]
    pub fn is_sending_at_rest(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.is_at_rest(),
            Self::Tls(tls) => tls.is_sending_at_rest(),
        }
    }

    /// Whether the sending side is shut down.
    #[inline]
    pub fn is_shut_down(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.is_finished(),
            Self::Tls(tls) => tls.is_shut_down(),
        }
    }

    /// Why nothing more can be sent, if sending failed.
    #[inline]
    pub fn send_fault(&self) -> Option<Fault> {
        match self {
            Self::Plain(connection) => connection.writer.fault(),
            Self::Tls(tls) => tls.send_fault(),
        }
    }

    /// Whether there is a [`Transport::send_fault`] or a [`Transport::receive_fault`]: a quick
    /// question for every pump.
    #[inline]
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.has_failed() || connection.reader.is_broken(),
            Self::Tls(tls) => tls.is_broken(),
        }
    }

    /// Whether sending failed because the file was too short. The connection itself is intact.
    pub fn lacks_file(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.writer.lacks_file(),
            Self::Tls(tls) => tls.lacks_file(),
        }
    }

    /// Bytes of plaintext passed to it so far, sent or not.
    #[inline]
    pub fn given_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.writer.given_bytes(),
            Self::Tls(tls) => tls.given_bytes(),
        }
    }

    /// Bytes of plaintext that the kernel has accepted so far.
    #[inline]
    pub fn sent_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.writer.sent_bytes(),
            Self::Tls(tls) => tls.sent_bytes(),
        }
    }

    /// Bytes of plaintext that were sent, less those that a reset is known to have destroyed.
    pub fn delivered_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.delivered_bytes(),
            Self::Tls(tls) => tls.delivered_bytes(),
        }
    }

    /// Bytes of plaintext passed to it that the peer is known not to have received.
    pub fn undelivered_bytes(&self) -> u64 {
        match self {
            Self::Plain(connection) => connection.undelivered_bytes(),
            Self::Tls(tls) => tls.undelivered_bytes(),
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
            Self::Tls(tls) => tls.close(close_kind, ops),
        }
    }

    /// Whether the descriptor is closed and nothing is in flight.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.is_closed(),
            Self::Tls(tls) => tls.is_closed(),
        }
    }
}

/// The stream, or a fault of this side, which is logged.
fn usable(stream: Result<Stream, rustls::Error>) -> Result<Stream, TlsFault> {
    stream.map_err(|error| {
        tracing::warn!(%error, "cannot begin TLS");
        TlsFault::Internal
    })
}
