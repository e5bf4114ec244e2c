//! Frames that are malformed or out of place, and what RFC 9113 says is to be done: an error of the stream, one of the
//! connection, or nothing.

use super::rig::{HELD, Rig, expect_service};
use crate::support::backends;
use crate::support::h2::client::{Connection, Fault};
use crate::support::h2::frame::{Frame, PREFACE, code, flag, kind, setting};
use crate::support::h2::hpack;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// GOAWAY with this code, and the end.
    Connection(u32),
    /// The same with either code: both are right.
    ConnectionOf([u32; 2]),
    /// RST_STREAM for stream 1 with this code; the connection goes on.
    Stream(u32),
    /// Nothing; the connection goes on.
    Ignored,
}

use Expected::{Connection as Broken, ConnectionOf, Ignored, Stream};

/// A section of RFC 9113, what is sent after the preface and SETTINGS, and what that must lead to.
type Case = (&'static str, &'static str, Vec<Vec<u8>>, Expected);

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    Frame::new(kind, flags, stream, payload).bytes()
}

/// HEADERS of a request that waits for its upstream.
fn open(stream: u32) -> Vec<u8> {
    Frame::headers(stream, block("POST", HELD), false).bytes()
}

/// The same without a body.
fn whole(stream: u32) -> Vec<u8> {
    Frame::headers(stream, block("GET", HELD), true).bytes()
}

fn block(method: &str, path: &str) -> Vec<u8> {
    hpack::encode([(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)])
}

/// HEADERS with this at the end of their block.
fn with(rest: &[u8]) -> Vec<u8> {
    Frame::headers(1, [&block("GET", HELD), rest].concat(), true).bytes()
}

fn settings(id: u16, value: u32) -> Vec<u8> {
    Frame::settings(&[(id, value)]).bytes()
}

fn update(stream: u32, increment: u32) -> Vec<u8> {
    Frame::window_update(stream, increment).bytes()
}

const LARGEST: u32 = (1 << 31) - 1;
const TOO_LARGE: usize = (16 << 10) + 1;

fn cases_of_frames() -> Vec<Case> {
    let data = |stream, length: usize| Frame::data(stream, vec![b'x'; length], false).bytes();
    let headers = |flags, payload: &[u8]| raw(kind::HEADERS, flags | flag::END_HEADERS, 1, payload);
    vec![
        ("4.1", "a type that is unknown", vec![raw(0xbb, 0xff, 0, b"what"), raw(0xbb, 0, 77, b"")], Ignored),
        ("4.1", "flags that are unknown", vec![raw(kind::PING, 0xfe, 0, &[0; 8])], Ignored),
        ("4.1", "the reserved bit", vec![raw(kind::PING, 0, 1 << 31, &[0; 8])], Ignored),
        ("4.2", "DATA that are too long", vec![open(1), data(1, TOO_LARGE)], Broken(code::FRAME_SIZE_ERROR)),
        ("4.2", "HEADERS that are too long", vec![headers(0, &[0; TOO_LARGE])], Broken(code::FRAME_SIZE_ERROR)),
        (
            "4.2",
            "a frame of 16 MiB",
            vec![raw(0xbb, 0, 0, b"")[..0].to_vec(), b"\xff\xff\xff\xbb\0\0\0\0\0".to_vec()],
            Broken(code::FRAME_SIZE_ERROR),
        ),
        ("6.1", "DATA of the connection", vec![data(0, 1)], Broken(code::PROTOCOL_ERROR)),
        (
            "6.1",
            "padding as long as the frame",
            vec![open(1), raw(kind::DATA, flag::PADDED, 1, &[4, 0, 0, 0])],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.1",
            "padding without its length",
            vec![open(1), raw(kind::DATA, flag::PADDED, 1, b"")],
            ConnectionOf([code::FRAME_SIZE_ERROR, code::PROTOCOL_ERROR]),
        ),
        ("6.1", "nothing but padding", vec![open(1), raw(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0])], Ignored),
        (
            "6.2",
            "HEADERS of the connection",
            vec![raw(kind::HEADERS, flag::END_HEADERS, 0, &block("GET", "/"))],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.2",
            "padding longer than the frame",
            vec![headers(flag::PADDED, &[&[200], &block("GET", "/")[..]].concat())],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.2",
            "HEADERS too short for their flags",
            vec![headers(flag::PRIORITY, &[0; 4])],
            ConnectionOf([code::FRAME_SIZE_ERROR, code::PROTOCOL_ERROR]),
        ),
        (
            "6.2",
            "a priority in HEADERS",
            vec![headers(flag::PRIORITY | flag::END_STREAM, &[&[0, 0, 0, 0, 9], &block("GET", HELD)[..]].concat())],
            Ignored,
        ),
        ("6.3", "PRIORITY of the connection", vec![raw(kind::PRIORITY, 0, 0, &[0; 5])], Broken(code::PROTOCOL_ERROR)),
        (
            "6.3",
            "PRIORITY of another length",
            vec![open(1), raw(kind::PRIORITY, 0, 1, &[0; 4])],
            Stream(code::FRAME_SIZE_ERROR),
        ),
        ("6.3", "PRIORITY of a stream that is idle", vec![raw(kind::PRIORITY, 0, 9, &[0, 0, 0, 0, 9])], Ignored),
        (
            "6.4",
            "RST_STREAM of the connection",
            vec![raw(kind::RST_STREAM, 0, 0, &[0; 4])],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.4",
            "RST_STREAM of another length",
            vec![open(1), raw(kind::RST_STREAM, 0, 1, &[0; 3])],
            Broken(code::FRAME_SIZE_ERROR),
        ),
        (
            "6.4",
            "RST_STREAM of a stream that is idle",
            vec![raw(kind::RST_STREAM, 0, 1, &[0; 4])],
            Broken(code::PROTOCOL_ERROR),
        ),
        ("6.5", "SETTINGS of a stream", vec![raw(kind::SETTINGS, 0, 1, b"")], Broken(code::PROTOCOL_ERROR)),
        (
            "6.5",
            "an acknowledgement that says something",
            vec![raw(kind::SETTINGS, flag::ACK, 0, &[0; 6])],
            Broken(code::FRAME_SIZE_ERROR),
        ),
        ("6.5", "half a setting", vec![raw(kind::SETTINGS, 0, 0, &[0; 9])], Broken(code::FRAME_SIZE_ERROR)),
        ("6.5.2", "a setting that is unknown", vec![settings(0xbbbb, 1)], Ignored),
        ("6.5.2", "ENABLE_PUSH that is neither", vec![settings(setting::ENABLE_PUSH, 2)], Broken(code::PROTOCOL_ERROR)),
        (
            "6.5.2",
            "INITIAL_WINDOW_SIZE that is too large",
            vec![settings(setting::INITIAL_WINDOW_SIZE, LARGEST + 1)],
            Broken(code::FLOW_CONTROL_ERROR),
        ),
        (
            "6.5.2",
            "MAX_FRAME_SIZE that is too small",
            vec![settings(setting::MAX_FRAME_SIZE, 16_383)],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.5.2",
            "MAX_FRAME_SIZE that is too large",
            vec![settings(setting::MAX_FRAME_SIZE, 1 << 24)],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.6",
            "a push by a client",
            vec![raw(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2])],
            Broken(code::PROTOCOL_ERROR),
        ),
        ("6.7", "PING of a stream", vec![raw(kind::PING, 0, 1, &[0; 8])], Broken(code::PROTOCOL_ERROR)),
        ("6.7", "PING of another length", vec![raw(kind::PING, 0, 0, &[0; 7])], Broken(code::FRAME_SIZE_ERROR)),
        ("6.7", "an acknowledgement that nothing was sent for", vec![raw(kind::PING, flag::ACK, 0, &[0; 8])], Ignored),
        ("6.8", "GOAWAY of a stream", vec![raw(kind::GOAWAY, 0, 1, &[0; 8])], Broken(code::PROTOCOL_ERROR)),
        ("6.8", "GOAWAY that is too short", vec![raw(kind::GOAWAY, 0, 0, &[0; 7])], Broken(code::FRAME_SIZE_ERROR)),
        (
            "6.9",
            "WINDOW_UPDATE of another length",
            vec![raw(kind::WINDOW_UPDATE, 0, 0, &[0; 3])],
            Broken(code::FRAME_SIZE_ERROR),
        ),
        ("6.9", "a window that grows by nothing", vec![open(1), update(1, 0)], Stream(code::PROTOCOL_ERROR)),
        ("6.9", "the connection's window that grows by nothing", vec![update(0, 0)], Broken(code::PROTOCOL_ERROR)),
        ("6.9", "WINDOW_UPDATE of a stream that is idle", vec![update(1, 1)], Broken(code::PROTOCOL_ERROR)),
        ("6.9.1", "a window that is too large", vec![open(1), update(1, LARGEST)], Stream(code::FLOW_CONTROL_ERROR)),
        (
            "6.9.1",
            "the connection's window that is too large",
            vec![update(0, LARGEST)],
            Broken(code::FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2",
            "SETTINGS that make a window too large",
            vec![open(1), update(1, LARGEST - 65_535), settings(setting::INITIAL_WINDOW_SIZE, 65_536)],
            Broken(code::FLOW_CONTROL_ERROR),
        ),
        (
            "6.10",
            "CONTINUATION of nothing",
            vec![Frame::continuation(1, [], true).bytes()],
            Broken(code::PROTOCOL_ERROR),
        ),
        (
            "6.10",
            "CONTINUATION behind the block's end",
            vec![open(1), Frame::continuation(1, [], true).bytes()],
            Broken(code::PROTOCOL_ERROR),
        ),
    ]
}

fn cases_of_streams() -> Vec<Case> {
    let begun = raw(kind::HEADERS, 0, 1, &block("GET", HELD)[..5]);
    let reset = Frame::reset(1, code::CANCEL).bytes();
    let data = Frame::data(1, "x", false).bytes();
    let within = |frame: Vec<u8>| vec![begun.clone(), frame];
    vec![
        ("4.3", "DATA within a block", within(data.clone()), Broken(code::PROTOCOL_ERROR)),
        ("4.3", "PRIORITY within a block", within(raw(kind::PRIORITY, 0, 1, &[0; 5])), Broken(code::PROTOCOL_ERROR)),
        ("4.3", "HEADERS of another stream within a block", within(whole(3)), Broken(code::PROTOCOL_ERROR)),
        (
            "4.3",
            "CONTINUATION of another stream within a block",
            within(Frame::continuation(3, [], true).bytes()),
            Broken(code::PROTOCOL_ERROR),
        ),
        ("5.5", "a type that is unknown within a block", within(raw(0xbb, 0, 1, b"")), Broken(code::PROTOCOL_ERROR)),
        ("5.1", "DATA of a stream that is idle", vec![data.clone()], Broken(code::PROTOCOL_ERROR)),
        ("5.1", "DATA behind the end of a body", vec![whole(1), data.clone()], Stream(code::STREAM_CLOSED)),
        ("5.1", "HEADERS behind the end of a body", vec![whole(1), whole(1)], Stream(code::STREAM_CLOSED)),
        ("5.1", "DATA behind a reset", vec![open(1), reset.clone(), data.clone()], Stream(code::STREAM_CLOSED)),
        ("5.1", "HEADERS behind a reset", vec![open(1), reset.clone(), whole(1)], Broken(code::STREAM_CLOSED)),
        (
            "5.1",
            "WINDOW_UPDATE and RST_STREAM behind a reset",
            vec![open(1), reset.clone(), update(1, 9), reset],
            Ignored,
        ),
        ("5.1.1", "a stream of the server's", vec![whole(2)], Broken(code::PROTOCOL_ERROR)),
        ("5.1.1", "a stream of the server's, WINDOW_UPDATE", vec![update(2, 9)], Broken(code::PROTOCOL_ERROR)),
        (
            "5.1.1",
            "a stream below one that was begun",
            vec![whole(5), whole(3)],
            ConnectionOf([code::PROTOCOL_ERROR, code::STREAM_CLOSED]),
        ),
        (
            "6.9.1",
            "more data than the connection's window",
            vec![
                open(1),
                open(3),
                Frame::data(1, vec![0; 16 << 10], false).bytes().repeat(8),
                Frame::data(3, vec![0; 16 << 10], false).bytes().repeat(24),
            ],
            Broken(code::FLOW_CONTROL_ERROR),
        ),
        (
            "8.1",
            "trailers that do not end the stream",
            vec![open(1), Frame::headers(1, hpack::encode([("x-t", "1")]), false).bytes()],
            Stream(code::PROTOCOL_ERROR),
        ),
        (
            "8.1",
            "trailers with a pseudo-header field",
            vec![open(1), Frame::headers(1, hpack::encode([(":path", "/")]), true).bytes()],
            Stream(code::PROTOCOL_ERROR),
        ),
    ]
}

fn cases_of_blocks() -> Vec<Case> {
    let bad = |block: &[u8]| vec![with(block)];
    let mut large_table = Vec::new();
    hpack::push_size_update(&mut large_table, 4097);
    large_table.extend(block("GET", HELD));
    vec![
        ("4.3", "an index beyond the tables", bad(&[0xff, 0x7f]), Broken(code::COMPRESSION_ERROR)),
        ("4.3", "index 0", bad(&[0x80]), Broken(code::COMPRESSION_ERROR)),
        ("4.3", "a string beyond the block", bad(&[0, 1, b'x', 9, b'y']), Broken(code::COMPRESSION_ERROR)),
        ("4.3", "a block that ends within a number", bad(&[0xff]), Broken(code::COMPRESSION_ERROR)),
        (
            "4.3",
            "a number of too many bytes",
            bad(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Broken(code::COMPRESSION_ERROR),
        ),
        (
            "4.3",
            "padding of a Huffman code that is not ones",
            bad(&[0, 1, b'x', 0x81, 0x00]),
            Broken(code::COMPRESSION_ERROR),
        ),
        (
            "4.3",
            "padding of a Huffman code that is a byte long",
            bad(&[0, 1, b'x', 0x82, 0x1f, 0xff]),
            Broken(code::COMPRESSION_ERROR),
        ),
        (
            "4.3",
            "the end's code within a string",
            bad(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
            Broken(code::COMPRESSION_ERROR),
        ),
        (
            "4.3",
            "a table larger than allowed",
            vec![Frame::headers(1, large_table, true).bytes()],
            Broken(code::COMPRESSION_ERROR),
        ),
        ("4.3", "a size update behind a field", bad(&[0x20]), Broken(code::COMPRESSION_ERROR)),
        // What is decoded of a stream that is refused counts for later blocks.
        (
            "4.3",
            "a malformed head, and an index of its own",
            vec![
                Frame::headers(1, [&[0x40, 3, b'x', b'-', b'a', 1, b'1'], &block("GET", HELD)[..]].concat(), true)
                    .bytes(),
                Frame::headers(3, [&block("GET", HELD)[..], &[0xbe]].concat(), true).bytes(),
            ],
            Stream(code::PROTOCOL_ERROR),
        ),
    ]
}

/// Sends it, and checks what comes of it.
#[track_caller]
fn check(rig: &Rig, (section, what, frames, expected): Case) {
    let mut connection = rig.connection();
    for _ in 0..frames.len() {
        connection.new_stream();
    }
    let is_taken = connection.try_send(frames.concat());
    let outcome = connection.ping();
    match (expected, outcome) {
        (Broken(code), Err(Fault::Connection(got))) if got == code => {}
        (ConnectionOf(codes), Err(Fault::Connection(got))) if codes.contains(&got) => {}
        (Ignored, Ok(())) => {
            assert_eq!(connection.reset_of(1), None, "{section}, {what}");
            expect_service(&mut connection);
        }
        (Stream(code), Ok(())) => {
            assert_eq!(connection.expect_reset(1), code, "{section}, {what}");
            expect_service(&mut connection);
        }
        (_, outcome) => panic!(
            "{section}, {what}: {outcome:?} instead of {expected:?}; sent: {is_taken:?}, {:?}",
            connection.goaways
        ),
    }
}

backends! {
    fn frames_out_of_order_are_errors_of_their_kind(backend) {
        let rig = Rig::new(backend);
        cases_of_frames().into_iter().for_each(|case| check(&rig, case));
    }

    fn frames_out_of_place_are_errors_of_their_kind(backend) {
        let rig = Rig::new(backend);
        cases_of_streams().into_iter().for_each(|case| check(&rig, case));
    }

    fn blocks_that_cannot_be_decoded_end_the_connection(backend) {
        let rig = Rig::new(backend);
        cases_of_blocks().into_iter().for_each(|case| check(&rig, case));
    }

    fn the_first_frame_is_settings(backend) {
        let rig = Rig::new(backend);
        for first in [Frame::ping([0; 8], false), Frame::settings_ack(), Frame::headers(1, block("GET", "/"), true)] {
            let mut connection = Connection::raw(rig.address());
            connection.send([PREFACE, &first.bytes()].concat());
            let goaway = connection.expect_goaway();
            assert_eq!(goaway.code, code::PROTOCOL_ERROR, "{first:?}");
        }
    }

    fn frames_may_be_cut_anywhere(backend) {
        let rig = Rig::new(backend);
        let mut connection = Connection::raw(rig.address());
        let stream = connection.new_stream();
        let part = block("POST", "/cut");
        let bytes = [
            PREFACE,
            &Frame::settings(&[(setting::MAX_FRAME_SIZE, 20_000)]).bytes(),
            &raw(kind::HEADERS, 0, stream, &part[..7]),
            &Frame::continuation(stream, &part[7..20], false).bytes(),
            &Frame::continuation(stream, &part[20..], true).bytes(),
            &raw(kind::DATA, flag::PADDED, stream, b"\x03data\0\0\0"),
            &raw(kind::DATA, 0, stream, b""),
            &raw(kind::DATA, flag::END_STREAM, stream, b"more"),
        ].concat();
        for byte in bytes {
            connection.send([byte]);
        }
        assert_eq!(connection.response(stream).text(), "8");
        connection.finish();
    }
}
