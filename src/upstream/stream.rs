//! One request to an upstream and its response, without the connection that they are on.
//!
//! ```text
//!   request      send_request · send_received, send_end    while there is credit · flush
//!   response     next: interim heads, the head, data, the end; or lost · receive, pause
//! ```
//!
//! What forwards a request joins an [`UpstreamStream`] with its client's stream. Neither side shows
//! how messages are framed, what else is on the connection, and when the connection sends. The
//! stream of a lease is asked for in each pump ([`super::UpstreamLease::stream`]); the lease
//! ends it, by [`super::UpstreamLease::complete`] or [`super::UpstreamLease::reset`].
//!
//! This is the stream of HTTP/1.1: there is one at a time, so what it sends is all that its
//! connection sends, its response is at the front of the connection's inbox, and to reset it is to
//! close the connection. For HTTP/2 each of these has another answer, so a second kind belongs here,
//! with the same methods. A request's head is kept as text, for a retry on another connection; that
//! kind has to translate it.
//!
//! It does not know where requests come from, how long a response may take, or whether a request may
//! be repeated.

use super::pool::{KeepAlive, Release};
use crate::buffer::{Chain, Chunk, Inbox, ReceivedData};
use crate::client::{AtEnd, ClientConnection, ClientError, ClientLimits, Event, Request, Room};
use crate::driver::Ops;
use crate::http::{BodyReader, HeadLimits, ResponseHead, Trailers};
use crate::tcp::{CloseKind, End};
use crate::transport::Transport;

/// What a connection keeps of its streams from one pump to the next.
#[derive(Debug)]
pub(super) struct Http1 {
    messages: ClientConnection,
    /// What was given and is not with the transport yet.
    outbox: Chain,
}

/// A stream, together with the parts of its connection that it uses for the moment.
#[derive(Debug)]
pub struct UpstreamStream<'p> {
    http1: &'p mut Http1,
    transport: &'p mut Transport,
    inbox: &'p mut Inbox,
}

/// Why no more of a response can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// What the upstream sent is no response to the request.
    Malformed(ClientError),
    /// The upstream sends nothing more, and the response is not complete.
    Lost {
        /// How its input ended.
        end: End,
        /// Whether any byte of a response had arrived.
        has_begun: bool,
    },
}

impl Http1 {
    /// A connection without a request.
    pub(super) fn new() -> Self {
        // The limits of heads come with each call, and their reader counts interim responses.
        let limits = ClientLimits { interim_bytes_max: u64::MAX, ..ClientLimits::default() };
        Self { messages: ClientConnection::new(limits), outbox: Chain::new() }
    }

    /// Whether the next request may be sent: the last one and its response are complete, and both
    /// sides keep the connection open.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_idle() && self.outbox.is_empty()
    }

    /// Drops what was given and not sent.
    pub(super) fn clear(&mut self) {
        self.outbox = Chain::new();
    }

    /// Bytes of memory held.
    pub(super) fn memory(&self) -> usize {
        self.outbox.memory() + self.messages.memory()
    }

    /// What to do with the connection after a complete response.
    pub(super) fn release(&self, keep_alive: KeepAlive) -> Release {
        match self.messages.is_upload_done() {
            true if self.is_idle() => Release::Keep(keep_alive),
            true => Release::Close(CloseKind::Fin),
            // The rest of the request's body will not be sent.
            false => Release::Close(CloseKind::Reset),
        }
    }

    /// What the end of input means, once everything before it has been read.
    fn at_end<H, D>(&mut self, end: End, inbox: &Inbox) -> Result<Event<H, D>, StreamError> {
        let has_begun = self.messages.has_begun(inbox);
        match end {
            End::Eof if self.messages.on_end(inbox) == Ok(AtEnd::Complete) => Ok(Event::End(None)),
            End::Eof | End::Failed(_) => Err(StreamError::Lost { end, has_begun }),
        }
    }
}

impl<'p> UpstreamStream<'p> {
    pub(super) const fn new(http1: &'p mut Http1, transport: &'p mut Transport, inbox: &'p mut Inbox) -> Self {
        Self { http1, transport, inbox }
    }

    /// Announces the client to the upstream, before the request. The connection carries requests of
    /// this client only. `header`: the PROXY header.
    pub fn announce(&mut self, header: Chunk) {
        self.http1.outbox.push(header);
    }

    /// Gives the head of the request, once. Its body follows. `authority`: see
    /// [`Request::push_head`].
    pub fn send_request(&mut self, request: &Request, authority: Option<String>) {
        let Http1 { messages, outbox } = &mut *self.http1;
        messages.request_as(request, authority, outbox);
    }

    /// Number of bytes of the request that may be given now; a head needs one.
    ///
    /// During a send there is none: data stay where they were received, which bounds the memory
    /// held. Otherwise all that has arrived may leave in one send.
    pub fn credit(&self) -> usize {
        if self.transport.can_send() { usize::MAX } else { 0 }
    }

    /// Gives data of the request's body, at most [`UpstreamStream::credit`] bytes.
    pub fn send_received(&mut self, data: ReceivedData<'_>) {
        let Http1 { messages, outbox } = &mut *self.http1;
        messages.send_received(data, outbox);
    }

    /// Gives the end of a complete body, and its trailers. They are left out if the body has a length.
    pub fn send_end(&mut self, trailers: Option<&Trailers>) {
        let Http1 { messages, outbox } = &mut *self.http1;
        messages.send_end(trailers, outbox);
    }

    /// Lets the connection send what was given. Call it after the last of it in each pump.
    pub fn flush(&mut self, ops: &mut Ops) {
        if !self.http1.outbox.is_empty() {
            self.transport.send(self.http1.outbox.take(), ops);
        }
    }

    /// Whether some of what was given is not sent yet.
    pub fn has_unsent(&self) -> bool {
        !self.transport.can_send() || !self.http1.outbox.is_empty()
    }

    /// Whether nothing more of the request can be sent. What the upstream has sent can still be received.
    pub fn takes_nothing(&self) -> bool {
        self.transport.send_fault().is_some()
    }

    /// What comes next of the response. Call it until it returns [`Event::Wait`]. `on_head` takes
    /// what is needed from a head, which does not outlive the call.
    ///
    /// # Errors
    /// Once everything has been read of a response that does not become complete; then the stream is
    /// of no further use.
    #[inline]
    pub fn next<H>(
        &mut self,
        room: Room,
        head_limits: &HeadLimits,
        on_head: impl FnOnce(&ResponseHead<'_>) -> H,
    ) -> Result<Event<H, ReceivedData<'_>>, StreamError> {
        let Self { http1, transport, inbox } = self;
        let found = http1.messages.find(inbox, room, head_limits, on_head).map_err(StreamError::Malformed)?;
        if let Event::Wait = found
            && let Some(end) = transport.input_end()
            // A part of a head is all that there will be of it.
            && (inbox.is_empty() || (room.takes_head && http1.messages.is_reading_head()))
        {
            return http1.at_end(end, inbox);
        }
        Ok(found.map_data(|bytes| ReceivedData::new(inbox, bytes)))
    }

    /// Receives while unread data occupy less than `memory_max` bytes. After a pause there must be
    /// more room, so that receiving does not begin for every buffer.
    pub fn receive(&mut self, memory_max: usize, ops: &mut Ops) {
        let held = self.inbox.waiting_memory();
        let has_space = if self.transport.is_receiving() { held < memory_max } else { held <= memory_max / 2 };
        self.transport.set_receiving(has_space, ops);
    }

    /// The upper bound of the memory of both bodies, their trailers and a head, if neither side is received from
    /// while what it has sent occupies `memory_max` bytes.
    pub const fn memory_max(memory_max: usize, head_bytes_max: usize) -> usize {
        // The trailers of each body are gathered, and may have been given as well.
        2 * (memory_max + 2 * BodyReader::TRAILERS_MEMORY_MAX) + Inbox::gathered_memory_max(head_bytes_max)
    }

    /// As [`UpstreamStream::receive`], while the client takes nothing until something has been received
    /// from it. Unread data are copied out of the receive buffers, which that may need.
    pub fn set_aside(&mut self, memory_max: usize, ops: &mut Ops) {
        self.inbox.settle();
        let held = self.inbox.memory();
        let has_space = if self.transport.is_receiving() { held < memory_max } else { held <= memory_max / 2 };
        self.transport.set_receiving(has_space, ops);
    }

    /// Receives nothing for now.
    pub fn pause(&mut self, ops: &mut Ops) {
        self.transport.set_receiving(false, ops);
    }

    /// A count that differs from an earlier one if the upstream has made progress: it has taken more
    /// of the request, or sent more of the final response after its head. Interim responses and
    /// parts of a head are no progress.
    pub fn progress(&self) -> u64 {
        let sent_bytes = self.transport.sent_bytes();
        if self.http1.messages.is_reading_head() { sent_bytes } else { self.transport.received_bytes() + sent_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Buffer, Pool, PoolConfig, SizeClass};
    use crate::driver::{Fault, Outcome, Socket};
    use crate::http::{BodyFraming, Method};
    use crate::table::{RawKey, Table};
    use crate::upstream::OutboundTokens;

    const ALL: Room = Room { takes_head: true, data_bytes: usize::MAX };

    /// A stream, and all of its connection.
    struct Upstream {
        http1: Http1,
        transport: Transport,
        inbox: Inbox,
        ops: Ops,
    }

    /// What a stream yields, as text.
    type Found = Result<String, StreamError>;

    impl Upstream {
        /// A connection on which this request was sent.
        fn new(request: &Request) -> Self {
            let tokens = OutboundTokens { machine: RawKey::from_parts(7, 0), kind: 9 };
            let transport = tokens.transport(Socket::of_key(Table::new().insert(())));
            let mut upstream = Self { http1: Http1::new(), transport, inbox: Inbox::default(), ops: Ops::new() };
            upstream.send(request);
            upstream.stream().receive(1 << 20, &mut Ops::new());
            upstream
        }

        fn stream(&mut self) -> UpstreamStream<'_> {
            UpstreamStream::new(&mut self.http1, &mut self.transport, &mut self.inbox)
        }

        /// Sends a request, whose send is over then.
        fn send(&mut self, request: &Request) {
            let Self { http1, transport, inbox, ops } = self;
            let mut stream = UpstreamStream::new(http1, transport, inbox);
            assert!(stream.credit() > 0 && !stream.has_unsent());
            stream.send_request(request, None);
            assert!(stream.has_unsent());
            stream.flush(ops);
            assert_eq!((stream.credit(), stream.has_unsent()), (0, true));
            self.transport.on_sent(Outcome::Sent);
        }

        fn receive(&mut self, bytes: &[u8]) {
            if let Some(buffer) = self.transport.on_received(Outcome::Received(buffer_of(bytes))) {
                self.inbox.push(buffer);
            }
        }

        fn next(&mut self, room: Room) -> Found {
            let mut stream = self.stream();
            let event = stream.next(room, &HeadLimits::default(), |head| head.status)?;
            Ok(match event {
                Event::Wait => "wait".to_owned(),
                Event::Interim(status) => format!("interim {}", status.code()),
                Event::Head(status) => format!("head {}", status.code()),
                Event::Data(data) => {
                    let mut chain = Chain::new();
                    data.push_to(&mut chain, b"", b"");
                    String::from_utf8(chain.to_vec()).unwrap()
                }
                Event::End(None) => "end".to_owned(),
                Event::End(Some(trailers)) => format!("end {trailers:?}"),
            })
        }

        #[track_caller]
        fn expect(&mut self, expected: &[&str]) {
            for expected in expected {
                assert_eq!(self.next(ALL), Ok((*expected).to_owned()));
            }
        }

        fn release(&self) -> Release {
            self.http1.release(KeepAlive::default())
        }
    }

    fn buffer_of(bytes: &[u8]) -> Buffer {
        let fill = |memory: &mut [u8]| {
            memory[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, std::convert::Infallible>(bytes.len())
        };
        Pool::new(PoolConfig::default()).filled(SizeClass::Small, fill).unwrap().unwrap()
    }

    fn get() -> Request {
        Request::builder(Method::Get, "/", "h").end()
    }

    fn post(framing: BodyFraming) -> Request {
        Request::builder(Method::Post, "/", "h").body(framing).end()
    }

    #[test]
    fn one_stream_follows_another_on_a_connection() {
        let mut upstream = Upstream::new(&get());
        for _ in 0..3 {
            upstream.expect(&["wait"]);
            upstream.receive(b"HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nx");
            upstream.expect(&["interim 103", "head 200", "x", "wait"]);
            upstream.receive(b"ps");
            upstream.expect(&["ps", "end"]);
            assert_eq!(upstream.release(), Release::Keep(KeepAlive::default()));
            upstream.send(&get());
        }
    }

    #[test]
    fn a_connection_is_kept_only_after_two_complete_messages_that_allow_it() {
        for (response, expected) in [
            ("HTTP/1.1 204 \r\n\r\n", Release::Keep(KeepAlive::default())),
            ("HTTP/1.1 204 \r\nConnection: close\r\n\r\n", Release::Close(CloseKind::Fin)),
        ] {
            let mut upstream = Upstream::new(&get());
            upstream.receive(response.as_bytes());
            upstream.expect(&["head 204", "end"]);
            assert_eq!(upstream.release(), expected);
            let mut upstream = Upstream::new(&post(BodyFraming::Length(3)));
            upstream.receive(response.as_bytes());
            upstream.expect(&["head 204", "end"]);
            assert_eq!(upstream.release(), Release::Close(CloseKind::Reset), "its body is broken off");
        }
    }

    #[test]
    fn row_18_the_end_of_a_response_has_its_trailers() {
        let mut upstream = Upstream::new(&get());
        upstream.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxps\r\n0\r\nX-T: ");
        upstream.expect(&["head 200", "xps", "wait"]);
        assert!(upstream.http1.memory() > 0);
        upstream.receive(b"1\r\n\r\n");
        upstream.expect(&["end [X-T: 1]", "wait"]);
        assert_eq!((upstream.http1.memory(), upstream.release()), (0, Release::Keep(KeepAlive::default())));
    }

    #[test]
    fn a_body_leaves_in_one_send_with_its_framing() {
        let mut upstream = Upstream::new(&post(BodyFraming::Chunked));
        let mut received = Inbox::default();
        received.push(buffer_of(b"xpsand what follows"));
        let mut stream = upstream.stream();
        stream.send_received(ReceivedData::new(&mut received, 3));
        stream.send_end(None);
        assert_eq!(upstream.http1.outbox.to_vec(), b"3\r\nxps\r\n0\r\n\r\n");
        assert_eq!(received.bytes(), b"and what follows");
        assert!(upstream.http1.memory() > 0 && !upstream.http1.is_idle());
        upstream.http1.clear();
        assert_eq!(upstream.http1.memory(), 0);
    }

    #[test]
    fn an_end_of_input_completes_a_response_or_loses_it() {
        let fault = Fault::Os(104);
        let until_close = "HTTP/1.1 200 OK\r\n\r\n";
        let lost = |end, has_begun| Err(StreamError::Lost { end, has_begun });
        let cases: [(&str, End, Found); 6] = [
            (until_close, End::Eof, Ok("end".to_owned())),
            (until_close, End::Failed(fault), lost(End::Failed(fault), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", End::Eof, lost(End::Eof, true)),
            ("HTTP/1.1 2", End::Eof, lost(End::Eof, true)),
            ("HTTP/1.1 100 \r\n\r\n", End::Eof, lost(End::Eof, true)),
            ("", End::Eof, lost(End::Eof, false)),
        ];
        for (received, end, expected) in cases {
            let mut upstream = Upstream::new(&get());
            if !received.is_empty() {
                upstream.receive(received.as_bytes());
            }
            upstream.transport.on_received(match end {
                End::Eof => Outcome::Eof,
                End::Failed(fault) => Outcome::Failed(fault),
            });
            let mut found = upstream.next(ALL);
            while matches!(&found, Ok(text) if text.starts_with("head") || text.starts_with("interim")) {
                found = upstream.next(ALL);
            }
            assert_eq!(found, expected, "{received:?}");
        }
    }

    #[test]
    fn what_was_received_before_the_end_is_read_first() {
        let mut upstream = Upstream::new(&get());
        upstream.receive(b"HTTP/1.1 200 OK\r\n\r\nxps");
        upstream.transport.on_received(Outcome::Eof);
        let none = Room { takes_head: false, data_bytes: 0 };
        assert_eq!(upstream.next(none), Ok("wait".to_owned()));
        upstream.expect(&["head 200"]);
        assert_eq!(upstream.next(none), Ok("wait".to_owned()));
        upstream.expect(&["xps", "end"]);
        assert_eq!(upstream.release(), Release::Close(CloseKind::Fin));
    }

    #[test]
    fn heads_of_interim_responses_are_no_progress() {
        let mut upstream = Upstream::new(&get());
        let before = upstream.stream().progress();
        upstream.receive(b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 2");
        upstream.expect(&["interim 100", "wait"]);
        assert_eq!(upstream.stream().progress(), before);
        upstream.receive(b"00 OK\r\nContent-Length: 3\r\n\r\n");
        upstream.expect(&["head 200"]);
        let before = upstream.stream().progress();
        upstream.receive(b"x");
        assert_ne!(upstream.stream().progress(), before);
    }

    #[test]
    fn what_is_no_response_to_the_request_is_an_error() {
        let mut upstream = Upstream::new(&get());
        upstream.receive(b"HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n");
        assert_eq!(upstream.next(ALL), Err(StreamError::Malformed(ClientError::Upgrade)));
    }
}
