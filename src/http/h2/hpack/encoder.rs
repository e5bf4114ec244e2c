//! Encodes response heads.
//!
//! The encoder keeps no dynamic table: it uses the static one, and literals. So a block depends on
//! nothing that was sent before. It can be kept with a file and sent on any connection, as those of
//! HTTP/1.1 are, and an idle connection holds nothing. A table would save about 100 bytes of a usual
//! response, of which `Date` changes each second, and costs a search for each field and the loss of
//! prepared responses. The first block on a connection begins with [`NO_TABLE`], so that the peer
//! need not keep one either, and no later setting of its table's size has to be answered;
//! [`super::super::BlockWriter`] sees to that.
//!
//! Strings are sent as they are. Huffman would save about 50 bytes of a usual response's 200, and
//! costs more instructions than all else in a response from memory; its values would also differ in
//! length from second to second.

use super::primitive::{push_integer, push_plain};
use super::static_table;
use crate::http::date::DateLine;
use crate::http::fields::Known;
use crate::http::head::Version;
use crate::http::response::HeadSink;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::status::Status;

/// An update of the table's size to 0. It must be the first byte of the first field block that is
/// sent on a connection (RFC 7541, 4.2).
pub const NO_TABLE: u8 = 0x20;

/// Encodes the field block of one response head. Its frames are written by
/// [`super::super::BlockWriter`].
///
/// Names are sent in lower case, values without white space around them. Fields of the connection
/// do not exist in HTTP/2 and are left out (RFC 9113, 8.2.2).
///
/// ```
/// use xps::internals::http::h2::HeadEncoder;
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

    /// Ends the block. Adds `Content-Length`, if it is known and the status allows it; for a response
    /// to HEAD, it is that of the body that GET would have. How long the body is otherwise, its frames
    /// say.
    #[must_use]
    pub fn end(mut self, framing: ResponseFraming) -> Vec<u8> {
        debug_assert!(!self.block.is_empty(), "a head has a status");
        match framing {
            ResponseFraming::Length(body_bytes) if !self.forbids_length => {
                let mut digits = itoa::Buffer::new();
                push_field(&mut self.block, b"content-length", digits.format(body_bytes).as_bytes());
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

    /// Ends the block of an upstream's response, interim or final, after
    /// [`write_response`](crate::http::forward::write_response) has written to this sink. Not of a
    /// 101, which becomes the 200 to an extended CONNECT: that has no length.
    #[must_use]
    pub fn end_forwarded(self, head: &ResponseHead<'_>) -> Vec<u8> {
        if head.status.is_informational() {
            self.end_interim()
        } else {
            self.end(head.declared_framing(Version::Http2))
        }
    }
}

impl HeadSink for HeadEncoder {
    fn reserve(&mut self, bytes: usize) {
        // An upper estimate of HTTP/1.1's text: most names are an index here.
        self.block.reserve(bytes / 2);
    }

    fn status(&mut self, status: Status, _: &[u8]) {
        debug_assert!(self.block.is_empty(), "a head has one status");
        debug_assert_ne!(status, Status::SWITCHING_PROTOCOLS, "HTTP/2 has no 101 (RFC 9113, 8.6)");
        self.forbids_length = status.forbids_length();
        push_exact_or_literal(&mut self.block, b":status", &status.digits());
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        if !is_of_connection(name) {
            push_field(&mut self.block, name, value.trim_ascii());
        }
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
            push_plain(block, name);
            let start = block.len() - name.len();
            block[start..].make_ascii_lowercase();
        }
    }
    push_plain(block, value);
}

/// Whether a field must stay out of the tables of those who pass it on (RFC 7541, 7.1.3): its value
/// could be guessed piece by piece.
fn is_secret(name: &[u8]) -> bool {
    const SECRET: [&str; 4] = ["set-cookie", "cookie", "authorization", "proxy-authorization"];
    SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

/// Whether a field concerns a connection of HTTP/1.
fn is_of_connection(name: &[u8]) -> bool {
    const NAMES: [Known; 5] =
        [Known::Connection, Known::KeepAlive, Known::ProxyConnection, Known::TransferEncoding, Known::Upgrade];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::forward::{ResponseContext, ResponseRules, write_response};
    use crate::http::h2::field_block::FieldBlock;
    use crate::http::h2::hpack::Decoder;
    use crate::http::head::HeadLimits;
    use crate::http::response_head::{Parsed, parse};

    #[test]
    fn statuses_of_the_static_table_are_one_byte() {
        let status = |status: Status| {
            let mut encoder = HeadEncoder::new();
            encoder.status(status, b"ignored");
            encoder.end(ResponseFraming::None)
        };
        assert_eq!(status(Status::OK), [0x88]);
        assert_eq!(status(Status::INTERNAL_SERVER_ERROR), [0x8e]);
        assert_eq!(status(Status::FOUND), b"\x08\x03302");
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

    #[test]
    fn fields_of_the_connection_are_left_out_and_values_have_no_white_space_around_them() {
        let mut encoder = HeadEncoder::new();
        encoder.status(Status::OK, b"");
        for name in ["Connection", "keep-alive", "Proxy-Connection", "Transfer-Encoding", "UPGRADE"] {
            encoder.field(name.as_bytes(), b"x");
        }
        encoder.field(b"X", b"\t a b ");
        encoder.field(b"Y", b" ");
        assert_eq!(encoder.end_interim(), b"\x88\x00\x01x\x03a b\x00\x01y\x00");
    }

    #[test]
    fn a_forwarded_head_declares_what_the_upstream_declared() {
        let forwarded = |text: &str, to_head| {
            let Ok(Parsed::Complete { head, .. }) = parse(text.as_bytes(), to_head, &HeadLimits::default()) else {
                panic!("{text}")
            };
            let mut encoder = HeadEncoder::new();
            let context = ResponseContext { date: &DateLine::new(0), set_cookie: None, passes_trailers: true };
            let rules = ResponseRules::default();
            write_response(&head, &rules, &context, &mut encoder);
            let (mut decoder, mut block) = (Decoder::new(), FieldBlock::new(&HeadLimits::default()));
            decoder.decode(&encoder.end_forwarded(&head), true, &mut block).unwrap();
            let fields = block.iter().filter(|field| field.name != b"date").map(|field| format!("{field:?}|"));
            fields.collect::<String>()
        };
        let fields = "Content-Length: 5\r\nConnection: x\r\nX: y\r\nSet-Cookie: z\r\nKeep-Alive: 5\r\n\r\n";
        let declared = ":status: 200|set-cookie: z|content-length: 5|";
        assert_eq!(forwarded(&format!("HTTP/1.1 200 OK\r\n{fields}"), false), declared);
        assert_eq!(forwarded(&format!("HTTP/1.1 200 OK\r\n{fields}"), true), declared);
        let chunked = "HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n";
        assert_eq!(forwarded(chunked, false), ":status: 404|x: y|");
        assert_eq!(forwarded("HTTP/1.1 103 \r\nLink: x\r\n\r\n", false), ":status: 103|link: x|");
        assert_eq!(forwarded("HTTP/1.0 200 OK\r\n\r\n", false), ":status: 200|");
    }
}
