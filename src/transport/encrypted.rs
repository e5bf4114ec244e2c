//! A connection whose bytes are encrypted: TLS over a TCP connection, with the verbs of a plain one.
//!
//! ```text
//!   plaintext of the service      pieces of a file
//!          └──────► pending ◄──────────┘
//!                      │ seal, when nothing is being sent
//!                      ▼
//!           close  ┌──────┐  no more to send   close_notify, if the kernel takes it
//!   Open ─────────►│ Flush│─────────────────► Notifying ────► Over: the connection closes
//!                  └──────┘
//! ```
//!
//! It takes one chain, or one range of a file, at a time, and encrypts it in bounded batches: one
//! `Send` is in flight, and its plaintext waits in `pending` behind it. A file is read in pieces by an
//! operation of its own, the next one while the one before is being sent.
//!
//! The answer to a ClientHello may be computed away from the loop ([`Encrypted::work_away`]): then nothing
//! is received meanwhile.
//!
//! What TLS itself has to send, such as session tickets, goes out with the next batch, or at the end
//! of a pump if there is none.
//!
//! With the feature `ktls-tx` the kernel may encrypt instead (`encrypted/kernel.rs`).

#[cfg(feature = "ktls-tx")]
mod kernel;
#[cfg(not(feature = "ktls-tx"))]
#[path = "encrypted/no_kernel.rs"]
mod kernel;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::kernel::Kernel;
use crate::buffer::{Buffer, Chain};
use crate::driver::{Computation, Fault, File, Op, OpId, Ops, Outcome, Socket, Time, Token};
use crate::tcp::{CloseKind, Connection, End};
#[cfg(feature = "internals")]
use crate::tls::planted_bug::{self, TlsBug};
use crate::tls::{Handshake, SEAL_BYTES_MAX, Stream, Work, WorkDone};

/// Bytes of a file that are read at a time. Two pieces are in memory: one is being read, and one
/// encrypted or sent.
const PIECE_BYTES: usize = SEAL_BYTES_MAX;

/// When it is tried again to find a buffer for plaintext that found none.
const RETRY: Duration = Duration::from_millis(10);

/// A TCP connection with TLS on it.
pub struct Encrypted {
    connection: Connection,
    stream: Stream,
    /// Of the reads of files; `None`: no file can be sent.
    read_token: Option<Token>,
    life: Life,
    /// Plaintext that was given and is not encrypted.
    pending: Chain,
    file: Option<Source>,
    file_fault: Option<Fault>,
    /// The computation in flight, in the slot that reads files later.
    working: Option<Working>,
    /// The sending side is to be shut down.
    wants_shutdown: bool,
    given_bytes: u64,
    /// Plaintext of all batches before the present one.
    sent_before: u64,
    batch: Batch,
    received_bytes: u64,
    /// When to look for a buffer again.
    retry_at: Option<Time>,
    /// Whether the kernel encrypts what is sent.
    kernel: Kernel,
}

/// How far closing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// What was given is being sent.
    Flush,
    /// What TLS itself was sending, such as session tickets, is being cancelled.
    Cancelling,
    /// A `close_notify` is being sent.
    Notifying,
    /// The connection is closed in this way.
    Over(CloseKind),
}

/// What the present or the latest `Send` carries.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    plaintext: u64,
    ciphertext: u64,
    /// Ciphertext that was sent before it.
    start: u64,
}

/// A part of the handshake that is computed away from the loop.
struct Working {
    id: OpId,
    /// Until a thread takes it. If none does, it is done here.
    work: Arc<Mutex<Option<Work>>>,
    is_cancelled: bool,
}

impl Working {
    fn take(work: &Mutex<Option<Work>>) -> Option<Work> {
        work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A range of a file that is being sent.
#[derive(Debug)]
struct Source {
    file: File,
    /// Where the next piece begins.
    offset: u64,
    /// Bytes that have not been read.
    left: u64,
    /// The read in flight, and how many bytes it asked for.
    reading: Option<(OpId, usize)>,
}

impl Encrypted {
    pub(super) fn new(connection: Connection, stream: Stream, read_token: Option<Token>) -> Self {
        Self {
            connection,
            stream,
            read_token,
            life: Life::Open,
            pending: Chain::new(),
            file: None,
            file_fault: None,
            working: None,
            wants_shutdown: false,
            given_bytes: 0,
            sent_before: 0,
            batch: Batch::default(),
            received_bytes: 0,
            retry_at: None,
            kernel: Kernel::default(),
        }
    }

    pub(super) const fn socket(&self) -> Socket {
        self.connection.socket()
    }

    pub(super) fn handshake(&self) -> Handshake<'_> {
        self.stream.handshake()
    }

    /// Has the answer to the client's first message computed away from the loop. Call it before
    /// anything is taken.
    pub(super) const fn work_away(&mut self) {
        if self.read_token.is_some() {
            self.stream.work_away();
        }
    }

    /// Takes bytes that were received before TLS was begun.
    pub(super) fn feed(&mut self, buffer: Buffer) {
        self.stream.feed(buffer);
    }

    #[cold]
    pub(super) fn on_received(&mut self, outcome: Outcome) {
        if let Some(buffer) = self.connection.on_received(outcome) {
            self.stream.feed(buffer);
        }
    }

    /// Decrypts what has arrived, and returns the next plaintext.
    #[cold]
    pub(super) fn take_received(&mut self) -> Option<Buffer> {
        if self.life != Life::Open {
            return None;
        }
        if let Some(buffer) = self.stream.take() {
            self.received_bytes += buffer.len() as u64;
            return Some(buffer);
        }
        if self.connection.reader.end() == Some(End::Eof) && self.stream.is_drained() {
            #[cfg(feature = "internals")]
            if self.stream.is_established()
                && !self.stream.peer_has_closed()
                && planted_bug::strikes(TlsBug::TruncationIsEnd)
            {
                self.stream.end_as_if_closed();
            }
            self.stream.end();
        }
        None
    }

    #[cold]
    pub(super) fn on_sent(&mut self, outcome: Outcome) {
        let outcome = self.note_kernel(outcome);
        self.connection.on_sent(outcome);
    }

    /// Begins what is to be computed away from the loop.
    fn begin_work(&mut self, ops: &mut Ops) {
        let Some(token) = self.read_token else { return };
        let Some(work) = self.stream.take_work() else { return };
        let work = Arc::new(Mutex::new(Some(work)));
        let taken = Arc::clone(&work);
        let computation = Computation::new(move || Working::take(&taken).map(Work::run));
        let id = ops.submit(token, Op::Compute(computation));
        self.working = Some(Working { id, work, is_cancelled: false });
    }

    /// Goes on with what was computed. If there was no thread for it, it is computed here.
    fn end_work(&mut self, working: &Working, outcome: Outcome) {
        let done = match outcome {
            Outcome::Computed(computed) => computed.take::<Option<WorkDone>>().flatten(),
            _ if self.life == Life::Open => Working::take(&working.work).map(Work::run),
            // It is being closed.
            _ => None,
        };
        if let Some(done) = done {
            self.stream.resume(done);
        }
    }

    /// Records the outcome of reading a piece of a file, or of a computation.
    #[cold]
    pub(super) fn on_read(&mut self, outcome: Outcome) {
        if let Some(working) = self.working.take() {
            return self.end_work(&working, outcome);
        }
        let Some((source, (_, wanted))) =
            self.file.as_mut().and_then(|source| source.reading.take().map(|reading| (source, reading)))
        else {
            tracing::error!(outcome = outcome.name(), "a piece of a file that was not asked for");
            return;
        };
        match outcome {
            Outcome::Read(bytes) => {
                source.offset += bytes.len() as u64;
                source.left -= (bytes.len() as u64).min(source.left);
                if bytes.len() < wanted {
                    self.file_fault = Some(Fault::FileTruncated);
                }
                self.pending.push(bytes);
            }
            Outcome::Failed(fault) => self.file_fault = Some(fault),
            // It is being closed.
            _ => self.file_fault = Some(Fault::Os(libc::ECANCELED)),
        }
        if self.file_fault.is_some() || source.left == 0 {
            self.file = None;
        }
    }

    pub(super) fn on_closed(&mut self, outcome: Outcome) {
        self.connection.on_closed(outcome);
    }

    #[cold]
    pub(super) fn set_receiving(&mut self, wanted: bool, ops: &mut Ops) {
        let is_held_up = self.stream.is_blocked() || self.stream.is_away();
        let wanted = wanted && !is_held_up && !self.stream.peer_has_closed();
        self.connection.reader.want(wanted, ops);
    }

    pub(super) fn stop_receiving(&mut self, ops: &mut Ops) {
        self.connection.reader.stop(ops);
    }

    pub(super) const fn is_receiving(&self) -> bool {
        self.connection.reader.is_receiving()
    }

    #[cold]
    pub(super) fn input_end(&self) -> Option<End> {
        if !self.stream.is_drained() {
            return None;
        }
        match (self.stream.fault(), self.connection.reader.end()) {
            (Some(fault), _) => Some(End::Failed(Fault::Tls(fault))),
            (None, _) if self.stream.peer_has_closed() => Some(End::Eof),
            (None, Some(End::Failed(fault))) => Some(End::Failed(fault)),
            // An end without `close_notify` becomes a fault when what arrived before it is taken.
            (None, Some(End::Eof) | None) => None,
        }
    }

    #[cold]
    pub(super) fn receive_fault(&self) -> Option<Fault> {
        self.stream.fault().map(Fault::Tls).or_else(|| self.connection.reader.fault())
    }

    /// Whether nothing more will arrive, decrypted or not.
    pub(super) const fn has_input_ended(&self) -> bool {
        self.connection.reader.end().is_some()
    }

    pub(super) const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    #[cold]
    pub(super) fn send(&mut self, chain: Chain, ops: &mut Ops) {
        debug_assert!(self.can_send() && !chain.is_empty(), "send while {self:?}");
        self.given_bytes += chain.len() as u64;
        self.pending = chain;
        self.drive(ops);
    }

    #[cold]
    pub(super) fn send_file(&mut self, head: Chain, file: File, offset: u64, length: u64, ops: &mut Ops) {
        debug_assert!(self.can_send() && length > 0, "send_file while {self:?}");
        self.given_bytes += head.len() as u64 + length;
        self.pending = head;
        self.file = Some(Source { file, offset, left: length, reading: None });
        self.consider_kernel(length);
        self.drive(ops);
    }

    /// Sends bytes that are not encrypted, to a peer that does not speak TLS.
    #[cold]
    pub(super) fn send_unencrypted(&mut self, chain: Chain, ops: &mut Ops) {
        if self.connection.writer.is_idle() && self.stream.fault().is_some() && !chain.is_empty() {
            self.connection.writer.send(chain, ops);
        }
    }

    /// Queues the `close_notify`; the end of the connection's sending side follows it.
    #[cold]
    pub(super) fn shutdown(&mut self, ops: &mut Ops) {
        self.file_fault = None;
        self.wants_shutdown = true;
        #[cfg(feature = "internals")]
        if self.stream.is_established() && planted_bug::strikes(TlsBug::NoCloseNotify) {
            return self.drive(ops);
        }
        self.stream.close();
        self.drive(ops);
    }

    /// Sends what is there to send, at the end of each pump.
    #[cold]
    pub(super) fn pump(&mut self, now: Time, ops: &mut Ops) {
        self.retry_at = self.stream.is_blocked().then(|| now + RETRY);
        if self.life == Life::Open {
            self.begin_work(ops);
            self.drive(ops);
        }
    }

    /// When to pump at the latest.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    fn drive(&mut self, ops: &mut Ops) {
        if self.drive_kernel(ops) {
            return;
        }
        self.read_on(ops);
        // What is before a piece of a file goes out with it.
        let is_reading = self.file.as_ref().is_some_and(|source| source.reading.is_some());
        if !self.connection.writer.is_idle() || is_reading && self.pending.len() < SEAL_BYTES_MAX {
            return;
        }
        let before = self.pending.len();
        let sealed = self.stream.seal(&mut self.pending);
        if !sealed.is_empty() {
            self.begin_batch((before - self.pending.len()) as u64, sealed.len() as u64);
            self.connection.writer.send(sealed, ops);
            self.read_on(ops);
        } else if self.wants_shutdown && self.pending.is_empty() {
            self.connection.writer.finish(ops);
        }
    }

    fn begin_batch(&mut self, plaintext: u64, ciphertext: u64) {
        self.sent_before += self.batch.plaintext;
        self.batch = Batch { plaintext, ciphertext, start: self.connection.writer.sent_bytes() };
    }

    /// Reads the next piece of the file while the one before is being sent.
    fn read_on(&mut self, ops: &mut Ops) {
        let Some(source) = self.file.as_mut().filter(|source| source.reading.is_none()) else { return };
        if self.pending.len() >= SEAL_BYTES_MAX || self.connection.writer.has_failed() {
            return;
        }
        let Some(token) = self.read_token else {
            self.file_fault = Some(Fault::Os(libc::EOPNOTSUPP));
            self.file = None;
            return;
        };
        let length = usize::try_from(source.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let id = ops.submit(token, Op::Read { file: source.file, offset: source.offset, length });
        source.reading = Some((id, length));
    }

    /// Whether something that was given is not sent yet.
    fn is_sending(&self) -> bool {
        !self.pending.is_empty()
            || self.file.is_some()
            || self.connection.writer.is_sending()
            || self.kernel.is_unsettled()
    }

    /// The same, without what TLS itself sends.
    fn is_sending_plaintext(&self) -> bool {
        let is_batch = self.batch.plaintext > 0 && self.connection.writer.is_sending();
        !self.pending.is_empty() || self.file.is_some() || is_batch || self.kernel.is_unsettled()
    }

    #[cold]
    pub(super) fn can_send(&self) -> bool {
        self.connection.writer.is_idle()
            && !self.is_sending()
            && !self.wants_shutdown
            && self.file_fault.is_none()
            && self.stream.is_established()
    }

    #[cold]
    pub(super) fn is_sending_at_rest(&self) -> bool {
        let is_at_rest = self.connection.writer.is_at_rest() && !self.is_reading();
        let is_over = self.stream.fault().is_some() || self.connection.writer.has_failed();
        let waits_to_finish = self.wants_shutdown && self.connection.writer.is_idle();
        is_at_rest && (is_over || !self.is_sending() && !waits_to_finish) && !self.stream.has_output()
    }

    const fn is_reading(&self) -> bool {
        matches!(self.file, Some(Source { reading: Some(_), .. }))
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.connection.writer.is_finished() || self.has_parted()
    }

    /// Whether both sides have ended the connection in order, and only our `close_notify` did not
    /// arrive: a peer that has said goodbye may be gone already (RFC 8446, 6.1).
    fn has_parted(&self) -> bool {
        self.wants_shutdown
            && self.connection.writer.has_failed()
            && self.stream.peer_has_closed()
            && self.pending.is_empty()
            && self.file.is_none()
            && self.batch.plaintext == 0
    }

    #[cold]
    pub(super) fn send_fault(&self) -> Option<Fault> {
        if self.has_parted() {
            return None;
        }
        let fault = self.connection.writer.fault().or_else(|| self.stream.fault().map(Fault::Tls));
        // What was read of the file before goes out first.
        fault.or_else(|| self.file_fault.filter(|_| self.connection.writer.is_idle() && self.pending.is_empty()))
    }

    #[cold]
    pub(super) fn is_broken(&self) -> bool {
        self.connection.reader.is_broken() || self.send_fault().is_some()
    }

    pub(super) fn lacks_file(&self) -> bool {
        self.send_fault() == Some(Fault::FileTruncated)
    }

    pub(super) const fn given_bytes(&self) -> u64 {
        self.given_bytes
    }

    /// Of a batch that is sent in part, the same part of its plaintext counts as sent.
    #[cold]
    pub(super) fn sent_bytes(&self) -> u64 {
        let Batch { plaintext, ciphertext, start } = self.batch;
        let sent = (self.connection.writer.sent_bytes() - start).min(ciphertext);
        self.sent_before + (plaintext * sent).checked_div(ciphertext).unwrap_or(0)
    }

    pub(super) fn delivered_bytes(&self) -> u64 {
        let lost = self.connection.writer.sent_bytes() - self.connection.delivered_bytes();
        self.sent_bytes().saturating_sub(lost)
    }

    pub(super) fn undelivered_bytes(&self) -> u64 {
        self.given_bytes - self.delivered_bytes().min(self.given_bytes)
    }

    #[cold]
    pub(super) fn close(&mut self, close_kind: CloseKind, ops: &mut Ops) {
        if self.life == Life::Open {
            self.connection.reader.stop(ops);
            self.life = match close_kind {
                CloseKind::FlushReset => Life::Flush,
                CloseKind::Fin if self.is_sending_plaintext() => Life::Over(CloseKind::Reset),
                CloseKind::Fin => self.send_close_notify(ops),
                CloseKind::Reset => Life::Over(CloseKind::Reset),
            };
        }
        if self.life == Life::Flush {
            self.drive(ops);
            if close_kind == CloseKind::Reset || !self.is_sending() || self.send_fault().is_some() {
                self.life = Life::Over(CloseKind::FlushReset);
            }
        }
        if self.life == Life::Cancelling && self.connection.writer.is_at_rest() {
            self.life = self.send_close_notify(ops);
        }
        if self.life == Life::Notifying && self.connection.writer.is_at_rest() {
            self.life = Life::Over(CloseKind::Fin);
        }
        if let Life::Over(decided) = self.life {
            self.drop_unsent(ops);
            let is_cut = decided == CloseKind::FlushReset && close_kind == CloseKind::Reset;
            self.connection.close(if is_cut { CloseKind::Reset } else { decided }, ops);
        }
    }

    /// A peer that gets no `close_notify` has to take what it has for truncated. One that does not
    /// read is not waited for.
    fn send_close_notify(&mut self, ops: &mut Ops) -> Life {
        if self.connection.writer.is_sending() {
            // Something of TLS itself. If the kernel has taken all of it, a `close_notify` can follow.
            self.connection.cancel_send(ops);
            return Life::Cancelling;
        }
        self.stream.close();
        if let Some(life) = self.send_close_notify_by_kernel(ops) {
            return life;
        }
        let close_notify = self.stream.take_output();
        if close_notify.is_empty() || !self.connection.writer.is_idle() {
            return Life::Over(CloseKind::Fin);
        }
        self.connection.send_at_once(close_notify, ops);
        Life::Notifying
    }

    fn drop_unsent(&mut self, ops: &mut Ops) {
        if let Some(working) = self.working.as_mut().filter(|working| !working.is_cancelled) {
            working.is_cancelled = true;
            ops.cancel(working.id);
        }
        self.pending = Chain::new();
        match &mut self.file {
            // Cancelled once.
            Some(Source { reading: Some((id, _)), left, .. }) if *left > 0 => {
                *left = 0;
                ops.cancel(*id);
            }
            Some(Source { reading: None, .. }) => self.file = None,
            Some(Source { reading: Some(_), .. }) | None => {}
        }
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.connection.is_closed() && !self.is_reading() && self.working.is_none()
    }

    /// Bytes of memory held for data: what has arrived and is not decrypted, ciphertext that is being
    /// sent, pieces of a file. Not plaintext that a service gave, which it counts until it is sent.
    pub(super) fn memory(&self) -> usize {
        let is_encrypted_here = self.connection.writer.is_sending() && !self.kernel.encrypts();
        let ciphertext = if is_encrypted_here { self.batch.ciphertext as usize } else { 0 };
        let file = match &self.file {
            Some(source) => self.pending.memory() + source.reading.map_or(0, |(_, length)| length),
            None => 0,
        };
        self.stream.memory() + ciphertext + file
    }

    /// The upper bound of [`Encrypted::memory`], apart from data already in flight when receiving was
    /// paused, in bytes.
    pub(super) const MEMORY_MAX: usize = Stream::MEMORY_MAX + 2 * SEAL_BYTES_MAX + 3 * PIECE_BYTES;
}

/// Without plaintext, which does not belong in logs.
impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted")
            .field("connection", &self.connection)
            .field("stream", &self.stream)
            .field("life", &self.life)
            .field("pending_bytes", &self.pending.len())
            .field("file", &self.file)
            .field("file_fault", &self.file_fault)
            .field("wants_shutdown", &self.wants_shutdown)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
