//! Sequences of frames, however they arrive.

use proptest::prelude::*;

use super::*;
use crate::http::h2::error::ErrorCode;
use crate::http::h2::frame::{SETTINGS_ACK, data_header, ping, push_headers, push_settings, window_update};

const S1: StreamId = StreamId::new(1);
const S3: StreamId = StreamId::new(3);

/// What was read, in a form without the pieces in which data arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    Frame(String),
    Data { stream: StreamId, data: Vec<u8>, flow_bytes: u32, frame_bytes: u32, end_stream: bool },
    StreamError(ErrorCode),
}

/// Reads `bytes` as they arrive in pieces of `size`. Consumed bytes are never shown again.
fn read_by(mut reader: FrameReader, bytes: &[u8], size: usize) -> Result<Vec<Note>, ErrorCode> {
    let (mut notes, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        let step = reader.next(&bytes[at..end]).map_err(|error| error.code)?;
        match step.event {
            Some(Event::Frame(frame)) => notes.push(Note::Frame(format!("{frame:?}"))),
            Some(Event::StreamError(error)) => notes.push(Note::StreamError(error.code)),
            Some(Event::Data(piece)) => {
                let arrived = &bytes[at..][piece.data.clone()];
                if let Some(frame_bytes) = piece.frame_bytes {
                    let DataPiece { stream, flow_bytes, end_stream, .. } = piece;
                    notes.push(Note::Data { stream, data: arrived.to_vec(), flow_bytes, frame_bytes, end_stream });
                } else {
                    let Some(Note::Data { stream, data, flow_bytes, end_stream, .. }) = notes.last_mut() else {
                        panic!("a piece without its frame")
                    };
                    assert_eq!((*stream, *end_stream), (piece.stream, false));
                    data.extend_from_slice(arrived);
                    *flow_bytes += piece.flow_bytes;
                    *end_stream = piece.end_stream;
                }
            }
            None if end == bytes.len() => return Ok(notes),
            None => end = bytes.len().min(end + size),
        }
        at += step.consumed;
        assert!(at <= end);
    }
}

/// After the preface and the first SETTINGS.
fn started(frames: &[u8]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    push_settings(&mut bytes, &[]);
    bytes.extend_from_slice(frames);
    bytes
}

/// What is read after the preface and the first SETTINGS.
fn read(frames: &[u8]) -> Result<Vec<Note>, ErrorCode> {
    let bytes = started(frames);
    let notes = read_by(FrameReader::of_server(), &bytes, usize::MAX >> 1);
    for size in [1, 2, 7, 9, 10] {
        assert_eq!(read_by(FrameReader::of_server(), &bytes, size), notes, "in pieces of {size}");
    }
    notes.map(|notes| notes[1..].to_vec())
}

fn frame(kind: FrameKind, flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { length: payload.len() as u32, kind, flags, stream };
    [&header.to_bytes()[..], payload].concat()
}

fn code(frames: &[u8]) -> ErrorCode {
    read(frames).unwrap_err()
}

#[test]
fn a_connection_begins_with_the_preface() {
    assert_eq!(read(&[]), Ok(vec![]));
    for bad in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"\x16\x03\x01", b"PRI * HTTP/1"] {
        assert_eq!(read_by(FrameReader::of_server(), bad, 1), Err(ErrorCode::PROTOCOL_ERROR));
        let mut reader = FrameReader::of_server();
        assert!(reader.next(bad).is_err(), "without waiting for all of it");
    }
    assert_eq!(read_by(FrameReader::of_server(), b"PRI", 1), Ok(vec![]));
}

#[test]
fn the_first_frame_is_settings() {
    for first in [&SETTINGS_ACK[..], &ping(false, [0; 8]), &frame(FrameKind::Unknown(0x77), 0, S1, b"")] {
        let bytes = [&PREFACE[..], first].concat();
        assert_eq!(read_by(FrameReader::of_server(), &bytes, 5), Err(ErrorCode::PROTOCOL_ERROR));
        assert_eq!(read_by(FrameReader::of_client(), first, 5), Err(ErrorCode::PROTOCOL_ERROR));
    }
}

#[test]
fn nothing_gets_into_a_field_block() {
    let mut block = Vec::new();
    push_headers(&mut block, S1, &[0x82; 20], false, 10);
    assert_eq!(read(&block).map(|notes| notes.len()), Ok(2));
    let open = frame(FrameKind::Headers, 0, S1, b"f");
    for between in [
        frame(FrameKind::Headers, flag::END_HEADERS, S1, b""),
        frame(FrameKind::Data, 0, S1, b""),
        frame(FrameKind::Continuation, flag::END_HEADERS, S3, b""),
        frame(FrameKind::Unknown(0x77), 0, S1, b""),
        ping(false, [0; 8]).to_vec(),
    ] {
        assert_eq!(code(&[&open[..], &between].concat()), ErrorCode::PROTOCOL_ERROR);
    }
}

#[test]
fn a_continuation_follows_headers() {
    let continuation = frame(FrameKind::Continuation, flag::END_HEADERS, S1, b"");
    assert_eq!(code(&continuation), ErrorCode::PROTOCOL_ERROR);
    let whole = frame(FrameKind::Headers, flag::END_HEADERS, S1, b"");
    assert_eq!(code(&[whole, continuation].concat()), ErrorCode::PROTOCOL_ERROR);
}

#[test]
fn data_is_handed_out_as_it_arrives() {
    let data = |data: &[u8], flow_bytes, end_stream| Note::Data {
        stream: S1,
        data: data.to_vec(),
        flow_bytes,
        frame_bytes: flow_bytes,
        end_stream,
    };
    let plain = frame(FrameKind::Data, 0, S1, b"abcdefghijkl");
    let padded = frame(FrameKind::Data, flag::PADDED | flag::END_STREAM, S1, b"\x05abcXXXXX");
    let empty = frame(FrameKind::Data, flag::END_STREAM, S1, b"");
    let only_padding = frame(FrameKind::Data, flag::PADDED, S1, b"\x02XX");
    let notes = read(&[plain, padded, empty, only_padding].concat());
    let expected =
        vec![data(b"abcdefghijkl", 12, false), data(b"abc", 9, true), data(b"", 0, true), data(b"", 3, false)];
    assert_eq!(notes, Ok(expected));
}

#[test]
fn a_step_of_data_needs_no_whole_frame() {
    let bytes = started(&[&data_header(S1, 16_384, true)[..], b"begins"].concat());
    let mut reader = FrameReader::of_server();
    let first = reader.next(&bytes).unwrap();
    let rest = &bytes[first.consumed..];
    let step = reader.next(rest).unwrap();
    let Some(Event::Data(piece)) = step.event else { panic!("no data") };
    assert_eq!((&rest[piece.data], piece.frame_bytes, piece.end_stream), (&b"begins"[..], Some(16_384), false));
    assert_eq!(step.consumed, rest.len());
    assert!(reader.is_within_frame());
    assert_eq!(reader.next(b"").unwrap(), Step::more(0, 1));
}

#[test]
fn a_step_without_an_event_says_how_many_bytes_it_wants() {
    let wanted = |bytes: &[u8]| {
        let mut reader = FrameReader::of_server();
        let mut at = 0;
        loop {
            let step = reader.next(&bytes[at..]).unwrap();
            at += step.consumed;
            if step.event.is_none() {
                return (bytes.len() - at, step.wanted);
            }
        }
    };
    assert_eq!(wanted(&PREFACE[..5]), (5, PREFACE.len()));
    assert_eq!(wanted(&started(b"")), (0, HEADER_BYTES));
    assert_eq!(wanted(&started(b"\0\0\x08\x06")), (4, HEADER_BYTES));
    assert_eq!(wanted(&started(&ping(false, [0; 8])[..10])), (10, HEADER_BYTES + 8));
    let padded = frame(FrameKind::Data, flag::PADDED, S1, b"\x01xX");
    assert_eq!(wanted(&started(&padded[..9])), (9, HEADER_BYTES + 1));
    assert_eq!(wanted(&started(&padded[..10])), (0, 1), "the data as it arrives");
    assert_eq!(wanted(&started(&frame(FrameKind::Unknown(0xbe), 0, S1, b"xyz")[..10])), (0, 1));
}

#[test]
fn padding_as_long_as_the_payload_is_an_error() {
    assert_eq!(code(&frame(FrameKind::Data, flag::PADDED, S1, b"\x03XX")), ErrorCode::PROTOCOL_ERROR);
    assert_eq!(code(&frame(FrameKind::Data, flag::PADDED, S1, b"")), ErrorCode::FRAME_SIZE_ERROR);
}

#[test]
fn unknown_frames_are_told_and_skipped() {
    let unknown = frame(FrameKind::Unknown(0xbe), 0xff, S3, &[b'x'; 100]);
    let empty = frame(FrameKind::Unknown(0xbe), 0, StreamId::CONNECTION, b"");
    let notes = read(&[&unknown[..], &empty, &window_update(S1, 1)].concat()).unwrap();
    assert_eq!(notes.len(), 3);
    assert_eq!(notes[2], Note::Frame(format!("{:?}", Frame::WindowUpdate { stream: S1, increment: 1 })));
}

#[test]
fn after_an_error_of_a_stream_reading_goes_on() {
    let bad = [frame(FrameKind::WindowUpdate, 0, S1, &[0; 4]), frame(FrameKind::Priority, 0, S1, &[0; 3])];
    let notes = read(&[&bad.concat()[..], &SETTINGS_ACK].concat()).unwrap();
    assert_eq!(notes[0], Note::StreamError(ErrorCode::PROTOCOL_ERROR));
    assert_eq!(notes[1], Note::StreamError(ErrorCode::FRAME_SIZE_ERROR));
    assert_eq!(notes.len(), 3);
}

#[test]
fn a_header_that_is_too_large_is_refused_before_its_payload() {
    assert_eq!(code(&data_header(S1, 16_385, false)), ErrorCode::FRAME_SIZE_ERROR);
    let mut reader = FrameReader::of_server();
    reader.set_frame_bytes_max(16_385);
    let bytes = started(&data_header(S1, 16_385, false));
    assert!(read_by(reader, &bytes, 3).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_are_read_the_same_in_any_pieces(
        frames in prop::collection::vec(
            (
                prop_oneof![4 => Just(0u8), 2 => 0u8..0x11, 1 => any::<u8>()],
                prop_oneof![Just(0u8), Just(flag::PADDED), Just(flag::END_STREAM), any::<u8>()],
                0u32..4,
                prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..12),
            ),
            0..8,
        ),
        size in 1usize..40,
    ) {
        let frames = frames.iter().map(|(kind, flags, stream, payload)| {
            frame(FrameKind::new(*kind), *flags, StreamId::new(*stream), payload)
        });
        let bytes = started(&frames.collect::<Vec<_>>().concat());
        let whole = read_by(FrameReader::of_server(), &bytes, bytes.len());
        prop_assert_eq!(read_by(FrameReader::of_server(), &bytes, size), whole);
    }
}
