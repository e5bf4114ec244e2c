//! The heads that a proxy writes: a client's request as its upstream gets it, an upstream's response as the client does.
//!
//! ```text
//!   client ── RequestHead ──► write_request ──► upstream
//!   client ◄─ write_response ◄── ResponseHead ─  upstream
//! ```
//!
//! Each field line comes to one of three ends. What is *hop-by-hop* is dropped, and written anew from what this hop does:
//! how the body is framed, whether the connection stays, an upgrade. What the *rules* name is dropped, and written anew if
//! they say so. All else is passed on as it came, line by line and in its order. The lines that are added follow those
//! that are passed on.
//!
//! | module | what |
//! |---|---|
//! | `request` | [`write_request`], [`RequestRules`], [`RequestContext`] |
//! | `response` | [`write_response`], [`ResponseRules`], [`ResponseContext`] |
//! | `rules` | what can be configured, checked so that no line it gets into can break |
//!
//! ```
//! use xps::http::forward::{Authority, ForwardedRule, RequestContext, RequestRules, write_request};
//! use xps::http::request::{HeadLimits, Parsed, parse};
//!
//! let bytes = b"GET /a HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nAccept: */*\r\n\r\n";
//! let Parsed::Complete { head, .. } = parse(bytes, &HeadLimits::default())? else { panic!("it is complete") };
//! let rules = RequestRules { forwarded: ForwardedRule::Off, ..RequestRules::default() };
//! let upstream_authority = &Authority::new("127.0.0.1:3000")?;
//! let framing = head.framing;
//! let context = RequestContext {
//!     client: None, client_is_trusted: false, scheme: "http", upstream_authority, framing, upgrade: None,
//! };
//! let mut out = Vec::new();
//! write_request(&head, &rules, &context, &mut out);
//! assert_eq!(out, b"GET /a HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing is allocated but room in the buffer written to. It does not know which upstream, who may be believed, or when
//! bytes are sent.

mod request;
mod response;
mod rules;

pub use request::{
    ForwardedRule, HostRule, PathRule, RequestContext, RequestRules, UnderscoreRule, forwards_left, upgrade_to_forward,
    write_request,
};
pub use response::{ResponseContext, ResponseRules, write_response};
pub use rules::{Authority, BadRule, FieldLine, FieldName, FieldRules, PathPrefix, Pseudonym};

use super::fields::{Fields, Known};
use super::head::{Version, connection_tokens};

/// How many elements of `Connection` are looked at. Whoever sends more wants to waste time, not to hide so many fields.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// The fields that `Connection` says are for this hop only, without those for which that is settled anyway.
struct ConnectionOptions<'h, 'b> {
    fields: &'h Fields<'b>,
    /// Rarely: connections speak of `close`, `keep-alive` and `upgrade`.
    name_fields: bool,
}

impl<'h, 'b> ConnectionOptions<'h, 'b> {
    fn new(fields: &'h Fields<'b>) -> Self {
        let is_of_interest =
            |option: &[u8]| !option.eq_ignore_ascii_case(b"close") && Known::recognise(option).is_none();
        let name_fields = connection_tokens(fields).take(CONNECTION_OPTIONS_MAX).any(is_of_interest);
        Self { fields, name_fields }
    }

    /// Whether they name `name`, which is no known field's.
    fn name(&self, name: &[u8]) -> bool {
        self.name_fields
            && !is_x_forwarded(name)
            && connection_tokens(self.fields)
                .take(CONNECTION_OPTIONS_MAX)
                .any(|option| option.eq_ignore_ascii_case(name))
    }
}

/// How the many fields begin in which proxies tell where a request comes from.
const X_FORWARDED: &[u8] = b"X-Forwarded-";

/// Whether `name` is one of these.
fn is_x_forwarded(name: &[u8]) -> bool {
    name.get(..X_FORWARDED.len()).is_some_and(|start| start.eq_ignore_ascii_case(X_FORWARDED))
}

/// Whether two names are one for a program that makes them names of variables (RFC 3875, 4.1.18): in any case, and with one
/// character for all that are no letters or digits. By the letter that is done to `-` only; some do it to all.
fn folds_alike(one: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    one.len() == other.len() && one.iter().map(fold).eq(other.iter().map(fold))
}

/// Writes `Via` for a message that came in `version`.
fn push_via(out: &mut Vec<u8>, version: Version, pseudonym: &Pseudonym) {
    out.extend_from_slice(match version {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
    });
    out.extend_from_slice(pseudonym.as_str().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
