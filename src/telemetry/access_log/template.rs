//! A format of the operator's own: text with variables, such as `$remote_addr $status $reason`.

use std::fmt;

use super::facts::{ExchangeEnd, Facts};
use super::line::{Stamp, protocol, push_address, push_cut, push_target, trace_id};
use crate::driver::Peer;
use crate::http::RequestHead;
use crate::http::fields::Known;
use crate::http::response::push_decimal;
use crate::tls::ConnectionFacts;

/// Bytes of a template. 4 KiB.
const TEMPLATE_BYTES_MAX: usize = 4 << 10;

/// What a template shows for a value that does not exist.
const NOTHING: &[u8] = b"-";

/// The prefix of the variables that are fields of the request: `$http_accept_language`.
const FIELD_PREFIX: &str = "http_";

/// A format of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Variable(Variable),
    /// A field of the request, by its name.
    Field(String),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// There is no variable of this name.
    #[error("there is no variable `${0}`")]
    Unknown(String),
    /// A `$` without the name of a variable, or a `${` without its end.
    #[error("a `$` stands before something other than a name; `$$` is the character itself")]
    NoName,
    /// There is no variable in it.
    #[error("there is no variable in it, such as `$status`")]
    Constant,
    /// It has a control character, which could end the line.
    #[error("it has a control character")]
    Control,
    /// It is too long.
    #[error("it is longer than 4096 bytes")]
    TooLong,
}

macro_rules! variables {
    ($($variable:ident $name:literal $meaning:literal;)+) => {
        /// A value that a line can have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        enum Variable {
            $($variable,)+
        }

        /// All variables: their names, and what they are.
        pub const VARIABLES: &[(&str, &str)] = &[$(($name, $meaning),)+];

        impl Variable {
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variable),)+
                    _ => None,
                }
            }
        }
    };
}

variables! {
    RemoteAddr "remote_addr" "the client's address";
    TimeLocal "time_local" "when the request arrived, as `23/Nov/2026:18:57:50 +0000`";
    TimeIso8601 "time_iso8601" "the same as `2026-11-23T18:57:50Z`";
    Method "method" "the method";
    Target "target" "path and query, up to 2 KiB";
    Protocol "protocol" "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`";
    Host "host" "the `Host` of the request";
    Referer "referer" "the `Referer` of the request";
    UserAgent "user_agent" "the `User-Agent` of the request";
    TraceId "trace_id" "the trace of a valid `traceparent` field";
    RequestId "request_id" "the request id that was passed on, else that of the request, else one that is made for the line";
    Status "status" "the status of the response; 499 without one";
    Bytes "bytes" "bytes of the response body that were sent";
    RequestBytes "request_bytes" "bytes of the request body that were forwarded";
    DurationMs "duration_ms" "milliseconds from the arrival of the request to the end of the response";
    DurationUs "duration_us" "the same in microseconds";
    Cache "cache" "`hit` or `miss`, for files";
    Route "route" "the `req_path` of a proxy route";
    UpstreamAddr "upstream_addr" "the address of the upstream that was used, or tried, last";
    Tries "tries" "connections to upstreams that were tried";
    QueueUs "queue_us" "microseconds in the queue of the upstreams";
    ConnectUs "connect_us" "microseconds of the last connect";
    FirstByteUs "first_byte_us" "microseconds from the arrival of the request to that of the upstream's response head";
    Reason "reason" "why there is no response of an upstream, or not all of one";
    Termination "termination" "how the request ended, in two letters";
    TlsVersion "tls_version" "the version of TLS";
    TlsCipher "tls_cipher" "the cipher suite";
    ServerName "server_name" "the name that the client asked for (SNI)";
    Alpn "alpn" "the application protocol that was agreed on over TLS";
    ClientSubject "client_subject" "the subject of the client's certificate";
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// See [`BadTemplate`].
    pub fn new(source: &str) -> Result<Self, BadTemplate> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(BadTemplate::TooLong);
        }
        if source.chars().any(char::is_control) {
            return Err(BadTemplate::Control);
        }
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((text, behind)) = rest.split_once('$') {
            push_text(&mut parts, text);
            rest = match behind.strip_prefix('$') {
                Some(behind) => {
                    push_text(&mut parts, "$");
                    behind
                }
                None => {
                    let (name, behind) = split_name(behind).ok_or(BadTemplate::NoName)?;
                    parts.push(variable(name).ok_or_else(|| BadTemplate::Unknown(name.to_owned()))?);
                    behind
                }
            };
        }
        push_text(&mut parts, rest);
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            return Err(BadTemplate::Constant);
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// Whether it shows the request id.
    pub(super) fn shows_request_id(&self) -> bool {
        self.parts.contains(&Part::Variable(Variable::RequestId))
    }

    /// Writes the values that are known when a request has arrived, each behind its length. `head`: `None`
    /// if it could not be parsed.
    pub(super) fn begin(&self, text: &mut Vec<u8>, peer: Peer, head: Option<&RequestHead<'_>>, unix_seconds: u64) {
        for part in &self.parts {
            let length_at = text.len();
            text.extend_from_slice(&[0; LENGTH_BYTES]);
            let begins = match part {
                Part::Text(_) => false,
                Part::Field(name) => push_field(text, head.and_then(|head| head.fields.get(name))),
                Part::Variable(variable) => variable.begin(text, peer, head, unix_seconds),
            };
            if begins {
                // Each value is truncated, so its length fits.
                let length = (text.len() - length_at - LENGTH_BYTES) as u16;
                text[length_at..length_at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
            } else {
                text.truncate(length_at);
            }
        }
    }

    /// Writes the line without its newline. `begun`: what was written at the arrival; `id`: the request id.
    pub(super) fn finish(
        &self,
        line: &mut Vec<u8>,
        begun: &[u8],
        id: &[u8],
        tls: Option<&ConnectionFacts>,
        facts: &Facts,
        end: &ExchangeEnd,
    ) {
        let mut begun = begun;
        for part in &self.parts {
            let is_late = match part {
                Part::Text(text) => {
                    line.extend_from_slice(text.as_bytes());
                    true
                }
                Part::Field(_) => false,
                Part::Variable(variable) => variable.finish(line, id, tls, facts, end),
            };
            if !is_late
                && let Some((length, behind)) = begun.split_first_chunk::<LENGTH_BYTES>()
                && let Some((value, behind)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
            {
                line.extend_from_slice(value);
                begun = behind;
            }
        }
    }
}

/// Bytes of the length before a value.
const LENGTH_BYTES: usize = 2;

impl Variable {
    /// Writes a value that is known when a request has arrived. `false`: it is known later.
    fn begin(self, text: &mut Vec<u8>, peer: Peer, head: Option<&RequestHead<'_>>, unix_seconds: u64) -> bool {
        let known = |known: Known| head.and_then(|head| head.fields.known(known));
        match self {
            Self::RemoteAddr => push_address(text, peer),
            Self::TimeLocal => text.extend_from_slice(&Stamp::of(unix_seconds).local),
            Self::TimeIso8601 => text.extend_from_slice(&Stamp::of(unix_seconds).rfc3339),
            Self::Method => text.extend_from_slice(head.map_or(NOTHING, |head| head.method.as_str().as_bytes())),
            Self::Target => match head {
                Some(head) => push_target(text, &head.target),
                None => text.extend_from_slice(NOTHING),
            },
            Self::Protocol => {
                text.extend_from_slice(head.map_or(NOTHING, |head| protocol(head.version).as_bytes()));
            }
            Self::Host => return push_field(text, known(Known::Host)),
            Self::Referer => return push_field(text, known(Known::Referer)),
            Self::UserAgent => return push_field(text, known(Known::UserAgent)),
            Self::TraceId => text.extend_from_slice(head.and_then(trace_id).unwrap_or(NOTHING)),
            _ => return false,
        }
        true
    }

    /// Writes a value that is known at the end. `false`: it was known earlier.
    fn finish(
        self,
        line: &mut Vec<u8>,
        id: &[u8],
        tls: Option<&ConnectionFacts>,
        facts: &Facts,
        end: &ExchangeEnd,
    ) -> bool {
        let forwarded = facts.forwarded.as_ref();
        let number = |line: &mut Vec<u8>, number: Option<u128>| match number {
            Some(number) => push_decimal(line, number as u64),
            None => line.extend_from_slice(NOTHING),
        };
        let text = |line: &mut Vec<u8>, text: Option<&[u8]>| push_cut(line, text.unwrap_or(NOTHING));
        match self {
            Self::RequestId => text(line, Some(id).filter(|id| !id.is_empty())),
            Self::Status => push_decimal(line, u64::from(end.status)),
            Self::Bytes => push_decimal(line, end.body_bytes),
            Self::RequestBytes => number(line, forwarded.map(|forwarded| forwarded.request_bytes.into())),
            Self::DurationMs => number(line, Some(end.duration.as_millis())),
            Self::DurationUs => number(line, Some(end.duration.as_micros())),
            Self::Cache => text(line, facts.cache.map(|cache| cache.code().as_bytes())),
            Self::Route => text(line, forwarded.and_then(|forwarded| forwarded.route.as_deref()).map(str::as_bytes)),
            Self::UpstreamAddr => {
                text(line, forwarded.and_then(|forwarded| forwarded.upstream.as_deref()).map(str::as_bytes));
            }
            Self::Tries => number(line, forwarded.map(|forwarded| forwarded.tries.into())),
            Self::QueueUs => number(line, forwarded.map(|forwarded| forwarded.queue.as_micros())),
            Self::ConnectUs => number(line, forwarded.map(|forwarded| forwarded.connect.as_micros())),
            Self::FirstByteUs => {
                let first_byte = forwarded.and_then(|forwarded| forwarded.first_byte);
                number(line, first_byte.map(|first_byte| first_byte.as_micros()));
            }
            Self::Reason => {
                let reason = forwarded.and_then(|forwarded| forwarded.reason);
                text(line, reason.map(|reason| reason.code().as_bytes()));
            }
            Self::Termination => line.extend_from_slice(end.termination.as_str().as_bytes()),
            Self::TlsVersion => text(line, tls.map(|tls| tls.version.as_bytes())),
            Self::TlsCipher => text(line, tls.map(|tls| tls.cipher_suite.as_bytes())),
            Self::ServerName => text(line, tls.and_then(|tls| tls.server_name.as_deref()).map(str::as_bytes)),
            Self::Alpn => text(line, tls.and_then(|tls| tls.protocol.as_deref())),
            Self::ClientSubject => text(line, tls.and_then(ConnectionFacts::client_subject).map(str::as_bytes)),
            Self::RemoteAddr
            | Self::TimeLocal
            | Self::TimeIso8601
            | Self::Method
            | Self::Target
            | Self::Protocol
            | Self::Host
            | Self::Referer
            | Self::UserAgent
            | Self::TraceId => return false,
        }
        true
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Writes the value of a field, truncated.
fn push_field(text: &mut Vec<u8>, value: Option<&[u8]>) -> bool {
    push_cut(text, value.unwrap_or(NOTHING));
    true
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(before)) => before.push_str(text),
        Some(_) | None => parts.push(Part::Text(text.to_owned())),
    }
}

/// The name at the start of `NAME…` or `{NAME}…`, and what is behind it.
fn split_name(text: &str) -> Option<(&str, &str)> {
    let (name, behind) = match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => {
            let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
            text.split_at(text.find(|character| !is_of_name(character)).unwrap_or(text.len()))
        }
    };
    (!name.is_empty()).then_some((name, behind))
}

fn variable(name: &str) -> Option<Part> {
    if let Some(variable) = Variable::named(name) {
        return Some(Part::Variable(variable));
    }
    let field = name.strip_prefix(FIELD_PREFIX).filter(|field| !field.is_empty())?;
    let is_plain = field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_plain.then(|| Part::Field(field.replace('_', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_variables_and_text() {
        let template = Template::new("a $status${bytes}b $$1 $http_accept_language").unwrap();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            template.parts,
            [
                text("a "),
                Part::Variable(Variable::Status),
                Part::Variable(Variable::Bytes),
                text("b $1 "),
                Part::Field("accept-language".to_owned())
            ]
        );
        for (source, error) in [
            ("$stauts", BadTemplate::Unknown("stauts".to_owned())),
            ("$http_", BadTemplate::Unknown("http_".to_owned())),
            ("${http_a-b}", BadTemplate::Unknown("http_a-b".to_owned())),
            ("a $ b", BadTemplate::NoName),
            ("$status ${bytes", BadTemplate::NoName),
            ("text", BadTemplate::Constant),
            ("", BadTemplate::Constant),
            ("$status\n", BadTemplate::Control),
            (&"$status".repeat(1000), BadTemplate::TooLong),
        ] {
            assert_eq!(Template::new(source), Err(error), "{source}");
        }
    }

    #[test]
    fn each_variable_has_a_name_and_is_documented() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operation.md")).unwrap();
        for (name, meaning) in VARIABLES {
            assert!(Template::new(&format!("${name}")).is_ok(), "{name}");
            let row = format!("| `${name}` | {meaning} |");
            assert!(page.lines().any(|line| line == row), "docs/operation.md lacks the row\n{row}");
        }
    }
}
