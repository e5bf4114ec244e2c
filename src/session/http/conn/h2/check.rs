//! What must hold for each stream between two pumps, and for what is counted of all of them. For tests.

use super::reads::PIECES_MAX;
use super::send::STARVING_BYTES;
use super::stream::{Stage, Stream};
use super::{Conn, Http2};
use crate::driver::Time;
use crate::http::h2::settings::INITIAL_WINDOW_BYTES;
use crate::session::check::{Awaited, StreamViolation};
use crate::session::http::stream::h2::Source;
use crate::session::{Limits, Slot};
use crate::transport::Transport;
use crate::waiter;

/// What the connection itself waits for.
#[derive(Clone, Copy)]
struct Client {
    /// Something is being sent to it. What follows makes another pump.
    is_sending: bool,
    /// It is received from, or will be once something is sent.
    is_heard: bool,
}

impl Http2 {
    /// Checks the streams of a connection that is not marked to be pumped.
    pub(super) fn check_streams(
        &self,
        client: &Transport,
        awaited: &Awaited<'_>,
        limits: &Limits,
    ) -> Result<(), StreamViolation> {
        let conn = &*self.conn;
        if !conn.life.reads() {
            return equal("streams of a connection that ends", 0, conn.streams.len());
        }
        // With TLS, a send may wait for memory.
        let is_sending =
            [Slot::ClientSend, Slot::ClientFile].iter().any(|slot| awaited.has(*slot)) || client.deadline().is_some();
        let client = Client { is_sending, is_heard: is_sending || awaited.has(Slot::ClientRecv) };
        for stream in &conn.streams {
            conn.check_stream(stream, client, awaited, limits)?;
        }
        conn.check_sums(limits)
    }
}

impl Conn {
    fn check_stream(
        &self,
        stream: &Stream,
        client: Client,
        awaited: &Awaited<'_>,
        limits: &Limits,
    ) -> Result<(), StreamViolation> {
        let number = stream.id.get();
        if !self.is_awaited(stream, client, awaited) {
            return Err(StreamViolation::Stalled { stream: number, stage: stream.stage.name() });
        }
        let deadline = stream.deadline(limits);
        // The time of a stream runs from its first step, and a look-up has none.
        let is_timed = !stream.has_news && !matches!(stream.stage, Stage::LookingUp(_));
        if is_timed && Time::earliest(self.earliest, deadline) != self.earliest {
            return Err(StreamViolation::Untimed(number));
        }
        // Nothing that is not a mistake of the client makes its window grow beyond this.
        let is_lent_all = self.flow.receive_window.lend_max() == 0;
        if stream.is_starving() && self.flow.receive_window.available() < STARVING_BYTES && !is_lent_all {
            return Err(StreamViolation::Starved(number));
        }
        if stream.waits_for_body() && stream.input.window.available() == 0 {
            return Err(StreamViolation::Starved(number));
        }
        let (window, unread) = (stream.input.window, stream.input.body.len());
        equal("bytes of a body that the stream's window counts", window.unconsumed() as usize, unread)?;
        let window_max = self.stream_window.max(INITIAL_WINDOW_BYTES);
        at_most("bytes that a stream's window stands for", window_max as usize, window.held() as usize)
    }

    /// Whether something that is in flight makes the stream go on.
    fn is_awaited(&self, stream: &Stream, client: Client, awaited: &Awaited<'_>) -> bool {
        if stream.has_news {
            // It waits for room in the outbox.
            return client.is_sending && self.ready.contains(&stream.id);
        }
        let is_resumed = || awaited.has_stream(waiter::StreamId(stream.id.get()));
        if stream.wants_turn() {
            let is_blocked = stream.output.window_credit(&self.flow) == 0;
            return self.has_turns && if is_blocked { client.is_heard } else { client.is_sending };
        }
        match &stream.stage {
            Stage::LookingUp(_) => is_resumed(),
            Stage::Responding { .. } => match &stream.output.source {
                Source::File(file) if file.is_reading => {
                    self.reads.slot_of(stream.id).is_some_and(|slot| awaited.has(slot))
                }
                Source::File(_) if stream.output.window.credit() == 0 => self.has_files && client.is_heard,
                Source::File(_) => self.has_files && (!self.reads.has_free() || self.pieces() >= PIECES_MAX),
                Source::Empty | Source::Bytes(_) => false,
            },
            Stage::Forwarding(forward) => {
                let is_paused = stream.is_paused && self.paused.contains(&stream.id);
                is_resumed()
                    || forward.is_queued()
                    || (is_paused && client.is_sending)
                    || (stream.waits_for_body() && client.is_heard)
            }
            Stage::Tunnel(_) => is_resumed() || (stream.waits_for_body() && client.is_heard),
            Stage::Over => false,
        }
    }

    /// Number of streams that hold a piece of a file, or wait for one.
    fn pieces(&self) -> usize {
        let has_piece = |stream: &Stream| matches!(&stream.output.source, Source::File(file) if file.has_piece());
        self.streams.iter().filter(|stream| has_piece(stream)).count()
    }

    /// What is counted of all streams.
    fn check_sums(&self, limits: &Limits) -> Result<(), StreamViolation> {
        let sum = |of: fn(&Stream) -> usize| self.streams.iter().map(|stream| of(stream)).sum();
        let window = self.flow.receive_window;
        let unread = sum(|stream| stream.input.window.unconsumed() as usize);
        equal("bytes of bodies that the connection's window counts", window.unconsumed() as usize, unread)?;
        let limits = &limits.http.http2;
        // What is lent is a window of a stream, when there is next to nothing.
        let lent_max = self.stream_window + STARVING_BYTES;
        let window_max = limits.connection_window.max(INITIAL_WINDOW_BYTES).max(lent_max);
        at_most("bytes that all streams may still receive", window_max as usize, window.available() as usize)?;
        at_most("streams", limits.streams_max as usize, self.streams.len())?;
        equal("streams with an upstream", self.forwarding, sum(|stream| usize::from(stream.wants_body())))?;
        equal("bytes of heads that are held", self.held_heads, sum(|stream| stream.head_bytes))?;
        equal("streams that have news", self.ready.len(), sum(|stream| usize::from(stream.has_news)))?;
        equal("reads of files", self.reads.len(), sum(|stream| usize::from(stream.output.source.is_reading())))
    }
}

fn equal(what: &'static str, counted: usize, found: usize) -> Result<(), StreamViolation> {
    if counted == found { Ok(()) } else { Err(StreamViolation::Miscounted { what, counted, found }) }
}

fn at_most(what: &'static str, max: usize, found: usize) -> Result<(), StreamViolation> {
    if found <= max { Ok(()) } else { Err(StreamViolation::Exceeded { what, max, found }) }
}
