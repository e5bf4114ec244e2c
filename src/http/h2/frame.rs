//! Frames (RFC 9113, 4 and 6; PRIORITY_UPDATE of RFC 9218): their header, the payload of each type,
//! and how they are written.
//!
//! [`FrameHeader::check`] finds what is wrong with a frame before its payload has arrived;
//! [`Frame::parse`] needs the whole payload. What is priority information of RFC 7540 is skipped,
//! as RFC 9113, 5.3.2, wants it. The order of frames is checked in [`super::reader`]; the states of
//! streams are not known here.

use super::error::{ConnectionError, ErrorCode, StreamError};

/// Length of a frame header in bytes.
pub const HEADER_BYTES: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE before any settings, and its least value: bytes of a payload.
pub const FRAME_BYTES_MIN: u32 = 1 << 14;

/// Largest possible SETTINGS_MAX_FRAME_SIZE.
pub const FRAME_BYTES_CEILING: u32 = (1 << 24) - 1;

/// The bytes that a client sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The identifier of a stream: 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// `DATA`
    Data,
    /// `HEADERS`
    Headers,
    /// `PRIORITY`, which has no meaning any more.
    Priority,
    /// `RST_STREAM`
    ResetStream,
    /// `SETTINGS`
    Settings,
    /// `PUSH_PROMISE`
    PushPromise,
    /// `PING`
    Ping,
    /// `GOAWAY`
    GoAway,
    /// `WINDOW_UPDATE`
    WindowUpdate,
    /// `CONTINUATION`
    Continuation,
    /// `PRIORITY_UPDATE` (RFC 9218, 7.1)
    PriorityUpdate,
    /// Any other type, which is skipped (RFC 9113, 4.1).
    Unknown(u8),
}

/// Flags of frames.
pub mod flag {
    /// SETTINGS, PING: acknowledges.
    pub const ACK: u8 = 0x1;
    /// DATA, HEADERS: the last frame of the stream in this direction.
    pub const END_STREAM: u8 = 0x1;
    /// HEADERS, PUSH_PROMISE, CONTINUATION: no CONTINUATION follows.
    pub const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS, PUSH_PROMISE: the payload has padding.
    pub const PADDED: u8 = 0x8;
    /// HEADERS: the payload has priority information of RFC 7540.
    pub const PRIORITY: u8 = 0x20;
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload; 24 bits.
    pub length: u32,
    /// The type.
    pub kind: FrameKind,
    /// The flags as sent. Those that the type does not define are ignored.
    pub flags: u8,
    /// The stream; [`StreamId::CONNECTION`] for frames of the connection.
    pub stream: StreamId,
}

/// A frame. Slices point into its payload, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'b> {
    /// Data of a body. [`super::FrameReader`] hands this out in pieces instead.
    Data {
        /// The stream.
        stream: StreamId,
        /// The data.
        data: &'b [u8],
        /// Bytes that count for flow control: the data, and the padding with its length.
        flow_bytes: u32,
        /// Whether the body ends.
        end_stream: bool,
    },
    /// The beginning of a field block that opens a stream, or of trailers.
    Headers {
        /// The stream.
        stream: StreamId,
        /// The field block, or its beginning.
        fragment: &'b [u8],
        /// Whether no body follows.
        end_stream: bool,
        /// Whether the field block is complete.
        end_headers: bool,
    },
    /// Priority information of RFC 7540, to be ignored.
    Priority {
        /// The stream, which may be in any state.
        stream: StreamId,
    },
    /// The end of a stream.
    ResetStream {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// Settings: entries of [`SETTING_BYTES`] bytes, see [`super::settings`].
    Settings {
        /// The entries.
        entries: &'b [u8],
    },
    /// The acknowledgement of settings.
    SettingsAck,
    /// A promised stream. No client may send it.
    PushPromise {
        /// The stream.
        stream: StreamId,
        /// The promised stream.
        promised: StreamId,
        /// The field block, or its beginning.
        fragment: &'b [u8],
        /// Whether the field block is complete.
        end_headers: bool,
    },
    /// A ping, or the answer to one.
    Ping {
        /// Whether it is the answer.
        ack: bool,
        /// To be sent back.
        payload: [u8; 8],
    },
    /// The peer is about to close the connection.
    GoAway {
        /// The last of the receiver's streams that was or may be processed.
        last_stream: StreamId,
        /// Why.
        code: ErrorCode,
        /// For the log.
        debug: &'b [u8],
    },
    /// More bytes may be sent.
    WindowUpdate {
        /// The stream, or the connection.
        stream: StreamId,
        /// How many; at least 1, 31 bits.
        increment: u32,
    },
    /// More of a field block.
    Continuation {
        /// The stream.
        stream: StreamId,
        /// The next part of the field block.
        fragment: &'b [u8],
        /// Whether the field block is complete.
        end_headers: bool,
    },
    /// The priority of a stream (RFC 9218).
    PriorityUpdate {
        /// The stream, which may not exist yet.
        stream: StreamId,
        /// The value as that of the `Priority` field.
        value: &'b [u8],
    },
    /// A frame of a type that is not known here.
    Unknown {
        /// The number of the type.
        kind: u8,
    },
}

/// Why a frame cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Nothing after it can be read.
    Connection(ConnectionError),
    /// The frame is skipped and the stream reset.
    Stream(StreamError),
}

/// Bytes of a setting in a SETTINGS frame.
pub const SETTING_BYTES: usize = 6;

/// Bytes of the priority information in PRIORITY and HEADERS.
const PRIORITY_BYTES: usize = 5;

impl StreamId {
    /// Of frames that concern the connection.
    pub const CONNECTION: Self = Self(0);
    /// The last identifier.
    pub const MAX: Self = Self(u32::MAX >> 1);

    /// The identifier in these bits; the reserved one is ignored (RFC 9113, 4.1).
    pub const fn new(bits: u32) -> Self {
        Self(bits & Self::MAX.0)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether a client opens streams of this number: it is odd (RFC 9113, 5.1.1).
    pub const fn is_of_client(self) -> bool {
        self.0 % 2 == 1
    }
}

impl FrameKind {
    /// The type with this number.
    pub const fn new(number: u8) -> Self {
        match number {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 => Self::Priority,
            0x3 => Self::ResetStream,
            0x4 => Self::Settings,
            0x5 => Self::PushPromise,
            0x6 => Self::Ping,
            0x7 => Self::GoAway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            0x10 => Self::PriorityUpdate,
            other => Self::Unknown(other),
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Data => 0x0,
            Self::Headers => 0x1,
            Self::Priority => 0x2,
            Self::ResetStream => 0x3,
            Self::Settings => 0x4,
            Self::PushPromise => 0x5,
            Self::Ping => 0x6,
            Self::GoAway => 0x7,
            Self::WindowUpdate => 0x8,
            Self::Continuation => 0x9,
            Self::PriorityUpdate => 0x10,
            Self::Unknown(other) => other,
        }
    }

    /// Whether it belongs to a stream or to the connection; `None`: to either.
    const fn is_of_stream(self) -> Option<bool> {
        match self {
            Self::Data
            | Self::Headers
            | Self::Priority
            | Self::ResetStream
            | Self::PushPromise
            | Self::Continuation => Some(true),
            Self::Settings | Self::Ping | Self::GoAway | Self::PriorityUpdate => Some(false),
            Self::WindowUpdate | Self::Unknown(_) => None,
        }
    }
}

impl FrameHeader {
    /// The header in these bytes.
    pub const fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l2, l1, l0]),
            kind: FrameKind::new(kind),
            flags,
            stream: StreamId::new(u32::from_be_bytes([s3, s2, s1, s0])),
        }
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Checks length and stream, before the payload has arrived. `frame_bytes_max`: our
    /// SETTINGS_MAX_FRAME_SIZE. A frame beyond it ends the connection whatever its type, so that no
    /// payload of up to 16 MiB has to be skipped.
    pub fn check(&self, frame_bytes_max: u32) -> Result<(), ConnectionError> {
        if self.length > frame_bytes_max {
            return Err(ConnectionError::frame_size("a frame is larger than SETTINGS_MAX_FRAME_SIZE"));
        }
        match (self.kind.is_of_stream(), self.stream == StreamId::CONNECTION) {
            (Some(true), true) => return Err(ConnectionError::protocol("a frame of a stream is on stream 0")),
            (Some(false), false) => {
                return Err(ConnectionError::protocol("a frame of the connection is not on stream 0"));
            }
            (Some(true), false) | (Some(false), true) | (None, _) => {}
        }
        let length = self.length as usize;
        let padding_length = usize::from(self.has(flag::PADDED));
        let is_wrong = match self.kind {
            FrameKind::Data => length < padding_length,
            FrameKind::Headers => length < padding_length + if self.has(flag::PRIORITY) { PRIORITY_BYTES } else { 0 },
            FrameKind::PushPromise => length < padding_length + 4,
            FrameKind::ResetStream | FrameKind::WindowUpdate => length != 4,
            FrameKind::Settings if self.has(flag::ACK) => length != 0,
            FrameKind::Settings => !length.is_multiple_of(SETTING_BYTES),
            FrameKind::Ping => length != 8,
            FrameKind::GoAway => length < 8,
            FrameKind::PriorityUpdate => length < 4,
            // A wrong PRIORITY is an error of its stream only.
            FrameKind::Priority | FrameKind::Continuation | FrameKind::Unknown(_) => false,
        };
        if is_wrong { Err(ConnectionError::frame_size("a frame's length does not fit its type")) } else { Ok(()) }
    }

    /// The nine bytes.
    pub const fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [_, l2, l1, l0] = self.length.to_be_bytes();
        let [s3, s2, s1, s0] = self.stream.0.to_be_bytes();
        [l2, l1, l0, self.kind.number(), self.flags, s3, s2, s1, s0]
    }
}

impl<'b> Frame<'b> {
    /// Parses the payload of a frame whose header was checked.
    pub fn parse(header: FrameHeader, payload: &'b [u8]) -> Result<Self, FrameError> {
        debug_assert_eq!(payload.len(), header.length as usize);
        let FrameHeader { stream, .. } = header;
        let end_stream = header.has(flag::END_STREAM);
        let end_headers = header.has(flag::END_HEADERS);
        Ok(match header.kind {
            FrameKind::Data => {
                Self::Data { stream, data: without_padding(header, payload)?, flow_bytes: header.length, end_stream }
            }
            FrameKind::Headers => {
                let skip = if header.has(flag::PRIORITY) { PRIORITY_BYTES } else { 0 };
                // Padding must leave room for the priority information.
                let fragment = without_padding(header, payload)?.get(skip..).ok_or(TOO_MUCH_PADDING)?;
                Self::Headers { stream, fragment, end_stream, end_headers }
            }
            FrameKind::Priority if payload.len() == PRIORITY_BYTES => Self::Priority { stream },
            FrameKind::Priority => {
                return Err(stream_error(stream, ErrorCode::FRAME_SIZE_ERROR, "a PRIORITY is not 5 bytes"));
            }
            FrameKind::ResetStream => Self::ResetStream { stream, code: ErrorCode::new(word(payload)?.0) },
            FrameKind::Settings if header.has(flag::ACK) => Self::SettingsAck,
            FrameKind::Settings => Self::Settings { entries: payload },
            FrameKind::PushPromise => {
                let (promised, fragment) = word(without_padding(header, payload)?).map_err(|_| TOO_MUCH_PADDING)?;
                Self::PushPromise { stream, promised: StreamId::new(promised), fragment, end_headers }
            }
            FrameKind::Ping => {
                let payload = payload.try_into().map_err(|_| WRONG_LENGTH)?;
                Self::Ping { ack: header.has(flag::ACK), payload }
            }
            FrameKind::GoAway => {
                let (last_stream, rest) = word(payload)?;
                let (code, debug) = word(rest)?;
                Self::GoAway { last_stream: StreamId::new(last_stream), code: ErrorCode::new(code), debug }
            }
            FrameKind::WindowUpdate => match word(payload)?.0 & StreamId::MAX.0 {
                0 if stream == StreamId::CONNECTION => {
                    return Err(ConnectionError::protocol("a WINDOW_UPDATE of the connection adds nothing").into());
                }
                0 => return Err(stream_error(stream, ErrorCode::PROTOCOL_ERROR, "a WINDOW_UPDATE adds nothing")),
                increment => Self::WindowUpdate { stream, increment },
            },
            FrameKind::Continuation => Self::Continuation { stream, fragment: payload, end_headers },
            FrameKind::PriorityUpdate => match word(payload)? {
                (bits, _) if StreamId::new(bits) == StreamId::CONNECTION => {
                    return Err(ConnectionError::protocol("a PRIORITY_UPDATE is for stream 0").into());
                }
                (bits, value) => Self::PriorityUpdate { stream: StreamId::new(bits), value },
            },
            FrameKind::Unknown(kind) => Self::Unknown { kind },
        })
    }
}

const TOO_MUCH_PADDING: FrameError =
    FrameError::Connection(ConnectionError::protocol("a frame's padding is longer than its payload"));

/// Found by [`FrameHeader::check`] before.
const WRONG_LENGTH: FrameError =
    FrameError::Connection(ConnectionError::frame_size("a frame's length does not fit its type"));

const fn stream_error(stream: StreamId, code: ErrorCode, reason: &'static str) -> FrameError {
    FrameError::Stream(StreamError { stream, code, reason })
}

/// The payload without its padding, if it is padded.
fn without_padding(header: FrameHeader, payload: &[u8]) -> Result<&[u8], FrameError> {
    if !header.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(WRONG_LENGTH)?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or(TOO_MUCH_PADDING)?;
    Ok(&rest[..length])
}

/// The first 32 bits, and what follows.
fn word(bytes: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(WRONG_LENGTH)?;
    Ok((u32::from_be_bytes(*first), rest))
}

impl From<ConnectionError> for FrameError {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

/// The header of a DATA frame without padding. `length`: at most the peer's
/// SETTINGS_MAX_FRAME_SIZE, and what its windows allow.
pub const fn data_header(stream: StreamId, length: u32, end_stream: bool) -> [u8; HEADER_BYTES] {
    debug_assert!(length <= FRAME_BYTES_CEILING);
    let flags = if end_stream { flag::END_STREAM } else { 0 };
    FrameHeader { length, kind: FrameKind::Data, flags, stream }.to_bytes()
}

/// The header of a HEADERS frame that holds the whole of a field block of this length.
pub const fn headers_header(stream: StreamId, length: u32, end_stream: bool) -> [u8; HEADER_BYTES] {
    debug_assert!(length <= FRAME_BYTES_CEILING);
    let flags = flag::END_HEADERS | if end_stream { flag::END_STREAM } else { 0 };
    FrameHeader { length, kind: FrameKind::Headers, flags, stream }.to_bytes()
}

/// Appends a field block: a HEADERS frame, and CONTINUATION frames if it is longer than
/// `frame_bytes_max`, the peer's SETTINGS_MAX_FRAME_SIZE. No other frame may get between them.
pub fn push_headers(out: &mut Vec<u8>, stream: StreamId, block: &[u8], end_stream: bool, frame_bytes_max: u32) {
    let (mut kind, mut flags) = (FrameKind::Headers, if end_stream { flag::END_STREAM } else { 0 });
    let mut rest = block;
    loop {
        let (fragment, after) = rest.split_at(rest.len().min(frame_bytes_max.max(1) as usize));
        if after.is_empty() {
            flags |= flag::END_HEADERS;
        }
        // At most `frame_bytes_max`.
        let length = fragment.len() as u32;
        out.extend_from_slice(&FrameHeader { length, kind, flags, stream }.to_bytes());
        out.extend_from_slice(fragment);
        if after.is_empty() {
            return;
        }
        (kind, flags, rest) = (FrameKind::Continuation, 0, after);
    }
}

/// A RST_STREAM frame.
pub const fn reset_stream(stream: StreamId, code: ErrorCode) -> [u8; HEADER_BYTES + 4] {
    with_word(FrameKind::ResetStream, stream, code.get())
}

/// A WINDOW_UPDATE frame. `increment`: at least 1, 31 bits.
pub const fn window_update(stream: StreamId, increment: u32) -> [u8; HEADER_BYTES + 4] {
    debug_assert!(increment > 0 && increment <= StreamId::MAX.0);
    with_word(FrameKind::WindowUpdate, stream, increment)
}

/// The acknowledgement of a SETTINGS frame.
pub const SETTINGS_ACK: [u8; HEADER_BYTES] =
    FrameHeader { length: 0, kind: FrameKind::Settings, flags: flag::ACK, stream: StreamId::CONNECTION }.to_bytes();

/// Appends a SETTINGS frame: identifiers and values, see [`super::settings::id`].
pub fn push_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    // Few settings exist.
    let length = (settings.len() * SETTING_BYTES) as u32;
    let header = FrameHeader { length, kind: FrameKind::Settings, flags: 0, stream: StreamId::CONNECTION };
    out.extend_from_slice(&header.to_bytes());
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// A PING frame, or the answer to one.
pub const fn ping(ack: bool, payload: [u8; 8]) -> [u8; HEADER_BYTES + 8] {
    let flags = if ack { flag::ACK } else { 0 };
    let header = FrameHeader { length: 8, kind: FrameKind::Ping, flags, stream: StreamId::CONNECTION }.to_bytes();
    let mut frame = [0; HEADER_BYTES + 8];
    let (start, end) = frame.split_at_mut(HEADER_BYTES);
    start.copy_from_slice(&header);
    end.copy_from_slice(&payload);
    frame
}

/// Appends a GOAWAY frame. `debug`: short text for the peer's log.
pub fn push_go_away(out: &mut Vec<u8>, last_stream: StreamId, code: ErrorCode, debug: &'static str) {
    let length = 8 + debug.len() as u32;
    let header = FrameHeader { length, kind: FrameKind::GoAway, flags: 0, stream: StreamId::CONNECTION };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(&last_stream.0.to_be_bytes());
    out.extend_from_slice(&code.get().to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
}

const fn with_word(kind: FrameKind, stream: StreamId, word: u32) -> [u8; HEADER_BYTES + 4] {
    let [h0, h1, h2, h3, h4, h5, h6, h7, h8] = FrameHeader { length: 4, kind, flags: 0, stream }.to_bytes();
    let [w0, w1, w2, w3] = word.to_be_bytes();
    [h0, h1, h2, h3, h4, h5, h6, h7, h8, w0, w1, w2, w3]
}

#[cfg(test)]
mod tests;
