//! Preconditions of a request: `If-Match` and the like (RFC 9110, 13).
//!
//! It knows field values and validators, not messages. The session sends the response.
//!
//! ```text
//!   If-Match ──────────────── none matches ─────────────────────────────► 412
//!     │ absent: If-Unmodified-Since ── modified since ──────────────────► 412
//!     ▼ holds
//!   If-None-Match ─────────── one matches ── GET, HEAD ─────────────────► 304
//!     │                                   └─ other methods ─────────────► 412
//!     │ absent, GET, HEAD: If-Modified-Since ── not modified since ─────► 304
//!     ▼ holds
//!   Proceed
//! ```

use super::token::{trim, trim_start};
use super::validators::Validators;

/// The values of a request's conditional fields; several lines of one field are joined with commas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// `If-Match`
    pub if_match: Option<&'a [u8]>,
    /// `If-None-Match`
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range`
    pub if_range: Option<&'a [u8]>,
}

/// The result of evaluating the preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreconditionResult {
    /// The preconditions hold: respond as if there were none.
    Proceed,
    /// 304: the client has this version.
    NotModified,
    /// 412: the file is not the version that the client requires.
    PreconditionFailed,
}

/// Evaluates the preconditions for an existing file, in the order of RFC 9110, 13.2.2.
///
/// An invalid date is ignored. In a malformed list only the tags before the error count. A tag that
/// is lost so costs a transfer (`If-None-Match`) or a 412 (`If-Match`), but never yields a wrong
/// version.
pub fn evaluate(conditions: &Conditions<'_>, validators: &Validators, is_get_or_head: bool) -> PreconditionResult {
    if let Some(list) = conditions.if_match {
        if !matches(list, validators, Comparison::Strong) {
            return PreconditionResult::PreconditionFailed;
        }
    } else if let Some(date) = conditions.if_unmodified_since.and_then(parse_date)
        && validators.modified_s() > date
    {
        return PreconditionResult::PreconditionFailed;
    }
    if let Some(list) = conditions.if_none_match {
        return match (matches(list, validators, Comparison::Weak), is_get_or_head) {
            (false, _) => PreconditionResult::Proceed,
            (true, true) => PreconditionResult::NotModified,
            (true, false) => PreconditionResult::PreconditionFailed,
        };
    }
    match conditions.if_modified_since.and_then(parse_date) {
        Some(date) if is_get_or_head && validators.modified_s() <= date => PreconditionResult::NotModified,
        Some(_) | None => PreconditionResult::Proceed,
    }
}

/// Whether `Range` applies: if there is no `If-Range`, or if the file is still the version that it
/// names (RFC 9110, 13.1.5). To be called after [`evaluate`] returned
/// [`PreconditionResult::Proceed`].
pub fn allows_range(conditions: &Conditions<'_>, validators: &Validators) -> bool {
    let Some(value) = conditions.if_range.map(trim) else { return true };
    match TagList(value).next() {
        Some(tag) => tag.len() == value.len() && Comparison::Strong.holds(tag, validators),
        None => validators.is_date_strong() && parse_date(value) == Some(validators.modified_s()),
    }
}

/// Comparison of entity tags (RFC 9110, 8.8.3.2). The server's own are always strong.
#[derive(Clone, Copy)]
enum Comparison {
    /// Equal, and both strong.
    Strong,
    /// Equal, whether or not one is weak.
    Weak,
}

impl Comparison {
    fn holds(self, tag: &[u8], validators: &Validators) -> bool {
        let tag = match self {
            Self::Strong => tag,
            Self::Weak => tag.strip_prefix(b"W/").unwrap_or(tag),
        };
        tag == validators.tag().as_bytes()
    }
}

/// Whether a list contains the tag, or is `*`, which matches any existing file.
fn matches(list: &[u8], validators: &Validators, comparison: Comparison) -> bool {
    trim(list) == b"*" || TagList(list).any(|tag| comparison.holds(tag, validators))
}

/// The entity tags of a list, each with its quotes and its `W/`. It ends at the first error.
struct TagList<'a>(&'a [u8]);

impl<'a> Iterator for TagList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        // Empty elements are permitted (RFC 9110, 5.6.1.2).
        let start = self.0.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let list = &self.0[start..];
        self.0 = &[];
        let opening = if list.starts_with(b"W/") { 2 } else { 0 };
        if list.get(opening) != Some(&b'"') {
            return None;
        }
        let closing = opening + 1 + list[opening + 1..].iter().position(|byte| !is_tag_byte(*byte))?;
        if list[closing] != b'"' {
            return None;
        }
        let (tag, rest) = list.split_at(closing + 1);
        let is_separated = matches!(trim_start(rest).first(), None | Some(b','));
        self.0 = rest;
        is_separated.then_some(tag)
    }
}

/// `etagc` of RFC 9110, 8.8.3: commas too, but no blank, quote or control character.
const fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// Parses a date in any of the three forms of RFC 9110, 5.6.7, to seconds since 1970.
fn parse_date(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(trim(value)).ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests;
