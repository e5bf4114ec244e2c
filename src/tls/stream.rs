//! TLS over the buffers of this program: received buffers become plaintext, plaintext becomes chains
//! to send.
//!
//! ```text
//!              ClientHello …            both Finished          close_notify of the peer
//!   (opening) ─────────────► handshake ──────────────► traffic ─────────────────────────► closed
//!       │ plain HTTP, garbage    │ refused, left          │ malformed, ended without it
//!       └────────────────────────┴────────────────────────┴─────► failed: a `TlsFault`
//! ```
//!
//! **Receiving.** Records are decrypted in the received buffer, and their plaintext is moved to its
//! beginning: a buffer goes in, the same buffer comes out, and nothing else is held. Only a record
//! that does not end in the buffer in which it begins is gathered in memory of its own; its plaintext
//! goes into another buffer of the pool. If none is free, it is kept aside, and nothing more is
//! decrypted until there is one.
//!
//! **Away from the loop.** Where a signature takes long ([`Stream::work_away`]), the answer to a
//! ClientHello is computed elsewhere: the session goes with the message ([`Stream::take_work`]) and comes
//! back ([`Stream::resume`]). Meanwhile nothing is decrypted.
//!
//! **Sending.** Pieces that are shorter than a record are joined to one. A call encrypts at most
//! [`SEAL_BYTES_MAX`] bytes, so that a long answer neither holds the loop nor much memory.

#[cfg(feature = "ktls-tx")]
mod kernel;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, ProtocolVersion, ServerConfig};

use super::client_hello::{ClientHello, HANDSHAKE_RECORD, HELLO_BYTES_MAX, HelloError};
use super::fault::fault_of;
#[cfg(feature = "internals")]
use super::planted_bug;
use super::session::{Next, OVERHEAD_BYTES_MAX, Processed, RECORD_BYTES_MAX, Refused, Session};
use crate::buffer::{Buffer, Chain, Chunk, Pool, SizeClass};
use crate::driver::TlsFault;

/// The most plaintext that one call of [`Stream::seal`] encrypts, in bytes.
pub const SEAL_BYTES_MAX: usize = 64 << 10;

/// The length of a record's header, in bytes (RFC 8446, 5.1).
const HEADER_BYTES: usize = 5;

/// The most that a record may be longer than its plaintext, in bytes (RFC 5246, 6.2.3).
const EXPANSION_BYTES_MAX: usize = 2048;

/// The most received bytes that are gathered, in bytes: a message of a handshake with its records,
/// and one record that is not complete. A message above 64 KiB is refused anyway.
const GATHERED_BYTES_MAX: usize = (64 << 10) + 2 * (RECORD_BYTES_MAX + EXPANSION_BYTES_MAX);

/// Below this size, in bytes, a record is not begun in what is left of a buffer.
const PIECE_BYTES_MIN: usize = 1024;

/// The longest method that an HTTP request without TLS is recognised by, in bytes.
const METHOD_BYTES_MAX: usize = 16;

/// One side of a TLS connection.
pub struct Stream {
    session: Session,
    opening: Opening,
    /// Received and not looked at.
    inbox: VecDeque<Chunk>,
    /// Bytes of records that were not complete in their buffer, or of a message that is not complete
    /// in its records.
    gathered: Vec<u8>,
    /// Where in `gathered` the record begins that is not complete.
    record_start: usize,
    /// Plaintext that found no buffer in the pool.
    aside: Vec<u8>,
    /// What TLS itself has to send.
    output: Vec<u8>,
    /// Where the received buffers came from.
    pool: Option<Pool>,
    server_name: Option<Box<str>>,
    peer_has_closed: bool,
    has_closed: bool,
    fault: Option<TlsFault>,
    away: Away,
    /// The keys of what is sent, on a server's side.
    #[cfg(feature = "ktls-tx")]
    sending: Option<Arc<super::ktls::Sending>>,
}

/// Whether the ClientHello is processed away from the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// No, or it is over.
    No,
    /// Once it is complete.
    Wanted,
    /// It is complete, and gathered.
    Due,
}

/// A session with a message to be processed, away from its stream.
pub struct Work {
    session: Session,
    gathered: Vec<u8>,
    output: Vec<u8>,
    #[cfg(feature = "ktls-tx")]
    sending: Option<Arc<super::ktls::Sending>>,
}

/// The result of a [`Work`].
pub struct WorkDone {
    work: Work,
    processed: Processed,
}

impl Work {
    /// Processes the message, which may take milliseconds.
    pub fn run(mut self) -> WorkDone {
        #[cfg(feature = "ktls-tx")]
        let _scope = self.sending.as_ref().map(super::ktls::Sending::scope);
        let processed = self.session.process(&mut self.gathered, &mut self.output);
        WorkDone { work: self, processed }
    }
}

/// What is known of the first bytes of the peer.
enum Opening {
    /// Nothing has arrived, or the beginning of what could be an HTTP method.
    Awaited,
    /// The payload of the handshake records so far.
    Hello(Vec<u8>),
    /// Read, or of no interest.
    Over,
}

/// How far a handshake is.
#[derive(Debug)]
pub enum Handshake<'a> {
    /// It waits for the peer, or for its own bytes to be sent.
    InProgress,
    /// Complete. Plaintext may be sent and received.
    Done(HandshakeInfo<'a>),
    /// It failed, or TLS has failed since. What it has to say to the peer is in the output.
    Failed(TlsFault),
}

/// What a handshake has settled.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeInfo<'a> {
    /// The version, as it is usually written: `TLSv1.3`.
    pub version: &'static str,
    /// The name of the cipher suite in the registry.
    pub cipher_suite: &'static str,
    /// The application protocol (ALPN), if one was agreed on.
    pub protocol: Option<&'a [u8]>,
    /// The name that the client asked for (SNI), in lower case; printable ASCII. `None` on a client's
    /// side.
    pub server_name: Option<&'a str>,
    /// The certificates that the peer presented, its own first. On a server's side only if it asked
    /// for them.
    pub peer_certificates: &'a [CertificateDer<'static>],
    /// Whether it resumed an earlier session.
    pub is_resumed: bool,
}

impl Stream {
    /// The server's side of a connection.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let stream = Self::of(Session::server(config)?, Opening::Awaited);
        #[cfg(feature = "ktls-tx")]
        let stream = Self { sending: Some(Arc::default()), ..stream };
        Ok(stream)
    }

    /// The client's side of a connection to a server with this name. Its first message is in the
    /// output at once.
    ///
    /// # Errors
    /// The configuration cannot be used, or there is no randomness.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let mut stream = Self::of(Session::client(config, name)?, Opening::Over);
        stream.process_gathered();
        Ok(stream)
    }

    const fn of(session: Session, opening: Opening) -> Self {
        Self {
            session,
            opening,
            inbox: VecDeque::new(),
            gathered: Vec::new(),
            record_start: 0,
            aside: Vec::new(),
            output: Vec::new(),
            pool: None,
            server_name: None,
            peer_has_closed: false,
            has_closed: false,
            fault: None,
            away: Away::No,
            #[cfg(feature = "ktls-tx")]
            sending: None,
        }
    }

    /// Has the first message of the client processed away from the loop. Call it before anything is
    /// taken. A second one, after a HelloRetryRequest, is processed on the loop: hardly any client has to
    /// send one, since those that offer a common group at all usually send a share for it.
    pub const fn work_away(&mut self) {
        self.away = Away::Wanted;
    }

    /// What is to be processed away from the loop now. The result goes to [`Stream::resume`].
    pub fn take_work(&mut self) -> Option<Work> {
        if self.away != Away::Due || self.has_ended() {
            return None;
        }
        self.away = Away::No;
        let session = std::mem::replace(&mut self.session, Session::Away);
        self.record_start = 0;
        Some(Work {
            session,
            gathered: std::mem::take(&mut self.gathered),
            output: std::mem::take(&mut self.output),
            #[cfg(feature = "ktls-tx")]
            sending: self.sending.clone(),
        })
    }

    /// Goes on with what was processed away from the loop.
    pub fn resume(&mut self, done: WorkDone) {
        #[cfg(feature = "ktls-tx")]
        let _scope = self.scope();
        let WorkDone { work: Work { session, gathered, output, .. }, processed } = done;
        (self.session, self.output) = (session, output);
        if self.fault.is_some() {
            return;
        }
        self.gathered = gathered;
        self.record_start = self.gathered.len();
        if self.note(processed) {
            self.process_gathered();
        } else if self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }

    /// Whether nothing can be decrypted before [`Stream::resume`].
    pub fn is_away(&self) -> bool {
        self.away == Away::Due || self.session.is_away()
    }

    /// Adds received bytes. [`Stream::take`] looks at them.
    pub fn feed(&mut self, buffer: Buffer) {
        if self.pool.is_none() {
            self.pool = Some(buffer.pool());
        }
        self.inbox.push_back(buffer.into());
    }

    /// Decrypts what has arrived and returns the next plaintext. `None`: more has to arrive, or there
    /// is no room ([`Stream::is_blocked`]), or there will be none.
    pub fn take(&mut self) -> Option<Buffer> {
        #[cfg(feature = "ktls-tx")]
        let _scope = self.scope();
        loop {
            if !self.aside.is_empty() {
                return self.place_aside().or_else(|| {
                    self.settle();
                    self.place_aside()
                });
            }
            if self.has_ended() {
                self.inbox = VecDeque::new();
                self.gathered = Vec::new();
                return None;
            }
            if self.is_away() {
                return None;
            }
            let mut chunk = self.inbox.pop_front()?;
            if matches!(self.opening, Opening::Awaited) && !self.opens(&chunk) {
                continue;
            }
            if self.gathered.is_empty()
                && self.away == Away::No
                && let Chunk::Pool(buffer) = &mut chunk
                && let Some(bytes) = buffer.try_mut()
            {
                let length = self.decrypt(bytes);
                if let Chunk::Pool(mut buffer) = chunk
                    && length > 0
                {
                    buffer.truncate(length);
                    return Some(buffer);
                }
            } else {
                let count = self.gather(&chunk);
                chunk.advance(count);
                if !chunk.is_empty() {
                    self.inbox.push_front(chunk);
                }
                self.process_gathered();
            }
        }
    }

    /// Looks at the first bytes of a client. `false`: they are not passed on.
    fn opens(&mut self, bytes: &[u8]) -> bool {
        // Only what may be the beginning of a method is here.
        let before = self.gathered.len();
        let beginning: Vec<u8> = self.gathered.iter().chain(bytes).copied().take(METHOD_BYTES_MAX + 1).collect();
        let method = beginning.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        match beginning.get(method) {
            Some(b' ') if method > 0 => self.fail(TlsFault::PlainHttp),
            None if method <= METHOD_BYTES_MAX => {
                self.gathered.extend_from_slice(bytes);
                return false;
            }
            Some(_) | None => {
                self.opening = Opening::Hello(Vec::new());
                self.record_start = 0;
                if before > 0 {
                    // No record begins with a letter. The session answers that.
                    self.process_gathered();
                }
            }
        }
        !self.has_ended()
    }

    /// Decrypts the records in `bytes`, and moves their plaintext to the beginning. Returns its
    /// length. What is not complete is gathered.
    fn decrypt(&mut self, bytes: &mut [u8]) -> usize {
        let whole = whole_records(bytes);
        self.note_records(&bytes[..whole]);
        let (mut read, mut written) = (0, 0);
        loop {
            let before = self.output.len();
            let processed = self.session.process(bytes.get_mut(read..).unwrap_or_default(), &mut self.output);
            self.say_nothing_after_closing(before);
            read += processed.consumed;
            match processed.next {
                Next::Record => {
                    let is_in_place = {
                        let mut fits = true;
                        // A record is longer than its plaintext, so its place is free by now.
                        self.session.take_record(|record| match bytes.get_mut(written..read) {
                            Some(room) if record.len() <= room.len() => {
                                room[..record.len()].copy_from_slice(record);
                                written += record.len();
                            }
                            Some(_) | None => fits = false,
                        });
                        fits
                    };
                    if !is_in_place {
                        self.fail(TlsFault::Internal);
                        return written;
                    }
                }
                Next::Input => break,
                next => {
                    self.end_by(next);
                    return written;
                }
            }
        }
        let rest = bytes.get(read..).unwrap_or_default();
        if !rest.is_empty() {
            self.record_start = whole.saturating_sub(read);
            self.gathered.extend_from_slice(rest);
        }
        written
    }

    /// Gathers bytes up to the end of the record that is not complete. Returns how many.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        let record = self.gathered.get(self.record_start..).unwrap_or_default();
        let missing = HEADER_BYTES.saturating_sub(record.len()).min(bytes.len());
        self.gathered.extend_from_slice(&bytes[..missing]);
        count += missing;
        let record = self.gathered.get(self.record_start..).unwrap_or_default();
        if let Some(length) = record_length(record) {
            let missing = length.saturating_sub(record.len());
            let more = missing.min(bytes.len() - count);
            self.gathered.reserve_exact(missing);
            self.gathered.extend_from_slice(&bytes[count..][..more]);
            count += more;
            if more == missing {
                let start = self.record_start;
                self.record_start = self.gathered.len();
                if matches!(self.opening, Opening::Hello(_)) {
                    let record = self.gathered.get(start..).unwrap_or_default().to_vec();
                    self.note_records(&record);
                }
            }
        }
        if self.gathered.len() > GATHERED_BYTES_MAX {
            self.fail(TlsFault::TooLarge);
        }
        count
    }

    /// Processes what is gathered, if a record is complete. Plaintext is put aside.
    fn process_gathered(&mut self) {
        if self.away == Away::Wanted && self.gathered.first() != Some(&HANDSHAKE_RECORD) {
            // Not even the beginning of one.
            self.away = Away::No;
        }
        if self.away == Away::Wanted {
            // The names have been read when the message is complete, or cannot be one.
            if matches!(self.opening, Opening::Over) && self.fault.is_none() {
                self.away = Away::Due;
            }
            return;
        }
        while self.fault.is_none() {
            let before = self.output.len();
            let processed = self.session.process(&mut self.gathered, &mut self.output);
            self.say_nothing_after_closing(before);
            if !self.note(processed) {
                break;
            }
        }
        if self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }

    /// Drops what rustls adds to the output after a `close_notify`, such as an alert: it could not be sent,
    /// and nothing may follow (RFC 8446, 6.1).
    fn say_nothing_after_closing(&mut self, output_bytes: usize) {
        if self.has_closed {
            self.output.truncate(output_bytes);
        }
    }

    /// Notes what was processed of what is gathered. `true`: there may be more.
    fn note(&mut self, processed: Processed) -> bool {
        self.gathered.drain(..processed.consumed.min(self.gathered.len()));
        self.record_start = self.record_start.saturating_sub(processed.consumed);
        match processed.next {
            Next::Record => self.session.take_record(|record| self.aside.extend_from_slice(record)),
            Next::Input => return false,
            next => {
                self.end_by(next);
                return false;
            }
        }
        true
    }

    /// Copies what has arrived out of its buffers, so that these can be used.
    fn settle(&mut self) {
        for chunk in &mut self.inbox {
            if let Chunk::Pool(buffer) = chunk {
                *chunk = Chunk::owned(buffer.to_vec());
            }
        }
    }

    /// Moves plaintext that was put aside to a buffer of the pool.
    fn place_aside(&mut self) -> Option<Buffer> {
        let pool = self.pool.as_ref()?;
        let mut length = 0;
        let mut fill = |memory: &mut [u8]| {
            length = memory.len().min(self.aside.len());
            memory[..length].copy_from_slice(&self.aside[..length]);
            Ok::<_, std::convert::Infallible>(length)
        };
        let filled = match pool.filled(SizeClass::Small, &mut fill) {
            Some(filled) => Some(filled),
            None => pool.filled(SizeClass::Large, fill),
        };
        let Some(Ok(buffer)) = filled else { return None };
        if length == self.aside.len() {
            self.aside = Vec::new();
        } else {
            self.aside.drain(..length);
        }
        Some(buffer)
    }

    /// Reads the names in the first message of a client, from the records that are about to be
    /// processed.
    fn note_records(&mut self, mut records: &[u8]) {
        let Opening::Hello(message) = &mut self.opening else { return };
        while let Some(length) = record_length(records).filter(|length| *length <= records.len()) {
            let (record, rest) = records.split_at(length);
            message.extend_from_slice(&record[HEADER_BYTES.min(length)..]);
            records = rest;
        }
        match ClientHello::of_message(message) {
            Err(HelloError::Partial) if message.len() <= HELLO_BYTES_MAX => {}
            result => {
                self.server_name = result.ok().and_then(|hello| hello.server_name);
                self.opening = Opening::Over;
            }
        }
    }

    fn end_by(&mut self, next: Next) {
        match next {
            Next::Record | Next::Input => {}
            Next::Closed => {
                self.peer_has_closed = true;
                self.gathered = Vec::new();
            }
            Next::Failed(error) => {
                let fault = fault_of(&error, self.session.is_handshaking());
                tracing::debug!(%error, "TLS failed");
                self.fail(fault);
            }
        }
    }

    fn fail(&mut self, fault: TlsFault) {
        if self.fault.is_none() {
            self.fault = Some(fault);
        }
        self.gathered = Vec::new();
        self.opening = Opening::Over;
    }

    /// Notes that the peer will send nothing more: its connection has ended. Call it once all that
    /// arrived has been decrypted. Without a `close_notify` before, it is a fault.
    pub fn end(&mut self) {
        if !self.has_ended() {
            let is_unheard = matches!(self.opening, Opening::Awaited) && self.gathered.is_empty();
            self.fail(match self.session.is_handshaking() {
                true if is_unheard => TlsFault::NothingSent,
                true => TlsFault::Abandoned,
                false => TlsFault::Truncated,
            });
        }
    }

    /// What [`TlsBug::TruncationIsEnd`] does in place of [`Stream::end`].
    ///
    /// [`TlsBug::TruncationIsEnd`]: planted_bug::TlsBug::TruncationIsEnd
    #[cfg(feature = "internals")]
    pub(crate) fn end_as_if_closed(&mut self) {
        self.peer_has_closed = true;
    }

    /// Whether nothing more will be decrypted.
    const fn has_ended(&self) -> bool {
        self.peer_has_closed || self.fault.is_some()
    }

    /// Encrypts plaintext, at most [`SEAL_BYTES_MAX`] bytes of it. What TLS itself has to send comes
    /// first. Nothing is taken before the handshake is complete or after a fault.
    #[must_use]
    pub fn seal(&mut self, plaintext: &mut Chain) -> Chain {
        let mut sealed = self.take_output();
        if !self.can_seal() {
            return sealed;
        }
        #[cfg(feature = "ktls-tx")]
        let _scope = self.scope();
        let mut budget = SEAL_BYTES_MAX;
        while budget > 0 && !plaintext.is_empty() && self.fault.is_none() {
            let before = plaintext.len();
            let chunk = self.fill_chunk(plaintext, &mut budget);
            #[cfg(feature = "internals")]
            if plaintext.is_empty() && planted_bug::strikes(planted_bug::TlsBug::LostRecord) {
                break;
            }
            sealed.push(chunk);
            if plaintext.len() == before {
                self.fail(TlsFault::Internal);
            }
        }
        sealed
    }

    /// Fills one piece of memory with records.
    fn fill_chunk(&mut self, plaintext: &mut Chain, budget: &mut usize) -> Chunk {
        // A buffer of the reserve is for who receives.
        if let Some(pool) = self.pool.clone().filter(|pool| !pool.is_scarce()) {
            let fill = |memory: &mut [u8]| Ok::<_, std::convert::Infallible>(self.fill(memory, plaintext, budget));
            if let Some(Ok(buffer)) = pool.filled(SizeClass::Small, fill) {
                return buffer.into();
            }
        }
        // Pieces that are joined need room for both.
        let room = 2 * plaintext.len().min(*budget) + OVERHEAD_BYTES_MAX;
        let mut memory = vec![0; room.min(RECORD_BYTES_MAX + OVERHEAD_BYTES_MAX)];
        let length = self.fill(&mut memory, plaintext, budget);
        memory.truncate(length);
        memory.shrink_to_fit();
        Chunk::owned(memory)
    }

    /// Fills `memory` with records, and returns the length of them.
    fn fill(&mut self, memory: &mut [u8], plaintext: &mut Chain, budget: &mut usize) -> usize {
        let mut filled = 0;
        while let Some(first) = plaintext.chunks().first().filter(|_| *budget > 0) {
            let room = &mut memory[filled..];
            let free = room.len().saturating_sub(OVERHEAD_BYTES_MAX);
            let direct = first.len().min(free).min(RECORD_BYTES_MAX).min(*budget);
            // Joined, the pieces are copied to the end of the room first.
            let joined = plaintext.len().min(free / 2).min(*budget);
            let wanted = plaintext.len().min(PIECE_BYTES_MIN).min(*budget);
            let (count, written) = if direct >= joined && direct >= wanted {
                (direct, self.session.encrypt(&first[..direct], room, &mut self.gathered))
            } else if joined >= wanted {
                let (room, end) = room.split_at_mut(room.len() - joined);
                copy(plaintext, end);
                (joined, self.session.encrypt(end, room, &mut self.gathered))
            } else {
                break;
            };
            match written {
                Ok(written) => {
                    filled += written;
                    plaintext.advance(count);
                    *budget -= count;
                }
                Err(Refused::Room) if filled > 0 => break,
                Err(refused) => {
                    tracing::debug!(?refused, "cannot encrypt");
                    self.fail(TlsFault::Internal);
                    break;
                }
            }
        }
        filled
    }

    /// Adds a `close_notify` to what TLS itself has to send, once. It has to follow the last
    /// plaintext. Before the handshake is complete there is none.
    pub fn close(&mut self) {
        if !self.has_closed && self.can_seal() {
            self.has_closed = true;
            #[cfg(feature = "ktls-tx")]
            let _scope = self.scope();
            self.session.close(&mut self.gathered, &mut self.output);
        }
    }

    /// Whether plaintext can be encrypted.
    fn can_seal(&self) -> bool {
        self.fault.is_none() && !self.has_closed && !self.session.is_handshaking()
    }

    /// Takes what TLS itself has to send.
    #[must_use]
    pub fn take_output(&mut self) -> Chain {
        match self.output.is_empty() {
            true => Chain::new(),
            false => Chunk::owned(std::mem::take(&mut self.output)).into(),
        }
    }

    /// Whether TLS itself has something to send.
    pub const fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// How far the handshake is.
    pub fn handshake(&self) -> Handshake<'_> {
        match (self.fault, self.session.common()) {
            (Some(fault), _) => Handshake::Failed(fault),
            (None, Some(common)) if !common.is_handshaking() => Handshake::Done(self.info(common)),
            (None, Some(_) | None) => Handshake::InProgress,
        }
    }

    /// What the handshake has settled.
    fn info<'s>(&'s self, common: &'s CommonState) -> HandshakeInfo<'s> {
        HandshakeInfo {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(_) | None => "unknown",
            },
            cipher_suite: common
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .map_or("unknown", registered),
            protocol: common.alpn_protocol(),
            server_name: self.server_name.as_deref(),
            peer_certificates: common.peer_certificates().unwrap_or_default(),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Whether the handshake is complete and has not failed: a quick question.
    pub fn is_established(&self) -> bool {
        self.fault.is_none() && !self.session.is_handshaking()
    }

    /// The name that the client asked for, as soon as it is known.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Why TLS failed, if it has.
    pub const fn fault(&self) -> Option<TlsFault> {
        self.fault
    }

    /// Whether the peer has sent `close_notify`. The plaintext before it may not be taken yet.
    pub const fn peer_has_closed(&self) -> bool {
        self.peer_has_closed
    }

    /// Whether all that arrived has been decrypted and taken.
    pub fn is_drained(&self) -> bool {
        self.inbox.is_empty() && self.aside.is_empty()
    }

    /// Whether plaintext waits for a buffer of the pool, so that nothing more should be received.
    pub const fn is_blocked(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Whether this is the server's side.
    pub const fn is_server(&self) -> bool {
        self.session.is_server()
    }

    /// Bytes of memory held for data. rustls keeps none between the calls.
    pub fn memory(&self) -> usize {
        let hello = match &self.opening {
            Opening::Hello(message) => message.capacity(),
            Opening::Awaited | Opening::Over => 0,
        };
        let inbox: usize = self.inbox.iter().map(Chunk::memory).sum();
        hello + inbox + self.gathered.capacity() + self.aside.capacity() + self.output.capacity()
    }

    /// The upper bound of [`Stream::memory`], apart from received buffers that were not looked at,
    /// in bytes: what is gathered, a ClientHello, a record put aside and a flight of a handshake.
    pub const MEMORY_MAX: usize = 4 * GATHERED_BYTES_MAX;
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("is_server", &self.session.is_server())
            .field("is_handshaking", &self.session.is_handshaking())
            .field("peer_has_closed", &self.peer_has_closed)
            .field("has_closed", &self.has_closed)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// The name of a cipher suite in the registry of IANA. rustls has names of its own for those of TLS 1.3.
fn registered(name: &'static str) -> &'static str {
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

/// Copies the first bytes of a chain.
fn copy(chain: &Chain, mut to: &mut [u8]) {
    for chunk in chain.chunks() {
        let count = chunk.len().min(to.len());
        let (now, later) = to.split_at_mut(count);
        now.copy_from_slice(&chunk[..count]);
        to = later;
    }
}

/// The length of the record that begins here, with its header; `None`: the header is not complete. A
/// record that is too long is cut after its header, which suffices to refuse it.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let &[_, _, _, high, low, ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_valid = length <= RECORD_BYTES_MAX + EXPANSION_BYTES_MAX;
    Some(if is_valid { HEADER_BYTES + length } else { HEADER_BYTES })
}

/// The length of the records in `bytes` that are complete.
fn whole_records(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(rest) = bytes.get(whole..)
        && let Some(length) = record_length(rest)
        && length <= rest.len()
    {
        whole += length;
    }
    whole
}

#[cfg(test)]
mod tests;
