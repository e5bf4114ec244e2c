//! A request's head, from the bytes as they arrived.
//!
//! [`parse`] is asked anew whenever bytes have been added, and answers that more are needed, what the head says, or
//! why it is refused. It is strict: where a lenient reading is allowed and another server might read the same bytes
//! differently, the request is refused. What cannot become a request is refused without waiting for its end.
//!
//! The request line is read here; field lines by `httparse`, with a check that every line ends in CRLF and no CR or
//! LF stands elsewhere. It does not know routes, files, connections or limits in time.

use super::fields::{Fields, Known};
use super::framing::{self, BodyFraming};
use super::method::Method;
use super::status::{Refusal, Status};
use super::target::{Target, check_authority, is_target_byte};
use super::token::{is_token_byte, list};

/// The most that `head_bytes_max` can be: places in a head are kept in 16 bits.
pub const HEAD_BYTES_CEILING: usize = u16::MAX as usize;

/// The most that `fields_max` can be.
pub const FIELDS_CEILING: usize = 100;

/// Empty lines before a request line that are skipped (RFC 9112, 2.2).
pub const LEADING_LINES_MAX: usize = 4;

/// The longest method; registered ones have at most 17 letters.
pub const METHOD_BYTES_MAX: usize = 64;

/// So many field lines are tried first; more take a second attempt.
const FIELDS_USUAL: usize = 32;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head, empty lines before it included; at most [`HEAD_BYTES_CEILING`], larger values mean that.
    pub head_bytes_max: usize,
    /// The request line with its CRLF.
    pub request_line_bytes_max: usize,
    /// Field lines; at most [`FIELDS_CEILING`], larger values mean that.
    pub fields_max: usize,
}

impl Default for HeadLimits {
    /// 32 KiB, of which the request line 8 KiB, and 100 fields.
    fn default() -> Self {
        Self { head_bytes_max: 32 * 1024, request_line_bytes_max: 8 * 1024, fields_max: FIELDS_CEILING }
    }
}

/// What [`parse`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a head is parsed in place and boxing it would allocate")]
pub enum Parsed<'b> {
    /// Nothing wrong so far, but the head is not complete.
    Partial,
    /// A head.
    Complete {
        /// What it says.
        head: RequestHead<'b>,
        /// How many bytes it takes up, empty lines before it included; the body or the next request follows.
        length: usize,
    },
}

/// A request's head that is well-formed and whose body has one unambiguous length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'b> {
    /// What is to be done.
    pub method: Method<'b>,
    /// To what.
    pub target: Target<'b>,
    /// The version that both sides can speak.
    pub version: Version,
    /// Host and port: of the target if it is absolute, else of `Host`. Always there in HTTP/1.1.
    pub host: Option<&'b str>,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// Whether the client would send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for a go-ahead before it sends the body.
    pub expect: Expect,
    /// All field lines.
    pub fields: Fields<'b>,
}

/// The protocol's version. A higher minor version is answered as 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// What the `Expect` field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    None,
    /// A 100 before the body is sent.
    Continue,
    /// Something nobody knows: 417.
    Unknown,
}

impl<'b> RequestHead<'b> {
    /// The elements of all `Connection` fields: names of hop-by-hop fields, `close`, `keep-alive`, `upgrade`.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        connection_tokens(&self.fields)
    }

    /// The protocols that the client would rather speak, if it asks in proper form: HTTP/1.1, and `Connection` names
    /// `upgrade` (RFC 9110, 7.8). Asking may be ignored.
    pub fn upgrade(&self) -> Option<&'b [u8]> {
        let protocols = self.fields.known(Known::Upgrade)?;
        let is_named = self.connection_tokens().any(|token| token.eq_ignore_ascii_case(b"upgrade"));
        (self.version == Version::Http11 && is_named).then_some(protocols)
    }
}

/// Reads the head at the start of `bytes`. After a refusal nothing on the connection can be trusted to be a request.
///
/// ```
/// use xps::http::request::{HeadLimits, Parsed, parse};
///
/// let bytes = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\nwhat follows";
/// let Parsed::Complete { head, length } = parse(bytes, &HeadLimits::default())? else { panic!("it is complete") };
/// assert_eq!((head.host, &bytes[length..]), (Some("example.org"), &b"what follows"[..]));
/// # Ok::<(), xps::http::Refusal>(())
/// ```
pub fn parse<'b>(bytes: &'b [u8], limits: &HeadLimits) -> Result<Parsed<'b>, Refusal> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    let window = &bytes[..bytes.len().min(head_bytes_max)];
    let Some(line_at) = skip_leading_lines(window)? else { return incomplete(window, head_bytes_max) };
    let line = request_line(&window[line_at..], limits.request_line_bytes_max)?;
    let Some((RequestLine { method, target, version }, line_length)) = line else {
        return incomplete(window, head_bytes_max);
    };
    let fields_at = line_at + line_length;
    // Filled in place and moved once: it is most of what a head is.
    let mut fields = Fields::default();
    let length = field_lines(&window[fields_at..], limits.fields_max.min(FIELDS_CEILING), &mut fields)?;
    let Some(fields_length) = length else { return incomplete(window, head_bytes_max) };

    let host = host(&target, version, &fields)?;
    let framing = body_framing(version, &fields)?;
    let keep_alive = keep_alive(version, &fields);
    let expect = expect(version, &fields);
    let length = fields_at + fields_length;
    Ok(Parsed::Complete {
        head: RequestHead { method, target, version, host, framing, keep_alive, expect, fields },
        length,
    })
}

/// Of a head without an end in `window`: whether it may still come.
fn incomplete<'b>(window: &[u8], head_bytes_max: usize) -> Result<Parsed<'b>, Refusal> {
    if window.len() < head_bytes_max {
        return Ok(Parsed::Partial);
    }
    Err(Refusal::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large"))
}

struct RequestLine<'b> {
    method: Method<'b>,
    target: Target<'b>,
    version: Version,
}

/// Where the first line that is not empty starts; `None` if that is not known yet.
fn skip_leading_lines(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    for line in 0..=LEADING_LINES_MAX {
        match bytes[line * 2..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => {}
            [b'\r' | b'\n', ..] => return Err(Refusal::bad_request("a line does not end in CRLF")),
            [_, ..] => return Ok(Some(line * 2)),
        }
    }
    Err(Refusal::bad_request("there are too many empty lines before the request"))
}

/// The request line at the start of `bytes` and its length with its CRLF; `None` if it is not complete.
fn request_line(bytes: &[u8], bytes_max: usize) -> Result<Option<(RequestLine<'_>, usize)>, Refusal> {
    let window = &bytes[..bytes.len().min(bytes_max)];
    let parsed = request_line_within(window)?;
    if parsed.is_none() && window.len() == bytes_max {
        return Err(Refusal::new(Status::URI_TOO_LONG, "the request line is too long"));
    }
    Ok(parsed)
}

fn request_line_within(window: &[u8]) -> Result<Option<(RequestLine<'_>, usize)>, Refusal> {
    let Some((method, rest)) = method(window)? else { return Ok(None) };
    let Some((target, rest)) = target(rest)? else { return Ok(None) };
    let Some((major, version)) = version(rest)? else { return Ok(None) };
    if method == "PRI" && target == "*" {
        return Err(Refusal::bad_request("this is HTTP/2, which is not spoken here"));
    }
    if major != 1 {
        return Err(Refusal::new(Status::HTTP_VERSION_NOT_SUPPORTED, "the version is not HTTP/1"));
    }
    let method = Method::from_token(method);
    let target = Target::parse(method, target)?;
    let length = window.len() - rest.len() + VERSION_FORM.len();
    Ok(Some((RequestLine { method, target, version }, length)))
}

/// The method, and what follows the space after it.
fn method(bytes: &[u8]) -> Result<Option<(&str, &[u8])>, Refusal> {
    let length = bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len());
    if length > METHOD_BYTES_MAX {
        return Err(Refusal::new(Status::NOT_IMPLEMENTED, "the method is too long"));
    }
    match (bytes[..length].as_ascii_str(), &bytes[length..]) {
        (Some(_), []) => Ok(None),
        (Some(method), [b' ', rest @ ..]) if length > 0 => Ok(Some((method, rest))),
        // The first byte of a TLS record that carries a handshake.
        (_, [0x16, ..]) if length == 0 => Err(Refusal::bad_request("this is TLS, which is not spoken here")),
        (..) => Err(Refusal::bad_request("the method is not a token")),
    }
}

/// The target, and what follows the space after it.
fn target(bytes: &[u8]) -> Result<Option<(&str, &[u8])>, Refusal> {
    let length = bytes.iter().position(|&byte| !is_target_byte(byte)).unwrap_or(bytes.len());
    match (bytes[..length].as_ascii_str(), &bytes[length..]) {
        (Some(_), []) => Ok(None),
        (Some(target), [b' ', rest @ ..]) if length > 0 => Ok(Some((target, rest))),
        (_, [b' ', ..]) => Err(Refusal::bad_request("there is more than one space after the method")),
        (_, [b'\r' | b'\n', ..]) => Err(Refusal::bad_request("the request line has no version")),
        (_, [b'#', ..]) => Err(Refusal::bad_request("the target has a fragment")),
        (..) => Err(Refusal::bad_request("the target has an octet that must be escaped")),
    }
}

/// What must follow the target; `d` stands for a digit.
const VERSION_FORM: &[u8; 10] = b"HTTP/d.d\r\n";

/// The major version, and the version to answer as if that is 1.
fn version(bytes: &[u8]) -> Result<Option<(u8, Version)>, Refusal> {
    if bytes.starts_with(b"HTTP/1.1\r\n") {
        return Ok(Some((1, Version::Http11)));
    }
    for (&byte, &form) in bytes.iter().zip(VERSION_FORM) {
        if byte != form && !(form == b'd' && byte.is_ascii_digit()) {
            return Err(Refusal::bad_request("the request line does not end in a version"));
        }
    }
    match bytes {
        [_, _, _, _, _, major, _, minor, _, _, ..] => {
            let version = if *minor == b'0' { Version::Http10 } else { Version::Http11 };
            Ok(Some((major - b'0', version)))
        }
        _ => Ok(None),
    }
}

/// Reads the field lines at the start of `bytes` into `fields`; their length with the empty line that ends them, `None` if
/// they are not complete.
fn field_lines<'b>(bytes: &'b [u8], fields_max: usize, fields: &mut Fields<'b>) -> Result<Option<usize>, Refusal> {
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_USUAL];
    let room = fields_max.min(FIELDS_USUAL);
    let length = match field_lines_into(bytes, &mut lines[..room], fields) {
        Err(httparse::Error::TooManyHeaders) if room < fields_max => many_field_lines(bytes, fields_max, fields),
        result => result,
    };
    let length = length.map_err(field_refusal)?;
    if has_lone_cr_or_lf(&bytes[..length.unwrap_or(bytes.len())]) {
        return Err(Refusal::bad_request("a line does not end in CRLF"));
    }
    Ok(length)
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

const fn field_refusal(error: httparse::Error) -> Refusal {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Refusal::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many fields"),
        Error::HeaderName => Refusal::bad_request("a field's name is not a token"),
        Error::HeaderValue => Refusal::bad_request("a field's value has a control character"),
        Error::NewLine => Refusal::bad_request("a line does not end in CRLF"),
        Error::Status | Error::Token | Error::Version => Refusal::bad_request("a field line is malformed"),
    }
}

/// Whether a CR or LF stands in `bytes`, which follow a CRLF, other than in a CRLF; a CR at the very end is not judged.
///
/// Written without branches so that the compiler can look at many bytes at once.
fn has_lone_cr_or_lf(bytes: &[u8]) -> bool {
    let starts_with_lf = bytes.first() == Some(&b'\n');
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    pairs.fold(starts_with_lf, |found, (&byte, &next)| found | ((byte == b'\r') != (next == b'\n')))
}

fn host<'b>(target: &Target<'b>, version: Version, fields: &Fields<'b>) -> Result<Option<&'b str>, Refusal> {
    let field = match fields.known(Known::Host) {
        Some(_) if fields.is_repeated(Known::Host) => {
            return Err(Refusal::bad_request("there is more than one Host"));
        }
        Some(value) => {
            check_authority(value)?;
            value.as_ascii_str()
        }
        None if version == Version::Http10 => None,
        None => return Err(Refusal::bad_request("there is no Host")),
    };
    match target {
        Target::Absolute { authority, .. } | Target::Authority(authority) => Ok(Some(authority)),
        Target::Origin { .. } | Target::Asterisk => Ok(field),
    }
}

fn body_framing(version: Version, fields: &Fields<'_>) -> Result<BodyFraming, Refusal> {
    let has_codings = fields.known(Known::TransferEncoding).is_some();
    if has_codings && version == Version::Http10 {
        return Err(Refusal::bad_request("HTTP/1.0 has no Transfer-Encoding"));
    }
    if has_codings && fields.known(Known::ContentLength).is_some() {
        return Err(Refusal::bad_request("there are both Transfer-Encoding and Content-Length"));
    }
    if has_codings && framing::is_chunked(fields.all_known(Known::TransferEncoding))? {
        return Ok(BodyFraming::Chunked);
    }
    let length = framing::content_length(fields.all_known(Known::ContentLength))?;
    Ok(length.map_or(BodyFraming::None, BodyFraming::Length))
}

fn keep_alive(version: Version, fields: &Fields<'_>) -> bool {
    let names = |wanted: &[u8]| connection_tokens(fields).any(|token| token.eq_ignore_ascii_case(wanted));
    match version {
        Version::Http11 => !names(b"close"),
        Version::Http10 => names(b"keep-alive") && !names(b"close"),
    }
}

fn expect(version: Version, fields: &Fields<'_>) -> Expect {
    let mut expect = Expect::None;
    // An HTTP/1.0 client cannot wait for a 100 (RFC 9110, 10.1.1).
    if version == Version::Http11 {
        for element in fields.all_known(Known::Expect).flat_map(list) {
            match (expect, element.eq_ignore_ascii_case(b"100-continue")) {
                (Expect::None | Expect::Continue, true) => expect = Expect::Continue,
                (Expect::None | Expect::Continue, false) | (Expect::Unknown, _) => expect = Expect::Unknown,
            }
        }
    }
    expect
}

fn connection_tokens<'s, 'b>(fields: &'s Fields<'b>) -> impl Iterator<Item = &'b [u8]> + use<'s, 'b> {
    fields.all_known(Known::Connection).flat_map(list).filter(|token| !token.is_empty())
}

/// Bytes known to be ASCII as text.
trait AsciiStr {
    fn as_ascii_str(&self) -> Option<&str>;
}

impl AsciiStr for [u8] {
    fn as_ascii_str(&self) -> Option<&str> {
        std::str::from_utf8(self).ok()
    }
}

#[cfg(test)]
mod tests;
