//! The heads that a proxy writes: a client's request to the upstream, and the response to the
//! client.
//!
//! ```text
//!   client ── RequestHead ──► write_request ──► upstream
//!   client ◄─ write_response ◄── ResponseHead ─  upstream
//! ```
//!
//! Each field line is handled in one of three ways. A *hop-by-hop* field is dropped and written
//! again for this hop: body framing, keep-alive, an upgrade, the wish for trailers. A field that the *rules* name is
//! dropped and written again if they say so. All other lines are forwarded unchanged and in order.
//! Added lines follow the forwarded ones. A response goes to a [`HeadSink`](super::HeadSink), whose
//! encoder adds the fields of the client's connection.
//!
//! | module | what |
//! |---|---|
//! | `request` | [`write_request`], [`RequestRules`], [`RequestContext`] |
//! | `response` | [`write_response`], [`ResponseRules`], [`ResponseContext`] |
//! | `trailers` | which trailers are forwarded |
//! | `websocket` | the handshake of a WebSocket for a client of HTTP/2 |
//! | `rules` | configurable rules, checked so that no line they get into can break |
//!
//! ```
//! use xps::internals::http::forward::{Authority, ForwardedRule, RequestContext, RequestRules, write_request};
//! use xps::internals::http::request::{HeadLimits, Parsed, parse};
//! use xps::internals::http::Scheme;
//!
//! let bytes = b"GET /a HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nAccept: */*\r\n\r\n";
//! let Parsed::Complete { head, .. } = parse(bytes, &HeadLimits::default())? else { panic!("it is complete") };
//! let rules = RequestRules { forwarded: ForwardedRule::Off, ..RequestRules::default() };
//! let upstream_authority = &Authority::new("127.0.0.1:3000")?;
//! let framing = head.framing;
//! let context = RequestContext {
//!     client: None, client_is_trusted: false, scheme: Scheme::Http, client_subject: None, upstream_authority, framing, upgrade: None,
//!     websocket_key: None, request_id: None,
//! };
//! let mut out = Vec::new();
//! write_request(&head, &rules, &context, &mut out);
//! assert_eq!(out, b"GET /a HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Only the output buffer allocates memory. This module does not know which upstream is used, which
//! clients are trusted, or when bytes are sent.

mod request;
mod response;
mod rules;
mod trailers;
mod websocket;

pub use request::{
    ForwardedRule, HostRule, PathRule, RequestContext, RequestIdRule, RequestRules, UnderscoreRule, forwards_left,
    upgrade_to_forward, write_request,
};
pub use response::{ResponseContext, ResponseRules, write_response};
pub use rules::{Authority, BadRule, FieldLine, FieldName, FieldRules, PathPrefix, Pseudonym};
pub use trailers::ConnectionNames;
pub use websocket::{TunnelSink, WebSocketKey, tunnel_head};

use super::fields::{Fields, Known};
use super::head::connection_tokens;

/// Number of elements of `Connection` that are evaluated. More are an attempt to waste time, not a
/// need to drop that many fields.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// The fields that `Connection` marks as hop-by-hop, except known fields, for which this is fixed.
struct ConnectionOptions<'h, 'b> {
    fields: &'h Fields<'b>,
    /// Rarely true: most elements are `close`, `keep-alive` and `upgrade`.
    name_fields: bool,
}

impl<'h, 'b> ConnectionOptions<'h, 'b> {
    fn new(fields: &'h Fields<'b>) -> Self {
        let is_of_interest =
            |option: &[u8]| !option.eq_ignore_ascii_case(b"close") && Known::recognise(option).is_none();
        let name_fields = connection_tokens(fields).take(CONNECTION_OPTIONS_MAX).any(is_of_interest);
        Self { fields, name_fields }
    }

    /// Whether `Connection` names `name`, which is not the name of a known field.
    fn name(&self, name: &[u8]) -> bool {
        self.name_fields
            && !is_x_forwarded(name)
            && connection_tokens(self.fields)
                .take(CONNECTION_OPTIONS_MAX)
                .any(|option| option.eq_ignore_ascii_case(name))
    }
}

/// Prefix of the fields in which proxies report the origin of a request.
const X_FORWARDED: &[u8] = b"X-Forwarded-";

/// Whether `name` begins with [`X_FORWARDED`].
fn is_x_forwarded(name: &[u8]) -> bool {
    name.get(..X_FORWARDED.len()).is_some_and(|start| start.eq_ignore_ascii_case(X_FORWARDED))
}

/// Whether two names are equal for a program that turns them into names of variables (RFC 3875,
/// 4.1.18): without case, and with one character for all that are neither letters nor digits. The
/// RFC replaces only `-`; some programs replace all.
fn folds_alike(one: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    one.len() == other.len() && one.iter().map(fold).eq(other.iter().map(fold))
}

#[cfg(test)]
mod tests;
