//! What request and response heads share: limits, versions, field lines.
//!
//! `httparse` finds the field lines. This module checks that every line ends as required and that
//! there is no other CR or LF. It does not know first lines, nor the meaning of any field but
//! `Connection`.

use super::fields::{Fields, Known};
use super::status::{ErrorResponse, Status};
use super::token::list;

/// Upper bound of `head_bytes_max`: positions in a head are stored in 16 bits.
pub const HEAD_BYTES_CEILING: usize = 1 << 16;

/// Upper bound of `fields_max`.
pub const FIELDS_CEILING: usize = 100;

/// Field lines for which memory is prepared first. More lines need a second pass.
pub(super) const FIELDS_USUAL: usize = 32;

/// Limits on the size of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, including empty lines before it. At most [`HEAD_BYTES_CEILING`];
    /// the configuration rejects more.
    pub head_bytes_max: usize,
    /// Bytes of the first line with its CRLF: the request line or the status line.
    pub request_line_bytes_max: usize,
    /// Number of field lines. At most [`FIELDS_CEILING`]; the configuration rejects more.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    /// 32 KiB, of which the first line 8 KiB, and 100 fields.
    fn default() -> Self {
        Self { head_bytes_max: 32 * 1024, request_line_bytes_max: 8 * 1024, fields_max: FIELDS_CEILING }
    }
}

/// How the lines of a head end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// CRLF: for requests, which another server could read differently.
    Crlf,
    /// CRLF or LF, mixed in any way (RFC 9112, 2.2): for responses, which are rewritten for the
    /// client.
    CrlfOrLf,
}

/// The HTTP version. A higher minor version is treated as 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// Whether `bytes` match the beginning of `form`, in which `d` stands for a digit.
pub(super) fn is_prefix_of_form(bytes: &[u8], form: &[u8]) -> bool {
    let mut pairs = bytes.iter().zip(form);
    pairs.all(|(&byte, &form)| byte == form || (form == b'd' && byte.is_ascii_digit()))
}

/// Parses the field lines at the start of `bytes` into `fields`. Returns their length including the
/// final empty line, or `None` if they are incomplete.
pub(super) fn field_lines<'b>(
    bytes: &'b [u8],
    fields_max: usize,
    ends: LineEnds,
    fields: &mut Fields<'b>,
) -> Result<Option<usize>, ErrorResponse> {
    let fields_max = fields_max.min(FIELDS_CEILING);
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_USUAL];
    let room = fields_max.min(FIELDS_USUAL);
    let length = match field_lines_into(bytes, &mut lines[..room], fields) {
        Err(httparse::Error::TooManyHeaders) if room < fields_max => many_field_lines(bytes, fields_max, fields),
        result => result,
    };
    let length = length.map_err(field_error)?;
    let head = &bytes[..length.unwrap_or(bytes.len())];
    match ends {
        LineEnds::Crlf if has_lone_cr_or_lf(head) => Err(ErrorResponse::bad_request("a line does not end in CRLF")),
        LineEnds::CrlfOrLf if has_lone_cr(head) => {
            Err(ErrorResponse::bad_request("a CR stands before something other than LF"))
        }
        LineEnds::Crlf | LineEnds::CrlfOrLf => Ok(length),
    }
}

/// Parses a head with unusually many lines. Separate, because initialising this large array on the
/// stack takes time.
#[cold]
fn many_field_lines<'b>(
    bytes: &'b [u8],
    fields_max: usize,
    fields: &mut Fields<'b>,
) -> Result<Option<usize>, httparse::Error> {
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_CEILING];
    field_lines_into(bytes, &mut lines[..fields_max], fields)
}

fn field_lines_into<'b>(
    bytes: &'b [u8],
    room: &mut [httparse::Header<'b>],
    fields: &mut Fields<'b>,
) -> Result<Option<usize>, httparse::Error> {
    match httparse::parse_headers(bytes, room)? {
        httparse::Status::Partial => Ok(None),
        // No line can lie outside of the parsed bytes. If one did, the head must not be used.
        httparse::Status::Complete((_, lines)) if !fields.index(bytes, lines) => Err(httparse::Error::HeaderValue),
        httparse::Status::Complete((length, _)) => Ok(Some(length)),
    }
}

const fn field_error(error: httparse::Error) -> ErrorResponse {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => {
            ErrorResponse::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many fields")
        }
        Error::HeaderName => ErrorResponse::bad_request("a field's name is not a token"),
        Error::HeaderValue => ErrorResponse::bad_request("a field's value has a control character"),
        Error::NewLine => ErrorResponse::bad_request("a line does not end in CRLF"),
        Error::Status | Error::Token | Error::Version => ErrorResponse::bad_request("a field line is malformed"),
    }
}

/// Whether `bytes`, which follow a CRLF, contain a CR or LF that is not part of a CRLF. A CR at the
/// very end is not checked.
///
/// Without branches, so that the compiler can vectorise it.
fn has_lone_cr_or_lf(bytes: &[u8]) -> bool {
    let [first, rest @ ..] = bytes else { return false };
    let is_torn = |byte: u8, next: u8| u8::from(byte == b'\r') ^ u8::from(next == b'\n');
    let torn = bytes.iter().zip(rest).fold(0, |torn, (&byte, &next)| torn | is_torn(byte, next));
    *first == b'\n' || torn != 0
}

/// Whether `bytes` contain a CR before a byte other than LF. A CR at the very end is not checked.
fn has_lone_cr(bytes: &[u8]) -> bool {
    let is_lone = |byte: u8, next: u8| u8::from(byte == b'\r') & u8::from(next != b'\n');
    bytes.iter().zip(bytes.iter().skip(1)).fold(0, |found, (&byte, &next)| found | is_lone(byte, next)) != 0
}

/// Fields for message framing and connection management.
const OWN_FIELDS: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Whether a field is for message framing or connection management. The sender of a message writes
/// these fields itself, and rules must not set them.
pub fn is_own(field: &str) -> bool {
    OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(field))
}

/// Whether the sender wants to keep this connection (RFC 9112, 9.3).
pub(super) fn keep_alive(version: Version, fields: &Fields<'_>) -> bool {
    if fields.known(Known::Connection).is_none() {
        return version != Version::Http10;
    }
    let names = |wanted: &[u8]| connection_tokens(fields).any(|token| token.eq_ignore_ascii_case(wanted));
    match version {
        Version::Http11 => !names(b"close"),
        // Not by a field.
        Version::Http2 => true,
        Version::Http10 => names(b"keep-alive") && !names(b"close"),
    }
}

/// The elements of all `Connection` fields.
pub(super) fn connection_tokens<'s, 'b>(fields: &'s Fields<'b>) -> impl Iterator<Item = &'b [u8]> + use<'s, 'b> {
    fields.all_known(Known::Connection).flat_map(list).filter(|token| !token.is_empty())
}

/// Conversion of ASCII bytes to text.
pub(super) trait AsciiStr {
    fn as_ascii_str(&self) -> Option<&str>;
}

impl AsciiStr for [u8] {
    fn as_ascii_str(&self) -> Option<&str> {
        std::str::from_utf8(self).ok()
    }
}
