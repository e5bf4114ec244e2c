//! Parses a request head from the bytes as they arrive.
//!
//! [`parse`] is called again whenever bytes have been added. It returns that more are needed, the
//! head, or an error. It is strict: if the RFC allows a lenient reading and another server might
//! read the same bytes differently, the request is rejected. Bytes that cannot become a request are
//! rejected without waiting for the end of the head.
//!
//! The request line is parsed here; the field lines in `head`, as those of responses. This module
//! does not know routes, files, connections or timeouts.

use super::fields::{Fields, Known};
use super::framing::{self, BodyFraming};
use super::head::{AsciiStr, LineEnds, connection_tokens, field_lines, is_prefix_of_form, keep_alive};
pub use super::head::{FIELDS_CEILING, HEAD_BYTES_CEILING, HeadLimits, Version};
use super::method::Method;
use super::status::{ErrorResponse, Status};
use super::target::{Target, UNESCAPED, check_authority, target_length};
use super::token::{is_token_byte, list};

/// Maximum number of empty lines before a request line that are skipped (RFC 9112, 2.2).
pub const LEADING_LINES_MAX: usize = 4;

/// Maximum length of a method; registered ones have at most 17 letters.
pub const METHOD_BYTES_MAX: usize = 64;

/// Result of [`parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a head is parsed in place and boxing it would allocate")]
pub enum Parsed<'b> {
    /// No error so far, but the head is not complete.
    Partial,
    /// A complete head.
    Complete {
        /// The parsed head.
        head: RequestHead<'b>,
        /// Length of the head in bytes, including empty lines before it. The body or the next
        /// request follows.
        length: usize,
    },
}

/// A well-formed request head whose body has one unambiguous length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'b> {
    /// The request method.
    pub method: Method<'b>,
    /// The request target.
    pub target: Target<'b>,
    /// The version that both sides support.
    pub version: Version,
    /// Host and port: of the target if it is absolute, else of `Host`. Always present from HTTP/1.1 on.
    pub host: Option<&'b str>,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// Whether the client may send another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub expect: Expect,
    /// The protocol of an extended CONNECT (RFC 8441), which HTTP/2 has instead of upgrades. The
    /// target is then a path. A 2xx response opens a tunnel, so it must not be taken for a GET.
    pub protocol: Option<&'b [u8]>,
    /// All field lines.
    pub fields: Fields<'b>,
}

/// The expectation in the `Expect` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    None,
    /// `100-continue`: a 100 before the body is sent.
    Continue,
    /// An unknown expectation, for a 417.
    Unknown,
}

impl<'b> RequestHead<'b> {
    /// The elements of all `Connection` fields: names of hop-by-hop fields, `close`, `keep-alive`, `upgrade`.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        connection_tokens(&self.fields)
    }

    /// The protocols of a valid upgrade request: in HTTP/1.1, with `upgrade` in `Connection` (RFC
    /// 9110, 7.8); a server may ignore it. In HTTP/2 that of an extended CONNECT, which it must not.
    pub fn upgrade(&self) -> Option<&'b [u8]> {
        if self.protocol.is_some() {
            return self.protocol;
        }
        let protocols = self.fields.known(Known::Upgrade)?;
        let is_named = self.connection_tokens().any(|token| token.eq_ignore_ascii_case(b"upgrade"));
        (self.version == Version::Http11 && is_named).then_some(protocols)
    }

    /// Whether the client wants trailers (`TE: trailers`, RFC 9110, 10.1.4). HTTP/1.0 has none.
    pub fn takes_trailers(&self) -> bool {
        let mut wanted = self.fields.all_known(Known::Te).flat_map(list);
        self.version != Version::Http10 && wanted.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    }
}

/// Parses the head at the start of `bytes`. After an error nothing on the connection can be trusted
/// to be a request.
///
/// ```
/// use xps::internals::http::request::{HeadLimits, Parsed, parse};
///
/// let bytes = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\nwhat follows";
/// let Parsed::Complete { head, length } = parse(bytes, &HeadLimits::default())? else { panic!("it is complete") };
/// assert_eq!((head.host, &bytes[length..]), (Some("example.org"), &b"what follows"[..]));
/// # Ok::<(), xps::internals::http::ErrorResponse>(())
/// ```
pub fn parse<'b>(bytes: &'b [u8], limits: &HeadLimits) -> Result<Parsed<'b>, ErrorResponse> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    let window = &bytes[..bytes.len().min(head_bytes_max)];
    let Some(line_at) = skip_leading_lines(window)? else { return incomplete(window, head_bytes_max) };
    let line = request_line(&window[line_at..], limits.request_line_bytes_max)?;
    let Some((RequestLine { method, target, version }, line_length)) = line else {
        return incomplete(window, head_bytes_max);
    };
    let fields_at = line_at + line_length;
    // Filled in place and moved once: it is most of the size of a head.
    let mut fields = Fields::default();
    let length = field_lines(&window[fields_at..], limits.fields_max, LineEnds::Crlf, &mut fields)?;
    let Some(fields_length) = length else { return incomplete(window, head_bytes_max) };

    let host = host(&target, version, &fields)?;
    let framing = framing::of(version, &fields)?;
    let keep_alive = keep_alive(version, &fields);
    let expect = expect(version, &fields);
    let length = fields_at + fields_length;
    Ok(Parsed::Complete {
        head: RequestHead { method, target, version, host, framing, keep_alive, expect, protocol: None, fields },
        length,
    })
}

/// Whether bytes that are not a valid or complete head begin like a HEAD request, whose client
/// expects a response without a body.
pub fn begins_as_head(bytes: &[u8]) -> bool {
    matches!(skip_leading_lines(bytes), Ok(Some(line_at)) if bytes[line_at..].starts_with(b"HEAD "))
}

/// The result for a window without the end of the head: incomplete, or too large.
fn incomplete<'b>(window: &[u8], head_bytes_max: usize) -> Result<Parsed<'b>, ErrorResponse> {
    if window.len() < head_bytes_max {
        return Ok(Parsed::Partial);
    }
    Err(ErrorResponse::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large"))
}

struct RequestLine<'b> {
    method: Method<'b>,
    target: Target<'b>,
    version: Version,
}

/// Start of the first line that is not empty; `None` if it has not arrived.
fn skip_leading_lines(bytes: &[u8]) -> Result<Option<usize>, ErrorResponse> {
    for line in 0..=LEADING_LINES_MAX {
        match bytes[line * 2..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => {}
            [b'\r' | b'\n', ..] => return Err(ErrorResponse::bad_request("a line does not end in CRLF")),
            [_, ..] => return Ok(Some(line * 2)),
        }
    }
    Err(ErrorResponse::bad_request("there are too many empty lines before the request"))
}

/// The request line at the start of `bytes` and its length with its CRLF; `None` if it is
/// incomplete.
fn request_line(bytes: &[u8], bytes_max: usize) -> Result<Option<(RequestLine<'_>, usize)>, ErrorResponse> {
    let window = &bytes[..bytes.len().min(bytes_max)];
    let parsed = request_line_within(window)?;
    if parsed.is_none() && window.len() == bytes_max {
        return Err(ErrorResponse::new(Status::URI_TOO_LONG, "the request line is too long"));
    }
    Ok(parsed)
}

fn request_line_within(window: &[u8]) -> Result<Option<(RequestLine<'_>, usize)>, ErrorResponse> {
    let Some((method, rest)) = method(window)? else { return Ok(None) };
    let Some((target, rest)) = target(rest)? else { return Ok(None) };
    let Some((major, version)) = version(rest)? else { return Ok(None) };
    if method == b"PRI" && target == b"*" {
        return Err(ErrorResponse::bad_request(
            "this is HTTP/2, which ALPN did not choose, and which is off without TLS on this listener",
        ));
    }
    if major != 1 {
        return Err(ErrorResponse::new(Status::HTTP_VERSION_NOT_SUPPORTED, "the version is not HTTP/1"));
    }
    let method = Method::from_token(method).ok_or(NO_TOKEN)?;
    let target = Target::parse(method, target)?;
    let length = window.len() - rest.len() + VERSION_FORM.len();
    Ok(Some((RequestLine { method, target, version }, length)))
}

/// The method, and the bytes after the following space.
fn method(bytes: &[u8]) -> Result<Option<Split<'_>>, ErrorResponse> {
    let length = bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len());
    if length > METHOD_BYTES_MAX {
        return Err(ErrorResponse::new(Status::NOT_IMPLEMENTED, "the method is too long"));
    }
    match bytes.split_at(length) {
        (_, []) => Ok(None),
        (method, [b' ', rest @ ..]) if length > 0 => Ok(Some((method, rest))),
        // First byte of a TLS handshake record.
        (_, [0x16, ..]) if length == 0 => Err(ErrorResponse::bad_request("this is TLS, which is not supported here")),
        (..) => Err(NO_TOKEN),
    }
}

const NO_TOKEN: ErrorResponse = ErrorResponse::bad_request("the method is not a token");

/// A part of a line, and the bytes after it.
type Split<'b> = (&'b [u8], &'b [u8]);

/// The target, and the bytes after the following space.
fn target(bytes: &[u8]) -> Result<Option<Split<'_>>, ErrorResponse> {
    match bytes.split_at(target_length(bytes)) {
        (_, []) => Ok(None),
        (target @ [_, ..], [b' ', rest @ ..]) => Ok(Some((target, rest))),
        ([], [b' ', ..]) => Err(ErrorResponse::bad_request("there is more than one space after the method")),
        (_, [b'\r' | b'\n', ..]) => Err(ErrorResponse::bad_request("the request line has no version")),
        (_, [b'#', ..]) => Err(ErrorResponse::bad_request("the target has a fragment")),
        (..) => Err(ErrorResponse::bad_request(UNESCAPED)),
    }
}

/// The form of the version after the target; `d` stands for a digit.
const VERSION_FORM: &[u8; 10] = b"HTTP/d.d\r\n";

/// The major version, and the version to respond with if that is 1.
fn version(bytes: &[u8]) -> Result<Option<(u8, Version)>, ErrorResponse> {
    if bytes.starts_with(b"HTTP/1.1\r\n") {
        return Ok(Some((1, Version::Http11)));
    }
    if !is_prefix_of_form(bytes, VERSION_FORM) {
        return Err(ErrorResponse::bad_request("the request line does not end in a version"));
    }
    match bytes {
        [_, _, _, _, _, major, _, minor, _, _, ..] => {
            let version = if *minor == b'0' { Version::Http10 } else { Version::Http11 };
            Ok(Some((major - b'0', version)))
        }
        _ => Ok(None),
    }
}

fn host<'b>(target: &Target<'b>, version: Version, fields: &Fields<'b>) -> Result<Option<&'b str>, ErrorResponse> {
    let field = match fields.known(Known::Host) {
        Some(_) if fields.is_repeated(Known::Host) => {
            return Err(ErrorResponse::bad_request("there is more than one Host"));
        }
        Some(value) => {
            check_authority(value)?;
            value.as_ascii_str()
        }
        None if version == Version::Http10 => None,
        None => return Err(ErrorResponse::bad_request("there is no Host")),
    };
    match target {
        Target::Absolute { authority, .. } | Target::Authority(authority) | Target::AsteriskOf(authority) => {
            Ok(Some(authority))
        }
        Target::Origin { .. } | Target::Asterisk => Ok(field),
    }
}

pub(super) fn expect(version: Version, fields: &Fields<'_>) -> Expect {
    let mut expect = Expect::None;
    // An HTTP/1.0 client cannot wait for a 100 (RFC 9110, 10.1.1).
    if version != Version::Http10 && fields.known(Known::Expect).is_some() {
        for element in fields.all_known(Known::Expect).flat_map(list) {
            match (expect, element.eq_ignore_ascii_case(b"100-continue")) {
                (Expect::None | Expect::Continue, true) => expect = Expect::Continue,
                (Expect::None | Expect::Continue, false) | (Expect::Unknown, _) => expect = Expect::Unknown,
            }
        }
    }
    expect
}

#[cfg(test)]
mod tests;
