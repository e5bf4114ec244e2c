//! The streams of HTTP/1: there is one at a time.
//!
//! So its request body is at the front of the connection's inbox, its response goes to the outbox, and
//! the client leaves by ending its input. The body is framed as its head says.

use std::time::Duration;

use super::body_data::{push_chunk, push_data, push_end};
use super::response_encoder::EncodedHead;
use super::{BodyPart, BodySink, ClientStream, OUTBOX_BYTES_MAX, ResponseEncoder};
use crate::buffer::{Chain, Chunk, Inbox, ReceivedData};
use crate::driver::{File, Ops, Time};
use crate::http::range::Span;
use crate::http::{BodyReader, BodyWriter, ErrorResponse, Method, RequestHead, ResponseHead, Trailers, Version};
use crate::tcp::End;
use crate::transport::Transport;

/// A client that closes its side within this time after its last byte has only announced that there
/// is no further request. A later close means that the client has left.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What is kept of a stream while it waits.
#[derive(Debug)]
pub(crate) struct StreamState {
    body: BodyReader,
    /// Whether the end of the body was handed out, or there is no body.
    is_body_done: bool,
    version: Version,
    is_head: bool,
    /// Whether the client wants trailers.
    takes_trailers: bool,
    /// Whether client, route and limits allow another request on the connection.
    keep_alive: bool,
    sent_head: Option<SentHead>,
    /// The last activity of the client: part of its body was consumed, or it sent something,
    /// possibly its next request.
    latest: Time,
    /// Bytes received on the client's connection by then.
    received_bytes: u64,
    /// The client has closed its side within [`HALF_CLOSE_GRACE`].
    is_half_closed: bool,
}

/// What the head of the final response says about what follows it.
#[derive(Clone, Copy, Debug)]
struct SentHead {
    writer: BodyWriter,
    /// The body has a length or is chunked, so the client can detect truncation.
    is_framed: bool,
    keep_alive: bool,
}

/// A stream, together with the parts of its connection that it uses for the moment.
#[derive(Debug)]
pub(crate) struct Http1Stream<'c> {
    state: &'c mut StreamState,
    transport: &'c Transport,
    inbox: &'c mut Inbox,
    outbox: &'c mut Chain,
}

/// What the body of a response of the server's own is sent to. Its head was sent.
#[derive(Debug)]
pub(crate) struct Http1BodySink<'c> {
    writer: BodyWriter,
    transport: &'c mut Transport,
    outbox: &'c mut Chain,
}

impl StreamState {
    /// The stream of a request whose head is complete. `keep_alive`: client, route and limits allow
    /// another request on the connection.
    pub(crate) fn new(head: &RequestHead<'_>, keep_alive: bool, now: Time) -> Self {
        let body = BodyReader::from(head.framing);
        Self {
            is_body_done: body.is_done(),
            body,
            version: head.version,
            is_head: head.method == Method::Head,
            takes_trailers: head.takes_trailers(),
            keep_alive,
            sent_head: None,
            latest: now,
            received_bytes: 0,
            is_half_closed: false,
        }
    }

    /// Whether the whole request body was consumed.
    pub(crate) const fn is_body_done(&self) -> bool {
        self.is_body_done
    }

    /// Bytes of memory that trailers of the request occupy so far.
    pub(crate) const fn memory(&self) -> usize {
        self.body.memory()
    }

    /// Whether the head of the final response was sent.
    pub(crate) const fn is_responding(&self) -> bool {
        self.sent_head.is_some()
    }

    /// Whether the client can detect truncation if the connection now closes in order.
    pub(crate) fn shows_truncation(&self) -> bool {
        self.sent_head.is_none_or(|sent_head| sent_head.is_framed)
    }

    /// An encoder of a response. Another request may follow if the rest of this one is not needed to
    /// find it.
    pub(crate) const fn encoder(&self) -> ResponseEncoder {
        ResponseEncoder::new(self.version, self.is_head, self.keep_alive && self.body.is_done())
    }

    /// Ends the stream after a complete response: whether another request may follow, and the rest
    /// of the request body, which the client has not sent yet.
    pub(crate) fn end(&mut self) -> (bool, BodyReader) {
        let keep_alive = self.sent_head.is_some_and(|sent_head| sent_head.keep_alive);
        (keep_alive, std::mem::replace(&mut self.body, BodyReader::EMPTY))
    }
}

impl<'c> Http1Stream<'c> {
    pub(crate) const fn new(
        state: &'c mut StreamState,
        transport: &'c Transport,
        inbox: &'c mut Inbox,
        outbox: &'c mut Chain,
    ) -> Self {
        Self { state, transport, inbox, outbox }
    }
}

impl ClientStream for Http1Stream<'_> {
    fn has_left(&mut self, now: Time) -> bool {
        let Self { state, transport, inbox, .. } = self;
        let received_bytes = transport.received_bytes();
        // While receiving is paused, an end of input within the grace time cannot be seen.
        let is_deaf = transport.input_end().is_none() && !transport.is_receiving();
        if received_bytes != state.received_bytes || is_deaf {
            state.received_bytes = received_bytes;
            state.latest = now;
        }
        if transport.input_end() != Some(End::Eof) {
            return false;
        }
        if !state.is_responding() && !state.body.is_done() && inbox.is_empty() {
            return true;
        }
        if state.is_half_closed {
            return false;
        }
        state.is_half_closed = true;
        now.since(state.latest) > HALF_CLOSE_GRACE
    }

    fn is_body_done(&self) -> bool {
        self.state.is_body_done
    }

    fn next_body(&mut self, credit: usize, now: Time) -> Result<Option<BodyPart<'_>>, ErrorResponse> {
        let StreamState { body, is_body_done, latest, .. } = &mut *self.state;
        if body.is_done() {
            let is_news = !std::mem::replace(is_body_done, true);
            return Ok(is_news.then(|| BodyPart::End(body.take_trailers())));
        }
        if self.inbox.is_empty() || credit == 0 {
            return Ok(None);
        }
        let bytes = self.inbox.bytes();
        let piece = body.next(&bytes[..bytes.len().min(credit)])?;
        *latest = now;
        self.inbox.consume(piece.skip);
        Ok(Some(BodyPart::Data(ReceivedData::new(self.inbox, piece.data))))
    }

    fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_BYTES_MAX
    }

    /// During a send there is none: data stay where they were received, which bounds the memory
    /// held. Otherwise all that has arrived may leave in one send.
    fn credit(&self) -> usize {
        if self.transport.can_send() { usize::MAX } else { 0 }
    }

    /// What the client takes depends on its reading only.
    fn awaits_window(&self) -> bool {
        false
    }

    fn has_unsent(&self) -> bool {
        !self.transport.can_send() || !self.outbox.is_empty()
    }

    fn given_bytes(&self) -> u64 {
        self.transport.given_bytes() + self.outbox.len() as u64
    }

    fn takes_trailers(&self) -> bool {
        self.state.takes_trailers
    }

    fn begin_head(&self) -> ResponseEncoder {
        self.state.encoder()
    }

    fn begin_interim(&self) -> Option<ResponseEncoder> {
        let encoder = self.begin_head();
        encoder.can_send_interim().then_some(encoder)
    }

    fn send_interim(&mut self, encoder: ResponseEncoder) {
        self.outbox.push(Chunk::shared(encoder.finish_interim()));
    }

    fn send_head(&mut self, encoder: ResponseEncoder, head: &ResponseHead<'_>) {
        let EncodedHead { bytes, writer, is_framed, keep_alive } = encoder.finish_forwarded(head);
        self.outbox.push(bytes);
        self.state.sent_head = Some(SentHead { writer, is_framed, keep_alive });
    }

    fn send_data(&mut self, data: ReceivedData<'_>) {
        if let Some(SentHead { writer, .. }) = self.state.sent_head {
            push_data(self.outbox, writer, data);
        }
    }

    fn send_end(&mut self, trailers: Option<&Trailers>) {
        if let Some(SentHead { writer, .. }) = self.state.sent_head {
            push_end(self.outbox, writer, trailers.filter(|_| self.state.takes_trailers));
        }
    }
}

impl<'c> Http1BodySink<'c> {
    /// `writer`: the framing that the head announces.
    pub(crate) const fn new(writer: BodyWriter, transport: &'c mut Transport, outbox: &'c mut Chain) -> Self {
        Self { writer, transport, outbox }
    }
}

impl BodySink for Http1BodySink<'_> {
    /// Everything given earlier is sent, but for what leaves together with the piece.
    fn takes_piece(&self) -> bool {
        self.transport.can_send()
    }

    fn send_data(&mut self, data: Chunk) {
        push_chunk(self.outbox, self.writer, data);
    }

    /// It leaves together with the data before it.
    fn send_file(&mut self, file: File, span: Span, ops: &mut Ops) {
        debug_assert_eq!(self.writer, BodyWriter::Plain, "a body with files has a length");
        self.transport.send_file(self.outbox.take(), file, span.offset, span.length, ops);
    }

    fn send_end(&mut self) {
        self.outbox.push(self.writer.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Buffer, Pool, PoolConfig, SizeClass};
    use crate::driver::{Outcome, Socket};
    use crate::http::request::{self, HeadLimits};
    use crate::http::response_head;
    use crate::session::slot;
    use crate::table::Table;

    const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n";

    /// A stream, and all of its connection.
    struct Client {
        state: StreamState,
        transport: Transport,
        inbox: Inbox,
        outbox: Chain,
        ops: Ops,
    }

    impl Client {
        fn new(head: &[u8]) -> Self {
            let Ok(request::Parsed::Complete { head, .. }) = request::parse(head, &HeadLimits::default()) else {
                panic!("a request")
            };
            let socket = Socket::of_key(Table::new().insert(()));
            let mut transport = Transport::plain(socket, slot::client_tokens(Table::new().insert(())));
            let mut ops = Ops::new();
            transport.set_receiving(true, &mut ops);
            let state = StreamState::new(&head, true, Time::ZERO);
            Self { state, transport, inbox: Inbox::default(), outbox: Chain::new(), ops }
        }

        fn stream(&mut self) -> Http1Stream<'_> {
            Http1Stream::new(&mut self.state, &self.transport, &mut self.inbox, &mut self.outbox)
        }

        fn receive(&mut self, bytes: &[u8]) {
            if let Some(buffer) = self.transport.on_received(Outcome::Received(buffer_of(bytes))) {
                self.inbox.push(buffer);
            }
        }

        /// Takes what has arrived of the body. Returns whether that is all of it.
        fn take_body(&mut self) -> bool {
            while let Some(part) = self.stream().next_body(usize::MAX, Time::ZERO).unwrap() {
                match part {
                    BodyPart::Data(data) => push_data(&mut Chain::new(), BodyWriter::Plain, data),
                    BodyPart::End(_) => assert!(self.stream().is_body_done()),
                }
            }
            self.stream().is_body_done()
        }

        /// Sends the outbox, which then is underway.
        fn flush(&mut self) {
            self.transport.send(self.outbox.take(), &mut self.ops);
        }

        /// Sends the head of this response.
        fn send_head(&mut self, head: &[u8]) {
            let Ok(response_head::Parsed::Complete { head, .. }) =
                response_head::parse(head, false, &HeadLimits::default())
            else {
                panic!("a response")
            };
            let mut stream = self.stream();
            let mut encoder = stream.begin_head();
            crate::http::HeadSink::status(&mut encoder, head.status, head.reason);
            stream.send_head(encoder, &head);
        }
    }

    fn buffer_of(bytes: &[u8]) -> Buffer {
        let fill = |memory: &mut [u8]| {
            memory[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, std::convert::Infallible>(bytes.len())
        };
        Pool::new(PoolConfig::default()).filled(SizeClass::Small, fill).unwrap().unwrap()
    }

    #[test]
    fn there_is_no_credit_during_a_send_and_room_for_heads_up_to_a_bound() {
        let mut client = Client::new(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((client.stream().credit(), client.stream().has_room()), (usize::MAX, true));
        client.outbox.push(Chunk::shared(vec![0; OUTBOX_BYTES_MAX]));
        assert_eq!((client.stream().credit(), client.stream().has_room()), (usize::MAX, false));
        client.flush();
        assert_eq!((client.stream().credit(), client.stream().has_room()), (0, true), "a head may follow");
        assert!(client.stream().has_unsent());
        client.transport.on_sent(Outcome::Sent);
        assert_eq!(client.stream().credit(), usize::MAX);
        assert!(!client.stream().has_unsent());
        assert_eq!(client.stream().given_bytes(), OUTBOX_BYTES_MAX as u64);
    }

    #[test]
    fn the_stream_frames_the_body_as_its_head_says() {
        for (fields, expected) in
            [("Content-Length: 3", "xps"), ("Transfer-Encoding: chunked", "3\r\nxps\r\n0\r\n\r\n")]
        {
            let mut client = Client::new(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(client.state.shows_truncation() && !client.state.is_responding());
            client.send_head(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes());
            assert!(client.state.shows_truncation() && client.state.is_responding());
            let mut received = Inbox::default();
            received.push(buffer_of(b"xps, and what follows"));
            let head_bytes = client.stream().given_bytes() as usize;
            client.stream().send_data(ReceivedData::new(&mut received, 3));
            client.stream().send_end(None);
            assert_eq!(client.outbox.to_vec()[head_bytes..], *expected.as_bytes());
            assert_eq!(received.bytes(), b", and what follows");
            assert!(client.state.end().0, "another request may follow");
        }
    }

    #[test]
    fn row_18_the_end_of_a_body_has_its_trailers() {
        let mut client = Client::new(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.receive(b"0\r\nX-T: ");
        assert!(!client.take_body() && client.state.memory() > 0);
        client.receive(b"1\r\n\r\nGET");
        let mut trailers = String::new();
        while let Some(part) = client.stream().next_body(usize::MAX, Time::ZERO).unwrap() {
            match part {
                BodyPart::Data(data) => assert!(data.is_empty()),
                BodyPart::End(received) => trailers = format!("{received:?}"),
            }
        }
        assert_eq!(
            (trailers.as_str(), client.state.memory(), client.inbox.bytes()),
            ("Some([X-T: 1])", 0, &b"GET"[..])
        );
    }

    #[test]
    fn row_18_trailers_go_to_a_client_that_wants_them_after_chunks_only() {
        let mut trailers = Trailers::new();
        trailers.push(b"X-T", b"1");
        let (chunked, length) = ("Transfer-Encoding: chunked", "Content-Length: 0");
        for (version, te, framing, expected) in [
            ("1.1", "TE: gzip;q=0.5, Trailers\r\n", chunked, "0\r\nX-T: 1\r\n\r\n"),
            ("1.1", "TE: gzip\r\n", chunked, "0\r\n\r\n"),
            ("1.1", "", chunked, "0\r\n\r\n"),
            ("1.1", "TE: trailers\r\n", length, ""),
            ("1.0", "TE: trailers\r\n", chunked, ""),
        ] {
            let mut client = Client::new(format!("GET / HTTP/{version}\r\nHost: a\r\n{te}\r\n").as_bytes());
            client.send_head(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes());
            let head_bytes = client.stream().given_bytes() as usize;
            client.stream().send_end(Some(&trailers));
            assert_eq!(client.outbox.to_vec()[head_bytes..], *expected.as_bytes(), "{version} {te} {framing}");
        }
    }

    #[test]
    fn what_is_left_of_the_request_body_keeps_the_connection_from_being_used_again() {
        let mut client = Client::new(UPLOAD);
        client.receive(b"abc");
        assert!(!client.take_body(), "half of it has come");
        client.send_head(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let (keep_alive, rest) = client.state.end();
        assert_eq!((keep_alive, rest.data_left()), (false, Some(3)));
    }

    #[test]
    fn an_end_of_input_in_the_middle_of_a_body_means_that_the_client_has_left() {
        for (received, has_left) in [(&b"abc"[..], true), (b"abcdef", false)] {
            let mut client = Client::new(UPLOAD);
            client.receive(received);
            assert!(!client.stream().has_left(Time::ZERO));
            client.take_body();
            client.transport.on_received(Outcome::Eof);
            assert_eq!(client.stream().has_left(Time::ZERO), has_left, "{received:?}");
        }
    }

    #[test]
    fn an_end_of_input_within_the_grace_is_only_the_end_of_requests() {
        for (after, has_left) in [(HALF_CLOSE_GRACE, false), (HALF_CLOSE_GRACE + Duration::from_millis(1), true)] {
            let mut client = Client::new(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(!client.stream().has_left(Time::ZERO));
            client.transport.on_received(Outcome::Eof);
            assert_eq!(client.stream().has_left(Time::ZERO + after), has_left, "{after:?}");
        }
    }
}
