//! Encodes response heads.
//!
//! The encoder keeps no dynamic table: it uses the static one, and Huffman where that is shorter.
//! So a block depends on nothing that was sent before. It can be kept with a file and sent on any
//! connection, as those of HTTP/1.1 are, and an idle connection holds nothing. A table would save
//! about 100 bytes of a usual response, of which `Date` changes each second, and costs a search for
//! each field and the loss of prepared responses. The first block on a connection begins with
//! [`NO_TABLE`], so that the peer need not keep one either, and no later setting of its table's size
//! has to be answered.

use super::primitive::{push_integer, push_text};
use super::static_table;
use crate::http::date::DateLine;
use crate::http::response::HeadSink;
use crate::http::response_head::ResponseFraming;
use crate::http::status::Status;

/// An update of the table's size to 0. It must be the first byte of the first field block that is
/// sent on a connection (RFC 7541, 4.2).
pub const NO_TABLE: u8 = 0x20;

/// Encodes the field block of one response head.
///
/// ```
/// use xps::internals::http::h2::hpack::HeadEncoder;
/// use xps::internals::http::{HeadBuilder, ResponseFraming, Status};
///
/// let mut encoder = HeadEncoder::new();
/// HeadBuilder::new(&mut encoder, Status::OK).field("Vary", "*");
/// assert_eq!(encoder.end(ResponseFraming::Length(7)), b"\x88\x0f\x2c\x01*\x0f\x0d\x017");
/// ```
#[derive(Debug, Default)]
pub struct HeadEncoder {
    block: Vec<u8>,
    /// Whether the status forbids a declared length.
    forbids_length: bool,
}

impl HeadEncoder {
    /// An encoder without memory; the first bytes allocate it.
    pub const fn new() -> Self {
        Self { block: Vec::new(), forbids_length: false }
    }

    /// Ends the block. Adds `Content-Length`, if it is known and the status allows it. How long the
    /// body is otherwise, its frames say.
    #[must_use]
    pub fn end(mut self, framing: ResponseFraming) -> Vec<u8> {
        debug_assert!(!self.block.is_empty(), "a head has a status");
        match framing {
            ResponseFraming::Length(body_bytes) if !self.forbids_length => {
                let mut digits = itoa::Buffer::new();
                self.field(b"content-length", digits.format(body_bytes).as_bytes());
            }
            ResponseFraming::Length(_)
            | ResponseFraming::None
            | ResponseFraming::Chunked
            | ResponseFraming::UntilClose => {}
        }
        self.block
    }

    /// Ends the block of an interim response (1xx), or of trailers.
    #[must_use]
    pub fn end_interim(self) -> Vec<u8> {
        self.block
    }
}

impl HeadSink for HeadEncoder {
    fn reserve(&mut self, bytes: usize) {
        // An upper estimate of HTTP/1.1's text.
        self.block.reserve(bytes / 2);
    }

    fn status(&mut self, status: Status, _: &[u8]) {
        debug_assert!(self.block.is_empty(), "a head has one status");
        debug_assert_ne!(status, Status::SWITCHING_PROTOCOLS, "HTTP/2 has no 101 (RFC 9113, 8.6)");
        self.forbids_length = status.forbids_length();
        push_exact_or_literal(&mut self.block, b":status", &status.digits());
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        push_field(&mut self.block, name, value);
    }

    fn date(&mut self, date: &DateLine) {
        push_field(&mut self.block, b"date", date.value());
    }
}

/// Appends a pseudo-header field, as an index if the static table has it with its value.
pub fn push_exact_or_literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    match static_table::index_of(name, value) {
        Some(index) => push_integer(block, 0x80, 7, index),
        None => push_field(block, name, value),
    }
}

/// Appends a field as a literal that goes into no table. The name is sent in lower case.
pub fn push_field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let pattern = if is_secret(name) { 0x10 } else { 0x00 };
    match static_table::index_of_name(name) {
        Some(index) => push_integer(block, pattern, 4, index),
        None => {
            block.push(pattern);
            push_text(block, name.iter().map(u8::to_ascii_lowercase));
        }
    }
    push_text(block, value.iter().copied());
}

/// Whether a field must stay out of the tables of those who pass it on (RFC 7541, 7.1.3): its value
/// could be guessed piece by piece.
fn is_secret(name: &[u8]) -> bool {
    const SECRET: [&str; 4] = ["set-cookie", "cookie", "authorization", "proxy-authorization"];
    SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_the_static_table_are_one_byte() {
        let status = |status: Status| {
            let mut encoder = HeadEncoder::new();
            encoder.status(status, b"ignored");
            encoder.end(ResponseFraming::None)
        };
        assert_eq!(status(Status::OK), [0x88]);
        assert_eq!(status(Status::INTERNAL_SERVER_ERROR), [0x8e]);
        assert_eq!(status(Status::FOUND), [0x08, 0x82, 0x64, 0x02]);
    }

    #[test]
    fn names_are_sent_in_lower_case_and_by_index() {
        let field = |name: &str, value: &str| {
            let mut block = Vec::new();
            push_field(&mut block, name.as_bytes(), value.as_bytes());
            block
        };
        assert_eq!(field("ETag", "<"), [0x0f, 34 - 15, 1, b'<']);
        assert_eq!(field("X", "<"), [0x00, 1, b'x', 1, b'<']);
        assert_eq!(field("Set-Cookie", "<"), [0x1f, 55 - 15, 1, b'<'], "never indexed");
    }

    #[test]
    fn a_length_is_declared_where_the_status_allows_it() {
        let framed = |status, framing| {
            let mut encoder = HeadEncoder::new();
            encoder.status(status, b"");
            encoder.end(framing)
        };
        assert_eq!(framed(Status::OK, ResponseFraming::Length(7)), b"\x88\x0f\x0d\x017");
        assert_eq!(framed(Status::NO_CONTENT, ResponseFraming::Length(0)), b"\x89");
        assert_eq!(framed(Status::NOT_MODIFIED, ResponseFraming::Length(7)), b"\x8b\x0f\x0d\x017");
        for framing in [ResponseFraming::None, ResponseFraming::Chunked, ResponseFraming::UntilClose] {
            assert_eq!(framed(Status::OK, framing), b"\x88");
        }
    }

    #[test]
    fn a_date_is_the_field_of_its_line() {
        let mut encoder = HeadEncoder::new();
        encoder.date(&DateLine::new(0));
        let mut block = Vec::new();
        push_field(&mut block, b"date", b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(encoder.end_interim(), block);
    }
}
