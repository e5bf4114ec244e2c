//! Frames of HTTP/2 (RFC 9113, 4 and 6) for tests: whole ones, as bytes and back, with nothing checked, so that
//! any malformed frame can be made. Shares no code with the server.

#![allow(dead_code, reason = "each test program uses its own part")]

/// What a client sends first (3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's head.
pub const HEAD_BYTES: usize = 9;

/// Types of frames (6; PRIORITY_UPDATE: RFC 9218, 7).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    pub const PRIORITY_UPDATE: u8 = 16;
}

/// Flags.
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Parameters of SETTINGS (6.5.2; RFC 8441, 3; RFC 9218, 2.1).
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    pub const NO_RFC7540_PRIORITIES: u16 = 9;
}

/// Error codes (7).
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const SETTINGS_TIMEOUT: u32 = 4;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const CONNECT_ERROR: u32 = 10;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
    pub const INADEQUATE_SECURITY: u32 = 12;
    pub const HTTP_1_1_REQUIRED: u32 = 13;
}

/// A frame as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn data(stream: u32, bytes: impl Into<Vec<u8>>, is_end: bool) -> Self {
        Self::new(kind::DATA, end_flag(is_end), stream, bytes)
    }

    /// A block in one frame.
    pub fn headers(stream: u32, block: impl Into<Vec<u8>>, is_end: bool) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS | end_flag(is_end), stream, block)
    }

    /// A further part of a block.
    pub fn continuation(stream: u32, block: impl Into<Vec<u8>>, is_last: bool) -> Self {
        Self::new(kind::CONTINUATION, if is_last { flag::END_HEADERS } else { 0 }, stream, block)
    }

    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub fn settings(parameters: &[(u16, u32)]) -> Self {
        let pairs = parameters.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        Self::new(kind::SETTINGS, 0, 0, pairs.collect::<Vec<u8>>())
    }

    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    pub fn ping(data: [u8; 8], is_ack: bool) -> Self {
        Self::new(kind::PING, if is_ack { flag::ACK } else { 0 }, 0, data)
    }

    pub fn goaway(last_stream: u32, code: u32) -> Self {
        Self::new(kind::GOAWAY, 0, 0, [last_stream.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// Stream 0 is the connection.
    pub fn window_update(stream: u32, increment: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
    }

    /// RFC 9218, 7.1.
    pub fn priority_update(stream: u32, field: &str) -> Self {
        Self::new(kind::PRIORITY_UPDATE, 0, 0, [&stream.to_be_bytes(), field.as_bytes()].concat())
    }

    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a payload below 16 MiB");
        let head = [&length.to_be_bytes()[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [&head[..], &self.payload].concat()
    }

    /// The first frame of these bytes, and how many of them it is; `None`: it is not complete.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head = bytes.get(..HEAD_BYTES)?;
        let end = HEAD_BYTES + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = bytes.get(HEAD_BYTES..end)?.to_vec();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & STREAM_MASK;
        Some((Self { kind: head[3], flags: head[4], stream, payload }, end))
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it ends its stream's half.
    pub fn is_end(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.has(flag::END_STREAM)
    }

    /// The number of four bytes at this place of the payload. Panics if it is too short.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The payload without padding, and without the priority of HEADERS. `None`: it is too short for what its flags say.
    pub fn content(&self) -> Option<&[u8]> {
        let mut content = &self.payload[..];
        if matches!(self.kind, kind::DATA | kind::HEADERS) && self.has(flag::PADDED) {
            let (pad, rest) = content.split_first()?;
            content = rest.get(..rest.len().checked_sub(usize::from(*pad))?)?;
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            content = content.get(5..)?;
        }
        Some(content)
    }

    /// The parameters of SETTINGS; an incomplete one at the end is left out.
    pub fn parameters(&self) -> impl Iterator<Item = (u16, u32)> {
        let pairs = self.payload.chunks_exact(6);
        pairs.map(|pair| {
            (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
        })
    }
}

fn end_flag(is_end: bool) -> u8 {
    if is_end { flag::END_STREAM } else { 0 }
}

/// The highest bit is reserved.
const STREAM_MASK: u32 = (1 << 31) - 1;
