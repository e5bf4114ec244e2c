//! Sizes, times and addresses as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::http::token;

/// A number of bytes: `65536`, `64k`, `64KiB`, `1m`, `2g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

impl Size {
    /// For clap: a size of one byte or more.
    ///
    /// # Errors
    /// It is not a size, or zero.
    pub fn parse_positive(text: &str) -> Result<Self, UnitError> {
        text.parse().and_then(|size: Self| if size.0 == 0 { Err(UnitError::Zero) } else { Ok(size) })
    }

    /// For clap: the memory of a pool of buffers.
    ///
    /// # Errors
    /// It is not a size, or below [`BUFFERS_BYTES_MIN`].
    pub fn parse_buffers(text: &str) -> Result<Self, UnitError> {
        text.parse().and_then(|size: Self| if size.0 < BUFFERS_BYTES_MIN { Err(UnitError::Buffers) } else { Ok(size) })
    }
}

/// With less than this, a few receivers of bulk would have all of the buffers.
pub const BUFFERS_BYTES_MIN: usize = 4 << 20;

/// A span of time: `250ms`, `30s`, `5m`, `2h`, `1d`; a bare number counts seconds; `0` means without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

/// Where to listen: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `8080` or `:8080` for every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// A field of HTTP: `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// A token.
    pub name: String,
    /// Without white space around it.
    pub value: String,
}

/// The text cannot be understood; what would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("not a size: write a number with k, m or g, for example 64k")]
    Size,
    /// Nothing fits into zero bytes.
    #[error("must be at least 1")]
    Zero,
    /// Too few buffers.
    #[error("must be at least 4m")]
    Buffers,
    /// Not a time.
    #[error("not a time: write a number with ms, s, m, h or d, for example 30s")]
    Period,
    /// Not a field.
    #[error("not a header: write NAME: VALUE, for example `Cache-Control: max-age=3600`")]
    Header,
    /// Not an address.
    #[error("not an address to listen on: write ADDRESS:PORT, for example 127.0.0.1:8080, or only a PORT")]
    Address,
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return Err(UnitError::Size),
        };
        let number: usize = number.parse().map_err(|_| UnitError::Size)?;
        number.checked_mul(1 << shift).map(Self).ok_or(UnitError::Size)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text);
        let unit_ms = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "d" => 24 * 60 * 60 * 1000,
            _ => return Err(UnitError::Period),
        };
        let number: u64 = number.parse().map_err(|_| UnitError::Period)?;
        number.checked_mul(unit_ms).map(|ms| Self(Duration::from_millis(ms))).ok_or(UnitError::Period)
    }
}

impl FromStr for ListenAddress {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port: u16 = port.parse().map_err(|_| UnitError::Address)?;
        let ip = match host {
            "" | "*" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => return Err(UnitError::Address),
        };
        Ok(Self(SocketAddr::new(IpAddr::V4(ip), port)))
    }
}

impl FromStr for Header {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (name, value) = text.split_once(':').ok_or(UnitError::Header)?;
        let value = value.trim();
        if !token::is_token(name.as_bytes()) || value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(UnitError::Header);
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// The digits, and what follows them.
fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{}m", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{}k", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0"),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("64k", 65536), ("64KiB", 65536), ("1m", 1 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "k", "-1", "1.5k", "1x", "99999999999g"] {
            assert_eq!(text.parse::<Size>(), Err(UnitError::Size), "{text}");
        }
        assert_eq!(Size(256 << 10).to_string(), "256k");
        assert_eq!(Size::parse_positive("0k"), Err(UnitError::Zero));
        assert_eq!(Size::parse_buffers("1m"), Err(UnitError::Buffers));
        assert_eq!(Size::parse_buffers("4m"), Ok(Size(BUFFERS_BYTES_MIN)));
    }

    #[test]
    fn times() {
        for (text, ms) in
            [("0", 0), ("250ms", 250), ("30", 30_000), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 week"] {
            assert_eq!(text.parse::<Period>(), Err(UnitError::Period), "{text}");
        }
        assert_eq!(Period(Duration::from_secs(600)).to_string(), "10m");
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
            assert_eq!(text.parse(), Ok(ListenAddress(address.parse().unwrap())), "{text}");
        }
        for text in ["", "host", "example.org:80", "127.0.0.1:99999", "::1:80x"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(UnitError::Address), "{text}");
        }
    }
}
