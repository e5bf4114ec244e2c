//! The streams of HTTP/2: many at a time on a connection, whose windows they share.
//!
//! ```text
//!   DATA of the client ──► Input ──► what forwards the request       grants the window again
//!   response ──► Output ──► frames in the outbox of Flow             within both windows
//! ```
//!
//! Heads and the bodies of an upstream are put into frames at once, as far as there is credit. A body
//! of the server's own waits in the [`Output`] until it is the stream's turn. A stream is over once
//! END_STREAM is in the outbox.

use std::sync::Arc;

#[cfg(feature = "internals")]
use super::planted_bug::{self, Http2Bug};
use super::response_encoder::Http2Head;
use super::{BodyPart, BodySink, ClientStream, Http2Response, OUTBOX_BYTES_MAX, ResponseEncoder};
use crate::buffer::{Chain, Chunk, Inbox, ReceivedData, SMALL_PIECE_BYTES};
use crate::driver::{Fault, File, Ops, Time};
use crate::file::store::Content;
use crate::http::h2::frame::{FRAME_BYTES_MIN, HEADER_BYTES, data_header};
use crate::http::h2::head::DeclaredLength;
use crate::http::h2::settings::INITIAL_WINDOW_BYTES;
use crate::http::h2::{BlockWriter, HeadEncoder, ReceiveWindow, SendWindow, StreamId};
use crate::http::range::Span;
use crate::http::{BodyFraming, ErrorResponse, HeadSink, ResponseHead, Trailers, Version};
use crate::session::http::response::Body;

/// Largest payload of a DATA frame that is sent: every peer accepts it, and a stream is not delayed
/// by more of another.
pub(crate) const DATA_BYTES_MAX: usize = FRAME_BYTES_MIN as usize;

/// Bodies below this size are copied to their frame.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// What all streams of a connection share.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What was put into frames and is not with the transport yet.
    pub(crate) outbox: Chain,
    /// What the client lets all streams send together.
    pub(crate) send_window: SendWindow,
    /// What the client may send on all streams together.
    pub(crate) receive_window: ReceiveWindow,
    /// Bytes of bodies that may still be given in this pump; 0 while something is being sent: then
    /// data stay where they are.
    pub(crate) budget: usize,
    /// The part of it for the present stream.
    pub(crate) quantum: usize,
    /// Whether something of a response was put into frames, and not all was sent yet.
    pub(crate) is_responding: bool,
    /// Bytes of bodies in frames so far.
    pub(crate) given_bytes: u64,
    blocks: BlockWriter,
    /// The last frame, if more can be added to it.
    small_frame: Option<SmallFrame>,
}

/// A DATA frame at the end of the outbox whose data are a copy. An upstream may send its body in tiny pieces: a frame for
/// each would be mostly headers, and clients take many tiny frames for an attack.
#[derive(Clone, Copy, Debug)]
struct SmallFrame {
    stream: StreamId,
    length: usize,
    /// The length of the outbox behind it.
    end: usize,
}

/// The request body of a stream.
#[derive(Debug)]
pub(crate) struct Input {
    /// What has arrived and was not taken.
    pub(crate) body: Inbox,
    pub(crate) window: ReceiveWindow,
    pub(crate) declared: DeclaredLength,
    /// END_STREAM has arrived.
    pub(crate) has_ended: bool,
    /// The fields after the body.
    pub(crate) trailers: Option<Box<Trailers>>,
    /// The end was handed out, or there is no body.
    is_done: bool,
    /// Bytes of data received.
    pub(crate) received_bytes: u64,
}

/// The response of a stream, as far as it is not in the outbox.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) window: SendWindow,
    is_head_request: bool,
    /// Whether the client wants trailers.
    takes_trailers: bool,
    /// The head of the final response is in the outbox.
    has_head: bool,
    /// Bytes of the body that are still to come, if its length was declared.
    left: Option<u64>,
    /// Bytes of the body in the outbox or sent.
    pub(crate) given_bytes: u64,
    pub(crate) source: Source,
    end: End,
}

/// What is to be put into frames.
#[derive(Debug)]
pub(crate) enum Source {
    /// Nothing, or what comes next is with an upstream.
    Empty,
    /// Bytes in memory.
    Bytes(Chain),
    /// A range of a file.
    File(FileSource),
}

/// A range of a file that is read in pieces. The file stays open as long as its stream's body.
#[derive(Debug)]
pub(crate) struct FileSource {
    pub(crate) file: File,
    /// Where the next piece begins.
    pub(crate) offset: u64,
    /// Bytes that were not read.
    pub(crate) left: u64,
    /// What was read.
    pub(crate) read: Chain,
    pub(crate) is_reading: bool,
    /// Why no more can be read.
    pub(crate) fault: Option<Fault>,
}

/// How far the end of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// What is in the source is the rest.
    Due,
    /// END_STREAM is in the outbox.
    Sent,
}

/// A stream, together with what it shares with the others of its connection.
#[derive(Debug)]
pub(crate) struct Http2Stream<'c> {
    pub(crate) id: StreamId,
    pub(crate) input: &'c mut Input,
    pub(crate) output: &'c mut Output,
    pub(crate) flow: &'c mut Flow,
}

/// What the body of a response of the server's own is sent to.
#[derive(Debug)]
pub(crate) struct Http2BodySink<'c>(pub(crate) &'c mut Output);

impl Source {
    /// Whether a read is in flight for it.
    pub(crate) const fn is_reading(&self) -> bool {
        matches!(self, Self::File(file) if file.is_reading)
    }
}

impl Flow {
    pub(crate) const fn new() -> Self {
        Self {
            outbox: Chain::new(),
            send_window: SendWindow::new(INITIAL_WINDOW_BYTES),
            receive_window: ReceiveWindow::new(INITIAL_WINDOW_BYTES),
            budget: 0,
            given_bytes: 0,
            quantum: 0,
            is_responding: false,
            blocks: BlockWriter::new(),
            small_frame: None,
        }
    }

    /// Puts the fields of a head into frames.
    pub(crate) fn push_block(&mut self, stream: StreamId, block: &[u8], end_stream: bool) {
        self.is_responding = true;
        if let Some(header) = self.blocks.frame_header(stream, block.len(), end_stream) {
            self.outbox.append(&header);
            return self.outbox.append(block);
        }
        let mut frames = Vec::with_capacity(block.len() + 16);
        self.blocks.push(&mut frames, stream, block, end_stream);
        self.outbox.append(&frames);
    }

    /// Takes what is in the outbox, to send it.
    pub(crate) fn take_outbox(&mut self) -> Chain {
        self.small_frame = None;
        self.outbox.take()
    }

    /// Makes room for `more` bytes in the last frame, if that is one of this stream. They must follow.
    fn extend_frame(&mut self, stream: StreamId, more: usize, end_stream: bool) -> bool {
        let end = self.outbox.len();
        let is_it =
            |last: &SmallFrame| last.stream == stream && last.end == end && last.length + more <= DATA_BYTES_MAX;
        let Some(last) = self.small_frame.filter(is_it) else { return false };
        let length = last.length + more;
        // At most 16,384.
        let header = data_header(stream, length as u32, end_stream);
        let is_extended = self.outbox.overwrite(HEADER_BYTES + last.length, &header);
        self.small_frame = is_extended.then_some(SmallFrame { length, end: end + more, ..last });
        is_extended
    }

    /// Whether the client has to take something before more can be sent.
    pub(crate) const fn has_unsent(&self) -> bool {
        self.budget == 0 || !self.outbox.is_empty()
    }

    /// Whether there is room for another head.
    pub(crate) const fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_BYTES_MAX
    }
}

impl Input {
    /// The body of a request with this framing. `window`: what the client may send of it.
    pub(crate) fn new(framing: BodyFraming, window: u32) -> Self {
        let has_ended = framing == BodyFraming::None;
        Self {
            body: Inbox::default(),
            window: ReceiveWindow::new(window),
            declared: DeclaredLength::new(framing),
            has_ended,
            trailers: None,
            is_done: has_ended,
            received_bytes: 0,
        }
    }

    /// What follows an extended CONNECT: no body of the request, but what a tunnel takes.
    pub(crate) fn of_tunnel(has_ended: bool, window: u32) -> Self {
        Self { has_ended, is_done: true, ..Self::new(BodyFraming::Chunked, window) }
    }

    /// Takes what has arrived and was not taken, some of it at a time.
    pub(crate) fn take(&mut self, flow: &mut Flow) -> Option<Chunk> {
        if self.body.is_empty() {
            return None;
        }
        let length = self.body.bytes().len();
        // At most what a window allows.
        self.window.consume(length as u32);
        flow.receive_window.consume(length as u32);
        Some(self.body.take(length))
    }

    /// Whether the end was handed out, or there is no body.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }
}

impl Output {
    /// The response to a request. `window`: the initial window of streams that the client has set.
    pub(crate) const fn new(window: u32, is_head_request: bool, takes_trailers: bool) -> Self {
        Self {
            window: SendWindow::new(window),
            is_head_request,
            takes_trailers,
            has_head: false,
            left: None,
            given_bytes: 0,
            source: Source::Empty,
            end: End::Open,
        }
    }

    /// An encoder of the response.
    pub(crate) const fn encoder(&self) -> ResponseEncoder {
        ResponseEncoder::new(Version::Http2, self.is_head_request, true)
    }

    /// Whether the head of the final response is in the outbox.
    pub(crate) const fn is_responding(&self) -> bool {
        self.has_head
    }

    /// Gives the next bytes of a tunnel. [`Output::takes_bytes`] must be true.
    pub(crate) fn give_bytes(&mut self, bytes: Chain) {
        debug_assert!(self.takes_bytes(), "bytes behind others");
        self.source = Source::Bytes(bytes);
    }

    /// Whether all that was given is in frames, and more may follow.
    pub(crate) fn takes_bytes(&self) -> bool {
        matches!(self.source, Source::Empty) && self.end == End::Open
    }

    /// Whether END_STREAM is in the outbox.
    pub(crate) fn is_over(&self) -> bool {
        self.end == End::Sent
    }

    /// Bytes of the body that both windows and the turn allow.
    pub(crate) fn credit(&self, flow: &Flow) -> usize {
        self.window_credit(flow).min(flow.budget).min(flow.quantum).min(DATA_BYTES_MAX)
    }

    /// Bytes of the body that both windows allow.
    pub(crate) fn window_credit(&self, flow: &Flow) -> usize {
        self.window.credit().min(flow.send_window.credit()) as usize
    }

    /// Begins one of the server's own responses. What fits into one frame is put into it; `Some`: the
    /// rest of the body, whose pieces come one after another.
    pub(crate) fn begin(&mut self, id: StreamId, response: Http2Response, flow: &mut Flow) -> Option<Body> {
        let Http2Response { status: _, mut block, block_bytes, body, body_bytes } = response;
        let has_joined = block.len() > block_bytes;
        let is_empty = !has_joined && (matches!(body, Body::Empty) || body_bytes == Some(0));
        flow.push_block(id, block.get(..block_bytes).unwrap_or_default(), is_empty);
        (self.has_head, self.left) = (true, body_bytes);
        if is_empty {
            self.end = End::Sent;
            return None;
        }
        if has_joined {
            block.advance(block_bytes);
            self.give(id, block, flow);
            return None;
        }
        match body {
            Body::Memory(bytes) => self.give(id, bytes, flow),
            Body::File(resource, span) => match &resource.content {
                Content::Memory(bytes) => {
                    let bytes = Arc::clone(bytes);
                    // A span is always within its content, and that is small.
                    let (start, length) = (span.offset as u32, span.length as u32);
                    self.give(id, Chunk::Shared { bytes, start, length }, flow);
                }
                Content::File(_) | Content::Folder | Content::Special => return Some(Body::File(resource, span)),
            },
            rest @ (Body::Parts(..) | Body::Listing { .. }) => return Some(rest),
            Body::Empty | Body::Prepared { .. } => {}
        }
        None
    }

    /// Gives a whole body in memory: in one frame if it fits, whosever turn it is.
    fn give(&mut self, id: StreamId, bytes: Chunk, flow: &mut Flow) {
        if bytes.len() <= self.window_credit(flow).min(DATA_BYTES_MAX) {
            self.push_frame_head(id, bytes.len(), true, flow);
            // A piece of its own is an allocation, which costs more than copying that much.
            if bytes.len() < COPIED_BYTES_MAX { flow.outbox.append(&bytes) } else { flow.outbox.push(bytes) }
        } else {
            self.source = Source::Bytes(Chain::from(bytes));
            self.end = End::Due;
        }
    }

    /// Counts `length` bytes, and puts a frame's head before them.
    fn push_frame_head(&mut self, id: StreamId, length: usize, is_last: bool, flow: &mut Flow) {
        self.count(length, is_last, flow);
        #[cfg(feature = "internals")]
        let (id, is_last) = match planted_bug::strikes(Http2Bug::OtherStream) {
            true => (StreamId::new(id.get() + 2), is_last),
            false => (id, is_last && !planted_bug::strikes(Http2Bug::NoEndStream)),
        };
        // At most 16,384.
        flow.outbox.append(&data_header(id, length as u32, is_last));
        flow.small_frame =
            (length < SMALL_PIECE_BYTES).then(|| SmallFrame { stream: id, length, end: flow.outbox.len() + length });
    }

    /// Counts bytes of the body that go into a frame.
    fn count(&mut self, length: usize, is_last: bool, flow: &mut Flow) {
        flow.is_responding = true;
        // At most 16,384.
        let bytes = length as u32;
        self.window.take(bytes);
        flow.send_window.take(bytes);
        self.given_bytes += u64::from(bytes);
        flow.given_bytes += u64::from(bytes);
        self.left = self.left.map(|left| left.saturating_sub(u64::from(bytes)));
        flow.budget = flow.budget.saturating_sub(length);
        flow.quantum = flow.quantum.saturating_sub(length);
        if is_last {
            self.end = End::Sent;
        }
    }

    /// Whether `length` bytes are the rest of the body, for all that is known.
    fn is_rest(&self, length: usize) -> bool {
        self.left == Some(length as u64)
    }

    /// Bytes that could be put into frames now.
    pub(crate) fn ready_bytes(&self) -> usize {
        match &self.source {
            Source::Empty => 0,
            Source::Bytes(chain) => chain.len(),
            Source::File(file) => file.read.len(),
        }
    }

    /// Puts what is ready into one frame, as far as there is credit. Returns whether there was any.
    pub(crate) fn send_frame(&mut self, id: StreamId, flow: &mut Flow) -> bool {
        let length = self.ready_bytes().min(self.credit(flow));
        if length == 0 {
            return false;
        }
        #[cfg(feature = "internals")]
        let length = match length < self.ready_bytes() && length == self.window_credit(flow) {
            true => length + usize::from(planted_bug::strikes(Http2Bug::Overrun)),
            false => length,
        };
        let is_all = length == self.ready_bytes();
        let is_due = self.end == End::Due && is_all && !matches!(self.source, Source::File(_));
        let is_last = self.is_rest(length) || is_due;
        self.push_frame_head(id, length, is_last, flow);
        match &mut self.source {
            Source::Empty => {}
            Source::Bytes(chain) => chain.move_to(&mut flow.outbox, length),
            Source::File(file) => file.read.move_to(&mut flow.outbox, length),
        }
        self.settle();
        true
    }

    /// Leaves a source of which everything is in frames.
    pub(crate) fn settle(&mut self) {
        let is_spent = match &self.source {
            Source::Empty => false,
            Source::Bytes(chain) => chain.is_empty(),
            Source::File(file) => file.read.is_empty() && file.left == 0 && !file.is_reading,
        };
        if is_spent {
            self.source = Source::Empty;
        }
    }

    /// Notes that the source has the rest of the body, and ends the stream if it is empty.
    pub(crate) fn end(&mut self, id: StreamId, flow: &mut Flow) {
        if self.end == End::Open {
            self.end = End::Due;
        }
        if self.end == End::Due && matches!(self.source, Source::Empty) {
            self.end = End::Sent;
            #[cfg(feature = "internals")]
            if planted_bug::strikes(Http2Bug::NoEndStream) {
                return;
            }
            flow.outbox.append(&data_header(id, 0, true));
        }
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        match &self.source {
            Source::Empty => 0,
            Source::Bytes(chain) => chain.memory(),
            Source::File(file) => file.read.memory(),
        }
    }
}

impl ClientStream for Http2Stream<'_> {
    /// A client leaves a stream by RST_STREAM, after which there is no stream.
    fn has_left(&mut self, _: Time) -> bool {
        false
    }

    fn is_body_done(&self) -> bool {
        self.input.is_done
    }

    fn next_body(&mut self, credit: usize, _: Time) -> Result<Option<BodyPart<'_>>, ErrorResponse> {
        let Input { body, window, has_ended, is_done, trailers, .. } = &mut *self.input;
        if body.is_empty() {
            let is_end = *has_ended && !std::mem::replace(is_done, *has_ended);
            return Ok(is_end.then(|| BodyPart::End(trailers.take())));
        }
        if credit == 0 {
            return Ok(None);
        }
        let length = body.bytes().len().min(credit);
        // At most what a window allows.
        window.consume(length as u32);
        self.flow.receive_window.consume(length as u32);
        Ok(Some(BodyPart::Data(ReceivedData::new(body, length))))
    }

    fn has_room(&self) -> bool {
        self.flow.has_room()
    }

    fn credit(&self) -> usize {
        self.output.credit(self.flow)
    }

    fn awaits_window(&self) -> bool {
        self.output.has_head && self.output.window_credit(self.flow) == 0
    }

    fn has_unsent(&self) -> bool {
        self.flow.has_unsent()
    }

    /// Payload of this stream's DATA frames: the framing does not count.
    fn given_bytes(&self) -> u64 {
        self.output.given_bytes
    }

    fn takes_trailers(&self) -> bool {
        self.output.takes_trailers
    }

    fn begin_head(&self) -> ResponseEncoder {
        self.output.encoder()
    }

    fn begin_interim(&self) -> Option<ResponseEncoder> {
        Some(self.output.encoder())
    }

    fn send_interim(&mut self, encoder: ResponseEncoder) {
        self.flow.push_block(self.id, &encoder.finish_interim(), false);
    }

    fn send_head(&mut self, encoder: ResponseEncoder, head: &ResponseHead<'_>) {
        let Http2Head { block, body_bytes } = encoder.finish_forwarded_http2(head);
        let is_empty = body_bytes == Some(0);
        self.flow.push_block(self.id, &block, is_empty);
        (self.output.has_head, self.output.left) = (true, body_bytes);
        if is_empty {
            self.output.end = End::Sent;
        }
    }

    fn send_data(&mut self, data: ReceivedData<'_>) {
        if data.is_empty() {
            return;
        }
        let is_last = self.output.is_rest(data.len());
        if data.len() < SMALL_PIECE_BYTES && self.flow.extend_frame(self.id, data.len(), is_last) {
            self.output.count(data.len(), is_last, self.flow);
        } else {
            self.output.push_frame_head(self.id, data.len(), is_last, self.flow);
        }
        data.push_to(&mut self.flow.outbox, &[], &[]);
    }

    fn send_end(&mut self, trailers: Option<&Trailers>) {
        match trailers.filter(|_| self.output.takes_trailers && self.output.end != End::Sent) {
            None => self.output.end(self.id, self.flow),
            Some(trailers) => {
                let mut encoder = HeadEncoder::new();
                trailers.iter().for_each(|field| encoder.field(field.name, field.value));
                self.flow.push_block(self.id, &encoder.end_interim(), true);
                self.output.end = End::Sent;
            }
        }
    }
}

impl BodySink for Http2BodySink<'_> {
    fn takes_piece(&self) -> bool {
        matches!(self.0.source, Source::Empty)
    }

    fn send_data(&mut self, data: Chunk) {
        if !data.is_empty() {
            self.0.source = Source::Bytes(Chain::from(data));
        }
    }

    fn send_file(&mut self, file: File, span: Span, _: &mut Ops) {
        let Span { offset, length } = span;
        self.0.source =
            Source::File(FileSource { file, offset, left: length, read: Chain::new(), is_reading: false, fault: None });
    }

    fn send_end(&mut self) {
        if self.0.end == End::Open {
            self.0.end = End::Due;
        }
    }
}
