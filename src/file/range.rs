//! Which part of a file a request asks for: the `Range` field (RFC 9110, 14).
//!
//! It selects spans and says `Content-Range`; how several spans are laid out in one body is [`multipart`](super::multipart)'s.

use smallvec::SmallVec;

use super::inline_text::InlineText;
use super::ows;

/// The most ranges of one request that are served; a request for more gets the whole file.
pub const RANGES_MAX: usize = 16;

/// `bytes 1-2/3` with numbers of up to 20 digits.
const CONTENT_RANGE_BYTES_MAX: usize = 6 + 20 + 1 + 20 + 1 + 20;

/// The value of a `Content-Range` field.
pub type ContentRange = InlineText<CONTENT_RANGE_BYTES_MAX>;

/// Consecutive bytes of a file, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where the first of them stands.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

impl Span {
    /// Where the last byte stands.
    pub const fn last(self) -> u64 {
        self.offset + (self.length - 1)
    }

    /// The `Content-Range` of this part of a file of `size` bytes.
    pub fn content_range(self, size: u64) -> ContentRange {
        InlineText::format(format_args!("bytes {}-{}/{size}", self.offset, self.last()))
    }

    const fn overlaps(self, other: Self) -> bool {
        self.offset <= other.last() && other.offset <= self.last()
    }
}

/// The `Content-Range` that goes with 416.
pub fn unsatisfied_content_range(size: u64) -> ContentRange {
    InlineText::format(format_args!("bytes */{size}"))
}

/// Spans in the order in which they were asked for.
pub type Spans = SmallVec<[Span; 4]>;

/// What of the file is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200: all of it.
    Whole,
    /// 206: one part.
    One(Span),
    /// 206 as `multipart/byteranges`: two parts or more, none overlapping another.
    Several(Spans),
    /// 416: nothing that was asked for is there.
    Unsatisfiable,
}

/// Reads a `Range` value for a file of `size` bytes.
///
/// What is malformed, or in a unit other than bytes, is as if it were not there. So are more than [`RANGES_MAX`] ranges,
/// and overlapping ones: they ask for more than the file has, which only an attack needs (RFC 9110, 17.15). Positions
/// beyond 2⁶⁴ are taken for 2⁶⁴ − 1.
pub fn select(range: Option<&[u8]>, size: u64) -> Selection {
    let Some(set) = range.and_then(range_set) else { return Selection::Whole };
    let mut spans = Spans::new();
    let mut count = 0;
    for element in set.split(|byte| *byte == b',').map(ows::trim).filter(|element| !element.is_empty()) {
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
    let (unit, set) = ows::trim(value).split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

/// One range as it was asked for.
#[derive(Clone, Copy)]
enum Spec {
    /// `first-` or `first-last`
    From { first: u64, last: u64 },
    /// `-length`: the end of the file.
    Suffix(u64),
}

/// What a range is of a file of a certain size.
enum Resolved {
    Span(Span),
    /// It begins behind the end, or has no bytes.
    Nothing,
    /// The end of an empty file: satisfiable (RFC 9110, 14.1.2), but `Content-Range` has no way to say it.
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

/// Decimal digits, at least one; too large a number is the largest.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests;
