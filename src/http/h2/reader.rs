//! Finds the frames in the bytes that a client's connection receives.
//!
//! [`FrameReader::next`] looks at unread bytes and says what they begin with and how many are
//! consumed. It checks the preface, that the first frame is SETTINGS, and that nothing gets into a
//! field block between HEADERS and its last CONTINUATION. The data of bodies is pointed at as it
//! arrives, so it is never collected, and frames of unknown types are skipped as they arrive; all
//! others are waited for ([`Step::wanted`]), and are at most SETTINGS_MAX_FRAME_SIZE long. States of streams, windows and rates are not known here.
//!
//! ```text
//!   Preface ──► FirstFrame ──► Frame ◄──► Data, Skip
//!                                │  ▲
//!        HEADERS w/o END_HEADERS ▼  │ CONTINUATION with END_HEADERS
//!                           Continuation
//! ```

use std::ops::Range;

use super::error::{ConnectionError, StreamError};
use super::frame::{FRAME_BYTES_MIN, Frame, FrameError, FrameHeader, FrameKind, HEADER_BYTES, PREFACE, StreamId, flag};

/// Reads the frames of one connection.
///
/// ```
/// use xps::internals::http::h2::frame::{PREFACE, SETTINGS_ACK, push_settings};
/// use xps::internals::http::h2::reader::Event;
/// use xps::internals::http::h2::{Frame, FrameReader};
///
/// let mut bytes = PREFACE.to_vec();
/// push_settings(&mut bytes, &[]);
/// bytes.extend_from_slice(&SETTINGS_ACK);
/// let (mut reader, mut at, mut frames) = (FrameReader::of_server(), 0, Vec::new());
/// loop {
///     let step = reader.next(&bytes[at..])?;
///     at += step.consumed;
///     match step.event {
///         Some(Event::Frame(frame)) => frames.push(frame),
///         Some(other) => panic!("{other:?}"),
///         None => break,
///     }
/// }
/// assert_eq!(frames, [Frame::Settings { entries: &[] }, Frame::SettingsAck]);
/// # Ok::<(), xps::internals::http::h2::ConnectionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FrameReader {
    state: ReadState,
    frame_bytes_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    /// Before the preface.
    Preface,
    /// Before the first frame, which must be SETTINGS.
    FirstFrame,
    /// Between frames.
    Frame,
    /// Within a field block of this stream.
    Continuation(StreamId),
    /// Within a DATA frame.
    Data(DataLeft),
    /// Within a frame that is not evaluated.
    Skip { bytes: u32 },
}

/// What is left of a DATA frame: data or padding, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DataLeft {
    stream: StreamId,
    data: u32,
    padding: u32,
    end_stream: bool,
}

/// Result of [`FrameReader::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'b> {
    /// Number of bytes that were read and belong to this event.
    pub consumed: usize,
    /// What they are; `None`: more bytes are needed.
    pub event: Option<Event<'b>>,
    /// Without an event: how many bytes, from the first that is not consumed, must be there before
    /// there can be one. They must be contiguous: at most a frame's header and payload.
    pub wanted: usize,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A whole frame; never DATA. The payload of [`Frame::Unknown`] is skipped by the next calls.
    Frame(Frame<'b>),
    /// Some or all of a DATA frame.
    Data(DataPiece),
    /// A frame that was skipped because it is an error of its stream.
    StreamError(StreamError),
}

/// A part of a DATA frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPiece {
    /// The stream.
    pub stream: StreamId,
    /// Where the data is in the bytes given; the other consumed bytes are framing and padding.
    pub data: Range<usize>,
    /// Bytes of this piece that count for flow control: data and padding.
    pub flow_bytes: u32,
    /// With the first piece of a frame: the length of its payload.
    pub frame_bytes: Option<u32>,
    /// Whether the body ends with this piece.
    pub end_stream: bool,
}

impl<'b> Step<'b> {
    const fn of(consumed: usize, event: Event<'b>) -> Self {
        Self { consumed, event: Some(event), wanted: 0 }
    }

    const fn more(consumed: usize, wanted: usize) -> Self {
        Self { consumed, event: None, wanted }
    }
}

impl FrameReader {
    /// A reader of what a client sends, from the preface on.
    pub const fn of_server() -> Self {
        Self { state: ReadState::Preface, frame_bytes_max: FRAME_BYTES_MIN }
    }

    /// A reader of what a server sends, which has no preface.
    pub const fn of_client() -> Self {
        Self { state: ReadState::FirstFrame, frame_bytes_max: FRAME_BYTES_MIN }
    }

    /// Sets our SETTINGS_MAX_FRAME_SIZE. The peer may use it before it has acknowledged it, so it
    /// counts from when it is sent.
    pub fn set_frame_bytes_max(&mut self, bytes: u32) {
        debug_assert!((FRAME_BYTES_MIN..=super::frame::FRAME_BYTES_CEILING).contains(&bytes));
        self.frame_bytes_max = bytes;
    }

    /// Whether a frame or a field block is incomplete. If the peer closes then, it was truncated.
    pub const fn is_within_frame(&self) -> bool {
        matches!(self.state, ReadState::Continuation(_) | ReadState::Data(_) | ReadState::Skip { bytes: 1.. })
    }

    /// Reads the start of `bytes`, which follow those consumed so far. After an error nothing more
    /// can be read.
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, ConnectionError> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                ReadState::Preface => {
                    let length = rest.len().min(PREFACE.len());
                    if rest[..length] != PREFACE[..length] {
                        return Err(ConnectionError::protocol("the connection does not begin with the preface"));
                    }
                    if length < PREFACE.len() {
                        return Ok(Step::more(at, PREFACE.len()));
                    }
                    at += length;
                    self.state = ReadState::FirstFrame;
                }
                ReadState::Skip { bytes: left } => {
                    let length = rest.len().min(left as usize);
                    at += length;
                    // At most `left`.
                    match left - length as u32 {
                        0 => self.state = ReadState::Frame,
                        left => {
                            self.state = ReadState::Skip { bytes: left };
                            return Ok(Step::more(at, 1));
                        }
                    }
                }
                ReadState::Data(left) => return Ok(self.data(left, None, bytes, at)),
                ReadState::FirstFrame | ReadState::Frame | ReadState::Continuation(_) => {
                    let Some((header, payload)) = rest.split_first_chunk() else {
                        return Ok(Step::more(at, HEADER_BYTES));
                    };
                    let header = FrameHeader::parse(header);
                    self.check_header(header)?;
                    match header.kind {
                        FrameKind::Unknown(kind) => {
                            self.state = ReadState::Skip { bytes: header.length };
                            return Ok(Step::of(at + HEADER_BYTES, Event::Frame(Frame::Unknown { kind })));
                        }
                        FrameKind::Data => return self.begin_data(header, bytes, at),
                        _ => return self.whole(header, payload, at),
                    }
                }
            }
        }
    }

    /// Checks a header by itself, and whether it may follow what was read.
    fn check_header(&self, header: FrameHeader) -> Result<(), ConnectionError> {
        let is_expected = match self.state {
            ReadState::FirstFrame => header.kind == FrameKind::Settings && !header.has(flag::ACK),
            ReadState::Continuation(stream) => header.kind == FrameKind::Continuation && header.stream == stream,
            ReadState::Frame => header.kind != FrameKind::Continuation,
            ReadState::Preface | ReadState::Data(_) | ReadState::Skip { .. } => false,
        };
        match (is_expected, self.state) {
            (true, _) => header.check(self.frame_bytes_max),
            (false, ReadState::FirstFrame) => Err(ConnectionError::protocol("the first frame is not SETTINGS")),
            (false, ReadState::Continuation(_)) => {
                Err(ConnectionError::protocol("a field block is interrupted by another frame"))
            }
            (false, _) => Err(ConnectionError::protocol("a CONTINUATION does not follow HEADERS")),
        }
    }

    /// A frame other than DATA, once its payload is there.
    fn whole<'b>(&mut self, header: FrameHeader, payload: &'b [u8], at: usize) -> Result<Step<'b>, ConnectionError> {
        let length = header.length as usize;
        let Some(payload) = payload.get(..length) else { return Ok(Step::more(at, HEADER_BYTES + length)) };
        let event = match Frame::parse(header, payload) {
            Ok(frame) => Event::Frame(frame),
            Err(FrameError::Stream(error)) => Event::StreamError(error),
            Err(FrameError::Connection(error)) => return Err(error),
        };
        self.state = match event {
            Event::Frame(
                Frame::Headers { stream, end_headers: false, .. }
                | Frame::PushPromise { stream, end_headers: false, .. }
                | Frame::Continuation { stream, end_headers: false, .. },
            ) => ReadState::Continuation(stream),
            Event::Frame(_) | Event::StreamError(_) | Event::Data(_) => ReadState::Frame,
        };
        Ok(Step::of(at + HEADER_BYTES + length, event))
    }

    /// The beginning of a DATA frame at `at`, once the length of its padding is there.
    fn begin_data<'b>(&mut self, header: FrameHeader, bytes: &'b [u8], at: usize) -> Result<Step<'b>, ConnectionError> {
        let (mut data, mut padding, mut length) = (header.length, 0, HEADER_BYTES);
        if header.has(flag::PADDED) {
            let Some(&octets) = bytes.get(at + HEADER_BYTES) else { return Ok(Step::more(at, HEADER_BYTES + 1)) };
            length += 1;
            padding = u32::from(octets);
            // At least 1, or the header would have been refused.
            data = (data - 1)
                .checked_sub(padding)
                .ok_or(ConnectionError::protocol("a frame's padding is longer than its payload"))?;
        }
        let left = DataLeft { stream: header.stream, data, padding, end_stream: header.has(flag::END_STREAM) };
        Ok(self.data(left, Some(header), bytes, at + length))
    }

    /// What there is of a DATA frame at `at`. `begun`: its header, if this is the first piece.
    fn data<'b>(&mut self, left: DataLeft, begun: Option<FrameHeader>, bytes: &'b [u8], at: usize) -> Step<'b> {
        let available = bytes.len() - at;
        if available == 0 && begun.is_none() {
            return Step::more(at, 1);
        }
        let data = available.min(left.data as usize);
        let padding = (available - data).min(left.padding as usize);
        // Both are at most what is left.
        let left = DataLeft { data: left.data - data as u32, padding: left.padding - padding as u32, ..left };
        let is_over = left.data == 0 && left.padding == 0;
        self.state = if is_over { ReadState::Frame } else { ReadState::Data(left) };
        let padding_length = u32::from(begun.is_some_and(|header| header.has(flag::PADDED)));
        let piece = DataPiece {
            stream: left.stream,
            data: at..at + data,
            flow_bytes: padding_length + (data + padding) as u32,
            frame_bytes: begun.map(|header| header.length),
            end_stream: is_over && left.end_stream,
        };
        Step::of(at + data + padding, Event::Data(piece))
    }
}

#[cfg(test)]
mod tests;
