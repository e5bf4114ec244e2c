//! Writes a response head, field by field, for any version of HTTP.
//!
//! A [`HeadSink`] encodes what it is given; [`HeadBuilder`] applies the configured changes of fields
//! on the way there. No value can add or break lines: a CR, LF or NUL in a value becomes a space (RFC
//! 9110, 5.5), and a field whose name is not a token is left out. The content of a response is
//! decided elsewhere, and so is what becomes of the connection.

use std::borrow::Cow;

use super::date::DateLine;
use super::status::Status;
use super::token::{is_token, list};

/// Takes the status and the fields of a response, in the order in which they are sent, and encodes
/// them for one version of HTTP.
pub trait HeadSink {
    /// Prepares for a head of about this many bytes.
    fn reserve(&mut self, bytes: usize);

    /// The status, once and first. The reason phrase is for versions that have one.
    fn status(&mut self, status: Status, reason: &[u8]);

    /// A field. The name is a token, and the value has no CR, LF or NUL. No field of the connection
    /// and none of the framing.
    fn field(&mut self, name: &[u8], value: &[u8]);

    /// `Date`.
    fn date(&mut self, date: &DateLine);
}

/// Writes a response head to a sink.
///
/// ```
/// use xps::internals::http::{HeadBuilder, HeadEncoder, HeadEnd, ResponseFraming, Status, Version};
///
/// let mut encoder = HeadEncoder::new();
/// HeadBuilder::new(&mut encoder, Status::FOUND).server(Some("xps")).own_field("Location", "/a");
/// let end = HeadEnd { framing: ResponseFraming::Length(0), keep_alive: false, version: Version::Http11 };
/// let head = "HTTP/1.1 302 Found\r\nServer: xps\r\nLocation: /a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// assert_eq!(encoder.end(end), head.as_bytes());
/// ```
#[derive(Debug)]
pub struct HeadBuilder<'v, S> {
    sink: &'v mut S,
    without: &'v [String],
    /// The `Vary` member of this server, to be merged into a configured `Vary` that replaces it.
    vary: &'static str,
    /// Bit set of the `OWN_FIELDS` that were written.
    own: u8,
}

/// Bytes that most heads have at most.
const HEAD_BYTES: usize = 512;

/// Fields that describe the body or explain the status. If [`HeadBuilder::own_field`] wrote
/// one, a configured one in its place would change the meaning of the response.
const OWN_FIELDS: [&str; 5] = ["Allow", "Content-Encoding", "Content-Range", "Content-Type", "Location"];

impl<'v, S: HeadSink> HeadBuilder<'v, S> {
    /// Begins with the status.
    pub fn new(sink: &'v mut S, status: Status) -> Self {
        sink.reserve(HEAD_BYTES);
        sink.status(status, status.reason().as_bytes());
        Self { sink, without: &[], vary: "", own: 0 }
    }

    /// Leaves these fields out from now on, except `Date`, which is always written.
    pub fn without(self, fields: &'v [String]) -> Self {
        Self { without: fields, ..self }
    }

    /// Writes a field, unless it is to be left out.
    pub fn field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if self.leaves_out(name) { self } else { self.write(name, value.as_ref()) }
    }

    /// Writes one of `OWN_FIELDS`, even if it is to be left out. Later fields of that name are not
    /// written.
    pub fn own_field(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        debug_assert_ne!(own_bit(name), 0, "{name} is not one of them");
        self.own |= own_bit(name);
        self.write(name, value.as_ref())
    }

    /// Writes `Vary` with this member. If `Vary` is to be left out because one is configured, the
    /// member is added to that one.
    pub fn vary(self, member: &'static str) -> Self {
        if self.leaves_out("Vary") { Self { vary: member, ..self } } else { self.write("Vary", member.as_bytes()) }
    }

    fn leaves_out(&self, name: &str) -> bool {
        self.without.iter().any(|field| field.eq_ignore_ascii_case(name))
    }

    /// Writes a configured field, even if its name is to be left out: it is the replacement.
    pub fn extra_field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        if self.own != 0 && self.own & own_bit(name) != 0 {
            return self;
        }
        if !self.vary.is_empty() && name.eq_ignore_ascii_case("Vary") {
            let member = std::mem::take(&mut self.vary);
            if !names_member(value, member) {
                return self.write(name, &[value, b", ", member.as_bytes()].concat());
            }
        }
        self.write(name, value)
    }

    fn write(self, name: &str, value: &[u8]) -> Self {
        debug_assert!(is_token(name.as_bytes()), "{name:?} is not a field's name");
        if is_token(name.as_bytes()) {
            self.sink.field(name.as_bytes(), &without_line_breaks(value));
        }
        self
    }

    /// Writes `Date`.
    pub fn date(self, date: &DateLine) -> Self {
        self.sink.date(date);
        self
    }

    /// Writes `Server`, if a name is given.
    pub fn server(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => self.field("Server", name),
            None => self,
        }
    }
}

/// The bit of one of `OWN_FIELDS`; 0 for other names.
fn own_bit(name: &str) -> u8 {
    OWN_FIELDS.iter().position(|own| own.eq_ignore_ascii_case(name)).map_or(0, |index| 1 << index)
}

/// Whether a `Vary` value names this field or `*`.
pub(super) fn names_member(vary: &[u8], member: &str) -> bool {
    list(vary).any(|name| name == b"*" || name.eq_ignore_ascii_case(member.as_bytes()))
}

/// Appends `number` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A value that cannot break its line: CR, LF and NUL become spaces (RFC 9110, 5.5).
pub(crate) fn without_line_breaks(value: &[u8]) -> Cow<'_, [u8]> {
    // Without branches, so that the compiler can vectorise it.
    if value.iter().fold(false, |found, &byte| found | is_line_break(byte)) {
        value.iter().map(|&byte| if is_line_break(byte) { b' ' } else { byte }).collect()
    } else {
        Cow::Borrowed(value)
    }
}

const fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what it is given, one line for each part.
    #[derive(Default)]
    struct Notes(Vec<u8>);

    impl HeadSink for Notes {
        fn reserve(&mut self, _: usize) {}

        fn status(&mut self, status: Status, reason: &[u8]) {
            self.0.extend_from_slice(&[&status.digits(), &b" "[..], reason, b"|"].concat());
        }

        fn field(&mut self, name: &[u8], value: &[u8]) {
            self.0.extend_from_slice(&[name, b": ", value, b"|"].concat());
        }

        fn date(&mut self, _: &DateLine) {
            self.0.extend_from_slice(b"the date|");
        }
    }

    impl Notes {
        fn text(self) -> String {
            String::from_utf8(self.0).unwrap()
        }
    }

    fn written(write: impl FnOnce(HeadBuilder<'_, Notes>), status: Status) -> String {
        let mut notes = Notes::default();
        write(HeadBuilder::new(&mut notes, status));
        notes.text()
    }

    #[test]
    fn parts_come_in_the_order_in_which_they_are_written() {
        let date = DateLine::new(0);
        let head = written(
            |head| {
                head.date(&date).server(Some("xps")).field("X", "y").server(None);
            },
            Status::NOT_FOUND,
        );
        assert_eq!(head, "404 Not Found|the date|Server: xps|X: y|");
    }

    #[test]
    fn row_55_a_configured_vary_takes_our_member_in() {
        let replaced = ["vary".to_owned()];
        let with = |configured: &[&str]| {
            let head = |head: HeadBuilder<'_, Notes>| {
                let mut head = head.without(&replaced).vary("Accept-Encoding");
                for value in configured {
                    head = head.extra_field("Vary", value);
                }
            };
            written(head, Status::OK).strip_prefix("200 OK|").unwrap().to_owned()
        };
        assert_eq!(with(&["Origin"]), "Vary: Origin, Accept-Encoding|");
        assert_eq!(with(&["accept-encoding, Origin"]), "Vary: accept-encoding, Origin|");
        assert_eq!(with(&["*"]), "Vary: *|");
        assert_eq!(with(&["A", "B"]), "Vary: A, Accept-Encoding|Vary: B|");
        assert_eq!(with(&[]), "", "it was left out for good");
        let vary = |head: HeadBuilder<'_, Notes>| {
            head.vary("Accept");
        };
        assert_eq!(written(vary, Status::OK), "200 OK|Vary: Accept|");
    }

    #[test]
    fn what_says_what_the_body_is_cannot_be_replaced() {
        let replaced = ["content-encoding".to_owned(), "X".to_owned()];
        let mut notes = Notes::default();
        HeadBuilder::new(&mut notes, Status::OK)
            .without(&replaced)
            .own_field("Content-Encoding", "gzip")
            .extra_field("content-encoding", "x")
            .extra_field("Content-Type", "a/b");
        assert_eq!(notes.text(), "200 OK|Content-Encoding: gzip|Content-Type: a/b|");
    }

    #[test]
    fn row_82_no_value_breaks_a_line() {
        let mut notes = Notes::default();
        HeadBuilder::new(&mut notes, Status::FOUND).field("Location", "/a\r\nSet-Cookie: x\0").server(Some("a\nb"));
        assert_eq!(notes.text(), "302 Found|Location: /a  Set-Cookie: x |Server: a b|");
    }

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 612, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
