//! The URL of a redirect, in which `$host`, `$path` and `$query` stand for parts of the request.

use super::request::RequestHead;

/// A URL with variables for parts of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Host,
    Path,
    Query,
}

/// The text names a variable that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no `${0}`; there are $host, $path and $query")]
pub struct UnknownVariable(pub String);

impl RedirectTemplate {
    /// Parses a template. `$` begins the name of a variable.
    ///
    /// # Errors
    /// There is an unknown variable.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        let mut pieces = text.split('$');
        let mut parts = Vec::new();
        push_text(&mut parts, pieces.next().unwrap_or_default());
        for piece in pieces {
            let known = [("host", Part::Host), ("path", Part::Path), ("query", Part::Query)];
            let Some((name, part)) = known.into_iter().find(|(name, _)| piece.starts_with(name)) else {
                let name = piece.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                return Err(UnknownVariable(name));
            };
            parts.push(part);
            push_text(&mut parts, &piece[name.len()..]);
        }
        Ok(Self { parts })
    }

    /// The URL for a request. Path and query keep the escapes they came with, and characters beyond
    /// ASCII are escaped. The host is without its port. Without a query, a question mark before
    /// `$query` is dropped, too.
    ///
    /// A URL that begins with the path cannot name another host: slashes at its start, and
    /// backslashes, which browsers treat as slashes, become one slash.
    ///
    /// `None` if the URL needs the host and the request has none, as HTTP/1.0 permits.
    pub fn expand(&self, head: &RequestHead<'_>) -> Option<Vec<u8>> {
        let mut url = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.extend_from_slice(text.as_bytes()),
                Part::Host => url.extend_from_slice(without_port(head.host?).as_bytes()),
                Part::Path => {
                    let path = head.target.path().unwrap_or("/");
                    if url.is_empty() || url.ends_with(b"/") {
                        // The text before has the slash already, or there must be exactly one.
                        url.extend(url.is_empty().then_some(b'/'));
                        url.extend_from_slice(path.trim_start_matches(['/', '\\']).as_bytes());
                    } else {
                        url.extend_from_slice(path.as_bytes());
                    }
                }
                Part::Query => match head.target.query() {
                    Some(query) => push_query(query, &mut url),
                    None if url.ends_with(b"?") => {
                        url.pop();
                    }
                    None => {}
                },
            }
        }
        Some(url)
    }
}

/// Appends a request's query as part of a URL: unchanged except for octets beyond ASCII, which are
/// escaped as a client would escape them when it follows the URL.
pub fn push_query(query: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in query {
        if byte.is_ascii() {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// A host without its port. The colons of an IPv6 address are in brackets.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;
    use crate::http::request::{Parsed, parse};

    fn expanded_for(template: &str, request: &str) -> Option<String> {
        let Ok(Parsed::Complete { head, .. }) = parse(request.as_bytes(), &HeadLimits::default()) else {
            panic!("{request} is no request");
        };
        RedirectTemplate::parse(template).unwrap().expand(&head).map(|url| String::from_utf8(url).unwrap())
    }

    fn expanded(template: &str, target: &str) -> String {
        expanded_for(template, &format!("GET {target} HTTP/1.1\r\nHost: example.org:8080\r\n\r\n")).unwrap()
    }

    #[test]
    fn there_is_no_url_without_a_host_where_one_is_wanted() {
        let request = "GET /a HTTP/1.0\r\n\r\n";
        assert_eq!(expanded_for("https://$host$path", request), None);
        assert_eq!(expanded_for("/new$path", request).as_deref(), Some("/new/a"));
    }

    #[test]
    fn variables_stand_for_parts_of_the_request() {
        assert_eq!(expanded("https://$host$path?$query", "/a%20b?x=1&y"), "https://example.org/a%20b?x=1&y");
        assert_eq!(expanded("https://$host$path?$query", "/a"), "https://example.org/a");
        assert_eq!(expanded("/new$path", "/old"), "/new/old");
        assert_eq!(expanded("https://new.example/", "/old"), "https://new.example/");
    }

    #[test]
    fn row_33_a_query_is_passed_on_as_it_came_but_for_what_is_not_ascii() {
        assert_eq!(expanded("$path?$query", "/a?q=100%&x=%2f"), "/a?q=100%&x=%2f");
        assert_eq!(expanded("$path?$query", "/a?q=\u{2019}"), "/a?q=%E2%80%99");
    }

    #[test]
    fn row_77_a_path_is_never_another_host() {
        assert_eq!(expanded("$path", "//evil.example/x"), "/evil.example/x");
        assert_eq!(expanded("/$path", "//evil.example"), "/evil.example");
        assert_eq!(expanded("$path", "/\\evil.example/x"), "/evil.example/x");
        assert_eq!(expanded("/$path", "/\\/\\evil.example"), "/evil.example");
    }

    #[test]
    fn an_unknown_variable_is_named() {
        assert_eq!(RedirectTemplate::parse("/$pth/x"), Err(UnknownVariable("pth".to_owned())));
        assert_eq!(RedirectTemplate::parse("/$"), Err(UnknownVariable(String::new())));
    }

    #[test]
    fn hosts_lose_their_ports() {
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("example.org"), "example.org");
    }
}
