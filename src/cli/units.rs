//! Parses addresses and header fields of the command line. Sizes and times are in
//! [`crate::config::units`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::ListenAddress;
use crate::driver::{InvalidUnixPath, UnixPath};
use crate::http::{Status, is_own, token};

/// A header field: `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// A token (RFC 9110, 5.6.2).
    pub name: String,
    /// Without surrounding white space.
    pub value: String,
}

/// A header field that may be added to responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHeader(pub Header);

/// An error page for a status: `404=missing.html`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPage {
    /// 400 to 599.
    pub status: Status,
    pub path: PathBuf,
}

/// An argument is invalid. The text shows the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("not a header: write NAME: VALUE, for example `Cache-Control: max-age=3600`")]
    Header,
    /// A header field that only xps may set.
    #[error("xps sets this field itself: it is for framing, the date or the connection")]
    OwnField,
    #[error("not a page for an error: write STATUS=FILE with a status of 400 to 599, for example `404=missing.html`")]
    StatusPage,
    #[error(
        "not an address to listen on: write ADDRESS:PORT, for example 127.0.0.1:8080, or only a PORT, or unix:/PATH"
    )]
    Address,
    #[error(transparent)]
    Path(#[from] InvalidUnixPath),
}

impl FromStr for ListenAddress {
    type Err = ArgumentError;

    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `8080` or `:8080` for every address; `unix:/run/xps.sock`.
    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix { path: UnixPath::new(path)?, mode: None });
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Inet(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port: u16 = port.parse().map_err(|_| ArgumentError::Address)?;
        let ip = match host {
            "" | "*" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => return Err(ArgumentError::Address),
        };
        Ok(Self::Inet(SocketAddr::new(IpAddr::V4(ip), port)))
    }
}

impl FromStr for StatusPage {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let (status, path) = text.split_once('=').ok_or(ArgumentError::StatusPage)?;
        let status = status.parse().ok().and_then(Status::from_code).filter(|status| status.is_error());
        match status {
            Some(status) if status.code() < 600 && !path.is_empty() => Ok(Self { status, path: path.into() }),
            Some(_) | None => Err(ArgumentError::StatusPage),
        }
    }
}

impl FromStr for Header {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let (name, value) = text.split_once(':').ok_or(ArgumentError::Header)?;
        let value = value.trim();
        if !token::is_token(name.as_bytes()) || value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(ArgumentError::Header);
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl FromStr for ResponseHeader {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let header: Header = text.parse()?;
        if is_own(&header.name) || header.name.eq_ignore_ascii_case("Date") {
            return Err(ArgumentError::OwnField);
        }
        Ok(Self(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let path = UnixPath::new("/run/xps.sock").unwrap();
        assert_eq!("unix:/run/xps.sock".parse(), Ok(ListenAddress::Unix { path, mode: None }));
        let too_long = format!("unix:/{}", "a".repeat(107));
        let error = too_long.parse::<ListenAddress>().unwrap_err();
        assert_eq!(error.to_string(), "too long: the path of a unix socket has 107 bytes at most, this one has 108");
    }

    #[test]
    fn pages_for_errors() {
        let page = |status, path: &str| StatusPage { status, path: path.into() };
        assert_eq!("404=a=b.html".parse(), Ok(page(Status::NOT_FOUND, "a=b.html")));
        for text in ["", "404", "404=", "=a", "200=a", "600=a", "x=a"] {
            assert_eq!(text.parse::<StatusPage>(), Err(ArgumentError::StatusPage), "{text}");
        }
    }

    #[test]
    fn fields() {
        let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
        assert_eq!("Cache-Control: max-age=60 ".parse(), Ok(header("Cache-Control", "max-age=60")));
        assert_eq!("X:".parse(), Ok(header("X", "")));
        for text in ["", "X", ": a", "X : a", "X: a\r\nY: b"] {
            assert_eq!(text.parse::<Header>(), Err(ArgumentError::Header), "{text}");
        }
        for text in ["content-length: 5", "Transfer-Encoding: chunked", "Connection: close", "Date: now"] {
            assert_eq!(text.parse::<ResponseHeader>(), Err(ArgumentError::OwnField), "{text}");
            assert!(text.parse::<Header>().is_ok(), "a request may have it: {text}");
        }
    }

    #[test]
    fn addresses() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("8080", "0.0.0.0:8080"),
            (":8080", "0.0.0.0:8080"),
            ("localhost:1", "127.0.0.1:1"),
        ];
        for (text, address) in cases {
            assert_eq!(text.parse(), Ok(ListenAddress::Inet(address.parse().unwrap())), "{text}");
        }
        for text in ["", "host", "example.org:80", "127.0.0.1:99999", "::1:80x"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(ArgumentError::Address), "{text}");
        }
    }
}
