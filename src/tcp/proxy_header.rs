//! The PROXY protocol header, by which a proxy names the client it connects for.
//!
//! The protocol is HAProxy's, versions 1 and 2 (`doc/proxy-protocol.txt` in its repository). All
//! that a header carries besides the two addresses is skipped.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};

/// Maximum length of a header in bytes: far more than proxies send, and too little to exhaust
/// memory.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Maximum length of a version 1 line with its CRLF, from the specification.
const LINE_BYTES_MAX: usize = 107;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// A binary header.
    V2,
}

/// The two addresses of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The source address.
    pub client: SocketAddr,
    /// The destination address.
    pub server: SocketAddr,
}

/// Result of [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The bytes are the beginning of a header.
    Partial,
    /// The bytes begin with a complete header.
    Complete {
        /// The addresses of the client's connection. `None`: the proxy connects for itself, or for
        /// a client without an internet address.
        ends: Option<Ends>,
        /// Length of the header in bytes.
        length: usize,
    },
}

/// The bytes are neither a header of the PROXY protocol nor the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a header of the PROXY protocol")]
pub struct Malformed;

/// Parses the header at the beginning of a connection.
///
/// # Errors
/// The bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    match ProxyHeader::parse(bytes, ParseConfig { include_tlvs: false, ..ParseConfig::default() }) {
        Ok((header, length)) => {
            let ends = header.proxied_address().filter(|address| address.protocol == Protocol::Stream);
            Ok(Parsed::Complete { ends: ends.map(Ends::from), length })
        }
        Err(Error::BufferTooShort) if bytes.len() < HEADER_BYTES_MAX && begins_one(bytes) => Ok(Parsed::Partial),
        Err(_) => Err(Malformed),
    }
}

/// Encodes a header for this connection. `None`: the connection is the proxy's own, as for health
/// checks.
pub fn header(version: ProxyVersion, ends: Option<Ends>) -> Vec<u8> {
    let header =
        ends.map_or_else(ProxyHeader::with_local, |ends| ProxyHeader::with_address(ends.of_one_family().into()));
    let mut bytes = Vec::with_capacity(128);
    // Both addresses are of one family and there are no TLVs, so the encoder cannot fail.
    let written = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    debug_assert!(written.is_ok(), "{written:?} for {ends:?}");
    bytes
}

/// Whether the bytes may become a header. A peer that does not speak the protocol is rejected at
/// its first bytes.
fn begins_one(bytes: &[u8]) -> bool {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    // Runs again for each piece that arrives, so it does as little as possible.
    let may_be_line = || bytes.len() < LINE_BYTES_MAX && !bytes.contains(&b'\n');
    (begins(b"PROXY ") && may_be_line()) || begins(b"\r\n\r\n\0\r\nQUIT\n")
}

impl Ends {
    /// Converts both addresses to IPv4 or both to IPv6, since a header has one family.
    fn of_one_family(self) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let ends = Self { client: canonical(self.client), server: canonical(self.server) };
        if ends.client.is_ipv4() == ends.server.is_ipv4() {
            return ends;
        }
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()),
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        Self { client: mapped(ends.client), server: mapped(ends.server) }
    }
}

impl From<&ProxiedAddress> for Ends {
    fn from(address: &ProxiedAddress) -> Self {
        Self { client: address.source, server: address.destination }
    }
}

impl From<Ends> for ProxiedAddress {
    fn from(ends: Ends) -> Self {
        Self::stream(ends.client, ends.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[test]
    fn what_is_written_is_read_again_also_in_pieces() {
        let cases = [
            Some(ends("192.0.2.1:4711", "198.51.100.1:80")),
            Some(ends("[2001:db8::1]:4711", "[2001:db8::2]:80")),
            None,
        ];
        for (version, ends) in
            [ProxyVersion::V1, ProxyVersion::V2].into_iter().flat_map(|v| cases.map(|ends| (v, ends)))
        {
            let mut bytes = header(version, ends);
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Partial), "{version:?} {ends:?} {cut}");
            }
            bytes.extend_from_slice(b"GET /");
            assert_eq!(parse(&bytes), Ok(Parsed::Complete { ends, length }), "{version:?}");
        }
    }

    #[test]
    fn the_forms_are_those_of_the_specification() {
        let v4 = Some(ends("192.0.2.1:4711", "198.51.100.1:80"));
        assert_eq!(header(ProxyVersion::V1, v4), b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 80\r\n");
        assert_eq!(header(ProxyVersion::V1, None), b"PROXY UNKNOWN\r\n");
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\x12\x67\0\x50";
        assert_eq!(header(ProxyVersion::V2, v4), v2);
    }

    #[test]
    fn ends_of_two_families_are_told_in_one() {
        let told = |client, server| String::from_utf8(header(ProxyVersion::V1, Some(ends(client, server)))).unwrap();
        assert_eq!(told("[2001:db8::1]:1", "192.0.2.1:2"), "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 2\r\n");
        assert_eq!(told("[::ffff:192.0.2.1]:1", "192.0.2.2:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    }

    #[test]
    fn what_is_carried_along_is_skipped() {
        let mut bytes = header(ProxyVersion::V2, Some(ends("192.0.2.1:4711", "198.51.100.1:80")));
        bytes[15] += 5;
        bytes.extend_from_slice(b"\x04\0\x02xxGET /");
        let Ok(Parsed::Complete { length, .. }) = parse(&bytes) else { panic!("a header") };
        assert_eq!(&bytes[length..], b"GET /");
    }

    #[test]
    fn whoever_does_not_speak_it_is_told_at_once() {
        for bytes in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"PROXX",
            b"\r\n\r\nx",
            b"PROXY TCP4 1.2.3.4 x 1 2\r\n",
            b"PROXY TCP4 me\r\n",
        ] {
            assert_eq!(parse(bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
        let mut endless = b"PROXY TCP4 1.2.3.4".to_vec();
        endless.resize(LINE_BYTES_MAX, b'1');
        assert_eq!(parse(&endless), Err(Malformed));
        let mut huge = header(ProxyVersion::V2, None);
        huge[14] = 0xff;
        huge.resize(HEADER_BYTES_MAX, 0);
        assert_eq!(parse(&huge), Err(Malformed));
    }
}
