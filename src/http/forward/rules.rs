//! What can be configured about the heads that pass: fields and texts, checked once, when they are made.
//!
//! Because each type here holds only what may stand where it is written, writing a head checks nothing and cannot fail.
//! Where the texts come from is not known.

use std::fmt;

use super::folds_alike;
use crate::http::fields::Known;
use crate::http::path;
use crate::http::response::push_line;
use crate::http::target::{check_authority, check_path};
use crate::http::token::is_token;

/// Why something cannot be a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRule {
    /// What is wrong, as half a sentence.
    pub reason: &'static str,
}

/// What becomes of the fields of a head, apart from those the proxy itself answers for.
///
/// `set` and `remove` take away what the message has; `set` and `add` come after all that is passed on, in this order.
/// They have the last word: where the proxy would add a field of such a name itself, it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// In the place of what the message has.
    pub set: Vec<FieldLine>,
    /// Beside what the message has.
    pub add: Vec<FieldLine>,
    /// Not passed on.
    pub remove: Vec<FieldName>,
}

/// The name of a field that rules may touch: a token, and not one of those that say where a message ends and to whom it
/// goes, which would be two opinions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<str>);

/// A field with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    name: FieldName,
    value: Box<str>,
}

/// A host with an optional port, as in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(Box<str>);

/// What this proxy calls itself in `Via`: a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym(Box<str>);

/// The start of a path, in whole segments: begins with a slash, holds no query. It is compared decoded, since that is how
/// routes are found, and written as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix {
    /// Without a slash at its end; what is not ASCII is escaped.
    written: Box<str>,
    /// Decoded and normalised, without slashes around it.
    decoded: Box<[u8]>,
}

impl FieldRules {
    /// Whether a message's own `name` is not passed on.
    pub(super) fn replace(&self, name: &[u8]) -> bool {
        let is_it = |other: &FieldName| other.0.as_bytes().eq_ignore_ascii_case(name);
        self.remove.iter().any(is_it) || self.set.iter().any(|line| is_it(&line.name))
    }

    /// The same, also if a program behind the proxy could only take it for such a field, see [`folds_alike`].
    pub(super) fn replace_alike(&self, name: &[u8]) -> bool {
        let is_it = |other: &FieldName| folds_alike(other.0.as_bytes(), name);
        self.remove.iter().any(is_it) || self.set.iter().any(|line| is_it(&line.name))
    }

    /// Writes what is set and what is added.
    pub(super) fn push_lines(&self, out: &mut Vec<u8>) {
        for FieldLine { name, value } in self.set.iter().chain(&self.add) {
            push_line(out, name.0.as_bytes(), value.as_bytes());
        }
    }
}

impl FieldName {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, BadRule> {
        if !is_token(name.as_bytes()) {
            return Err(BadRule { reason: "a field's name is not a token" });
        }
        match Known::recognise(name.as_bytes()) {
            Some(Known::Host) => Err(BadRule { reason: "Host has a rule of its own" }),
            Some(known) if known == Known::ContentLength || known.is_hop_by_hop() => {
                Err(BadRule { reason: "a field of the connection or of the framing is the proxy's to write" })
            }
            Some(_) | None => Ok(Self(name.into())),
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FieldLine {
    /// Checks `name` and `value`; white space around the value is not of it.
    pub fn new(name: &str, value: &str) -> Result<Self, BadRule> {
        let name = FieldName::new(name)?;
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return Err(BadRule { reason: "a field's value has a control character" });
        }
        Ok(Self { name, value: value.trim_matches([' ', '\t']).into() })
    }

    /// Its name.
    pub const fn name(&self) -> &FieldName {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl Authority {
    /// Checks `authority`.
    pub fn new(authority: &str) -> Result<Self, BadRule> {
        match check_authority(authority.as_bytes()) {
            Ok(()) => Ok(Self(authority.into())),
            Err(error) => Err(BadRule { reason: error.reason }),
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Pseudonym {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, BadRule> {
        if is_token(name.as_bytes()) {
            Ok(Self(name.into()))
        } else {
            Err(BadRule { reason: "a pseudonym is not a token" })
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PathPrefix {
    /// Checks `prefix`. A slash at its end changes nothing: `/a/` is `/a`.
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
        // Requests spell their paths in the normal way, so it is compared with that.
        if written.split('/').skip(1).count() != decoded.segments().count() {
            let mut normal = Vec::new();
            if !decoded.is_root() {
                path::encode_path(decoded.as_bytes(), false, &mut normal);
            }
            written = normal.into_iter().map(char::from).collect();
        }
        Ok(Self { written: written.into(), decoded: decoded.as_bytes().into() })
    }

    /// Without a slash at its end; empty for the prefix of all paths.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Decoded and normalised, without slashes around it; empty for the prefix of all paths.
    pub fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// What follows it in `path`, as it came: nothing, or what begins with a slash. `None` if `path` does not begin with
    /// it, segment by segment and octet by octet, or leads out of it again: `/a` is a prefix of `/a/b` and `/a`, not of
    /// `/ab`, `/%61` or `/a/..`.
    pub(super) fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.written).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        // Only dots, and what may be dots or slashes in disguise, lead out.
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
