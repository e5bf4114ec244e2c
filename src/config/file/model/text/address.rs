//! Addresses, networks and host names as text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::TextError;
use crate::config::UpstreamAddress;
use crate::limit::Network;

/// An upstream's address: `host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamAddressText(pub UpstreamAddress);

impl FromStr for UpstreamAddressText {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let address: UpstreamAddress = text.parse().map_err(|error| TextError::new(format!("{error}")))?;
        match &address {
            UpstreamAddress::Tcp { host, .. } if host.parse::<IpAddr>().is_err() && !is_domain(host) => {
                Err(TextError::new("not a host: write a name or an address"))
            }
            UpstreamAddress::Tcp { host, is_tls: true, .. } if ends_in_number(host) => {
                Err(TextError::new("no certificate can have this name: its last part is a number"))
            }
            UpstreamAddress::Tcp { .. } | UpstreamAddress::Unix(_) => Ok(Self(address)),
        }
    }
}

impl fmt::Display for UpstreamAddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether the last label of a host is a number, though the host is not an address. Resolvers take some of
/// these for addresses (`127.1`), but they are no names of DNS (RFC 3696, 2).
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    host.parse::<IpAddr>().is_err() && !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

/// An address to listen on: IPv4 or IPv6, `localhost`, or `*` for every IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenHost(pub IpAddr);

impl FromStr for ListenHost {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match bare {
            "*" => Ok(Self(Ipv4Addr::UNSPECIFIED.into())),
            "localhost" => Ok(Self(Ipv4Addr::LOCALHOST.into())),
            _ => bare.parse().map(Self).map_err(|_| {
                TextError::new("not a listen address: write, for example, 0.0.0.0, 127.0.0.1, :: or localhost")
            }),
        }
    }
}

impl fmt::Display for ListenHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Network {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let malformed = || TextError::new("not a network: write an address or ADDRESS/BITS, for example 10.0.0.0/8");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_length = match length {
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().ok().filter(|length| *length <= bits).ok_or_else(malformed)?
            }
            Some(_) => return Err(malformed()),
            None => bits,
        };
        if address.is_ipv6() && splits_mapped(address, prefix_length) {
            return Err(TextError::new(
                "an IPv4-mapped network needs at least 96 bits: write it as IPv4, for example 10.0.0.0/8",
            ));
        }
        let network = Self::around(address, prefix_length).ok_or_else(malformed)?;
        if network.address() == address.to_canonical() {
            Ok(network)
        } else {
            Err(TextError::new(format!("host bits are set: the network is {network}")))
        }
    }
}

/// Whether an IPv6 network contains IPv4-mapped addresses and others. Networks whose prefix is all
/// zeros, such as `::/0`, are excepted: they are common and mean IPv6 only.
fn splits_mapped(address: IpAddr, prefix_length: u8) -> bool {
    const ZERO_BITS: u8 = 80;
    const MAPPED_BITS: u8 = 96;
    let IpAddr::V6(address) = address else { return false };
    let other_bits = 128 - u32::from(prefix_length);
    let start = |address: Ipv6Addr| address.to_bits().checked_shr(other_bits).unwrap_or(0);
    let is_around = start(address) == start(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    let is_mapped = address.to_ipv4_mapped().is_some();
    (ZERO_BITS + 1..MAPPED_BITS).contains(&prefix_length) && is_around || prefix_length <= ZERO_BITS && is_mapped
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address().is_ipv4() { 32 } else { 128 };
        if self.prefix_length() == bits {
            self.address().fmt(f)
        } else {
            write!(f, "{}/{}", self.address(), self.prefix_length())
        }
    }
}

/// A host name of a server (virtual host).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hostname {
    /// In lower case, without a trailing dot. An IPv6 address is in brackets.
    pub name: String,
    /// Matches all names beneath `name`, but not `name` itself.
    pub is_wildcard: bool,
    /// Matches only this port in the `Host` field.
    pub port: Option<u16>,
}

impl FromStr for Hostname {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let malformed =
            || TextError::new("not a host name: write, for example, example.org, *.example.org or localhost");
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port_of(port).ok_or_else(malformed)?)),
            Some(_) | None => (text, None),
        };
        let (name, is_wildcard) = name.strip_prefix("*.").map_or((name, false), |name| (name, true));
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_ipv6 = || {
            let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            !is_wildcard && address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        };
        if is_domain(&name) || is_ipv6() { Ok(Self { name, is_wildcard, port }) } else { Err(malformed()) }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_wildcard {
            f.write_str("*.")?;
        }
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A TCP port, not 0. Only digits are allowed; `parse` alone would also accept a sign.
pub(super) fn port_of(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

/// Whether this is a name that can be looked up: RFC 1123, 2.1, and the underscore, which occurs in
/// internal names.
pub(super) fn is_domain(name: &str) -> bool {
    const NAME_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_addresses_names_and_sockets() {
        for text in [
            "localhost:3000",
            "127.0.0.1:1",
            "[::1]:3000",
            "app_1.internal:80",
            "https://app:443",
            "https://127.0.0.1:443",
            "https://[::1]:443",
            "https://0.app:443",
            "127.1:80",
            "unix:/run/app.sock",
        ] {
            assert_eq!(text.parse::<UpstreamAddressText>().map(|endpoint| endpoint.to_string()), Ok(text.to_owned()));
        }
        let of_url = "http://localhost:3000".parse::<UpstreamAddressText>().map(|endpoint| endpoint.to_string());
        assert_eq!(of_url, Ok("localhost:3000".to_owned()));
        let too_long = format!("unix:/{}", "a".repeat(107));
        let numbers = ["https://0:80", "https://127.1:443", "https://a.1"];
        let others = ["localhost", "localhost:0", "http://localhost:3000/api", "a b:80", "unix:", &too_long, "::1:80"];
        for text in numbers.into_iter().chain(others) {
            assert!(text.parse::<UpstreamAddressText>().is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_of_both_families() {
        let cases =
            [("10.0.0.0/8", 8), ("127.0.0.1", 32), ("0.0.0.0/0", 0), ("::/0", 0), ("fe80::/10", 10), ("::1", 128)];
        for (text, prefix_length) in cases {
            let network: Network = text.parse().unwrap();
            assert_eq!((network.prefix_length(), network.to_string().as_str()), (prefix_length, text));
        }
        for text in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/", "example.org"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert_eq!(error.to_string(), "host bits are set: the network is 10.0.0.0/8");
    }

    #[test]
    fn host_names_may_have_a_star_or_a_port() {
        for text in ["example.org", "*.example.org", "localhost:8001", "127.0.0.1", "[::1]", "[::1]:80"] {
            assert_eq!(text.parse::<Hostname>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("Example.ORG.".parse::<Hostname>().map(|name| name.to_string()), Ok("example.org".to_owned()));
        for text in ["*", "a..b", "-a", "a b", "https://a", "a:0", "a:+80", "a:http", "*.[::1]", "[::1", "a/b"] {
            assert!(text.parse::<Hostname>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_listens_on_addresses() {
        for (text, address) in [("*", "0.0.0.0"), ("localhost", "127.0.0.1"), ("::", "::"), ("[::1]", "::1")] {
            assert_eq!(text.parse::<ListenHost>(), Ok(ListenHost(address.parse().unwrap())));
        }
        assert!("example.org".parse::<ListenHost>().is_err());
    }
}
