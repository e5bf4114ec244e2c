//! A body of several parts of a file: `multipart/byteranges` (RFC 9110, 14.6).
//!
//! It plans the body and computes its exact length. It holds no bytes of the file.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrayvec::ArrayString;
use smallvec::SmallVec;

use super::inline_text::inline_text;
use super::range::{Span, Spans};
use super::validators::EntityTag;

const BOUNDARY_BYTES: usize = 32;

/// `multipart/byteranges; boundary=` and the boundary.
const CONTENT_TYPE_BYTES: usize = 31 + BOUNDARY_BYTES;

/// Generates unpredictable boundaries, so that no file can be made to contain one.
#[derive(Clone, Debug)]
pub struct Boundaries {
    secret: u64,
    count: u64,
}

impl Boundaries {
    /// One generator per worker. `secret` is random; in a simulation it is the seed.
    pub const fn new(secret: u64) -> Self {
        Self { secret, count: 0 }
    }

    /// The next boundary, for a file with this tag.
    pub fn next(&mut self, tag: &EntityTag) -> Boundary {
        self.count = self.count.wrapping_add(1);
        let half = |half: u8| {
            let mut hasher = DefaultHasher::new();
            (self.secret, self.count, half, tag.as_bytes()).hash(&mut hasher);
            hasher.finish()
        };
        Boundary(inline_text(format_args!("{:016x}{:016x}", half(0), half(1))))
    }

    /// 16 bytes that differ each time, for what is no secret.
    pub fn nonce(&mut self) -> [u8; 16] {
        self.count = self.count.wrapping_add(1);
        let half = |half: u8| {
            let mut hasher = DefaultHasher::new();
            (self.secret, self.count, half).hash(&mut hasher);
            hasher.finish()
        };
        (u128::from(half(0)) << 64 | u128::from(half(1))).to_be_bytes()
    }
}

/// The delimiter of the parts: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary(ArrayString<BOUNDARY_BYTES>);

/// The plan of a body: text and parts of the file, alternating.
#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: Boundary,
    /// The heads of all parts, and the closing delimiter.
    text: Vec<u8>,
    /// Each part, with the end of its head in `text`.
    parts: SmallVec<[(usize, Span); 4]>,
    content_length: u64,
}

/// One piece of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Literal text.
    Text(&'a [u8]),
    /// A part of the file.
    File(Span),
}

impl Multipart {
    /// Plans a body of these parts of a file of `size` bytes; `content_type` is the file's.
    pub fn new(spans: &Spans, size: u64, content_type: &[u8], boundary: Boundary) -> Self {
        let mut text = Vec::with_capacity((spans.len() + 1) * (140 + content_type.len()));
        let mut parts = SmallVec::with_capacity(spans.len());
        let mut delimiter: &[u8] = b"--";
        let mut content_length = 0_u64;
        for span in spans {
            let range = span.content_range(size);
            let pieces: [&[u8]; 7] = [
                delimiter,
                boundary.0.as_bytes(),
                b"\r\nContent-Type: ",
                content_type,
                b"\r\nContent-Range: ",
                range.as_bytes(),
                b"\r\n\r\n",
            ];
            text.extend(pieces.iter().copied().flatten());
            parts.push((text.len(), *span));
            content_length = content_length.saturating_add(span.length);
            delimiter = b"\r\n--";
        }
        let end: [&[u8]; 3] = [delimiter, boundary.0.as_bytes(), b"--\r\n"];
        text.extend(end.iter().copied().flatten());
        content_length = content_length.saturating_add(text.len() as u64);
        Self { boundary, text, parts, content_length }
    }

    /// The value of the response's `Content-Type`.
    pub fn content_type(&self) -> ArrayString<CONTENT_TYPE_BYTES> {
        inline_text(format_args!("multipart/byteranges; boundary={}", self.boundary.0))
    }

    /// The value of the response's `Content-Length`: the bytes of all pieces together.
    pub const fn content_length(&self) -> u64 {
        self.content_length
    }

    /// The piece at `index`, from zero: text at even indices, parts of the file at odd ones; text
    /// is last.
    pub fn piece(&self, index: usize) -> Option<Piece<'_>> {
        let number = index / 2;
        if index % 2 == 1 {
            return self.parts.get(number).map(|(_, span)| Piece::File(*span));
        }
        let start = match number.checked_sub(1) {
            Some(before) => self.parts.get(before)?.0,
            None => 0,
        };
        let end = self.parts.get(number).map_or(self.text.len(), |(end, _)| *end);
        Some(Piece::Text(&self.text[start..end]))
    }

    /// All pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        (0..).map_while(|index| self.piece(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::range::{Selection, select};
    use crate::http::validators::FileVersion;

    const FILE: FileVersion = FileVersion { size: 10, modified_ns: 0, inode: 1 };

    fn plan(range: &str) -> Multipart {
        let Selection::Several(spans) = select(Some(range.as_bytes()), FILE.size) else { panic!("several") };
        let boundary = Boundaries::new(1).next(&EntityTag::new(FILE, None));
        Multipart::new(&spans, FILE.size, b"text/plain", boundary)
    }

    fn body(plan: &Multipart, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for piece in plan.pieces() {
            match piece {
                Piece::Text(text) => body.extend_from_slice(text),
                Piece::File(span) => body.extend_from_slice(&file[span.offset as usize..=span.last() as usize]),
            }
        }
        body
    }

    #[test]
    fn a_body_of_two_parts_reads_as_the_standard_shows_it() {
        let plan = plan("bytes=0-1, -3");
        let boundary = plan.boundary.0;
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\nab\
             \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\nhij\
             \r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body(&plan, b"abcdefghij")).unwrap(), expected);
        assert_eq!(plan.content_length(), expected.len() as u64);
        assert_eq!(plan.content_type().as_str(), format!("multipart/byteranges; boundary={boundary}"));
    }

    #[test]
    fn the_promised_length_is_that_of_the_pieces_whatever_the_ranges() {
        for count in 2..=super::super::range::RANGES_MAX {
            let spans: Spans =
                (0..count as u64).map(|index| Span { offset: index * 1000, length: index + 1 }).collect();
            let boundary = Boundaries::new(1).next(&EntityTag::new(FILE, None));
            let plan = Multipart::new(&spans, 100_000, b"application/octet-stream", boundary);
            assert_eq!(body(&plan, &[0; 100_000]).len() as u64, plan.content_length());
            assert_eq!(plan.pieces().count(), 2 * count + 1);
            assert_eq!(plan.piece(2 * count + 1), None);
        }
    }

    #[test]
    fn no_two_bodies_share_a_boundary() {
        let tag = EntityTag::new(FILE, None);
        let mut boundaries = Boundaries::new(7);
        let first = boundaries.next(&tag);
        assert_ne!(first, boundaries.next(&tag));
        assert_ne!(boundaries.nonce(), boundaries.nonce());
        assert_ne!(first, Boundaries::new(8).next(&tag));
        assert_eq!(first, Boundaries::new(7).next(&tag));
    }
}
