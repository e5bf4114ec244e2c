//! Selects by name: the virtual host of a request, and the certificate of a TLS connection.
//!
//! An exact name goes first, then the longest wildcard name, then the default host. A look-up
//! allocates nothing.

use std::cmp::Ordering;

/// The names of a listener's hosts or certificates. Each is identified by its index in the list.
#[derive(Debug)]
pub struct HostMatcher {
    /// Sorted by name, for binary search.
    exact: Vec<Name>,
    /// Longest first.
    wild: Vec<Name>,
    /// The default host.
    nameless: Option<usize>,
    /// The port of a `Host` without one (RFC 9110, 4.2.1).
    default_port: u16,
    wildcard: Wildcard,
}

/// What the star of a wildcard name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// One label or several: `*.example.org` matches `a.b.example.org`, as a virtual host does.
    Labels,
    /// Exactly one label, as in a certificate (RFC 9525, 6.3).
    OneLabel,
}

#[derive(Debug)]
struct Name {
    /// In lower case; of a wildcard name, the part after the star.
    text: String,
    /// The only port that matches; `None`: any port.
    port: Option<u16>,
    host: usize,
}

impl HostMatcher {
    /// A matcher of these hosts, given by their names. `default_port`: what a `Host` without a port
    /// means, which the scheme of the listener decides.
    pub fn new<'n>(default_port: u16, wildcard: Wildcard, hosts: impl Iterator<Item = &'n [String]>) -> Self {
        let (mut exact, mut wild, mut nameless) = (Vec::new(), Vec::new(), None);
        for (host, names) in hosts.enumerate() {
            if names.is_empty() {
                nameless = nameless.or(Some(host));
            }
            for name in names {
                let (name, port) = split(name);
                match name.strip_prefix('*') {
                    Some(suffix) => wild.push(Name { text: suffix.to_ascii_lowercase(), port, host }),
                    None => exact.push(Name { text: name.to_ascii_lowercase(), port, host }),
                }
            }
        }
        // A name with a port goes before the same name without one.
        exact.sort_by(|a, b| a.text.cmp(&b.text).then(b.port.is_some().cmp(&a.port.is_some())));
        wild.sort_by_key(|name| std::cmp::Reverse((name.text.len(), name.port.is_some())));
        Self { exact, wild, nameless, default_port, wildcard }
    }

    /// The host for the `Host` of a request, a name and an optional port.
    pub fn find(&self, authority: Option<&str>) -> Option<usize> {
        if self.exact.is_empty() && self.wild.is_empty() {
            return self.nameless;
        }
        let named = authority.and_then(|authority| {
            let (name, port) = split(authority);
            let (name, port) = (name.strip_suffix('.').unwrap_or(name), port.unwrap_or(self.default_port));
            self.exact(name, port).or_else(|| self.wild(name, port))
        });
        named.or(self.nameless)
    }

    fn exact(&self, name: &str, port: u16) -> Option<usize> {
        let start = self.exact.partition_point(|known| compare(&known.text, name) == Ordering::Less);
        let mut same = self.exact[start..].iter().take_while(|known| known.text.eq_ignore_ascii_case(name));
        same.find(|known| known.admits(port)).map(|known| known.host)
    }

    fn wild(&self, name: &str, port: u16) -> Option<usize> {
        let matches = |known: &&Name| known.admits(port) && self.stands_for(name, &known.text);
        self.wild.iter().find(matches).map(|known| known.host)
    }

    /// Whether the name ends with the suffix of a wildcard name, and the star may stand for the rest.
    fn stands_for(&self, name: &str, suffix: &str) -> bool {
        ends_with(name, suffix)
            && (self.wildcard == Wildcard::Labels || !name.as_bytes()[..name.len() - suffix.len()].contains(&b'.'))
    }
}

impl Name {
    fn admits(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }
}

/// Compares a name in lower case with one in any case.
fn compare(known: &str, name: &str) -> Ordering {
    known.bytes().cmp(name.bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// Whether `name` ends with `suffix`, in any case, and is longer.
fn ends_with(name: &str, suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len()).filter(|start| *start > 0);
    start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// Splits off the port, if there is one. The colons of an IPv6 address are in brackets.
fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port.parse().ok()),
        Some(_) | None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Scheme;

    /// The host that matches.
    fn find(hosts: &[&[&str]], authority: &str) -> Option<usize> {
        find_of(Scheme::Http, hosts, authority)
    }

    fn find_of(scheme: Scheme, hosts: &[&[&str]], authority: &str) -> Option<usize> {
        let names: Vec<Vec<String>> =
            hosts.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect();
        HostMatcher::new(scheme.default_port(), Wildcard::Labels, names.iter().map(Vec::as_slice))
            .find(Some(authority).filter(|text| !text.is_empty()))
    }

    #[test]
    fn the_most_exact_name_answers_wherever_it_stands() {
        let hosts: [&[&str]; 5] =
            [&["*.org"], &["*.b.org", "[::1]"], &[], &["a.b.org", "b.org"], &["a.b.org:81", "*.b.org:82"]];
        for (authority, host) in [
            ("a.b.org", 3),
            ("A.B.Org.", 3),
            ("a.b.org:8080", 3),
            ("a.b.org:81", 4),
            ("x.b.org", 1),
            ("x.b.org:82", 4),
            ("y.x.B.org:80", 1),
            ("b.org", 3),
            ("c.org", 0),
            ("org", 2),
            (".org", 2),
            ("[::1]", 1),
            ("[::1]:80", 1),
            ("[::2]", 2),
            ("", 2),
        ] {
            assert_eq!(find(&hosts, authority), Some(host), "{authority}");
        }
    }

    #[test]
    fn who_is_named_by_nobody_is_answered_by_nobody() {
        assert_eq!(find(&[&["a"]], "b"), None);
        assert_eq!(find(&[&["a"]], ""), None);
        assert_eq!(find(&[&["a"], &["*.b"]], "b"), None);
        assert_eq!(find(&[], "a"), None);
        assert_eq!(find(&[&[]], "a"), Some(0));
    }

    #[test]
    fn without_a_port_the_scheme_s_own_is_meant() {
        let hosts: [&[&str]; 2] = [&["a:80"], &["a:81"]];
        assert_eq!(find(&hosts, "a"), Some(0));
        assert_eq!(find(&hosts, "a:"), Some(0));
        assert_eq!(find(&hosts, "a:81"), Some(1));
        assert_eq!(find(&hosts, "a:82"), None);
        let hosts: [&[&str]; 2] = [&["a:80"], &["a:443"]];
        let with = |scheme, authority| find_of(scheme, &hosts, authority);
        assert_eq!(
            [with(Scheme::Https, "a"), with(Scheme::Https, "a:80"), with(Scheme::Http, "a")],
            [Some(1), Some(0), Some(0)]
        );
    }

    #[test]
    fn the_star_of_a_certificate_is_one_label() {
        let names = ["*.example.org", "*.org", "a.b.example.org"].map(|name| vec![name.to_owned()]);
        let matcher = HostMatcher::new(443, Wildcard::OneLabel, names.iter().map(Vec::as_slice));
        for (name, found) in [
            ("x.example.org", Some(0)),
            ("X.Example.Org.", Some(0)),
            ("a.b.example.org", Some(2)),
            ("x.b.example.org", None),
            ("example.org", Some(1)),
            (".example.org", None),
            ("org", None),
        ] {
            assert_eq!(matcher.find(Some(name)), found, "{name}");
        }
    }
}
