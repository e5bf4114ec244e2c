//! The `Range` field: which parts of a file a request selects (RFC 9110, 14).
//!
//! It yields spans and `Content-Range` values. [`multipart`](super::multipart) lays out several
//! spans in one body.

use arrayvec::ArrayString;
use smallvec::SmallVec;

use super::inline_text::inline_text;
use super::token::trim;

/// Maximum of ranges per request; a request with more gets the whole file.
pub const RANGES_MAX: usize = 16;

/// `bytes 1-2/3` with numbers of up to 20 digits.
const CONTENT_RANGE_BYTES_MAX: usize = 6 + 20 + 1 + 20 + 1 + 20;

/// The value of a `Content-Range` field.
pub type ContentRange = ArrayString<CONTENT_RANGE_BYTES_MAX>;

/// Consecutive bytes of a file, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position of the first byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Span {
    /// Position of the last byte.
    pub const fn last(self) -> u64 {
        self.offset + (self.length - 1)
    }

    /// The `Content-Range` of this part of a file of `size` bytes.
    pub fn content_range(self, size: u64) -> ContentRange {
        inline_text(format_args!("bytes {}-{}/{size}", self.offset, self.last()))
    }

    const fn overlaps(self, other: Self) -> bool {
        self.offset <= other.last() && other.offset <= self.last()
    }
}

/// The `Content-Range` of a 416 response.
pub fn unsatisfied_content_range(size: u64) -> ContentRange {
    inline_text(format_args!("bytes */{size}"))
}

/// Spans in the order of the request.
pub type Spans = SmallVec<[Span; 4]>;

/// The parts of the file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200: all of it.
    Whole,
    /// 206: one part.
    One(Span),
    /// 206 as `multipart/byteranges`: two parts or more, none overlapping another.
    Several(Spans),
    /// 416: no requested range is within the file.
    Unsatisfiable,
}

/// Reads a `Range` value for a file of `size` bytes.
///
/// A malformed value, or one in a unit other than bytes, is ignored. So are values with more than
/// [`RANGES_MAX`] ranges, and with overlapping ranges: they select more bytes than the file has,
/// which only an attack needs (RFC 9110, 17.15). Positions beyond 2⁶⁴ − 1 count as 2⁶⁴ − 1.
pub fn select(range: Option<&[u8]>, size: u64) -> Selection {
    let Some(set) = range.and_then(range_set) else { return Selection::Whole };
    let mut spans = Spans::new();
    let mut count = 0;
    for element in set.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty()) {
        count += 1;
        let Some(spec) = Spec::parse(element).filter(|_| count <= RANGES_MAX) else { return Selection::Whole };
        match spec.resolve(size) {
            Resolved::Span(span) if spans.iter().any(|other| span.overlaps(*other)) => return Selection::Whole,
            Resolved::Span(span) => spans.push(span),
            Resolved::Nothing => {}
            Resolved::EmptyFile => return Selection::Whole,
        }
    }
    match spans[..] {
        [] if count == 0 => Selection::Whole,
        [] => Selection::Unsatisfiable,
        [span] => Selection::One(span),
        [..] => Selection::Several(spans),
    }
}

/// What follows `bytes=`; units are case-insensitive.
fn range_set(value: &[u8]) -> Option<&[u8]> {
    let (unit, set) = trim(value).split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

/// One range of the request.
#[derive(Clone, Copy)]
enum Spec {
    /// `first-` or `first-last`
    From { first: u64, last: u64 },
    /// `-length`: the end of the file.
    Suffix(u64),
}

/// A range applied to a file of a certain size.
enum Resolved {
    Span(Span),
    /// It begins after the end, or has no bytes.
    Nothing,
    /// The suffix of an empty file: satisfiable (RFC 9110, 14.1.2), but `Content-Range` cannot
    /// express it.
    EmptyFile,
}

impl Spec {
    fn parse(element: &[u8]) -> Option<Self> {
        let dash = element.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (&element[..dash], &element[dash + 1..]);
        if first.is_empty() {
            return parse_number(last).map(Self::Suffix);
        }
        let first = parse_number(first)?;
        let last = if last.is_empty() { u64::MAX } else { parse_number(last)? };
        (first <= last).then_some(Self::From { first, last })
    }

    fn resolve(self, size: u64) -> Resolved {
        match self {
            Self::From { first, .. } if first >= size => Resolved::Nothing,
            Self::From { first, last } => {
                Resolved::Span(Span { offset: first, length: last.min(size - 1) - first + 1 })
            }
            Self::Suffix(0) => Resolved::Nothing,
            Self::Suffix(_) if size == 0 => Resolved::EmptyFile,
            Self::Suffix(length) => {
                let length = length.min(size);
                Resolved::Span(Span { offset: size - length, length })
            }
        }
    }
}

/// Parses decimal digits, at least one. A number that is too large becomes the maximum.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests;
