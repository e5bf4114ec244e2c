//! The request target in its four forms (RFC 9112, 3.2), and authorities.
//!
//! A target is checked octet by octet and then split. It is never decoded here: [`super::path`]
//! does that. Octets that RFC 3986 requires to be escaped but browsers send unescaped (`|`, `[`,
//! `^`, …) are accepted. Controls, spaces, a fragment, and in a path octets beyond ASCII are
//! errors. A query is opaque: a percent sign in it need not begin an escape, and octets beyond
//! ASCII are accepted, since browsers and links send both. Which form is valid for which method is
//! decided here, too.

use super::head::AsciiStr;
use super::method::Method;
use super::status::ErrorResponse;
use super::token::hex_value;

/// A request target, split but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`
    Origin {
        /// Begins with a slash.
        path: &'b str,
        /// The bytes after the first question mark, not decoded.
        query: Option<&'b [u8]>,
    },
    /// `http://authority/path?query`
    Absolute {
        /// Host, and port if there is one; takes precedence over the `Host` field.
        authority: &'b str,
        /// Begins with a slash; `/` if the target has no path.
        path: &'b str,
        /// The bytes after the first question mark, not decoded.
        query: Option<&'b [u8]>,
    },
    /// `host:port`, only with `CONNECT`.
    Authority(&'b str),
    /// `*`, only with `OPTIONS`.
    Asterisk,
    /// `http://authority`, only with `OPTIONS` and without path and query: the `*` of this host
    /// (RFC 9112, 3.2.4).
    AsteriskOf(&'b str),
}

impl<'b> Target<'b> {
    /// The path, if the form has one.
    pub const fn path(&self) -> Option<&'b str> {
        match *self {
            Self::Origin { path, .. } | Self::Absolute { path, .. } => Some(path),
            Self::Authority(_) | Self::Asterisk | Self::AsteriskOf(_) => None,
        }
    }

    /// The query without its question mark, if there is one: any octets but controls, spaces and
    /// `#`.
    pub const fn query(&self) -> Option<&'b [u8]> {
        match *self {
            Self::Origin { query, .. } | Self::Absolute { query, .. } => query,
            Self::Authority(_) | Self::Asterisk | Self::AsteriskOf(_) => None,
        }
    }

    /// Checks and splits `target`, whose length is that of [`target_length`].
    #[inline]
    pub(super) fn parse(method: Method<'_>, target: &'b [u8]) -> Result<Self, ErrorResponse> {
        let (before, query) = match target.iter().position(|&byte| byte == b'?') {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        // Octets beyond ASCII are valid only in the query.
        let before = before.as_ascii_str().ok_or(ErrorResponse::bad_request(UNESCAPED))?;
        match (method, before.as_bytes(), query) {
            (Method::Connect, _, None) => authority_form(before),
            (Method::Connect, _, Some(_)) => Err(ErrorResponse::bad_request("the target of CONNECT has a query")),
            (_, [b'/', ..], _) => {
                check_escapes(before)?;
                Ok(Self::Origin { path: before, query })
            }
            (Method::Options, b"*", None) => Ok(Self::Asterisk),
            (_, b"*", _) => Err(ErrorResponse::bad_request("the target * is for OPTIONS only")),
            (..) => absolute_form(method, before, query),
        }
    }
}

/// Error for a target with an octet that is not allowed unescaped.
pub(super) const UNESCAPED: &str = "the target has an octet that must be escaped";

/// Number of bytes at the start of `bytes` that can belong to a target: up to a space, a control, a
/// fragment, or before the query an octet beyond ASCII.
///
/// Not inlined: among all of the parser, its loop runs out of registers.
#[inline(never)]
pub(super) fn target_length(bytes: &[u8]) -> usize {
    let length = bytes.iter().position(|&byte| !is_target_byte(byte)).unwrap_or(bytes.len());
    let (before, rest) = bytes.split_at(length);
    match rest {
        [first, ..] if !first.is_ascii() && before.contains(&b'?') => {
            length + rest.iter().position(|&byte| byte < 0x80 && !is_target_byte(byte)).unwrap_or(rest.len())
        }
        _ => length,
    }
}

/// Whether `byte` is allowed in a target: visible ASCII except `#`.
pub(super) const fn is_target_byte(byte: u8) -> bool {
    TARGET[byte as usize]
}

/// Checks a host with an optional port, as in `Host`. Of an address in brackets only the characters
/// are checked.
pub fn check_authority(authority: &[u8]) -> Result<(), ErrorResponse> {
    const MALFORMED: ErrorResponse = ErrorResponse::bad_request("the host is malformed");
    let host_length = match authority {
        [b'[', rest @ ..] => {
            let length = rest.iter().position(|&byte| byte == b']').ok_or(MALFORMED)?;
            let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if length < 2 || !rest[..length].iter().all(is_address) {
                return Err(MALFORMED);
            }
            length + 2
        }
        name => {
            let length = name.iter().position(|&byte| !HOST[usize::from(byte)]).unwrap_or(name.len());
            if length == 0 || !escapes_are_valid(&name[..length]) {
                return Err(MALFORMED);
            }
            length
        }
    };
    match &authority[host_length..] {
        [] => Ok(()),
        [b':', port @ ..] if is_port(port) => Ok(()),
        _ => Err(MALFORMED),
    }
}

/// Checks a path of a target: it begins with a slash, has no query, and only valid octets and
/// escapes.
pub fn check_path(path: &str) -> Result<(), ErrorResponse> {
    let is_path_byte = |byte: u8| is_target_byte(byte) && byte != b'?';
    if !path.starts_with('/') || !path.bytes().all(is_path_byte) || !escapes_are_valid(path.as_bytes()) {
        return Err(ErrorResponse::bad_request("the path is malformed"));
    }
    Ok(())
}

/// Whether these are the digits of a port. RFC 3986 permits an empty port.
fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0u32, |number, digit| {
        let number = number * 10 + u32::from(digit.wrapping_sub(b'0'));
        (digit.is_ascii_digit() && number <= 65535).then_some(number)
    });
    number.is_some()
}

fn authority_form(target: &str) -> Result<Target<'_>, ErrorResponse> {
    check_authority(target.as_bytes())?;
    match target.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && !port.ends_with(']') => Ok(Target::Authority(target)),
        _ => Err(ErrorResponse::bad_request("the target of CONNECT has no port")),
    }
}

fn absolute_form<'b>(
    method: Method<'_>,
    target: &'b str,
    query: Option<&'b [u8]>,
) -> Result<Target<'b>, ErrorResponse> {
    let (scheme, rest) =
        target.split_once("://").ok_or(ErrorResponse::bad_request("the target is neither a path nor a URL"))?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(ErrorResponse::bad_request("the target's scheme is not http"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    check_authority(authority.as_bytes())?;
    check_escapes(path)?;
    Ok(match (path, query) {
        ("", None) if method == Method::Options => Target::AsteriskOf(authority),
        ("", _) => Target::Absolute { authority, path: "/", query },
        _ => Target::Absolute { authority, path, query },
    })
}

/// Checks the escapes of a path: all must be valid, and none may be NUL, which no file name
/// contains.
fn check_escapes(path: &str) -> Result<(), ErrorResponse> {
    if escapes_are_valid(path.as_bytes()) {
        return Ok(());
    }
    Err(ErrorResponse::bad_request("a percent sign in the path is not followed by two digits, or by 00"))
}

/// Whether each percent sign begins an escape other than `%00`.
fn escapes_are_valid(mut bytes: &[u8]) -> bool {
    while let Some(at) = bytes.iter().position(|&byte| byte == b'%') {
        match bytes[at + 1..] {
            [high, low, ..] if hex_value(high).is_some() && hex_value(low).is_some() => {
                if (high, low) == (b'0', b'0') {
                    return false;
                }
            }
            _ => return false,
        }
        bytes = &bytes[at + 3..];
    }
    true
}

const TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = byte != b'#' as usize;
        byte += 1;
    }
    table
};

/// Octets of registered names: those of RFC 3986 without the comma. A comma comes from an
/// intermediary that merged two `Host` fields.
const HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Result<Target<'_>, ErrorResponse> {
        Target::parse(Method::Get, target.as_bytes())
    }

    #[test]
    fn row_28_malformed_hosts() {
        for good in ["h", "example.org", "example.org:80", "h:", "127.0.0.1:65535", "[::1]", "[::1]:8080", "a_b", "%41"]
        {
            assert_eq!(check_authority(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in
            ["", ":80", "h:65536", "h:8a", "h:1:2", "a b", "a,b", "u@h", "h/", "[::1", "[]", "::1", "[::1]x", "[g]"]
        {
            assert!(check_authority(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["h?x", "h#x", "h\\x", "%4", "%00", "h\u{e9}", "h:+1", "h:99999999999999999999"] {
            assert!(check_authority(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn row_29_absolute_form() {
        let absolute = |authority, path, query| Ok(Target::Absolute { authority, path, query });
        assert_eq!(get("http://h/p"), absolute("h", "/p", None));
        assert_eq!(get("HTTPS://h:1/p?q?r"), absolute("h:1", "/p", Some(&b"q?r"[..])));
        assert_eq!(get("http://h"), absolute("h", "/", None));
        assert_eq!(get("http://h?q"), absolute("h", "/", Some(&b"q"[..])));
        for bad in ["http:///p", "http://", "ftp://h/", "http:/h", "http://u@h/", "://h/", "h/p", "p", "http://h:x/"] {
            assert!(get(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn row_30_authority_form_only_with_connect() {
        let connect = |target: &'static str| Target::parse(Method::Connect, target.as_bytes());
        assert_eq!(connect("h:443"), Ok(Target::Authority("h:443")));
        assert_eq!(connect("[::1]:443"), Ok(Target::Authority("[::1]:443")));
        for bad in ["h", "[::1]", "/", "http://h/", "*", "h:", "h:1?q"] {
            assert!(connect(bad).is_err(), "{bad}");
        }
        assert!(get("h:443").is_err());
    }

    #[test]
    fn row_31_asterisk_form_only_with_options() {
        assert_eq!(Target::parse(Method::Options, b"*"), Ok(Target::Asterisk));
        assert!(get("*").is_err());
        let options = |target: &'static str| Target::parse(Method::Options, target.as_bytes());
        assert_eq!(options("http://h:1"), Ok(Target::AsteriskOf("h:1")));
        for (target, path, query) in
            [("http://h/", "/", None), ("http://h?q", "/", Some(&b"q"[..])), ("http://h?", "/", Some(b""))]
        {
            assert_eq!(options(target), Ok(Target::Absolute { authority: "h", path, query }), "{target}");
        }
        assert!(Target::parse(Method::Options, b"**").is_err());
        assert!(Target::parse(Method::Options, b"*?q").is_err());
    }

    #[test]
    fn row_32_35_octets_that_no_target_holds() {
        for bad in (0..=b' ').chain(0x7f..=0xff).chain([b'#']) {
            assert!(!is_target_byte(bad), "{bad}");
        }
        assert!((b'!'..=b'~').filter(|&byte| byte != b'#').all(is_target_byte));
    }

    #[test]
    fn row_33_34_escapes() {
        for bad in ["/%", "/%4", "/%zz", "/%4g", "/a%00", "/%%41", "/%?%41", "http://h/%0"] {
            assert!(get(bad).is_err(), "{bad}");
        }
        for good in ["/%41", "/%7E%2f", "/p?%00", "/?", "/%25", "/p?%", "/p?q=100%", "/p?a=%zz", "http://h?%"] {
            assert!(get(good).is_ok(), "{good}");
        }
        assert_eq!(get("/p?"), Ok(Target::Origin { path: "/p", query: Some(b"") }));
    }

    #[test]
    fn row_33_a_query_is_opaque_and_a_path_is_not() {
        let query = "/p?q=\u{2019}%".as_bytes();
        assert_eq!(target_length(query), query.len());
        assert_eq!(Target::parse(Method::Get, query), Ok(Target::Origin { path: "/p", query: Some(&query[3..]) }));
        assert_eq!(target_length(b"/p?\xff\xfe? HTTP"), 6, "whatever its octets mean");
        for (bytes, length) in [
            (&b"/p\xc3\xa9?q"[..], 2),
            (b"http://h\xff/?q", 8),
            (b"/?\xc3 \xa9", 3),
            (b"/?\xc3#x", 3),
            (b"/?\xc3\0", 3),
            (b"/?\xc3\x7f", 3),
            (b"/?\xc3\r\n", 3),
            (b"/?#\xc3", 2),
        ] {
            assert_eq!(target_length(bytes), length, "{}", bytes.escape_ascii());
        }
    }
}
