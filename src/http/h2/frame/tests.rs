//! Frame by frame: what is read, and the error for what cannot be.

use proptest::prelude::*;

use super::*;

const S1: StreamId = StreamId::new(1);
const S0: StreamId = StreamId::CONNECTION;

const fn header(kind: FrameKind, flags: u8, stream: StreamId, length: usize) -> FrameHeader {
    FrameHeader { length: length as u32, kind, flags, stream }
}

fn parsed(kind: FrameKind, flags: u8, stream: StreamId, payload: &[u8]) -> Result<Frame<'_>, FrameError> {
    let header = header(kind, flags, stream, payload.len());
    header.check(FRAME_BYTES_MIN)?;
    Frame::parse(header, payload)
}

/// The code of the error, and whether it is that of the stream.
fn refused(kind: FrameKind, flags: u8, stream: StreamId, payload: &[u8]) -> (ErrorCode, bool) {
    match parsed(kind, flags, stream, payload) {
        Err(FrameError::Connection(error)) => (error.code, false),
        Err(FrameError::Stream(error)) => {
            assert_eq!(error.stream, stream);
            (error.code, true)
        }
        Ok(frame) => panic!("{frame:?}"),
    }
}

const PROTOCOL: (ErrorCode, bool) = (ErrorCode::PROTOCOL_ERROR, false);
const SIZE: (ErrorCode, bool) = (ErrorCode::FRAME_SIZE_ERROR, false);

#[test]
fn the_reserved_bit_is_ignored() {
    let read = FrameHeader::parse(&[0x01, 0x02, 0x03, 0x09, 0xff, 0x80, 0, 0, 5]);
    let expected =
        FrameHeader { length: 0x01_0203, kind: FrameKind::Continuation, flags: 0xff, stream: StreamId::new(5) };
    assert_eq!(read, expected);
    assert_eq!(read.to_bytes(), [0x01, 0x02, 0x03, 0x09, 0xff, 0, 0, 0, 5]);
}

#[test]
fn each_type_keeps_its_number() {
    for number in 0..=255 {
        assert_eq!(FrameKind::new(number).number(), number);
    }
}

#[test]
fn frames_of_streams_and_of_the_connection() {
    for kind in [
        FrameKind::Data,
        FrameKind::Headers,
        FrameKind::Priority,
        FrameKind::ResetStream,
        FrameKind::PushPromise,
        FrameKind::Continuation,
    ] {
        assert_eq!(refused(kind, 0, S0, &[0; 5]), PROTOCOL, "{kind:?}");
    }
    for kind in [FrameKind::Settings, FrameKind::Ping, FrameKind::GoAway, FrameKind::PriorityUpdate] {
        assert_eq!(refused(kind, 0, S1, &[0; 24]), PROTOCOL, "{kind:?}");
    }
    for stream in [S0, S1] {
        assert_eq!(parsed(FrameKind::Unknown(0x20), 0xff, stream, b"x"), Ok(Frame::Unknown { kind: 0x20 }));
    }
}

#[test]
fn a_frame_beyond_the_limit_is_a_frame_size_error_whatever_it_is() {
    for number in 0..=255 {
        let stream = if FrameKind::new(number).is_of_stream() == Some(false) { S0 } else { S1 };
        let header = header(FrameKind::new(number), 0, stream, FRAME_BYTES_MIN as usize + 1);
        assert_eq!(header.check(FRAME_BYTES_MIN).map_err(|error| error.code), Err(ErrorCode::FRAME_SIZE_ERROR));
    }
    assert_eq!(header(FrameKind::Data, 0, S1, FRAME_BYTES_MIN as usize).check(FRAME_BYTES_MIN), Ok(()));
}

#[test]
fn data() {
    let data = |flags, payload| parsed(FrameKind::Data, flags, S1, payload);
    let frame = |data, flow_bytes, end_stream| Ok(Frame::Data { stream: S1, data, flow_bytes, end_stream });
    assert_eq!(data(0, b"abc"), frame(b"abc", 3, false));
    assert_eq!(data(flag::END_STREAM, b""), frame(b"", 0, true));
    assert_eq!(data(flag::PADDED, b"\x02abcXX"), frame(b"abc", 6, false));
    assert_eq!(data(flag::PADDED | flag::END_STREAM, b"\x02XX"), frame(b"", 3, true));
    assert_eq!(data(flag::PADDED, b"\0"), frame(b"", 1, false));
    assert_eq!(refused(FrameKind::Data, flag::PADDED, S1, b"\x03XX"), PROTOCOL);
    assert_eq!(refused(FrameKind::Data, flag::PADDED, S1, b""), SIZE);
}

#[test]
fn headers() {
    let headers = |flags, payload| parsed(FrameKind::Headers, flags, S1, payload);
    let frame =
        |fragment, end_stream, end_headers| Ok(Frame::Headers { stream: S1, fragment, end_stream, end_headers });
    assert_eq!(headers(0, b"f"), frame(b"f", false, false));
    assert_eq!(headers(flag::END_HEADERS | flag::END_STREAM, b""), frame(b"", true, true));
    assert_eq!(headers(flag::PRIORITY, b"\0\0\0\x01\x05f"), frame(b"f", false, false), "even of itself");
    assert_eq!(headers(flag::PRIORITY | flag::PADDED, b"\x01pppppfX"), frame(b"f", false, false));
    assert_eq!(refused(FrameKind::Headers, flag::PADDED, S1, b""), SIZE);
    assert_eq!(refused(FrameKind::Headers, flag::PRIORITY, S1, b"pppp"), SIZE);
    assert_eq!(refused(FrameKind::Headers, flag::PRIORITY | flag::PADDED, S1, b"\0pppp"), SIZE);
    assert_eq!(refused(FrameKind::Headers, flag::PADDED, S1, b"\x02X"), PROTOCOL);
    assert_eq!(refused(FrameKind::Headers, flag::PRIORITY | flag::PADDED, S1, b"\x01pppp\0"), PROTOCOL);
}

#[test]
fn a_priority_of_another_length_is_an_error_of_its_stream() {
    assert_eq!(parsed(FrameKind::Priority, 0, S1, &[0; 5]), Ok(Frame::Priority { stream: S1 }));
    for length in [0, 4, 6] {
        let error = refused(FrameKind::Priority, 0, S1, &[0; 6][..length]);
        assert_eq!(error, (ErrorCode::FRAME_SIZE_ERROR, true));
    }
}

#[test]
fn reset_stream_has_a_code() {
    let frame = Frame::ResetStream { stream: S1, code: ErrorCode::new(0xdead) };
    assert_eq!(parsed(FrameKind::ResetStream, 0, S1, &[0, 0, 0xde, 0xad]), Ok(frame), "an unknown one is kept");
    assert_eq!(refused(FrameKind::ResetStream, 0, S1, &[0; 3]), SIZE);
    assert_eq!(refused(FrameKind::ResetStream, 0, S1, &[0; 5]), SIZE);
}

#[test]
fn settings_are_whole_entries() {
    assert_eq!(parsed(FrameKind::Settings, 0, S0, b"iivvvv"), Ok(Frame::Settings { entries: b"iivvvv" }));
    assert_eq!(parsed(FrameKind::Settings, 0, S0, b""), Ok(Frame::Settings { entries: b"" }));
    assert_eq!(parsed(FrameKind::Settings, flag::ACK, S0, b""), Ok(Frame::SettingsAck));
    assert_eq!(refused(FrameKind::Settings, flag::ACK, S0, b"iivvvv"), SIZE);
    assert_eq!(refused(FrameKind::Settings, 0, S0, b"iivvvvi"), SIZE);
}

#[test]
fn push_promise() {
    let expected = Frame::PushPromise { stream: S1, promised: StreamId::new(2), fragment: b"f", end_headers: true };
    let flags = flag::END_HEADERS | flag::PADDED;
    assert_eq!(parsed(FrameKind::PushPromise, flags, S1, b"\x01\0\0\0\x02fX"), Ok(expected));
    assert_eq!(refused(FrameKind::PushPromise, 0, S1, b"\0\0\0"), SIZE);
    assert_eq!(refused(FrameKind::PushPromise, flag::PADDED, S1, b"\x01\0\0\0X"), PROTOCOL);
}

#[test]
fn ping_has_eight_bytes() {
    assert_eq!(parsed(FrameKind::Ping, 0, S0, b"12345678"), Ok(Frame::Ping { ack: false, payload: *b"12345678" }));
    assert_eq!(parsed(FrameKind::Ping, 1, S0, b"12345678"), Ok(Frame::Ping { ack: true, payload: *b"12345678" }));
    assert_eq!(refused(FrameKind::Ping, 0, S0, b"1234567"), SIZE);
    assert_eq!(refused(FrameKind::Ping, 0, S0, b"123456789"), SIZE);
}

#[test]
fn go_away() {
    let frame = Frame::GoAway { last_stream: StreamId::MAX, code: ErrorCode::ENHANCE_YOUR_CALM, debug: b"why" };
    assert_eq!(parsed(FrameKind::GoAway, 0, S0, b"\xff\xff\xff\xff\0\0\0\x0bwhy"), Ok(frame));
    assert_eq!(refused(FrameKind::GoAway, 0, S0, &[0; 7]), SIZE);
}

#[test]
fn a_window_update_adds_something() {
    let frame = |stream, increment| Ok(Frame::WindowUpdate { stream, increment });
    for stream in [S0, S1] {
        assert_eq!(parsed(FrameKind::WindowUpdate, 0, stream, &[0xff; 4]), frame(stream, u32::MAX >> 1));
        assert_eq!(parsed(FrameKind::WindowUpdate, 0, stream, &[0, 0, 0, 1]), frame(stream, 1));
        assert_eq!(refused(FrameKind::WindowUpdate, 0, stream, &[0; 3]), SIZE);
        assert_eq!(refused(FrameKind::WindowUpdate, 0, stream, &[0; 5]), SIZE);
    }
    assert_eq!(refused(FrameKind::WindowUpdate, 0, S0, &[0x80, 0, 0, 0]), PROTOCOL);
    assert_eq!(refused(FrameKind::WindowUpdate, 0, S1, &[0; 4]), (ErrorCode::PROTOCOL_ERROR, true));
}

#[test]
fn priority_update_names_a_stream() {
    let frame = Frame::PriorityUpdate { stream: StreamId::new(7), value: b"u=1" };
    assert_eq!(parsed(FrameKind::PriorityUpdate, 0, S0, b"\x80\0\0\x07u=1"), Ok(frame));
    assert_eq!(refused(FrameKind::PriorityUpdate, 0, S0, b"\0\0\0"), SIZE);
    assert_eq!(refused(FrameKind::PriorityUpdate, 0, S0, b"\0\0\0\0u=1"), PROTOCOL);
}

/// The first frame of `bytes`, which must end with it.
fn read(bytes: &[u8]) -> Frame<'_> {
    let (header, payload) = bytes.split_first_chunk().unwrap();
    let header = FrameHeader::parse(header);
    header.check(FRAME_BYTES_CEILING).unwrap();
    Frame::parse(header, payload).unwrap()
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(read(&SETTINGS_ACK), Frame::SettingsAck);
    assert_eq!(read(&ping(true, *b"12345678")), Frame::Ping { ack: true, payload: *b"12345678" });
    let code = ErrorCode::REFUSED_STREAM;
    assert_eq!(read(&reset_stream(S1, code)), Frame::ResetStream { stream: S1, code });
    let update = window_update(S0, u32::MAX >> 1);
    assert_eq!(read(&update), Frame::WindowUpdate { stream: S0, increment: u32::MAX >> 1 });
    let data = [&data_header(S1, 3, true)[..], b"abc"].concat();
    assert_eq!(read(&data), Frame::Data { stream: S1, data: b"abc", flow_bytes: 3, end_stream: true });
    let mut out = Vec::new();
    push_settings(&mut out, &[(4, 1)]);
    assert_eq!(read(&out), Frame::Settings { entries: &[0, 4, 0, 0, 0, 1] });
    out.clear();
    push_go_away(&mut out, S1, ErrorCode::NO_ERROR, "drain");
    assert_eq!(read(&out), Frame::GoAway { last_stream: S1, code: ErrorCode::NO_ERROR, debug: b"drain" });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_payload_is_a_frame_or_an_error(
        number in prop_oneof![0u8..0x11, any::<u8>()],
        flags in any::<u8>(),
        stream in prop_oneof![Just(0), any::<u32>()],
        payload in prop::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..40),
    ) {
        let header = header(FrameKind::new(number), flags, StreamId::new(stream), payload.len());
        if header.check(FRAME_BYTES_MIN).is_ok()
            && let Ok(Frame::Data { flow_bytes, data, .. }) = Frame::parse(header, &payload)
        {
            prop_assert!(data.len() <= flow_bytes as usize);
        }
    }

    #[test]
    fn a_block_of_any_length_is_split_and_whole_again(length in 0usize..100, frame_bytes_max in 1u32..40, end in any::<bool>()) {
        let block: Vec<u8> = (0..length).map(|place| place as u8).collect();
        let mut out = Vec::new();
        push_headers(&mut out, S1, &block, end, frame_bytes_max);
        let (mut joined, mut rest, mut number) = (Vec::new(), &out[..], 0);
        while let Some((header, after)) = rest.split_first_chunk() {
            let header = FrameHeader::parse(header);
            prop_assert!(header.length <= frame_bytes_max);
            let (payload, after) = after.split_at(header.length as usize);
            rest = after;
            let is_last = rest.is_empty();
            match Frame::parse(header, payload) {
                Ok(Frame::Headers { stream: S1, fragment, end_stream, end_headers }) if number == 0 => {
                    prop_assert_eq!((end_stream, end_headers), (end, is_last));
                    joined.extend_from_slice(fragment);
                }
                Ok(Frame::Continuation { stream: S1, fragment, end_headers }) if number > 0 => {
                    prop_assert_eq!(end_headers, is_last);
                    joined.extend_from_slice(fragment);
                }
                other => panic!("{other:?}"),
            }
            number += 1;
        }
        prop_assert_eq!(joined, block);
    }
}
