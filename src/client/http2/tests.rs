//! Whatever a server sends, and wherever its bytes are cut into pieces, the same is read of the responses.

use std::convert::Infallible;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::buffer::{Pool, PoolConfig, SizeClass};
use crate::http::h2::frame::{FrameHeader, FrameKind, HEADER_BYTES, flag, ping, push_headers};
use crate::http::h2::hpack::encoder::push_field;
use crate::http::h2::{HeadEncoder, frame};
use crate::http::response::HeadSink;
use crate::http::response_head::ResponseFraming;
use crate::http::{Method, Scheme};

mod crate_server;

/// An event without the pieces in which data arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Head(u32, u16, Option<u64>),
    Data(u32, Vec<u8>),
    End(u32),
    Reset(u32, ErrorCode),
    Refused(u32),
    Malformed(u32),
}

/// A connection with what it reads and sends.
struct Rig {
    pool: Pool,
    client: Http2Client,
    inbox: Inbox,
    out: Chain,
    marks: Vec<Mark>,
}

impl Rig {
    fn new(limits: Http2ClientLimits) -> Self {
        let mut out = Chain::new();
        let client = Http2Client::new(limits, &mut out);
        Self { pool: Pool::new(PoolConfig::default()), client, inbox: Inbox::default(), out, marks: Vec::new() }
    }

    /// A connection whose server has sent its settings, and what was sent is dropped.
    fn open(settings: &[(u16, u32)]) -> Self {
        let mut rig = Self::new(Http2ClientLimits::default());
        rig.read(&settings_frame(settings)).unwrap();
        rig.out = Chain::new();
        rig
    }

    /// Sends as many GETs, whose tags count from 0.
    fn get(&mut self, requests: u32) {
        for tag in 0..requests {
            self.client.request(&get(), tag, &mut self.out);
        }
        self.out = Chain::new();
    }

    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.pool.size(SizeClass::Small)) {
            let fill = |memory: &mut [u8]| {
                memory[..piece.len()].copy_from_slice(piece);
                Ok::<_, Infallible>(piece.len())
            };
            self.inbox.push(self.pool.filled(SizeClass::Small, fill).unwrap().unwrap());
        }
    }

    /// Receives bytes and reads on, up to the end of what was received.
    fn read(&mut self, bytes: &[u8]) -> Result<(), Http2Error> {
        self.push(bytes);
        loop {
            let mark = match self.client.read(&mut self.inbox, &mut self.out)? {
                Http2Event::Wait => return Ok(()),
                Http2Event::Head { tag, status, content_length } => Mark::Head(tag, status.code(), content_length),
                Http2Event::Data { tag, bytes } => {
                    assert!(bytes > 0);
                    let data = self.inbox.bytes()[..bytes].to_vec();
                    self.inbox.consume(bytes);
                    if let Some(Mark::Data(other, before)) = self.marks.last_mut()
                        && *other == tag
                    {
                        before.extend(data);
                        continue;
                    }
                    Mark::Data(tag, data)
                }
                Http2Event::End { tag } => Mark::End(tag),
                Http2Event::Reset { tag, code } => Mark::Reset(tag, code),
                Http2Event::Refused { tag } => Mark::Refused(tag),
                Http2Event::Malformed { tag, reason } => {
                    assert!(!reason.is_empty());
                    Mark::Malformed(tag)
                }
            };
            self.marks.push(mark);
        }
    }

    /// What the client has sent since the last time.
    fn sent(&mut self) -> Vec<(FrameHeader, Vec<u8>)> {
        let bytes = self.out.take().to_vec();
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let header = FrameHeader::parse(header);
            let (payload, after) = after.split_at(header.length as usize);
            frames.push((header, payload.to_vec()));
            rest = after;
        }
        frames
    }

    fn error(&mut self, bytes: &[u8]) -> ErrorCode {
        let Err(Http2Error::Connection(error)) = self.read(bytes) else { panic!("no error") };
        let sent = self.sent();
        let (header, payload) = sent.last().expect("a GOAWAY");
        assert_eq!((header.kind, &payload[4..8]), (FrameKind::GoAway, &error.code.get().to_be_bytes()[..]));
        assert!(self.client.is_over() && !self.client.may_request());
        assert_eq!(self.client.read(&mut self.inbox, &mut self.out), Ok(Http2Event::Wait), "nothing more is read");
        error.code
    }
}

fn get() -> Http2Request {
    Http2Request::builder(Method::Get, Scheme::Http, "h", "/").end()
}

fn post(body: usize) -> Http2Request {
    Http2Request::builder(Method::Post, Scheme::Http, "h", "/").body(Chunk::shared(vec![b'x'; body])).end()
}

/// The identifier of the request with this number.
const fn stream(tag: u32) -> StreamId {
    StreamId::new(2 * tag + 1)
}

fn settings_frame(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_settings(&mut bytes, settings);
    bytes
}

fn frame(kind: FrameKind, flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { length: payload.len() as u32, kind, flags, stream };
    [&header.to_bytes()[..], payload].concat()
}

fn headers(tag: u32, fields: &[(&str, &str)], is_end: bool) -> Vec<u8> {
    let (mut block, mut bytes) = (Vec::new(), Vec::new());
    fields.iter().for_each(|(name, value)| push_field(&mut block, name.as_bytes(), value.as_bytes()));
    push_headers(&mut bytes, stream(tag), &block, is_end, FRAME_BYTES_MIN);
    bytes
}

fn ok(tag: u32, is_end: bool) -> Vec<u8> {
    headers(tag, &[(":status", "200")], is_end)
}

fn data(tag: u32, bytes: &[u8], is_end: bool) -> Vec<u8> {
    frame(FrameKind::Data, if is_end { flag::END_STREAM } else { 0 }, stream(tag), bytes)
}

fn go_away(last: StreamId, code: ErrorCode) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_go_away(&mut bytes, last, code, "");
    bytes
}

#[test]
fn it_begins_with_the_preface_its_settings_and_the_window_of_the_connection() {
    let mut rig = Rig::new(Http2ClientLimits::default());
    assert!(rig.out.to_vec().starts_with(PREFACE));
    let sent = rig.sent();
    let kinds: Vec<_> = sent.iter().map(|(header, _)| header.kind).collect();
    assert_eq!(kinds, [FrameKind::Settings, FrameKind::WindowUpdate]);
    let mut settings = Settings::default();
    settings.apply(Peer::Client, &sent[0].1).unwrap();
    assert!(!settings.enable_push && settings.initial_window_bytes == 6 << 20);
    assert_eq!(settings.list_bytes_max, Some(32 << 10));
    assert_eq!(sent[1].1, ((15 << 20) - INITIAL_WINDOW_BYTES).to_be_bytes());
    // The protocol has no smaller one.
    let limits = Http2ClientLimits { connection_window: 1, ..Http2ClientLimits::default() };
    assert_eq!(Rig::new(limits).sent().len(), 1);
}

#[test]
fn responses_come_in_any_order() {
    let mut rig = Rig::open(&[]);
    rig.get(3);
    let sent = [
        ok(2, false),
        headers(0, &[(":status", "404"), ("content-length", "3")], false),
        data(0, b"xp", false),
        data(2, b"2", true),
        data(0, b"s", true),
        ok(1, true),
    ];
    rig.read(&sent.concat()).unwrap();
    let expected = [
        Mark::Head(2, 200, None),
        Mark::Head(0, 404, Some(3)),
        Mark::Data(0, b"xp".to_vec()),
        Mark::Data(2, b"2".to_vec()),
        Mark::End(2),
        Mark::Data(0, b"s".to_vec()),
        Mark::End(0),
        Mark::Head(1, 200, None),
        Mark::End(1),
    ];
    assert_eq!((rig.marks.as_slice(), rig.client.in_flight()), (&expected[..], 0));
    assert!(rig.sent().is_empty() && rig.client.may_request() && !rig.client.is_over());
    assert_eq!(rig.client.on_end(), Ok(()));
    assert!(rig.client.is_over());
}

#[test]
fn interim_responses_are_skipped_up_to_their_limit() {
    let mut rig = Rig::open(&[]);
    rig.get(2);
    let interim = headers(0, &[(":status", "103"), ("link", "x")], false);
    rig.read(&[interim.clone(), interim, ok(0, true)].concat()).unwrap();
    assert_eq!(rig.marks, [Mark::Head(0, 200, None), Mark::End(0)]);
    rig.marks.clear();
    let large = headers(1, &[(":status", "100"), ("x", &"y".repeat(20_000))], false);
    rig.read(&large.repeat(3)).unwrap();
    assert_eq!(rig.marks, []);
    rig.read(&large).unwrap();
    assert_eq!(rig.marks, [Mark::Malformed(1)]);
}

#[test]
fn a_response_may_end_with_trailers() {
    let mut rig = Rig::open(&[]);
    rig.get(3);
    let trailers = |tag| headers(tag, &[("x", "y")], true);
    rig.read(&[ok(0, false), data(0, b"1", false), trailers(0)].concat()).unwrap();
    assert_eq!(rig.marks, [Mark::Head(0, 200, None), Mark::Data(0, b"1".to_vec()), Mark::End(0)]);
    rig.marks.clear();
    // Not the end, and no trailers.
    rig.read(&[ok(1, false), headers(1, &[("x", "y")], false)].concat()).unwrap();
    rig.read(&[ok(2, false), headers(2, &[(":status", "200")], true)].concat()).unwrap();
    let expected = [Mark::Head(1, 200, None), Mark::Malformed(1), Mark::Head(2, 200, None), Mark::Malformed(2)];
    assert_eq!(rig.marks, expected);
    let sent = rig.sent();
    assert_eq!(sent.len(), 1, "the other one was ended by the server");
    assert_eq!((sent[0].0.kind, sent[0].0.stream), (FrameKind::ResetStream, stream(1)));
}

#[test]
fn a_declared_length_is_that_of_the_data() {
    let declared = |tag, status, is_end| headers(tag, &[(":status", status), ("content-length", "3")], is_end);
    for (is_right, bytes) in [
        (true, [declared(0, "200", false), data(0, b"xps", true)].concat()),
        (true, [declared(0, "200", false), data(0, b"xps", false), data(0, b"", true)].concat()),
        (false, [declared(0, "200", false), data(0, b"xp", true)].concat()),
        (false, [declared(0, "200", false), data(0, b"xpss", false)].concat()),
        (false, [declared(0, "200", false), data(0, b"xpss", true)].concat()),
        (false, declared(0, "200", true)),
        (false, [declared(0, "200", false), headers(0, &[("x", "y")], true)].concat()),
        (true, declared(0, "304", true)),
        (true, declared(0, "204", true)),
        (false, [declared(0, "304", false), data(0, b"xps", true)].concat()),
    ] {
        let mut rig = Rig::open(&[]);
        rig.get(1);
        rig.read(&bytes).unwrap();
        let last = if is_right { Mark::End(0) } else { Mark::Malformed(0) };
        assert_eq!((rig.marks.last(), rig.client.in_flight()), (Some(&last), 0), "{bytes:?}");
        assert!(rig.client.may_request(), "the connection goes on");
    }
    let mut rig = Rig::open(&[]);
    let head = Http2Request::builder(Method::Head, Scheme::Http, "h", "/").end();
    rig.client.request(&head, 0, &mut rig.out);
    rig.read(&declared(0, "200", true)).unwrap();
    assert_eq!(rig.marks, [Mark::Head(0, 200, Some(3)), Mark::End(0)]);
}

#[test]
fn malformed_responses_are_errors_of_their_streams() {
    for bytes in [
        headers(0, &[("x", "y")], true),
        headers(0, &[(":status", "100")], true),
        headers(0, &[(":status", "101")], false),
        headers(0, &[(":status", "200"), ("connection", "close")], true),
        headers(0, &[(":status", "200"), ("x", &"y".repeat(33 << 10))], true),
        data(0, b"x", false),
        frame(FrameKind::WindowUpdate, 0, stream(0), &[0; 4]),
    ] {
        let mut rig = Rig::open(&[]);
        rig.get(1);
        rig.read(&[bytes.clone(), ping(false, [7; 8]).to_vec()].concat()).unwrap();
        assert_eq!(rig.marks, [Mark::Malformed(0)], "{bytes:?}");
        assert_eq!(rig.sent().last().map(|(header, _)| header.kind), Some(FrameKind::Ping), "the connection goes on");
    }
}

#[test]
fn padding_is_not_data_and_counts_for_the_windows() {
    let limits = Http2ClientLimits { stream_window: 100, ..Http2ClientLimits::default() };
    let mut rig = Rig::new(limits);
    rig.read(&settings_frame(&[])).unwrap();
    rig.get(1);
    let padded = |text: &[u8], is_end| {
        let payload = [&[30], text, &[0; 30]].concat();
        let flags = flag::PADDED | if is_end { flag::END_STREAM } else { 0 };
        frame(FrameKind::Data, flags, stream(0), &payload)
    };
    rig.read(&[ok(0, false), padded(b"x", false), padded(b"", false), padded(b"ps", true)].concat()).unwrap();
    assert_eq!(rig.marks, [Mark::Head(0, 200, None), Mark::Data(0, b"xps".to_vec()), Mark::End(0)]);
    let updates: Vec<_> = rig.sent().into_iter().map(|(header, payload)| (header.kind, payload)).collect();
    assert_eq!(updates, [(FrameKind::WindowUpdate, 63u32.to_be_bytes().to_vec())]);
}

#[test]
fn windows_are_granted_again_by_halves() {
    let limits = Http2ClientLimits { stream_window: 1000, connection_window: 100_000, ..Http2ClientLimits::default() };
    let mut rig = Rig::new(limits);
    rig.read(&settings_frame(&[])).unwrap();
    rig.get(1);
    rig.read(&ok(0, false)).unwrap();
    let (mut connection, mut of_stream) = (0, 0);
    for number in 1..=1000 {
        rig.read(&data(0, &[0; 250], number == 1000)).unwrap();
        for (header, _) in rig.sent() {
            assert_eq!(header.kind, FrameKind::WindowUpdate);
            if header.stream == StreamId::CONNECTION { connection += 1 } else { of_stream += 1 }
        }
    }
    // 250,000 bytes; the last of a stream needs none.
    assert_eq!((connection, of_stream), (5, 499));
}

#[test]
fn more_than_the_windows_allow_is_an_error_of_the_connection() {
    let limits = Http2ClientLimits { stream_window: 10, ..Http2ClientLimits::default() };
    let mut rig = Rig::new(limits);
    rig.read(&settings_frame(&[])).unwrap();
    rig.get(1);
    assert_eq!(rig.error(&[ok(0, false), data(0, &[0; 11], false)].concat()), ErrorCode::FLOW_CONTROL_ERROR);
    for stream in [StreamId::CONNECTION, stream(0)] {
        let mut rig = Rig::open(&[]);
        rig.get(1);
        let update = window_update(stream, WINDOW_CEILING);
        assert_eq!(rig.error(&update.repeat(2)), ErrorCode::FLOW_CONTROL_ERROR);
    }
}

#[test]
fn field_blocks_in_several_frames_and_with_a_table_are_decoded() {
    let mut rig = Rig::open(&[]);
    rig.get(3);
    // `x: y` into the table, then by its index.
    let block = b"\x88\x40\x01x\x01y\x0f\x0d\x017";
    for split in 0..block.len() {
        let mut rig = Rig::open(&[]);
        rig.get(1);
        let (first, second) = block.split_at(split);
        rig.read(&frame(FrameKind::Headers, 0, stream(0), first)).unwrap();
        rig.read(&frame(FrameKind::Continuation, flag::END_HEADERS, stream(0), second)).unwrap();
        assert_eq!(rig.marks, [Mark::Head(0, 200, Some(7))]);
    }
    let end = flag::END_HEADERS | flag::END_STREAM;
    let cases: [&[u8]; 3] = [b"\x88\x40\x0econtent-length\x010", b"\x88\xbe", b"\x3f\xe1\x1f\x48\x03204"];
    for (tag, block) in cases.iter().enumerate() {
        rig.read(&frame(FrameKind::Headers, end, stream(tag as u32), block)).unwrap();
    }
    let heads: Vec<_> = rig.marks.iter().filter(|mark| matches!(mark, Mark::Head(..))).cloned().collect();
    assert_eq!(heads, [Mark::Head(0, 200, Some(0)), Mark::Head(1, 200, Some(0)), Mark::Head(2, 204, None)]);
    let error = rig.error(&frame(FrameKind::Headers, end, stream(0), b"\x88\xff\x7f"));
    assert_eq!(error, ErrorCode::COMPRESSION_ERROR, "also of a stream that has ended");
}

#[test]
fn settings_and_pings_are_answered() {
    let mut rig = Rig::new(Http2ClientLimits::default());
    rig.sent();
    rig.read(&[settings_frame(&[(id::MAX_CONCURRENT_STREAMS, 1)]), SETTINGS_ACK.to_vec()].concat()).unwrap();
    rig.read(&[ping(false, *b"12345678"), ping(true, [0; 8])].concat()).unwrap();
    let sent = rig.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].0.kind, sent[0].0.flags), (FrameKind::Settings, flag::ACK));
    assert_eq!((sent[1].0.kind, sent[1].0.flags, &*sent[1].1), (FrameKind::Ping, flag::ACK, &b"12345678"[..]));
    let flood = ping(false, [0; 8]).repeat(2 * ANSWERS_AT_MAX / 17);
    assert_eq!(rig.error(&flood), ErrorCode::ENHANCE_YOUR_CALM);
}

#[test]
fn streams_are_opened_up_to_the_lower_limit() {
    let limits = Http2ClientLimits { streams_max: 1000, ..Http2ClientLimits::default() };
    let mut rig = Rig::new(limits);
    rig.client.request(&get(), 0, &mut rig.out);
    assert!(!rig.client.may_request(), "the server has not spoken");
    rig.read(&settings_frame(&[])).unwrap();
    for tag in 1..100 {
        assert!(rig.client.may_request());
        rig.client.request(&get(), tag, &mut rig.out);
    }
    assert!(rig.client.may_request());
    rig.read(&settings_frame(&[(id::MAX_CONCURRENT_STREAMS, 100)])).unwrap();
    assert!(!rig.client.may_request());
    rig.read(&ok(7, true)).unwrap();
    assert!(rig.client.may_request());
    let mut rig = Rig::open(&[(id::MAX_CONCURRENT_STREAMS, 1000)]);
    rig.get(100);
    assert!(!rig.client.may_request(), "our own limit");
}

#[test]
fn the_last_identifier_is_used_once() {
    let mut rig = Rig::open(&[]);
    rig.client.next_id = StreamId::MAX.get();
    rig.client.request(&get(), 5, &mut rig.out);
    assert!(!rig.client.may_request() && !rig.client.is_over());
    let end = frame(FrameKind::Headers, flag::END_HEADERS | flag::END_STREAM, StreamId::MAX, b"\x88");
    rig.read(&end).unwrap();
    assert!(rig.marks.contains(&Mark::End(5)) && rig.client.is_over());
}

#[test]
fn what_the_server_will_not_process_is_refused_and_the_rest_goes_on() {
    let mut rig = Rig::open(&[]);
    rig.get(4);
    rig.read(&[go_away(stream(1), ErrorCode::NO_ERROR), ok(1, true)].concat()).unwrap();
    assert_eq!(rig.marks, [Mark::Refused(2), Mark::Refused(3), Mark::Head(1, 200, None), Mark::End(1)]);
    assert!(!rig.client.may_request() && !rig.client.is_over() && rig.client.in_flight() == 1);
    assert_eq!(rig.client.go_away(), Some(ErrorCode::NO_ERROR));
    rig.marks.clear();
    rig.read(&frame::reset_stream(stream(0), ErrorCode::REFUSED_STREAM)).unwrap();
    assert_eq!(rig.marks, [Mark::Refused(0)]);
    assert!(rig.client.is_over());
    assert_eq!(rig.client.on_end(), Ok(()));
    // The first GOAWAY of a server that waits for requests on their way, then the second.
    let mut rig = Rig::open(&[]);
    rig.get(2);
    rig.read(&go_away(StreamId::MAX, ErrorCode::NO_ERROR)).unwrap();
    assert_eq!(rig.marks, []);
    rig.read(&go_away(stream(0), ErrorCode::ENHANCE_YOUR_CALM)).unwrap();
    assert_eq!(rig.marks, [Mark::Refused(1)]);
    assert_eq!(rig.client.on_end(), Err(Http2Error::GoAway(ErrorCode::ENHANCE_YOUR_CALM)));
}

#[test]
fn the_end_of_input_is_an_error_if_a_response_is_awaited() {
    let mut rig = Rig::new(Http2ClientLimits::default());
    assert_eq!((rig.client.is_over(), rig.client.on_end(), rig.client.is_over()), (false, Ok(()), true));
    let mut rig = Rig::open(&[]);
    rig.get(2);
    rig.read(&[ok(0, true), ok(1, false)].concat()).unwrap();
    assert_eq!((rig.client.on_end(), rig.client.in_flight()), (Err(Http2Error::Truncated), 1));
    assert!(rig.client.is_over());
}

#[test]
fn a_reset_by_the_server_has_its_code() {
    let mut rig = Rig::open(&[]);
    rig.get(2);
    let reset = |tag, code| frame::reset_stream(stream(tag), code).to_vec();
    rig.read(&[reset(0, ErrorCode::INTERNAL_ERROR), reset(0, ErrorCode::NO_ERROR), ok(1, true)].concat()).unwrap();
    assert_eq!(rig.marks, [Mark::Reset(0, ErrorCode::INTERNAL_ERROR), Mark::Head(1, 200, None), Mark::End(1)]);
    assert_eq!(rig.error(&data(0, b"x", false)), ErrorCode::STREAM_CLOSED);
}

#[test]
fn frames_of_streams_that_were_reset_here_are_ignored() {
    let mut rig = Rig::open(&[]);
    rig.get(3);
    rig.client.reset(1, &mut rig.out);
    rig.client.reset(1, &mut rig.out);
    let sent = rig.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0.kind, sent[0].0.stream, &*sent[0].1), (FrameKind::ResetStream, stream(1), &[0, 0, 0, 8][..]));
    assert_eq!(rig.client.in_flight(), 2);
    let on_their_way = [ok(1, false), data(1, b"x", false), window_update(stream(1), 1).to_vec(), data(1, b"x", true)];
    rig.read(&on_their_way.concat()).unwrap();
    assert_eq!(rig.marks, []);
    assert_eq!(rig.error(&data(1, b"x", true)), ErrorCode::STREAM_CLOSED, "the server had ended it");
}

#[test]
fn a_reset_takes_what_was_not_reported() {
    let mut rig = Rig::open(&[]);
    rig.get(1);
    rig.push(&ok(0, true));
    assert!(matches!(rig.client.read(&mut rig.inbox, &mut rig.out), Ok(Http2Event::Head { tag: 0, .. })));
    assert_eq!(rig.client.in_flight(), 1);
    rig.client.reset(0, &mut rig.out);
    assert_eq!(rig.client.read(&mut rig.inbox, &mut rig.out), Ok(Http2Event::Wait));
    assert!(rig.client.in_flight() == 0 && rig.out.is_empty(), "the server has ended the stream");
}

#[test]
fn however_many_streams_were_reset_their_frames_are_no_error() {
    let mut rig = Rig::open(&[]);
    for tag in 0..1000 {
        rig.client.request(&get(), tag, &mut rig.out);
        rig.client.reset(tag, &mut rig.out);
    }
    rig.out = Chain::new();
    for tag in 0..1000 {
        rig.read(&ok(tag, true)).unwrap();
    }
    assert!(rig.marks.is_empty() && rig.client.dropped.known.len() <= DROPPED_MAX);
}

#[test]
fn what_no_server_may_send_is_an_error_of_the_connection() {
    let cases = [
        (ErrorCode::PROTOCOL_ERROR, ok(1, true), "a stream that was not begun"),
        (ErrorCode::PROTOCOL_ERROR, frame(FrameKind::Headers, 4, StreamId::new(2), b"\x88"), "a stream of the server"),
        (ErrorCode::PROTOCOL_ERROR, data(1, b"x", true), "data of a stream that was not begun"),
        (ErrorCode::PROTOCOL_ERROR, window_update(stream(1), 1).to_vec(), "a window of one"),
        (ErrorCode::PROTOCOL_ERROR, frame::reset_stream(stream(1), ErrorCode::CANCEL).to_vec(), "a reset of one"),
        (ErrorCode::PROTOCOL_ERROR, frame(FrameKind::PushPromise, 4, stream(0), b"\0\0\0\x02\x88"), "a push"),
        (
            ErrorCode::PROTOCOL_ERROR,
            frame(FrameKind::PriorityUpdate, 0, StreamId::new(0), b"\0\0\0\x01u=1"),
            "priority",
        ),
        (ErrorCode::PROTOCOL_ERROR, settings_frame(&[(id::ENABLE_PUSH, 1)]), "a setting of clients"),
        (ErrorCode::STREAM_CLOSED, [ok(0, true), data(0, b"", true)].concat(), "data behind the end"),
        (ErrorCode::STREAM_CLOSED, [ok(0, true), ok(0, true)].concat(), "a head behind the end"),
        (ErrorCode::FRAME_SIZE_ERROR, data(0, &[0; 16_385], false), "a large frame"),
        (ErrorCode::ENHANCE_YOUR_CALM, continuations(), "endless continuations"),
    ];
    for (code, bytes, what) in cases {
        let mut rig = Rig::open(&[]);
        rig.get(1);
        assert_eq!(rig.error(&bytes), code, "{what}");
    }
    let mut rig = Rig::new(Http2ClientLimits::default());
    assert_eq!(rig.error(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ErrorCode::PROTOCOL_ERROR);
}

fn continuations() -> Vec<u8> {
    let next = frame(FrameKind::Continuation, 0, stream(0), b"");
    [frame(FrameKind::Headers, 0, stream(0), b"\x88"), next.repeat(100)].concat()
}

/// The DATA frames sent: stream, length, END_STREAM.
fn data_frames(rig: &mut Rig) -> Vec<(u32, u32, bool)> {
    let sent = rig.sent();
    let data = sent.iter().filter(|(header, _)| header.kind == FrameKind::Data);
    data.map(|(header, _)| (header.stream.get() / 2, header.length, header.has(flag::END_STREAM))).collect()
}

#[test]
fn a_small_body_leaves_with_its_head() {
    let mut rig = Rig::open(&[]);
    for tag in 0..2 {
        rig.client.request(&post(10), tag, &mut rig.out);
    }
    assert_eq!(rig.out.chunks().len(), 1, "all in one piece");
    assert_eq!(data_frames(&mut rig), [(0, 10, true), (1, 10, true)]);
}

#[test]
fn a_body_is_sent_as_the_windows_allow() {
    let mut rig = Rig::open(&[(id::INITIAL_WINDOW_SIZE, 20_000)]);
    for tag in 0..4 {
        rig.client.request(&post(40_000), tag, &mut rig.out);
    }
    let first = [(0, 16_384, false), (0, 3_616, false), (1, 16_384, false), (1, 3_616, false)];
    let rest = [(2, 16_384, false), (2, 3_616, false), (3, 5_535, false)];
    assert_eq!(data_frames(&mut rig), [&first[..], &rest].concat());
    rig.read(&window_update(stream(1), 100)).unwrap();
    assert_eq!(data_frames(&mut rig), [], "the window of the connection is used up");
    rig.read(&window_update(StreamId::CONNECTION, 1_000_000)).unwrap();
    assert_eq!(data_frames(&mut rig), [(1, 100, false), (3, 14_465, false)]);
    // Those of the streams grow, of one that has used less too.
    rig.read(&settings_frame(&[(id::INITIAL_WINDOW_SIZE, 40_000)])).unwrap();
    let mut sent = data_frames(&mut rig);
    sent.sort_unstable();
    let ends: Vec<_> = sent.iter().filter(|(_, _, is_end)| *is_end).map(|(tag, ..)| *tag).collect();
    assert_eq!((ends.as_slice(), sent.iter().map(|(_, length, _)| length).sum::<u32>()), (&[0, 1, 2, 3][..], 79_900));
    assert!(rig.client.uploads.is_empty());
}

#[test]
fn bodies_fill_what_is_to_be_sent_only_so_far() {
    let mut rig = Rig::open(&[(id::INITIAL_WINDOW_SIZE, WINDOW_CEILING)]);
    rig.read(&window_update(StreamId::CONNECTION, 1 << 30)).unwrap();
    rig.out = Chain::new();
    for tag in 0..2 {
        rig.client.request(&post(1 << 20), tag, &mut rig.out);
    }
    let (mut sent, mut rounds) = ([0; 2], 0);
    while !rig.out.is_empty() {
        assert!(rig.out.len() < OUT_BYTES_MAX + (32 << 10), "{} bytes", rig.out.len());
        let frames = data_frames(&mut rig);
        assert!(rounds == 0 || rounds > 4 || frames.iter().any(|(tag, ..)| *tag == 1), "they take turns");
        frames.iter().for_each(|(tag, length, _)| sent[*tag as usize] += length);
        rig.client.send_bodies(&mut rig.out);
        rounds += 1;
    }
    assert_eq!(sent, [1 << 20; 2]);
}

#[test]
fn a_body_is_not_sent_behind_the_end_of_the_response() {
    let mut rig = Rig::open(&[(id::INITIAL_WINDOW_SIZE, 10)]);
    for tag in 0..3 {
        rig.client.request(&post(20), tag, &mut rig.out);
    }
    rig.sent();
    rig.read(&[ok(0, true), frame::reset_stream(stream(0), ErrorCode::NO_ERROR).to_vec()].concat()).unwrap();
    assert_eq!(rig.marks, [Mark::Head(0, 200, None), Mark::End(0)]);
    let sent = rig.sent();
    assert_eq!((sent[0].0.kind, sent[0].0.stream), (FrameKind::ResetStream, stream(0)));
    rig.client.reset(1, &mut rig.out);
    rig.read(&window_update(stream(2), 10)).unwrap();
    assert_eq!(data_frames(&mut rig), [(2, 10, true)]);
    assert!(rig.client.uploads.is_empty());
}

#[test]
fn a_malformed_end_of_the_response_resets_a_body_that_is_not_sent_to_its_end() {
    let mut rig = Rig::open(&[(id::INITIAL_WINDOW_SIZE, 10)]);
    rig.client.request(&post(20), 0, &mut rig.out);
    rig.sent();
    // It ends the stream on the server's side only.
    rig.read(&headers(0, &[(":status", "200"), ("connection", "close")], true)).unwrap();
    assert_eq!(rig.marks, [Mark::Malformed(0)]);
    let sent: Vec<_> = rig.sent().into_iter().map(|(header, _)| (header.kind, header.stream)).collect();
    assert_eq!(sent, [(FrameKind::ResetStream, stream(0))]);
    assert!(rig.client.uploads.is_empty());
    assert_eq!(rig.error(&data(0, b"more", true)), ErrorCode::STREAM_CLOSED);
}

#[test]
fn a_large_head_has_continuations() {
    let mut rig = Rig::open(&[]);
    let request = Http2Request::builder(Method::Get, Scheme::Http, "h", "/").field("X", "y".repeat(40_000)).end();
    for tag in 0..2 {
        rig.client.request(&request, tag, &mut rig.out);
        let kinds: Vec<_> = rig.sent().into_iter().map(|(header, _)| (header.kind, header.flags)).collect();
        assert_eq!(kinds, [(FrameKind::Headers, 1), (FrameKind::Continuation, 0), (FrameKind::Continuation, 4)]);
    }
}

#[test]
fn only_the_first_head_says_that_there_is_no_table() {
    let mut rig = Rig::open(&[]);
    for tag in 0..3 {
        rig.client.request(&get(), tag, &mut rig.out);
    }
    let blocks: Vec<_> = rig.sent().into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(blocks[0], [&[0x20], &blocks[1][..]].concat());
    assert_eq!((&blocks[1], &blocks[2][..]), (&blocks[2], &get().block()[..]));
}

/// A response as our server encodes it.
#[derive(Clone, Debug)]
struct Response {
    status: Status,
    is_declared: bool,
    pieces: Vec<(Vec<u8>, u8)>,
    has_trailers: bool,
}

fn responses() -> impl Strategy<Value = Vec<Response>> {
    let statuses = prop::sample::select(vec![Status::OK, Status::NOT_FOUND, Status::NO_CONTENT, Status::FOUND]);
    let piece = (vec(any::<u8>(), 0..300), prop_oneof![3 => Just(0u8), 1 => any::<u8>()]);
    let response = (statuses, any::<bool>(), vec(piece, 0..4), any::<bool>());
    let response = response.prop_map(|(status, is_declared, pieces, has_trailers)| {
        let pieces = if status.forbids_body() { Vec::new() } else { pieces };
        Response { status, is_declared, pieces, has_trailers }
    });
    vec(response, 1..6)
}

impl Response {
    fn body(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(data, _)| data.iter().copied()).collect()
    }

    /// Its frames, each of which may stand between those of others.
    fn frames(&self, tag: u32, writer: &mut BlockWriter) -> Vec<Vec<u8>> {
        let mut encoder = HeadEncoder::new();
        encoder.status(self.status, b"");
        encoder.field(b"Server", b"xps");
        let body_bytes = self.body().len() as u64;
        let framing = if self.is_declared { ResponseFraming::Length(body_bytes) } else { ResponseFraming::Chunked };
        let mut head = Vec::new();
        writer.push(&mut head, stream(tag), &encoder.end(framing), false);
        let mut frames = vec![head];
        for (data, padding) in &self.pieces {
            let (mut flags, mut payload) = (0, data.clone());
            if *padding > 0 {
                flags = flag::PADDED;
                payload = [&[*padding], &data[..], &vec![0; usize::from(*padding)]].concat();
            }
            frames.push(frame(FrameKind::Data, flags, stream(tag), &payload));
        }
        if self.has_trailers {
            let (mut block, mut bytes) = (Vec::new(), Vec::new());
            push_field(&mut block, b"x", b"y");
            writer.push(&mut bytes, stream(tag), &block, true);
            frames.push(bytes);
        } else {
            frames.push(data_header(stream(tag), 0, true).to_vec());
        }
        frames
    }

    fn marks(&self, tag: u32) -> Vec<Mark> {
        let has_length = self.is_declared && !self.status.forbids_length();
        let length = has_length.then(|| self.body().len() as u64);
        let data = Some(self.body()).filter(|body| !body.is_empty()).map(|body| Mark::Data(tag, body));
        [Mark::Head(tag, self.status.code(), length)].into_iter().chain(data).chain([Mark::End(tag)]).collect()
    }
}

/// The marks of one request, with its data in one piece.
fn of_tag(marks: &[Mark], tag: u32) -> Vec<Mark> {
    let mut found: Vec<Mark> = Vec::new();
    for mark in marks {
        match (mark, found.last_mut()) {
            (Mark::Data(of, data), Some(Mark::Data(_, before))) if *of == tag => before.extend(data),
            (Mark::Head(of, ..) | Mark::Data(of, _) | Mark::End(of) | Mark::Malformed(of), _) if *of == tag => {
                found.push(mark.clone());
            }
            _ => {}
        }
    }
    found
}

/// What is read of these bytes, which arrive in pieces of this size.
fn read(requests: u32, bytes: &[u8], size: usize) -> (Vec<Mark>, Option<Http2Error>, usize) {
    let mut rig = Rig::open(&[]);
    rig.get(requests);
    let error = bytes.chunks(size).map(|piece| rig.read(piece)).find_map(Result::err);
    let in_flight = rig.client.in_flight();
    (rig.marks, error, in_flight)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_our_server_encodes_is_read_however_it_is_cut_and_interleaved(
        responses in responses(), order in vec(any::<prop::sample::Index>(), 0..40), size in 1usize..100,
    ) {
        let mut writer = BlockWriter::new();
        let count = responses.len() as u32;
        let mut queues: Vec<VecDeque<Vec<u8>>> = Vec::new();
        // The first block on a connection is the first that is sent.
        for (tag, response) in responses.iter().enumerate() {
            queues.push(response.frames(tag as u32, &mut writer).into());
        }
        let mut bytes = Vec::new();
        bytes.extend(queues[0].pop_front().expect("a head"));
        for index in order {
            bytes.extend(index.get(&queues).clone().pop_front().unwrap_or_default());
            let at = index.index(queues.len());
            queues[at].pop_front();
        }
        bytes.extend(queues.into_iter().flatten().flatten());
        let whole = read(count, &bytes, bytes.len());
        prop_assert_eq!(&whole, &(whole.0.clone(), None, 0));
        for (tag, response) in responses.iter().enumerate() {
            prop_assert_eq!(of_tag(&whole.0, tag as u32), response.marks(tag as u32));
        }
        prop_assert_eq!(read(count, &bytes, size), whole);
    }

    #[test]
    fn any_frames_are_read_the_same_wherever_they_are_cut(
        frames in vec((0u8..12, any::<u8>(), 0u32..9, vec(prop_oneof![Just(0x88u8), Just(0), any::<u8>()], 0..12)), 0..12),
        size in 1usize..10,
    ) {
        let mut bytes = settings_frame(&[]);
        for (kind, flags, id, payload) in frames {
            bytes.extend(frame(FrameKind::new(kind), flags, StreamId::new(id), &payload));
        }
        let whole = read(4, &bytes, bytes.len());
        prop_assert_eq!(read(4, &bytes, size), whole);
    }
}
