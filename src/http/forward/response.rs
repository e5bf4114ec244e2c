//! An upstream's response as sent to the client.
//!
//! The framing of the body towards the client is decided here; it is declared, like all that belongs
//! to the client's connection, by the encoder.

use super::ConnectionOptions;
use super::rules::{FieldRules, Pseudonym};
use crate::http::date::DateLine;
use crate::http::fields::{Field, Known};
use crate::http::framing::content_length;
use crate::http::head::Version;
use crate::http::response::{HeadSink, names_member};
use crate::http::response_head::{ResponseFraming, ResponseHead};

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
    /// Adds `Strict-Transport-Security` with this value if the upstream does not send it. Only for
    /// clients over TLS (RFC 6797, 7.2).
    pub hsts: Option<String>,
}

/// What [`write_response`] needs besides the received head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// Added to a response without `Date` (RFC 9110, 6.6.1).
    pub date: &'a DateLine,
    /// The value of one more `Set-Cookie`, which no rule removes. Not added to interim responses.
    pub set_cookie: Option<&'a str>,
    /// Whether trailers of the response are forwarded, so that `Trailer` may announce them.
    pub passes_trailers: bool,
}

impl ResponseFraming {
    /// The framing towards a client of version `to`. HTTP/1.0 has no chunks; in HTTP/1.1 there is
    /// no need to close (RFC 9112, 6.3). In HTTP/2 chunks stand for any body of unknown length.
    #[must_use]
    pub const fn for_client(self, to: Version) -> Self {
        match (self, to) {
            (Self::None | Self::Length(_), Version::Http10 | Version::Http11 | Version::Http2) => self,
            (Self::Chunked | Self::UntilClose, Version::Http10) => Self::UntilClose,
            (Self::Chunked | Self::UntilClose, Version::Http11 | Version::Http2) => Self::Chunked,
        }
    }
}

impl ResponseHead<'_> {
    /// The framing that the head for a client of version `to` declares: that of the body, see
    /// [`ResponseFraming::for_client`], or if there is none, the declared length of the one that GET
    /// would have.
    pub fn declared_framing(&self, to: Version) -> ResponseFraming {
        match self.framing.for_client(to) {
            // If the length were ambiguous, the head would not have parsed.
            ResponseFraming::None => content_length(self.fields.all_known(Known::ContentLength))
                .unwrap_or_default()
                .map_or(ResponseFraming::None, ResponseFraming::Length),
            framing => framing,
        }
    }
}

const CORS: &str = "Access-Control-Allow-Origin";
const HSTS: &str = "Strict-Transport-Security";

/// Writes the response head for the client to `sink`, without the fields of the connection. Those of
/// an interim response (1xx except 101) are the forwarded ones only.
pub fn write_response(
    head: &ResponseHead<'_>,
    rules: &ResponseRules,
    context: &ResponseContext<'_>,
    sink: &mut impl HeadSink,
) {
    /// Upper estimate of the bytes added, except in unusual cases.
    const ADDED_BYTES: usize = 256;
    sink.reserve(head.fields.line_bytes() + head.reason.len() + ADDED_BYTES);
    sink.status(head.status, head.reason);
    let options = ConnectionOptions::new(&head.fields);
    let is_open = |field: &Field<'_>| is_passed_on(field, &options, &rules.fields, context.passes_trailers);
    for field in head.fields.iter().filter(is_open) {
        sink.field(field.name, field.value);
    }
    if head.is_interim() {
        return;
    }
    if head.fields.known(Known::Date).is_none() && !rules.fields.replace(b"Date") {
        sink.date(context.date);
    }
    if let Some(via) = rules.via.as_ref().filter(|_| !rules.fields.replace(b"Via")) {
        sink.field(b"Via", via.received_in(head.version).as_bytes());
    }
    if loses_coding(&rules.fields, head) {
        sink.field(b"Vary", b"Accept-Encoding");
    }
    for (name, value) in [(CORS, &rules.cors), (HSTS, &rules.hsts)] {
        if let Some(value) = value
            && head.fields.get(name).is_none()
            && !rules.fields.replace(name.as_bytes())
        {
            sink.field(name.as_bytes(), value.as_bytes());
        }
    }
    for line in rules.fields.added() {
        sink.field(line.name().as_str().as_bytes(), line.value().as_bytes());
    }
    if let Some(cookie) = context.set_cookie {
        sink.field(b"Set-Cookie", cookie.as_bytes());
    }
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

fn is_passed_on(
    field: &Field<'_>,
    options: &ConnectionOptions<'_, '_>,
    rules: &FieldRules,
    passes_trailers: bool,
) -> bool {
    let is_dropped = match Known::recognise(field.name) {
        Some(Known::Trailer) => !passes_trailers,
        Some(known) => known.is_hop_by_hop() || known == Known::ContentLength,
        None => options.name(field.name),
    };
    !is_dropped && !rules.replace(field.name)
}
