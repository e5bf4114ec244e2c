//! Parses the head of an upstream's response from the bytes as they arrive.
//!
//! [`parse`] is called again whenever bytes have been added, like that of [`super::request`]. A
//! response whose end a client could find elsewhere than this proxy is not forwarded. A form that
//! only another server could misread is an error in a request but not in a response, which is
//! rewritten for the client: lines may end in LF alone. This module does not know connections, the
//! error response to the client, or whether an upgrade was requested.

use std::fmt;

use super::fields::Fields;
use super::framing::{self, BodyFraming};
use super::head::{
    HEAD_BYTES_CEILING, HeadLimits, LineEnds, Version, connection_tokens, field_lines, is_prefix_of_form, keep_alive,
};
use super::status::{ErrorResponse, Status};

/// Result of [`parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a head is parsed in place and boxing it would allocate")]
pub enum Parsed<'b> {
    /// No error so far, but the head is not complete.
    Partial,
    /// A complete head.
    Complete {
        /// The parsed head.
        head: ResponseHead<'b>,
        /// Length of the head in bytes. The body follows, or after a 1xx the next head.
        length: usize,
    },
}

/// A well-formed response head whose body has one unambiguous end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'b> {
    /// The version that both sides support.
    pub version: Version,
    /// The status code; 1xx if another response to the request follows.
    pub status: Status,
    /// The reason phrase as sent: no control bytes except tabs. Often empty.
    pub reason: &'b [u8],
    /// How the body is delimited.
    pub framing: ResponseFraming,
    /// Whether the connection can be used for another request after this one.
    pub keep_alive: bool,
    /// All field lines.
    pub fields: Fields<'b>,
}

/// The framing of a response's body (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body, whatever the fields say: the response is to HEAD, or is 1xx, 204 or 304. A
    /// declared length is that of the body that GET would have. What follows a 101 is not HTTP.
    None,
    /// Number of bytes.
    Length(u64),
    /// The chunked coding, see [`super::chunked`].
    Chunked,
    /// All bytes until the upstream closes. Truncation cannot be detected.
    UntilClose,
}

/// Why a response cannot be forwarded. The client gets a 502 instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadResponse {
    /// What was wrong, as half a sentence. Never contains anything that the upstream sent.
    pub reason: &'static str,
    /// It exceeds the limits of heads, and is not malformed otherwise.
    pub is_too_large: bool,
}

impl<'b> ResponseHead<'b> {
    /// Whether another response to the request follows: 1xx, except the 101 that switches protocols.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != Status::SWITCHING_PROTOCOLS
    }

    /// The elements of all `Connection` fields: names of hop-by-hop fields, `close`, `keep-alive`, `upgrade`.
    pub fn connection_tokens(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        connection_tokens(&self.fields)
    }
}

/// Parses the head at the start of `bytes`. `request_is_head`: it is the response to a HEAD
/// request. After a bad response nothing on the connection can be trusted.
///
/// ```
/// use xps::internals::http::response_head::{ResponseFraming, Parsed, parse};
/// use xps::internals::http::{HeadLimits, Status};
///
/// let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxps";
/// let Parsed::Complete { head, length } = parse(bytes, false, &HeadLimits::default())? else { panic!("it is complete") };
/// assert_eq!((head.status, head.framing), (Status::OK, ResponseFraming::Length(3)));
/// assert_eq!(&bytes[length..], b"xps");
/// # Ok::<(), xps::internals::http::BadResponse>(())
/// ```
pub fn parse<'b>(bytes: &'b [u8], request_is_head: bool, limits: &HeadLimits) -> Result<Parsed<'b>, BadResponse> {
    let head_bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
    let window = &bytes[..bytes.len().min(head_bytes_max)];
    let line = status_line(&window[..window.len().min(limits.request_line_bytes_max)])?;
    let Some((StatusLine { version, status, reason }, fields_at)) = line else {
        return if window.len() < limits.request_line_bytes_max {
            incomplete(window, head_bytes_max)
        } else {
            TOO_LARGE
        };
    };
    // Filled in place and moved once: it is most of the size of a head.
    let mut fields = Fields::default();
    let length = field_lines(&window[fields_at..], limits.fields_max, LineEnds::CrlfOrLf, &mut fields)?;
    let Some(fields_length) = length else { return incomplete(window, head_bytes_max) };

    // Also if there is no body: an ambiguous length would be forwarded to the client.
    let declared = framing::of(version, &fields)?;
    let framing = match declared {
        _ if request_is_head || status.forbids_body() => ResponseFraming::None,
        BodyFraming::Length(length) => ResponseFraming::Length(length),
        BodyFraming::Chunked => ResponseFraming::Chunked,
        BodyFraming::None => ResponseFraming::UntilClose,
    };
    let ends_connection = framing == ResponseFraming::UntilClose || status == Status::SWITCHING_PROTOCOLS;
    let keep_alive = !ends_connection && keep_alive(version, &fields);
    Ok(Parsed::Complete {
        head: ResponseHead { version, status, reason, framing, keep_alive, fields },
        length: fields_at + fields_length,
    })
}

const TOO_LARGE: Result<Parsed<'static>, BadResponse> =
    Err(BadResponse { reason: "the head is too large", is_too_large: true });

/// The result for a window without the end of the head: incomplete, or too large.
fn incomplete<'b>(window: &[u8], head_bytes_max: usize) -> Result<Parsed<'b>, BadResponse> {
    if window.len() < head_bytes_max { Ok(Parsed::Partial) } else { TOO_LARGE }
}

struct StatusLine<'b> {
    version: Version,
    status: Status,
    reason: &'b [u8],
}

/// The beginning of a status line; `d` stands for a digit.
const STATUS_FORM: &[u8; 12] = b"HTTP/d.d ddd";

/// The status line at the start of `bytes` and its length with its line end; `None` if it is
/// incomplete.
fn status_line(bytes: &[u8]) -> Result<Option<(StatusLine<'_>, usize)>, BadResponse> {
    if !is_prefix_of_form(bytes, STATUS_FORM) {
        return Err(BadResponse::malformed("it does not begin with a status line"));
    }
    let Some((start, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let [_, _, _, _, _, major, _, minor, _, hundreds, tens, ones]: &[u8; STATUS_FORM.len()] = start;
    if *major != b'1' {
        return Err(BadResponse::malformed("the version is not HTTP/1"));
    }
    let version = if *minor == b'0' { Version::Http10 } else { Version::Http11 };
    let code = [hundreds, tens, ones].iter().fold(0, |code, &digit| code * 10 + u16::from(digit - b'0'));
    let status = Status::from_code(code).ok_or(BadResponse::malformed("the status is below 100"))?;
    let Some((reason, end)) = reason(rest)? else { return Ok(None) };
    // The space is required, but often missing if there is no phrase.
    let length = STATUS_FORM.len() + usize::from(rest.starts_with(b" ")) + reason.len() + end;
    Ok(Some((StatusLine { version, status, reason }, length)))
}

/// The reason phrase, and the length of the line end in bytes.
fn reason(rest: &[u8]) -> Result<Option<(&[u8], usize)>, BadResponse> {
    let text = match rest {
        [] => return Ok(None),
        [b' ', text @ ..] => text,
        [b'\r' | b'\n', ..] => rest,
        [_, ..] => return Err(BadResponse::malformed("the status has more than three digits")),
    };
    let length = text.iter().position(|&byte| byte != b'\t' && byte.is_ascii_control()).unwrap_or(text.len());
    match &text[length..] {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some((&text[..length], 2))),
        [b'\n', ..] => Ok(Some((&text[..length], 1))),
        [b'\r', ..] => Err(BadResponse::malformed("a CR stands before something other than LF")),
        [_, ..] => Err(BadResponse::malformed("the status line has a control character")),
    }
}

impl BadResponse {
    const fn malformed(reason: &'static str) -> Self {
        Self { reason, is_too_large: false }
    }
}

/// An error in a request's fields is an error in a response's fields, too.
impl From<ErrorResponse> for BadResponse {
    fn from(error: ErrorResponse) -> Self {
        let is_too_large = error.status == Status::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self { reason: error.reason, is_too_large }
    }
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad response: {}", self.reason)
    }
}

impl std::error::Error for BadResponse {}

#[cfg(test)]
mod tests;
