//! HTTP/2 frames (RFC 9113, 4 and 6), whole ones.

use xps::internals::driver::sim::Rng;

/// What a client sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 9;

/// What each side may send before the other says otherwise.
pub const FRAME_BYTES_MAX: usize = 16 << 10;

/// Where every window begins.
pub const WINDOW: i64 = 65_535;

/// What no window may exceed.
pub const WINDOW_MAX: i64 = (1 << 31) - 1;

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
/// RFC 9218, 7.1.
pub const PRIORITY_UPDATE: u8 = 16;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const HAS_PRIORITY: u8 = 32;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame, as it stands in what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The frame at the start of `bytes`; `Ok(None)`: it is not there yet. `payload_max`: what may be sent.
    pub fn read(bytes: &'b [u8], payload_max: usize) -> Result<Option<Self>, String> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [a, b, c, kind, flags, stream @ ..] = *header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes(stream);
        if length > payload_max {
            return Err(format!("a frame of kind {kind} with {length} bytes, where {payload_max} may be sent"));
        }
        if stream >> 31 == 1 {
            return Err(format!("a frame of kind {kind} with the reserved bit"));
        }
        Ok(rest.get(..length).map(|payload| Self { kind, flags, stream, payload }))
    }

    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Its bytes, header included.
    pub const fn length(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// What is between the padding and the fields for priorities (RFC 9113, 6.1 and 6.2).
    pub fn content(&self) -> Result<&'b [u8], String> {
        let mut content = self.payload;
        if self.has(PADDED) {
            let (pad, rest) = content.split_first().ok_or("a padded frame of no bytes")?;
            let end = rest.len().checked_sub(usize::from(*pad)).ok_or("more padding than frame")?;
            content = &rest[..end];
        }
        if self.kind == HEADERS && self.has(HAS_PRIORITY) {
            content = content.get(5..).ok_or("no room for a priority")?;
        }
        Ok(content)
    }

    /// A payload that is one number.
    pub fn number(&self) -> Result<u32, String> {
        let bytes = self.payload.try_into().map_err(|_| format!("{} bytes instead of four", self.payload.len()))?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// The payload of SETTINGS.
    pub fn settings(&self) -> Result<Vec<(u16, u32)>, String> {
        let (pairs, rest) = self.payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(format!("settings of {} bytes", self.payload.len()));
        }
        let pair = |[a, b, c, d, e, f]: &[u8; 6]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes([*c, *d, *e, *f]));
        Ok(pairs.iter().map(pair).collect())
    }
}

pub fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// DATA or HEADERS; `pads`: perhaps with padding of up to `room` bytes. Returns the length of the payload.
pub fn push_padded(out: &mut Vec<u8>, (kind, flags): (u8, u8), stream: u32, content: &[u8], pad: Option<u8>) -> usize {
    let Some(pad) = pad else {
        push(out, kind, flags, stream, content);
        return content.len();
    };
    let payload = [&[pad], content, &vec![0; usize::from(pad)]].concat();
    push(out, kind, flags | PADDED, stream, &payload);
    payload.len()
}

/// A header block, cut into a HEADERS frame and CONTINUATION frames of at most `most` bytes each.
pub fn push_block(out: &mut Vec<u8>, stream: u32, flags: u8, block: &[u8], most: usize, cut: &BlockCut) {
    let (first, mut rest) = block.split_at(block.len().min(most));
    let ends = if rest.is_empty() { END_HEADERS } else { 0 };
    let first = [&cut.priority[..], first].concat();
    let priority = if cut.priority.is_empty() { 0 } else { HAS_PRIORITY };
    push_padded(out, (HEADERS, flags | priority | ends), stream, &first, cut.pad);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(most));
        push(out, CONTINUATION, if after.is_empty() { END_HEADERS } else { 0 }, stream, piece);
        rest = after;
    }
}

/// What a HEADERS frame has beside its fragment.
#[derive(Debug, Default)]
pub struct BlockCut {
    pub priority: Vec<u8>,
    pub pad: Option<u8>,
}

/// The five bytes of a priority that depends on another stream than this (RFC 9113, 6.3; it means nothing any more).
pub fn priority(stream: u32, rng: &mut Rng) -> Vec<u8> {
    let other = (rng.below(20) as u32 * 2 + 1).wrapping_add(if rng.coin() { 1 } else { 0 });
    let other = if other == stream { 0 } else { other };
    let exclusive = u32::from(rng.coin()) << 31;
    let mut bytes = (other | exclusive).to_be_bytes().to_vec();
    bytes.push(rng.below(256) as u8);
    bytes
}

pub fn push_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    push(out, SETTINGS, 0, 0, &settings.iter().flat_map(pair).collect::<Vec<u8>>());
}

pub fn push_number(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    push(out, kind, 0, stream, &number.to_be_bytes());
}

pub fn push_goaway(out: &mut Vec<u8>, last: u32, code: u32, text: &[u8]) {
    push(out, GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes()[..], text].concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_as_it_was_written_and_not_before_it_is_whole() {
        let mut bytes = Vec::new();
        push_padded(&mut bytes, (DATA, END_STREAM), 5, b"content", Some(3));
        for end in 0..bytes.len() {
            assert_eq!(Frame::read(&bytes[..end], 100), Ok(None), "{end}");
        }
        let frame = Frame::read(&bytes, 100).unwrap().unwrap();
        assert_eq!((frame.kind, frame.flags, frame.stream), (DATA, END_STREAM | PADDED, 5));
        assert_eq!((frame.content(), frame.length()), (Ok(&b"content"[..]), bytes.len()));
        assert!(Frame::read(&bytes, 10).is_err());
    }

    #[test]
    fn a_block_is_whole_again_after_its_cuts() {
        let rng = &mut Rng::new(1);
        for most in [1, 7, 100, 1000] {
            let block = rng.bytes(150);
            let cut = BlockCut { priority: priority(3, rng), pad: rng.coin().then_some(9) };
            let mut bytes = Vec::new();
            push_block(&mut bytes, 3, END_STREAM, &block, most, &cut);
            let (mut rest, mut joined) = (&bytes[..], Vec::new());
            while let Some(frame) = Frame::read(rest, 2000).unwrap() {
                assert_eq!(frame.kind, if joined.is_empty() { HEADERS } else { CONTINUATION });
                joined.extend_from_slice(frame.content().unwrap());
                rest = &rest[frame.length()..];
                assert_eq!(frame.has(END_HEADERS), rest.is_empty());
            }
            assert_eq!(joined, block);
        }
    }
}
