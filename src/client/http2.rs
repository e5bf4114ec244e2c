//! The HTTP/2 protocol of one connection to a server (RFC 9113), from the client's side.
//!
//! The connection:
//!
//! ```text
//!                        SETTINGS            GOAWAY
//!   AwaitingSettings ───────────────► Open ──────────► GoingAway
//!          │                           │                   │
//!          └───────────────────────────┴───────────────────┴──► Over
//!                      error of the connection, end of input
//! ```
//!
//! Each request is a stream. Requests may be sent in the first three states but `GoingAway`, and
//! they are answered in any order:
//!
//! ```text
//!   request        final HEADERS           DATA or trailers, with END_STREAM
//!  ─────────► Head ─────────────► Body ──────────────────────────────────────► End
//!             │ ▲ │                │
//!             └─┘ └────────────────┴──► Reset, Refused, Malformed
//!             1xx    RST_STREAM, GOAWAY, an error in the response
//! ```
//!
//! The response may end before the request's body was sent. The rest of the body is not sent then.
//! Wherever the input is cut into pieces, the same events are found, apart from the sizes of the
//! pieces of data, and from how much data of a malformed response is reported. Memory is bounded: by the limit of streams, by those of a field block, and by
//! constants of this module. In the steady state nothing is allocated for a request.
//!
//! This module does not know how the bytes arrive, how long that takes, or whether a request may be
//! repeated. It has no use for pushed responses, for priorities or for tunnels. Frames on streams
//! that have ended are errors, unless they may have been on their way when the stream was reset
//! here.

use std::collections::VecDeque;
use std::mem;

use crate::buffer::{Chain, Chunk, Inbox, SMALL_PIECE_BYTES};
use crate::http::framing::BodyFraming;
use crate::http::h2::frame::{
    self, FRAME_BYTES_MIN, PREFACE, SETTINGS_ACK, data_header, push_go_away, push_settings, reset_stream, window_update,
};
use crate::http::h2::head::{BadHead, DeclaredLength, parse_trailers};
use crate::http::h2::hpack::Decoder;
use crate::http::h2::reader::{DataPiece, Event};
use crate::http::h2::response::{ResponseFacts, response_facts};
use crate::http::h2::settings::{INITIAL_WINDOW_BYTES, Peer, id};
use crate::http::h2::window::{FlowError, WINDOW_CEILING};
use crate::http::h2::{
    BlockReader, BlockWriter, ConnectionError, ErrorCode, FieldBlock, Frame, FrameReader, ReceiveWindow, SendWindow,
    Settings, StreamId,
};
use crate::http::{HeadLimits, Status};

mod request;
mod streams;

pub use request::{Http2Request, Http2RequestBuilder};
use streams::{Stage, Stream, Streams};

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2ClientLimits {
    /// Requests that may be in flight at the same time. The server may allow fewer.
    pub streams_max: u32,
    /// Bytes of a response that the server may send before they are consumed, at most 2³¹ - 1.
    pub stream_window: u32,
    /// The same for all responses of the connection. At least 65,535, with which the protocol begins.
    pub connection_window: u32,
    /// The limits of each response head and of trailers, with 32 bytes for each field. They are
    /// announced to the server.
    pub head: HeadLimits,
    /// Bytes of the field blocks of the interim responses (1xx) before a final one. A server may send
    /// any number.
    pub interim_bytes_max: u64,
}

impl Default for Http2ClientLimits {
    /// 100 streams, the least number that a server should allow (RFC 9113, 6.5.2), and what browsers
    /// and curl begin with. Windows of 6 MiB and 15 MiB, as of Chrome: a server sends at the rate at
    /// which it does to most clients, and an update is needed once in 3 MiB. The default limits of a
    /// head, and 64 KiB of interim responses.
    fn default() -> Self {
        Self {
            streams_max: 100,
            stream_window: 6 << 20,
            connection_window: 15 << 20,
            head: HeadLimits::default(),
            interim_bytes_max: 64 << 10,
        }
    }
}

/// Streams that are opened before the server has said how many it allows. More could be refused; one
/// saves a connection with a single request the wait for the settings.
const STREAMS_BEFORE_SETTINGS_MAX: u32 = 1;

/// Bodies of requests are appended up to this many bytes of what is to be sent. The memory of a body is
/// shared, but each of its frames is an entry of the chain.
const OUT_BYTES_MAX: usize = 256 << 10;

/// Answers to PING and SETTINGS are appended up to this many bytes of what is to be sent. Beyond it the server
/// does not read what it asks for. No requests and bodies are as large together.
const ANSWERS_AT_MAX: usize = 16 << 20;

/// Streams that were reset here and are known as such.
const DROPPED_MAX: usize = 128;

/// The client's side of one connection.
///
/// ```
/// use xps::internals::buffer::{Chain, Inbox};
/// use xps::internals::client::{Http2Client, Http2ClientLimits, Http2Event, Http2Request};
/// use xps::internals::http::{Method, Scheme};
///
/// let (mut to_send, mut inbox) = (Chain::new(), Inbox::default());
/// let mut client = Http2Client::new(Http2ClientLimits::default(), &mut to_send);
/// let request = Http2Request::builder(Method::Get, Scheme::Http, "example.org", "/").end();
/// client.request(&request, 0, &mut to_send);
/// assert!(client.in_flight() == 1 && to_send.len() > 0);
/// // Nothing has been received, so it is not known whether the server allows a second one.
/// assert!(!client.may_request());
/// assert_eq!(client.read(&mut inbox, &mut to_send), Ok(Http2Event::Wait));
/// ```
#[derive(Debug)]
pub struct Http2Client {
    limits: Http2ClientLimits,
    state: State,
    reader: FrameReader,
    decoder: Decoder,
    block: BlockReader,
    /// The stream whose field block is incomplete.
    open_block: Option<OpenBlock>,
    blocks: BlockWriter,
    /// The server's.
    settings: Settings,
    /// The identifier of the next stream; beyond [`StreamId::MAX`] there is none.
    next_id: u32,
    streams: Streams,
    /// Streams whose bodies are not sent to the end, in the order of their turns.
    uploads: VecDeque<StreamId>,
    dropped: Dropped,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been received.
    AwaitingSettings,
    Open,
    /// The server takes no further requests.
    GoingAway {
        code: ErrorCode,
    },
    /// Nothing more is read.
    Over,
}

/// A field block whose last frame has not arrived.
#[derive(Clone, Copy, Debug)]
struct OpenBlock {
    stream: StreamId,
    end_stream: bool,
    /// Bytes of its fragments so far.
    bytes: u64,
}

/// What is due before the next frame is read.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    /// Bytes of padding at the front of the inbox.
    padding: usize,
    /// The request whose response ended with what was returned last.
    end: Option<u32>,
    /// The server will not process the streams above this one.
    refused_above: Option<StreamId>,
}

/// Streams that were reset here, of which frames may still arrive.
#[derive(Debug, Default)]
struct Dropped {
    /// The latest ones.
    known: VecDeque<StreamId>,
    /// The highest of those that are not known any more. Any up to it may be one.
    forgotten: Option<StreamId>,
}

/// What [`Http2Client::read`] found. `tag` is the one given to [`Http2Client::request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Event {
    /// Nothing yet: call again when more has been received.
    Wait,
    /// A final response. Its data and its end follow.
    Head {
        /// The request.
        tag: u32,
        /// The status, not 1xx.
        status: Status,
        /// What the head declares. A response to HEAD, a 204 and a 304 have no data all the same.
        content_length: Option<u64>,
    },
    /// Data of the response, at the front of the inbox: take or consume them before the next call.
    Data {
        /// The request.
        tag: u32,
        /// Number of bytes; at least 1.
        bytes: usize,
    },
    /// The response is complete.
    End {
        /// The request.
        tag: u32,
    },
    /// The server has reset the stream before the response was complete.
    Reset {
        /// The request.
        tag: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The server has not processed the request and will not (RFC 9113, 8.7): it may be repeated, if
    /// this is not the first reason not to.
    Refused {
        /// The request.
        tag: u32,
    },
    /// The response is malformed or too large. The stream has been reset.
    Malformed {
        /// The request.
        tag: u32,
        /// What is wrong, as half a sentence.
        reason: &'static str,
    },
}

/// Why a connection cannot go on. Requests in flight get no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Http2Error {
    /// The server violates the protocol. It gets a GOAWAY with this code.
    #[error("HTTP/2 error of the server: {0}")]
    Connection(#[from] ConnectionError),
    /// The connection ended with requests in flight, after the server had announced it.
    #[error("the server closed the connection with GOAWAY {0}")]
    GoAway(ErrorCode),
    /// The connection ended with requests in flight.
    #[error("the connection ended without a response, or in the middle of one")]
    Truncated,
}

/// What a frame led to. `None`: nothing to report.
type Found = Result<Option<Http2Event>, ConnectionError>;

impl Http2Client {
    /// A new connection. Appends what a client sends first to `out`: the preface, its settings and the
    /// window of the connection.
    pub fn new(limits: Http2ClientLimits, out: &mut Chain) -> Self {
        let stream_window = limits.stream_window.min(WINDOW_CEILING);
        let limits = Http2ClientLimits { stream_window, ..limits };
        let mut first = PREFACE.to_vec();
        let list_bytes_max = u32::try_from(limits.head.head_bytes_max).unwrap_or(u32::MAX);
        push_settings(
            &mut first,
            &[
                (id::ENABLE_PUSH, 0),
                (id::INITIAL_WINDOW_SIZE, stream_window),
                (id::MAX_HEADER_LIST_SIZE, list_bytes_max),
            ],
        );
        out.append(&first);
        let mut receive_window = ReceiveWindow::new(INITIAL_WINDOW_BYTES);
        receive_window.set_target(limits.connection_window.max(INITIAL_WINDOW_BYTES));
        grant(StreamId::CONNECTION, &mut receive_window, out);
        let settings = Settings::default();
        Self {
            limits,
            state: State::AwaitingSettings,
            reader: FrameReader::of_client(),
            decoder: Decoder::new(),
            block: BlockReader::new(&limits.head),
            open_block: None,
            blocks: BlockWriter::new(),
            settings,
            next_id: 1,
            streams: Streams::default(),
            uploads: VecDeque::new(),
            dropped: Dropped::default(),
            send_window: SendWindow::new(INITIAL_WINDOW_BYTES),
            receive_window,
            due: Due::default(),
        }
    }

    /// Whether another request may be sent now: both sides allow another stream, the connection goes
    /// on, and there is an identifier left.
    pub fn may_request(&self) -> bool {
        let of_server = match self.state {
            State::AwaitingSettings => STREAMS_BEFORE_SETTINGS_MAX,
            State::Open => self.settings.streams_max.unwrap_or(u32::MAX),
            State::GoingAway { .. } | State::Over => return false,
        };
        let streams_max = self.limits.streams_max.min(of_server) as usize;
        self.streams.len() < streams_max && self.next_id <= StreamId::MAX.get()
    }

    /// Appends a request to `out`, and its body as far as the windows allow; the rest follows by
    /// [`Http2Client::read`] and [`Http2Client::send_bodies`]. Call it only if
    /// [`Http2Client::may_request`]. `tag` names the request in events; no other one in flight has it.
    pub fn request(&mut self, request: &Http2Request, tag: u32, out: &mut Chain) {
        debug_assert!(self.may_request(), "a request that may not be sent");
        let id = StreamId::new(self.next_id);
        self.next_id += 2;
        self.push_block(id, request.block(), request.body().is_none(), out);
        let mut stream = Stream {
            id,
            tag,
            stage: Stage::Head { interim_bytes: 0 },
            is_head: request.is_head(),
            receive_window: ReceiveWindow::new(self.limits.stream_window),
            send_window: SendWindow::new(self.settings.initial_window_bytes),
            upload: request.body().cloned(),
        };
        while push_data(&mut stream, &mut self.send_window, out) {}
        if stream.upload.is_some() {
            self.uploads.push_back(id);
        }
        self.streams.insert(stream);
    }

    fn push_block(&mut self, id: StreamId, block: &Chunk, end_stream: bool, out: &mut Chain) {
        let Some(header) = self.blocks.frame_header(id, block.len(), end_stream) else {
            let mut frames = Vec::new();
            self.blocks.push(&mut frames, id, block, end_stream);
            return out.push(Chunk::owned(frames));
        };
        out.append(&header);
        push_piece(block, block.len(), out);
    }

    /// Appends more of the bodies of requests to `out`, which holds at most about 256 KiB of them at a
    /// time. Call it when `out` has been sent.
    pub fn send_bodies(&mut self, out: &mut Chain) {
        // A frame of each in turn. Those that wait for a window of their own keep their turn.
        let mut blocked = 0;
        while blocked < self.uploads.len() && self.send_window.credit() > 0 && out.len() < OUT_BYTES_MAX {
            let Some(id) = self.uploads.pop_front() else { return };
            let Some(stream) = self.streams.get(id) else { continue };
            let has_sent = push_data(stream, &mut self.send_window, out);
            blocked = if has_sent { 0 } else { blocked + 1 };
            if stream.upload.is_some() {
                self.uploads.push_back(id);
            }
        }
    }

    /// Reads on in `inbox`. Call it until it returns [`Http2Event::Wait`]. Appends to `out` what the
    /// protocol wants to be answered, and bodies of requests that may go on.
    ///
    /// # Errors
    /// The server violates the protocol. A GOAWAY is appended to `out`, and nothing more is read.
    #[inline]
    pub fn read(&mut self, inbox: &mut Inbox, out: &mut Chain) -> Result<Http2Event, Http2Error> {
        if let Some(event) = self.take_due(inbox) {
            return Ok(event);
        }
        if self.state == State::Over {
            return Ok(Http2Event::Wait);
        }
        self.read_frames(inbox, out).map_err(|error| {
            self.state = State::Over;
            let mut go_away = Vec::new();
            // The server has opened no streams.
            push_go_away(&mut go_away, StreamId::CONNECTION, error.code, error.reason);
            out.append(&go_away);
            error.into()
        })
    }

    /// What is left of what was found before.
    fn take_due(&mut self, inbox: &mut Inbox) -> Option<Http2Event> {
        if self.due.padding > 0 {
            inbox.consume(mem::take(&mut self.due.padding));
        }
        if let Some(tag) = self.due.end.take() {
            return Some(Http2Event::End { tag });
        }
        let last = self.due.refused_above?;
        match self.streams.iter().map(|stream| stream.id).filter(|id| *id > last).min() {
            Some(id) => self.take(id).map(|stream| Http2Event::Refused { tag: stream.tag }),
            None => {
                self.due.refused_above = None;
                None
            }
        }
    }

    fn read_frames(&mut self, inbox: &mut Inbox, out: &mut Chain) -> Result<Http2Event, ConnectionError> {
        while !inbox.is_empty() {
            let step = self.reader.next(inbox.bytes())?;
            let (consumed, wanted) = (step.consumed, step.wanted);
            let event = match step.event {
                None => {
                    inbox.consume(consumed);
                    if !inbox.is_empty() && !inbox.join(wanted) {
                        break;
                    }
                    None
                }
                Some(Event::Frame(frame)) => {
                    let event = self.on_frame(frame, out)?;
                    inbox.consume(consumed);
                    event.or_else(|| self.take_due(inbox))
                }
                Some(Event::Data(piece)) => self.on_data(&piece, consumed, inbox, out)?,
                Some(Event::StreamError(error)) => {
                    inbox.consume(consumed);
                    self.check_begun(error.stream)?;
                    self.fail(error.stream, error.code, error.reason, false, out)
                }
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
        Ok(Http2Event::Wait)
    }

    /// What a frame does that is not DATA.
    fn on_frame(&mut self, frame: Frame<'_>, out: &mut Chain) -> Found {
        match frame {
            Frame::Headers { stream, fragment, end_stream, end_headers } => {
                self.check_begun(stream)?;
                self.on_fragment(OpenBlock { stream, end_stream, bytes: 0 }, fragment, end_headers, out)
            }
            Frame::Continuation { fragment, end_headers, .. } => match self.open_block.take() {
                Some(open) => self.on_fragment(open, fragment, end_headers, out),
                None => Ok(None),
            },
            Frame::ResetStream { stream, code } => self.on_reset(stream, code),
            Frame::Settings { entries } => self.on_settings(entries, out).map(|()| None),
            Frame::Ping { ack: false, payload } => {
                check_answers(out)?;
                out.append(&frame::ping(true, payload));
                Ok(None)
            }
            Frame::GoAway { last_stream, code, .. } => {
                self.state = State::GoingAway { code };
                self.due.refused_above = Some(last_stream);
                Ok(None)
            }
            Frame::WindowUpdate { stream, increment } => self.on_window_update(stream, increment, out).map(|()| None),
            Frame::PushPromise { .. } => Err(ConnectionError::protocol("a response is pushed, which was not allowed")),
            Frame::PriorityUpdate { .. } => Err(ConnectionError::protocol("a server sends a PRIORITY_UPDATE")),
            // DATA comes in pieces instead. What is unknown is skipped.
            Frame::SettingsAck
            | Frame::Ping { ack: true, .. }
            | Frame::Priority { .. }
            | Frame::Unknown { .. }
            | Frame::Data { .. } => Ok(None),
        }
    }

    /// Adds to the open field block. It is decoded whatever becomes of its stream: later blocks depend
    /// on it.
    fn on_fragment(&mut self, mut open: OpenBlock, fragment: &[u8], end_headers: bool, out: &mut Chain) -> Found {
        self.block.push(&mut self.decoder, fragment, end_headers)?;
        open.bytes += fragment.len() as u64;
        if !end_headers {
            self.open_block = Some(open);
            return Ok(None);
        }
        let found = self.on_block(open, out);
        self.block.clear();
        found
    }

    /// A field block is complete: a head, or trailers.
    fn on_block(&mut self, open: OpenBlock, out: &mut Chain) -> Found {
        let OpenBlock { stream: id, end_stream, bytes } = open;
        let Some(stream) = self.streams.get(id) else { return self.on_closed(id, end_stream) };
        let fields = self.block.fields();
        let result = match &mut stream.stage {
            Stage::Head { interim_bytes } => match read_head(fields, stream.is_head, end_stream) {
                Ok(Head::Interim) => {
                    *interim_bytes += bytes;
                    let is_within = *interim_bytes <= self.limits.interim_bytes_max;
                    if is_within { Ok(None) } else { Err("there are too many interim responses") }
                }
                Ok(Head::Final(ResponseFacts { status, content_length }, declared)) => {
                    stream.stage = Stage::Body(declared);
                    Ok(Some(Http2Event::Head { tag: stream.tag, status, content_length }))
                }
                Err(reason) => Err(reason),
            },
            Stage::Body(declared) => read_trailers(fields, *declared, end_stream).map(|()| None),
        };
        match result {
            Ok(event) => {
                if end_stream {
                    self.due.end = self.finish(id, out);
                }
                // Trailers have no event but the end.
                Ok(event.or_else(|| self.due.end.take().map(|tag| Http2Event::End { tag })))
            }
            Err(reason) => Ok(self.fail(id, ErrorCode::PROTOCOL_ERROR, reason, end_stream, out)),
        }
    }

    /// What a piece of a DATA frame does, of this many bytes. Data that are reported stay in the inbox.
    fn on_data(&mut self, piece: &DataPiece, bytes: usize, inbox: &mut Inbox, out: &mut Chain) -> Found {
        let DataPiece { ref data, flow_bytes, .. } = *piece;
        let padding = bytes - data.end;
        inbox.consume(data.start);
        self.receive_window.receive(flow_bytes).map_err(|FlowError| EXCESS)?;
        // Who gets data takes them at once, or leaves them in the inbox and does not read on.
        self.receive_window.consume(flow_bytes);
        grant(StreamId::CONNECTION, &mut self.receive_window, out);
        self.check_begun(piece.stream)?;
        let event = self.accept_data(piece, out)?;
        match event {
            Some(Http2Event::Data { .. }) => self.due.padding = padding,
            _ => inbox.consume(data.len() + padding),
        }
        Ok(event)
    }

    fn accept_data(&mut self, piece: &DataPiece, out: &mut Chain) -> Found {
        let DataPiece { stream: id, ref data, flow_bytes, end_stream, .. } = *piece;
        let Some(stream) = self.streams.get(id) else { return self.on_closed(id, end_stream) };
        stream.receive_window.receive(flow_bytes).map_err(|FlowError| EXCESS_OF_STREAM)?;
        stream.receive_window.consume(flow_bytes);
        let result = match &mut stream.stage {
            Stage::Head { .. } => Err("there is data before the head"),
            Stage::Body(declared) => {
                let received = declared.receive(data.len() as u64);
                received.and_then(|()| if end_stream { declared.end() } else { Ok(()) }).map_err(reason)
            }
        };
        if let Err(reason) = result {
            return Ok(self.fail(id, ErrorCode::PROTOCOL_ERROR, reason, end_stream, out));
        }
        let tag = stream.tag;
        if end_stream {
            self.due.end = self.finish(id, out);
        } else {
            grant(id, &mut stream.receive_window, out);
        }
        if data.is_empty() {
            return Ok(self.due.end.take().map(|tag| Http2Event::End { tag }));
        }
        Ok(Some(Http2Event::Data { tag, bytes: data.len() }))
    }

    fn on_settings(&mut self, entries: &[u8], out: &mut Chain) -> Result<(), ConnectionError> {
        check_answers(out)?;
        let delta = self.settings.apply(Peer::Server, entries)?;
        if delta != 0 {
            for stream in self.streams.iter_mut() {
                stream.send_window.shift(delta).map_err(|FlowError| OVERFLOW)?;
            }
        }
        if self.state == State::AwaitingSettings {
            self.state = State::Open;
        }
        out.append(&SETTINGS_ACK);
        if delta > 0 {
            self.send_bodies(out);
        }
        Ok(())
    }

    fn on_window_update(&mut self, id: StreamId, increment: u32, out: &mut Chain) -> Result<(), ConnectionError> {
        if id == StreamId::CONNECTION {
            self.send_window.grow(increment).map_err(|FlowError| OVERFLOW)?;
            self.send_bodies(out);
            return Ok(());
        }
        self.check_begun(id)?;
        // One for a stream that has ended may have been on its way.
        let Some(stream) = self.streams.get(id) else { return Ok(()) };
        stream.send_window.grow(increment).map_err(|FlowError| OVERFLOW)?;
        if stream.upload.is_some() {
            self.send_bodies(out);
        }
        Ok(())
    }

    /// The server gives a stream up.
    fn on_reset(&mut self, id: StreamId, code: ErrorCode) -> Found {
        self.check_begun(id)?;
        // One for a stream that has ended may have been on its way.
        self.dropped.forget(id);
        let Some(Stream { tag, .. }) = self.take(id) else { return Ok(None) };
        Ok(Some(match code {
            ErrorCode::REFUSED_STREAM => Http2Event::Refused { tag },
            code => Http2Event::Reset { tag, code },
        }))
    }

    /// HEADERS or DATA of a stream that is not open.
    fn on_closed(&mut self, id: StreamId, end_stream: bool) -> Found {
        if !self.dropped.may_have(id) {
            return Err(ConnectionError::new(ErrorCode::STREAM_CLOSED, "a frame is for a stream that has ended"));
        }
        if end_stream {
            self.dropped.forget(id);
        }
        Ok(None)
    }

    /// Whether a stream is or was one of ours.
    fn check_begun(&self, id: StreamId) -> Result<(), ConnectionError> {
        if id.is_of_client() && id.get() < self.next_id { Ok(()) } else { Err(IDLE) }
    }

    /// The response is complete. Returns the tag of its request.
    fn finish(&mut self, id: StreamId, out: &mut Chain) -> Option<u32> {
        let stream = self.take(id)?;
        if stream.upload.is_some() {
            // The server does not wait for the rest of the body then.
            out.append(&reset_stream(id, ErrorCode::CANCEL));
        }
        Some(stream.tag)
    }

    /// Resets a stream for an error of the server, which may have ended it.
    fn fail(
        &mut self,
        id: StreamId,
        code: ErrorCode,
        reason: &'static str,
        has_ended: bool,
        out: &mut Chain,
    ) -> Option<Http2Event> {
        let stream = self.take(id)?;
        if !has_ended {
            self.drop_stream(id, code, out);
        } else if stream.upload.is_some() {
            // Nothing may follow on it from the server, so it is not one that was dropped here.
            out.append(&reset_stream(id, code));
        }
        Some(Http2Event::Malformed { tag: stream.tag, reason })
    }

    /// Gives up a request, such as when its time is over. Nothing more is reported of it. A tag that is
    /// not in flight is ignored.
    pub fn reset(&mut self, tag: u32, out: &mut Chain) {
        if self.due.end == Some(tag) {
            self.due.end = None;
            return;
        }
        let id = self.streams.iter().find(|stream| stream.tag == tag).map(|stream| stream.id);
        if let Some(stream) = id.and_then(|id| self.take(id)) {
            self.drop_stream(stream.id, ErrorCode::CANCEL, out);
        }
    }

    fn drop_stream(&mut self, id: StreamId, code: ErrorCode, out: &mut Chain) {
        out.append(&reset_stream(id, code));
        self.dropped.note(id);
    }

    fn take(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(id)?;
        if stream.upload.is_some() {
            self.uploads.retain(|other| *other != id);
        }
        Some(stream)
    }

    /// Notes that the server has closed its side. Call it after [`Http2Client::read`] has returned
    /// [`Http2Event::Wait`]. A server may close a connection without requests at any time.
    ///
    /// # Errors
    /// Requests were in flight.
    pub fn on_end(&mut self) -> Result<(), Http2Error> {
        let before = mem::replace(&mut self.state, State::Over);
        match before {
            _ if self.in_flight() == 0 => Ok(()),
            State::GoingAway { code } => Err(Http2Error::GoAway(code)),
            State::AwaitingSettings | State::Open | State::Over => Err(Http2Error::Truncated),
        }
    }

    /// Number of requests of which neither the end nor a failure was reported. Once the connection has
    /// failed or ended, they get none.
    pub const fn in_flight(&self) -> usize {
        self.streams.len() + self.due.end.is_some() as usize
    }

    /// Whether the connection should be closed: it has failed or ended, or no request is in flight and none
    /// may follow.
    pub fn is_over(&self) -> bool {
        match self.state {
            State::Over => true,
            State::GoingAway { .. } => self.in_flight() == 0,
            State::AwaitingSettings | State::Open => self.in_flight() == 0 && self.next_id > StreamId::MAX.get(),
        }
    }

    /// The code with which the server has announced the end of the connection, if it has.
    pub const fn go_away(&self) -> Option<ErrorCode> {
        match self.state {
            State::GoingAway { code } => Some(code),
            State::AwaitingSettings | State::Open | State::Over => None,
        }
    }
}

impl Dropped {
    fn note(&mut self, id: StreamId) {
        if self.known.len() == DROPPED_MAX {
            self.forgotten = self.forgotten.max(self.known.pop_front());
        }
        self.known.push_back(id);
    }

    fn may_have(&self, id: StreamId) -> bool {
        Some(id) <= self.forgotten || self.known.contains(&id)
    }

    /// The server has ended the stream.
    fn forget(&mut self, id: StreamId) {
        self.known.retain(|known| *known != id);
    }
}

/// A response head.
enum Head {
    Interim,
    /// With the length that its body must have.
    Final(ResponseFacts, DeclaredLength),
}

fn read_head(fields: &FieldBlock, is_to_head: bool, end_stream: bool) -> Result<Head, &'static str> {
    let facts = response_facts(fields).map_err(reason)?;
    if facts.status.is_informational() {
        return if end_stream { Err("an interim response ends the stream") } else { Ok(Head::Interim) };
    }
    let declared = DeclaredLength::new(match facts.content_length {
        _ if is_to_head || facts.status.forbids_body() => BodyFraming::None,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::Chunked,
    });
    if end_stream {
        declared.end().map_err(reason)?;
    }
    Ok(Head::Final(facts, declared))
}

/// Reads a second field block of a stream, which must end it. Trailers that are too large are not
/// an error, since none are kept.
fn read_trailers(fields: &FieldBlock, declared: DeclaredLength, end_stream: bool) -> Result<(), &'static str> {
    if !end_stream {
        return Err("a second head is in a response");
    }
    match parse_trailers(fields) {
        Ok(_) | Err(BadHead::Rejected(_)) => declared.end().map_err(reason),
        Err(bad @ BadHead::Malformed(_)) => Err(reason(bad)),
    }
}

const fn reason(bad: BadHead) -> &'static str {
    bad.response().reason
}

/// Appends a DATA frame of a stream's body, if there is one and the windows and `out` have room. Returns whether it did.
fn push_data(stream: &mut Stream, connection_window: &mut SendWindow, out: &mut Chain) -> bool {
    let Some(body) = &mut stream.upload else { return false };
    let room = stream.send_window.credit().min(connection_window.credit()).min(FRAME_BYTES_MIN);
    if room == 0 || out.len() >= OUT_BYTES_MAX {
        return false;
    }
    let length = body.len().min(room as usize);
    let is_last = length == body.len();
    // At most `room`.
    out.append(&data_header(stream.id, length as u32, is_last));
    push_piece(body, length, out);
    stream.send_window.take(length as u32);
    connection_window.take(length as u32);
    if is_last {
        stream.upload = None;
    } else {
        body.advance(length);
    }
    true
}

/// Appends the first bytes of a chunk, which stays. Only a small piece is copied.
fn push_piece(chunk: &Chunk, length: usize, out: &mut Chain) {
    if length < SMALL_PIECE_BYTES {
        out.append(&chunk[..length]);
    } else {
        out.push(chunk.clone().split_to(length));
    }
}

/// Grants the server what it has used of a window, once that is half of it.
fn grant(id: StreamId, window: &mut ReceiveWindow, out: &mut Chain) {
    if let Some(increment) = window.update() {
        out.append(&window_update(id, increment));
    }
}

/// Whether another answer may be appended to `out`.
const fn check_answers(out: &Chain) -> Result<(), ConnectionError> {
    if out.len() <= ANSWERS_AT_MAX {
        return Ok(());
    }
    Err(ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, "answers are asked for that are not read"))
}

/// A stream's identifier is not of a request that was sent.
const IDLE: ConnectionError = ConnectionError::protocol("a frame is for a stream that was not begun");

const OVERFLOW: ConnectionError =
    ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, "a window is larger than 2^31 - 1 bytes");

const EXCESS: ConnectionError =
    ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, "more data than the window of the connection allows");

const EXCESS_OF_STREAM: ConnectionError =
    ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, "more data than the window of the stream allows");

#[cfg(test)]
mod tests;
