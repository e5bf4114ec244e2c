//! Configurable rules for forwarded heads: fields and texts, checked once when they are built.
//!
//! Each type here holds only what is valid where it is written, so writing a head checks nothing
//! and cannot fail. The source of the texts is not known here.

use std::fmt;

use super::folds_alike;
use crate::http::fields::Known;
use crate::http::head::Version;
use crate::http::path;
use crate::http::target::{check_authority, check_path};
use crate::http::token::is_token;

/// Why a rule is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRule {
    /// What is wrong, as half a sentence.
    pub reason: &'static str,
}

/// Changes of the fields of a head, except those the proxy itself controls.
///
/// `set` and `remove` drop the message's own fields. The lines of `set` and then `add` follow all
/// forwarded lines. They take precedence: the proxy does not add a field of its own with a name
/// that is set or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Replaces the message's fields of this name.
    pub set: Vec<FieldLine>,
    /// Added besides the message's fields of this name.
    pub add: Vec<FieldLine>,
    /// Not forwarded.
    pub remove: Vec<FieldName>,
}

/// The name of a field that rules may change: a token. Fields that delimit the message or name its
/// destination are excluded, since two sources could then contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<str>);

/// A field name with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    name: FieldName,
    value: Box<str>,
}

/// A host with an optional port, as in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(Box<str>);

/// The name of this proxy in `Via`: a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym {
    /// The value of `Via` for a message received in HTTP/1.0.
    http10: Box<str>,
    /// The same for HTTP/1.1.
    http11: Box<str>,
    /// The same for HTTP/2.
    http2: Box<str>,
}

/// A path prefix of whole segments. It begins with a slash and contains no query. It is compared
/// decoded, as routes are, and written as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix {
    /// Without a trailing slash. Characters beyond ASCII are escaped.
    written: Box<str>,
    /// Decoded and normalised, without slashes at either end.
    decoded: Box<[u8]>,
}

impl FieldRules {
    /// Whether a message's own field `name` is dropped.
    pub(super) fn replace(&self, name: &[u8]) -> bool {
        let is_it = |other: &FieldName| other.0.as_bytes().eq_ignore_ascii_case(name);
        self.remove.iter().any(is_it) || self.set.iter().any(|line| is_it(&line.name))
    }

    /// The same, but also true for names that a program behind the proxy could take for such a
    /// field, see [`folds_alike`].
    pub(super) fn replace_alike(&self, name: &[u8]) -> bool {
        let is_it = |other: &FieldName| folds_alike(other.0.as_bytes(), name);
        self.remove.iter().any(is_it) || self.set.iter().any(|line| is_it(&line.name))
    }

    /// The lines to set and to add.
    pub(super) fn added(&self) -> impl Iterator<Item = &FieldLine> {
        self.set.iter().chain(&self.add)
    }
}

impl FieldName {
    /// A valid field name.
    pub fn new(name: &str) -> Result<Self, BadRule> {
        if !is_token(name.as_bytes()) {
            return Err(BadRule { reason: "a field's name is not a token" });
        }
        match Known::recognise(name.as_bytes()) {
            Some(Known::Host) => Err(BadRule { reason: "Host is configured separately" }),
            Some(known) if known == Known::ContentLength || known.is_hop_by_hop() => {
                Err(BadRule { reason: "the proxy writes fields of the connection and of the framing itself" })
            }
            Some(_) | None => Ok(Self(name.into())),
        }
    }

    /// The name as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FieldLine {
    /// A valid field. White space around the value is removed.
    pub fn new(name: &str, value: &str) -> Result<Self, BadRule> {
        let name = FieldName::new(name)?;
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return Err(BadRule { reason: "a field's value has a control character" });
        }
        Ok(Self { name, value: value.trim_matches([' ', '\t']).into() })
    }

    /// The field's name.
    pub const fn name(&self) -> &FieldName {
        &self.name
    }

    /// The field's value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl Authority {
    /// A valid host with an optional port.
    pub fn new(authority: &str) -> Result<Self, BadRule> {
        match check_authority(authority.as_bytes()) {
            Ok(()) => Ok(Self(authority.into())),
            Err(error) => Err(BadRule { reason: error.reason }),
        }
    }

    /// The authority as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pseudonym {
    /// A valid name for `Via`.
    pub fn new(name: &str) -> Result<Self, BadRule> {
        if is_token(name.as_bytes()) {
            let value = |version| format!("{version} {name}").into();
            // The minor version is implied where a place wants one (RFC 9110, 2.5).
            Ok(Self { http10: value("1.0"), http11: value("1.1"), http2: value("2.0") })
        } else {
            Err(BadRule { reason: "a pseudonym is not a token" })
        }
    }

    /// The value of `Via` for a message received in `version`.
    pub(super) fn received_in(&self, version: Version) -> &str {
        match version {
            Version::Http10 => &self.http10,
            Version::Http11 => &self.http11,
            Version::Http2 => &self.http2,
        }
    }
}

impl PathPrefix {
    /// A valid prefix. A trailing slash makes no difference: `/a/` is `/a`.
    pub fn new(prefix: &str) -> Result<Self, BadRule> {
        let mut written = String::with_capacity(prefix.len());
        for character in prefix.chars() {
            match character.is_ascii() {
                true => written.push(character),
                false => {
                    let mut escaped = Vec::new();
                    path::encode_segment(character.encode_utf8(&mut [0; 4]).as_bytes(), &mut escaped);
                    written.extend(escaped.into_iter().map(char::from));
                }
            }
        }
        let decoded = check_path(&written).and_then(|()| path::decode(&written));
        let decoded = decoded.map_err(|error| BadRule { reason: error.reason })?;
        let length = written.trim_end_matches('/').len();
        written.truncate(length);
        // Requests are usually in normal form, so the written prefix is, too.
        if written.split('/').skip(1).count() != decoded.segments().count() {
            let mut normal = Vec::new();
            if !decoded.is_root() {
                path::encode_path(decoded.as_bytes(), false, &mut normal);
            }
            written = normal.into_iter().map(char::from).collect();
        }
        Ok(Self { written: written.into(), decoded: decoded.as_bytes().into() })
    }

    /// Without a trailing slash; empty for the prefix of all paths.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Decoded and normalised, without slashes at either end; empty for the prefix of all paths.
    pub fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// The rest of `path` after the prefix, not decoded: empty, or beginning with a slash. `None`
    /// if `path` does not begin with the prefix, segment by segment and octet by octet, or leads
    /// out of it again: `/a` is a prefix of `/a/b` and `/a`, not of `/ab`, `/%61` or `/a/..`.
    pub(super) fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.written).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        // Only dots lead out, and escapes that may be dots or slashes.
        let is_plain = !rest.as_bytes().windows(2).any(|pair| pair == b".." || pair == b"%2");
        (is_plain || path::decode(rest).is_ok()).then_some(rest)
    }
}

impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for BadRule {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_82_no_rule_holds_a_line_break() {
        for bad in ["a\r\nX: y", "a\n", "a\0", "\r", "a\x7f"] {
            assert!(FieldLine::new("X", bad).is_err(), "{bad:?}");
            assert!(FieldName::new(bad).is_err(), "{bad:?}");
            assert!(Authority::new(bad).is_err(), "{bad:?}");
            assert!(Pseudonym::new(bad).is_err(), "{bad:?}");
            assert!(PathPrefix::new(&format!("/{bad}")).is_err(), "{bad:?}");
        }
        assert_eq!(FieldLine::new("X", " a\tb\u{e9} ").unwrap().value(), "a\tb\u{e9}");
    }

    #[test]
    fn row_80_rules_do_not_touch_framing_and_connection() {
        for bad in
            ["Content-Length", "transfer-encoding", "CONNECTION", "Upgrade", "Host", "Keep-Alive", "TE", "", "a b"]
        {
            assert!(FieldName::new(bad).is_err(), "{bad:?}");
            assert!(FieldLine::new(bad, "x").is_err(), "{bad:?}");
        }
        for good in ["Authorization", "X-Forwarded-For", "Via", "Server", "x"] {
            assert_eq!(FieldName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn prefixes_end_where_segments_do() {
        let rest = |prefix: &str, path| PathPrefix::new(prefix).unwrap().rest_of(path);
        assert_eq!(rest("/a", "/a/b"), Some("/b"));
        assert_eq!(rest("/a/", "/a/b"), Some("/b"));
        assert_eq!(rest("/a", "/a"), Some(""));
        assert_eq!(rest("/a", "/a/"), Some("/"));
        assert_eq!(rest("/", "/a"), Some("/a"));
        assert_eq!(rest("/a%20b", "/a%20b/c"), Some("/c"));
        for other in ["/ab", "/A/b", "/%61/b", "//a/b", "/"] {
            assert_eq!(rest("/a", other), None, "{other}");
        }
        for out in ["/a/..", "/a/../b", "/a/%2e./b", "/a/.%2E/b", "/a/x%2f..%2f..%2fb"] {
            assert_eq!(rest("/a", out), None, "{out}");
        }
        for within in ["/a/b/../c", "/a/b%2fc", "/a/..b"] {
            assert_eq!(rest("/a", within), within.strip_prefix("/a"), "{within}");
        }
    }

    #[test]
    fn prefixes_are_written_escaped_and_compared_decoded() {
        let is_beneath = |prefix: &str, path| {
            let path = path::decode(path).unwrap();
            path::rest_beneath(path.as_bytes(), PathPrefix::new(prefix).unwrap().decoded()).is_some()
        };
        for (prefix, path) in [("/grün", "/gr%C3%BCn/x"), ("/a%20b", "/%61%20b/x"), ("/a//b/", "/a/./b/x")] {
            assert!(is_beneath(prefix, path), "{prefix}");
        }
        assert!(is_beneath("/", "/x") && !is_beneath("/a", "/ab"));
        for (given, written) in [
            ("/grün/", "/gr%C3%BCn"),
            ("/a//b/../c/", "/a/c"),
            ("/a%2Fb%7c", "/a/b%7C"),
            ("//", ""),
            ("/.", ""),
            ("/a/..", ""),
        ] {
            assert_eq!(PathPrefix::new(given).unwrap().as_str(), written);
        }
    }

    #[test]
    fn prefixes_are_paths() {
        for bad in ["", "a", "a/b", "/a?b", "/a#b", "/a b", "/%", "/%zz", "/%00", "/..", "/a/%2e%2e/..", "/a\u{a0}\n"] {
            assert!(PathPrefix::new(bad).is_err(), "{bad:?}");
        }
    }
}
