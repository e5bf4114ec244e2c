//! An upstream's response as sent to the client, framed and kept alive as the client's version
//! allows.

use super::rules::{FieldRules, Pseudonym};
use super::{ConnectionOptions, push_via};
use crate::http::date::DateLine;
use crate::http::fields::{Field, Known};
use crate::http::framing::content_length;
use crate::http::h1::head_encoder::{CHUNKED_LINE, connection_line, push_length, push_line};
use crate::http::head::Version;
use crate::http::response::names_member;
use crate::http::response_head::{ResponseFraming, ResponseHead};
use crate::http::status::Status;

/// How forwarded responses are changed. The default changes as little as a proxy may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRules {
    /// Fields that are set, added and removed. In interim responses (1xx), the fields to set or
    /// remove are removed.
    pub fields: FieldRules,
    /// Adds `Via` with this name (RFC 9110, 7.6.3).
    pub via: Option<Pseudonym>,
    /// Adds `Access-Control-Allow-Origin` with this value if the upstream does not send it.
    pub cors: Option<String>,
}

/// What [`write_response`] needs besides the received head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// The client's version.
    pub to: Version,
    /// The framing of the sent body, see [`ResponseFraming::for_client`].
    pub framing: ResponseFraming,
    /// Whether the client may send another request. The connection is closed in any case if only
    /// that can end the body.
    pub keep_alive: bool,
    /// Added to a response without `Date` (RFC 9110, 6.6.1).
    pub date: &'a DateLine,
    /// The value of one more `Set-Cookie`, which no rule removes. Not added to interim responses.
    pub set_cookie: Option<&'a str>,
}

impl ResponseFraming {
    /// The framing towards a client of version `to`. HTTP/1.0 has no chunks; in HTTP/1.1 there is
    /// no need to close (RFC 9112, 6.3).
    #[must_use]
    pub const fn for_client(self, to: Version) -> Self {
        match (self, to) {
            (Self::None | Self::Length(_), Version::Http10 | Version::Http11) => self,
            (Self::Chunked | Self::UntilClose, Version::Http10) => Self::UntilClose,
            (Self::Chunked | Self::UntilClose, Version::Http11) => Self::Chunked,
        }
    }
}

const CORS: &str = "Access-Control-Allow-Origin";

/// Appends the response head for the client to `out`. An interim response (1xx except 101) is only
/// for clients of HTTP/1.1.
pub fn write_response(
    head: &ResponseHead<'_>,
    rules: &ResponseRules,
    context: &ResponseContext<'_>,
    out: &mut Vec<u8>,
) {
    /// Upper estimate of the bytes added, except in unusual cases.
    const ADDED_BYTES: usize = 256;
    debug_assert!(
        (context.to, context.framing) != (Version::Http10, ResponseFraming::Chunked),
        "there are no chunks in HTTP/1.0"
    );
    out.reserve(head.fields.line_bytes() + head.reason.len() + ADDED_BYTES);

    // The version of this server, whatever the client's (RFC 9110, 6.2).
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&head.status.digits());
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");

    let options = ConnectionOptions::new(&head.fields);
    for field in head.fields.iter().filter(|field| is_passed_on(field, &options, &rules.fields)) {
        push_line(out, field.name, field.value);
    }
    let is_switch = head.status == Status::SWITCHING_PROTOCOLS;
    if is_switch {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        for protocol in head.fields.all_known(Known::Upgrade) {
            push_line(out, b"Upgrade", protocol);
        }
    }
    if is_switch || !head.status.is_informational() {
        push_framing(out, head, context);
        if head.fields.known(Known::Date).is_none() && !rules.fields.replace(b"Date") {
            out.extend_from_slice(context.date.as_bytes());
        }
        if let Some(via) = rules.via.as_ref().filter(|_| !rules.fields.replace(b"Via")) {
            push_via(out, head.version, via);
        }
        if loses_coding(&rules.fields, head) {
            push_line(out, b"Vary", b"Accept-Encoding");
        }
        if let Some(origin) = &rules.cors
            && head.fields.get(CORS).is_none()
            && !rules.fields.replace(CORS.as_bytes())
        {
            push_line(out, CORS.as_bytes(), origin.as_bytes());
        }
        rules.fields.push_lines(out);
        if let Some(cookie) = context.set_cookie {
            push_line(out, b"Set-Cookie", cookie.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the upstream's `Vary` names `Accept-Encoding` and a configured `Vary` does not. A cache
/// would then send an encoded body to a client that cannot decode it.
fn loses_coding(rules: &FieldRules, head: &ResponseHead<'_>) -> bool {
    const MEMBER: &str = "Accept-Encoding";
    let mut set = rules.set.iter().filter(|line| line.name().as_str().eq_ignore_ascii_case("Vary")).peekable();
    set.peek().is_some()
        && !set.any(|line| names_member(line.value().as_bytes(), MEMBER))
        && head.fields.all("Vary").any(|value| names_member(value, MEMBER))
}

fn is_passed_on(field: &Field<'_>, options: &ConnectionOptions<'_, '_>, rules: &FieldRules) -> bool {
    let is_dropped = match Known::recognise(field.name) {
        Some(known) => known.is_hop_by_hop() || known == Known::ContentLength,
        None => options.name(field.name),
    };
    !is_dropped && !rules.replace(field.name)
}

/// Writes the fields of this connection: body framing and `Connection`.
fn push_framing(out: &mut Vec<u8>, head: &ResponseHead<'_>, context: &ResponseContext<'_>) {
    let length = match context.framing {
        // The length of the body that GET would have. If it were ambiguous, the head would not have
        // parsed.
        ResponseFraming::None => content_length(head.fields.all_known(Known::ContentLength)).unwrap_or_default(),
        ResponseFraming::Length(length) => Some(length),
        ResponseFraming::Chunked | ResponseFraming::UntilClose => None,
    };
    if let Some(length) = length.filter(|_| !head.status.forbids_length()) {
        push_length(out, length);
    }
    if context.framing == ResponseFraming::Chunked {
        out.extend_from_slice(CHUNKED_LINE);
    }
    if head.status == Status::SWITCHING_PROTOCOLS {
        return;
    }
    let keep_alive = context.keep_alive && context.framing != ResponseFraming::UntilClose;
    out.extend_from_slice(connection_line(keep_alive, context.to));
}
