//! Writes the field blocks of one connection as frames.

use super::frame::{FRAME_BYTES_MIN, HEADER_BYTES, StreamId, headers_header, push_headers};
use super::hpack::encoder::NO_TABLE;

/// What the connection adds to blocks of [`super::HeadEncoder`]: frames, and before the first block
/// the statement that no dynamic table is used.
///
/// ```
/// use xps::internals::http::h2::{BlockWriter, StreamId};
///
/// let (mut writer, mut out) = (BlockWriter::new(), Vec::new());
/// writer.push(&mut out, StreamId::new(1), b"\x88", true);
/// assert_eq!(out, b"\x00\x00\x02\x01\x05\x00\x00\x00\x01\x20\x88");
/// ```
#[derive(Clone, Debug, Default)]
pub struct BlockWriter {
    /// Whether a block was written.
    has_begun: bool,
}

impl BlockWriter {
    /// A writer for a new connection.
    pub const fn new() -> Self {
        Self { has_begun: false }
    }

    /// The header of the frame, if a block of this length goes into one as it is: neither the first one, nor one that is
    /// longer than a frame. [`BlockWriter::push`] writes every block.
    pub fn frame_header(&self, stream: StreamId, block_bytes: usize, end_stream: bool) -> Option<[u8; HEADER_BYTES]> {
        let length = u32::try_from(block_bytes).ok().filter(|length| *length <= FRAME_BYTES_MIN)?;
        self.has_begun.then(|| headers_header(stream, length, end_stream))
    }

    /// Appends HEADERS, and CONTINUATIONs if the block is longer than the 16,384 bytes that each peer
    /// accepts in a frame. No other frame may get between them. `end_stream`: no body and no trailers
    /// follow.
    pub fn push(&mut self, out: &mut Vec<u8>, stream: StreamId, block: &[u8], end_stream: bool) {
        if self.has_begun {
            return push_headers(out, stream, block, end_stream, FRAME_BYTES_MIN);
        }
        self.has_begun = true;
        push_headers(out, stream, &[&[NO_TABLE], block].concat(), end_stream, FRAME_BYTES_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2::frame::{Frame, FrameHeader, HEADER_BYTES};

    /// The lengths of the frames' payloads, and the block in them.
    fn frames(mut bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
        let (mut lengths, mut block) = (Vec::new(), Vec::new());
        while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
            let header = FrameHeader::parse(header);
            let (payload, after) = rest.split_at(header.length as usize);
            let (part, end_stream, end_headers) = match Frame::parse(header, payload).unwrap() {
                Frame::Headers { fragment, end_stream, end_headers, .. } if lengths.is_empty() => {
                    (fragment, end_stream, end_headers)
                }
                Frame::Continuation { fragment, end_headers, .. } if !lengths.is_empty() => {
                    (fragment, true, end_headers)
                }
                other => panic!("{other:?}"),
            };
            assert!(end_stream && header.stream == StreamId::new(3));
            assert_eq!(end_headers, after.is_empty());
            lengths.push(payload.len());
            block.extend_from_slice(part);
            bytes = after;
        }
        (lengths, block)
    }

    #[test]
    fn the_first_block_says_that_there_is_no_table() {
        let mut writer = BlockWriter::new();
        for expected in [&b"\x20\x88"[..], b"\x88", b"\x88"] {
            let mut out = Vec::new();
            writer.push(&mut out, StreamId::new(3), b"\x88", true);
            assert_eq!(frames(&out).1, expected);
        }
    }

    #[test]
    fn the_header_of_a_block_in_one_frame_is_that_of_the_frame() {
        let mut writer = BlockWriter::new();
        assert_eq!(writer.frame_header(StreamId::new(3), 1, true), None, "the first has more in front");
        writer.push(&mut Vec::new(), StreamId::new(1), b"\x88", true);
        for (length, is_end) in [(0, true), (1, false), (16_384, true)] {
            let mut out = Vec::new();
            writer.push(&mut out, StreamId::new(3), &vec![0x88; length], is_end);
            let header = writer.frame_header(StreamId::new(3), length, is_end);
            assert_eq!(header.as_ref().map(|header| &header[..]), out.get(..HEADER_BYTES));
        }
        assert_eq!(writer.frame_header(StreamId::new(3), 16_385, true), None);
    }

    #[test]
    fn a_long_block_is_cut_into_frames() {
        for (length, lengths) in
            [(16_383, &[16_384][..]), (16_384, &[16_384, 1]), (3 * 16_384, &[16_384, 16_384, 16_384, 1])]
        {
            let mut out = Vec::new();
            BlockWriter::new().push(&mut out, StreamId::new(3), &vec![0x88; length], true);
            let (found, block) = frames(&out);
            assert_eq!((found.as_slice(), block.len()), (lengths, length + 1));
        }
    }
}
