//! A client's request as sent to the upstream: HTTP/1.1, in origin form, on a persistent
//! connection.

use std::io::Write as _;
use std::mem;
use std::net::IpAddr;
use std::ops::Range;

use super::rules::{Authority, FieldName, FieldRules, PathPrefix, Pseudonym};
use super::{ConnectionOptions, X_FORWARDED, folds_alike, is_x_forwarded};
use crate::http::fields::{Field, Known};
use crate::http::framing::BodyFraming;
use crate::http::h1::head_encoder::{push_framing, push_line};
use crate::http::head::Version;
use crate::http::method::Method;
use crate::http::path;
use crate::http::request::RequestHead;
use crate::http::request_id::REQUEST_ID;
use crate::http::response::push_decimal;
use crate::http::scheme::Scheme;
use crate::http::target::Target;
use crate::http::token::list;

/// How forwarded requests are changed. The default changes as little as a proxy may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// The `Host` field.
    pub host: HostRule,
    /// The fields that report the origin of the request.
    pub forwarded: ForwardedRule,
    /// Whether `Forwarded` (RFC 7239) reports it, too, unless `forwarded` is off.
    pub forwarded_field: bool,
    /// Adds `Via` with this name (RFC 9110, 7.6.3).
    pub via: Option<Pseudonym>,
    /// Adds the subject of the client's certificate in this field. The client's own fields of this name are
    /// dropped in any case.
    pub client_subject: Option<FieldName>,
    /// Fields that are set, added and removed.
    pub fields: FieldRules,
    /// Handling of fields with an underscore in their name.
    pub underscores: UnderscoreRule,
    /// Handling of `X-Request-Id`.
    pub request_id: RequestIdRule,
    /// Changes of the path.
    pub path: PathRule,
}

/// The `Host` of forwarded requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRule {
    /// The client's. If an HTTP/1.0 client sends none, the upstream's own.
    #[default]
    Keep,
    /// The upstream's own.
    Upstream,
    /// A fixed value.
    Literal(Authority),
}

/// Handling of `X-Forwarded-For`, `-Proto` and `-Host`, and of `Forwarded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedRule {
    /// The fields of trusted proxies are kept. Their `X-Forwarded-For` and the client's address
    /// become one line; `-Proto` and `-Host` are added if they are missing. For other clients as
    /// `Replace`.
    Append,
    /// All that clients send in these fields, in any other `X-Forwarded-` field and in `X-Real-IP`
    /// is dropped.
    #[default]
    Replace,
    /// The client's fields are forwarded, and nothing is added.
    Off,
}

/// Handling of fields with an underscore in their name.
///
/// Programs behind CGI and its successors cannot distinguish `X_Real_IP` and `X-Real-IP`: both are
/// `HTTP_X_REAL_IP` (RFC 3875, 4.1.18). A field that they would take for one that the proxy writes,
/// or that a rule sets or removes, is never forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoreRule {
    /// All others are forwarded.
    #[default]
    Pass,
    /// All others are dropped.
    Drop,
}

/// Handling of `X-Request-Id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestIdRule {
    /// The client's is forwarded.
    #[default]
    Keep,
    /// A request without a valid one gets one.
    Add,
    /// Each request gets one; the client's is dropped.
    Replace,
}

/// Changes of the path.
///
/// The rest after the prefix is forwarded unchanged. Only if the request spells the prefix
/// differently, as in `/%61pi` or `/x/../api`, the path is decoded, normalised and escaped again.
/// Otherwise a client could send requests that match this prefix and are forwarded with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRule {
    /// The path is not changed.
    #[default]
    Keep,
    /// The prefix is removed.
    Strip(PathPrefix),
    /// The prefix is replaced.
    Replace {
        /// The prefix to remove.
        prefix: PathPrefix,
        /// The prefix to insert.
        with: PathPrefix,
    },
}

impl PathRule {
    /// The prefix to remove, if there is one.
    pub const fn prefix(&self) -> Option<&PathPrefix> {
        match self {
            Self::Keep => None,
            Self::Strip(prefix) | Self::Replace { prefix, .. } => Some(prefix),
        }
    }

    /// Whether the path is sent as received, not escaped again.
    pub fn keeps_spelling_of(&self, path: &str) -> bool {
        self.prefix().is_none_or(|prefix| prefix.rest_of(path).is_some())
    }
}

/// What [`write_request`] needs besides the received head.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The client's address; `None` if it has none, as on a Unix socket.
    pub client: Option<IpAddr>,
    /// Whether the client is a trusted proxy, whose `X-Forwarded-For` is believed.
    pub client_is_trusted: bool,
    /// The scheme of the client's connection.
    pub scheme: Scheme,
    /// The subject of the client's certificate; printable ASCII.
    pub client_subject: Option<&'a str>,
    /// The upstream's own name.
    pub upstream_authority: &'a Authority,
    /// The framing of the sent body.
    pub framing: BodyFraming,
    /// The protocols to request from the upstream, see [`upgrade_to_forward`].
    pub upgrade: Option<&'a [u8]>,
    /// The `Sec-WebSocket-Key` to send in place of the client's, see [`super::WebSocketKey`].
    pub websocket_key: Option<&'a str>,
    /// The `X-Request-Id` to send in place of the client's.
    pub request_id: Option<&'a str>,
}

/// The protocols of a valid upgrade request with one `Upgrade` line, if it may be forwarded. An
/// upgrade to HTTP/2 may not: it would carry further requests past all rules.
pub fn upgrade_to_forward<'b>(head: &RequestHead<'b>) -> Option<&'b [u8]> {
    let is_http2 = |protocol: &[u8]| protocol.eq_ignore_ascii_case(b"h2c") || protocol.eq_ignore_ascii_case(b"h2");
    let protocols =
        head.upgrade().filter(|protocols| !protocols.is_empty() && !head.fields.is_repeated(Known::Upgrade))?;
    (!list(protocols).any(is_http2)).then_some(protocols)
}

/// Appends the request head for the upstream to `out`. Returns where in `out` the value of `Host` is,
/// so that another can be put in its place for another upstream.
pub fn write_request(
    head: &RequestHead<'_>,
    rules: &RequestRules,
    context: &RequestContext<'_>,
    out: &mut Vec<u8>,
) -> Range<usize> {
    /// Upper estimate of the bytes added, except in unusual cases.
    const ADDED_BYTES: usize = 512;
    let target_bytes = head.target.path().map_or(0, str::len) + head.target.query().map_or(0, <[u8]>::len);
    out.reserve(head.fields.line_bytes() + target_bytes + ADDED_BYTES);

    // What HTTP/2 asks for by an extended CONNECT, HTTP/1.1 does by an upgrade of a GET (RFC 8441, 5).
    let method = if head.protocol.is_some() { Method::Get } else { head.method };
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    push_target(out, &head.target, &rules.path);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let host = match &rules.host {
        HostRule::Keep => head.host.unwrap_or(context.upstream_authority.as_str()),
        HostRule::Upstream => context.upstream_authority.as_str(),
        HostRule::Literal(authority) => authority.as_str(),
    };
    push_line(out, b"Host", host.as_bytes());
    let host_end = out.len() - b"\r\n".len();
    let host_range = host_end - host.len()..host_end;

    let forwarded = match rules.forwarded {
        ForwardedRule::Append if !context.client_is_trusted => ForwardedRule::Replace,
        rule => rule,
    };
    let has_trailers = context.framing == BodyFraming::Chunked;
    let has_key = context.websocket_key.is_some();
    let options = ConnectionOptions::new(&head.fields);
    let has_id = context.request_id.is_some();
    let passage = Passage { head, rules, forwarded, has_trailers, has_key, has_id, options };
    for field in head.fields.iter().filter(|field| passage.is_open(field)) {
        push_line(out, field.name, field.value);
    }
    if let Some(forwards) = forwards_left(head).filter(|_| !rules.fields.replace(b"Max-Forwards")) {
        out.extend_from_slice(b"Max-Forwards: ");
        push_decimal(out, forwards.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    push_framing(out, context.framing);
    let takes_trailers = head.takes_trailers();
    out.extend_from_slice(match (context.upgrade, takes_trailers) {
        (None, false) => b"",
        (None, true) => b"Connection: TE\r\n",
        (Some(_), false) => b"Connection: upgrade\r\n",
        (Some(_), true) => b"Connection: upgrade, TE\r\n",
    });
    if let Some(protocols) = context.upgrade {
        push_line(out, b"Upgrade", protocols);
    }
    if let Some(key) = context.websocket_key {
        push_line(out, WEBSOCKET_KEY, key.as_bytes());
    }
    if takes_trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if let Some(id) = context.request_id.filter(|_| !rules.fields.replace(REQUEST_ID.as_bytes())) {
        push_line(out, REQUEST_ID.as_bytes(), id.as_bytes());
    }
    Origin { head, rules, forwarded, context }.push_lines(out);
    if let (Some(name), Some(subject)) = (&rules.client_subject, context.client_subject) {
        push_line(out, name.as_str().as_bytes(), subject.as_bytes());
    }
    if let Some(via) = rules.via.as_ref().filter(|_| !rules.fields.replace(b"Via")) {
        push_line(out, b"Via", via.received_in(head.version).as_bytes());
    }
    for line in rules.fields.added() {
        push_line(out, line.name().as_str().as_bytes(), line.value().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    host_range
}

fn push_target(out: &mut Vec<u8>, target: &Target<'_>, rule: &PathRule) {
    match *target {
        Target::Origin { path, query } | Target::Absolute { path, query, .. } => {
            push_path(out, path, rule);
            if let Some(query) = query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        Target::Authority(authority) => out.extend_from_slice(authority.as_bytes()),
        // The last proxy must send `*` (RFC 9112, 3.2.4), and this may be the last.
        Target::Asterisk | Target::AsteriskOf(_) => out.push(b'*'),
    }
}

fn push_path(out: &mut Vec<u8>, path: &str, rule: &PathRule) {
    let (prefix, with) = match rule {
        PathRule::Keep => return out.extend_from_slice(path.as_bytes()),
        PathRule::Strip(prefix) => (prefix, ""),
        PathRule::Replace { prefix, with } => (prefix, with.as_str()),
    };
    let Some(rest) = prefix.rest_of(path) else { return push_respelled(out, path, prefix, with) };
    out.extend_from_slice(with.as_bytes());
    if with.is_empty() || !rest.is_empty() {
        // One slash only: two at the start of a target could be taken for the start of a host.
        out.push(b'/');
        out.extend_from_slice(rest.trim_start_matches('/').as_bytes());
    }
}

/// Writes a path that does not begin with the spelling of the prefix.
fn push_respelled(out: &mut Vec<u8>, path: &str, prefix: &PathPrefix, with: &str) {
    let decoded = path::decode(path).ok();
    let rest = decoded.as_ref().and_then(|decoded| {
        Some((path::rest_beneath(decoded.as_bytes(), prefix.decoded())?, decoded.ends_with_slash()))
    });
    match rest {
        Some((rest, is_folder)) => {
            out.extend_from_slice(with.as_bytes());
            if with.is_empty() || is_folder || !rest.is_empty() {
                path::encode_path(rest, is_folder, out);
            }
        }
        None => out.extend_from_slice(path.as_bytes()),
    }
}

const WEBSOCKET_KEY: &[u8] = b"Sec-WebSocket-Key";

/// Decides which of the client's lines are forwarded.
struct Passage<'h, 'b> {
    head: &'h RequestHead<'b>,
    rules: &'h RequestRules,
    forwarded: ForwardedRule,
    /// Whether trailers may follow, which `Trailer` announces.
    has_trailers: bool,
    /// Whether the client's `Sec-WebSocket-Key` is replaced.
    has_key: bool,
    /// Whether the client's `X-Request-Id` is replaced.
    has_id: bool,
    options: ConnectionOptions<'h, 'b>,
}

impl Passage<'_, '_> {
    fn is_open(&self, field: &Field<'_>) -> bool {
        let is_dropped = match Known::recognise(field.name) {
            Some(Known::Trailer) => !self.has_trailers,
            Some(known) => known.is_hop_by_hop() || self.is_written_here(known),
            None => {
                field.name.eq_ignore_ascii_case(b"Proxy")
                    || self.options.name(field.name)
                    || (self.has_key && field.name.eq_ignore_ascii_case(WEBSOCKET_KEY))
                    || (self.has_id && folds_alike(REQUEST_ID.as_bytes(), field.name))
                    || (self.forwarded == ForwardedRule::Replace && is_x_forwarded(field.name))
                    || self.is_disguised(field.name)
            }
        };
        !is_dropped && !self.rules.fields.replace_alike(field.name) && !self.names_subject(field.name)
    }

    /// Whether a program behind the proxy could take this field for that of the client's subject.
    fn names_subject(&self, name: &[u8]) -> bool {
        self.rules.client_subject.as_ref().is_some_and(|subject| folds_alike(subject.as_str().as_bytes(), name))
    }

    /// Whether a program that maps all characters but letters and digits to one would take this
    /// name for that of a field that clients must not set.
    fn is_disguised(&self, name: &[u8]) -> bool {
        if name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
            return false;
        }
        let is_off = self.forwarded == ForwardedRule::Off;
        let is_ours =
            |known: Known| known.is_hop_by_hop() || known == Known::ContentLength || (tells_origin(known) && !is_off);
        let is_alike = |known: &&Known| folds_alike(name, known.as_str().as_bytes());
        (self.rules.underscores == UnderscoreRule::Drop && name.contains(&b'_'))
            || Known::ALL.iter().find(is_alike).is_some_and(|known| is_ours(*known))
            || (!is_off && name.get(..X_FORWARDED.len()).is_some_and(|start| folds_alike(start, X_FORWARDED)))
    }

    fn is_written_here(&self, known: Known) -> bool {
        let is_hearsay = match self.forwarded {
            ForwardedRule::Append => known == Known::XForwardedFor,
            ForwardedRule::Replace => tells_origin(known),
            ForwardedRule::Off => false,
        };
        // An HTTP/1.0 client cannot wait for a 100 (RFC 9110, 10.1.1).
        let is_vain = known == Known::Expect && self.head.version == Version::Http10;
        let is_counted_down = known == Known::MaxForwards && forwards_left(self.head).is_some();
        is_hearsay || is_vain || is_counted_down || matches!(known, Known::Host | Known::ContentLength)
    }
}

/// How many more times a request may be forwarded; `None`: no limit. Only OPTIONS is limited (RFC
/// 9110, 7.6.2), as TRACE is not forwarded at all. A value that is not a number is ignored.
pub fn forwards_left(head: &RequestHead<'_>) -> Option<u64> {
    if head.method != Method::Options {
        return None;
    }
    let number = |value: &[u8]| {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let digits = value.iter().map(|digit| u64::from(digit - b'0'));
        is_number.then(|| digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(digit)))
    };
    let mut values = head.fields.all_known(Known::MaxForwards).map(number);
    let first = values.next()??;
    values.try_fold(first, |least, value| Some(least.min(value?)))
}

const fn tells_origin(known: Known) -> bool {
    matches!(
        known,
        Known::Forwarded | Known::XForwardedFor | Known::XForwardedHost | Known::XForwardedProto | Known::XRealIp
    )
}

/// Writes the fields that report the origin of a request.
struct Origin<'h, 'b> {
    head: &'h RequestHead<'b>,
    rules: &'h RequestRules,
    forwarded: ForwardedRule,
    context: &'h RequestContext<'h>,
}

impl Origin<'_, '_> {
    fn push_lines(&self, out: &mut Vec<u8>) {
        let is_appended = match self.forwarded {
            ForwardedRule::Append => true,
            ForwardedRule::Replace => false,
            ForwardedRule::Off => return,
        };
        let is_wanted = |known: Known| !self.rules.fields.replace(known.as_str().as_bytes());
        let is_missing = |known| !is_appended || self.head.fields.known(known).is_none();
        if is_wanted(Known::XForwardedFor) {
            self.push_addresses(is_appended, out);
        }
        if is_missing(Known::XForwardedProto) && is_wanted(Known::XForwardedProto) {
            push_line(out, b"X-Forwarded-Proto", self.context.scheme.name().as_bytes());
        }
        if let Some(host) = self.head.host
            && is_missing(Known::XForwardedHost)
            && is_wanted(Known::XForwardedHost)
        {
            push_line(out, b"X-Forwarded-Host", host.as_bytes());
        }
        if self.rules.forwarded_field && is_wanted(Known::Forwarded) {
            self.push_forwarded(out);
        }
    }

    /// Writes `X-Forwarded-For` in one line, as some recipients read only one.
    fn push_addresses(&self, is_appended: bool, out: &mut Vec<u8>) {
        let line_at = out.len();
        let mut start: &[u8] = b"X-Forwarded-For: ";
        let earlier = is_appended.then(|| self.head.fields.all_known(Known::XForwardedFor));
        for value in earlier.into_iter().flatten().filter(|value| !value.is_empty()) {
            out.extend_from_slice(mem::replace(&mut start, b", "));
            out.extend_from_slice(value);
        }
        if let Some(client) = self.context.client {
            out.extend_from_slice(start);
            push_address(out, client);
        }
        if out.len() > line_at {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes `Forwarded` (RFC 7239) on a line of its own. Appended to a line that a client sent,
    /// it could become part of an unclosed quoted string.
    fn push_forwarded(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Forwarded: for=");
        match self.context.client.map(|client| client.to_canonical()) {
            Some(client @ IpAddr::V4(_)) => push_address(out, client),
            Some(client @ IpAddr::V6(_)) => {
                out.extend_from_slice(b"\"[");
                push_address(out, client);
                out.extend_from_slice(b"]\"");
            }
            None => out.extend_from_slice(b"unknown"),
        }
        if let Some(host) = self.head.host {
            // Quoted because of the colon. No character of a host needs escaping in quotes.
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(host.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(self.context.scheme.name().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes `address`. An IPv4-mapped IPv6 address is written as IPv4.
fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{address}");
        }
    }
}
