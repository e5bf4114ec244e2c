//! Values of HTTP heads as text.

use std::fmt;
use std::str::FromStr;

use super::TextError;
use super::address::{is_domain, port_of};
use crate::http::charset::Charset;
use crate::http::forward;
use crate::http::token::is_token;
use crate::upstream::group::StatusRange;

/// Implements `Display` for types that hold a text as it was written.
macro_rules! shown_as_written {
    ($($type:ident),*) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}

shown_as_written!(Token, FieldValue, HostField, MediaType, Origin, RedirectUrl, RequestTarget, ServerName);

/// An HTTP token (RFC 9110, 5.6.2), such as a field name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub String);

impl FromStr for Token {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if is_token(text.as_bytes()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::new("not a token: only letters, digits and -._~!#$%&'*+^`| are allowed"))
        }
    }
}

impl FromStr for Charset {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            name if is_token(name.as_bytes()) => Ok(Self::Named(name.to_owned())),
            _ => Err(TextError::new("not a charset: write auto, off, or a name such as iso-8859-1")),
        }
    }
}

/// A field value (RFC 9110, 5.5): not empty, without white space at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(pub String);

impl FromStr for FieldValue {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            Err(TextError::new("not a field value: it contains a control character"))
        } else if text.is_empty() || text.trim() != text {
            Err(TextError::new("not a field value: it is empty, or has white space at either end"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// The value of the `Server` field. Empty: no such field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerName(pub String);

impl FromStr for ServerName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.is_empty() { Ok(Self::default()) } else { FieldValue::from_str(text).map(|value| Self(value.0)) }
    }
}

/// The name that a proxy adds to the `Via` field (RFC 9110, 7.6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// `off`: the proxy adds nothing.
    Off,
    /// The pseudonym.
    As(Token),
}

impl FromStr for Via {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::As) }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::As(name) => name.fmt(f),
        }
    }
}

/// `type/subtype`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType(pub String);

impl FromStr for MediaType {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text.split_once('/') {
            Some((kind, subtype)) if is_token(kind.as_bytes()) && is_token(subtype.as_bytes()) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            Some(_) | None => Err(TextError::new("not a media type: write TYPE/SUBTYPE, for example text/html")),
        }
    }
}

/// The value of `Access-Control-Allow-Origin`: `*`, `null` or `scheme://host[:port]`; `off`: no
/// such field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

impl FromStr for Origin {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let is_origin = match text.split_once("://") {
            Some((scheme, authority)) => is_scheme(scheme) && is_authority(authority),
            None => matches!(text, "*" | "null" | "off"),
        };
        if is_origin {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::new(
                "not an origin: write *, off, or SCHEME://HOST without a path, for example https://example.org",
            ))
        }
    }
}

impl Origin {
    /// The value of the field, or `None` if the field is not sent.
    pub fn field(&self) -> Option<&str> {
        (self.0 != "off").then_some(&self.0)
    }
}

/// A path prefix: begins with a slash, without `?` and `#`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(pub forward::PathPrefix);

impl FromStr for PathPrefix {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if !text.starts_with('/') {
            return Err(TextError::new("a path must begin with `/`"));
        }
        match text.chars().find(|&character| !is_path_character(character)) {
            Some(' ') => Err(TextError::new("write a space in a path as %20")),
            Some(character) => Err(TextError::new(format!("a path cannot contain `{}`", character.escape_default()))),
            None => forward::PathPrefix::new(text).map(Self).map_err(|bad| TextError::new(bad.reason)),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => f.write_str("/"),
            prefix => f.write_str(prefix),
        }
    }
}

fn is_path_character(character: char) -> bool {
    !matches!(character, '?' | '#') && !character.is_whitespace() && !character.is_control()
}

/// The name of a route, for a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteName(pub String);

impl FromStr for RouteName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if text.len() <= ROUTE_NAME_BYTES_MAX
            && text.bytes().all(is_allowed)
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        {
            return Ok(Self(text.to_owned()));
        }
        Err(TextError::new("a name is up to 64 letters, digits, `_`, `.` and `-`, the first a letter or a digit"))
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Maximum length of a route's name, in bytes. It is a label of many samples.
const ROUTE_NAME_BYTES_MAX: usize = 64;

/// A request target in origin form (RFC 9112, 3.2.1): a path, optionally with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget(pub String);

impl FromStr for RequestTarget {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if !text.starts_with('/') {
            return Err(TextError::new("a path must begin with `/`"));
        }
        // The query is opaque.
        let path = text.split('?').next().unwrap_or(text);
        let is_wrong = |byte: u8| byte.is_ascii() && !byte.is_ascii_graphic() || byte == b'#';
        if !path.is_ascii() || text.bytes().any(is_wrong) {
            Err(TextError::new(
                "a path cannot contain spaces, control characters or `#`: write other characters as %XX",
            ))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// The target of a redirect: `scheme://…` or `/path`. `$host`, `$path` and `$query` are replaced by
/// those of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUrl(pub String);

impl RedirectUrl {
    /// The names allowed after a `$`.
    pub const VARIABLES: [&str; 3] = ["host", "path", "query"];
}

impl FromStr for RedirectUrl {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(TextError::new(
                "a URL cannot contain spaces or control characters: write other characters as %XX",
            ));
        }
        if let Some(rest) = text.split('$').skip(1).find(|rest| !begins_with_variable(rest)) {
            let name: String = rest.chars().take_while(|&c| c.is_ascii_alphanumeric() || c == '_').collect();
            return Err(TextError::new(format!(
                "unknown variable `${name}`: the variables are $host, $path and $query"
            )));
        }
        let has_host = match text.split_once("://") {
            Some((scheme, rest)) => {
                let authority = rest.split(['/', '?', '#']).next().and_then(|text| text.split("$path").next());
                is_scheme(scheme) && authority.is_some_and(|text| is_authority(&text.replace("$host", "host")))
            }
            None => text.starts_with('/') || text.starts_with("$path"),
        };
        if has_host {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::new("not a redirect target: write https://HOST/PATH or /PATH"))
        }
    }
}

fn begins_with_variable(text: &str) -> bool {
    RedirectUrl::VARIABLES.iter().any(|name| text.starts_with(name))
}

/// RFC 3986, 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_authority(text: &str) -> bool {
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port_of(port).is_some() => host,
        Some(_) | None => text,
    };
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    is_domain(host) || ipv6.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The `Host` field that is sent to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// The value that the client sent.
    Keep,
    /// The upstream's address.
    Upstream,
    /// A fixed value.
    Literal(String),
}

impl FromStr for HostRule {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "keep" => Ok(Self::Keep),
            "upstream" => Ok(Self::Upstream),
            _ if is_authority(text) => Ok(Self::Literal(text.to_owned())),
            _ => Err(TextError::new("not a host: write keep, upstream, or a host such as example.org")),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Upstream => f.write_str("upstream"),
            Self::Literal(host) => f.write_str(host),
        }
    }
}

/// The value of a `Host` field: a host, optionally with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostField(pub String);

impl FromStr for HostField {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if is_authority(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::new("not a host: write, for example, app.example.org or app.example.org:8080"))
        }
    }
}

/// The name of an application protocol (RFC 7301).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlpnProtocol(pub String);

impl FromStr for AlpnProtocol {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let is_name = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::new("not the name of a protocol: write, for example, http/1.1"))
        }
    }
}

impl fmt::Display for AlpnProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error status, 400 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorStatus(pub u16);

impl FromStr for ErrorStatus {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let status = text.parse().ok().filter(|status| (400..600).contains(status));
        status.map(Self).ok_or_else(|| TextError::new("not an error status: write 400 to 599"))
    }
}

impl fmt::Display for ErrorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for StatusRange {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let status = |digits: &str| {
            let is_number = digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| is_number)
        };
        let bounds = match (text.as_bytes(), text.split_once('-')) {
            (&[class @ b'0'..=b'9', b'x' | b'X', b'x' | b'X'], _) => {
                let first = u16::from(class - b'0') * 100;
                Some((first, first + 99))
            }
            (_, Some((first, last))) => status(first.trim_end()).zip(status(last.trim_start())),
            (_, None) => status(text).map(|status| (status, status)),
        };
        match bounds {
            None => Err(TextError::new("not a status: write, for example, 204, 2xx or 200-399")),
            Some((first, last)) if first > last => {
                Err(TextError::new(format!("the range ends before it begins: write {last}-{first}")))
            }
            Some((first, last)) => {
                Self::new(first, last).ok_or_else(|| TextError::new("not a final status: only 200 to 599 are"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_somewhere() {
        let good = [
            "https://example.org$path",
            "https://www.$host:8443/",
            "https://example.org",
            "http://localhost:8002/",
            "https://$host$path?$query",
            "/new$path",
            "$path",
        ];
        for text in good {
            assert_eq!(text.parse::<RedirectUrl>(), Ok(RedirectUrl(text.to_owned())));
        }
        for text in
            ["", "example.org", "https://", "https://a b/", "/a\r\nX: y", "/é", "javascript:alert(1)", "https://$path"]
        {
            assert!(text.parse::<RedirectUrl>().is_err(), "{text}");
        }
        let error = "https://$host$request_uri".parse::<RedirectUrl>().unwrap_err();
        assert_eq!(error.to_string(), "unknown variable `$request_uri`: the variables are $host, $path and $query");
    }

    #[test]
    fn prefixes_begin_with_a_slash() {
        for text in ["/", "/api", "/api/", "/grün", "/a%20b"] {
            assert!(text.parse::<PathPrefix>().is_ok(), "{text}");
        }
        for text in ["", "api", "/a?b", "/a#b", "/a b", "/a\n", "/a%zz", "/%", "/a%00", "/..", "/a/%2e%2e/.."] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn statuses_are_numbers_classes_and_ranges() {
        for (text, shown) in
            [("204", "204"), ("2xx", "2xx"), ("5XX", "5xx"), ("200-399", "200-399"), ("200 - 299", "2xx")]
        {
            assert_eq!(text.parse::<StatusRange>().map(|range| range.to_string()), Ok(shown.to_owned()));
        }
        for text in
            ["", "20", "2x", "2xxx", "1xx", "6xx", "101", "600", "200-", "-299", "399-200", "+20-299", "200-2xx"]
        {
            assert!(text.parse::<StatusRange>().is_err(), "{text}");
        }
        let error = "399-200".parse::<StatusRange>().unwrap_err();
        assert_eq!(error.to_string(), "the range ends before it begins: write 200-399");
    }

    #[test]
    fn values_cannot_smuggle_a_line() {
        assert!("a\r\nSet-Cookie: x".parse::<FieldValue>().is_err());
        assert!("Bad Name".parse::<Token>().is_err());
        for bad in ["evil.example/path", "a:+80", "a:0", "[::1%25lo]:80"] {
            assert!(bad.parse::<HostRule>().is_err(), "{bad}");
            assert!(bad.parse::<HostField>().is_err(), "{bad}");
        }
        assert!("https://example.org/".parse::<Origin>().is_err());
    }
}
