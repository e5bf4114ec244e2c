//! HTTP/2 server on one connection: many requests at a time, each on a stream (RFC 9113).
//!
//! ```text
//!            frames.rs                 respond.rs               all of the response is in memory
//!   inbox ─► frame ─► complete head ─► (dispatch) ────────────────────────────► outbox ─► one Send
//!             │ DATA, WINDOW_UPDATE …      │ look-up, body to send, upstream      ▲       per turn
//!             ▼                            ▼                                      │
//!           stream ◄─────────────────── stream ──────── send.rs: turns ───────────┘
//!
//!   Open ─► Announced ─► Draining ─► Finishing ─► Lingering ─► over          shutdown.rs
//!     └─ error of the connection, idle timeout ─────▲
//! ```
//!
//! Frames are read as long as the outbox has room: the windows bound what clients can upload. A stream
//! is stepped when it has news; bodies are put into frames in turns, as far as both windows allow, and
//! leave together. What a stream waits for is in `stream.rs`, the reading of files in `reads.rs`, what
//! follows an extended CONNECT (RFC 8441) in `tunnel.rs`, and the limits of what costs the server more
//! than the client in `guards.rs`.

mod check;
mod frames;
mod guards;
mod reads;
mod respond;
mod send;
mod shutdown;
mod stream;
mod tunnel;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use self::guards::{Counted, Guards};
use self::reads::{PIECE_BYTES, PIECES_MAX, READS_MAX, Reads};
use self::shutdown::Life;
use self::stream::{Stage, Stream, StreamEnd};
use super::deadlines::{ClientDeadlines, ClientPhase};
use crate::buffer::{Buffer, Chain, Inbox};
use crate::driver::{Fault, Outcome, Time, TlsFault};
use crate::file::listing;
use crate::http::h2::reader::Event;
use crate::http::h2::settings::INITIAL_WINDOW_BYTES;
use crate::http::h2::{
    BlockReader, ConnectionError, ErrorCode, FrameReader, Settings, StreamId, frame, hpack, settings,
};
use crate::session::check::{Awaited, StreamViolation};
use crate::session::http::handler::Forward;
use crate::session::http::response_body::ResponseBody;
use crate::session::http::router::RouterCell;
use crate::session::http::stream::OUTBOX_BYTES_MAX;
use crate::session::http::stream::h2::{Flow, Source};
#[cfg(feature = "internals")]
use crate::session::http::stream::planted_bug::{self, Http2Bug};
use crate::session::{CloseReason, Context, Http2Limits, Limits, Slot, Task};
use crate::telemetry::metrics::Http2Limit;
use crate::transport::Transport;
use crate::waiter;

/// Bytes of bodies that are put into frames for one send.
const SEND_BYTES_MAX: usize = 128 << 10;

/// How long a client may take to end a stream whose response is complete.
const ANSWERED_GRACE: Duration = Duration::from_secs(1);

/// A connection of HTTP/2.
#[derive(Debug)]
pub(in crate::session) struct Http2 {
    inbox: Inbox,
    reader: FrameReader,
    conn: Box<Conn>,
}

/// All but the bytes that frames are in.
#[derive(Debug)]
struct Conn {
    router_cell: Rc<RouterCell>,
    /// The connection exceeds the connection limit: it gets an error response and is closed.
    is_over_limit: bool,
    decoder: hpack::Decoder,
    block: BlockReader,
    /// The stream of a field block that is not complete, and whether it has END_STREAM.
    open_block: Option<(StreamId, bool)>,
    flow: Flow,
    /// Those of the client.
    settings: Settings,
    /// The initial window of streams that the client was sent.
    stream_window: u32,
    /// The client has seen ours.
    has_acknowledged: bool,
    /// Streams that wait for something, in the order of their ids.
    #[expect(clippy::vec_box, reason = "streams are large, and those behind one that ends are moved")]
    streams: Vec<Box<Stream>>,
    /// Those that have news.
    ready: Vec<StreamId>,
    /// Those whose upstreams wait until the client has taken something.
    paused: Vec<StreamId>,
    /// Number of streams that have an upstream.
    forwarding: usize,
    /// Bytes of memory that heads of waiting requests hold.
    held_heads: usize,
    /// Whether a stream may have something to put into frames.
    has_turns: bool,
    /// Whether a file may wait for a free read.
    has_files: bool,
    /// A time before which no stream needs to be looked at; `None`: none does.
    earliest: Option<Time>,
    /// Streams that were left while the client may still send on them.
    dropped: VecDeque<Dropped>,
    /// Those of them whose responses are complete, and when they are reset at the latest.
    answered: VecDeque<(StreamId, Time)>,
    /// The last stream that the client has begun.
    last_stream: StreamId,
    /// The last one that was not ignored.
    last_accepted: StreamId,
    /// The stream whose turn to send was last.
    turn: StreamId,
    reads: Reads,
    guards: Guards,
    requests: u32,
    /// Bytes of heads and bodies that have come so far.
    payload_bytes: u64,
    life: Life,
    draining_since: Option<Time>,
    /// The client has sent GOAWAY.
    is_client_leaving: bool,
    deadlines: ClientDeadlines,
    /// When the last response was sent. Other frames do not keep a connection open.
    last_response: Time,
}

/// A stream that was left while the client may still send on it (RFC 9113, 5.1).
#[derive(Debug)]
struct Dropped {
    id: StreamId,
    /// Bytes of the stream's window. It is not granted again, so no more can be on their way.
    window: u32,
}

impl Http2 {
    pub(in crate::session) fn new(
        router_cell: Rc<RouterCell>,
        is_over_limit: bool,
        now: Time,
        limits: &Limits,
    ) -> Self {
        let mut flow = Flow::new();
        let mut frames = Vec::with_capacity(64);
        let Http2Limits { streams_max, stream_window, continuations_max, .. } = limits.http.http2;
        let list_bytes_max = u32::try_from(limits.http.head.head_bytes_max).unwrap_or(u32::MAX);
        frame::push_settings(
            &mut frames,
            &[
                (settings::id::MAX_CONCURRENT_STREAMS, streams_max),
                (settings::id::INITIAL_WINDOW_SIZE, stream_window),
                (settings::id::MAX_HEADER_LIST_SIZE, list_bytes_max),
                (settings::id::ENABLE_CONNECT_PROTOCOL, 1),
                (settings::id::NO_RFC7540_PRIORITIES, 1),
            ],
        );
        flow.outbox.append(&frames);
        Self {
            inbox: Inbox::default(),
            reader: FrameReader::of_server(),
            conn: Box::new(Conn {
                router_cell,
                is_over_limit,
                decoder: hpack::Decoder::new(),
                block: BlockReader::new(&limits.http.head).with_continuations_max(continuations_max),
                open_block: None,
                flow,
                settings: Settings::default(),
                stream_window,
                has_acknowledged: false,
                streams: Vec::new(),
                ready: Vec::new(),
                paused: Vec::new(),
                forwarding: 0,
                held_heads: 0,
                has_turns: false,
                has_files: false,
                earliest: None,
                dropped: VecDeque::new(),
                answered: VecDeque::new(),
                last_stream: StreamId::CONNECTION,
                last_accepted: StreamId::CONNECTION,
                turn: StreamId::CONNECTION,
                reads: Reads::default(),
                guards: Guards::default(),
                requests: 0,
                payload_bytes: 0,
                life: Life::Open,
                draining_since: None,
                is_client_leaving: false,
                deadlines: ClientDeadlines::new(now),
                last_response: now,
            }),
        }
    }

    /// Reads frames while the outbox has room for what they cause.
    fn read(&mut self, cx: &mut Context<'_>) {
        let Self { inbox, reader, conn } = self;
        while conn.life.reads() && conn.flow.has_room() && !inbox.is_empty() {
            let step = match reader.next(inbox.bytes()) {
                Ok(step) => step,
                Err(error) => return conn.fail(error, cx),
            };
            let (consumed, wanted) = (step.consumed, step.wanted);
            let result = match step.event {
                None => {
                    inbox.consume(consumed);
                    if !inbox.is_empty() && !inbox.join(wanted) {
                        return;
                    }
                    conn.count_overhead(consumed, cx)
                }
                Some(Event::Frame(frame)) => {
                    let result = conn.on_frame(frame, consumed, cx);
                    inbox.consume(consumed);
                    result
                }
                Some(Event::Data(piece)) => conn.on_data(&piece, consumed, inbox, cx),
                Some(Event::StreamError(error)) => {
                    inbox.consume(consumed);
                    conn.on_stream_error(error.stream, error.code, cx)
                }
            };
            if let Err(error) = result {
                return conn.fail(error, cx);
            }
        }
        if !conn.life.reads() {
            inbox.clear();
        }
    }

    /// Handles a fault of the client's connection.
    #[cold]
    fn on_broken(&self, client: &Transport) -> Option<CloseReason> {
        let owes_nothing = self.conn.streams.is_empty() && self.conn.flow.outbox.is_empty();
        let has_truncated = client.receive_fault() == Some(Fault::Tls(TlsFault::Truncated));
        // Many clients end TLS without a close_notify. Between requests nothing can be truncated by it.
        if has_truncated && owes_nothing && client.undelivered_bytes() == 0 {
            return Some(CloseReason::Done);
        }
        client.send_fault().or_else(|| client.receive_fault()).map(CloseReason::ClientLost)
    }

    /// What the client has to do on the connection as a whole.
    fn phase(&self, client: &Transport) -> ClientPhase {
        let conn = &*self.conn;
        match conn.life {
            Life::Lingering(..) => return ClientPhase::Server,
            Life::Finishing(_) => return ClientPhase::Response,
            Life::Open | Life::Announced { .. } | Life::Draining => {}
        }
        if !client.is_sending_at_rest() || !conn.flow.outbox.is_empty() {
            return ClientPhase::Response;
        }
        match (conn.open_block.is_some() || !self.inbox.is_empty(), conn.streams.is_empty(), conn.requests) {
            (true, _, _) => ClientPhase::Head,
            (false, true, 0) => ClientPhase::First,
            (false, true, _) => ClientPhase::Idle,
            (false, false, _) => ClientPhase::Server,
        }
    }

    /// Handles the timeout of a phase.
    fn on_too_slow(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        if self.conn.draining_since.is_none() {
            cx.counters.count_timeout(self.conn.deadlines.phase().timeout());
        }
        match self.conn.deadlines.phase() {
            // A reset, so that the client does not take a truncated response for complete.
            ClientPhase::Response => Some(CloseReason::TooSlow),
            ClientPhase::Head => {
                let error = ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, "the request took too long");
                self.conn.fail(error, cx);
                None
            }
            ClientPhase::First
            | ClientPhase::Idle
            | ClientPhase::Body
            | ClientPhase::Upload
            | ClientPhase::Relay
            | ClientPhase::Server => {
                self.conn.leave(CloseReason::Idle);
                None
            }
        }
    }
}

impl Conn {
    fn find(&self, id: StreamId) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// Counts what is useless, wrong or expensive.
    fn count(&mut self, counted: Counted, cx: &Context<'_>) -> Result<(), ConnectionError> {
        let result = self.guards.count(counted, &cx.limits.http.http2, cx.now);
        result.inspect_err(|_| cx.counters.count_http2_limit(counted.exceeded()))
    }

    fn count_overhead(&mut self, bytes: usize, cx: &Context<'_>) -> Result<(), ConnectionError> {
        // Those of a long body count while it is being sent.
        let payload_bytes = self.payload_bytes + self.flow.given_bytes;
        let counted = self.guards.count_overhead(bytes, payload_bytes, &cx.limits.http.http2);
        counted.inspect_err(|_| cx.counters.count_http2_limit(Http2Limit::OverheadBytes))
    }

    /// Ends the stream at this position of the table.
    fn end_stream(&mut self, index: usize, end: StreamEnd, close_reason: CloseReason, cx: &mut Context<'_>) {
        let mut stream = self.streams.remove(index);
        self.held_heads -= stream.head_bytes;
        if stream.wants_body() {
            self.forwarding -= 1;
        }
        stream.abort(close_reason, cx);
        if let (Source::File(file), Stage::Responding { body, .. }) = (&stream.output.source, &mut stream.stage)
            && file.is_reading
        {
            self.reads.orphan(stream.id, std::mem::replace(body, ResponseBody::empty()), cx.ops);
        }
        stream.end_record(end, 0, close_reason, cx);
        let window = stream.input.window;
        let unconsumed = window.unconsumed();
        #[cfg(feature = "internals")]
        let unconsumed = if unconsumed > 0 && planted_bug::strikes(Http2Bug::LostRefund) { 0 } else { unconsumed };
        self.flow.receive_window.consume(unconsumed);
        match end {
            StreamEnd::Complete if !stream.input.has_ended => {
                self.note_answered(stream.id, window.available(), cx.now);
            }
            StreamEnd::CutOff(Some(code)) => {
                self.push_reset(stream.id, code);
                if !stream.input.has_ended {
                    self.note_dropped(stream.id, window.available());
                }
            }
            StreamEnd::Complete | StreamEnd::CutOff(None) => {}
        }
    }

    /// Notes that a response is complete and the body of its request is not, which is not needed any more
    /// (RFC 9113, 8.1). Some clients lose a response if the reset comes together with it, and most end the
    /// stream themselves once they have read it. So the reset is sent later, if they do not.
    fn note_answered(&mut self, stream: StreamId, window: u32, now: Time) {
        const ANSWERED_MAX: usize = 100;
        if self.answered.len() >= ANSWERED_MAX
            && let Some((oldest, _)) = self.answered.pop_front()
        {
            self.push_reset(oldest, ErrorCode::NO_ERROR);
        }
        self.note_dropped(stream, window);
        self.answered.push_back((stream, now + ANSWERED_GRACE));
    }

    /// Resets the streams that their clients have not ended in time.
    fn reset_answered(&mut self, now: Time) {
        while let Some((stream, _)) = self.answered.pop_front_if(|(_, deadline)| *deadline <= now) {
            if self.life.reads() {
                self.push_reset(stream, ErrorCode::NO_ERROR);
            }
        }
    }

    fn push_reset(&mut self, stream: StreamId, code: ErrorCode) {
        self.flow.outbox.append(&frame::reset_stream(stream, code));
    }

    /// Notes that the client may still send on a stream that was left, as far as its window allows.
    fn note_dropped(&mut self, id: StreamId, window: u32) {
        const DROPPED_MAX: usize = 256;
        if self.dropped.len() >= DROPPED_MAX {
            self.dropped.pop_front();
        }
        self.dropped.push_back(Dropped { id, window });
    }

    /// The entry of a stream that was left.
    fn find_dropped(&mut self, id: StreamId) -> Option<&mut Dropped> {
        self.dropped.iter_mut().find(|dropped| dropped.id == id)
    }

    /// What the client may send on a new stream. Until it has seen our settings, it uses the usual window (RFC 9113,
    /// 6.9.3).
    fn new_window(&self) -> u32 {
        let least = if self.has_acknowledged { 0 } else { INITIAL_WINDOW_BYTES };
        self.stream_window.max(least)
    }

    /// When the connection has been without a request for too long.
    fn idle_deadline(&self, limits: &Limits) -> Option<Time> {
        let timeout = limits.http.keep_alive_timeout;
        let is_idle = self.deadlines.phase() == ClientPhase::Idle && !timeout.is_zero();
        is_idle.then(|| self.last_response + timeout)
    }

    /// Notes that the stream at this position has news.
    fn wake(&mut self, index: usize) {
        if let Some(stream) = self.streams.get_mut(index)
            && !std::mem::replace(&mut stream.has_news, true)
        {
            self.ready.push(stream.id);
        }
    }

    /// Ends the streams whose clients are too slow, wakes those whose upstreams are, and notes when to
    /// look next.
    fn look_at_all(&mut self, cx: &mut Context<'_>) {
        self.earliest = None;
        let mut index = 0;
        while let Some(stream) = self.streams.get_mut(index) {
            stream.keep_time(&self.flow, cx);
            if stream.deadlines.limit(&cx.limits.http, None).is_some_and(|limit| limit <= cx.now) {
                cx.counters.count_timeout(stream.deadlines.phase().timeout());
                self.end_stream(index, StreamEnd::CutOff(Some(ErrorCode::CANCEL)), CloseReason::TooSlow, cx);
                continue;
            }
            let deadline = stream.deadline(cx.limits);
            if deadline.is_some_and(|deadline| deadline <= cx.now) {
                self.wake(index);
            } else {
                self.earliest = Time::earliest(self.earliest, deadline);
            }
            index += 1;
        }
    }
}

impl Task for Http2 {
    fn name(&self) -> &'static str {
        "http"
    }

    fn is_in_access_log(&self) -> bool {
        true
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.inbox.push(buffer);
    }

    fn on_outcome(&mut self, slot: Slot, outcome: Outcome, _: Time) {
        let Some(number) = slot.read_number() else { return };
        let conn = &mut *self.conn;
        let Some((id, bytes)) = conn.reads.end(number, outcome) else { return };
        let Some(index) = conn.find(id) else { return };
        conn.wake(index);
        if let Source::File(file) = &mut conn.streams[index].output.source {
            match bytes {
                Ok(bytes) => file.push(bytes),
                Err(fault) => file.lose(fault),
            }
        }
    }

    fn on_ready(&mut self, stream: waiter::StreamId) {
        let conn = &mut *self.conn;
        if let Some(index) = conn.find(StreamId::new(stream.0)) {
            conn.wake(index);
        }
    }

    fn drain(&mut self, now: Time) {
        self.conn.draining_since = Some(now);
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        if client.is_broken()
            && let Some(close_reason) = self.on_broken(client)
        {
            return Some(close_reason);
        }
        loop {
            self.conn.begin_turn(client);
            self.read(cx);
            self.conn.step_streams(cx);
            self.conn.fill(cx);
            self.conn.set_aside(cx);
            self.conn.begin_reads(cx);
            self.conn.reset_answered(cx.now);
            self.conn.grant_windows();
            self.conn.note_blocked(cx);
            self.conn.advance_life(client, cx);
            if client.can_send() && !self.conn.flow.outbox.is_empty() {
                client.send(self.conn.flow.take_outbox(), cx.ops);
            }
            let phase = self.phase(client);
            let conn = &mut *self.conn;
            conn.deadlines.tick(phase, client.sent_bytes(), &cx.limits.http, cx.now);
            if conn.flow.is_responding || !conn.streams.is_empty() {
                conn.last_response = cx.now;
                conn.flow.is_responding = phase == ClientPhase::Response;
            }
            let deadline = conn.deadlines.limit(&cx.limits.http, conn.draining_since);
            let deadline = Time::earliest(deadline, conn.idle_deadline(cx.limits));
            if deadline.is_none_or(|deadline| cx.now < deadline) {
                break;
            }
            if let Some(close_reason) = self.on_too_slow(cx) {
                return Some(close_reason);
            }
        }
        if client.input_end().is_some() && self.conn.life.reads() && self.conn.flow.has_room() {
            // Everything that had arrived was read. There is no half-closed connection in HTTP/2.
            if !self.conn.streams.is_empty() {
                return Some(CloseReason::ClientLeft);
            }
            self.inbox.clear();
            self.conn.finish(CloseReason::Done);
        }
        client.set_receiving(self.inbox.waiting_memory() < OUTBOX_BYTES_MAX.min(cx.hold_max), cx.ops);
        self.conn.finish_life(client, &mut self.inbox, cx)
    }

    fn is_queued(&self) -> bool {
        self.conn
            .streams
            .iter()
            .any(|stream| matches!(&stream.stage, Stage::Forwarding(forward) if forward.is_queued()))
    }

    fn exchanges(&self) -> usize {
        self.conn.streams.iter().filter(|stream| !matches!(stream.stage, Stage::Over)).count()
    }

    fn check_streams(&self, client: &Transport, awaited: &Awaited<'_>, limits: &Limits) -> Result<(), StreamViolation> {
        Self::check_streams(self, client, awaited, limits)
    }

    fn is_unfinished(&self) -> bool {
        !self.conn.flow.outbox.is_empty() || self.conn.streams.iter().any(|stream| stream.is_unfinished())
    }

    fn deadline(&self, limits: &Limits) -> Option<Time> {
        let conn = &*self.conn;
        let own = match &conn.life {
            Life::Lingering(linger, _) => Some(linger.deadline()),
            life => {
                let client = conn.deadlines.limit(&limits.http, conn.draining_since);
                let client = Time::earliest(client, conn.idle_deadline(limits));
                Time::earliest(life.deadline(limits), client)
            }
        };
        let answered = conn.answered.front().map(|(_, deadline)| *deadline);
        Time::earliest(Time::earliest(own, conn.earliest), answered)
    }

    fn take_unsent(&mut self) -> Chain {
        self.conn.flow.take_outbox()
    }

    fn is_end_signalled(&self) -> bool {
        matches!(self.conn.life, Life::Lingering(..))
    }

    fn close(&mut self, close_reason: CloseReason, client: &Transport, cx: &mut Context<'_>) -> bool {
        let conn = &mut *self.conn;
        for stream in &mut conn.streams {
            stream.abort(close_reason, cx);
        }
        conn.reads.cancel(cx.ops);
        if client.is_closed() && conn.reads.is_empty() {
            // How much of it was whose is not known.
            let undelivered_bytes = client.undelivered_bytes() + conn.flow.outbox.len() as u64;
            for mut stream in conn.streams.drain(..) {
                stream.end_record(StreamEnd::CutOff(None), undelivered_bytes, close_reason, cx);
            }
        }
        client.is_closed() && conn.reads.is_empty()
    }

    fn memory(&self) -> usize {
        let conn = &*self.conn;
        let streams: usize = conn.streams.iter().map(|stream| stream.memory()).sum();
        self.inbox.memory() + conn.flow.outbox.memory() + conn.block.memory() + streams
    }

    fn memory_max(&self, limits: &Limits) -> usize {
        let Http2Limits { connection_window, held_heads, .. } = limits.http.http2;
        let stream_window = self.conn.stream_window;
        let response = (limits.store.small_bytes_max as usize).max(listing::PIECE_BYTES);
        let streams = self.conn.streams.len();
        let tunnels = self.conn.streams.iter().filter(|stream| matches!(stream.stage, Stage::Tunnel(_))).count()
            * Inbox::gathered_memory_max(stream_window as usize);
        // What may be gathered of a frame, and unread buffers.
        let inbox = OUTBOX_BYTES_MAX + Inbox::gathered_memory_max(frame::FRAME_BYTES_MIN as usize);
        // More than the connection's window if a stream would starve otherwise.
        let bodies = Inbox::gathered_memory_max(connection_window as usize + streams * stream_window as usize);
        let files = (PIECES_MAX + READS_MAX) * PIECE_BYTES;
        let heads = held_heads + 2 * limits.http.head.head_bytes_max;
        let outbox = OUTBOX_BYTES_MAX + SEND_BYTES_MAX + response;
        inbox + bodies + files + heads + outbox + tunnels + streams * (response + Forward::memory_max(limits))
    }
}
