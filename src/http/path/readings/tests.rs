//! Which paths are forwarded and which are not. A forwarded path has one route on all known
//! servers.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http::path::{decode, rest_beneath};

/// The longest of these prefixes that a path is beneath, found like routes.
fn route(prefixes: &[&str], path: &[u8]) -> Option<usize> {
    let fitting = (0..prefixes.len()).filter(|index| rest_beneath(path, prefixes[*index].as_bytes()).is_some());
    fitting.max_by_key(|index| prefixes[*index].len())
}

fn is_alike(prefixes: &[&str], raw: &str) -> bool {
    is_read_alike(raw.as_bytes(), |path| route(prefixes, path))
}

#[test]
fn spellings_that_lead_to_another_route_for_some_are_not_alike() {
    for ambiguous in [
        "/admin/..%2fpublic",
        "/;%2fx/%2fadmin",
        "/admin;x/../y",
        "/admin;x/y",
        "/;x/admin",
        "/public/..;/admin",
        "/public/..;x=y/admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public/../admin",
        "/public%2f..%2fadmin",
        "/public/..%2f",
        "/public%2fx",
        r"/public/..\admin",
        r"/public\x",
        "/public/..%5cadmin",
        "/public/x/..%5C..%5Cadmin",
        "/%61dmin/x",
        "//admin/x",
        "/./admin",
        "/%2fadmin",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/public/..%255cadmin",
        "/%2561dmin",
        "/x/..;/admin",
        "/x//../admin",
    ] {
        assert!(!is_alike(&["", "admin", "public"], ambiguous), "{ambiguous}");
    }
}

#[test]
fn spellings_that_lead_above_the_root_for_some_are_not_alike() {
    for ambiguous in ["/..;/x", "/a/..;/..;/x", r"/..\x", "/..%5cx", "/a/..%252f..%252f..%252fx", "/%252e%252e/x"] {
        assert!(!is_alike(&[""], ambiguous), "{ambiguous}");
    }
}

#[test]
fn spellings_that_change_nothing_pass() {
    let prefixes = ["", "admin", "public", "gr\u{fc}n", "a b", "@scope", "100%"];
    for plain in [
        "/",
        "/public",
        "/public/",
        "/public/a//b",
        "/public/a/../b",
        "/public/./b",
        "/public/a%2Fb",
        "/public/group%2Fproject/-/tree?x",
        "/public/a%5cb",
        r"/public/a\b",
        "/public/a;v=1/b;v=2",
        "/public/;jsessionid=1",
        "/public/100%25",
        "/public/%252F",
        "/public/a%3Bb",
        "/public/%7Euser",
        "/publicity/%2F",
        "/bucket/key%2Fwith%2Fslashes//and/more",
        "/gr%C3%BCn/x%2Fy",
        "/gr%c3%bcn/%2e",
        "/a%20b/c%2Fd",
        "/%40scope%2Fname",
        "/@scope/x%2f",
        "/100%25/x",
        "/.well-known/x",
        "/...;/x",
    ] {
        let is_scope_alone = plain == "/%40scope%2Fname";
        assert_eq!(is_alike(&prefixes, plain), !is_scope_alone, "{plain}");
    }
    assert!(is_alike(&[""], "/%40scope%2Fname"), "no route depends on the slash");
}

#[test]
fn what_is_plain_is_looked_at_once() {
    for plain in ["/", "/a/b.c/d-e_f~g", "/a%20b/%C3%BC", "/.well-known/a", "/a/...", "/a/", "/$!*(),:@&=+'"] {
        assert_eq!(Features::of(plain.as_bytes()), Features::default(), "{plain}");
        is_read_alike(plain.as_bytes(), |_| panic!("{plain} has one reading"));
    }
}

/// Models of real servers, each with its own reading, written independently of the code under test.
/// `None`: the path is rejected.
mod servers {
    type Path = Option<Vec<String>>;

    /// Maps each octet to one character.
    fn unescape(text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(character) = rest.chars().next() {
            let digits = rest.strip_prefix('%').and_then(|rest| rest.get(..2));
            let (character, length) = match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(octet) => (char::from(octet), 3),
                None => (character, character.len_utf8()),
            };
            out.push(character);
            rest = &rest[length..];
        }
        out
    }

    fn resolve(segments: impl IntoIterator<Item = String>) -> Path {
        let mut path = Vec::new();
        for segment in segments {
            match segment.as_str() {
                "." => {}
                ".." => drop(path.pop()?),
                _ => path.push(segment),
            }
        }
        Some(path)
    }

    fn split(path: &str) -> impl Iterator<Item = String> {
        path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Routes by the text of the target: Express and many others.
    pub(super) fn literal(path: &str) -> Path {
        Some(split(path).collect())
    }

    /// Decodes, merges slashes, resolves dots: nginx, Apache, Go's ServeMux.
    pub(super) fn nginx(path: &str) -> Path {
        resolve(split(&unescape(path)).filter(|segment| !segment.is_empty()))
    }

    /// Splits, then decodes: frameworks whose parameters may contain slashes.
    pub(super) fn by_segment(path: &str) -> Path {
        Some(split(path).map(|segment| unescape(&segment).replace('/', "\0")).collect())
    }

    /// Drops parameters, then decodes, merges and resolves: Tomcat, Jetty.
    pub(super) fn tomcat(path: &str) -> Path {
        let bare = split(path).map(|segment| segment.split(';').next().unwrap_or_default().to_owned());
        let bare: String = bare.map(|segment| format!("/{}", unescape(&segment))).collect();
        resolve(split(&bare).filter(|segment| !segment.is_empty()))
    }

    /// A backslash is a slash: IIS, and browsers.
    pub(super) fn iis(path: &str) -> Path {
        resolve(split(&unescape(path).replace('\\', "/")).filter(|segment| !segment.is_empty()))
    }

    /// Behind another proxy that decodes.
    pub(super) fn twice(path: &str) -> Path {
        nginx(&unescape(path))
    }

    /// RFC 3986, 5.2.4, literally: empty segments stay, escapes too.
    pub(super) fn rfc(path: &str) -> Path {
        resolve(split(path))
    }
}

/// Pieces from which attack paths are built.
const PIECES: &[&str] = &[
    "/", "/", "/", "a", "b", "ab", "..", ".", "%2f", "%2F", "%2e", "%5c", "\\", ";", ";x", "%3b", "%61", "%25",
    "%252f", "%252e", "%255c", "%20", "c",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_leads_no_server_to_another_route(pieces in vec(prop::sample::select(PIECES), 0..10)) {
        let raw = format!("/{}", pieces.concat());
        let prefixes = ["", "a", "a/b", "b"];
        let Ok(ours) = decode(&raw) else { return Ok(()) };
        if !is_alike(&prefixes, &raw) {
            return Ok(());
        }
        let ours = route(&prefixes, ours.as_bytes());
        let servers = [
            servers::literal, servers::nginx, servers::by_segment, servers::tomcat, servers::iis, servers::twice, servers::rfc,
        ];
        for (number, server) in servers.into_iter().enumerate() {
            let theirs = server(&raw).map(|path| route(&prefixes, path.join("/").as_bytes()));
            prop_assert_eq!(theirs, Some(ours), "{} for server {}", raw, number);
        }
    }

    #[test]
    fn what_is_plain_at_a_glance_has_one_reading(pieces in vec(prop::sample::select(PIECES), 0..6)) {
        let raw = format!("/{}", pieces.concat());
        let Ok(path) = decode(&raw) else { return Ok(()) };
        let is_one = Features::of(raw.as_bytes()) == Features::default();
        prop_assert!(is_one || !path.is_plain(&raw), "{}", raw);
        // The reverse does not hold for paths with escapes that all servers must decode.
        prop_assert!(!is_one || path.is_plain(&raw) || raw.contains('%'), "{}", raw);
    }

    #[test]
    fn a_path_of_names_passes_whatever_the_routes(names in vec("[a-z0-9._~-]{0,2}[a-z]", 0..6)) {
        let raw = format!("/{}", names.join("/"));
        prop_assert!(is_alike(&["", "a", "b", "a/b"], &raw));
    }

    #[test]
    fn with_one_route_for_all_only_what_leads_above_the_root_is_refused(
        pieces in vec(prop::sample::select(&["/", "a", "%2F", ";", "\\", "%25", "%5c", "%2561"][..]), 0..12),
    ) {
        let raw = format!("/{}", pieces.concat());
        prop_assert!(is_alike(&[""], &raw));
    }
}
