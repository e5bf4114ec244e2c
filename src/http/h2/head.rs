//! The request head in a list of fields (RFC 9113, 8; RFC 8441), and trailers.
//!
//! Handlers get the same [`RequestHead`] as from HTTP/1.1, and it is as strict: nothing in it can
//! change where a message ends, or add a line, when it is written as HTTP/1.1 for an upstream. That
//! fields can be decoded, and how large they are, is known before. This module does not know
//! connections, streams or frames.

use super::field_block::{Excess, FieldBlock};
use crate::http::fields::{Fields, Known, Line};
use crate::http::framing::{BodyFraming, content_length};
use crate::http::head::{AsciiStr, HeadLimits, Version};
use crate::http::method::Method;
use crate::http::request::{METHOD_BYTES_MAX, RequestHead, expect};
use crate::http::status::{ErrorResponse, Status};
use crate::http::target::{Target, UNESCAPED, check_authority, target_length};
use crate::http::token::{is_token, is_token_byte};

/// What [`parse`] needs besides the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadContext {
    /// Whether no body follows: END_STREAM.
    pub end_stream: bool,
    /// Whether we have announced SETTINGS_ENABLE_CONNECT_PROTOCOL.
    pub connect_protocol: bool,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// It is malformed (RFC 9113, 8.1.1): the stream is reset with a PROTOCOL_ERROR. A response may
    /// be sent before.
    Malformed(ErrorResponse),
    /// It gets this response; the stream is not in error.
    Rejected(ErrorResponse),
}

/// A request head that waits, such as for a file to be looked up: it owns the fields, and the head in
/// them can be had again. A block cannot be decoded twice, so the bytes of the connection would not do.
///
/// ```
/// use xps::internals::http::HeadLimits;
/// use xps::internals::http::h2::head::{HeadContext, StoredHead};
/// use xps::internals::http::h2::{BlockReader, hpack::Decoder};
///
/// let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&HeadLimits::default()));
/// reader.push(&mut decoder, &[0x82, 0x87, 0x84, 0x41, 0x01, b'h'], true)?;
/// let context = HeadContext { end_stream: true, connect_protocol: false };
/// let stored = StoredHead::new(reader.take(), context);
/// for _ in 0..2 {
///     assert_eq!(stored.head(&HeadLimits::default()).map(|head| head.host), Ok(Some("h")));
/// }
/// # Ok::<(), xps::internals::http::h2::ConnectionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoredHead {
    block: FieldBlock,
    context: HeadContext,
}

/// How much of a body is still to come, if its request declared it. A body that differs is
/// malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredLength {
    left: Option<u64>,
}

impl BadHead {
    pub(super) const fn malformed(reason: &'static str) -> Self {
        Self::Malformed(ErrorResponse::bad_request(reason))
    }

    /// The response to send, before a reset if it is malformed.
    pub const fn response(self) -> ErrorResponse {
        match self {
            Self::Malformed(response) | Self::Rejected(response) => response,
        }
    }
}

impl From<ErrorResponse> for BadHead {
    fn from(response: ErrorResponse) -> Self {
        Self::Rejected(response)
    }
}

/// Finds the request head in a sealed block.
///
/// ```
/// use xps::internals::http::h2::head::{HeadContext, parse};
/// use xps::internals::http::h2::{FieldBlock, hpack};
/// use xps::internals::http::{HeadLimits, Known, Version};
///
/// let (mut decoder, mut block) = (hpack::Decoder::new(), FieldBlock::new(&HeadLimits::default()));
/// decoder.decode(&[0x82, 0x87, 0x84, 0x41, 0x01, b'h'], true, &mut block).unwrap();
/// let context = HeadContext { end_stream: true, connect_protocol: false };
/// let head = parse(&block, context, &HeadLimits::default()).unwrap();
/// assert_eq!((head.version, head.host, head.fields.known(Known::Host)), (Version::Http2, Some("h"), Some(&b"h"[..])));
/// ```
pub fn parse<'b>(block: &'b FieldBlock, context: HeadContext, limits: &HeadLimits) -> Result<RequestHead<'b>, BadHead> {
    check_size(block)?;
    // Filled in place and moved once: it is most of the size of a head.
    let mut fields = Fields::of(block.bytes());
    let pseudo = split(block, &mut fields)?;
    let host = host(block, &pseudo, &mut fields)?;
    let method = method(pseudo.method.map(|line| line.value(block.bytes())))?;
    let control = pseudo.control(block.bytes());
    let target = target(method, &control, context, limits)?;
    let framing = framing(&fields, context.end_stream)?;
    let expect = expect(Version::Http2, &fields);
    let protocol = control.protocol;
    let (version, keep_alive) = (Version::Http2, true);
    Ok(RequestHead { method, target, version, host, framing, keep_alive, expect, protocol, fields })
}

impl StoredHead {
    /// Keeps a sealed block and what else [`parse`] was given.
    pub const fn new(block: FieldBlock, context: HeadContext) -> Self {
        Self { block, context }
    }

    /// The head, as [`parse`] found it.
    pub fn head(&self, limits: &HeadLimits) -> Result<RequestHead<'_>, BadHead> {
        parse(&self.block, self.context, limits)
    }

    /// Memory that is held.
    pub fn memory(&self) -> usize {
        self.block.memory()
    }
}

/// Finds the fields of trailers in a sealed block. `Host` is not one.
pub fn parse_trailers(block: &FieldBlock) -> Result<Fields<'_>, BadHead> {
    check_size(block)?;
    let mut fields = Fields::of(block.bytes());
    match split(block, &mut fields)? {
        PseudoFields { method: None, scheme: None, authority: None, path: None, protocol: None, host: _ } => Ok(fields),
        PseudoFields { .. } => Err(BadHead::malformed("trailers have a pseudo-header field")),
    }
}

pub(super) fn check_size(block: &FieldBlock) -> Result<(), ErrorResponse> {
    let reason = match block.excess() {
        None => return Ok(()),
        Some(Excess::Size) => "the head is too large",
        Some(Excess::Count) => "there are too many fields",
    };
    Err(ErrorResponse::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, reason))
}

/// The pseudo-header fields of a request, and `Host`, which may stand for one of them.
#[derive(Clone, Copy, Debug, Default)]
struct PseudoFields {
    method: Option<Line>,
    scheme: Option<Line>,
    authority: Option<Line>,
    path: Option<Line>,
    protocol: Option<Line>,
    host: Option<Line>,
}

/// The values that make up a target.
struct ControlData<'b> {
    scheme: Option<&'b [u8]>,
    authority: Option<&'b [u8]>,
    path: Option<&'b [u8]>,
    protocol: Option<&'b [u8]>,
}

impl PseudoFields {
    /// Where the value of this name goes.
    fn entry(&mut self, name: &[u8]) -> Option<&mut Option<Line>> {
        Some(match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return None,
        })
    }

    fn control<'b>(&self, bytes: &'b [u8]) -> ControlData<'b> {
        let value = |line: Option<Line>| line.map(|line| line.value(bytes));
        ControlData {
            scheme: value(self.scheme),
            authority: value(self.authority),
            path: value(self.path),
            protocol: value(self.protocol),
        }
    }
}

/// Checks every field by itself, and separates pseudo-header fields and `Host` from the others.
fn split(block: &FieldBlock, fields: &mut Fields<'_>) -> Result<PseudoFields, BadHead> {
    let bytes = block.bytes();
    let mut pseudo = PseudoFields::default();
    if block.has_loose_piece() {
        return Err(LOOSE);
    }
    for line in block.lines() {
        let (name, value) = (line.name(bytes), line.value(bytes));
        check_value(value)?;
        if name.first() == Some(&b':') {
            if !fields.is_empty() || pseudo.host.is_some() {
                return Err(BadHead::malformed("a pseudo-header field is after another field"));
            }
            let entry = pseudo.entry(name).ok_or(BadHead::malformed("a pseudo-header field is not of requests"))?;
            if entry.replace(line).is_some() {
                return Err(BadHead::malformed("a pseudo-header field is repeated"));
            }
            continue;
        }
        check_name(name)?;
        if name == b"host" {
            if pseudo.host.replace(line).is_some() {
                return Err(ErrorResponse::bad_request("there is more than one Host").into());
            }
            continue;
        }
        check_connection(name, value)?;
        if !fields.push_line(line) {
            return Err(TOO_MANY.into());
        }
    }
    Ok(pseudo)
}

const TOO_MANY: ErrorResponse =
    ErrorResponse::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many fields");

/// A field's name: a token in lower case (RFC 9113, 8.2.1).
pub(super) fn check_name(name: &[u8]) -> Result<(), BadHead> {
    if !name.is_empty() && name.iter().all(|&byte| NAME[usize::from(byte)]) {
        return Ok(());
    }
    if is_token(name) {
        return Err(BadHead::malformed("a field's name is not in lower case"));
    }
    Err(BadHead::malformed("a field's name is not a token"))
}

/// A field's value: no control characters but tabs, no white space around it.
fn check_value(value: &[u8]) -> Result<(), BadHead> {
    check_controls(value)?;
    check_ends(value)
}

/// No control characters but tabs.
pub(super) fn check_controls(bytes: &[u8]) -> Result<(), BadHead> {
    // Without branches, so that the compiler can vectorise it.
    let is_bad = |byte: u8| (byte < b' ' && byte != b'\t') | (byte == 0x7f);
    if bytes.iter().fold(false, |found, &byte| found | is_bad(byte)) {
        return Err(BadHead::malformed("a field's value has a control character"));
    }
    Ok(())
}

/// No white space around a value.
pub(super) const fn check_ends(value: &[u8]) -> Result<(), BadHead> {
    match value {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err(LOOSE),
        _ => Ok(()),
    }
}

pub(super) const LOOSE: BadHead = BadHead::malformed("a field's value begins or ends with white space");

/// Fields of the connection do not exist in HTTP/2 (RFC 9113, 8.2.2).
fn check_connection(name: &[u8], value: &[u8]) -> Result<(), BadHead> {
    match Known::recognise(name) {
        Some(
            Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::TransferEncoding | Known::Upgrade,
        ) => Err(BadHead::malformed("there is a field of the connection")),
        Some(Known::Te) if !value.eq_ignore_ascii_case(b"trailers") => Err(BadHead::malformed("TE is not trailers")),
        _ => Ok(()),
    }
}

/// The host of the request. It is added to `fields` as their one `Host`.
fn host<'b>(block: &'b FieldBlock, pseudo: &PseudoFields, fields: &mut Fields<'b>) -> Result<Option<&'b str>, BadHead> {
    let value = |line: Line| line.value(block.bytes());
    let line = match (pseudo.authority, pseudo.host) {
        (None, None) => return Err(BadHead::malformed("there is neither :authority nor Host")),
        (None, Some(host)) => host,
        (Some(authority), Some(host)) if !value(authority).eq_ignore_ascii_case(value(host)) => {
            return Err(BadHead::malformed(":authority and Host differ"));
        }
        (Some(authority), None | Some(_)) => FieldBlock::host_line(authority),
    };
    if !fields.push_line(line) {
        return Err(TOO_MANY.into());
    }
    let host = value(line);
    check_authority(host)?;
    Ok(host.as_ascii_str())
}

fn method(value: Option<&[u8]>) -> Result<Method<'_>, BadHead> {
    let value = value.ok_or(BadHead::malformed("there is no :method"))?;
    if value.len() > METHOD_BYTES_MAX {
        return Err(ErrorResponse::new(Status::NOT_IMPLEMENTED, "the method is too long").into());
    }
    let method = if is_token(value) { Method::from_token(value) } else { None };
    method.ok_or(BadHead::malformed("the method is not a token"))
}

fn target<'b>(
    method: Method<'b>,
    control: &ControlData<'b>,
    context: HeadContext,
    limits: &HeadLimits,
) -> Result<Target<'b>, BadHead> {
    match (method, control.protocol) {
        (Method::Connect, None) => {
            let (None, None) = (control.scheme, control.path) else {
                return Err(BadHead::malformed("a CONNECT has a :scheme or a :path"));
            };
            let authority = control.authority.ok_or(BadHead::malformed("a CONNECT has no :authority"))?;
            return Ok(Target::parse(method, authority)?);
        }
        (Method::Connect, Some(protocol)) => {
            if !context.connect_protocol {
                return Err(BadHead::malformed("extended CONNECT was not announced"));
            }
            if control.authority.is_none() {
                return Err(BadHead::malformed("an extended CONNECT has no :authority"));
            }
            if !is_token(protocol) {
                return Err(BadHead::malformed("the :protocol is not a token"));
            }
        }
        (_, Some(_)) => return Err(BadHead::malformed("there is a :protocol without CONNECT")),
        (_, None) => {}
    }
    let scheme = control.scheme.ok_or(BadHead::malformed("there is no :scheme"))?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(ErrorResponse::bad_request("the target's scheme is not http").into());
    }
    let path = control.path.ok_or(BadHead::malformed("there is no :path"))?;
    // As long as the request line of HTTP/1.1.
    if method.as_str().len() + path.len() + "  HTTP/1.1\r\n".len() > limits.request_line_bytes_max {
        return Err(ErrorResponse::new(Status::URI_TOO_LONG, "the target is too long").into());
    }
    let is_valid_form = matches!((method, path), (_, [b'/', ..]) | (Method::Options, b"*"));
    if !is_valid_form {
        return Err(BadHead::malformed("the :path does not begin with a slash"));
    }
    if target_length(path) != path.len() {
        return Err(ErrorResponse::bad_request(UNESCAPED).into());
    }
    // The path of an extended CONNECT is that of a GET.
    let form_of = if method == Method::Connect { Method::Get } else { method };
    Ok(Target::parse(form_of, path)?)
}

/// How the body is delimited. [`BodyFraming::Chunked`] stands for a body of unknown length.
fn framing(fields: &Fields<'_>, end_stream: bool) -> Result<BodyFraming, BadHead> {
    let declared = content_length(fields.all_known(Known::ContentLength)).map_err(BadHead::Malformed)?;
    match (declared, end_stream) {
        (Some(1..), true) => Err(BadHead::malformed("the body is shorter than its Content-Length")),
        (Some(length), _) => Ok(BodyFraming::Length(length)),
        (None, true) => Ok(BodyFraming::None),
        (None, false) => Ok(BodyFraming::Chunked),
    }
}

impl DeclaredLength {
    /// Of a body with this framing.
    pub const fn new(framing: BodyFraming) -> Self {
        let left = match framing {
            BodyFraming::None => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked => None,
        };
        Self { left }
    }

    /// Number of bytes of data still to come, if known.
    pub const fn left(self) -> Option<u64> {
        self.left
    }

    /// Data arrives, without its padding.
    pub fn receive(&mut self, data_bytes: u64) -> Result<(), BadHead> {
        if let Some(left) = &mut self.left {
            *left =
                left.checked_sub(data_bytes).ok_or(BadHead::malformed("the body is longer than its Content-Length"))?;
        }
        Ok(())
    }

    /// The body ends.
    pub fn end(self) -> Result<(), BadHead> {
        match self.left {
            None | Some(0) => Ok(()),
            Some(_) => Err(BadHead::malformed("the body is shorter than its Content-Length")),
        }
    }
}

/// Octets of names: those of tokens except upper case.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = is_token_byte(byte) && !byte.is_ascii_uppercase();
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
