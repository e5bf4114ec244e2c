//! The HTTP/1.1 protocol of one connection to a server.
//!
//! ```text
//!    ┌───────── the next response ─────────┐
//!    ▼                                     │
//!   Head ────────────────────────────────► Body
//!    │ ▲ │ │    final head                 │ end of the last response
//!    │ └─┘ │ 101                           ▼
//!    │ 1xx └───► Upgraded                 Over
//!    └── malformed, end of input ──────────▲
//! ```
//!
//! Responses come in the order of the requests. Several requests may be sent before the first is
//! answered (pipelining), up to a limit. Each response is for the oldest unanswered request, which
//! decides whether it has a body. A connection ends with the response to a request that announced
//! it, or with a response that announces it; what was requested after that is never answered.
//!
//! Wherever the input is cut into pieces, the same responses are found. This module does not know how
//! the bytes arrive, how long that takes, or whether a request may be repeated.

use std::collections::VecDeque;

use super::Request;
use super::request::RequestFacts;
use crate::buffer::{Chain, Chunk, Inbox, ReceivedData};
use crate::http::chunked::SizeLine;
use crate::http::response_head::{Parsed, parse};
use crate::http::{BadResponse, BodyFraming, BodyReader, BodyWriter, HeadLimits, ResponseHead, Status, Trailers};

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// The limits of each response head; its first line is the status line.
    pub head: HeadLimits,
    /// Bytes of the interim responses (1xx) before a final one. A server may send any number.
    pub interim_bytes_max: u64,
    /// Requests that may be unanswered at the same time. 1: no pipelining.
    pub pipeline_max: usize,
}

impl Default for ClientLimits {
    /// The default limits of a head, 64 KiB of interim responses, no pipelining.
    fn default() -> Self {
        Self { head: HeadLimits::default(), interim_bytes_max: 64 << 10, pipeline_max: 1 }
    }
}

/// The client's side of one connection.
///
/// ```
/// use xps::internals::buffer::{Chain, Inbox};
/// use xps::internals::client::{ClientConnection, ClientLimits, Event, Request};
/// use xps::internals::http::Method;
///
/// let mut connection = ClientConnection::new(ClientLimits::default());
/// let mut to_send = Chain::new();
/// connection.request(&Request::builder(Method::Get, "/", "example.org").end(), &mut to_send);
/// assert!(!connection.may_request() && to_send.len() > 0);
/// // Nothing has been received.
/// assert!(matches!(connection.read(&mut Inbox::default(), |head| head.status), Ok(Event::Wait)));
/// ```
#[derive(Debug)]
pub struct ClientConnection {
    limits: ClientLimits,
    /// Requests without a complete final response, the oldest first.
    unanswered: VecDeque<RequestFacts>,
    /// The body of the newest request.
    upload: Upload,
    state: State,
    /// No further request can be sent on this connection.
    is_ending: bool,
}

/// What is still to be sent of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Done,
    /// Number of bytes.
    Length(u64),
    Chunked,
}

#[derive(Debug)]
enum State {
    /// Reads the head of the response to the oldest unanswered request.
    Head {
        /// Bytes of its interim responses so far.
        interim_bytes: u64,
    },
    Body {
        body: BodyReader,
        /// Whether another response may follow.
        keep_alive: bool,
    },
    /// The bytes from here on belong to another protocol.
    Upgraded,
    /// No further response follows.
    Over,
}

/// What [`ClientConnection::read`] or [`ClientConnection::find`] found: a head as an `H`, data as a
/// `D`.
#[derive(Clone, Debug)]
pub enum Event<H, D = Chunk> {
    /// Nothing yet: call again when more has been received.
    Wait,
    /// An interim response (1xx). Its final response follows.
    Interim(H),
    /// A final response. Its data and [`Event::End`] follow, unless its status is 101.
    Head(H),
    /// Data of the body; never empty.
    Data(D),
    /// The response is complete. With its trailers, if it has any; their fields are not filtered.
    End(Option<Box<Trailers>>),
}

impl<H, D> Event<H, D> {
    /// The same with its data in another form.
    pub fn map_data<T>(self, map: impl FnOnce(D) -> T) -> Event<H, T> {
        match self {
            Self::Wait => Event::Wait,
            Self::Interim(head) => Event::Interim(head),
            Self::Head(head) => Event::Head(head),
            Self::Data(data) => Event::Data(map(data)),
            Self::End(trailers) => Event::End(trailers),
        }
    }
}

/// How much of a response the reader can take for now. Ends of responses need no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Whether it can take a head.
    pub takes_head: bool,
    /// Bytes of data.
    pub data_bytes: usize,
}

/// What the end of input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It completes the response that was being read.
    Complete,
    /// No response was being awaited. The server may close an idle connection at any time.
    Idle,
}

/// Why a response cannot be read. After any of these the connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The head is malformed or too large.
    #[error(transparent)]
    Head(#[from] BadResponse),
    /// The body's framing is malformed.
    #[error("bad response body: {0}")]
    Body(&'static str),
    /// The interim responses exceed their limit.
    #[error("too many interim responses")]
    Interim,
    /// The server switched protocols without being asked to.
    #[error("the protocol was switched without an upgrade request")]
    Upgrade,
    /// The server switched protocols before the request's body was complete.
    #[error("the protocol was switched before the request's body was complete")]
    EarlyUpgrade,
    /// Bytes arrived while no request was unanswered.
    #[error("bytes without a request")]
    Unrequested,
    /// The connection ended before a final response head.
    #[error("the connection ended without a response")]
    NoResponse {
        /// Whether any byte of a response had arrived. If not, the request may be repeated, unless
        /// its effects forbid it.
        has_begun: bool,
    },
    /// The connection ended in the middle of a body.
    #[error("the connection ended in the middle of the response body")]
    Truncated,
}

impl ClientConnection {
    /// A connection without requests; allocates nothing before the first one.
    pub const fn new(limits: ClientLimits) -> Self {
        let state = State::Head { interim_bytes: 0 };
        Self { limits, unanswered: VecDeque::new(), upload: Upload::Done, state, is_ending: false }
    }

    /// Whether another request may be sent now: the body of the last one is sent, fewer than the
    /// limit are unanswered, and the connection goes on.
    pub fn may_request(&self) -> bool {
        let may_switch = self.unanswered.back().is_some_and(|request| request.upgrades);
        !self.is_ending
            && !may_switch
            && self.upload == Upload::Done
            && self.unanswered.len() < self.limits.pipeline_max.max(1)
    }

    /// Appends a request to `out`. Call it only if [`ClientConnection::may_request`]. An announced
    /// body follows by [`ClientConnection::send_data`].
    pub fn request(&mut self, request: &Request, out: &mut Chain) {
        self.request_as(request, None, out);
    }

    /// The same under another `Host`, see [`Request::push_head`].
    pub fn request_as(&mut self, request: &Request, authority: Option<String>, out: &mut Chain) {
        debug_assert!(self.may_request(), "a request that may not be sent");
        let facts = request.facts();
        request.push_head(authority, out);
        self.upload = match facts.framing {
            BodyFraming::None | BodyFraming::Length(0) => Upload::Done,
            BodyFraming::Length(length) => Upload::Length(length),
            BodyFraming::Chunked => Upload::Chunked,
        };
        self.is_ending |= facts.closes;
        self.unanswered.push_back(facts);
    }

    /// Appends data of the request's body to `out`, with its framing. Data beyond the announced
    /// length is dropped, since it would be taken for the next request.
    pub fn send_data(&mut self, mut data: Chunk, out: &mut Chain) {
        let (bytes, line) = self.begin_data(data.len());
        if bytes < data.len() {
            data = Chunk::shared(&data[..bytes]);
        }
        if let Some(line) = &line {
            out.append(line.as_bytes());
        }
        out.push(data);
        if line.is_some() {
            out.push(BodyWriter::Chunked.after());
        }
    }

    /// The same with received data. Large ones leave in the buffers they were received in.
    pub fn send_received(&mut self, data: ReceivedData<'_>, out: &mut Chain) {
        let (bytes, line) = self.begin_data(data.len());
        let data = data.up_to(bytes);
        match &line {
            Some(line) => data.push_to(out, line.as_bytes(), BodyWriter::Chunked.after()),
            None => data.push_to(out, b"", b""),
        }
    }

    /// Counts data of the body: how many of these bytes belong to it, and the line before them.
    fn begin_data(&mut self, bytes: usize) -> (usize, Option<SizeLine>) {
        match &mut self.upload {
            Upload::Done => {
                debug_assert!(bytes == 0, "data of no body");
                (0, None)
            }
            Upload::Chunked => (bytes, (bytes > 0).then(|| SizeLine::new(bytes as u64))),
            Upload::Length(left) => {
                debug_assert!(bytes as u64 <= *left, "{bytes} bytes of data, but {left} are left");
                let bytes = usize::try_from(*left).map_or(bytes, |left| left.min(bytes));
                *left -= bytes as u64;
                if *left == 0 {
                    self.upload = Upload::Done;
                }
                (bytes, None)
            }
        }
    }

    /// Whether the body of the last request was given to its end.
    pub fn is_upload_done(&self) -> bool {
        self.upload == Upload::Done
    }

    /// Appends the end of a chunked body to `out`, with trailers if there are any. A body with a length
    /// ends with its last byte.
    pub fn send_end(&mut self, trailers: Option<&Trailers>, out: &mut Chain) {
        if self.upload == Upload::Chunked {
            match trailers {
                Some(trailers) => out.push(Chunk::shared(BodyWriter::Chunked.end_with(trailers))),
                None => out.push(BodyWriter::Chunked.end()),
            }
            self.upload = Upload::Done;
        }
    }

    /// Reads on in `inbox`. Call it until it returns [`Event::Wait`]. `on_head` takes what is needed
    /// from a head, which does not outlive the call.
    ///
    /// # Errors
    /// After an error nothing on the connection can be trusted, and nothing more is read.
    pub fn read<H>(
        &mut self,
        inbox: &mut Inbox,
        on_head: impl FnOnce(&ResponseHead<'_>) -> H,
    ) -> Result<Event<H>, ClientError> {
        let (head_limits, room) = (self.limits.head, Room { takes_head: true, data_bytes: usize::MAX });
        let event = self.find(inbox, room, &head_limits, on_head)?;
        Ok(event.map_data(|bytes| inbox.take(bytes)))
    }

    /// The same within the reader's room and other limits of heads. Data stay in the inbox, at its
    /// front: take this number of bytes, or consume them, before the next call.
    ///
    /// # Errors
    /// As for [`ClientConnection::read`].
    #[inline]
    pub fn find<H>(
        &mut self,
        inbox: &mut Inbox,
        room: Room,
        head_limits: &HeadLimits,
        on_head: impl FnOnce(&ResponseHead<'_>) -> H,
    ) -> Result<Event<H, usize>, ClientError> {
        let result = match self.state {
            State::Head { .. } if room.takes_head && !inbox.is_empty() => self.read_head(inbox, head_limits, on_head),
            State::Body { .. } => self.read_body(inbox, room.data_bytes),
            State::Head { .. } | State::Upgraded | State::Over => Ok(Event::Wait),
        };
        if result.is_err() {
            self.finish();
        }
        result
    }

    /// Apart from [`ClientConnection::find`], which is called more often: a head takes a lot of stack.
    #[inline(never)]
    fn read_head<H>(
        &mut self,
        inbox: &mut Inbox,
        head_limits: &HeadLimits,
        on_head: impl FnOnce(&ResponseHead<'_>) -> H,
    ) -> Result<Event<H, usize>, ClientError> {
        let Some(request) = self.unanswered.front().copied() else { return Err(ClientError::Unrequested) };
        while inbox.may_hold_head() {
            // A head is large, and is not moved: by reference, and without `?`.
            match parse(inbox.bytes(), request.is_head, head_limits) {
                Ok(Parsed::Complete { ref head, length }) => {
                    let next = self.after_head(head, length, request)?;
                    let event = match next {
                        State::Head { .. } => Event::Interim(on_head(head)),
                        State::Body { .. } | State::Upgraded | State::Over => Event::Head(on_head(head)),
                    };
                    self.state = next;
                    inbox.consume(length);
                    return Ok(event);
                }
                Ok(Parsed::Partial) => {
                    if !inbox.gather() {
                        break;
                    }
                }
                Err(bad) => return Err(bad.into()),
            }
        }
        Ok(Event::Wait)
    }

    /// The state after a head of `length` bytes.
    fn after_head(
        &mut self,
        head: &ResponseHead<'_>,
        length: usize,
        request: RequestFacts,
    ) -> Result<State, ClientError> {
        if head.status == Status::SWITCHING_PROTOCOLS {
            if !request.upgrades {
                return Err(ClientError::Upgrade);
            }
            // The rest of a body would be read as the new protocol (RFC 9110, 7.8).
            if self.upload != Upload::Done {
                return Err(ClientError::EarlyUpgrade);
            }
            self.is_ending = true;
            self.unanswered.clear();
            return Ok(State::Upgraded);
        }
        if head.status.is_informational() {
            let State::Head { interim_bytes } = self.state else { return Ok(State::Over) };
            let interim_bytes = interim_bytes + length as u64;
            let is_within = interim_bytes <= self.limits.interim_bytes_max;
            return if is_within { Ok(State::Head { interim_bytes }) } else { Err(ClientError::Interim) };
        }
        let keep_alive = head.keep_alive && !request.closes;
        self.is_ending |= !keep_alive;
        Ok(State::Body { body: BodyReader::from(head.framing), keep_alive })
    }

    #[inline]
    fn read_body<H>(&mut self, inbox: &mut Inbox, bytes_max: usize) -> Result<Event<H, usize>, ClientError> {
        let State::Body { body, keep_alive } = &mut self.state else { return Ok(Event::Wait) };
        let keep_alive = *keep_alive;
        while !body.is_done() {
            if inbox.is_empty() || bytes_max == 0 {
                return Ok(Event::Wait);
            }
            let bytes = inbox.bytes();
            let piece =
                body.next(&bytes[..bytes.len().min(bytes_max)]).map_err(|error| ClientError::Body(error.reason))?;
            inbox.consume(piece.skip);
            if piece.data > 0 {
                return Ok(Event::Data(piece.data));
            }
        }
        let trailers = body.take_trailers();
        self.unanswered.pop_front();
        self.state = if keep_alive { State::Head { interim_bytes: 0 } } else { State::Over };
        Ok(Event::End(trailers))
    }

    /// Notes that the server has closed its side. Call it after [`ClientConnection::read`] has
    /// returned [`Event::Wait`], with the same inbox.
    ///
    /// # Errors
    /// A response was awaited and is not complete.
    pub fn on_end(&mut self, inbox: &Inbox) -> Result<AtEnd, ClientError> {
        let result = match &self.state {
            State::Body { body, .. } if body.is_complete_at_close() => {
                self.unanswered.pop_front();
                Ok(AtEnd::Complete)
            }
            State::Body { .. } => Err(ClientError::Truncated),
            State::Head { .. } if !self.unanswered.is_empty() => {
                Err(ClientError::NoResponse { has_begun: self.has_begun(inbox) })
            }
            State::Head { .. } | State::Upgraded | State::Over => Ok(AtEnd::Idle),
        };
        self.finish();
        result
    }

    /// Reads and sends nothing more.
    fn finish(&mut self) {
        self.is_ending = true;
        self.state = State::Over;
    }

    /// Whether a head is read next, not the data of a body.
    pub const fn is_reading_head(&self) -> bool {
        matches!(self.state, State::Head { .. })
    }

    /// Whether any byte of the oldest unanswered request's response has arrived, with what is still
    /// in the inbox.
    pub fn has_begun(&self, inbox: &Inbox) -> bool {
        match self.state {
            State::Head { interim_bytes } => interim_bytes > 0 || !inbox.is_empty(),
            State::Body { .. } | State::Upgraded | State::Over => true,
        }
    }

    /// Whether no response is awaited and another request may be sent: the connection may be kept
    /// for later.
    pub fn is_idle(&self) -> bool {
        self.unanswered.is_empty() && self.may_request()
    }

    /// Whether no further response will be read: the connection should be closed.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether the server has switched protocols: what follows in the inbox is the new protocol's.
    pub const fn is_upgraded(&self) -> bool {
        matches!(self.state, State::Upgraded)
    }

    /// Bytes of memory that trailers occupy so far.
    pub const fn memory(&self) -> usize {
        match &self.state {
            State::Body { body, .. } => body.memory(),
            State::Head { .. } | State::Upgraded | State::Over => 0,
        }
    }

    /// Number of requests without a complete response. Once [`ClientConnection::is_over`], they
    /// will not get one.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }
}

#[cfg(test)]
mod tests;
