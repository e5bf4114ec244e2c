//! The address of an upstream as it is written: `HOST:PORT`, `http://HOST[:PORT]`,
//! `https://HOST[:PORT]` or `unix:/PATH`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::driver::{InvalidUnixPath, UnixPath};
use crate::http::Scheme;

/// The address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// `HOST:PORT`, over TCP.
    Tcp {
        /// A host name, or an IP address as text (IPv6 without brackets).
        host: Arc<str>,
        /// The TCP port.
        port: u16,
        /// Whether the connection is encrypted: the address was written as `https://` or `tls://`.
        is_tls: bool,
    },
    /// `unix:/PATH`: a unix stream socket.
    Unix(UnixPath),
}

/// The text is neither `HOST:PORT` nor `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpstreamAddress {
    /// No colon, or nothing after it.
    #[error("no port: write HOST:PORT, for example 127.0.0.1:3000 or [::1]:3000")]
    NoPort,
    /// The text after the last colon is not a port.
    #[error("`{0}` is not a port: write a number from 1 to 65535")]
    Port(String),
    /// No host before the colon.
    #[error("no host: write HOST:PORT, for example localhost:3000")]
    NoHost,
    /// A URL with a scheme that is not known.
    #[error("{0}:// is not supported for upstreams, only http:// and https://: write HOST:PORT or https://HOST:PORT")]
    Scheme(String),
    /// A URL with more than a host and a port.
    #[error("`{0}` is not allowed in an upstream: write a host and a port, for example http://127.0.0.1:3000")]
    MoreThanHost(String),
    /// Several colons, but no brackets around the address.
    #[error("an IPv6 address needs brackets: [{0}]:PORT")]
    Brackets(String),
    /// The text after `unix:` is not a valid socket path.
    #[error(transparent)]
    Path(#[from] InvalidUnixPath),
}

impl UpstreamAddress {
    /// A host name or IP address, and a TCP port.
    pub fn tcp(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port, is_tls: false }
    }

    /// Whether connections are encrypted.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { is_tls: true, .. })
    }

    /// The same host and port over TLS.
    fn over_tls(self) -> Self {
        self.with_tls(true)
    }

    /// The same host and port over TLS or without. A unix socket stays as it is.
    #[must_use]
    pub fn with_tls(self, is_tls: bool) -> Self {
        match self {
            Self::Tcp { host, port, .. } => Self::Tcp { host, port, is_tls },
            Self::Unix(path) => Self::Unix(path),
        }
    }

    /// The authority for a URI or a `Host` field (RFC 9110, 4.2). A unix socket has none;
    /// `localhost` is used instead. The port of `https` is left out, as clients do.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, is_tls: true } if *port == Scheme::Https.default_port() => {
                HostText(host).to_string()
            }
            Self::Tcp { host, port, .. } => format!("{}:{port}", HostText(host)),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl FromStr for UpstreamAddress {
    type Err = InvalidUpstreamAddress;

    fn from_str(text: &str) -> Result<Self, InvalidUpstreamAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(UnixPath::new(path)?));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return of_url(scheme, rest);
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidUpstreamAddress::NoPort)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address,
            None if host.contains(':') => return Err(InvalidUpstreamAddress::Brackets(text.to_owned())),
            None => host,
        };
        if host.is_empty() {
            return Err(InvalidUpstreamAddress::NoHost);
        }
        match port.parse() {
            Ok(0) | Err(_) if !port.is_empty() => Err(InvalidUpstreamAddress::Port(port.to_owned())),
            Ok(port) => Ok(Self::tcp(host, port)),
            Err(_) => Err(InvalidUpstreamAddress::NoPort),
        }
    }
}

/// Parses an upstream written as a URL, as in other servers: `http://HOST[:PORT][/]`.
fn of_url(scheme: &str, rest: &str) -> Result<UpstreamAddress, InvalidUpstreamAddress> {
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" | "tls" => Scheme::Https,
        scheme => return Err(InvalidUpstreamAddress::Scheme(scheme.to_owned())),
    };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, more) = rest.split_at(host_end);
    if !matches!(more, "" | "/") {
        return Err(InvalidUpstreamAddress::MoreThanHost(more.to_owned()));
    }
    if let Some((user, _)) = host.rsplit_once('@') {
        return Err(InvalidUpstreamAddress::MoreThanHost(format!("{user}@")));
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let address: UpstreamAddress =
        if has_port { host.parse()? } else { format!("{host}:{}", scheme.default_port()).parse()? };
    Ok(match scheme {
        Scheme::Http => address,
        Scheme::Https => address.over_tls(),
    })
}

/// A host as it is written in an authority: an IPv6 address in brackets.
struct HostText<'a>(&'a str);

impl fmt::Display for HostText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, is_tls } => {
                let scheme = if *is_tls { "https://" } else { "" };
                write!(f, "{scheme}{}:{port}", HostText(host))
            }
            Self::Unix(path) => path.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<UpstreamAddress, InvalidUpstreamAddress> {
        text.parse()
    }

    #[test]
    fn names_and_addresses_of_both_families_are_understood() {
        assert_eq!(parse("localhost:80"), Ok(UpstreamAddress::tcp("localhost", 80)));
        assert_eq!(parse("127.0.0.1:3000"), Ok(UpstreamAddress::tcp("127.0.0.1", 3000)));
        assert_eq!(parse("[::1]:3000"), Ok(UpstreamAddress::tcp("::1", 3000)));
        assert_eq!(parse("[::1]:3000").unwrap().to_string(), "[::1]:3000");
        assert_eq!(parse("[::1]:3000").unwrap().authority(), "[::1]:3000");
    }

    #[test]
    fn a_plain_url_is_understood_and_one_that_says_more_is_refused_for_what_it_says() {
        for text in ["http://127.0.0.1:3000", "HTTP://127.0.0.1:3000/"] {
            assert_eq!(parse(text), Ok(UpstreamAddress::tcp("127.0.0.1", 3000)), "{text}");
        }
        assert_eq!(parse("http://[::1]:3000"), Ok(UpstreamAddress::tcp("::1", 3000)));
        assert_eq!(parse("http://[::1]"), Ok(UpstreamAddress::tcp("::1", 80)));
        assert_eq!(parse("http://app"), Ok(UpstreamAddress::tcp("app", 80)));
        assert_eq!(parse("ws://app:80"), Err(InvalidUpstreamAddress::Scheme("ws".into())));
        for (text, more) in [("http://a:1/api", "/api"), ("http://a:1?x", "?x"), ("http://u:p@a:1", "u:p@")] {
            assert_eq!(parse(text), Err(InvalidUpstreamAddress::MoreThanHost(more.into())), "{text}");
        }
        assert_eq!(parse("http://"), Err(InvalidUpstreamAddress::NoHost));
        assert_eq!(parse("http://a:0"), Err(InvalidUpstreamAddress::Port("0".into())));
    }

    #[test]
    fn https_is_over_tls_and_its_port_is_left_out_of_the_authority() {
        for text in ["https://app", "https://app:443/", "TLS://app"] {
            let address = parse(text).unwrap();
            assert_eq!((address.is_tls(), address.to_string()), (true, "https://app:443".to_owned()), "{text}");
            assert_eq!(address.authority(), "app");
            assert_eq!(parse(&address.to_string()), Ok(address));
        }
        let address = parse("https://[::1]:8443").unwrap();
        assert_eq!((address.to_string().as_str(), address.authority().as_str()), ("https://[::1]:8443", "[::1]:8443"));
    }

    #[test]
    fn a_path_is_understood_and_is_called_localhost() {
        let address = parse("unix:/run/app.sock").unwrap();
        assert_eq!(address, UpstreamAddress::Unix(UnixPath::new("/run/app.sock").unwrap()));
        assert_eq!(address.to_string(), "unix:/run/app.sock");
        assert_eq!(address.authority(), "localhost");
    }

    #[test]
    fn each_mistake_is_told_apart() {
        assert_eq!(parse("localhost"), Err(InvalidUpstreamAddress::NoPort));
        assert_eq!(parse("localhost:"), Err(InvalidUpstreamAddress::NoPort));
        assert_eq!(parse(":80"), Err(InvalidUpstreamAddress::NoHost));
        assert_eq!(parse("host:0"), Err(InvalidUpstreamAddress::Port("0".into())));
        assert_eq!(parse("host:99999"), Err(InvalidUpstreamAddress::Port("99999".into())));
        assert_eq!(parse("::1:80"), Err(InvalidUpstreamAddress::Brackets("::1:80".into())));
        assert_eq!(parse("unix:"), Err(InvalidUpstreamAddress::Path(InvalidUnixPath::Empty)));
        let too_long = format!("unix:/{}", "a".repeat(107));
        assert_eq!(parse(&too_long), Err(InvalidUpstreamAddress::Path(InvalidUnixPath::TooLong { bytes: 108 })));
    }
}
