//! What the heads of requests and of responses have in common: limits, versions, field lines.
//!
//! Field lines are found by `httparse`, with a check that every line ends as it must and no CR or LF stands elsewhere. First
//! lines are not known here, nor what any field means beyond `Connection`.

use super::fields::{Fields, Known};
use super::status::{ErrorResponse, Status};
use super::token::list;

/// The most that `head_bytes_max` can be: positions in a head are kept in 16 bits.
pub const HEAD_BYTES_CEILING: usize = 1 << 16;

/// The most that `fields_max` can be.
pub const FIELDS_CEILING: usize = 100;

/// So many field lines are tried first; more take a second attempt.
pub(super) const FIELDS_USUAL: usize = 32;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head, empty lines before it included; at most [`HEAD_BYTES_CEILING`]; the configuration refuses more.
    pub head_bytes_max: usize,
    /// The first line with its CRLF: the request line, or a response's status line.
    pub request_line_bytes_max: usize,
    /// Field lines; at most [`FIELDS_CEILING`]; the configuration refuses more.
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
    /// In CRLF: a request's, which another server could read otherwise.
    Crlf,
    /// In CRLF or in LF, each as it likes (RFC 9112, 2.2): a response's. It is written anew for the client.
    CrlfOrLf,
}

/// The protocol's version. A higher minor version is answered as 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Whether `bytes` are as `form` demands, as far as they go; `d` stands for a digit.
pub(super) fn is_prefix_of_form(bytes: &[u8], form: &[u8]) -> bool {
    let mut pairs = bytes.iter().zip(form);
    pairs.all(|(&byte, &form)| byte == form || (form == b'd' && byte.is_ascii_digit()))
}

/// Reads the field lines at the start of `bytes` into `fields`; their length with the empty line that ends them, `None` if
/// they are not complete.
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

/// A head with unusually many lines: apart, because so much room on the stack takes time to prepare.
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
        // Nothing can lie outside of what was parsed; if it did, the head would not be trusted.
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

/// Whether a CR or LF stands in `bytes`, which follow a CRLF, other than in a CRLF; a CR at the very end is not judged.
///
/// Written without branches so that the compiler can look at many bytes at once.
fn has_lone_cr_or_lf(bytes: &[u8]) -> bool {
    let [first, rest @ ..] = bytes else { return false };
    let is_torn = |byte: u8, next: u8| u8::from(byte == b'\r') ^ u8::from(next == b'\n');
    let torn = bytes.iter().zip(rest).fold(0, |torn, (&byte, &next)| torn | is_torn(byte, next));
    *first == b'\n' || torn != 0
}

/// Whether a CR stands in `bytes` before something other than LF; one at the very end is not judged.
fn has_lone_cr(bytes: &[u8]) -> bool {
    let is_lone = |byte: u8, next: u8| u8::from(byte == b'\r') & u8::from(next != b'\n');
    bytes.iter().zip(bytes.iter().skip(1)).fold(0, |found, (&byte, &next)| found | is_lone(byte, next)) != 0
}

/// Fields that say how a message is framed or what becomes of the connection.
const OWN_FIELDS: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Whether a field says how a message is framed or what becomes of the connection: those are written by whoever sends the
/// message, and are nobody else's to say.
pub fn is_own(field: &str) -> bool {
    OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(field))
}

/// Whether the sender would go on with this connection (RFC 9112, 9.3).
pub(super) fn keep_alive(version: Version, fields: &Fields<'_>) -> bool {
    if fields.known(Known::Connection).is_none() {
        return version == Version::Http11;
    }
    let names = |wanted: &[u8]| connection_tokens(fields).any(|token| token.eq_ignore_ascii_case(wanted));
    match version {
        Version::Http11 => !names(b"close"),
        Version::Http10 => names(b"keep-alive") && !names(b"close"),
    }
}

/// The elements of all `Connection` fields.
pub(super) fn connection_tokens<'s, 'b>(fields: &'s Fields<'b>) -> impl Iterator<Item = &'b [u8]> + use<'s, 'b> {
    fields.all_known(Known::Connection).flat_map(list).filter(|token| !token.is_empty())
}

/// Bytes known to be ASCII as text.
pub(super) trait AsciiStr {
    fn as_ascii_str(&self) -> Option<&str>;
}

impl AsciiStr for [u8] {
    fn as_ascii_str(&self) -> Option<&str> {
        std::str::from_utf8(self).ok()
    }
}
